"Localisation on the shipped model: baselines where theory puts them, thresholds that were chosen elsewhere, nothing computed twice."

import json

import numpy as np
import pandas as pd
import pytest
from safetensors import safe_open
from scipy import ndimage
from sklearn.metrics import jaccard_score

from xray_explain.data.phantom import write_phantoms
from xray_explain.evidence.heatmap import enlarge
from xray_explain.measure.baselines import anywhere
from xray_explain.measure.localization import agreement_records, localization_figures
from xray_explain.measure.overlap import iou_curve, lesions_found, localize, pointing_hit
from xray_explain.measure.reliance import causal_records
from xray_explain.measure.study import examine, open_cases
from xray_explain.measure.thresholds import chosen_thresholds
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.report.run import run_report
from xray_explain.shipped import MODELS

RNG = np.random.default_rng(7)


def some_case(side=64, cells=8):
    "A random map and one to three round lesions"
    rows, columns = np.mgrid[:side, :side] + 0.5
    mask = np.zeros((side, side), np.uint8)
    for y, x, r in zip(*RNG.uniform(5, side - 5, (2, 3)), RNG.uniform(3, 9, 3)):
        mask |= ((rows - y) ** 2 + (columns - x) ** 2 < r * r).astype(np.uint8)
    return RNG.normal(size=(cells, cells)).astype(np.float32), mask


@pytest.mark.parametrize("_", range(5))
def test_every_measure_against_loops(_):
    grid, mask = some_case()
    told = localize(grid, mask, 0.4, chosen=0.7, local_logit=20.0)
    positive = np.maximum(enlarge(grid, mask.shape), 0)
    heat = positive / positive.max()
    jaccard = lambda hot: jaccard_score(mask.ravel(), hot.ravel())
    assert told["iou"] == pytest.approx(jaccard(heat >= np.float32(0.4)))
    assert told["iou_chosen"] == pytest.approx(jaccard(heat >= np.float32(0.7)))
    assert told["iou_local_logit"] == pytest.approx(jaccard(64 * positive >= 20), abs=1e-6)
    assert told["iou_auc"] == pytest.approx(
        np.mean([jaccard(heat >= np.float32(k / 20)) for k in range(1, 20)])
    )
    assert told["share_inside"] == pytest.approx(
        sum(positive[i, j] for i, j in zip(*np.nonzero(mask))) / positive.sum(), rel=1e-5
    )
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    assert (told["found"], told["lesions"]) == (
        len(set(labels[heat >= np.float32(0.4)]) - {0}),
        count,
    )


def test_the_pointing_game_to_the_pixel():
    "Every cell as the hottest one: its centre, its whole area, and one pixel less or more on each side"
    for y, x in np.ndindex(4, 4):
        grid, rows, columns = np.zeros((4, 4)), slice(8 * y, 8 * y + 8), slice(8 * x, 8 * x + 8)
        grid[y, x] = 1
        inside = np.zeros((32, 32), bool)
        inside[rows, columns] = True
        for i, j in np.ndindex(32, 32):
            mask = np.zeros((32, 32), np.uint8)
            mask[i, j] = 1
            assert pointing_hit(grid, mask, 0.5) == inside[i, j]
            assert pointing_hit(grid, mask) == ((i, j) == (8 * y + 4, 8 * x + 4))


def test_a_random_map_scores_what_theory_says():
    "Thousands of maps moved at random, against the mean that is computed in one go, and against the lesion's area"
    grid, mask = some_case()
    positive = np.maximum(enlarge(grid, mask.shape), 0)
    shifts = RNG.integers(0, 64, (3000, 2))
    moved = [np.roll(positive, shift, (0, 1)) for shift in shifts]
    told, area = anywhere(grid, mask), mask.mean()
    top = positive.max()
    iou = [iou_curve(m / top, mask, [0.5])[0] for m in moved]
    assert told["iou"] == pytest.approx(np.mean(iou), abs=4 * np.std(iou) / 3000**0.5)
    assert (
        told["hit"]
        == area
        == pytest.approx(
            np.mean([pointing_hit(m, mask) for m in moved]), abs=4 * (area / 3000) ** 0.5
        )
    )
    assert told["share_inside"] == area
    found = [lesions_found(m >= 0.5 * top, mask)[0] for m in moved]
    assert told["found"] == pytest.approx(np.mean(found), abs=4 * np.std(found) / 3000**0.5)


def test_a_perfect_map_and_its_rivals():
    "Evidence that is the outline itself is perfect, and better than every map without knowledge"
    model, records, rng = load_checkpoint("bone_phantoms"), [], np.random.default_rng(3)
    for n in range(40):
        y, x = rng.integers(2, 12, 2)
        grid, mask = np.zeros((14, 14), np.float32), np.zeros((224, 224), np.uint8)
        grid[y, x], mask[16 * y : 16 * y + 16, 16 * x : 16 * x + 16] = 1, 1
        case = {
            "image_id": str(n),
            "label": "Benign",
            "prediction": "Benign",
            "confidence": 0.9,
            "shown_class": "true",
        }
        records += [
            {**case, "map": "evidence", **localize(grid, mask)},
            {**case, "map": "random", **anywhere(grid, mask)},
        ]
    records = pd.DataFrame(records)
    table = records[records["map"] == "evidence"][
        ["image_id", "label", "prediction", "confidence"]
    ].assign(group=[str(n) for n in range(40)])
    records = pd.concat([records, records.assign(shown_class="predicted")])
    figures = localization_figures(records, table, model.class_names[1:], resamples=200)[0][
        "measures"
    ]
    assert figures["hit"]["value"] == figures["found"]["value"] == 1
    assert figures["hit"]["maps"]["random"]["value"] == pytest.approx(1 / 196)
    assert figures["iou"]["maps"]["random"]["p"] == pytest.approx(2 / 201)


def test_the_demo_has_thresholds_of_its_own_calibration_set():
    with safe_open(MODELS["bone_phantoms"], "pt") as f:
        header = json.loads(f.metadata()["xray_explain"])
    # the 300 lesions of seed 3, which no report uses
    assert header["localization"]["num_images"] == 300
    kept = chosen_thresholds(load_checkpoint("bone_phantoms"))
    assert 0 < kept["chosen"] < 1 and kept["local_logit"] > 0


def test_causal_records_take_each_case_once(tmp_path):
    model = load_checkpoint("bone_phantoms")
    study = examine(
        model,
        open_cases(
            write_phantoms(tmp_path / "set", 3, seed=71, size=192, workers=1, progress=False), model
        ),
        progress=False,
    )
    drops = causal_records(study, agreement_records(study), k=4, cache=False, progress=False)
    assert len(set(drops.image_id)) == 4 and set(drops.label) == {"Benign", "Malignant"}
    assert not (tmp_path / "runs").exists()


def kept(folder):
    "A file that is written again has another inode; one that is read has another time"
    return {p.name: p.stat().st_ino for p in folder.rglob("*") if p.is_file()}


def test_another_threshold_computes_no_map_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XRAY_EXPLAIN_CACHE", str(tmp_path / "cache"))
    data = write_phantoms(tmp_path / "set", 6, seed=600, size=192, workers=1, progress=False)
    seen, told = [], []
    for threshold in (0.5, 0.3):
        run_report("annotation", tmp_path / "out", data=str(data), threshold=threshold)
        seen.append(kept(tmp_path / "cache"))
        told.append(
            json.loads((tmp_path / "out" / "gradcam" / "annotation_report.json").read_text())
        )
    assert seen[0] and seen[0] == seen[1]
    overlap, hits = (
        [[case[name] for case in t["per_image"]] for t in told] for name in ("iou", "hit")
    )
    # the threshold was another, the maps were the same
    assert overlap[0] != overlap[1] and hits[0] == hits[1]
