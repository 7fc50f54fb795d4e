"What a terminal shows at every width, what a pipe gets, how a command ends, and what it imports from where."

import argparse
import contextlib
import io
import json
import os
import re
import resource
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from xray_explain import cli
from xray_explain.cli import STATUS, UNREAD, build_parser, main
from xray_explain.data.phantom import write_phantoms
from xray_explain.infer.results import RunCounts, run_summary
from xray_explain.wording import RESEARCH_USE, probability_text

PROGRAM = Path(sys.executable).parent / "xray-explain"
NUMBER = re.compile(r"\d+\.\d+")
DRAWN = re.compile("[\x1b\r\u2500-\u259f]")  # colours, boxes, bars


class Screen(io.StringIO):
    def isatty(self):
        return True


def plain(text: str) -> str:
    "Without colours"
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def in_process(argv, columns: int | None) -> tuple[int, str, str]:
    "Status, output and errors of a command, in a terminal of some width or through a pipe"
    out, errors = (Screen() if columns else io.StringIO()), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns or 80))
        patch.setenv("TERM", "xterm-256color")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            status = main([str(a) for a in argv])
    return status, out.getvalue(), errors.getvalue()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    "A few phantoms, one of them no picture, and a model that knows how its pictures look"
    import torch

    from xray_explain.model.checkpoint import Checkpoint, build_net, save_checkpoint
    from xray_explain.read.preprocessing import Preprocessing

    place = tmp_path_factory.mktemp("terminal")
    write_phantoms(place / "set", 7, 31, 100, 1, progress=False)
    (place / "set" / "images" / "letter.jpg").write_text("dear colleague")
    torch.manual_seed(0)
    net = build_net("test_efficientnet", 3).eval()
    guess = Checkpoint(
        net, "test_efficientnet", ("Normal", "Benign", "Malignant"), Preprocessing((64, 64))
    )
    save_checkpoint(place / "guess.safetensors", guess)
    return place


@pytest.fixture(scope="module")
def infer(home):
    "The command over that folder, whose second run and those after it find all of it done"
    argv = ["infer", "--input-dir", home / "set" / "images", "--output-dir", home / "out"]
    argv += ["--checkpoint", home / "guess.safetensors", "--workers", 0, "--batch-size", 4]
    in_process(argv, None)
    return argv


# --- widths


@pytest.mark.parametrize("columns", (60, 80, 160))
def test_nothing_is_wider_than_the_terminal_and_no_number_is_cut(infer, home, columns):
    status, shown, _ = in_process(infer, columns)
    lines, records = (
        plain(shown).splitlines(),
        json.loads((home / "out" / "batch_results.json").read_text()),
    )
    assert status == 1 and len(records) == 21
    long_names = (str(home),)  # what is wider than the terminal is left to it
    assert all(len(line) <= columns for line in lines if not any(n in line for n in long_names))
    text = " ".join(lines)
    narrow = "too narrow here for Normal, Benign, Malignant; all of it is" in text
    assert narrow == (columns < 100)
    for record in records:
        assert record["image_name"] in text
        scores = [record["confidence"]] if narrow else record["scores"].values()
        assert all(probability_text(p) in text for p in scores), shown
    assert not [line for line in lines if re.search(r"\d\.$|^\s*\.\d", line)]


def test_a_pipe_gets_one_line_for_a_picture_and_nothing_but_text(infer, home):
    _, piped, errors = in_process(infer, None)
    records = json.loads((home / "out" / "batch_results.json").read_text())
    lines = piped.splitlines()
    assert not DRAWN.search(piped)
    for record in records:
        (line,) = [line for line in lines if line.startswith(record["image_name"])]
        numbers = [f"{record[k]:.3f}" for k in ("confidence",)]
        numbers += [f"{p:.3f}" for p in record["scores"].values()]
        assert NUMBER.findall(line) == numbers
    assert "%|" not in errors
    assert [line for line in errors.splitlines() if line.startswith("explaining: 22 pictures in ")]


def test_what_a_model_is_worth_stands_before_the_first_verdict(infer, home):
    from xray_explain.model.checkpoint import load_checkpoint

    worth = load_checkpoint(home / "guess.safetensors").worth
    for columns in (None, 80):
        shown = " ".join(plain(in_process(infer, columns)[1]).split())
        assert shown.index(" ".join(worth.split())) < shown.index("confidence")
        assert shown.endswith(RESEARCH_USE)


def test_the_table_of_a_split(home, tmp_path):
    for columns in (60, None):
        argv = ("split", home / "set", "--output", tmp_path / "split.csv")
        status, shown, errors = in_process(argv, columns)
        lines = [line for line in plain(shown).splitlines() if str(tmp_path) not in line]
        assert status == 0, errors
        assert [line for line in lines if line.startswith("Malignant ")]
        assert max(map(len, lines)) <= columns if columns else not DRAWN.search(shown)


def test_the_tables_of_an_audit(home):
    from xray_explain.data.audit import audit
    from xray_explain.report.audit_pages import audit_text

    audited = audit(home / "set", progress=False)
    whole = audit_text(audited)
    assert not DRAWN.search(whole) and "letter.jpg" in whole
    numbers = sorted(re.findall(r"[\d.]+", whole))
    for columns in (60, 80, 160):
        tables = audit_text(audited, columns).split("\n\n")
        lines = [line for table in tables[1:-1] for line in table.splitlines()]
        assert max(map(len, lines)) <= columns
        assert sorted(re.findall(r"[\d.]+", audit_text(audited, columns))) == numbers


# --- a verdict in few words, and a run in one sentence


def test_the_summary_counts_those_unlike_the_training():
    from xray_explain.infer.results import counts_of

    flags = [True] * 58 + [False] * 2
    counts = counts_of({"unlike_training": flag} for flag in flags)
    assert counts == RunCounts(60, 0, 58)
    assert run_summary(counts) == "60 explained, 58 unlike the training, 0 failed"


def test_the_summary_of_a_run_is_that_of_its_results(infer, home, monkeypatch):
    "Also where it was gone on with, and of a network that knows how its pictures look"
    import xray_explain.infer.network as network

    usual = network.Network.__call__

    def strange(self, canvases):
        return [
            o.__class__(**{**vars(o), "ood_score": 1.5 if i % 2 else 0.5})
            for i, o in enumerate(usual(self, canvases))
        ]

    monkeypatch.setattr(network.Network, "__call__", strange)
    argv = [*infer[:3], "--output-dir", home / "strange", *infer[5:]]
    for _ in range(2):
        _, shown, _ = in_process(argv, None)
        records = json.loads((home / "strange" / "batch_results.json").read_text())
        unlike = sum(r["unlike_training"] for r in records)
        assert 0 < unlike < 21
        assert f"\n21 explained, {unlike} unlike the training, 1 failed\n" in shown
        assert shown.count("UNLIKE TRAINING") == unlike


def test_every_word_of_a_command_goes_through_one_function():
    "Which knows the width of the terminal, and the bars on it"
    assert "print(" not in Path(cli.__file__).read_text("utf-8")


# --- bars


def on_terminal(code: str, columns: int) -> str:
    "What a program writes to a terminal of that width"
    import fcntl
    import pty
    import termios

    parent, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES", "NO_COLOR")}
    done = subprocess.Popen([sys.executable, "-c", code], stdout=child, stderr=child, env=env)
    os.close(child)
    text = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while piece := os.read(parent, 4096):
            text += piece
    assert done.wait() == 0
    os.close(parent)
    return text.decode()


BAR = "from xray_explain.terminal import progress_bar; list(progress_bar('abc', 'reading', unit='picture'))"


@pytest.mark.parametrize("columns", (60, 100))
def test_a_bar_is_as_wide_as_the_terminal(columns):
    drawn = on_terminal(BAR, columns)
    assert "3/3" in drawn and "reading: 3 pictures" not in drawn
    assert max(map(len, re.split(r"[\r\n]", drawn))) <= columns


def test_elsewhere_there_is_one_line():
    done = subprocess.run([sys.executable, "-c", BAR], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "reading: 3 pictures in 0 s\n")


def test_bars_are_made_in_one_module():
    package = Path(cli.__file__).parent
    users = {p.name for p in package.rglob("*.py") if "tqdm" in p.read_text("utf-8")}
    assert users - {"_modidx.py"} == {"terminal.py"}


# --- how a command ends


def unread(argv, **options) -> subprocess.CompletedProcess:
    "A command whose output nobody reads"
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as closed:
        return subprocess.run(
            [PROGRAM, *map(str, argv)], stdout=closed, stderr=subprocess.PIPE, text=True, **options
        )


@pytest.mark.parametrize("unbuffered", ("", "1"))
def test_a_reader_that_goes_ends_it_quietly(tmp_path, unbuffered):
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    small = ("phantom", "set", "--per-class", 1, "--size", 64, "--workers", 1)
    for argv in (("--help",), small):
        done = unread(argv, env=env, cwd=tmp_path)
        assert done.returncode == UNREAD == 141, (argv, done.stderr)
        assert not re.search("Broken|Traceback|Exception|Errno", done.stderr)
    assert (tmp_path / "set" / "dataset.csv").is_file()  # what was finished has been kept


def test_a_broken_connection_is_no_reader_that_goes(monkeypatch, home):
    def broken(args):
        raise BrokenPipeError(32, "the bucket hung up")

    monkeypatch.setitem(cli.COMMANDS, "audit", (broken, *cli.COMMANDS["audit"][1:]))
    status, _, errors = in_process(["audit", home / "set"], None)
    assert status == 1 and "the bucket hung up" in errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_said():
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [PROGRAM, "--version"],
            env=os.environ | {"PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "xray-explain: the output cannot be written (No space left on device)\n"


def test_a_name_that_the_terminal_cannot_show_costs_nothing(tmp_path):
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    argv = [PROGRAM, "phantom", "\u819d", "--per-class", "1", "--size", "64", "--workers", "1"]
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3 phantoms in \\u819d\n")


def test_every_status_is_documented():
    from xray_explain.files import PACKAGE

    notebook = (PACKAGE.parent / "nbs" / "99_cli.ipynb").read_text("utf-8")
    for status in (0, 1, 2, cli.INTERRUPTED, UNREAD):
        assert re.search(rf"\b{status} ", STATUS) and re.search(rf"\b{status}[:,.\\ ]", notebook)
    help_text = " ".join(build_parser().format_help().split())
    assert " ".join(STATUS.split()) in help_text


# --- what is looked at before anything heavy is imported

WRITTEN = {"output", "output_dir", "into", "pseudonymise"}  # by the command, if need be
MISSING = [
    ("audit", "none"),
    ("audit", "{set}", "--split-file", "none.csv"),
    ("split", "none", "--output", "x.csv"),
    ("train", "none", "--output-dir", "x"),
    ("train", "{set}", "--start", "none.pt", "--output-dir", "x"),
    ("calibrate", "none", "--output", "x.safetensors"),
    ("calibrate", "{set}", "--checkpoint", "none.pt", "--output", "x.safetensors"),
    ("evaluate", "none.zip"),
    ("evaluate", "{set}", "--split-file", "none.csv"),
    ("card", "--checkpoint", "none.pt"),
    ("card", "--evaluation", "none.json"),
    ("report", "--data", "none"),
    ("report", "--checkpoint", "none.pt"),
    ("infer", "--image", "none.png"),
    ("infer", "--image", "none.png", "--checkpoint", "none.pt"),
    ("infer", "--input-dir", "none"),
    ("infer", "--input-dir", "none/*.png"),
    ("infer", "--manifest", "none.csv"),
    ("view", "--data", "none"),
    ("view", "--checkpoint", "none.pt"),
]
HEAVY = ("torch", "timm", "papermill", "voila", "skimage", "sklearn", "matplotlib", "IPython")


def test_what_is_missing_is_said_before_anything_heavy_is_imported(home, tmp_path):
    code = (
        "import json, sys\nfrom xray_explain.cli import main\n"
        f"print(json.dumps([main(argv) for argv in {[[p.format(set=home / 'set') for p in argv] for argv in MISSING]!r}]))\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    status, heavy = map(json.loads, done.stdout.splitlines())
    assert heavy == [] and status == [1] * len(MISSING)
    lines = done.stderr.splitlines()
    assert len(lines) == len(MISSING), lines
    for argv, line in zip(MISSING, lines):
        assert line.startswith("xray-explain: ") and re.search("none|[*].png", line), (argv, line)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_picture_is_said_within_a_second(tmp_path):
    "Of a processor, so that others on this machine do not count"
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([PROGRAM, "infer", "--image", "none.png"], cwd=tmp_path, stderr=-1)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 1 and b"none.png: it cannot be opened" in done.stderr
    assert min(seconds) < 1, seconds


def options_of(parser: argparse.ArgumentParser):
    (commands,) = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for name, sub in commands.choices.items():
        for action in sub._actions:
            yield name, action


def test_every_option_that_names_a_file_is_looked_at():
    "Or is written by the command: a new one has to be put on one side"
    known = {*cli._OPENED_BY, *cli._FILES, *WRITTEN}
    for command, action in options_of(build_parser()):
        names_a_file = action.metavar in ("FILE", "DIR", "KEYFILE") or action.dest == "data"
        assert not names_a_file or action.dest in known, (command, action.dest)


def test_the_words_are_those_of_the_library(tmp_path):
    from xray_explain.model.checkpoint import CheckpointError, load_checkpoint

    with pytest.raises(CheckpointError) as raised:
        load_checkpoint(tmp_path / "none.pt")
    _, _, errors = in_process(["card", "--checkpoint", tmp_path / "none.pt"], None)
    assert errors == f"xray-explain: {raised.value}\n"


# --- what is imported from the folder that a command is started in

DECOYS = (
    *("timm", "torch", "numpy", "cv2", "pandas", "PIL", "pydicom", "scipy", "joblib", "tqdm"),
    *("rich", "papermill", "ipykernel", "ipykernel_launcher", "IPython", "traitlets", "zmq"),
    *("nbformat", "jupyter_client", "tornado", "ipywidgets", "anywidget", "psutil", "ray"),
    *("xray_explain", "random", "socket", "tempfile", "voila", "ipython_config", "usercustomize"),
)


@pytest.fixture
def trap(tmp_path):
    "A folder full of modules that leave a mark when they are imported"
    folder = tmp_path / "trap"
    folder.mkdir()
    for name in DECOYS:
        mark = f"open({str(tmp_path / 'sprung')!r}, 'a').write({name!r} + ' ')"
        (folder / f"{name}.py").write_text(f"{mark}\nraise SystemExit('a decoy')\n")
    yield folder
    sprung = tmp_path / "sprung"
    assert not sprung.exists(), sprung.read_text()


def test_the_trap_works(trap):
    "Where Python is not told otherwise, a decoy is run"
    subprocess.run([sys.executable, "-c", "import timm"], cwd=trap, capture_output=True)
    sprung = trap.parent / "sprung"
    assert sprung.read_text() == "timm "
    sprung.unlink()


def test_processes_that_draw_import_nothing_from_here(trap):
    "Those of joblib, whose interpreter begins in the current folder"
    argv = ["phantom", "set", "--per-class", "2", "--size", "64", "--workers", "2"]
    done = subprocess.run([PROGRAM, *argv], cwd=trap, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_kernel_of_a_report_imports_nothing_from_here(trap, monkeypatch):
    import asyncio

    import nbformat
    from nbclient import NotebookClient

    from xray_explain.report.run import InterpreterKernel

    monkeypatch.chdir(trap)
    code = "import numpy, timm.version, sys; print(sys.path[0] == '', 'trap' in ' '.join(sys.path))"
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    client = NotebookClient(nb, kernel_manager_class=InterpreterKernel, kernel_name="python3")
    asyncio.run(client.async_execute())
    assert nb.cells[0].outputs[0].text == "False False\n"


def test_the_view_takes_no_settings_from_here(trap, monkeypatch):
    pytest.importorskip("voila")
    from traitlets.config import Config
    from voila.app import Voila

    from xray_explain.view.server import voila_config

    monkeypatch.chdir(trap)
    assert str(trap) in Voila().config_file_paths
    page = Voila(config=Config(voila_config(8866, "secret")))
    page.load_config_file("voila", path=page.config_file_paths)


def test_workers_of_a_cluster_import_nothing_from_here(trap, monkeypatch):
    from xray_explain.infer import cluster

    class Ray:
        def init(self, **options):
            self.folder = os.getcwd()

    monkeypatch.chdir(trap)
    ray = Ray()
    cluster._join(ray, "")
    assert Path(ray.folder) == Path(sys.prefix).resolve() and os.getcwd() == str(trap)
    assert not list(Path(sys.prefix).glob("*.py"))


@pytest.mark.slow
def test_no_command_imports_from_here(trap, home, tmp_path):
    "Each of them from its start to its end, in the trap"
    data, model, out = home / "set", home / "guess.safetensors", tmp_path / "out"
    folder = ["infer", "--input-dir", data / "images", "--checkpoint", model]
    toy = ["--architecture", "test_efficientnet", "--image-size", 64, "--epochs", 1]
    toy += ["--batch-size", 4, "--device", "cpu"]
    named = ["--checkpoint", model]
    runs = [
        ["audit", data, "--output-dir", out / "audit"],
        ["split", data, "--output", out / "split.csv"],
        ["train", data, *toy, "--output-dir", out / "run"],
        ["calibrate", data, *named, "--split", "all", "--output", out / "c.safetensors"],
        ["evaluate", data, *named],
        ["card", *named, "--output", out / "card.md"],
        ["report", "gallery", "--data", data, *named, "--output-dir", out / "pages"],
        [*folder, "--output-dir", out / "local", "--workers", 2],
        ["infer", "--image", data / "images" / "IMG000001.jpeg", "--output-dir", out / "one"],
    ]
    with contextlib.suppress(ImportError):
        import ray  # noqa: F401

        runs.append([*folder, "--output-dir", out / "ray", "--engine", "ray", "--workers", 1])
    for argv in runs:
        done = subprocess.run(
            [PROGRAM, *map(str, argv)], cwd=trap, capture_output=True, text=True, timeout=400
        )
        sprung = tmp_path / "sprung"
        assert not sprung.exists(), (argv, sprung.read_text())
        failed = "--input-dir" in argv or argv[0] == "calibrate"  # a letter; too few cases
        assert done.returncode == failed, (argv, done.stderr[-800:])


@pytest.mark.slow
def test_the_view_imports_nothing_from_here(trap):
    pytest.importorskip("voila")
    served = subprocess.Popen(
        [PROGRAM, "view", "--no-browser", "--port", "8990"],
        cwd=trap,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        first = served.stdout.readline()
        assert first.startswith("The view is at http"), first
        time.sleep(2)
    finally:
        served.terminate()
        served.wait(30)
