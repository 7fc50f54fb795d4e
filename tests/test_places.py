"Where results go: no command and no notebook leaves anything that git sees, and nothing is overwritten by another input."

import json
import shutil
import subprocess
from contextlib import chdir
from pathlib import Path

import papermill
import pytest

from xray_explain.cli import main
from xray_explain.data.phantom import write_phantoms
from xray_explain.places import results_folder
from xray_explain.report.run import InterpreterKernel

ROOT = Path(__file__).parent.parent


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    done = subprocess.run(["git", *who, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "A small data set outside of any checkout"
    folder = tmp_path_factory.mktemp("home") / "films"
    return write_phantoms(folder, per_class=3, seed=5, size=128, workers=1, progress=False)


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    "What of a checkout decides about places, with the stored results, all of it committed"
    monkeypatch.setenv("XRAY_EXPLAIN_CACHE", str(tmp_path / "cache"))
    top = tmp_path / "checkout"
    for name in ("nbs/reports", "results"):
        untracked = shutil.ignore_patterns("own", "run", ".ipynb_checkpoints")
        shutil.copytree(ROOT / name, top / name, ignore=untracked)
    (top / "xray_explain").mkdir()
    shutil.copy(ROOT / "xray_explain" / "places.py", top / "xray_explain")
    shutil.copy(ROOT / ".gitignore", top)
    git(top, "init", "-q")
    git(top, "add", "-A")
    git(top, "commit", "-q", "-m", "as it was")
    return top


def run_in(folder: Path, *words) -> int:
    with chdir(folder):
        return main([str(word) for word in words])


def test_commands_on_own_data_leave_nothing_that_git_sees(checkout, films):
    "From the top and from below it, and again with the same input"
    picture = next((films / "images").iterdir())
    own = checkout / "results" / "own"
    for command in (
        ("audit", films),
        ("card",),
        ("infer", "--image", picture),
        ("infer", "--input-dir", films / "images", "--workers", 0),
    ):
        assert run_in(checkout, *command) == 0, command
        assert git(checkout, "status", "--porcelain") == "", command
    # another input of the same name, and the first again
    other = films.parent / "other" / "images"
    shutil.copytree(films / "images", other)
    (other / picture.name).unlink()
    before = (own / "images" / "infer" / "batch_results.json").read_bytes()
    for folder in (other, films / "images"):
        command = ("infer", "--input-dir", folder, "--workers", 0)
        assert run_in(checkout / "nbs" / "reports", *command) == 0
    assert (own / "images" / "infer" / "batch_results.json").read_bytes() == before
    counts = [
        len(json.loads((own / name / "infer" / "batch_results.json").read_text()))
        for name in ("images", "images_2")
    ]
    assert counts == [9, 8]
    assert {p.name for p in own.iterdir() if p.is_dir()} == {
        *("films", "phantoms", "images", "images_2")
    }
    assert git(checkout, "status", "--porcelain") == ""
    assert [p.name for p in checkout.glob("nbs/**/results")] == []


@pytest.mark.slow
def test_a_report_and_then_its_pictures(checkout, films):
    "As a command, then `infer` on the same folder; and as a notebook that was opened where it lies"
    assert run_in(checkout, "report", "inference", "--data", films) == 0
    assert run_in(checkout, "infer", "--input-dir", films, "--workers", 0) == 0
    papermill.execute_notebook(
        checkout / "nbs" / "reports" / "gallery.ipynb",
        None,
        {"data": str(films), "examples": 1},
        kernel_name="python3",
        kernel_manager_class=InterpreterKernel,
        cwd=str(checkout / "nbs" / "reports"),
        progress_bar=False,
    )
    own = checkout / "results" / "own" / "films"
    assert {"gradcam", "reports", "inference", "infer"} <= {p.name for p in own.iterdir()}
    assert git(checkout, "status", "--porcelain") == ""
    assert not (checkout / "nbs" / "reports" / "results").exists()


@pytest.mark.slow
def test_every_report_of_the_example(checkout):
    "`make report`, then a folder into the default place"
    assert run_in(checkout, "report") == 0
    assert git(checkout, "status", "--porcelain") == ""


def test_pseudonyms_keep_the_folders_name_out_of_the_place(films, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = tmp_path / "DOE_JANE"
    shutil.copytree(films / "images", named)
    words = ("--input-dir", named, "--pseudonymise", tmp_path / "key", "--workers", 0)
    assert run_in(tmp_path, "infer", *words, "--no-gradcam") == 0
    (place,) = (p for p in (tmp_path / "results" / "own").iterdir() if p.is_dir())
    assert len(place.name) == 32 and not (place / ".input").exists()
    assert not [p for p in place.rglob("*") if "DOE" in p.name]


def test_a_slip_of_the_pen_leaves_nothing(tmp_path, capsys):
    assert run_in(tmp_path, "infer", "--input-dir", "nowhere") == 1
    assert run_in(tmp_path, "infer", "--image", "nowhere/film.png") == 1
    assert list(tmp_path.iterdir()) == []


def test_no_stored_notebook_writes_beside_itself():
    "Reports ask for their place; nothing below nbs/ is a result"
    for path in (ROOT / "nbs" / "reports").glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert "results_folder(data, output_dir)" in text and "Path(output_dir)" not in text
    assert git(ROOT, "ls-files", "nbs/results", "nbs/reports/results") == ""


def test_the_stored_example_holds_no_seconds():
    stored = ROOT / "results"
    own = stored / "own"  # what `make report` writes
    assert not [p for p in stored.rglob("seconds.json") if own not in p.parents]
    assert "seconds per image" not in (stored / "reports" / "faithfulness.html").read_text("utf-8")


def test_what_the_user_says_counts(tmp_path):
    assert results_folder("films", tmp_path / "here", "infer") == tmp_path / "here"
