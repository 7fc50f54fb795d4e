"""Independent findings from file to report, and networks that end in an activation.

Eighteen findings of which a film has several or none: every figure is compared with PyTorch's sigmoid, pytorch-grad-cam
or scikit-learn on the same numbers.
"""

import copy
import json

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from scipy.special import expit
from sklearn.metrics import accuracy_score, recall_score, roc_auc_score
from torch import nn

from xray_explain.cli import main
from xray_explain.data.phantom import write_phantoms
from xray_explain.evidence.cam import explain, generate_gradcam
from xray_explain.evidence.head import Ending, PooledLinear, find_ending, find_head
from xray_explain.infer.inference import infer_radiographs
from xray_explain.measure.localization import agreement_records
from xray_explain.measure.study import examine, open_cases
from xray_explain.model.checkpoint import (
    Checkpoint,
    build_net,
    load_checkpoint,
    save_checkpoint,
)
from xray_explain.model.weights import CheckpointError
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.radiograph import Radiograph
from xray_explain.view.messages import screen_message, setup_message
from xray_explain.view.session import Session

torch.set_num_threads(1)

NAMES = (
    *("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema"),
    *("Fibrosis", "Hernia", "Infiltration", "Mass", "Nodule", "Pleural_Thickening"),
    *("Pneumonia", "Pneumothorax", "Fracture", "Lung Lesion", "Lung Opacity", "Enlarged Heart"),
)
SIDE = 96


def lively(num_classes):
    "A small network whose logits differ between pictures and lie on both sides of 0"
    torch.manual_seed(0)
    net = build_net("test_efficientnet", num_classes).eval().requires_grad_(False)
    nn.init.normal_(net.classifier.weight, std=60)
    noise = torch.randn(8, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    net.classifier.bias -= net(noise).mean(0)
    return net


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "A checkpoint of eighteen findings, and a data set whose labels name several"
    place = tmp_path_factory.mktemp("chest")
    write_phantoms(place / "set", per_class=8, seed=3, size=120, workers=1, progress=False)
    for name in ("phantoms.csv", "dataset.xlsx"):
        (place / "set" / name).unlink(missing_ok=True)
    pictures = sorted(p.name for p in (place / "set" / "images").iterdir())
    shown = np.random.default_rng(0).random((len(pictures), 18)) < 0.25
    labels = ["|".join(np.array(NAMES)[row]) or "No Finding" for row in shown]
    labels[0] = "No Finding"
    table = pd.DataFrame({"image_id": pictures, "label": labels})
    table.to_csv(place / "set" / "dataset.csv", index=False)
    checkpoint = Checkpoint(
        lively(18),
        "test_efficientnet",
        NAMES,
        Preprocessing((SIDE, SIDE)),
        temperature=2.0,
        activation="sigmoid",
        operating_points={"Mass": {"threshold": 0.3, "rule": "sensitivity 0.95"}},
    )
    save_checkpoint(place / "chest.safetensors", checkpoint)
    return place


@pytest.fixture(scope="module")
def checkpoint(home):
    return load_checkpoint(home / "chest.safetensors")


@pytest.fixture(scope="module")
def study(home, checkpoint):
    return examine(checkpoint, open_cases(home / "set", checkpoint), progress=False)


def film(seed=0):
    "A picture of one's own"
    pixels = np.random.default_rng(seed).random((140, 120), np.float32)
    return Radiograph(pixels, f"film{seed}.png", "PNG")


def test_probabilities_are_sigmoids_and_evidence_sums_to_logits(checkpoint):
    x = checkpoint.preprocessing.tensor(film())[None]
    answer, logits = explain(checkpoint, x), checkpoint.net(x)
    assert answer.activation == "sigmoid" and answer.exact
    torch.testing.assert_close(answer.probs, torch.sigmoid(logits / 2), atol=1e-5, rtol=0)
    assert abs(answer.probs.sum() - 1) > 1  # no softmax has touched them
    sums = answer.evidence.sum((2, 3)) + checkpoint.net.classifier.bias
    torch.testing.assert_close(sums, logits, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(answer.centred, answer.evidence / 2)


def test_maps_agree_with_pytorch_grad_cam(checkpoint):
    x = checkpoint.preprocessing.tensor(film(1))[None]
    library = copy.deepcopy(checkpoint.net).requires_grad_(True)
    for c in (0, 9, 17):
        with GradCAM(library, [library.bn2]) as cam:
            reference = cam(x.clone(), [ClassifierOutputTarget(c)])[0]
        assert np.abs(generate_gradcam(checkpoint, x, c) - reference).max() < 1e-4


def test_a_finding_is_shown_as_a_single_logit_would_be(checkpoint):
    "Two readings of the same question have the same colours"
    x = checkpoint.preprocessing.tensor(film(2))[None]
    many = explain(checkpoint, x)
    for c in (3, 9):
        alone = copy.deepcopy(checkpoint.net)
        alone.classifier = nn.Linear(alone.classifier.in_features, 1).requires_grad_(False)
        alone.classifier.weight[:] = checkpoint.net.classifier.weight[c]
        alone.classifier.bias[:] = checkpoint.net.classifier.bias[c]
        one = explain(alone, x)
        torch.testing.assert_close(many.centred[:, c], one.centred[:, 1], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(many.logits[:, c] / 2, one.logits[:, 1], atol=1e-4, rtol=1e-4)


def test_the_study_agrees_with_scikit_learn(home, study, tmp_path, capsys):
    table = pd.read_csv(home / "set" / "dataset.csv").set_index("image_id").label
    truth = np.array(
        [[name in table[i].split("|") for name in NAMES] for i in study.table.image_id]
    )
    probs, called = expit(study.logits / 2), None
    called = probs >= np.where(np.array(NAMES) == "Mass", 0.3, 0.5)
    np.testing.assert_allclose(study.probs, probs, atol=1e-6)
    assert (study.truth == truth).all() and (study.called == called).all()
    assert called.sum(1).max() > 1 and (~truth.any(1)).any()
    arguments = ["evaluate", str(home / "set"), "--checkpoint", str(home / "chest.safetensors")]
    assert main([*arguments, "--output", str(tmp_path / "figures.json")]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["macro_auc"] == pytest.approx(roc_auc_score(truth, probs), abs=1e-5)
    assert figures["exact_match"] == pytest.approx(accuracy_score(truth, called), abs=1e-5)
    recalls = recall_score(truth, called, average=None)
    assert list(figures["sensitivity"].values()) == pytest.approx(recalls, abs=1e-5)
    said = capsys.readouterr().out
    assert "every finding right in " in said and "  Mass: " in said and "accuracy 0" not in said


def test_records_name_what_is_called(home, checkpoint, study, tmp_path, capsys):
    images, file = home / "set" / "images", str(home / "chest.safetensors")
    arguments = ["--checkpoint", file, "--output-dir", str(tmp_path)]
    folder = ["infer", "--input-dir", str(images), "--workers", "0", *arguments]
    assert main(folder) == 0
    records = json.loads((tmp_path / "batch_results.json").read_text())
    rows = study.table.set_index("image_id")
    for record in records:
        scores, row = record["scores"], rows.loc[record["image_name"]]
        called = {c for c, p in scores.items() if p >= (0.3 if c == "Mass" else 0.5)}
        assert set(record["findings"]) == called
        assert (
            record["prediction"]
            == row.prediction
            == ("; ".join(record["findings"]) or "no finding")
        )
        assert record["shown"] == max(scores, key=scores.get)
        assert record["confidence"] == max(scores.values())
        assert scores == pytest.approx({c: row[f"p_{c}"] for c in NAMES}, abs=2e-5)
    assert any(len(r["findings"]) > 1 for r in records)
    csv = pd.read_csv(tmp_path / "batch_results.csv")
    assert list(csv.prediction) == [r["prediction"] for r in records]
    capsys.readouterr()
    assert main(["infer", "--image", str(images / records[0]["image_name"]), *arguments]) == 0
    said = capsys.readouterr().out
    assert all(f"  {name} " in said for name in NAMES)
    assert f"evidence for {records[0]['shown']}" in said and "confidence 0" not in said


def test_no_finding_is_said_and_the_likeliest_is_shown(checkpoint):
    healthy = copy.copy(checkpoint)
    healthy.net = copy.deepcopy(checkpoint.net)
    healthy.net.classifier.bias -= 1000
    inference = infer_radiographs(healthy, [film()])[0]
    assert inference.prediction == "no finding" and inference.record["findings"] == []
    assert inference.verdict.text.startswith(
        f"no finding, likeliest {inference.record['shown']} < 0.001"
    )


def test_calibration_of_findings(home, tmp_path, capsys):
    out = tmp_path / "calm.safetensors"
    data, table = home / "set", pd.read_csv(home / "set" / "dataset.csv")
    twice = tmp_path / "set"
    (twice / "images").mkdir(parents=True)
    rows = []
    for n in range(2):  # forty cases are the least
        for image_id, label in table.itertuples(index=False):
            (twice / "images" / f"{n}{image_id}").write_bytes(
                (data / "images" / image_id).read_bytes()
            )
            rows.append((f"{n}{image_id}", label, image_id))
    pd.DataFrame(rows, columns=["image_id", "label", "group"]).to_csv(
        twice / "dataset.csv", index=False
    )
    file = str(home / "chest.safetensors")
    options = ["--checkpoint", file, "--split", "all", "--output", str(out)]
    assert main(["calibrate", str(twice), *options]) == 0
    calm = load_checkpoint(out)
    assert calm.activation == "sigmoid"
    assert calm.calibration["after"]["nll"] <= calm.calibration["before"]["nll"]
    study = examine(calm, open_cases(twice, calm), progress=False)
    target = torch.from_numpy(study.truth).double()
    loss = nn.functional.binary_cross_entropy_with_logits
    logits = torch.from_numpy(study.logits).double()
    expected = loss(logits / calm.temperature, target).item()
    assert calm.calibration["after"]["nll"] == pytest.approx(expected, rel=1e-3)
    assert (
        expected <= min(loss(logits / t, target).item() for t in np.geomspace(0.1, 20, 60)) + 1e-4
    )
    assert all(point["threshold"] <= 0.5 for point in calm.operating_points.values())


def test_what_needs_one_class_is_refused_by_name(study):
    "What can be said of each finding is measured so, see test_findings"
    for name in ("y_true", "y_pred"):
        with pytest.raises(ValueError, match="class needs one class for each picture"):
            getattr(study, name)
    assert agreement_records(study).empty  # no case has an outline


@pytest.mark.slow
def test_reports_of_findings(home, tmp_path, monkeypatch):
    from xray_explain.report.run import ReportError, run_report

    monkeypatch.setenv("XRAY_EXPLAIN_CACHE", str(tmp_path / "cache"))
    asked = {"data": str(home / "set"), "checkpoint": str(home / "chest.safetensors")}
    for name, few in (("evaluation", {}), ("gallery", {}), ("inference", {"max_images": 2})):
        page = run_report(name, tmp_path, **asked, **few)
        assert page.stat().st_size > 10_000
    assert len(list((tmp_path / "gradcam").glob("gallery_*.png"))) == 18
    report = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    assert report["activation"] == "sigmoid" and "accuracy" not in report
    with pytest.raises(
        ReportError, match="none of 16 outlines can be used .* a label that is no finding"
    ):
        run_report("annotation", tmp_path, **asked)


# a network that says 0.605 itself; a second softmax makes 0.429 of it
SAID = torch.tensor([0.605, 0.2, 0.195])


def fixed():
    "A timm network whose probabilities are SAID, whatever it sees"
    net = build_net("test_efficientnet", 3).eval().requires_grad_(False)
    net.classifier.weight.zero_()
    net.classifier.bias[:] = SAID.log()
    return net


class Ended(nn.Module):
    "A network with an activation, as a part of its own or as a function"

    def __init__(self, body, act):
        super().__init__()
        self.body = body
        self.act = act

    def forward(self, x):
        return self.act(self.body(x))


def with_new_head(net, *after):
    net.classifier = nn.Sequential(net.classifier, *after)
    return net


@pytest.mark.parametrize(
    "end",
    [
        lambda net: nn.Sequential(net, nn.Softmax(1)),
        lambda net: nn.Sequential(net, nn.Softmax(dim=-1)),
        lambda net: nn.Sequential(net, nn.LogSoftmax(1)),
        lambda net: with_new_head(net, nn.Softmax(1)),
        lambda net: Ended(net, nn.Softmax(1)),
        lambda net: nn.Sequential(nn.Identity(), Ended(net, nn.Softmax(1))),
    ],
)
def test_a_softmax_at_the_end_is_no_second_one(end):
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    whole = end(fixed()).eval()
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    layer = None if find_head(find_ending(whole).before) else find_first_conv(whole)
    answer = explain(whole, x, method="gradcam", layer=layer)
    torch.testing.assert_close(answer.probs, SAID.expand(2, 3), atol=1e-5, rtol=0)
    assert "which is taken off" in answer.note
    assert all((state[name] == value).all() for name, value in whole.state_dict().items())


def find_first_conv(net):
    before = find_ending(net).before
    return next(name for name, m in before.named_modules() if isinstance(m, nn.Conv2d))


def test_a_sigmoid_at_the_end_makes_findings():
    net = lively(18)
    x = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    answer = explain(nn.Sequential(net, nn.Sigmoid()), x)
    torch.testing.assert_close(answer.probs, net(x).sigmoid(), atol=1e-5, rtol=0)
    assert answer.exact and find_head(find_ending(nn.Sequential(net, nn.Sigmoid())).before)
    one = lively(1)
    two = explain(nn.Sequential(one, nn.Sigmoid()), x)  # absent, present
    torch.testing.assert_close(two.probs[:, 1:], one(x).sigmoid(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "function",
    [
        lambda y: y.softmax(1),
        lambda y: torch.sigmoid(y),
        lambda y: 1 / (1 + torch.exp(-y)),
        lambda y: torch.exp(y) / torch.exp(y).sum(1, keepdim=True),
        lambda y: (y.sigmoid() + (2 * y).sigmoid()) / 2,
        lambda y: torch.stack([y.softmax(1), (2 * y).softmax(1)]).mean(0),
        lambda y: {"logits": y.softmax(1)},
        lambda y: nn.functional.hardsigmoid(y),
    ],
)
def test_what_cannot_be_taken_off_is_refused(function):
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="would be squashed twice; let it return the logits"):
        explain(Ended(lively(3), function), x)


@pytest.mark.parametrize("wrap", [lambda net: net, lambda net: Ended(net, nn.Identity())])
def test_a_single_logit_is_two_classes(wrap):
    "Read as one finding it would be the sigmoid of half of itself"
    x = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="a single logit is a question of two classes"):
        explain(wrap(lively(1)), x, activation="sigmoid")


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_byobnet"])
def test_logits_are_left_alone(name):
    "Also where a gate inside is a sigmoid, and where nothing is known of the network's kind"
    net = timm.create_model(name, num_classes=2).eval()
    assert find_ending(net) == Ending()
    assert find_ending(Ended(net, nn.Identity())) == Ending()
    assert find_ending(Ended(net, nn.ReLU())) == Ending()
    gated = Ended(net, lambda y: y * y.sigmoid())
    assert find_ending(gated) == Ending()


def test_small_logits_are_no_probabilities():
    "A linear layer may give anything, also numbers between 0 and 1"
    net = fixed()
    net.classifier.bias[:] = torch.tensor([0.2, 0.3, 0.5])
    assert find_ending(Ended(net, nn.Identity())) == Ending()


def test_a_checkpoint_says_what_was_taken_off():
    soft = nn.Sequential(fixed(), nn.Softmax(1))
    checkpoint = Checkpoint(soft, "none", ("a", "b", "c"), Preprocessing((SIDE, SIDE)))
    inference = infer_radiographs(checkpoint, [film()])[0]
    assert inference.probs == pytest.approx(SAID.numpy(), abs=1e-5)
    assert any("ends in a softmax, which is taken off" in n for n in inference.verdict.notes)
    assert find_head(find_ending(soft).before) == PooledLinear(find_head(soft[0]).layout)
    findings = Checkpoint(
        nn.Sequential(fixed(), nn.Sigmoid()), "none", ("a", "b", "c"), Preprocessing((SIDE, SIDE))
    )
    with pytest.raises(ValueError, match="ends in a sigmoid: its activation is 'sigmoid', not 'so"):
        infer_radiographs(findings, [film()])
    findings.activation = "sigmoid"
    said = infer_radiographs(findings, [film()])[0].probs
    assert said == pytest.approx(torch.sigmoid(SAID.log()).numpy(), abs=1e-5)


def test_files_of_classes_say_nothing_new(tmp_path):
    "So their fingerprints, caches and results stay, and an older version refuses findings"
    net = fixed()
    of_classes = Checkpoint(net, "test_efficientnet", ("a", "b", "c"), Preprocessing((64, 64)))
    assert "activation" not in of_classes.header
    notes = infer_radiographs(of_classes, [film()])[0].verdict.notes
    assert not any("taken off" in note for note in notes)
    of_classes.activation = "sigmoid"
    assert of_classes.header["activation"] == "sigmoid"
    of_classes.activation = "tanh"
    save_checkpoint(tmp_path / "tanh.safetensors", of_classes)
    with pytest.raises(CheckpointError, match="activation is none of softmax, sigmoid"):
        load_checkpoint(tmp_path / "tanh.safetensors")


def test_the_view_shows_findings(home, tmp_path):
    "The likeliest finding first, in the words of the records; nothing but its absence to compare with"
    session = Session()
    session.start(home / "chest.safetensors", str(home / "set"))
    assert not session.error
    summary = screen_message(session.state).content["summary"]
    scores = dict(zip(NAMES, summary["scores"]))
    assert NAMES[session.class_idx] == max(scores, key=scores.get)
    assert summary["text"] == session.inference.verdict.text
    versus = setup_message(session.checkpoint, session.entries).content["options"]["versus"]
    assert versus == [(-1, "its absence")]
    session.turn(class_idx=3)
    local = session.maps.grid(session)
    evidence = explain(
        session.checkpoint, session.checkpoint.preprocessing.tensor(session.film)[None]
    )
    expected = evidence.local_logits[0, 3].numpy() / 2
    np.testing.assert_allclose(local, expected, atol=1e-3 * np.abs(expected).max())
    session.save(tmp_path / "view.json")
    kept = json.loads((tmp_path / "view.json").read_text())
    assert kept["findings"] == session.inference.record["findings"]
