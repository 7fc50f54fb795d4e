"""Independent findings from a table to a trained model and its figures: two shapes, of which a picture has both, one or none.

A bright disc is a mass, a dark bar at the bottom an effusion. The table has a column of 1 and 0 for each, the outlines bear
their names in other capitals, and each pair of pictures is a group.
"""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from xray_explain.cli import main
from xray_explain.data.cases import read_cases
from xray_explain.measure.cache import cached_study
from xray_explain.measure.localization import agreement_records, alarm_figures, localization_figures
from xray_explain.measure.overlap import localize, summarize
from xray_explain.measure.reliance import reliance_records
from xray_explain.measure.study import NOT_CALLED, examine, open_cases
from xray_explain.model.batches import TrainingError, load_canvases
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.model.recipe import Recipe
from xray_explain.model.training import predict, train
from xray_explain.report.annotation import annotation_report
from xray_explain.report.faithfulness import faithfulness_report
from xray_explain.report.schema import annotation_schema

torch.set_num_threads(1)
SIDE, NAMES = 64, ("Mass", "Effusion")
RECIPE = Recipe(
    architecture="test_efficientnet",
    image_size=SIDE,
    epochs=12,
    batch_size=16,
    guidance=1.0,
    rate=2e-3,
)


def draw(rng, mass, effusion):
    "A picture and what is outlined in it, with the capitals of another hand"
    picture, (y, x) = rng.normal(90, 12, (SIDE, SIDE)), np.mgrid[:SIDE, :SIDE]
    shapes = []
    if mass:
        cx, cy, r = rng.uniform(14, 50), rng.uniform(10, 32), rng.uniform(6, 8)
        picture += 90 * (np.hypot(x - cx, y - cy) < r)
        shapes.append({"label": "mass", "shape_type": "circle", "points": [[cx, cy], [cx + r, cy]]})
    if effusion:
        left, top = float(rng.choice([3, 35])), SIDE - rng.uniform(10, 15)
        picture -= 70 * ((y > top) & (x >= left) & (x < left + 26))
        corners = [[left, top], [left + 26, float(SIDE)]]
        shapes.append({"label": "EFFUSION", "shape_type": "rectangle", "points": corners})
    return np.clip(picture, 0, 255).astype(np.uint8), shapes


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A folder with the data set `chest`"
    place, rng = tmp_path_factory.mktemp("findings"), np.random.default_rng(1)
    for name in ("images", "Annotations"):
        (place / "chest" / name).mkdir(parents=True)
    rows = []
    for n in range(200):
        shown = rng.random(2) < [0.4, 0.25]
        picture, shapes = draw(rng, *shown)
        if n == 0:  # somebody outlined a rib, too
            shapes.append({"label": "rib", "points": [[1, 1], [9, 1], [9, 9]]})
        Image.fromarray(picture).save(place / "chest" / "images" / f"p{n}.png")
        outlines = {"shapes": shapes, "imageHeight": SIDE, "imageWidth": SIDE}
        if shapes:
            path = place / "chest" / "Annotations" / f"p{n}.json"
            path.write_text(json.dumps(outlines))
        split = "test" if n // 2 % 3 == 2 else ""
        rows.append((f"p{n}.png", *shown.astype(int), f"g{n // 2}", split))
    table = pd.DataFrame(rows, columns=["image_id", *NAMES, "group", "split"])
    table.to_csv(place / "chest" / "dataset.csv", index=False)
    return place


@pytest.fixture(scope="module")
def cases(home):
    return read_cases(home / "chest", label="Mass,Effusion")


@pytest.fixture(scope="module")
def trained(home, cases):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the rib
        return train(cases, home / "run", RECIPE, device="cpu", progress=False)


@pytest.fixture(scope="module")
def study(home, trained):
    return examine(
        trained, open_cases(home / "chest", trained, label="Mass,Effusion"), progress=False
    )


def test_it_learns_both(home, trained, study):
    "On cases of groups that it never saw, and as scikit-learn counts"
    assert trained.activation == "sigmoid" and trained.class_names == NAMES
    assert len(study) == len(study.table) and set(study.table.split) == {"test"}
    assert roc_auc_score(study.truth, study.probs, average=None).min() > 0.93
    loaded = load_checkpoint(home / "run" / "model.safetensors")
    assert loaded.activation == "sigmoid" and "macro AUC" in loaded.worth
    assert {"val_exact_match", "val_finding_accuracy", "val_auc"} <= set(loaded.training)
    assert "val_accuracy" not in loaded.training and (home / "run" / "curve.png").exists()
    log = pd.read_csv(home / "run" / "log.csv")
    assert log.val_loss.min() == pytest.approx(loaded.training["val_loss"], rel=1e-4)
    assert log.val_loss.iloc[-1] < log.val_loss[0]


def test_the_loss_of_the_log_is_torchs(home, cases, trained):
    "Weighted as trained, by pos_weight and the weight of its absence"
    from xray_explain.model.batches import training_split
    from xray_explain.model.training import finding_weights

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit, held = training_split(cases, RECIPE.seed)
        pictures, _, labels = load_canvases(held, trained.preprocessing, progress=False)
    w = finding_weights(torch.from_numpy(fit.truth))
    each = torch.nn.BCEWithLogitsLoss(pos_weight=w[1] / w[0], reduction="none")
    logits = predict(trained.net, pictures, trained.preprocessing)
    expected = (each(logits, labels.float()) * w[0]).mean().item()
    assert trained.training["val_loss"] == pytest.approx(expected, rel=1e-4)
    assert not set(fit.table.group) & set(held.table.group)
    assert not {"test"} & set(held.table.split) and (held.truth.sum(0) > 0).all()


def test_a_finished_training_is_taken_up_and_classes_are_another(home, cases, trained):
    before = (home / "run" / "state.pt").stat().st_mtime_ns
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = train(cases, home / "run", RECIPE, device="cpu", progress=False)
    assert (home / "run" / "state.pt").stat().st_mtime_ns == before
    assert again.fingerprint == trained.fingerprint
    classes = read_cases(home / "chest", label="Mass:0=Effusion,1=Mass")
    with pytest.raises(TrainingError, match="another recipe .activation, classes"):
        train(classes, home / "run", RECIPE, progress=False)


def test_what_cannot_be_learned_is_refused(home, cases, tmp_path):
    shown = cases.table.label.where(cases.table.label != "no finding", "Mass")
    for labels, message in (
        (shown.str.replace("Effusion", "Mass"), "no case of Effusion is left to train on"),
        (
            shown.map(lambda t: t if "Mass" in t else f"Mass; {t}"),
            "every case to train on has Mass",
        ),
    ):
        wrong = cases.table.assign(label=labels)
        with pytest.raises(TrainingError, match=message):
            train(type(cases)(**{**vars(cases), "table": wrong}), tmp_path / "no", progress=False)


def test_each_outlined_finding_is_measured_with_its_own_map(home, study):
    records = agreement_records(study)
    truth = pd.DataFrame(study.truth, index=study.table.image_id, columns=NAMES)
    expected = [(i, c) for i in truth.index for c in NAMES if truth.loc[i, c]]
    own = records[records["map"] == "evidence"]
    assert list(zip(own.image_id, own.label)) == expected and set(own.shown_class) == {"true"}
    by_label = study.table.set_index("image_id")
    both = truth.index[truth.all(axis=1)][0]
    i = list(study.table.image_id).index(both)
    outlines = json.loads((home / "chest" / "Annotations" / f"{both[:-4]}.json").read_text())
    assert len(outlines["shapes"]) == 2
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    for c, name in enumerate(NAMES):  # the disc and the bar, drawn without this package
        (ax, ay), (bx, by) = next(
            s["points"] for s in outlines["shapes"] if s["label"].lower() == name.lower()
        )
        if name == "Mass":
            mask = np.hypot(x - ax, y - ay) < np.hypot(bx - ax, by - ay)
        else:
            mask = (x > ax) & (x < bx) & (y > ay) & (y < by)
        assert (study.outline(i, c) != mask).mean() < 0.01
        row = own[(own.image_id == both) & (own.label == name)].iloc[0]
        figures = localize(study.evidence[i, c] / 2, study.outline(i, c))
        assert row.iou == pytest.approx(figures["iou"]) and row.hit == figures["hit"]
        p = by_label.loc[both, f"p_{name}"]
        assert row.confidence == p and row.prediction == (name if p >= 0.5 else NOT_CALLED)
    found = summarize(records[records["map"].isin(["evidence", "gradcam"])])["evidence"]
    assert found["true_class"]["num_images"] == len(expected) and "predicted_class" not in found
    assert found["by_class"]["Mass"]["mean_iou"] == pytest.approx(
        own[own.label == "Mass"].iou.mean()
    )


def test_findings_of_one_case_are_resampled_together(study):
    "The groups are patients, not outlines: as many as the outlined cases have"
    records = agreement_records(study)
    whole = localization_figures(records, study.table, NAMES)[0]
    groups = set(study.table.group[study.annotated])
    assert whole["num_groups"] == len(groups) < whole["num_images"] == study.truth.sum()
    at_another = agreement_records(study, 0.3)
    i, shown = study.outlined[-1]
    c = shown["true"]
    expected = localize(study.centred[i, c], study.outline(i, c), 0.3)["iou"]
    last = at_another[at_another["map"] == "evidence"].iloc[-1]
    assert (last.image_id, last.label) == (study.table.image_id[i], NAMES[c])
    assert last.iou == pytest.approx(expected)


def test_outlines_that_are_of_no_finding_are_counted(home, cases, trained):
    with pytest.warns(
        UserWarning, match="1 outline with a label that is no finding, not used: rib"
    ):
        _, masks, _ = load_canvases(cases, trained.preprocessing, progress=False)
    assert set(masks.unique().tolist()) == {0, 1, 2}  # a disc never lies over a bar
    table = cases.table.assign(label="Effusion")  # the masses are outlined against the table
    denied = type(cases)(**{**vars(cases), "table": table[cases.truth.all(1)]})
    with pytest.warns(UserWarning, match="of a finding that the table does not give the picture"):
        _, masks, _ = load_canvases(denied, trained.preprocessing, progress=False)
    assert set(masks.unique().tolist()) == {0, 2}


def test_a_study_of_findings_is_kept_whole(home, trained, study, tmp_path, monkeypatch):
    monkeypatch.setenv("XRAY_EXPLAIN_CACHE", str(tmp_path))
    first, second = (cached_study(trained, study.cases, progress=False) for _ in range(2))
    assert second.masks.max() > 1
    assert (first.masks == second.masks).all() and (second.masks == study.masks).all()


def test_what_decisions_rest_on(study):
    "Each outlined finding's own logit falls when it is covered, not when as much is elsewhere"
    drops = reliance_records(study.checkpoint, study.cases, progress=False)
    assert len(drops) == len(study.outlined) and set(drops.label) == set(NAMES)
    for name, rows in drops.groupby("label"):
        assert rows.covered.median() > rows.elsewhere.median(), name


def test_reports_of_findings_fit_their_schema(study):
    jsonschema = pytest.importorskip("jsonschema")
    report = annotation_report(study, agreement_records(study), resamples=50)
    plain = json.loads(json.dumps(report, default=lambda v: v.item()).replace("NaN", "null"))
    jsonschema.validate(plain, annotation_schema(findings=True))
    words = " ".join(report["sentences"])
    assert "outlined findings" in words and "true class" not in words and "Normal" not in words
    assert alarm_figures(study) is None
    trust, _ = faithfulness_report(
        study, cases=6, method_cases=2, slow_cases=1, resamples=50, progress=False
    )
    assert trust["explained"] == "the likeliest finding"


def test_commands_take_findings(home, trained, tmp_path, capsys):
    data, model = str(home / "chest"), str(home / "run" / "model.safetensors")
    label, calm = ["--label", "Mass,Effusion"], str(tmp_path / "calm.safetensors")
    options = [*label, "--checkpoint", model, "--split", "all", "--output", calm]
    assert main(["calibrate", data, *options]) == 0
    assert "outlined findings" in capsys.readouterr().out
    hot = load_checkpoint(calm).localization
    assert hot["num_images"] == read_cases(data, label="Mass,Effusion").truth.sum()
    assert main(["evaluate", data, *label, "--checkpoint", calm]) == 0
    said = capsys.readouterr().out
    assert "each finding with its own map" in said and "every finding right in" in said
    assert main(["split", data, *label, "--output", str(tmp_path / "split.csv")]) == 0
    assert "no finding" in capsys.readouterr().out
    plan = pd.read_csv(tmp_path / "split.csv")
    assert plan.groupby("group").split.nunique().max() == 1
