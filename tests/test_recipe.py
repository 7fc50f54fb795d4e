"Every field of a recipe changes what a training gives, and no choice is the same as another."

import hashlib
import itertools
from dataclasses import dataclass, field, fields
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import xray_explain.model.training as training
from xray_explain.data.cases import Cases
from xray_explain.model.recipe import CHOICES, Recipe
from xray_explain.read.radiograph import Radiograph

CLASSES = ("Normal", "Benign", "Malignant")
LABELS = (0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2) + (0, 1, 2) * 2  # unequal for training
PLAIN = {"architecture": "test_efficientnet", "image_size": 64, "epochs": 2, "batch_size": 4}


@dataclass(frozen=True)
class Row:
    "Values of a field that must all give different trainings"

    values: tuple
    beside: dict = field(default_factory=dict)  # fields that it needs to matter
    worsening: bool = False  # the first epoch is the best on validation


WEIGHTS = "start.safetensors"
ROWS = {
    "architecture": Row(("test_efficientnet", "test_resnet", "fine.test_efficientnet")),
    "start": Row(("", WEIGHTS)),
    "freeze": Row((0, 1, 2), {"start": WEIGHTS}),
    "output_stride": Row((32, 16)),
    "pooling": Row(CHOICES["pooling"], {"architecture": "fine.test_efficientnet"}),
    "scales": Row(("", "0.5", "0.75,0.5"), {"architecture": "fine.test_efficientnet"}),
    "image_size": Row((64, 96)),
    "pose": Row(CHOICES["pose"]),
    "fit": Row(CHOICES["fit"]),
    "contrast": Row(CHOICES["contrast"]),
    "epochs": Row((1, 2, 3)),
    "batch_size": Row((3, 4)),
    "rate": Row((1e-3, 2e-3)),
    "head_rate": Row((1.0, 10.0)),
    "ema": Row((0.0, 0.5, 0.98)),
    "weight_decay": Row((0.0, 0.05)),
    "smoothing": Row((0.0, 0.05, 0.1)),
    "dropout": Row((0.0, 0.2)),
    "balance": Row(CHOICES["balance"]),
    "guidance": Row((0.0, 0.5, 1.0)),
    "form": Row(CHOICES["form"], {"guidance": 1.0}),
    "silence": Row((0.0, 0.5, 1.0)),
    "crops": Row((0.0, 0.5, 1.0)),
    "small_lesions": Row((1.0, 2.0, 4.0)),
    "precision": Row(CHOICES["precision"]),
    "keep": Row(CHOICES["keep"], worsening=True),
    "patience": Row((1, 2, 6), {"epochs": 4}, worsening=True),
    "seed": Row((0, 1)),
}


def film(number):
    "A picture of 40 x 60 with a bright box, and the box as its mask"
    rng = np.random.default_rng(number)
    pixels = 0.2 + 0.5 * rng.random((40, 60), dtype=np.float32)
    mask = np.zeros((40, 60), np.uint8)
    top, left = rng.integers(2, 20, 2)
    mask[top : top + 14, left : left + 20] = LABELS[number] > 0
    return pixels + 0.2 * mask, mask


def canvases(cases, preprocessing, progress=True):
    "As `load_canvases`, from memory"
    pictures, masks = [], []
    for number in cases.table.number:
        pixels, mask = film(number)
        canvas = preprocessing.canvas(Radiograph(pixels, "film", "PNG", None, {}))
        pictures.append(torch.from_numpy(np.round(255 * canvas).astype(np.uint8)))
        masks.append(torch.from_numpy(preprocessing.geometry(mask.shape).mask_to_canvas(mask)))
    labels = torch.tensor([LABELS[n] for n in cases.table.number])
    return torch.stack(pictures), torch.stack(masks), labels


def figures_that_worsen(losses, logits, labels):
    return {"val_loss": next(losses), "val_accuracy": 0.5, "val_auc": 0.5}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    "What a training gives: its weights, and how many epochs it took"
    home, known = tmp_path_factory.mktemp("recipes"), {}
    split = ["train"] * 12 + ["val"] * 6
    names = [CLASSES[c] for c in LABELS]
    table = pd.DataFrame({"number": range(18), "label": names, "split": split})
    table["image_id"] = table.number.astype(str)
    cases = Cases(table, CLASSES)
    patch = pytest.MonkeyPatch()
    patch.setattr(training, "load_canvases", canvases)
    patch.setattr(training, "draw_curve", lambda history, path: None)

    def give(worsening, **values):
        recipe = Recipe(**{**PLAIN, **values})
        if (recipe, worsening) in known:
            return known[recipe, worsening]
        out = home / str(len(known))
        with pytest.MonkeyPatch.context() as judge:
            if worsening:
                figures = partial(figures_that_worsen, itertools.count(1.0))
                judge.setattr(training, "validation_figures", figures)
            net = training.train(cases, out, recipe, device="cpu", progress=False).net
        digest = hashlib.sha256()
        for name, tensor in net.state_dict().items():
            digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
        known[recipe, worsening] = digest.hexdigest(), len(pd.read_csv(out / "log.csv"))
        return known[recipe, worsening]

    give(False, seed=9)
    (home / "0" / "model.safetensors").rename(home / WEIGHTS)
    with pytest.MonkeyPatch.context() as here:
        here.chdir(home)
        yield give
    patch.undo()


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe)])
def test_every_field_of_a_recipe_matters(outcome, name):
    assert name in ROWS, f"Recipe has a new field: say in ROWS which values of {name} must differ"
    row = ROWS[name]
    assert set(row.values) >= set(CHOICES.get(name, ())) and len(row.values) > 1
    given = {v: outcome(row.worsening, **row.beside, **{name: v}) for v in row.values}
    for one, two in itertools.combinations(row.values, 2):
        assert given[one] != given[two], f"{name} {one!r} and {two!r} give the same training"


def test_the_same_recipe_gives_the_same_training(outcome, tmp_path):
    assert set(ROWS) == {f.name for f in fields(Recipe)}
    assert outcome(False) == outcome(False, patience=7)  # not reached, so nothing may differ


LED = {
    "architecture": "fine.test_efficientnet",
    "guidance": 1.0,
    "form": "focal",
    "silence": 1.0,
    "crops": 0.5,
    "small_lesions": 4.0,
    "epochs": 3,
}


def test_a_training_with_crops_and_small_lesions_is_resumed_as_if_never_interrupted(
    outcome, tmp_path, monkeypatch
):
    split = ["train"] * 12 + ["val"] * 6
    table = pd.DataFrame({"number": range(18), "label": [CLASSES[c] for c in LABELS]})
    cases = Cases(table.assign(split=split, image_id=table.number.astype(str)), CLASSES)
    recipe = Recipe(**{**PLAIN, **LED})
    whole = training.train(cases, tmp_path / "whole", recipe, device="cpu", progress=False)
    epoch = training.train_epoch

    def once(trainer, *args, **options):
        if len(trainer.history) == 2:
            raise KeyboardInterrupt
        return epoch(trainer, *args, **options)

    monkeypatch.setattr(training, "train_epoch", once)
    with pytest.raises(KeyboardInterrupt):
        training.train(cases, tmp_path / "halves", recipe, device="cpu", progress=False)
    monkeypatch.setattr(training, "train_epoch", epoch)
    halves = training.train(cases, tmp_path / "halves", recipe, device="cpu", progress=False)
    for name, weights in whole.net.state_dict().items():
        assert torch.equal(weights, halves.net.state_dict()[name]), name
    logs = [(tmp_path / n / "log.csv").read_text() for n in ("whole", "halves")]
    assert logs[0] == logs[1] and "silence_loss" in logs[0]


def test_findings_are_led_and_cropped_by_their_own_outlines():
    "Three findings by their bits: a step with every option, and the losses worked out from its parts"
    recipe = Recipe(**{**PLAIN, **LED, "architecture": "test_efficientnet"})
    labels = torch.tensor([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 0]], dtype=torch.bool)
    masks = torch.zeros(4, 64, 64, dtype=torch.uint8)
    masks[0, 20:40, 8:20] = 1
    masks[1, 4:16, 30:60] = 2 + 4
    masks[3, 50:60, 50:60] = 1  # its second finding is not outlined, so a crop might not show it
    boxes = training.crop_boxes(masks, labels, None, torch.Generator().manual_seed(0))
    assert (boxes[:, 2] > 0).tolist() == [True, True, True, False]
    pictures = torch.randint(0, 256, (4, 64, 64), dtype=torch.uint8)
    trainer = training.Trainer(recipe, ("a", "b", "c"), torch.ones(2, 3), 4)
    layers = trainer.layers(masks, labels)
    assert layers.shape == (4, 3, 64, 64) and layers[1].sum((1, 2)).tolist() == [0, 360, 360]
    losses = trainer.step(pictures, masks, labels, torch.Generator().manual_seed(0))
    assert losses.shape == (3,) and (losses[1:] > 0).all()
