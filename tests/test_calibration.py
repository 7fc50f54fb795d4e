"Temperature, operating points and novelty against references, and the command on phantoms."

import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import chi2
from skimage import data as pictures_of
from sklearn.covariance import EmpiricalCovariance
from sklearn.datasets import load_sample_images
from sklearn.metrics import brier_score_loss, roc_auc_score

from xray_explain.data.phantom import make_phantom, write_phantoms
from xray_explain.infer.inference import infer_radiographs
from xray_explain.measure.study import examine, open_cases
from xray_explain.model.calibration import (
    brier_score,
    calibrate,
    calibration_error,
    fit_temperature,
    mean_nll,
    operating_point,
    reliability,
)
from xray_explain.model.checkpoint import is_half, load_checkpoint, save_checkpoint
from xray_explain.model.novelty import fit_novelty
from xray_explain.read.radiograph import Radiograph, read_radiograph
from xray_explain.shipped import MODELS
from xray_explain.wording import RESEARCH_USE

RNG = np.random.default_rng(21)


def known_logits(n, size=2.0):
    "Honest logits, and labels drawn from their probabilities"
    logits = RNG.normal(0, size, (n, 3))
    return logits, (softmax(logits, 1).cumsum(1) > RNG.random((n, 1))).argmax(1)


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_temperature_undoes_a_known_factor(factor):
    logits, labels = known_logits(5000)
    found = fit_temperature(factor * logits, labels)
    assert found == pytest.approx(factor, rel=0.06)
    # LBFGS of PyTorch on the same loss
    t = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([t], max_iter=60, line_search_fn="strong_wolfe")
    x, y = torch.tensor(factor * logits), torch.tensor(labels)

    def closure():
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(x / t.exp(), y)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert found == pytest.approx(t.exp().item(), rel=1e-3)
    assert mean_nll(factor * logits, labels, found) == pytest.approx(closure().item(), abs=1e-6)


def test_temperature_does_not_sharpen_without_a_mistake():
    assert fit_temperature(3 * np.eye(3)[[0, 1, 2]], np.array([0, 1, 2])) == pytest.approx(
        1, abs=1e-4
    )


def test_errors_against_loops():
    logits, labels = known_logits(500)
    probs = softmax(2 * logits, 1)
    sure, right = probs.max(1), probs.argmax(1) == labels
    loop = (
        sum(
            abs(sure[i].mean() - right[i].mean()) * i.sum()
            for b in range(15)
            if (i := (sure > b / 15) & (sure <= (b + 1) / 15)).any()
        )
        / 500
    )
    assert calibration_error(probs, labels) == pytest.approx(loop)
    equal = reliability(probs, labels, equal="cases")
    assert equal.cases.sum() == 500 and equal.cases.min() >= 32 and equal.cases.max() <= 35
    assert brier_score(probs, labels) == pytest.approx(
        sum(brier_score_loss(labels == c, probs[:, c]) for c in range(3))
    )
    certain = np.eye(3)[labels]
    assert calibration_error(certain, labels) == brier_score(certain, labels) == 0
    assert (
        calibration_error(certain, (labels + 1) % 3) == 1
        and brier_score(certain, (labels + 1) % 3) == 2
    )


def test_operating_point_is_the_highest_threshold_that_suffices():
    asked = RNG.random(300) < 0.4
    scores = np.round(np.clip(0.3 * asked + 0.7 * RNG.random(300), 0, 1), 2)  # with ties
    for rule in (0.8, 0.9, 0.95, 1.0):
        point = operating_point(asked, scores, rule)
        assert (scores[asked] >= point["threshold"]).mean() == pytest.approx(point["sensitivity"])
        assert point["sensitivity"] >= rule - 1e-9
        higher = min(s for s in scores if s > max(scores[scores >= point["threshold"]].min(), 0))
        assert (scores[asked] >= higher).mean() < rule
        assert (scores[~asked] < point["threshold"]).mean() == pytest.approx(point["specificity"])
    youden = operating_point(asked, scores, "youden")
    best = max(
        (scores[asked] >= t).mean() - (scores[~asked] >= t).mean() for t in np.unique(scores)
    )
    assert youden["sensitivity"] + youden["specificity"] - 1 == pytest.approx(best)


def test_distance_is_mahalanobis_where_all_axes_are_kept():
    mixed = torch.randn(400, 5, generator=torch.Generator().manual_seed(2)) @ torch.randn(
        5, 5, generator=torch.Generator().manual_seed(3)
    )
    theirs = np.sqrt(EmpiricalCovariance().fit(mixed.numpy()).mahalanobis(mixed.numpy()))
    ours = fit_novelty(mixed, range(400), rank=2)  # half of the axes; the rest share a variance
    assert np.corrcoef(ours.distance(mixed), theirs)[0, 1] > 0.7
    from xray_explain.model.novelty import _describe

    assert _describe(mixed, 4).distance(mixed).numpy() == pytest.approx(theirs, rel=0.01)
    assert np.median(theirs) == pytest.approx(chi2(5).ppf(0.5) ** 0.5, rel=0.05)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    "The demo, calibrated on a few small phantoms"
    from xray_explain.model.batches import load_canvases

    model = load_checkpoint("bone_phantoms")
    home = tmp_path_factory.mktemp("calibration")
    cases = open_cases(
        write_phantoms(home / "val", 20, seed=42, size=256, workers=1, progress=False), model
    )
    pictures, _, labels = load_canvases(cases, model.preprocessing, False)
    return home, calibrate(model, pictures, labels.numpy(), cases.table.group)


def films(pixels):
    return [
        Radiograph(np.ascontiguousarray(p, np.float32), "film", "PNG", None, {}) for p in pixels
    ]


def scores(model, pixels):
    return np.array(
        [
            i.ood_score
            for n in range(0, len(pixels), 16)
            for i in infer_radiographs(model, films(pixels[n : n + 16]))
        ]
    )


def test_calibrated_checkpoint_survives_its_file(fitted):
    home, model = fitted
    save_checkpoint(home / "new.safetensors", model, half=is_half(MODELS["bone_phantoms"]))
    assert (home / "new.safetensors").stat().st_size < MODELS[
        "bone_phantoms"
    ].stat().st_size + 500_000
    again = load_checkpoint(home / "new.safetensors")
    film = make_phantom(5, "Malignant", 256).image
    one, two = (infer_radiographs(m, films([film]))[0] for m in (model, again))
    assert two.ood_score == pytest.approx(one.ood_score, rel=1e-4) and two.probs == pytest.approx(
        one.probs, abs=1e-4
    )
    assert two.record["calibrated"] and len(two.verdict.points) == 2
    noise = infer_radiographs(again, films([np.random.default_rng(0).random((200, 200))]))[0]
    for one in (two, noise):
        assert one.record["unlike_training"] is (one.ood_score > 1)
    assert noise.record["unlike_training"] and not two.record["unlike_training"]


def test_far_pictures_are_flagged_and_phantoms_are_not(fitted):
    _, model = fitted
    familiar = scores(model, [make_phantom(43_000_00 + i, "Benign", 256).image for i in range(12)])
    noise = scores(model, [RNG.random((200, 200)) for _ in range(4)])
    photograph = scores(
        model,
        [
            cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) / 255
            for p in (pictures_of.astronaut(), *load_sample_images().images)
        ],
    )
    assert (familiar <= 1).mean() >= 0.75 and familiar.max() < min(noise.min(), photograph.min())
    assert (noise > 1).all() and (photograph > 1).all()


def test_old_checkpoints_keep_working():
    model = replace(
        load_checkpoint("bone_phantoms"), novelty=None, calibration={}, operating_points={}
    )
    one = infer_radiographs(model, films([make_phantom(5, "Normal", 256).image]))[0]
    assert (
        one.ood_score is None
        and one.record["unlike_training"] is None
        and not one.record["calibrated"]
    )
    assert one.verdict.confidence_words == "not calibrated" and one.verdict.points == ()


def test_the_command_writes_a_checkpoint(tmp_path):
    data = write_phantoms(tmp_path / "set", 16, seed=44, size=160, workers=1, progress=False)
    table = (data / "dataset.csv").read_text().splitlines()
    marked = [table[0] + ",split"] + [
        line + (",val" if n % 8 else ",train") for n, line in enumerate(table[1:])
    ]
    (data / "dataset.csv").write_text("\n".join(marked) + "\n")
    code = "import sys; from xray_explain.cli import main; sys.exit(main())"
    run = lambda *argv: subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)], capture_output=True, text=True
    )
    done = run(
        "calibrate",
        data,
        "--checkpoint",
        "bone_phantoms",
        "--output",
        tmp_path / "new.safetensors",
        "--rule",
        0.9,
    )
    assert done.returncode == 0, done.stderr
    assert "42 validation cases" in done.stdout and "temperature" in done.stdout
    told = load_checkpoint(tmp_path / "new.safetensors")
    assert told.operating_points["Malignant"][
        "rule"
    ] == "sensitivity 0.9, held down to 0.333" and is_half(tmp_path / "new.safetensors")
    wrong = run("calibrate", data, "--output", tmp_path / "no.safetensors", "--split", "test")
    assert (
        wrong.returncode == 1
        and "no cases in split 'test'" in wrong.stderr
        and not (tmp_path / "no.safetensors").exists()
    )
    card = run(
        "card", "--checkpoint", tmp_path / "new.safetensors", "--output", tmp_path / "CARD.md"
    )
    assert card.returncode == 0 and RESEARCH_USE in (tmp_path / "CARD.md").read_text()


def corrupted(pixels, kind, rng):
    "A film as it should not be"
    if kind == "wrong polarity":
        return 1 - pixels
    if kind == "quarter turn":
        return np.rot90(pixels, rng.choice([1, 3]))
    h, w = (int(n * rng.uniform(0.2, 0.4)) for n in pixels.shape)
    y, x = rng.integers(0, pixels.shape[0] - h), rng.integers(0, pixels.shape[1] - w)
    return pixels[y : y + h, x : x + w]


@pytest.mark.slow
def test_novelty_and_calibration_of_the_demo_at_full_size(shared, tmp_path):
    model = load_checkpoint("bone_phantoms")
    assert model.calibration, "the shipped checkpoint is calibrated: xray-explain calibrate"
    study = examine(
        model,
        open_cases(write_phantoms(tmp_path / "test", 100, seed=45, progress=False), model),
        progress=False,
    )
    assert calibration_error(study.probs, study.y_true) <= 0.03
    assert study.unlike_training.mean() <= 0.05
    familiar, rng = study.table.ood_score.to_numpy(), np.random.default_rng(46)
    pixels = [read_radiograph(p).pixels for p in study.table.image[:100]]
    auc = lambda s: roc_auc_score(
        np.r_[np.zeros(len(familiar)), np.ones(len(s))], np.r_[familiar, s]
    )
    for kind in ("wrong polarity", "quarter turn", "crop"):
        assert auc(scores(model, [corrupted(p, kind, rng) for p in pixels])) >= 0.85, kind
    hip = read_radiograph(shared / "radiographs" / "dicom" / "RG2_RLE.dcm").pixels
    assert (familiar < scores(model, [hip])[0]).mean() >= 0.85
    photographs = [
        cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) / 255
        for p in (
            pictures_of.astronaut(),
            pictures_of.cat(),
            pictures_of.coffee(),
            *load_sample_images().images,
        )
    ]
    assert auc(scores(model, photographs)) >= 0.98
    assert auc(scores(model, [rng.random((300, 300)) for _ in range(10)])) >= 0.98
