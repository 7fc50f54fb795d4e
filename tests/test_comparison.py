"Two models on the same cases, from the command line to the page"

import json
import re

import jsonschema
import pandas as pd
import pytest
import torch
from bs4 import BeautifulSoup

from xray_explain.cli import main
from xray_explain.data.phantom import write_phantoms
from xray_explain.measure.cache import cached_study
from xray_explain.measure.study import examine, open_cases
from xray_explain.measure.two_models import case_figures, pair_of
from xray_explain.model.checkpoint import Checkpoint, build_net, load_checkpoint, save_checkpoint
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.report.models.comparison import comparison_report, load_two
from xray_explain.report.schema import comparison_schema
from xray_explain.wording import RESEARCH_USE, is_missing

PATIENT = "PAT-7741"


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    "A cache folder of these tests' own"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XRAY_EXPLAIN_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    "Phantoms of patients with two pictures each"
    place = tmp_path_factory.mktemp("compare") / "set"
    folder = write_phantoms(place, per_class=8, seed=41, size=256, workers=1, progress=False)
    table = pd.read_csv(folder / "dataset.csv")
    patients = [f"{PATIENT}-{i // 2}" for i in range(len(table))]
    table.assign(group=patients).to_csv(folder / "dataset.csv", index=False)
    return folder


def small_model(path, classes=("Malignant", "Normal", "Benign"), size=64, data=""):
    "A network of random weights, with another order of classes and another size than the demo's"
    torch.manual_seed(3)
    net = build_net("test_efficientnet", len(classes), output_stride=8)
    torch.nn.init.normal_(net.classifier.weight)
    how = Preprocessing((size, size)), {"output_stride": 8}
    checkpoint = Checkpoint(net.eval(), "test_efficientnet", classes, *how, training={"data": data})
    save_checkpoint(path, checkpoint)
    return str(path)


@pytest.fixture(scope="module")
def models(data, tmp_path_factory):
    "The demo model, and a small one in a file"
    home = tmp_path_factory.mktemp("models")
    return "bone_phantoms", small_model(home / "small.safetensors", data=data.name)


@pytest.fixture(scope="module")
def compared(data, models):
    "Either way round and the demo model with itself: figures, and the table of cases"

    def run(*names):
        loaded = load_two(*names)
        pair = pair_of(*(cached_study(m, open_cases(data, m), progress=False) for m in loaded))
        cases = case_figures(pair, causal=4)
        return comparison_report(pair, cases, 60), cases

    demo, small = models
    return {"there": run(demo, small), "back": run(small, demo), "same": run(demo, demo)}


@pytest.fixture(scope="module")
def page(data, models, compared, tmp_path_factory):
    "The command's folder"
    out = tmp_path_factory.mktemp("out")
    words = ["--data", str(data), "--output-dir", str(out)]
    few = ["--set", "resamples=60", "--set", "causal_cases=4", "--set", "examples=1"]
    assert main(["compare", *models, *words, *few]) == 0
    return out


def test_a_model_is_no_better_than_itself(compared):
    report, cases = compared["same"]
    names = [report["models"][which]["checkpoint"] for which in ("first", "second")]
    assert names == ["bone_phantoms (first)", "bone_phantoms (second)"]
    for row in report["rows"] + report["by_class"]:
        gap = row["difference"]
        if not is_missing(gap["low"]):
            assert (gap["value"], gap["low"], gap["high"], row["p"]) == (0, 0, 0, 1), row["figure"]
        assert gap["value"] == 0 and row["better"] in ("none", "unknown")
    assert report["mcnemar"] == {"only_first": 0, "only_second": 0, "p": 1}
    assert cases.iou_first.equals(cases.iou_second)


def test_the_other_way_round_signs_are_others(compared):
    there, back = compared["there"][0], compared["back"][0]
    turned = {"first": "second", "second": "first"}
    assert len(there["rows"]) == len(back["rows"]) > 10
    others = {(row["figure"], row["of"]): row for row in back["rows"]}
    for row in there["rows"]:
        other = others[row["figure"], row["of"]]
        gap = other["difference"]["value"]
        assert row["difference"]["value"] == pytest.approx(-gap, abs=1e-9), row["figure"]
        assert row["p"] == pytest.approx(other["p"], abs=1e-5, nan_ok=True)
        assert other["better"] == turned.get(row["better"], row["better"])
    accuracy = there["rows"][0]  # the demo knows phantoms
    assert (accuracy["figure"], accuracy["better"]) == ("right", "first")


def test_figures_are_those_of_each_model_by_itself(compared, data, models):
    "Classes in another order, a smaller canvas: what each model says when it is alone"
    _, cases = compared["there"]
    small = load_checkpoint(models[1])
    study = examine(small, open_cases(data, small), progress=False)
    of_truth = [row[f"p_{row['label']}"] for row in study.table.to_dict("records")]
    assert cases.true_class_second.to_numpy() == pytest.approx(of_truth, abs=1e-5)
    assert list(cases.prediction_second) == list(study.table.prediction)


def test_the_file_keeps_to_its_schema_and_no_patient_is_in_any(page, compared):
    report = json.loads((page / "comparison" / "comparison.json").read_text())
    schema = json.loads((page / "comparison" / "comparison.schema.json").read_text())
    assert report["rows"][0]["p"] == pytest.approx(compared["there"][0]["rows"][0]["p"])
    assert schema == json.loads(json.dumps(comparison_schema()))
    validator = jsonschema.Draft202012Validator(schema)
    assert [e.message for e in validator.iter_errors(report)] == []
    for name in report:
        assert not validator.is_valid({k: v for k, v in report.items() if k != name}), name
    assert report["num_images"] == 24 and report["num_groups"] == 12
    texts = [p.read_bytes() for p in page.rglob("*") if p.is_file()]
    assert len(texts) > 6 and not [t for t in texts if PATIENT.encode() in t]


def test_the_page_says_what_follows_and_what_weakens_it(page):
    text = (page / "reports" / "comparison.html").read_text()
    soup = BeautifulSoup(text, "html.parser")
    words = re.sub(r"\s+", " ", soup.main.get_text(" ", strip=True))
    assert text.count(RESEARCH_USE) >= 2 and "Traceback" not in text and "<script" not in text
    assert "bone_phantoms against small on 24 cases from 12 groups" in words
    assert "small was trained on data of this name, and no split says which cases it saw" in words
    assert "a finer grid can fit an outline more closely" in words
    assert "means nothing on a patient's film" in words
    alts = [image["alt"] for image in soup.select("img")]
    assert len(alts) == 2 and "How much better bone_phantoms is than small" in alts[0]
    assert "Only bone_phantoms is right" in alts[1]
    index = (page / "index.html").read_text()
    assert 'href="reports/comparison.html"' in index and "bone_phantoms is better in" in index


@pytest.mark.slow
def test_models_of_other_classes_are_refused_in_one_line(data, tmp_path, capsys):
    other = small_model(tmp_path / "other.safetensors", ("Normal", "Fractured"))
    words = ["--data", str(data), "--output-dir", str(tmp_path / "out")]
    assert main(["compare", "bone_phantoms", other, *words]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "only models of the same classes are compared" in shown
    assert "Fractured" in shown and "Malignant" in shown
    gone = str(tmp_path / "gone" / "model.safetensors")
    assert main(["compare", "bone_phantoms", gone, *words]) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1 and "the second model: model.safetensors: there is no" in shown
