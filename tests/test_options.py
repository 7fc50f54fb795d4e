"""Every option of every command changes something: a table with a row for each, and a new option without a row fails.

A command is run as it is and with the option. What it leaves is compared: exit status, words, the files it wrote, and
what it asked of the library where an option must not change results, such as a number of processes.
"""

import argparse
import contextlib
import io
import json
import os
import sys
from pathlib import Path
from unittest import mock

import pytest
from fake_pacs import fake_pacs
from test_dicom_objects import film

from xray_explain.cli import build_parser, main

SIDE = 64
NAMES = ("Normal", "Benign", "Malignant")


# --- what commands work on


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    "Data sets, pictures, tables and two checkpoints, all small; results of the parts that take long are kept out of it"
    import pandas as pd
    import torch

    from xray_explain.data.phantom import write_phantoms
    from xray_explain.model.checkpoint import Checkpoint, build_net, save_checkpoint
    from xray_explain.read.preprocessing import Preprocessing

    place = tmp_path_factory.mktemp("options")
    for name, per_class in (("set", 8), ("other", 9), ("many", 28), ("others", 29)):
        folder = write_phantoms(place / name, per_class, per_class, 100, 1, progress=False)
        table = pd.read_csv(folder / "dataset.csv")
        places = range(len(table))
        table["fold"] = [("a", "b", "c")[i // 3 % 3] for i in places]
        table.to_csv(folder / "dataset.csv", index=False)
        for number, splits in (("one", ("train", "test")), ("two", ("test", "train"))):
            split = table[["image_id"]].assign(split=[splits[i % 2] for i in places])
            split.to_csv(place / f"{name}_{number}.csv", index=False)
    for seed in (0, 1):
        torch.manual_seed(seed)
        net = build_net("test_efficientnet", 3).eval()
        checkpoint = Checkpoint(net, "test_efficientnet", NAMES, Preprocessing((SIDE, SIDE)))
        save_checkpoint(place / f"guess{seed}.safetensors", checkpoint)
    pictures = sorted((place / "set" / "images").iterdir())
    for name, some in (("few", pictures[:3]), ("fewer", pictures[:2])):
        (place / name).mkdir()
        for p in some:
            (place / name / p.name).write_bytes(p.read_bytes())
    lines = [f"few/{p.name},fewer/{pictures[0].name}" for p in pictures[:3]]
    (place / "list.csv").write_text("\n".join(["path,second", *lines]) + "\n")
    (place / "evaluation.json").write_text(json.dumps({"nothing": 1}))
    stored = Path(__file__).resolve().parents[1] / "results" / "evaluation" / "evaluation.json"
    figures = json.loads(stored.read_text(encoding="utf-8")) | {"checkpoint": "guess0"}
    (place / "figures.json").write_text(json.dumps(figures))
    (place / "key").write_text("a" * 64)
    (place / "cases.csv").write_text(f"image_id\n{pictures[1].name}\n{pictures[0].name}\n")
    return place


@pytest.fixture(scope="module", autouse=True)
def pacs():
    "The address of a DICOMweb server with a film; films are fetched within this process"
    from xray_explain.infer.dicom.network import dicomweb

    with fake_pacs() as server, mock.patch.object(dicomweb, "FETCHERS", 0):
        server.add(film())
        server.add(film(StudyInstanceUID="1.2.4", SOPInstanceUID="1.2.4.4"))
        PACS.append(server.url)
        yield server


PACS: list[str] = []


# --- what a command leaves


def files_of(folder: Path) -> dict[str, bytes]:
    "Everything below a folder but locks, and what holds the seconds that a training took"
    timed = ("lock", "log.csv", "curve.png", "state.pt")
    found = (p for p in sorted(folder.rglob("*")) if p.is_file() and p.name not in timed)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in found}


def plain(value) -> str:
    "An argument in words that are the same in every run"
    import functools

    if isinstance(value, functools.partial):
        return f"{plain(value.func)} {value.keywords}"
    if isinstance(value, (str, int, float, bool, Path, dict, tuple, list, type(None))):
        return repr(value)
    return (
        repr(value)
        if type(value).__name__ in ("Options", "Listening")
        else getattr(value, "name", type(value).__name__)
    )


@contextlib.contextmanager
def watched(names):
    "The arguments with which functions of the library are called, which work as ever unless they end with '!'"
    calls: list[str] = []
    with contextlib.ExitStack() as stack:
        for name in names:
            place, _, attribute = name.rstrip("!").rpartition(".")
            module = sys.modules.get(place) or __import__(place, fromlist=["x"])
            real = getattr(module, attribute)

            def note(*args, real=real, name=name, **kwargs):
                given = [("", a) for a in args] + sorted(kwargs.items())
                calls.append(f"{name}({', '.join(f'{k}={plain(v)}' for k, v in given)})")
                return Path("page.html") if name.endswith("!") else real(*args, **kwargs)

            stack.enter_context(mock.patch.object(module, attribute, note))
        yield calls


def left_by(argv: list[str], home: Path, out: Path, names=()) -> dict:
    "Status, words, files and calls; paths of this run are taken out"
    words, errors = io.StringIO(), io.StringIO()
    where = os.getcwd()
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(out)
    try:
        with (
            watched(names) as calls,
            contextlib.redirect_stdout(words),
            contextlib.redirect_stderr(errors),
        ):
            try:
                status = main([a.format(home=home, out=out, pacs=PACS[-1]) for a in argv])
            except SystemExit as e:
                status = e.code
    finally:
        os.chdir(where)

    def moved(text):
        return text.replace(str(out), "OUT").replace(str(home), "HOME")

    bar = [
        line
        for line in moved(errors.getvalue()).splitlines()
        if "it/s" not in line and "%|" not in line
    ]
    return {
        "status": status,
        "words": moved(words.getvalue()),
        "errors": bar if status else [],
        "files": {name: data for name, data in files_of(out).items()},
        "calls": [moved(call) for call in calls],
    }


# --- the table: command -> what it is given at the least, and for each option what it is given beside

GUESS = ["--checkpoint", "{home}/guess0.safetensors"]
TOY = [
    *("--architecture", "test_efficientnet", "--image-size", str(SIDE)),
    *("--epochs", "1", "--batch-size", "4"),
]
BASE = {
    "phantom": ["{out}/set", "--per-class", "1", "--size", "90", "--workers", "1"],
    "audit": ["{home}/set", "--output-dir", "{out}/audit"],
    "split": ["{home}/many", "--output", "{out}/split.csv"],
    "train": ["{home}/set", "--output-dir", "{out}/run", *TOY],
    "calibrate": ["{home}/many", *GUESS, "--output", "{out}/new.safetensors", "--split", "all"],
    "evaluate": ["{home}/set", *GUESS],
    "card": [*GUESS, "--output", "{out}/card.md"],
    "export": [*GUESS, "--format", "openvino", "--output", "{out}/net.xml"],
    "report": ["gallery", "--data", "{home}/set"],
    "compare": [GUESS[1], "{home}/guess1.safetensors", "--data", "{home}/set"],
    "infer": ["--input-dir", "{home}/few", *GUESS, "--output-dir", "{out}/r", "--workers", "0"],
    "node": [
        *("--calling", "PACS", "--store-to", "127.0.0.1:4:PACS", *GUESS),
        *("--output-dir", "{out}/r", "--workers", "0"),
    ],
    "view": ["--no-browser"],
}
# what stands for work that takes long, or that is not to be seen in results
WATCHED = {
    "phantom": ["xray_explain.data.phantom.write_phantoms"],
    "evaluate": ["xray_explain.measure.study.examine"],
    "report": ["xray_explain.report.run.run_report!"],
    "compare": ["xray_explain.report.run.run_report!"],
    "infer": ["xray_explain.infer.folder.run"],
    "node": [
        "xray_explain.infer.dicom.network.node.serve_node!",
        "xray_explain.infer.folder.LocalEngine",
    ],
    "view": ["xray_explain.view.server.serve_view!"],
}
MERGED = ["tumor:0=Normal,1=Malignant"]  # benign and malignant cases as one class
OPTIONS = {
    "phantom": {
        "output_dir": ["{out}/elsewhere"],
        "--per-class": ["2"],
        "--seed": ["1"],
        "--size": ["100"],
        "--workers": ["2"],
        "--confounder": ["marker"],
        "--confounder-class": ["Benign", "--confounder", "marker", "--per-class", "3"],
        "--confounder-rate": ["0.05", "--confounder", "marker", "--per-class", "3"],
        "--confounder-strength": ["0.3", "--confounder", "marker", "--per-class", "3"],
    },
    "audit": {
        "data": ["{home}/other"],
        "--label": MERGED,
        "--findings": [],
        "--output-dir": ["{out}/elsewhere"],
        "--split-file": ["{home}/set_one.csv"],
    },
    "split": {
        "data": ["{home}/other"],
        "--label": MERGED,
        "--findings": [],
        "--output": ["{out}/elsewhere.csv"],
        "--by": ["fold"],
        "--train-on": ["b"],
        "--group": ["fold"],
        "--seed": ["1"],
    },
    "train": {
        "data": ["{home}/other"],
        "--label": MERGED,
        "--findings": [],
        "--split-file": ["{home}/set_one.csv"],
        "--output-dir": ["{out}/elsewhere"],
        "--half": [],
        "--device": ["nowhere"],
    },
    "calibrate": {
        "data": ["{home}/others"],
        "--label": MERGED,
        "--checkpoint": ["{home}/guess1.safetensors"],
        "--split-file": ["{home}/many_one.csv", "--split", "test"],
        "--output": ["{out}/elsewhere.safetensors"],
        "--split": ["nothing"],
        "--rule": ["youden"],
        "--image-size": ["96"],
        "--scales": ["0.5"],
    },
    "evaluate": {
        "data": ["{home}/other"],
        "--label": MERGED,
        "--checkpoint": ["{home}/guess1.safetensors"],
        "--split-file": ["{home}/set_one.csv"],
        "--split": ["train", "--split-file", "{home}/set_one.csv"],
        "--batch-size": ["5"],
        "--output": ["{out}/figures.json"],
    },
    "card": {
        "--checkpoint": ["{home}/guess1.safetensors"],
        "--evaluation": ["{home}/evaluation.json"],
        "--procedure": ["xray-explain train set"],
        "--output": ["{out}/elsewhere.md"],
        "--into": ["{out}/known.safetensors"],
    },
    "export": {
        "--checkpoint": ["{home}/guess1.safetensors"],
        "--format": ["onnx", "--output", "{out}/net.onnx"],
        "--output": ["{out}/elsewhere.xml"],
    },
    "report": {
        "reports": ["evaluation"],
        "--data": ["{home}/other"],
        "--label": MERGED,
        "--split-file": ["{home}/set_one.csv"],
        "--checkpoint": ["{home}/guess1.safetensors"],
        "--output-dir": ["{out}/elsewhere"],
        "--set": ["k=4"],
        "--no-cache": [],
    },
    "compare": {
        "first": ["{home}/guess1.safetensors"],
        "second": ["{home}/guess0.safetensors"],
        "--data": ["{home}/other"],
        "--label": MERGED,
        "--split-file": ["{home}/set_one.csv"],
        "--split": ["train"],
        "--output-dir": ["{out}/elsewhere"],
        "--set": ["causal_cases=4"],
        "--no-cache": [],
    },
    "infer": {
        "--image": ["{home}/set/images/IMG000001.jpeg"],
        "--input-dir": ["{home}/fewer"],
        "--manifest": ["{home}/list.csv"],
        "--dicomweb": ["{pacs}", "--query", "Modality=DX"],
        "--study": ["1.2.3"],
        "--query": ["Modality=DX"],
        "--store": [],
        "--path-column": ["second"],
        "--checkpoint": ["{home}/guess1.safetensors"],
        "--output-dir": ["{out}/elsewhere"],
        "--pseudonymise": ["{home}/key"],
        "--no-resume": [],
        "--overlay-format": ["jpeg"],
        "--no-gradcam": [],
        "--overlay-size": ["40"],
        "--interpolation": ["nearest"],
        "--dicom-out": ["sr"],
        "--maps": [],
        "--batch-size": ["2"],
        "--workers": ["1"],
        "--device": ["nowhere"],
        "--precision": ["bf16"],
        "--runtime": ["openvino"],
        "--engine": ["ray"],
        "--ray-address": ["127.0.0.1:1"],
    },
    "node": {
        "--calling": ["PACS", "SCANNER"],
        "--store-to": ["127.0.0.1:5:ARCHIVE"],
        "--ae-title": ["READER"],
        "--port": ["104"],
        "--host": ["0.0.0.0"],
        "--checkpoint": ["{home}/guess1.safetensors"],
        "--output-dir": ["{out}/elsewhere"],
        "--dicom-out": ["sr"],
        "--most-films": ["5"],
        "--most-gb": ["0.5"],
        "--batch-size": ["2"],
        "--workers": ["1"],
        "--device": ["nowhere"],
    },
    "view": {
        "--checkpoint": ["{home}/guess1.safetensors"],
        "--data": ["{home}/set"],
        "--label": MERGED,
        "--port": ["8999"],
        "--no-browser": [],
        "--sort": ["worst"],
        "--cases": ["{home}/cases.csv"],
    },
}
# options that replace a part of what a command is given at the least: how many words of it
INSTEAD = {
    ("infer", "--image"): (["--input-dir", "{home}/few"], ["--workers", "0"]),
    ("infer", "--manifest"): (["--input-dir", "{home}/few"],),
    ("infer", "--dicomweb"): (["--input-dir", "{home}/few"],),
    ("infer", "--study"): (["--query", "ModalitiesInStudy=DX"],),
    ("infer", "--query"): (["--study", "1.2.4"],),
    ("view", "--no-browser"): (["--no-browser"],),
}
# options that mean nothing without others, which the run without the option is given too
BESIDE = {
    ("view", "--label"): ["--data", "{home}/set"],
    ("view", "--sort"): ["--data", "{home}/set", *GUESS],
    ("view", "--cases"): ["--data", "{home}/set"],
    ("audit", "--findings"): ["--label", "tumor"],  # classes called 0 and 1 are odd, findings not
    ("split", "--train-on"): ["--by", "fold"],
    ("calibrate", "--split-file"): ["--split", "test", "--split-file", "{home}/many_two.csv"],
    ("card", "--into"): ["--evaluation", "{home}/figures.json"],
    ("evaluate", "--split"): ["--split-file", "{home}/set_one.csv"],
    ("infer", "--path-column"): ["--manifest", "{home}/list.csv"],
    ("infer", "--study"): ["--dicomweb", "{pacs}", "--query", "ModalitiesInStudy=DX"],
    ("infer", "--query"): ["--dicomweb", "{pacs}", "--study", "1.2.4"],
    ("infer", "--store"): ["--dicomweb", "{pacs}", "--study", "1.2.4"],
    ("infer", "--engine"): ["--ray-address", "127.0.0.1:2"],
    ("infer", "--ray-address"): ["--engine", "ray", "--ray-address", "127.0.0.1:2"],
    **{
        ("phantom", f"--confounder-{name}"): ["--confounder", "marker", "--per-class", "3"]
        for name in ("class", "rate", "strength")
    },
}


def actions(command: str) -> dict[str, argparse.Action]:
    "Every option of a command by its name, but for --help and --debug"
    (commands,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    found = commands.choices[command]._actions
    names = {(a.option_strings or [a.dest])[0]: a for a in found}
    return {n: a for n, a in names.items() if n not in ("-h", "--help", "--debug")}


def without(words: list[str], parts) -> list[str]:
    "A command without some of its words"
    for part in parts:
        i = next(i for i in range(len(words)) if words[i : i + len(part)] == part)
        words = words[:i] + words[i + len(part) :]
    return words


def asked(command: str, name: str) -> tuple[list[str], list[str]]:
    "The command as it is and with the option"
    beside = BESIDE.get((command, name), [])
    before = [command, *BASE[command], *beside]
    value = OPTIONS[command][name]
    if command == "infer" and name in ("--path-column", "--study", "--query", "--store"):
        before = [command, *without(BASE[command], (["--input-dir", "{home}/few"],)), *beside]
    after = without(before, INSTEAD.get((command, name), ()))
    if not name.startswith("-"):  # a word at its place
        place = 1 + [n for n in actions(command) if not n.startswith("-")].index(name)
        return before, [*after[:place], *value, *after[place + 1 :]]
    given = [name] if (command, name) != ("view", "--no-browser") else []
    return before, [*after, *given, *value]


def test_the_table_has_a_row_for_every_option():
    from dataclasses import fields

    from xray_explain.model.recipe import Recipe

    recipe = {"--" + f.name.replace("_", "-") for f in fields(Recipe)}
    assert set(OPTIONS) == set(BASE)
    for command, rows in OPTIONS.items():
        known = set(actions(command)) - (recipe if command == "train" else set())
        flags = {"--cache": "--no-cache", "--resume": "--no-resume"}
        assert {flags.get(n, n) for n in known} == set(rows), command


# a run that is gone on with has a test of its own
ROWS = [(c, name) for c, rows in OPTIONS.items() for name in rows if name != "--no-resume"]


@pytest.fixture(scope="module")
def usual(home, tmp_path_factory):
    "What a command leaves as it is: run twice, since a difference would prove nothing where two runs differ anyway"
    known = {}

    def run(before, names):
        key = tuple(before)
        if key not in known:
            outs = [tmp_path_factory.mktemp("usual") / "out" for _ in range(2)]
            first, second = (left_by(before, home, out, names) for out in outs)
            assert first == second
            known[key] = first
        return known[key]

    return run


@pytest.mark.parametrize(("command", "name"), ROWS, ids=lambda v: v)
def test_an_option_changes_something(command, name, home, usual, tmp_path):
    before, after = asked(command, name)
    names = WATCHED.get(command, ())
    plain = usual(before, names)
    assert plain["status"] == 0 or (command, name) == ("infer", "--ray-address"), plain["errors"]
    assert left_by(after, home, tmp_path / "out", names) != plain


@pytest.mark.parametrize("command", BASE)
def test_an_option_is_taken_as_it_is_written(command, capsys):
    "No beginning of an option stands for it, and the nearest one is named"
    for option in (n for n in actions(command) if n.startswith("--")):
        names = [n for a in actions(command).values() for n in a.option_strings]
        short = option[:-1]
        if short in names:
            continue
        with pytest.raises(SystemExit) as end:
            build_parser().parse_args([command, *BASE[command], short])
        told = capsys.readouterr().err
        assert end.value.code == 2 and f"unrecognized arguments: {short}; the nearest" in told


def test_no_program_of_the_project_takes_abbreviations():
    import ast

    root = Path(__file__).resolve().parents[1]
    for path in [*root.glob("benchmarks/*.py"), *root.glob("tools/*.py"), *root.glob("tests/*.py")]:
        for call in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func).endswith("ArgumentParser"):
                options = {k.arg: ast.unparse(k.value) for k in call.keywords}
                assert options.get("allow_abbrev") == "False", path.name


def test_a_run_is_gone_on_with_or_done_anew(home, tmp_path):
    "The same command again explains nothing, and with --no-resume everything"
    names = ["xray_explain.infer.folder.explain_batch"]
    command = ["infer", *BASE["infer"]]
    runs = [
        left_by([*command, *more], home, tmp_path / "out", names)
        for more in ([], [], ["--no-resume"])
    ]
    assert [len(run["calls"]) for run in runs] == [1, 0, 1]
    assert runs[0]["files"] == runs[1]["files"] == runs[2]["files"]


def test_fields_of_the_recipe_are_options_of_train():
    "Each is read into the recipe, under its name and with its type; what a field changes is tests/test_recipe.py's"
    from dataclasses import fields, replace

    from xray_explain.model.recipe import Recipe

    for f in fields(Recipe):
        action = actions("train")["--" + f.name.replace("_", "-")]
        assert action.default == f.default and action.type is type(f.default) and action.help
    usual = Recipe()
    args = build_parser().parse_args(["train", "set", "--output-dir", "run", "--seed", "7"])
    assert replace(usual, seed=7) == Recipe(
        **{f.name: getattr(args, f.name) for f in fields(Recipe)}
    )
