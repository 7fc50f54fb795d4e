"""Any file, any fault: pictures, outlines, tables, checkpoints, names and places that nobody should have made.

The inputs are made by hostile_corpus.py; benchmarks/hostile.py gives the table that the docs print.
"""

import argparse
import itertools
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from hostile_corpus import Examination, corpus, largest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_engine import model, picture  # noqa: F401, fixtures

from xray_explain.data.archive import DatasetError
from xray_explain.data.cases import read_cases
from xray_explain.evidence.cam import explain
from xray_explain.files import guarded
from xray_explain.infer.folder import Options, run
from xray_explain.infer.inference import infer_image, results_table
from xray_explain.model.checkpoint import (
    Checkpoint,
    CheckpointError,
    build_net,
    load_checkpoint,
    save_checkpoint,
    start_from,
)
from xray_explain.read.outlines.annotation import KINDS, AnnotationError, read_annotation
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.processes import _apart
from xray_explain.read.sources import from_folder, from_manifest
from xray_explain.view.worklist import PIECE, worklist


def check(outcomes):
    "Every input gives the right picture or one clear line, in little time and memory"
    for o in outcomes:
        where = f"{o.item.kind}, {o.item.name}: {o.said} {o.told}"
        assert o.said in ("right", "refused") or (o.said == "altered" and o.item.damaged), where
        if o.said == "refused":
            assert o.item.right is None or o.item.damaged or o.item.refusable, where
            assert (
                o.told.startswith(o.item.name.rpartition("/")[2] + ": ")
                and "\n" not in o.told
                and len(o.told) < 250
            ), where
            assert (
                "report this" not in o.told and "Jane" not in o.told and "Planted" not in o.told
            ), where
        assert o.seconds < 2 and not o.mebibytes > 1024, (
            f"{where}, {o.seconds:.1f} s, {o.mebibytes:.0f} MiB"
        )


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_input_is_right_or_refused_in_one_line():
    inputs = corpus()
    assert len(inputs) >= 200 and len({(i.kind, i.name) for i in inputs}) == len(inputs)
    with Examination() as examine:
        outcomes = [examine(item) for item in inputs]
        assert examine.deaths == 0
    check(outcomes)
    said = Counter(o.said for o in outcomes)
    assert said["right"] > 100 and said["refused"] > 200
    assert not [o for o in outcomes if o.item.kind == "truncated" and o.said == "altered"]


@pytest.mark.slow
def test_the_largest_pictures_stay_within_the_limits():
    with Examination() as examine:
        outcomes = [examine(item) for item in largest()]
    check(outcomes)
    assert {o.said for o in outcomes} == {"right"}


# --- checkpoints


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    "The original system's dictionary, and the file of our own format with the same weights"
    torch.manual_seed(0)
    net = build_net("test_efficientnet", 3).eval().requires_grad_(False)
    form = {
        "model_state_dict": net.state_dict(),
        "class_names": ["Normal", "Benign", "Malignant"],
        "epoch": 1,
        "val_loss": 0.5,
        "config": {
            "model": {"backbone": "test_efficientnet", "num_classes": 3},
            "data": {"image_size": 96},
        },
    }
    path = tmp_path_factory.mktemp("checkpoint") / "good.safetensors"
    save_checkpoint(
        path,
        Checkpoint(
            net,
            "test_efficientnet",
            ("Normal", "Benign", "Malignant"),
            Preprocessing(size=(96, 96)),
        ),
    )
    return form, path


class Runs:
    "What unpickling would run"

    def __init__(self, call, *args):
        self.how = call, args

    def __reduce__(self):
        return self.how


def malicious(form, mark: Path) -> dict[str, bytes]:
    "Real pickles that would make the file `mark`, in the ways that are known"
    calls = {
        "system": Runs(os.system, f"touch {mark}"),
        "eval": Runs(eval, f"open({str(mark)!r}, 'w').close()"),
        "open": Runs(open, str(mark), "w"),
        "popen": Runs(subprocess.Popen, ["touch", str(mark)]),
        "torch.load again": Runs(torch.load, str(mark)),
        "import": Runs(__import__, "os"),
        "numpy": Runs(np.memmap, str(mark), "u1", "w+", 0, 8),
    }
    made = {}
    for name, call in calls.items():
        for where in ("extra", "model_state_dict", "class_names"):
            for legacy in (False, True) if where == "extra" else (False,):
                file = BytesIO()
                torch.save({**form, where: call}, file, _use_new_zipfile_serialization=not legacy)
                made[f"{name} in {where}{', legacy' if legacy else ''}"] = file.getvalue()
        for protocol in (0, 2, 4):
            made[f"{name}, bare pickle {protocol}"] = pickle.dumps(call, protocol)
    file = BytesIO()
    torch.save(build_net("test_efficientnet", 3), file)
    return made | {"a whole network": file.getvalue()}


def test_malicious_pickles_are_refused_and_run_nothing(original, tmp_path):
    made = malicious(original[0], tmp_path / "it_ran")
    assert len(made) > 40
    net = build_net("test_efficientnet", 3)
    others = itertools.cycle((".ckpt", ".pth.tar", ".BIN", ".PTH", ".pth", ""))
    for name, data in made.items():
        for suffix in (".pt", ".safetensors", next(others)):
            (tmp_path / f"evil{suffix}").write_bytes(data)
            for use in (load_checkpoint, lambda p: start_from(net, p)):
                with pytest.raises(CheckpointError) as caught:
                    use(tmp_path / f"evil{suffix}")
                assert str(caught.value).startswith(f"evil{suffix}: ") and "\n" not in str(
                    caught.value
                ), name
            assert not (tmp_path / "it_ran").exists(), name
    pickle.loads(
        made["open, bare pickle 4"]
    ).close()  # the test can fail: this is what they would have done
    assert (tmp_path / "it_ran").exists()


class Crafted(Runs):
    "What unpickling would make, and the state that it would give to it"

    def __init__(self, call, args, *state):
        self.how = (call, args, *state)


scalar, empty_array = np.float64(0).__reduce__()[0], np.ones(1).__reduce__()[0]
EIGHT = Crafted(np.dtype, ("f8", False, True))
OBJECT = Crafted(np.dtype, ("O8", False, True))
# a record of 8 bytes whose field is an object, that says there are no objects in it
LIE = (3, "|", None, ("a",), {"a": (OBJECT, 0)}, 8, 1, 0)
NUMPY = {  # what NumPy's constructors would take for memory that is not theirs, and what they refuse
    "a record": (Crafted(np.dtype, ("V8", False, True), LIE), "type V8 are not read"),
    "a pointer": (Crafted(scalar, (OBJECT, b"A" * 8)), "an object is not read"),
    "a lying number": (
        Crafted(scalar, (Crafted(np.dtype, ("f8", False, True), LIE), b"A")),
        "buffer size must be a multiple",
    ),
    "a short array": (
        Crafted(empty_array, (np.ndarray, (0,), b"b"), (1, (10**9,), EIGHT, False, b"A" * 8)),
        "cannot reshape",
    ),
    "an array of pointers": (
        Crafted(empty_array, (np.ndarray, (0,), b"b"), (1, (1,), OBJECT, False, b"A" * 8)),
        "cannot reshape",
    ),
    "no state": (Crafted(empty_array, (np.ndarray, (0,), b"b"), 7), "not a readable PyTorch"),
    "a file": (Crafted(np.fromfile, ("/etc/passwd",)), r"run code .*\(numpy.fromfile\)"),
}


@pytest.mark.parametrize("name", NUMPY)
def test_numpy_values_are_numbers_and_text_or_refused(original, tmp_path, name):
    value, reason = NUMPY[name]
    torch.save({**original[0], "extra": value}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match=f"^evil.ckpt: [^\n]*{reason}[^\n]*$"):
        load_checkpoint(tmp_path / "evil.ckpt")


NAMES_BY_NUMBER = (
    {"Malignant": 2, "Normal": 0, "Benign": 1},
    {"Benign": 1, "Malignant": 2, "Normal": 0},
    {1: "Benign", 2: "Malignant", 0: "Normal"},
    {"2": "Malignant", "1": "Benign", "0": "Normal"},
    {"Malignant": np.int64(2), "Normal": np.int64(0), "Benign": np.int64(1)},
    np.array(["Normal", "Benign", "Malignant"]),
    np.array(["Normal", "Benign", "Malignant"], dtype=object),
)


@pytest.mark.parametrize("number", range(len(NAMES_BY_NUMBER)))
def test_class_names_are_ordered_by_their_numbers(original, tmp_path, number):
    "A network whose third class always wins says so, however its classes are listed"
    weights = {k: v.clone() for k, v in original[0]["model_state_dict"].items()}
    weights["classifier.bias"] = torch.tensor([0.0, 0.0, 50.0])
    names = NAMES_BY_NUMBER[number]
    torch.save(
        {**original[0], "model_state_dict": weights, "class_names": names}, tmp_path / "a.pt"
    )
    checkpoints = [load_checkpoint(tmp_path / "a.pt")]
    if not isinstance(names, np.ndarray):
        named = {k: v if isinstance(v, str) else int(v) for k, v in names.items()}
        again = Checkpoint(checkpoints[0].net, "test_efficientnet", named, Preprocessing((96, 96)))
        save_checkpoint(tmp_path / "a.safetensors", again)
        checkpoints.append(load_checkpoint(tmp_path / "a.safetensors"))
    for checkpoint in checkpoints:
        probs = explain(checkpoint, torch.zeros(1, 3, 96, 96)).probs[0]
        assert checkpoint.class_names[probs.argmax()] == "Malignant" and probs.max() > 0.99


OPENINGS = ("", "backbone.", "net.model.", "_orig_mod.module.")


@pytest.mark.parametrize("opening", OPENINGS)
def test_files_of_other_scripts_are_read_by_their_content(original, picture, tmp_path, opening):
    "Lightning's and timm's dictionaries, a bare state_dict under any suffix, values of NumPy beside"
    form, net = original[0], build_net("test_efficientnet", 3).eval()
    weights = {f"{opening}{k}": v for k, v in form["model_state_dict"].items()}
    beside = {"optimizer_states": [{"lr": 0.1}], "val_loss": np.float64(0.5), "epoch": np.int64(3)}
    said = {"architecture": "timm/test_efficientnet.r160_in1k", "num_classes": 3, "img_size": 96}
    said["class_names"] = form["class_names"]
    x = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    net.load_state_dict(form["model_state_dict"])
    film = cv2.imencode(".png", picture)[1].tobytes()
    for suffix, section in ((".CKPT", "hyper_parameters"), (".pth.tar", "args"), ("", "config")):
        section = {section: argparse.Namespace(**said) if section == "args" else said}
        torch.save({"state_dict": weights, **section, **beside}, tmp_path / f"last{suffix}")
        read = load_checkpoint(tmp_path / f"last{suffix}")
        assert torch.equal(read.net(x), net(x)) and read.name == "last"
        assert read.training["val_loss"] == 0.5 and read.preprocessing.contrast == "none"
        note = "does not say how pictures are prepared: they are stretched to 96 x 96"
        assert note in read.caveat and note in infer_image(read, film).record["notes"][0]
    for suffix in (".BIN", ".pth", ".pth.tar", ".ckpt"):
        torch.save(weights, tmp_path / f"bare{suffix}")
        assert start_from(build_net("test_efficientnet", 3), tmp_path / f"bare{suffix}") == 88
        with pytest.raises(CheckpointError, match=f"bare{suffix}: .* can start a training"):
            load_checkpoint(tmp_path / f"bare{suffix}")


def test_wrappers_that_are_not_known_and_layers_beside_are_named(original, tmp_path):
    form = original[0]
    encoder = {f"encoder.{k}": v for k, v in form["model_state_dict"].items()}
    torch.save({**form, "model_state_dict": encoder}, tmp_path / "encoder.ckpt")
    with pytest.raises(CheckpointError, match="weights are missing, .* it has encoder."):
        load_checkpoint(tmp_path / "encoder.ckpt")
    more = {f"model.{k}": v for k, v in form["model_state_dict"].items()}
    more["head.weight"] = torch.ones(3, 3)
    torch.save({**form, "model_state_dict": more}, tmp_path / "more.ckpt")
    with pytest.raises(
        CheckpointError, match="beside the weights under 'model' it has head.weight"
    ):
        load_checkpoint(tmp_path / "more.ckpt")


def test_damaged_checkpoints_are_refused_in_one_line(original, tmp_path):
    form, good = original
    file = BytesIO()
    torch.save(form, file)
    rng = np.random.default_rng(0)
    for suffix, data in ((".safetensors", good.read_bytes()), (".pt", file.getvalue())):
        path = tmp_path / f"damaged{suffix}"
        for n in range(60):
            broken = bytearray(data[: rng.integers(0, len(data))] if n % 3 == 0 else data)
            for at in (
                rng.integers(0, max(1, min(len(broken), 6000)), rng.integers(1, 20))
                if broken
                else ()
            ):
                broken[at] = rng.integers(256)
            path.write_bytes(broken)
            try:
                load_checkpoint(path)
            except CheckpointError as e:
                assert "\n" not in str(e) and len(str(e)) < 400


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"model_args": {"checkpoint_path": "x.pt"}}, "more than output_stride"),
        ({"model_args": {"pretrained_cfg": {}}}, "more than output_stride"),
        ({"model_args": {"img_size": 10**9}}, "too large"),
        ({"model_args": [1]}, "more than"),
        ({"architecture": 7}, "no name"),
        ({"architecture": "hf-hub:somebody/net"}, "timm knows no model"),
        ({"architecture": "../net"}, "timm knows no model"),
        ({"architecture": "vit_giant_patch14_224"}, "weights are missing"),
        ({"class_names": ["a", "b"]}, "has shape"),
        ({"class_names": "abc"}, "a single text"),
        ({"class_names": ["a", "a", "b"]}, "the same name"),
        ({"class_names": ["a", "\x1b[31m", "b"]}, "no short line"),
        ({"class_names": ["a", "", "b"]}, "is empty"),
        ({"class_names": ["a"]}, "a question of two"),
        ({"class_names": {"a": 0, "b": 1, "c": 3}}, "not numbered 0 to 2, each once"),
        ({"class_names": {"0": "1", "1": "2", "2": "0"}}, "cannot be told apart"),
        ({"class_names": ["a"] * 10**4}, "too many"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"evidence_scale": [1, 2]}, "a number for each class"),
        ({"evidence_scale": [1, 2, -3]}, "scale of evidence is not above 0"),
        ({"evidence_scale": [1, 2, float("inf")]}, "scale of evidence"),
        ({"operating_points": {"d": {"threshold": 0.5}}}, "name 'd', which is no class"),
        ({"operating_points": {"Benign": {"threshold": 30}}}, "is 30, not between 0 and 1"),
        ({"training": "long"}, "history"),
        ({"net": 1}, "does not know"),
        ({"localization": {"relative": {"threshold": 2}}}, "'relative' is 2, not between"),
        ({"localization": [0.4]}, "localisation"),
        ({"preprocessing": {"size": [10**6, 10**6]}}, "no sane size"),
        ({"preprocessing": {"size": [96]}}, "no sane size"),
        ({"preprocessing": {"std": [0, 0, 0]}}, "standard deviation is not above 0"),
        ({"preprocessing": {"std": [1, 1]}}, "not three numbers each"),
        ({"preprocessing": {"fit": "squeeze"}}, "unknown fit 'squeeze'"),
        ({"preprocessing": {"contrast": "magic"}}, "its header is broken"),
        ({"preprocessing": {"run": 1}}, "its header is broken"),
    ],
)
def test_lying_headers_are_refused_in_one_line(original, tmp_path, changes, told):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(original[1], "pt") as f:
        header = json.loads(f.metadata()["xray_explain"])
    save_file(
        load_file(original[1]),
        tmp_path / "lies.safetensors",
        metadata={"xray_explain": json.dumps({**header, **changes})},
    )
    with pytest.raises(CheckpointError, match=re.escape(told)) as caught:
        load_checkpoint(tmp_path / "lies.safetensors")
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "changes, told",
    [
        ({"class_names": ["a", "b"]}, "2 class names for 3 classes"),
        ({"class_names": ["a", "a", "b"]}, "the same name"),
        ({"class_names": 7}, "no list of class names"),
        ({"class_names": "abc"}, "a single text"),
        ({"class_names": {"a", "b", "c"}}, "no list of class names"),
        ({"class_names": {"a": 1, "b": 2, "c": 3}}, "not numbered 0 to 2, each once"),
        ({"class_names": {"a": 0, "b": 1, "c": np.float64(2)}}, "not numbered 0 to 2"),
        ({"model_state_dict": {}}, "weights are missing"),
        ({"model_state_dict": {"conv_stem.weight": 7}}, "no plain tensors"),
        ({"model_state_dict": [1]}, "no weights by name"),
        ({"config": 7}, "without the network's name"),
        ({"config": {"model": {"backbone": "resnet18", "num_classes": 3}}}, "weights are missing"),
        (
            {"config": {"model": {"backbone": "hf-hub:somebody/net", "num_classes": 3}}},
            "timm knows no model",
        ),
        (
            {"config": {"model": {"backbone": "test_efficientnet", "num_classes": 4}}},
            "3 class names for 4 classes",
        ),
        (
            {
                "config": {
                    "model": {"backbone": "test_efficientnet", "num_classes": 3},
                    "data": {"image_size": 10**9},
                }
            },
            "no sane size",
        ),
    ],
)
def test_dictionaries_that_do_not_fit_are_refused_in_one_line(original, tmp_path, changes, told):
    torch.save({**original[0], **changes}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=re.escape(told)) as caught:
        load_checkpoint(tmp_path / "odd.pt")
    assert str(caught.value).startswith("odd.pt: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "int64", "complex64", "bool"])
def test_weights_that_are_no_numbers_are_refused(original, tmp_path, number):
    weights = dict(original[0]["model_state_dict"])
    stem = weights["conv_stem.weight"]
    weights["conv_stem.weight"] = (
        torch.full_like(stem, torch.nan) if number == "NaN" else stem.to(getattr(torch, number))
    )
    torch.save({**original[0], "model_state_dict": weights}, tmp_path / "odd.pt")
    net = build_net("test_efficientnet", 3)
    for use in (load_checkpoint, lambda path: start_from(net, path)):
        with pytest.raises(CheckpointError, match=f"odd.pt: conv_stem.weight holds {number}"):
            use(tmp_path / "odd.pt")


# --- names and places

NAMES = [
    "two words.png",
    "quo'te\".png",
    "line\nbreak.png",
    "u\u0308ber.png",
    "\u00fcber.png",
    "-rf.png",
    "$(touch x).png",
    "\x1b[31mred.png",
    "a\\b.png",
    "ö" * 125 + ".png",
    "x" * 251 + ".png",
    "=1+1.png",
    "x.png",
    "x_gradcam.png/in.png",
    "run/lock/in.png",
    "batch_results.json/in.png",
    "failures.json/in.png",
    "NUL.png",
    "emoji 🦴.png",
    "مرحبا.png",
    "%s%n.png",
    "deep/" * 30 + "in.png",
    os.fsdecode(b"caf\xe9.png"),
]


@pytest.fixture
def named(picture, tmp_path):
    "A folder of the same picture under every name, with links that lead round and away, and a pipe"
    data = cv2.imencode(".png", picture)[1].tobytes()
    folder = tmp_path / "in"
    for name in NAMES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "round").symlink_to(folder)
    (folder / "self.png").symlink_to("self.png")
    (folder / "nowhere.png").symlink_to("/nowhere/x.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
    return folder


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not allow these names")
def test_every_name_is_explained_and_nothing_is_written_elsewhere(model, named, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    sources, count = from_folder(named)
    assert count == len(NAMES)
    counts = run(
        model[0], sources, count, tmp_path / "out", Options(8, overlay_size=32), progress=False
    )
    failures = json.loads((tmp_path / "out" / "failures.json").read_text())
    # where a folder has the name of another picture's overlay, one of the two has no place
    assert (counts.explained, counts.failed) == (
        len(NAMES) - 1,
        1,
    ) and "its overlay cannot be written" in failures[0]["reason"], failures
    records = json.loads((tmp_path / "out" / "batch_results.json").read_text())
    assert (
        len({r["image_name"] for r in records})
        == len({r["overlay"] for r in records})
        == len(NAMES) - 1
    )
    assert all((tmp_path / "out" / r["overlay"]).is_file() for r in records)
    # a spreadsheet must not take a name for a formula
    assert pd.read_csv(tmp_path / "out" / "batch_results.csv").image_name.tolist() == [
        guarded(r["image_name"]) for r in records
    ]
    assert [
        p
        for p in sorted(tmp_path.rglob("*"))
        if p not in before and tmp_path / "out" not in (p, *p.parents)
    ] == []
    again = run(
        model[0], sources, count, tmp_path / "out", Options(8, overlay_size=32), progress=False
    )
    assert again == counts
    shown = results_table(records)
    assert "\x1b" not in shown and shown.count("\n") == len(records)


@pytest.fixture
def command(capfd):
    "The command line in this process: its status, and what it says of errors"
    from xray_explain.cli import main

    def call(*argv):
        capfd.readouterr()
        return main([str(a) for a in argv]), capfd.readouterr().err

    return call


def test_one_picture_of_any_name_from_the_command_line(model, named, command, tmp_path):
    for name in ("x" * 251 + ".png", "-rf.png", "line\nbreak.png"):
        assert command(
            "infer",
            f"--image={named / name}",
            "--checkpoint",
            model[1],
            "--output-dir",
            tmp_path / "one",
        ) == (0, "")
    assert len(list((tmp_path / "one").iterdir())) == 6
    for name, told in (
        ("pipe.png", "it is no file"),
        ("self.png", "cannot be opened"),
        ("round", "cannot be opened"),
    ):
        status, error = command(
            "infer",
            "--image",
            named / name,
            "--checkpoint",
            model[1],
            "--output-dir",
            tmp_path / "none",
        )
        assert status == 1 and told in error and error.count("\n") == 1
    assert not (tmp_path / "none").exists()


def test_a_manifest_cannot_lead_results_out_of_their_folder(model, named, tmp_path):
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    rows = [
        "../../in/x.png",
        f"file://{named}/../in/x.png",
        f"file://{named}/./two words.png",
        str(named / "-rf.png"),
        "s3:///../x.png",
    ]
    (inner / "list.csv").write_text("path\n" + "".join(f"{r}\n" for r in rows))
    before = sorted(tmp_path.rglob("*"))
    sources, count = from_manifest(inner / "list.csv")
    counts = run(
        model[0], sources, count, inner / "out", Options(8, overlay_size=32), progress=False
    )
    assert counts.explained >= 2 and counts.explained + counts.failed == len(rows)
    assert [
        p
        for p in sorted(tmp_path.rglob("*"))
        if p not in before and inner / "out" not in (p, *p.parents)
    ] == []
    for path in (inner / "out").glob("*.json"):
        assert str(tmp_path) not in path.read_text()


def test_places_that_cannot_be_written_are_one_line(model, named, command, tmp_path):
    (tmp_path / "taken").write_text("a file")
    places = [
        tmp_path / "taken",
        tmp_path / "taken" / "below",
        "/proc/xray" if Path("/proc").is_dir() else tmp_path / "taken",
    ]
    for place in places:
        status, error = command(
            "infer",
            "--input-dir",
            named,
            "--checkpoint",
            model[1],
            "--output-dir",
            place,
            "--workers",
            0,
        )
        assert status == 1 and error.count("\n") == 1 and error.startswith("xray-explain: "), error
    assert (tmp_path / "taken").read_text() == "a file"


# --- outlines and tables

numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.just(10**400),
    st.just(1e300),
    st.none(),
    st.text(max_size=3),
    st.booleans(),
)
anything = st.recursive(
    st.one_of(numbers, st.text(max_size=20)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
points = st.one_of(
    st.lists(st.lists(st.one_of(st.floats(-50, 150), numbers), min_size=1, max_size=3), max_size=8),
    anything,
)
shapes = st.fixed_dictionaries(
    {},
    optional={
        "label": anything,
        "points": points,
        "shape_type": st.one_of(st.sampled_from([*KINDS, "line"]), anything),
        "mask": anything,
    },
)
labelme = st.fixed_dictionaries(
    {},
    optional={
        "version": anything,
        "shapes": st.one_of(st.lists(shapes, max_size=5), anything),
        "imagePath": anything,
        "imageHeight": st.one_of(st.integers(-2, 200), numbers),
        "imageWidth": st.one_of(st.integers(-2, 200), numbers),
        "imageData": anything,
    },
)


def reads_or_is_refused(path: Path):
    "An annotation that can be used, or one line"
    try:
        found = read_annotation(path)
    except AnnotationError as e:
        assert str(e).startswith(f"{path.name}: ") and "\n" not in str(e) and len(str(e)) < 250
        return None
    assert "/" not in found.image_name and all(
        lesion.label.isprintable() for lesion in found.lesions
    )
    if found.shape:
        mask = found.mask((32, 32))
        assert (
            mask.shape == (32, 32)
            and set(np.unique(mask)) <= {0, 1}
            and np.isfinite(found.boxes((32, 32))).all()
        )
    return found


@pytest.fixture(scope="module")
def outline(tmp_path_factory):
    return tmp_path_factory.mktemp("outline") / "outline.json"


SOME = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)


@SOME
@given(content=st.one_of(labelme, anything))
def test_any_json_is_an_annotation_or_one_line(outline, content):
    outline.write_text(json.dumps(content))
    reads_or_is_refused(outline)


@SOME
@given(data=st.binary(max_size=300))
def test_any_bytes_are_an_annotation_or_one_line(outline, data):
    outline.write_bytes(data)
    reads_or_is_refused(outline)


cells = st.one_of(
    st.sampled_from(["", "0", "1", "Benign", "a.png", "../a.png", "nan", "=1+1", "\n", '"']),
    st.text(max_size=12),
)
tables = st.tuples(
    st.lists(
        st.sampled_from(
            ["image_id", "label", "tumor", "benign", "malignant", "split", "group", "center", ""]
        ),
        max_size=6,
    ),
    st.lists(st.lists(cells, max_size=7), max_size=6),
    st.sampled_from(",;\t|"),
    st.sampled_from(["utf-8", "utf-16", "latin-1", "cp1252"]),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    (folder / "images").mkdir(parents=True)
    (folder / "images" / "a.png").write_bytes(b"not looked at")
    return folder


def table_reads_or_is_refused(folder):
    try:
        assert len(read_cases(folder)) > 0
    except DatasetError as e:
        assert "\n" not in str(e) and str(folder.parent) not in str(e)


@settings(SOME, max_examples=60)
@given(table=tables)
def test_any_table_gives_cases_or_one_line(dataset, table):
    head, rows, delimiter, encoding = table
    text = "\n".join([delimiter.join(head), *(delimiter.join(row) for row in rows)])
    (dataset / "dataset.csv").write_bytes(text.encode(encoding, "replace"))
    table_reads_or_is_refused(dataset)


@settings(SOME, max_examples=60)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=200).map(lambda b: b"image_id,label\na.png,Benign\n" + b),
    )
)
def test_any_bytes_give_cases_or_one_line(dataset, data):
    (dataset / "dataset.csv").write_bytes(data)
    table_reads_or_is_refused(dataset)


@pytest.mark.slow
@pytest.mark.parametrize("parser", ["annotation", "table", "radiograph", "stream"])
def test_inputs_guided_by_coverage(parser):
    pytest.importorskip("atheris", reason="needs atheris, for Linux; pip install atheris")
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))
    from fuzz_parsers import outcome

    found = outcome(parser, 20)
    assert found["inputs"] > 100 and found["edges_reached"] > 10 and found["findings"] == 0


def test_workbooks(dataset, tmp_path):
    import zipfile

    import openpyxl

    folder = tmp_path / "set"
    shutil.copytree(dataset, folder)
    (folder / "dataset.csv").unlink(missing_ok=True)
    book = openpyxl.Workbook()
    for row in (
        ["image_id", "label"],
        ["a.png", '="Ben"&"ign"'],
        ["a.png", '=HYPERLINK("http://127.0.0.1/","Benign")'],
    ):
        book.active.append(row)
    book.save(folder / "dataset.xlsx")
    with pytest.raises(DatasetError, match="no label"):
        read_cases(folder)  # a formula that nobody has calculated has no value
    book.active["B2"] = "Benign"
    book.save(folder / "dataset.xlsx")
    assert len(read_cases(folder)) == 1
    data = (folder / "dataset.xlsx").read_bytes()
    with zipfile.ZipFile(folder / "dataset.xlsx", "a", zipfile.ZIP_DEFLATED) as z:
        z.writestr("xl/media/bomb.xml", bytes(201 * 10**6))
    with pytest.raises(DatasetError, match="unpacked it has 201 MB"):
        read_cases(folder)
    for cut in (0, 10, len(data) // 2, len(data) - 5):
        (folder / "dataset.xlsx").write_bytes(data[:cut])
        with pytest.raises(DatasetError, match="cannot be read"):
            read_cases(folder)


# --- the view


def uploaded(view, name, data):
    "What the view says after a file was dropped on it"
    hear = lambda message, *buffers: view.safely(view.hear, message, buffers)
    hear({"kind": "begin", "name": name, "size": len(data)})
    for at in range(0, len(data), PIECE):
        hear({"kind": "piece", "offset": at}, data[at : at + PIECE])
    return view.error


@pytest.fixture
def view(model):
    from xray_explain.view.widget import InferenceView

    view = InferenceView(model[0])
    view.tell = lambda *_, **__: None
    return view


def reading_process():
    return _apart(os.getpid())._all[0]._process


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs Unix signals")
def test_a_killed_decoder_is_one_line_and_the_view_lives_on(view, picture, tmp_path):
    good = cv2.imencode(".png", picture)[1].tobytes()
    (tmp_path / "entry.png").write_bytes(good)
    view.entries = worklist(tmp_path)
    for read in (
        lambda: uploaded(view, "entry.png", good),
        lambda: (view.turn(case_idx=-1), view.turn(case_idx=0)),
    ):
        assert uploaded(view, "good.png", good) == ""
        process = reading_process()
        assert process.pid != os.getpid()
        process.send_signal(signal.SIGSTOP)  # it gets the picture, and dies before it has an answer
        threading.Timer(0.3, process.kill).start()
        read()
        assert (
            view.error.startswith(
                "entry.png: its decoder was killed, as by a system short of memory"
            )
            and view.film is None
        )
    view.turn(case_idx=-1)
    view.turn(case_idx=0)
    assert view.error == "" and view.film.name == "entry.png"


# --- whole data sets


def test_a_decoder_that_crashes_is_one_case_of_a_data_set(model, picture, monkeypatch, tmp_path):
    from xray_explain.data.duplicates import picture_prints
    from xray_explain.measure.study import examine
    from xray_explain.model.batches import load_canvases
    from xray_explain.read import processes as readers
    from xray_explain.read.pixels import RadiographError

    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    for name in "abc":
        cv2.imwrite(str(folder / "images" / f"{name}.png"), picture)
    (folder / "dataset.csv").write_text(
        "image_id,label\na.png,Benign\nb.png,Normal\nc.png,Malignant\n"
    )
    # a process that reads like the real one, but dies at one of the pictures, as at a hole in a decoder
    deadly = readers._START.replace(
        "serve; serve(",
        "serve; import os; from xray_explain.read import processes as p; real = p.answer; "
        "p.answer = lambda t: os.abort() if t[1].key.startswith('b') else real(t); serve(",
    )
    assert deadly != readers._START
    monkeypatch.setattr(readers, "_START", deadly)
    cases = read_cases(folder, classes=model[0].class_names)
    study = examine(model[0], cases, progress=False)
    assert (
        len(study) == 2
        and [name for name, _ in study.failures] == ["b.png"]
        and "the decoder crashed" in study.failures[0][1]
    )
    prints = picture_prints(cases.table.image, progress=False)
    assert (
        prints["hash"].notna().tolist() == [True, False, True]
        and "the decoder crashed" in prints.unreadable[1]
    )
    with pytest.raises(RadiographError, match="b.png: the decoder crashed"):
        load_canvases(cases, model[0].preprocessing, progress=False)
