"The report notebooks through papermill, on phantoms, from the repository and from an installed wheel."

import ast
import html
import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jsonschema
import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup
from PIL import Image

from xray_explain.cli import main
from xray_explain.data.phantom import write_phantoms
from xray_explain.draw.charts import RIVALS
from xray_explain.draw.page import description
from xray_explain.measure.baselines import BASELINES, MAP_WORDS
from xray_explain.measure.methods import METHODS
from xray_explain.model.checkpoint import Checkpoint, build_net, load_checkpoint, save_checkpoint
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.report.annotation import MAPS
from xray_explain.report.run import (
    PAGES,
    REPORTS,
    ReportError,
    report_notebook,
    report_parameters,
    run_report,
    write_index,
)
from xray_explain.report.schema import annotation_schema, evaluation_schema, faithfulness_schema
from xray_explain.report.webpage import headline_of
from xray_explain.shipped import MODELS
from xray_explain.wording import RESEARCH_USE

ROOT = Path(__file__).parent.parent
# the rest is only more of it
FEW = {"faithfulness": {"cases": 3, "method_cases": 1, "slow_cases": 1, "resamples": 100}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = write_phantoms(
        tmp_path_factory.mktemp("reports") / "set",
        per_class=5,
        seed=32,
        size=256,
        workers=1,
        progress=False,
    )
    table = pd.read_csv(folder / "dataset.csv")
    # so many groups that pandas would leave some out
    table.assign(center=range(len(table))).to_csv(folder / "dataset.csv", index=False)
    return folder


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    "A cache folder of these tests' own"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAY_EXPLAIN_CACHE", str(folder := tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture(scope="module")
def results(data, tmp_path_factory):
    "All reports, once"
    out = tmp_path_factory.mktemp("results")
    for name in REPORTS:
        run_report(name, out, data=str(data), checkpoint="bone_phantoms", **FEW.get(name, {}))
    return out


def test_everything_is_there(results):
    names = {p.relative_to(results).as_posix() for p in results.rglob("*") if p.is_file()}
    assert {f"gradcam/gallery_{c}.png" for c in ("Normal", "Benign", "Malignant")} <= names
    assert {"gradcam/annotation_comparison.png", "inference/batch_results.json"} <= names
    assert {f"{report}{kind}.json" for report in SCHEMAS for kind in ("", ".schema")} <= names
    assert {"evaluation/evaluation.json", "evaluation/curves.png"} <= names
    assert {
        f"faithfulness/{n}" for n in ("faithfulness.json", "faithfulness.png", "seconds.json")
    } <= names
    assert {f"reports/{r}.{kind}" for r in REPORTS for kind in ("html", "ipynb")} <= names
    assert len([n for n in names if n.endswith("_gradcam.png")]) == 15
    assert not [n for n in names if Path(n).name.startswith(".")]


def test_the_report_adds_up(results):
    report = json.loads((results / "gradcam" / "annotation_report.json").read_text())
    assert report["num_images"] == len(report["per_image"]) == 10
    assert report["mean_iou"] == pytest.approx(
        sum(c["iou"] for c in report["per_image"]) / 10, abs=1e-5
    )
    assert {c["label"] for c in report["per_image"]} == {"Benign", "Malignant"}
    right = [c for c in report["per_image"] if c["label"] == c["prediction"]]
    alone = report["summary"]["evidence"]["true_positives"]
    assert alone["num_images"] == len(right) > 0
    assert alone["mean_iou"] == pytest.approx(sum(c["iou"] for c in right) / len(right), abs=1e-5)
    assert report["iou_threshold"] == 0.5 and "phantoms" in report["caveat"]


SCHEMAS = {
    "gradcam/annotation_report": annotation_schema,
    "evaluation/evaluation": evaluation_schema,
    "faithfulness/faithfulness": faithfulness_schema,
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_reports_keep_to_the_schema_beside_them(results, name):
    "And a field that is wrong, missing or described nowhere is refused"
    text = (results / f"{name}.json").read_text()
    report, schema = json.loads(text), json.loads((results / f"{name}.schema.json").read_text())
    assert "NaN" not in text and schema == json.loads(json.dumps(SCHEMAS[name]()))
    validator = jsonschema.Draft202012Validator(schema)
    assert [e.message for e in validator.iter_errors(report)] == []
    assert set(schema["required"]) == set(report)
    for field_name in report:
        assert not validator.is_valid({**report, field_name: ["wrong", 1]}), field_name
        missing = {k: v for k, v in report.items() if k != field_name}
        assert not validator.is_valid(missing), field_name
    assert not validator.is_valid({**report, "undescribed": 1})


def test_the_annotation_report_says_what_it_was_asked_for(results):
    report = json.loads((results / "gradcam" / "annotation_report.json").read_text())
    assert report["provenance"]["parameters"]["causal_cases"] == 60
    assert report["causal"]["num_images"] == 10


def test_every_outlined_lesion_has_a_size(results):
    "Phantoms are PNG files, which know no millimetres; the page says so"
    sizes = pd.read_csv(results / "gradcam" / "lesion_sizes.csv")
    report = json.loads((results / "gradcam" / "annotation_report.json").read_text())
    assert set(sizes.image_id) == {case["image_id"] for case in report["per_image"]}
    assert set(sizes.unit) == {"pixels"} and (sizes.shorter <= sizes.longest).all()
    assert (sizes.area <= sizes.longest**2).all() and sizes.area.min() > 0
    page = (results / "reports" / "annotation.html").read_text()
    assert "How large the lesions are" in page and "width across it" in page


def test_the_page_says_what_the_figures_say(results):
    report = json.loads((results / "gradcam" / "annotation_report.json").read_text())
    page = html.unescape((results / "reports" / "annotation.html").read_text())
    assert 3 <= len(report["sentences"]) <= 7
    for sentence in report["sentences"]:
        # the first stands behind what the model is worth, in the same sentence
        assert re.sub("[`]", "", sentence)[1:] in re.sub("</?code>", "", page)


def test_another_threshold_needs_no_network(results, data, cache, tmp_path):
    "Predictions, evidence and drops come from the cache; only what depends on the threshold changes"
    kept = {p: p.stat().st_size for p in (cache / "runs").iterdir()}
    assert sorted(p.name.split("-")[0] for p in kept) == ["study", *["table"] * 5]
    run_report(
        "annotation",
        tmp_path,
        data=str(data),
        checkpoint="bone_phantoms",
        threshold=0.3,
        group_columns=["gender"],
        normalize="image",
    )
    assert {p: p.stat().st_size for p in (cache / "runs").iterdir()} == kept
    before, after = (
        json.loads((folder / "gradcam" / "annotation_report.json").read_text())
        for folder in (results, tmp_path)
    )
    assert after["iou_threshold"] == 0.3 and after["mean_iou"] != before["mean_iou"]
    assert {f["by"] for f in after["localization"]} - {f["by"] for f in before["localization"]} == {
        "gender"
    }
    assert after["causal"] == before["causal"] and after["predictions"] == before["predictions"]
    assert [c["hit"] for c in after["per_image"]] == [c["hit"] for c in before["per_image"]]


def test_no_table_is_cut_by_a_library(results):
    "A page has all rows of the groups, more than pandas shows unless it is told to, and no row of dots"
    report = json.loads((results / "evaluation" / "evaluation.json").read_text())
    assert len(report["by_group"]) > 60
    soup = BeautifulSoup((results / "reports" / "evaluation.html").read_text(), "html.parser")
    rows = [len(table.select("tbody tr")) for table in soup.select("table")]
    assert len(report["by_group"]) in rows
    for page in (results / "reports").glob("*.html"):
        cells = BeautifulSoup(page.read_text(), "html.parser").select("td, th")
        assert not [c for c in cells if c.get_text(strip=True) in ("...", "…")], page.name


@pytest.mark.parametrize("name", REPORTS)
def test_pages_stand_alone(results, name):
    page = (results / "reports" / f"{name}.html").read_text()
    assert page.count(RESEARCH_USE) >= 2 and "synthetic phantoms" in page
    assert (
        not re.search(r'(?:src|href)="(?!data:|#|all_cases\.html")', page)
        and "<script" not in page
        and "@import" not in page
    )
    assert "import pandas" not in page and re.search("data:image/(png|jpeg);base64", page)
    assert "rows ×" not in page, "pandas has left rows out"
    assert "Traceback" not in page
    assert "Where this comes from" in page and page.count("(SHA-256, ") == 1


@pytest.fixture(scope="module")
def pages(results):
    "The pages of a run and their index, read"
    paths = [write_index(results), *(results / "reports" / f"{r}.html" for r in REPORTS)]
    return {path.stem: BeautifulSoup(path.read_text(), "html.parser") for path in paths}


def test_every_page_has_a_title_of_its_own(pages, data):
    "The report, the data, the model"
    titles = [page.title.text for page in pages.values()]
    assert len(set(titles)) == len(pages) == 6
    assert all(title.endswith(f" · {data.name} · bone_phantoms") for title in titles)
    assert all(page.html["lang"] == "en" for page in pages.values())
    assert all(page.body.find(True).text == RESEARCH_USE for page in pages.values())


def test_pictures_are_described_by_those_who_drew_them(pages):
    words = {name: [i["alt"] for i in page.select("img")] for name, page in pages.items()}
    every = sum(words.values(), [])
    assert len(set(every)) == len(every) == 11
    assert not [text for text in every if len(text) < 80 or re.search(r"[Nn]o description", text)]
    assert not [text for text in every if re.fullmatch(r"\S+\.(png|jpe?g)", text)]
    for text, name in zip(words["gallery"], ("Normal", "Benign", "Malignant")):
        assert text.startswith(f"{name}: right and wrong. True positives: "), text
        assert f"{name}, called {name} " in text
    assert "Confusion matrix: true Normal: " in words["evaluation"][0]
    assert "Areas under deletion: " in words["faithfulness"][0]
    assert "over it the evidence for Normal " in words["inference"][0]


def test_tables_are_named_and_their_headers_say_of_what(pages):
    tables = [table for page in pages.values() for table in page.select("table")]
    assert len(tables) > 10
    assert all(table.caption.get_text(strip=True) for table in tables)
    assert all(cell.get("scope") for table in tables for cell in table.select("th"))


def test_the_index_links_what_a_run_made_and_names_what_it_did_not(
    results, data, monkeypatch, tmp_path, capsys
):
    for name in ("gallery", "annotation"):
        for kind in ("html", "ipynb"):
            (tmp_path / "reports").mkdir(exist_ok=True)
            shutil.copy(results / "reports" / f"{name}.{kind}", tmp_path / "reports")

    def run(name, output_dir, **parameters):
        if name != "gallery":
            raise ReportError(f"the {name} report: no <{name}>", "; beside it")
        return Path(output_dir) / name

    monkeypatch.setattr("xray_explain.report.run.run_report", run)
    asked = ["gallery", "annotation", "evaluation"]
    assert main(["report", *asked, "--data", str(data), "--output-dir", str(tmp_path)]) == 1
    heard = capsys.readouterr()
    assert str(tmp_path / "index.html") in heard.out.replace("\n", "")
    index = BeautifulSoup((tmp_path / "index.html").read_text(), "html.parser")
    text = index.main.get_text(" ", strip=True)
    assert "2 could not be made: annotation, evaluation." in text
    links = [a["href"] for a in index.select("a")]
    assert links == ["reports/gallery.html", "reports/annotation.html"]
    assert all((tmp_path / link).is_file() for link in links)
    assert "Could not be made: no <annotation>. The page is of an earlier run, and says:" in text
    assert text.endswith("Could not be made: no <evaluation>.")
    for name in ("gallery", "annotation"):
        first = headline_of(nbformat.read(results / "reports" / f"{name}.ipynb", 4)).sentence
        assert re.sub(r"\W", "", first) in re.sub(r"\W", "", text)


SEEN = """() => [...document.querySelectorAll('figure img, .table, pre')]
  .filter((e) => e.getBoundingClientRect().right > innerWidth).length"""


def test_pages_in_a_browser(browser, pages, results):
    "Without network, by the rules for accessible pages; on a narrow screen; on paper"
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    for name in pages:
        asked = []
        with browser.new_context(offline=True, bypass_csp=True) as window:
            page = window.new_page()
            page.on("request", lambda request: asked.append(request.url))
            page.goto((results / ("" if name == "index" else "reports") / f"{name}.html").as_uri())
            assert not [url for url in asked[1:] if not url.startswith("data:")]
            page.evaluate(axe)
            page.emulate_media(color_scheme="dark" if name == "evaluation" else "light")
            found = page.evaluate("() => axe.run()")
            assert found["passes"] and not found["violations"], (name, found["violations"])
            page.set_viewport_size({"width": 390, "height": 844})
            assert page.evaluate("document.documentElement.scrollWidth") == 390, name
            assert page.evaluate(SEEN) == 0, name
            page.set_viewport_size({"width": 688, "height": 900})  # 182 mm of A4
            page.emulate_media(media="print")
            assert page.evaluate("document.documentElement.scrollWidth") <= 688, name


def test_no_place_of_this_machine(results, data):
    "The parameters of a run are the user's own words; nothing else may name a folder"
    for path in (results / "reports").glob("*.ipynb"):
        text = path.read_text().replace(str(data), "").replace(str(results), "")
        assert (
            str(Path.home()) + "/" not in text
            and "PosixPath" not in text
            and str(ROOT) not in text
            and "papermill" not in json.loads(text)["metadata"]
        )


def test_twice_the_same_bytes(results, data, tmp_path):
    for name in ("gallery", "annotation", "evaluation"):
        run_report(name, tmp_path, data=str(data), checkpoint="bone_phantoms")
    for path in [*(tmp_path / "gradcam").iterdir(), *(tmp_path / "evaluation").iterdir()]:
        assert path.read_bytes() == (results / path.relative_to(tmp_path)).read_bytes(), path.name


def test_a_failing_report_leaves_nothing(data, tmp_path):
    with pytest.raises(ReportError, match="the gallery report: .*absent.pt") as caught:
        run_report("gallery", tmp_path, data=str(data), checkpoint="absent.pt")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


@pytest.fixture
def small_report(tmp_path, monkeypatch, other_kernel):
    "A report of a few lines in place of the gallery, where a JUPYTER_PATH has its own python3"
    cell, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    nb = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "x", "language": "python"}},
        cells=[
            text("# A small report"),
            cell('output_dir = ""\nkill = False\nnames = []\nexamples = 1\nwarns = False'),
            cell("import os, signal, sys, warnings\nprint(sys.executable, names)"),
            text("## Where it ends\nIn the cell below."),
            cell("if kill:\n    os.kill(os.getpid(), signal.SIGKILL)"),
            cell('if warns:\n    warnings.warn("an odd figure")\nprint("the end")'),
        ],
    )
    nb.cells[1].metadata["tags"] = ["parameters"]
    nbformat.write(nb, path := tmp_path / "gallery.ipynb")
    monkeypatch.setattr("xray_explain.report.run.report_notebook", lambda name: path)
    monkeypatch.setenv("JUPYTER_PATH", str(other_kernel))


def test_a_report_runs_with_this_interpreter(small_report, tmp_path, capfd):
    "Not with what is called python3 elsewhere; values keep their kind; the terminal hears nothing"
    page = run_report("gallery", tmp_path / "out", names=("frontal",), examples=np.int64(3))
    assert f"{sys.executable} ['frontal']" in html.unescape(page.read_text())
    heard = capfd.readouterr().err
    assert "encryption" not in heard and "WARNING" not in heard


def test_a_library_warns_whoever_runs_a_report_and_not_its_readers(small_report, tmp_path, caplog):
    "Where it lies on this machine is nobody's business"
    page = run_report("gallery", tmp_path / "out", warns=True)
    for file in (page, page.with_suffix(".ipynb")):
        assert "UserWarning" not in file.read_text() and "ipykernel_" not in file.read_text()
    assert caplog.messages == ["the gallery report: UserWarning: an odd figure"]


def test_a_killed_report_says_where_and_leaves_no_page(small_report, tmp_path, capfd):
    with pytest.raises(ReportError) as caught:
        run_report("gallery", tmp_path / "out", kill=True)
    # the fifth of six cells, and the one that papermill puts behind the parameters
    assert str(caught.value) == (
        "the gallery report: its kernel was killed in cell 6 of 7 (under 'Where it ends'). The "
        "usual reason is memory: lower examples, take a smaller split or data set, or close other "
        "programs"
    )
    assert not (tmp_path / "out").exists()
    assert "Kernel died" not in capfd.readouterr().err
    (tmp_path / "out" / "reports").mkdir(parents=True)
    (tmp_path / "out" / "reports" / "gallery.html").write_text("yesterday")
    with pytest.raises(ReportError, match="gallery.html is of an earlier run"):
        run_report("gallery", tmp_path / "out", kill=True)


def test_an_installed_wheel_has_the_reports(data, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as z:
        assert {f"xray_explain/report/notebooks/{r}.ipynb" for r in REPORTS} | {
            "xray_explain/models/bone_phantoms/NOTICE"
        } <= set(z.namelist())
        z.extractall(tmp_path / "site")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from xray_explain.cli import main; sys.exit(main())"
    away = tmp_path / "away"
    away.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, "report", "inference", "--data", data],
        cwd=away,
        capture_output=True,
        text=True,
        env={**__import__("os").environ, "PYTHONPATH": str(tmp_path / "site")},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr and "encryption" not in done.stderr
    own = away / "results" / "own" / Path(data).name
    assert (own / "reports" / "inference.html").is_file()


@pytest.mark.parametrize("wrong", ["treshold=0.3", "threshold"])
def test_a_wrong_setting_is_told_before_any_work(wrong, data, tmp_path, capsys):
    assert (
        main(
            [
                "report",
                "annotation",
                "--data",
                str(data),
                "--output-dir",
                str(tmp_path / "out"),
                "--set",
                wrong,
            ]
        )
        == 1
    )
    told = capsys.readouterr().err
    assert (
        told.count("\n") == 1
        and f"--set {wrong}: use NAME=VALUE with one of" in told
        and "threshold" in told
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option, cached", [("--cache", True), ("--no-cache", False)])
def test_the_cache_option_reaches_every_report(option, cached, data, monkeypatch, tmp_path):
    asked = {}

    def run(name, output_dir, **parameters):
        asked[name] = parameters
        return Path(output_dir) / name

    monkeypatch.setattr("xray_explain.report.run.run_report", run)
    assert main(["report", "--data", str(data), "--output-dir", str(tmp_path), option]) == 0
    assert list(asked) == list(REPORTS)
    reached = {name: parameters.get("cache") for name, parameters in asked.items()}
    assert reached == dict.fromkeys(REPORTS, cached) | {"inference": None}


def test_settings_are_json_or_text():
    from xray_explain.cli import _settings

    assert _settings(
        ["threshold=0.3", 'group_columns=["gender"]', "normalize=image"], ["annotation"]
    ) == {"threshold": 0.3, "group_columns": ["gender"], "normalize": "image"}


def test_reports_take_the_names_of_maps_from_one_dictionary():
    "The same key of two reports means two things where their maps are two"
    assert list(MAPS) == list(RIVALS) and set(MAPS.values()) <= set(MAP_WORDS.values())
    compared = {name: METHODS[name].title for name in BASELINES}
    meant = {"random": "moved", "centre": "fixed_gaussian", "intensity": "brightness"}
    assert compared == {name: MAP_WORDS[meaning].name for name, meaning in meant.items()}
    assert {name for name in BASELINES if BASELINES[name] != meant[name]} == {"random", "centre"}


# every parameter of every report changes something


@dataclass(frozen=True)
class Row:
    "Another value of a parameter, and which of a report's outputs it must change"

    value: Any  # a name in braces stands for a file or folder that the tests made
    changes: tuple[str, ...]  # output files as patterns, 'page' for what is shown, 'cache'
    beside: dict = field(default_factory=dict)  # parameters of both runs, beside `SMALL`


MERGED = "tumor:0=Normal,1=Malignant"  # benign and malignant cases as one class
CONFOUNDED = {"split_file": "{split_file}"}  # without one there is only one split to choose
PARAMETERS = {
    "gallery": {
        "data": Row("{other_data}", ("gradcam/gallery_*.png", "page")),
        "label": Row(MERGED, ("gradcam/gallery_*.png", "page")),
        "split_file": Row("{split_file}", ("gradcam/gallery_*.png", "page")),
        "checkpoint": Row("{other_checkpoint}", ("gradcam/gallery_*.png", "page")),
        "output_dir": Row("{elsewhere}", ("gradcam/gallery_*.png",)),
        "split": Row("train", ("gradcam/gallery_*.png", "page"), CONFOUNDED),
        "examples": Row(1, ("gradcam/gallery_*.png", "gradcam/contrast_*.png")),
        "contrast": Row(
            ["Malignant", "Normal"],
            ("gradcam/contrast_*.png",),
            {"contrast": ["Malignant", "Benign"]},
        ),
        "normalize": Row("image", ("gradcam/gallery_*.png", "gradcam/contrast_*.png", "page")),
        "cache": Row(False, ("cache",), {"cache": True}),
    },
    "annotation": {
        "data": Row("{other_data}", ("gradcam/annotation_report.json", "page")),
        "label": Row(MERGED, ("gradcam/annotation_report.json", "page")),
        "split_file": Row("{split_file}", ("gradcam/annotation_report.json", "page")),
        "checkpoint": Row("{other_checkpoint}", ("gradcam/annotation_report.json", "page")),
        "output_dir": Row("{elsewhere}", ("gradcam/annotation_report.json",)),
        "split": Row("train", ("gradcam/annotation_report.json", "page"), CONFOUNDED),
        "threshold": Row(0.3, ("gradcam/annotation_report.json", "gradcam/agreement.png", "page")),
        "group_columns": Row(["gender"], ("gradcam/annotation_report.json", "page")),
        "mark_floor": Row(0.9, ("gradcam/annotation_report.json", "gradcam/marks.csv")),
        "causal_cases": Row(3, ("gradcam/annotation_report.json", "gradcam/agreement.png", "page")),
        "full": Row(True, ("gradcam/annotation_report.json", "page")),
        "examples": Row(4, ("gradcam/annotation_comparison.png", "gradcam/marks.png")),
        "normalize": Row("image", ("gradcam/annotation_comparison.png", "gradcam/marks.png")),
        "resamples": Row(30, ("gradcam/annotation_report.json", "page")),
        "seed": Row(1, ("gradcam/annotation_report.json", "page")),
        "cache": Row(False, ("cache",), {"cache": True}),
    },
    "evaluation": {
        "data": Row("{other_data}", ("evaluation/evaluation.json", "page")),
        "label": Row(MERGED, ("evaluation/evaluation.json", "page")),
        "split_file": Row("{split_file}", ("evaluation/evaluation.json", "page")),
        "checkpoint": Row("{other_checkpoint}", ("evaluation/evaluation.json", "page")),
        "output_dir": Row("{elsewhere}", ("evaluation/evaluation.json", "evaluation/curves.png")),
        "split": Row("train", ("evaluation/evaluation.json", "page"), CONFOUNDED),
        "resamples": Row(30, ("evaluation/evaluation.json", "page")),
        "cache": Row(False, ("cache",), {"cache": True}),
    },
    "faithfulness": {
        "data": Row("{other_data}", ("faithfulness/faithfulness.json", "page")),
        "label": Row(MERGED, ("faithfulness/faithfulness.json",)),
        "split_file": Row("{split_file}", ("faithfulness/faithfulness.json", "page")),
        "checkpoint": Row("{other_checkpoint}", ("faithfulness/faithfulness.json", "page")),
        "output_dir": Row("{elsewhere}", ("faithfulness/faithfulness.json",)),
        "split": Row("train", ("faithfulness/faithfulness.json", "page"), CONFOUNDED),
        "cases": Row(11, ("faithfulness/faithfulness.json", "faithfulness/*.png", "page")),
        "method_cases": Row(2, ("faithfulness/faithfulness.json", "page")),
        "slow_cases": Row(2, ("faithfulness/faithfulness.json", "page")),
        "full": Row(True, ("faithfulness/faithfulness.json", "page"), {"data": "{few_data}"}),
        "resamples": Row(30, ("faithfulness/faithfulness.json", "page")),
        "seed": Row(1, ("faithfulness/faithfulness.json", "faithfulness/*.png", "page")),
        "timing": Row(False, ("page",)),
        "cache": Row(False, ("cache",), {"cache": True}),
    },
    "inference": {
        "data": Row("{other_data}", ("inference/batch_results.json", "page")),
        "label": Row(MERGED, ("live",), {"label": ""}),
        "names": Row(["IMG000003.jpeg"], ("live",), {"label": ""}),
        "split_file": Row("{split_file}", ("inference/batch_results.json", "page")),
        "split": Row("train", ("inference/batch_results.json", "page"), CONFOUNDED),
        "checkpoint": Row("{other_checkpoint}", ("inference/batch_results.json", "page")),
        "output_dir": Row("{elsewhere}", ("inference/batch_results.json",)),
        "max_images": Row(2, ("inference/batch_results.json", "page")),
        "normalize": Row("image", ("inference/all_classes.png", "page")),
    },
}
PARAMETERS["comparison"] = {
    "data": Row(
        "{other_data}", ("comparison/comparison.json", "comparison/comparison.csv", "page")
    ),
    "label": Row(MERGED, ("comparison/comparison.json", "page")),
    "split_file": Row("{split_file}", ("comparison/comparison.json", "page")),
    "first": Row("{third_checkpoint}", ("comparison/comparison.json", "comparison/*.png", "page")),
    "second": Row("{third_checkpoint}", ("comparison/comparison.json", "comparison/*.png", "page")),
    "output_dir": Row("{elsewhere}", ("comparison/comparison.json", "comparison/*.png")),
    "split": Row("train", ("comparison/comparison.json", "page"), CONFOUNDED),
    "causal_cases": Row(3, ("comparison/comparison.csv", "comparison/differences.png", "page")),
    "full": Row(True, ("comparison/comparison.csv", "page")),
    "examples": Row(1, ("comparison/cases.png",), {"examples": 2}),
    "normalize": Row("image", ("comparison/cases.png",)),
    "resamples": Row(30, ("comparison/comparison.json", "page")),
    "seed": Row(1, ("comparison/comparison.json", "page")),
    "cache": Row(False, ("cache",), {"cache": True}),
}
# what keeps a run short, with enough cases for intervals
SMALL = {
    "comparison": {"causal_cases": 2, "resamples": 20, "examples": 1},
    "gallery": {"examples": 2},
    "annotation": {"causal_cases": 2, "resamples": 20, "examples": 2},
    "evaluation": {"resamples": 20},
    "faithfulness": {"cases": 10, "method_cases": 1, "slow_cases": 1, "resamples": 20},
    "inference": {"max_images": 3},
}
SLOW = {"faithfulness", "comparison"}  # those that ask networks most often


def tiny_checkpoint(path, seed):
    "A network that takes no time, with everything that a report can read from a checkpoint"
    torch.manual_seed(seed)
    net = build_net("test_efficientnet", 3, output_stride=8)
    torch.nn.init.normal_(net.classifier.weight)
    for _ in range(2):
        net.train()(torch.randn(8, 3, 64, 64))
    checkpoint = Checkpoint(
        net.eval(),
        "test_efficientnet",
        ("Normal", "Benign", "Malignant"),
        Preprocessing((64, 64)),
        {"output_stride": 8},
        evidence_scale=(2.0, 2.0, 2.0),
        operating_points={"Malignant": {"threshold": 0.3, "rule": "sensitivity 0.95"}},
        localization={
            "relative": {"threshold": 0.4},
            "local_logit": {"threshold": 0.5},
            "num_images": 12,
        },
    )
    save_checkpoint(path, checkpoint)
    return path


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    "What stands for the names in braces"
    home = tmp_path_factory.mktemp("tiny")
    more = {"size": 96, "workers": 1, "progress": False}
    data = write_phantoms(home / "data", per_class=6, seed=5, **more)
    images = sorted(p.name for p in (data / "images").iterdir())
    split = pd.DataFrame(
        {"image_id": images, "split": ["test" if i % 4 else "train" for i in range(18)]}
    )
    split.to_csv(home / "split.csv", index=False)
    return {
        "data": data,
        "other_data": write_phantoms(home / "other", per_class=6, seed=6, **more),
        "few_data": write_phantoms(home / "few", per_class=1, seed=7, **more),
        "split_file": home / "split.csv",
        "checkpoint": tiny_checkpoint(home / "tiny.safetensors", 0),
        "other_checkpoint": tiny_checkpoint(home / "other.safetensors", 1),
        "third_checkpoint": tiny_checkpoint(home / "third.safetensors", 2),
        "elsewhere": home / "elsewhere",
    }


def filled(value, places):
    "A value with the files and folders that its name in braces stands for"
    return str(places[value[1:-1]]) if str(value).startswith("{") else value


def shown_text(value) -> str:
    "What a reader sees of a value that a notebook shows"
    if isinstance(value, pd.DataFrame):
        return value.to_string()
    if hasattr(value, "_repr_mimebundle_"):
        return str(value._repr_mimebundle_())
    return (
        value._repr_html_() if hasattr(value, "_repr_html_") else str(getattr(value, "data", value))
    )


def run_cell(source, scope, shown):
    "Run a cell; its last expression is shown"
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    exec(compile(ast.Module(body, []), "<cell>", "exec"), scope)
    if last is not None:
        shown.append(eval(compile(ast.Expression(last.value), "<cell>", "eval"), scope))


def written(folder) -> dict[str, Any]:
    "The files of a run, without what only repeats its parameters or is a matter of time"
    files = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or "/run/" in name or name.endswith("seconds.json"):
            continue
        files[name] = path.read_bytes()
        if path.suffix == ".json":
            files[name] = json.loads(files[name])
            if isinstance(files[name], dict):
                files[name].pop("parameters", None)
                files[name].pop("provenance", None)
    return files


def outputs(name, folder, cache, parameters, live=False) -> dict[str, Any]:
    "Run a report's notebook in this process: its files, what its page shows, what the cache holds"
    shown, scope = [], {}
    with pytest.MonkeyPatch.context() as patch, pd.option_context("display.max_colwidth", 50):
        patch.setenv("XRAY_EXPLAIN_CACHE", str(cache))
        patch.setattr("IPython.display.display", lambda *values: shown.extend(values))
        for cell in nbformat.read(report_notebook(name), 4).cells:
            tags = cell.metadata.get("tags", [])
            if cell.cell_type != "code" or ("live" in tags and not live):
                continue
            run_cell(cell.source, scope, shown)
            if "parameters" in tags:
                scope |= {"output_dir": str(folder / "out"), **parameters}
    labels = [entry.label for entry in shown.pop().entries] if live else []
    # the last line repeats the parameters, whether they were used or not
    page = [t for t in map(shown_text, shown) if not t.startswith("xray_explain ")]
    cached = sorted(p.name for p in cache.glob("runs/*"))
    return {**written(folder / "out"), "page": page, "cache": cached, "live": labels}


@pytest.fixture(scope="module")
def played(places, tmp_path_factory):
    "Outputs of a report with parameters, each combination run once"
    runs, shared = {}, tmp_path_factory.mktemp("shared_cache")

    def play(name, **parameters):
        model = {"checkpoint": "{checkpoint}"}
        if name == "comparison":
            model = {"first": "{checkpoint}", "second": "{other_checkpoint}"}
        asked = {"data": "{data}", **model, **SMALL[name], **parameters}
        key = name, json.dumps(asked, sort_keys=True)
        if key not in runs:
            values = {k: filled(v, places) for k, v in asked.items()}
            folder = tmp_path_factory.mktemp(name)
            # where it is asked about, the cache begins empty
            cache = folder / "cache" if "cache" in asked else shared
            live = name == "inference" and "label" in asked  # which only the view there shows
            runs[key] = outputs(name, folder, cache, values, live)
        return runs[key]

    return play


def test_every_parameter_of_every_report_has_a_row():
    "And no row is of a parameter that is gone"
    assert set(PARAMETERS) == set(PAGES)
    for name, rows in PARAMETERS.items():
        assert set(rows) == report_parameters(name), name


@pytest.mark.parametrize(
    "name, parameter",
    [
        pytest.param(name, parameter, marks=pytest.mark.slow if name in SLOW else ())
        for name, rows in PARAMETERS.items()
        for parameter in rows
    ],
)
def test_every_parameter_changes_something(played, name, parameter):
    row = PARAMETERS[name][parameter]
    before = played(name, **row.beside)
    after = played(name, **{**row.beside, parameter: row.value})
    for pattern in row.changes:
        concerned = [n for n in {**before, **after} if fnmatch(n, pattern)]
        assert concerned, pattern
        assert any(before.get(n) != after.get(n) for n in concerned), f"{parameter}: {pattern}"
    if parameter == "cache":
        assert before["cache"] and after["cache"] == []
        # the figures are the same; the page of the faithfulness report also says how long it took
        assert {**before, "cache": [], "page": []} == {**after, "page": []}


def test_a_report_that_cannot_be_made_keeps_no_other_from_being_made(monkeypatch, tmp_path, capsys):
    reasons = {"annotation": "no case has an outline"}

    def run(name, output_dir, **parameters):
        if name in reasons:
            raise ReportError(f"the {name} report: {reasons[name]}")
        begun.append(name)
        return tmp_path / f"{name}.html"

    monkeypatch.setattr("xray_explain.report.run.run_report", run)
    monkeypatch.setattr("xray_explain.measure.study.demo_folder", lambda progress=True: tmp_path)
    begun: list[str] = []
    assert main(["report", "--output-dir", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert begun == [name for name in REPORTS if name != "annotation"]
    assert shown.err == "xray-explain: the annotation report: no case has an outline\n"
    assert all(f"{name}.html" in shown.out for name in begun)
    # what is wrong with the data is said once, and no other report begins
    reasons |= dict.fromkeys(REPORTS, "the data set holds no usable case")
    begun.clear()
    assert main(["report", "--output-dir", str(tmp_path)]) == 1
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and not begun and "Open" not in shown.out


@pytest.fixture(scope="module")
def strange_data(tmp_path_factory):
    "A data set whose pictures are noise, all but the first"
    folder = tmp_path_factory.mktemp("strange") / "noise"
    write_phantoms(folder, per_class=3, seed=9, size=320, workers=1, progress=False)
    for number, path in enumerate(sorted((folder / "images").iterdir())[1:]):
        noise = np.random.default_rng(number).integers(0, 255, (320, 240), np.uint8)
        Image.fromarray(noise).save(path)
    return folder


UNLIKE = "8 of 9 pictures (89 %) are unlike those of the model's training"


def test_the_first_line_of_an_evaluation_counts_pictures_unlike_the_training(strange_data, capsys):
    assert main(["evaluate", str(strange_data), "--checkpoint", str(MODELS["bone_phantoms"])]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(UNLIKE) and lines[1].startswith(
        "Model trained on synthetic phantoms"
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_on_pictures_unlike_the_training_says_so_first(name, strange_data, tmp_path):
    "In numbers, before any figure, then what the model is worth"
    asked = {"data": str(strange_data), "checkpoint": "bone_phantoms"} | FEW.get(name, {})
    page = run_report(name, tmp_path, **asked)
    soup = BeautifulSoup(page.read_text(), "html.parser")
    text = soup.main.get_text(" ", strip=True)
    first, worth = text.find(UNLIKE), text.find("means nothing on a patient's film")
    assert 0 <= first < worth < text.find("Model trained on")
    assert not re.search(r"\d", text[:first]) and "too good." not in text[: worth + 600]


def test_an_option_that_no_report_uses_is_refused_by_name(data, tmp_path, capsys):
    words = ["report", "inference", "--data", str(data), "--output-dir", str(tmp_path / "out")]
    assert main([*words, "--no-cache"]) == 1
    assert "--no-cache means nothing to: inference" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_drawn_picture_of_a_report_says_what_the_model_is_worth(results, data):
    "Each file alone; overlays of single films carry it as a stamp, in their caption"
    model = load_checkpoint("bone_phantoms")
    drawn = [p for p in results.rglob("*.png") if not p.name.endswith("_gradcam.png")]
    pictures = sorted(drawn)
    assert len(pictures) >= 8
    for path in pictures:
        words = description(path)
        assert model.worth_short in words or model.worth in words, path.name


def test_marks_stand_in_report_and_table(results):
    "Marks of any lesion counted in the JSON are the rows of the table, and found ones have a lesion"
    report = json.loads((results / "gradcam" / "annotation_report.json").read_text())
    detection, marks = report["detection"], pd.read_csv(results / "gradcam" / "marks.csv")
    of_any = marks[marks["map"] == "any lesion"]
    assert (detection["num_images"], detection["num_healthy"]) == (15, 5)
    assert len(of_any) == detection["num_marks"] > 0
    first = detection["figures"][0]
    for at in first["rates"]:
        counted = of_any[of_any.score > (-np.inf if at["threshold"] is None else at["threshold"])]
        hit = counted[counted.lesion.notna()][["image_id", "lesion"]].drop_duplicates()
        share = len(hit) / first["num_lesions"]
        assert share == pytest.approx(at["sensitivity"]["value"], abs=1e-5)
        assert counted.lesion.isna().sum() <= at["rate"] * detection["num_images"]
    page = html.unescape((results / "reports" / "annotation.html").read_text())
    assert "outlined lesions at half a false mark a picture" in page
    assert {"froc.png", "marks.png"} <= {p.name for p in (results / "gradcam").iterdir()}
