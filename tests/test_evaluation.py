"Figures and intervals against scikit-learn, a plain bootstrap, and the report on phantoms."

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    classification_report,
    confusion_matrix,
    roc_auc_score,
)

from xray_explain.data.cases import BTXRD_CLASSES
from xray_explain.data.phantom import write_phantoms
from xray_explain.files import six_digits
from xray_explain.measure.bootstrap import group_weights
from xray_explain.measure.performance import (
    at_threshold,
    group_performance,
    patient_groups,
    performance,
    ranking_figures,
    resampled_figures,
)
from xray_explain.measure.study import examine, open_cases
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.report.evaluation import evaluation_report
from xray_explain.report.models.card import model_card

RNG = np.random.default_rng(20)


def predictions(n, classes=3, skill=1.5):
    y = RNG.integers(0, classes, n)
    logits = RNG.normal(0, 1, (n, classes)) + skill * np.eye(classes)[y]
    return y, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_points_are_scikit_learns():
    y, p = predictions(400)
    told = performance(y, p, BTXRD_CLASSES, np.ones((1, 400)))
    theirs = classification_report(y, p.argmax(1), target_names=BTXRD_CLASSES, output_dict=True)
    for name in BTXRD_CLASSES:
        for ours, its in (
            ("sensitivity", "recall"),
            ("precision", "precision"),
            ("f1", "f1-score"),
        ):
            assert told["per_class"][name][ours]["value"] == pytest.approx(theirs[name][its])
        c = BTXRD_CLASSES.index(name)
        assert told["per_class"][name]["auc"]["value"] == pytest.approx(
            roc_auc_score(y == c, p[:, c])
        )
        assert told["per_class"][name]["average_precision"]["value"] == pytest.approx(
            average_precision_score(y == c, p[:, c])
        )
        tn, fp, _, _ = confusion_matrix(y == c, p.argmax(1) == c).ravel()
        assert told["per_class"][name]["specificity"]["value"] == pytest.approx(tn / (tn + fp))
    assert told["accuracy"]["value"] == pytest.approx(theirs["accuracy"])
    assert told["macro"]["sensitivity"]["value"] == pytest.approx(
        balanced_accuracy_score(y, p.argmax(1))
    )


def test_interval_is_that_of_a_plain_bootstrap():
    "The same draws, case by case, with scikit-learn on the repeated cases"
    y, p = predictions(60)
    groups = np.arange(60) // 2
    weights = group_weights(groups, 120, seed=5)
    plain = []
    for w in weights:
        i = np.repeat(np.arange(60), w.astype(int))
        plain.append(roc_auc_score(y[i], p[i], multi_class="ovr"))
    told = performance(y, p, BTXRD_CLASSES, weights)["macro"]["auc"]
    assert [told["low"], told["high"]] == pytest.approx(np.percentile(plain, [2.5, 97.5]))


def test_whole_groups_are_drawn():
    weights = group_weights(["a"] * 5 + ["b"] * 2 + ["c"], 300)
    assert (weights[:, :5] == weights[:, :1]).all() and (weights[:, 5] == weights[:, 6]).all()
    assert (weights[:, [0, 5, 7]].sum(1) == 3).all() and len({tuple(w) for w in weights}) > 5


def test_resamples_without_a_class_are_counted_and_not_invented():
    y = np.array([0] * 30 + [1])
    p = np.c_[1 - np.linspace(0, 1, 31), np.linspace(0, 1, 31)]
    told = performance(y, p, ("Normal", "Fracture"), group_weights(range(31), 500))["per_class"][
        "Fracture"
    ]
    # the only fracture is missing from (30/31)^31 of the resamples, 36 %
    assert told["auc"]["value"] == 1 and 130 < told["auc"]["undefined_resamples"] < 240
    assert np.isnan(told["auc"]["low"]) and six_digits(told["auc"])["low"] is None
    assert np.isnan(ranking_figures(y == 2, p[:, 0], np.ones((1, 31)))[0][0])


def test_more_cases_narrow_the_interval():
    width = []
    for n in (100, 1600):
        y, p = predictions(n)
        told = performance(y, p, BTXRD_CLASSES, group_weights(range(n), 400))["accuracy"]
        width.append(told["high"] - told["low"])
    assert 3 < width[0] / width[1] < 5.5  # the root of 16 is 4


def test_threshold_by_hand():
    "Three found and one missed, two called by mistake and four rightly not; the threshold itself is called"
    of_class = np.arange(10) < 4
    scores = np.array([0.9, 0.6, 0.4, 0.1, 0.7, 0.5, 0.3, 0.2, 0.1, 0.0])
    figures = at_threshold(of_class, scores, 0.4, np.ones((1, 10)))
    assert (figures["missed"], figures["num_images"]) == (1, 4)
    assert figures["sensitivity"]["value"] == pytest.approx(3 / 4)
    assert figures["specificity"]["value"] == pytest.approx(4 / 6)
    assert figures["precision"]["value"] == pytest.approx(3 / 5)


def test_a_group_with_all_four_kinds():
    "Of 12 fractures 9 are found, of 12 others 8 are not called: each figure is another"
    y, called = np.repeat([1, 0], 12), np.repeat([1, 0, 0, 1], (9, 3, 8, 4))
    y, called = np.r_[y, y], np.r_[called, y]  # in centre 2 all are right
    table = pd.DataFrame({"center": np.repeat([1, 2], 24)})
    names, weights = ("Normal", "Fracture"), group_weights(range(48), 50)
    rows = {
        (row["group"], row["class"]): row
        for row in group_performance(y, np.eye(2)[called], names, weights, table)
    }
    fracture, normal = rows["1", "Fracture"], rows["1", "Normal"]
    assert fracture["sensitivity"]["value"] == normal["specificity"]["value"] == 9 / 12
    assert fracture["specificity"]["value"] == normal["sensitivity"]["value"] == 8 / 12
    assert fracture["auc"]["value"] == pytest.approx((9 / 12 + 8 / 12) / 2)
    assert rows["2", "Fracture"]["sensitivity"]["value"] == 1


def test_groups_of_patients_by_hand():
    table = pd.DataFrame(
        {
            "center": [1] * 40 + [2] * 12,
            "age": [10] * 26 + [70] * 26,
            "gender": ["F", "M"] * 26,
            "hand": 1,
        }
    )
    y = np.arange(52) % 2
    p = np.eye(2)[np.where(table.center == 1, y, 1 - y)]
    rows = {
        (r["by"], r["group"], r["class"]): r
        for r in group_performance(
            y, p, ("Normal", "Fracture"), group_weights(range(52), 50), table
        )
    }
    assert {by for by, _, _ in rows} == {"centre", "age", "sex"}  # all are hands
    assert (
        rows["centre", "1", "Fracture"]["auc"]["value"] == 1
        and rows["centre", "1", "Fracture"]["of_class"] == 20
    )
    few = rows["centre", "2", "Fracture"]
    assert (
        not few["enough"] and "auc" not in few and (few["of_class"], few["num_images"]) == (6, 12)
    )
    assert list(patient_groups(table)["age"]) == ["0-17", "65+"]


def test_report_and_card_of_the_demo_on_a_few_phantoms(tmp_path):
    model = load_checkpoint("bone_phantoms")
    cases = open_cases(
        write_phantoms(tmp_path / "set", 8, seed=41, size=192, workers=1, progress=False), model
    )
    study = examine(model, cases, progress=False)
    report = evaluation_report(study, resamples=50)
    again = json.dumps(six_digits(evaluation_report(study, resamples=50)), allow_nan=False)
    assert json.dumps(six_digits(report), allow_nan=False) == again
    assert report["num_images"] == 24 and np.trace(report["confusion"]) == round(
        24 * report["accuracy"]["value"]
    )
    assert {r["by"] for r in report["by_group"]} >= {"centre", "sex"}
    assert set(report["operating_points"]) == set(model.operating_points)
    read_back = json.loads(again)
    card = model_card(model, read_back, ("xray-explain train somewhere",))
    assert (
        f"{report['accuracy']['value']:.3f}" in card
        and "synthetic phantoms" in card
        and "xray-explain train somewhere" in card
    )


@pytest.mark.slow
def test_a_thousand_resamples_of_btxrds_size():
    y, p = predictions(3746)
    groups = RNG.integers(0, 2500, 3746)
    weights = group_weights(groups)
    many = resampled_figures(y, p.argmax(1), p, weights)
    told = performance(y, p, BTXRD_CLASSES, weights)
    assert many["auc"].shape == (1000, 3)
    assert told["accuracy"]["low"] < told["accuracy"]["value"] < told["accuracy"]["high"]
    # the spread of a mean of groups, by its own formula
    right = pd.DataFrame({"g": groups, "r": p.argmax(1) == y}).groupby("g").r.agg(["sum", "size"])
    residual = right["sum"] - told["accuracy"]["value"] * right["size"]
    expected = np.sqrt((residual**2).sum()) / right["size"].sum()
    assert many["accuracy"].std() == pytest.approx(expected, rel=0.1)
