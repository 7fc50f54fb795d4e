"Phantoms: nothing but the lesion gives the class away, and the pictures resemble real radiographs"

import json
import warnings

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import distance_transform_cdt
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from xray_explain.data.anatomy import draw_scene, project
from xray_explain.data.cases import BTXRD_CLASSES, read_cases
from xray_explain.data.lesions import AREA_RANGE, draw_site
from xray_explain.data.phantom import add_lesion, make_phantom, write_phantoms
from xray_explain.read.outlines.annotation import read_annotation
from xray_explain.read.radiograph import find_radiographs, read_radiograph

LESIONS = BTXRD_CLASSES[1:]
full_size = lambda *values: pytest.param(*values, marks=pytest.mark.slow)


# The leak test

GRID = slice(8, 121, 8)  # centres of 15 x 15 places on a canvas of 128 pixels


def canvas(picture):
    return cv2.resize(np.asarray(picture, np.float32), (128, 128), interpolation=cv2.INTER_AREA)


def at_places(values):
    return cv2.blur(values, (13, 13))[GRID, GRID].ravel()


def places(picture):
    "(225, 94) what each place looks like: detail at three scales, gradients, and the wider surroundings"
    finer, maps = canvas(picture), []
    for sigma in (1, 2, 4):
        coarser = cv2.GaussianBlur(canvas(picture), (0, 0), sigma)
        detail, finer = finer - coarser, coarser
        maps += [detail, np.abs(detail), np.maximum(detail, 0) ** 2]
    smooth = cv2.GaussianBlur(canvas(picture), (0, 0), 1)
    maps += [
        np.abs(cv2.Sobel(smooth, cv2.CV_32F, 1, 0)),
        np.abs(cv2.Sobel(smooth, cv2.CV_32F, 0, 1)),
    ]
    small = np.pad(cv2.resize(smooth, (32, 32), interpolation=cv2.INTER_AREA), 4, mode="edge")
    around = sliding_window_view(small, (9, 9))[2:31:2, 2:31:2].reshape(225, 81)
    brightness = around.mean(1, keepdims=True)
    local, spread = np.array([at_places(m) for m in maps]).T, np.ptp(around, axis=1, keepdims=True)
    return np.hstack([local, brightness, spread, around - brightness])


class LesionFinder:
    "Trees that tell places in lesions from places in Normal; a picture scores as its four likeliest do"

    def fit(self, normal, lesions, masks):
        inside = np.concatenate([p[at_places(canvas(m)) > 0.35] for p, m in zip(lesions, masks)])
        rng = np.random.default_rng(0)
        outside = np.concatenate([p[rng.choice(225, 25, replace=False)] for p in normal])
        self.trees = HistGradientBoostingClassifier(max_iter=100, max_leaf_nodes=15, random_state=0)
        self.trees.fit(np.vstack([inside, outside]), np.repeat([1, 0], [len(inside), len(outside)]))
        return self

    def score(self, pictures):
        found = self.trees.decision_function(np.vstack(pictures)).reshape(len(pictures), 225)
        return np.sort(found, axis=1)[:, -4:].mean(1)


def auc(negative, positive):
    truth = np.repeat([0, 1], [len(negative), len(positive)])
    return roc_auc_score(truth, np.concatenate([negative, positive]))


@pytest.mark.parametrize("n_train, n_test", [(120, 150), full_size(400, 1500)])
def test_only_the_lesion_tells_the_class(n_train, n_test):
    "Trained on lesions against Normal, scenes disjoint: useful on lesions, at chance on their twins"
    scene = iter(range(70_000, 10**6))
    normal = lambda n: [places(make_phantom(next(scene), "Normal", 128).image) for _ in range(n)]
    ill = lambda n: [make_phantom(next(scene), LESIONS[i % 2], 128) for i in range(n)]
    learned = ill(n_train)
    masks = [ph.mask for ph in learned]
    finder = LesionFinder().fit(normal(n_train), [places(ph.image) for ph in learned], masks)
    healthy, held_back = finder.score(normal(n_test)), ill(n_test)
    on_lesions = auc(healthy, finder.score([places(ph.image) for ph in held_back]))
    on_twins = auc(healthy, finder.score([places(ph.twin) for ph in held_back]))
    error = ((2 * n_test + 1) / (12 * n_test**2)) ** 0.5  # standard error of an AUC at chance
    print(
        f"AUC on lesions {on_lesions:.3f}, on their twins {on_twins:.3f}, standard error {error:.3f}"
    )
    assert on_lesions > 0.65
    assert abs(on_twins - 0.5) < max(0.05, 3 * error)


# Likeness to real radiographs


def spectrum_slope(picture):
    "Slope of log power over log frequency, 0.02 to 0.35 cycles per pixel, Hann window"
    h, w = picture.shape
    windowed = (picture - picture.mean()) * np.hanning(h)[:, None] * np.hanning(w)
    power = np.abs(np.fft.fft2(windowed)).ravel() ** 2
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.fftfreq(w)).ravel()
    edges = np.geomspace(0.02, 0.35, 15)
    ring = np.digitize(frequency, edges)
    mean = [power[ring == i].mean() for i in range(1, 15)]
    return np.polyfit(np.log(edges[1:] * edges[:-1]) / 2, np.log(mean), 1)[0]


def measures(picture):
    percentiles = {f"{p} %": np.percentile(picture, p) for p in (5, 25, 50, 75, 95)}
    return {
        "mean": picture.mean(),
        "deviation": picture.std(),
        "dark": (picture < 0.1).mean(),
        **percentiles,
        "slope": spectrum_slope(picture),
    }


@pytest.fixture(scope="module")
def real(shared):
    "Measures of the real radiographs at the phantoms' size, 512 pixels on the longer side"
    rows = []
    for path in find_radiographs(shared / "radiographs/whole/images"):
        pixels = read_radiograph(path).pixels
        zoom = 512 / max(pixels.shape)
        way = cv2.INTER_AREA if zoom < 1 else cv2.INTER_LINEAR
        row = measures(cv2.resize(pixels, None, fx=zoom, fy=zoom, interpolation=way))
        if zoom > 1:
            row["slope"] = np.nan  # enlarging adds no fine detail
        rows.append(row)
    assert len(rows) == 59
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def imitated():
    "Measures of phantoms"
    return pd.DataFrame(
        [measures(make_phantom(900 + i, BTXRD_CLASSES[i % 3]).image) for i in range(150)]
    )


@pytest.mark.parametrize(
    "measure", ["mean", "deviation", "dark", "slope", "5 %", "25 %", "50 %", "75 %", "95 %"]
)
def test_histogram_and_spectrum_are_those_of_radiographs(real, imitated, measure):
    "At least nine of ten phantoms lie between the least and the greatest of the real radiographs"
    low, high = real[measure].min(), real[measure].max()
    within = imitated[measure].between(low, high).mean()
    print(
        f"{measure}: real {low:.3f} to {high:.3f}, phantoms {imitated[measure].min():.3f} to "
        f"{imitated[measure].max():.3f}, within {within:.0%}"
    )
    assert within >= 0.9


# Twins


@pytest.mark.parametrize("label", LESIONS)
@pytest.mark.parametrize("seed", [700, 704])
def test_twins_are_one_picture_beyond_the_reach_of_scatter(seed, label):
    "48 rows or columns from where the lesion changes the attenuation only a float's last digit differs"
    scene = draw_scene(seed)
    _, change = add_lesion(scene, project(scene), label)
    phantom = make_phantom(seed, label)
    untouched = distance_transform_cdt(change == 0, "chessboard") > 48
    apart = np.abs(phantom.image - phantom.twin)
    assert untouched.mean() > 0.2
    assert apart[untouched].max() == 0
    assert apart[~untouched].max() > 0.02
    assert np.array_equal(phantom.twin, make_phantom(seed, "Normal").image)


# Every seed and size


@pytest.mark.parametrize(
    "seeds, size", [(range(40), 128), (range(3), 96), (range(1), 1024), full_size(range(500), 128)]
)
def test_every_seed_gives_a_lesion(seeds, size):
    "No warning, no empty outline; hardly an outline that is half or twice the area drawn"
    ratios = []
    for seed in seeds:
        for label in LESIONS:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                phantom = make_phantom(seed, label, size)
            assert phantom.mask.any() and max(phantom.image.shape) == size
            assert phantom.image.min() >= 0 and phantom.image.max() <= 1
            assert phantom.facts["area"] < 1.5 * AREA_RANGE[1]
            ratios.append(phantom.facts["area"] / draw_site(draw_scene(seed, size), label)[1])
    assert np.mean([not 0.5 <= r <= 2 for r in ratios]) <= 0.01


# The data set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("set") / "phantoms"
    return write_phantoms(place, 3, seed=11, size=160, workers=1, progress=False)


def test_table_is_btxrd_s(folder):
    columns = """image_id,center,age,gender,hand,ulna,radius,humerus,foot,tibia,fibula,femur,hip bone,
    ankle-joint,knee-joint,hip-joint,wrist-joint,elbow-joint,shoulder-joint,tumor,benign,malignant,
    osteochondroma,multiple osteochondromas,simple bone cyst,giant cell tumor,osteofibroma,
    synovial osteochondroma,other bt,osteosarcoma,other mt,upper limb,lower limb,pelvis,frontal,lateral,
    oblique"""
    table = pd.read_csv(folder / "dataset.csv")
    assert list(table) == [name.strip() for name in columns.split(",")] and table.shape == (9, 37)
    assert (table.tumor == table.benign + table.malignant).all()
    assert (table.loc[:, "osteochondroma":"other mt"].sum(axis=1) == table.tumor).all()


def test_data_set_is_read_without_problems(folder):
    cases = read_cases(folder)
    assert cases.problems == () and list(cases.table.label) == list(BTXRD_CLASSES) * 3
    for case, fact in zip(
        cases.table.itertuples(), pd.read_csv(folder / "phantoms.csv").itertuples()
    ):
        phantom = make_phantom(fact.seed, case.label, 160)
        pixels = read_radiograph(case.image).pixels
        assert pixels.shape == phantom.image.shape and np.abs(pixels - phantom.image).mean() < 0.01
        assert (folder / "twins" / case.image_id).is_file()
        if case.annotation:
            assert np.array_equal(read_annotation(case.annotation).mask(), phantom.mask)
    assert tuple(cases.table.label[cases.table.annotation.notna()].unique()) == LESIONS


def test_each_lesion_is_outlined_twice(folder):
    for path in (folder / "Annotations").iterdir():
        shapes = json.loads(path.read_text())["shapes"]
        pairs = list(zip(shapes[::2], shapes[1::2]))
        assert len(shapes) == 2 * len(pairs) > 0
        for rectangle, polygon in pairs:
            assert (rectangle["shape_type"], polygon["shape_type"]) == ("rectangle", "polygon")
            assert rectangle["label"] == polygon["label"]
            points = np.array(polygon["points"])
            assert np.array_equal(rectangle["points"], [points.min(0), points.max(0)])


def test_same_request_same_files(folder, tmp_path):
    "Byte for byte, with one process or two"
    again = write_phantoms(tmp_path / "again", 3, seed=11, size=160, workers=2, progress=False)
    names = sorted(p.relative_to(folder) for p in folder.rglob("[!.]*.*"))
    assert (
        names == sorted(p.relative_to(again) for p in again.rglob("[!.]*.*")) and len(names) == 26
    )
    assert all((folder / name).read_bytes() == (again / name).read_bytes() for name in names)
