"Faithfulness and sanity on networks whose true contributions are known, and the report in difficult cases."

import json
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
import timm
import torch

from xray_explain.data.phantom import write_phantoms
from xray_explain.evidence.cam import explain
from xray_explain.files import six_digits
from xray_explain.measure.bootstrap import group_weights
from xray_explain.measure.faithfulness import (
    RANDOM,
    better,
    faithfulness_figures,
    faithfulness_records,
    moved,
)
from xray_explain.measure.methods import METHODS, method_maps
from xray_explain.measure.study import examine, open_cases
from xray_explain.model.checkpoint import Checkpoint, load_checkpoint
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.report.faithfulness import (
    cascade_table,
    faithfulness_report,
    methods_tables,
    removal_table,
)
from xray_explain.report.schema import faithfulness_schema

SIDE, GRID, CASES = 64, 8, 24


class Additive(torch.nn.Module):
    "Two classes; the second's logit is a sum of pixels, weighted, so that each cell's contribution is known"

    def __init__(self, seed=0):
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.cells = torch.nn.Parameter(torch.randn(GRID, GRID, generator=draw))

    def weights(self):
        return self.cells.repeat_interleave(SIDE // GRID, 0).repeat_interleave(SIDE // GRID, 1) / 40

    def forward(self, x):
        y = (x[:, 0] * self.weights()).sum((1, 2))
        return torch.stack([-y / 2, y / 2], 1)


@pytest.fixture(scope="module")
def additive():
    unchanged = Preprocessing((SIDE, SIDE), mean=(0, 0, 0), std=(1, 1, 1))
    return Checkpoint(Additive().eval().requires_grad_(False), "none", ("no", "yes"), unchanged)


@pytest.fixture(scope="module")
def canvases():
    rng = np.random.default_rng(4)
    coarse = rng.random((CASES, 2 * GRID, 2 * GRID)).astype(np.float32)
    return np.kron(coarse, np.ones((1, 4, 4), np.float32))


def contributions(additive, canvases):
    "(n, 8, 8) what each cell adds to the logit beyond what the picture's mean would"
    beyond = (canvases - canvases.mean((1, 2), keepdims=True)) * additive.net.weights().numpy()
    return beyond.reshape(-1, GRID, SIDE // GRID, GRID, SIDE // GRID).sum((2, 4))


def test_the_true_contribution_beats_random_and_random_is_nothing(additive, canvases):
    true, rng = contributions(additive, canvases), np.random.default_rng(0)

    def elsewhere():
        return np.stack([moved(grid, rng) for grid in true])

    maps = {"true": true, RANDOM: elsewhere(), "other": elsewhere(), "opposite": -true}
    records = faithfulness_records(additive, canvases, np.ones(CASES, int), maps, progress=False)
    figures = faithfulness_figures(records, group_weights(range(CASES)))
    for m in ("deletion", "insertion", "road"):
        assert better(figures["true"]["gain"][m]) is True, m
        assert better(figures["opposite"]["gain"][m]) is False, m
        assert better(figures["other"]["gain"][m]) is None, m
    assert figures["true"]["road"]["value"] > 0.1 > abs(figures["other"]["road"]["value"])


def test_a_seed_decides_everything(additive, canvases):
    maps = {RANDOM: contributions(additive, canvases)[:3], "even": np.ones((3, GRID, GRID))}

    def run(seed):
        ones = np.ones(3, int)
        return faithfulness_records(additive, canvases[:3], ones, maps, seed=seed, progress=False)

    assert run(1).equals(run(1))
    assert not run(1).query("map == 'even'").equals(run(2).query("map == 'even'"))


@pytest.mark.parametrize("name", ["hirescam", "xgradcam"])
@pytest.mark.parametrize("architecture", ["test_efficientnet", "resnet10t"])
def test_three_methods_are_one_map(name, architecture):
    "Why Grad-CAM, HiResCAM and XGrad-CAM share a row"
    torch.manual_seed(0)
    net = timm.create_model(architecture, num_classes=3)
    torch.nn.init.normal_(net.get_classifier().weight)
    for _ in range(2):
        net(torch.randn(4, 3, 64, 96))
    x = torch.randn(2, 3, 64, 96)
    exact, theirs = explain(net, x).evidence, explain(net, x, method=name).evidence
    assert exact.std() > 100 * 1e-5
    assert (exact - theirs).abs().max() <= 1e-5 * exact.abs().max().clamp_min(1)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    home = write_phantoms(
        tmp_path_factory.mktemp("faith") / "set",
        per_class=2,
        seed=52,
        size=192,
        workers=1,
        progress=False,
    )
    model = load_checkpoint("bone_phantoms")
    return examine(model, open_cases(home, model), progress=False)


def small(study):
    "The same study of a network that takes no time"
    torch.manual_seed(0)
    net = timm.create_model("test_efficientnet", num_classes=3, output_stride=8)
    torch.nn.init.normal_(net.classifier.weight)
    for _ in range(2):
        net(torch.randn(8, 3, 64, 64))
    net.eval().requires_grad_(False)
    preprocessing = Preprocessing((64, 64))
    model = Checkpoint(net, "test_efficientnet", study.classes, preprocessing, name="small")
    return examine(model, study.cases, progress=False)


def valid(report):
    "The report as it is written; its text holds no NaN and fits its schema"
    text = json.dumps(six_digits(report), allow_nan=False)
    jsonschema.validate(json.loads(text), faithfulness_schema())
    return text


def test_the_report_twice_and_every_method(study):
    few = small(study)

    def run(seed=0):
        sizes = {"cases": 6, "method_cases": 3, "slow_cases": 1}
        return faithfulness_report(few, **sizes, resamples=50, seed=seed, progress=False)

    (report, seconds), (again, _), (other, _) = run(), run(), run(seed=1)
    assert valid(report) == valid(again) != valid(other)
    assert sorted(report["subset"]) == sorted(few.table.image_id)
    assert set(report["methods"]) == set(METHODS) - {"scorecam"}
    seen = {name: figures["num_images"] for name, figures in report["faithfulness"].items()}
    assert (seen["evidence"], seen["layercam"], seen["occlusion"]) == (6, 3, 1)
    assert set(seconds) == {name for name in report["methods"] if METHODS[name].asks}
    assert min(seconds.values()) > 0
    assert report["additivity"]["largest_difference"] < 1e-4
    assert all(report["sanity"][n]["verdict"] == "fails" for n in ("intensity", "centre"))
    assert report["curves"]["deletion"]["evidence"][0] == pytest.approx(
        report["curves"]["insertion"]["random"][-1]
    )
    assert 3 <= len(report["answer"]) <= 6
    assert all(s.endswith(".") and "nan" not in s for s in report["answer"])
    for table in (removal_table(report), cascade_table(report), *methods_tables(report, seconds)):
        assert len(table) and not table.isna().any().any()
        assert "nan" not in table.to_string().lower()


def test_one_healthy_case(study):
    "No outline, no pair of pictures, no interval: said so, and nothing made up"
    few = small(study)
    table = few.cases.table[few.cases.table.label == "Normal"].iloc[:1]
    one = examine(few.checkpoint, replace(few.cases, table=table), progress=False)
    report, seconds = faithfulness_report(one, resamples=20, progress=False)
    valid(report)
    assert report["localization"] == {}
    assert list(report["sanity"]["evidence"]["references"]) == ["two random networks"]
    comparison = report["answer"][-1]
    assert comparison.endswith(" on too few cases to be judged.")
    assert not any(
        verdict in comparison for verdict in ("better", "worse", "told from", "outlines")
    )
    assert report["answer"][1].startswith("Too few cases")
    assert (methods_tables(report, seconds)[1]["outlined cases"] == 0).all()


@pytest.mark.parametrize("kind, value", [("even", 1.0), ("negative", -1.0), ("holes", np.nan)])
def test_maps_that_say_nothing(study, monkeypatch, kind, value):
    "The heatmap replaced by an even, an all-negative or an undefined one"
    few = small(study)

    def broken(model, canvases, classes, name):
        maps = method_maps(model, canvases, classes, name)
        if name != "evidence":
            return maps
        return -1 - np.abs(maps) if kind == "negative" else np.full_like(maps, value)

    monkeypatch.setattr("xray_explain.report.faithfulness.method_maps", broken)
    report, _ = faithfulness_report(
        few, cases=6, method_cases=2, slow_cases=1, resamples=50, progress=False
    )
    valid(report)
    removal, sanity = report["faithfulness"]["evidence"], report["sanity"]["evidence"]
    assert removal["num_undefined"] == (6 if kind == "holes" else 0)
    assert sanity["num_undefined"] == (0 if kind == "negative" else 6)
    if kind != "negative":
        assert sanity["verdict"] == "unknown" and "cannot be said" in report["answer"][3]
    if kind != "holes":
        areas = [mask.mean() for mask in few.masks[few.annotated]]
        iou = 0 if kind == "negative" else pytest.approx(np.mean(areas), abs=0.01)
        assert report["localization"]["evidence"]["iou"]["value"] == iou


@pytest.mark.slow
def test_a_head_that_is_not_additive(study):
    torch.manual_seed(0)
    net = timm.create_model("test_vit", num_classes=3).eval().requires_grad_(False)
    torch.nn.init.normal_(net.head.weight)
    model = Checkpoint(net, "test_vit", study.classes, Preprocessing((160, 160)), name="tokens")
    report, _ = faithfulness_report(
        examine(model, study.cases, progress=False), 6, 2, 1, resamples=50, progress=False
    )
    valid(report)
    assert report["additivity"] is None and "not additive" in report["answer"][0]


@pytest.mark.slow
def test_the_demo_model_on_sixty_phantoms(tmp_path):
    "What the shipped figures rest on, with the default sizes"
    model = load_checkpoint("bone_phantoms")
    cases = open_cases(
        write_phantoms(
            tmp_path / "set", per_class=20, seed=53, size=256, workers=1, progress=False
        ),
        model,
    )
    report, _ = faithfulness_report(examine(model, cases, progress=False), progress=False)
    valid(report)
    gain, sanity = report["faithfulness"]["evidence"]["gain"], report["sanity"]
    assert better(gain["deletion"]) and better(gain["road"])
    assert sanity["evidence"]["verdict"] != "fails"
    assert sanity["eigencam"]["remains"]["value"] > sanity["evidence"]["remains"]["value"]
