"The command line as a user meets it: real processes, exit status, what is printed and what is written."

import json
import subprocess
import sys

import cv2
import pytest
from hostile_corpus import others

from xray_explain.data.phantom import write_phantoms
from xray_explain.read.pixels import stem_of
from xray_explain.wording import RESEARCH_USE, probability_text

RESULTS = {
    "batch_results.json",
    "batch_results.parquet",
    "batch_results.csv",
    "failures.json",
    "passed_over.json",
    "run",
}


def cli(*argv, **kwargs):
    code = "import sys; from xray_explain.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, argv)], capture_output=True, text=True, **kwargs
    )


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    "Ten good pictures in a folder of a data set"
    folder = write_phantoms(
        tmp_path_factory.mktemp("cli") / "set",
        per_class=4,
        seed=31,
        size=256,
        workers=1,
        progress=False,
    )
    for surplus in sorted((folder / "images").iterdir())[10:]:
        surplus.unlink()
    return folder / "images"


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom xray_explain.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
        "sys.exit(sorted({'torch', 'timm', 'pandas', 'matplotlib', 'papermill'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert RESEARCH_USE in done.stdout


def test_installed_program_answers():
    from pathlib import Path

    program = Path(sys.executable).parent / "xray-explain"
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("xray-explain ")


def test_one_picture(pictures, tmp_path):
    path = sorted(pictures.iterdir())[1]
    done = cli("infer", "--image", path, "--output-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        "Using the model bone_tumours" in done.stdout
        and "trained on BTXRD" in done.stdout
        and RESEARCH_USE in done.stdout
    )
    record = json.loads((tmp_path / f"{path.stem}.json").read_text())
    said = f"{record['prediction']} {probability_text(record['confidence'])}, calibrated on 415"
    assert done.stdout.index(record["worth"]) < done.stdout.index(said)
    for name, p in record["scores"].items():
        assert f"{name} {probability_text(p)}" in done.stdout
    assert (
        cv2.imread(str(tmp_path / f"{path.stem}_gradcam.png")).shape[:2]
        == cv2.imread(str(path)).shape[:2]
    )


def test_folder_with_bad_files(pictures, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for path in pictures.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    data = min(folder.iterdir()).read_bytes()
    for name in ("1.2.840.7", "1.2.840.8"):  # a number is no suffix, and the content a picture
        (folder / name).write_bytes(data)
    good = sorted(folder.iterdir())
    (folder / "DICOMDIR").write_bytes(others()["DICOMDIR"])
    for name in ("notes.txt", "read me", ".DS_Store", "film.dcm.part"):
        (folder / name).write_text("dear colleague")
    (folder / "empty.png").touch()
    (folder / "letter.jpg").write_text("dear colleague")
    (folder / "truncated.jpeg").write_bytes(data[: len(data) // 3])
    done = cli("infer", "--input-dir", folder, "--output-dir", tmp_path / "out")
    assert done.returncode == 1, done.stderr
    results = json.loads((tmp_path / "out" / "batch_results.json").read_text())
    assert [r["image_name"] for r in results] == [p.name for p in good] and len(results) == 12
    passed = "passed over: 2 system or backup files, 2 text files, 1 DICOMDIR"
    unlike = sum(r["unlike_training"] for r in results)
    summary = f"12 explained, {unlike} unlike the training, 3 failed; {passed}\n"
    assert summary in done.stdout
    counts = {"DICOMDIR": 1, "system or backup file": 2, "text file": 2}
    assert json.loads((tmp_path / "out" / "passed_over.json").read_text()) == counts
    named = [line for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert len(named) == 3
    for name, line in zip(("empty.png", "letter.jpg", "truncated.jpeg"), named):
        assert name in line
    written = {p.name for p in (tmp_path / "out").iterdir()}
    assert written == {f"{stem_of(p.name)}_gradcam.png" for p in good} | RESULTS


def test_same_command_same_bytes(pictures, tmp_path):
    for name in "ab":
        assert (
            cli("infer", "--input-dir", pictures, "--output-dir", tmp_path / name).returncode == 0
        )
    files = sorted(
        p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()
    )
    assert len(files) == 10 + 5 + 3
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_no_gradcam_writes_no_overlays(pictures, tmp_path):
    assert (
        cli("infer", "--input-dir", pictures, "--output-dir", tmp_path, "--no-gradcam").returncode
        == 0
    )
    assert {p.name for p in tmp_path.iterdir()} == RESULTS


@pytest.mark.parametrize(
    "argv, status, told",
    [
        (["infer"], 2, "required"),
        (["infer", "--image", "a.png", "--input-dir", "b"], 2, "not allowed"),
        (["infer", "--image", "absent.png"], 1, "absent.png"),
        (["infer", "--input-dir", "absent"], 1, "absent"),
        (["infer", "--image", "a.png", "--checkpoint", "absent.pt"], 1, "absent.pt"),
        (["report", "weather"], 1, "weather"),
    ],
)
def test_errors_are_one_line(argv, status, told, tmp_path):
    done = cli(*argv, cwd=tmp_path)
    assert done.returncode == status and told in done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert done.stderr.strip().count("\n") == 0
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(tmp_path):
    assert "Traceback" in cli("infer", "--image", "absent.png", "--debug", cwd=tmp_path).stderr
