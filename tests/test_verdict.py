"What is said of a picture is said in the same words everywhere, with what it is worth before it"

import csv
import json

import cv2
import numpy as np
import pytest

from xray_explain.cli import main
from xray_explain.data.phantom import make_phantom
from xray_explain.infer.folder import Options, drawing_of
from xray_explain.infer.inference import infer_image, infer_radiographs
from xray_explain.infer.network import Network
from xray_explain.infer.verdict import UNLIKE_TRAINING, verdict_on
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.report.gallery import explanation_figure
from xray_explain.view.look import Look, exact_maps
from xray_explain.view.words import shown_words, summary

FAMILIAR, STRANGE = "familiar.png", "strange.png"
LENDS_WEIGHT = ("calibrated", "operating point")


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "A phantom, and noise"
    folder = tmp_path_factory.mktemp("films")
    pictures = {
        FAMILIAR: make_phantom(5, "Malignant", 320).image,
        STRANGE: np.random.default_rng(0).random((320, 240)),
    }
    for name, picture in pictures.items():
        cv2.imwrite(str(folder / name), np.rint(255 * picture).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def model():
    return load_checkpoint("bone_phantoms")


@pytest.fixture(scope="module")
def results(films, tmp_path_factory):
    "Records of a folder's run, by name, and its table's rows"
    out = tmp_path_factory.mktemp("out")
    assert (
        main(
            [
                "infer",
                "--input-dir",
                str(films),
                "--checkpoint",
                "bone_phantoms",
                "--output-dir",
                str(out),
            ]
        )
        == 0
    )
    records = json.loads((out / "batch_results.json").read_text(encoding="utf-8"))
    with open(out / "batch_results.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    return {r["image_name"]: (r, row) for r, row in zip(records, rows, strict=True)}


def test_one_is_flagged_and_one_is_not(results):
    assert {name: record["unlike_training"] for name, (record, _) in results.items()} == {
        FAMILIAR: False,
        STRANGE: True,
    }


@pytest.mark.parametrize("name", [FAMILIAR, STRANGE])
def test_the_same_words_everywhere(name, films, model, results, tmp_path, capsys):
    inference = infer_image(model, films / name)
    verdict = inference.verdict
    record, row = results[name]
    assert verdict_on(model, record).lines == verdict.lines
    assert record["worth"] == row["worth"] == verdict.worth == model.worth
    assert record["caution"] == row["caution"] == verdict.flag
    output = Network(model)(model.preprocessing.canvas(inference.radiograph)[None])[0]
    assert drawing_of(model, output, record, Options()).caption == verdict.caption
    parts = (verdict.warning, verdict.worth, verdict.text, verdict.confidence_words)
    seen = json.dumps(summary(inference))
    assert all(part in seen for part in (*parts, *verdict.points, *verdict.notes))
    assert shown_words(inference, exact_maps(inference), Look()).startswith(verdict.caption)
    figure = explanation_figure(inference)
    words = [text.get_text() for text in figure.findobj(lambda a: hasattr(a, "get_text"))]
    assert any(verdict.text in line and verdict.worth_short in line for line in words)
    capsys.readouterr()
    assert (
        main(
            [
                "infer",
                "--image",
                str(films / name),
                "--checkpoint",
                "bone_phantoms",
                "--output-dir",
                str(tmp_path),
            ]
        )
        == 0
    )
    said = capsys.readouterr().out.partition(f"{name}\n")[2]
    places = [said.index(line) for line in verdict.lines]
    assert places == sorted(places)


@pytest.mark.parametrize("name", [FAMILIAR, STRANGE])
def test_worth_comes_before_the_verdict(name, films, model):
    verdict = infer_image(model, films / name).verdict
    for words, worth in (
        (str(verdict), verdict.worth),
        (verdict.caption, verdict.worth_short),
        ("\n".join(verdict.lines), verdict.worth),
    ):
        assert words.index(worth) < words.index(verdict.text)
    assert "means nothing on a patient's film" in verdict.worth
    assert "means nothing on a patient's film" in verdict.worth_short


def test_nothing_lends_weight_to_a_picture_unlike_the_training(films, model, results):
    inference = infer_image(model, films / STRANGE)
    verdict = inference.verdict
    assert verdict.lines[0].startswith(UNLIKE_TRAINING) and verdict.points == ()
    record, row = results[STRANGE]
    assert (record["calibrated"], record["above_operating_point"]) == (False, [])
    assert (row["calibrated"], row["above_operating_point"]) == ("False", "")
    for words in ("\n".join(verdict.lines), record["caution"], verdict.caption):
        assert not any(phrase in words for phrase in LENDS_WEIGHT)
    familiar = infer_image(model, films / FAMILIAR).verdict
    for phrase in LENDS_WEIGHT:
        assert any(phrase in line for line in familiar.lines)


def test_heat_of_a_picture_unlike_the_training_is_faint(films, model):
    "The same picture and evidence, once flagged and once not"
    film = infer_image(model, films / FAMILIAR).radiograph
    flagged, plain = infer_radiographs(model, [film, film])
    object.__setattr__(flagged, "ood_score", 1.5)
    object.__setattr__(plain, "ood_score", 0.5)
    heat = [np.ptp(i.overlay().astype(int), axis=2).max() for i in (flagged, plain)]
    assert heat[0] < heat[1] / 2
