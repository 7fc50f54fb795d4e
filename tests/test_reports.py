"The report notebooks through papermill, on phantoms, from the repository and from an installed wheel."

import html
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import pytest

from xray_explain.cli import main
from xray_explain.data.phantom import write_phantoms
from xray_explain.report.run import REPORTS, ReportError, run_report
from xray_explain.report.schema import annotation_schema
from xray_explain.wording import RESEARCH_USE

ROOT = Path(__file__).parent.parent
# the rest is only more of it
FEW = {"faithfulness": {"cases": 3, "method_cases": 1, "slow_cases": 1, "resamples": 100}}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_phantoms(
        tmp_path_factory.mktemp("reports") / "set",
        per_class=5,
        seed=32,
        size=256,
        workers=1,
        progress=False,
    )


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
        run_report(name, out, data=str(data), **FEW.get(name, {}))
    return out


def test_everything_is_there(results):
    names = {p.relative_to(results).as_posix() for p in results.rglob("*") if p.is_file()}
    assert {f"gradcam/gallery_{c}.png" for c in ("Normal", "Benign", "Malignant")} <= names
    assert {
        "gradcam/annotation_comparison.png",
        "gradcam/annotation_report.json",
        "inference/batch_results.json",
    } <= names
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


def test_the_report_keeps_to_its_schema(results):
    text = (results / "gradcam" / "annotation_report.json").read_text()
    report, schema = (
        json.loads(text),
        json.loads((results / "gradcam" / "annotation_report.schema.json").read_text()),
    )
    jsonschema.validate(report, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**report, "mean_iou": "0.5"}, schema)
    assert "NaN" not in text and schema == json.loads(json.dumps(annotation_schema()))
    assert (
        report["provenance"]["parameters"]["causal_cases"] == 60
        and report["causal"]["num_images"] == 10
    )


def test_the_page_says_what_the_figures_say(results):
    report = json.loads((results / "gradcam" / "annotation_report.json").read_text())
    page = html.unescape((results / "reports" / "annotation.html").read_text())
    assert 3 <= len(report["sentences"]) <= 6
    for sentence in report["sentences"]:
        assert re.sub("[`]", "", sentence) in re.sub("</?code>", "", page)


def test_another_threshold_needs_no_network(results, data, cache, tmp_path):
    "Predictions, evidence and drops come from the cache; only what depends on the threshold changes"
    kept = {p: p.stat().st_size for p in (cache / "runs").iterdir()}
    assert sorted(p.name.split("-")[0] for p in kept) == ["study", "table", "table"]
    run_report(
        "annotation",
        tmp_path,
        data=str(data),
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


@pytest.mark.parametrize("name", REPORTS)
def test_pages_stand_alone(results, name):
    page = (results / "reports" / f"{name}.html").read_text()
    assert page.count(RESEARCH_USE) >= 2 and "synthetic phantoms" in page
    assert (
        not re.search(r'(?:src|href)="(?!data:|#)', page)
        and "<script" not in page
        and "@import" not in page
    )
    assert "import pandas" not in page and "data:image/jpeg;base64" in page
    assert "Traceback" not in page
    assert "Where this comes from" in page and page.count("(SHA-256, ") == 1


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
        run_report(name, tmp_path, data=str(data))
    for path in [*(tmp_path / "gradcam").iterdir(), *(tmp_path / "evaluation").iterdir()]:
        assert path.read_bytes() == (results / path.relative_to(tmp_path)).read_bytes(), path.name


def test_a_failing_report_leaves_nothing(data, tmp_path):
    with pytest.raises(ReportError, match="the gallery report: .*absent.pt") as caught:
        run_report("gallery", tmp_path, data=str(data), checkpoint="absent.pt")
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == []


def test_an_installed_wheel_has_the_reports(data, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", tmp_path, ROOT],
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as z:
        assert {f"xray_explain/reports/{r}.ipynb" for r in REPORTS} | {
            "xray_explain/demo/NOTICE"
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
    assert (away / "results" / "reports" / "inference.html").is_file()


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


def test_settings_are_json_or_text():
    from xray_explain.cli import _settings

    assert _settings(
        ["threshold=0.3", 'group_columns=["gender"]', "normalize=image"], ["annotation"]
    ) == {"threshold": 0.3, "group_columns": ["gender"], "normalize": "image"}
