"What an overlay shows of fine maps: cells, separate regions with their share, colours in which the smallest lesion is seen."

import csv
import json
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from skimage.measure import label as labelled
from skimage.measure import regionprops

from xray_explain.evidence.heatmap import display_scale, heatmap_of, validated_threshold
from xray_explain.evidence.regions import regions_of
from xray_explain.infer.folder import Options, run
from xray_explain.infer.inference import infer_image, picture_folder
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.read.geometry import Geometry
from xray_explain.read.sources import from_folder

FRACTURE, HEALTHY = "IMG0004008.jpg", "IMG0003420.jpg"


@pytest.fixture(scope="module")
def fractures():
    return load_checkpoint("fractures")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "Two of FracAtlas's films, one with a fracture"
    folder, shipped = tmp_path_factory.mktemp("films"), picture_folder("fractures")
    for name in (FRACTURE, HEALTHY):
        shutil.copy(next(shipped.rglob(name)), folder / name)
    return folder


def test_regions_are_those_of_scikit_image():
    "Number, cells, extent and sums on random maps, by its labels and SciPy's sums"
    rng = np.random.default_rng(3)
    counts = set()
    for h, w, threshold in ((32, 32, 0.25), (64, 48, 0.4), (9, 5, 0.1), (20, 20, 3.0)):
        local = cv2.GaussianBlur(rng.normal(size=(h, w)).astype(np.float32), (0, 0), 1.2)
        regions = regions_of(local, threshold, Geometry((10 * h, 10 * w), (h, w)))
        labels = labelled(local >= threshold, connectivity=2)
        total, numbers = local[local > 0].sum(), range(1, labels.max() + 1)
        shares = ndimage.sum_labels(local, labels, numbers) / total
        assert np.allclose([r.share for r in regions], np.sort(shares)[::-1], atol=1e-5)
        props = regionprops(labels)
        theirs = {(p.area, *np.array(p.bbox)[[1, 0, 3, 2]] * 10) for p in props}
        assert {(r.cells, *r.box) for r in regions} == theirs
        counts.add(len(regions))
    assert 0 in counts and max(counts) > 5


@pytest.mark.parametrize("name", ["fractures", "bone_tumours", "bone_phantoms"])
def test_the_threshold_lies_within_the_colours_of_every_shipped_model(name):
    "At a half or below, and no lower than a quarter: neither saturated nor unseen"
    checkpoint = load_checkpoint(name)
    share = validated_threshold(checkpoint) / display_scale(checkpoint)
    assert 0.25 <= share <= 0.5


def test_a_fracture_does_not_drown_in_full_colour(fractures, films):
    "With full colour at the fitted scale one pixel in 50 of the film would look like the hottest"
    inference = infer_image(fractures, films / FRACTURE)
    shape, maps = inference.radiograph.shape, inference.centred
    fitted = replace(fractures, localization={})
    full, before = (
        (heatmap_of(c, maps, "Fractured", shape) > 0.99).mean() for c in (fractures, fitted)
    )
    assert full < 0.005 < 0.02 < before, (before, full)


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
def test_records_and_overlays_list_the_regions(fractures, films, tmp_path, interpolation):
    sources, count = from_folder(films)
    options = Options(2, interpolation=interpolation)
    run(fractures, sources, count, tmp_path, options, progress=False)
    records = {
        r["image_name"]: r for r in json.loads((tmp_path / "batch_results.json").read_text())
    }
    rows = {r["image_name"]: r for r in csv.DictReader(open(tmp_path / "batch_results.csv"))}
    regions = records[FRACTURE]["regions"]
    inference = infer_image(fractures, films / FRACTURE)
    local = inference.centred[1] * inference.centred[1].size
    hot = local[local >= validated_threshold(fractures)]
    share = sum(region["share"] for region in regions)
    assert share == pytest.approx(hot.sum() / local[local > 0].sum(), abs=1e-5)
    assert sum(region["cells"] for region in regions) == len(hot)
    hottest = max(regions, key=lambda region: region["peak"])
    assert hottest["peak"] == pytest.approx(hot.max(), rel=1e-5)
    left, top, right, bottom = hottest["box"]
    x, y = records[FRACTURE]["peak_xy"]
    assert left <= x < right and top <= y < bottom
    assert rows[FRACTURE]["regions"] == str(len(regions))
    assert float(rows[FRACTURE]["regions_share"]) == pytest.approx(share, abs=1e-5)
    # `Normal` has no threshold, so nothing is counted, which is not the same as none
    assert records[HEALTHY]["regions"] is None and rows[HEALTHY]["regions"] == ""
    overlay = tmp_path / records[FRACTURE]["overlay"]
    words = Image.open(overlay).info["Description"]
    line = f"white line at the {validated_threshold(fractures):.3g}"
    for part in (line, "in region 1", "Model fractures", "operating point"):
        assert part in words, (part, words)
    assert "region" not in Image.open(tmp_path / records[HEALTHY]["overlay"]).info["Description"]
    assert np.array_equal(
        np.asarray(Image.open(overlay)), inference.overlay(interpolation=interpolation)
    )
    assert not np.array_equal(inference.overlay(), inference.overlay(interpolation="nearest"))
