"README.md is nbs/index.ipynb, and what it names exists."

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from fake_btxrd import write_btxrd

from xray_explain.data.phantom import write_phantoms
from xray_explain.shipped import MODELS

ROOT = Path(__file__).parent.parent


def test_readme_is_the_index_notebook():
    made = subprocess.run(
        [
            Path(sys.executable).parent / "jupyter",
            "nbconvert",
            "--to",
            "markdown",
            "--stdout",
            "--log-level",
            "WARN",
            "--TagRemovePreprocessor.enabled=True",
            "--TagRemovePreprocessor.remove_cell_tags",
            "hide",
            ROOT / "nbs" / "index.ipynb",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert (ROOT / "README.md").read_text() == made.replace("(../results", "(results").replace(
        "(images/", "(nbs/images/"
    ), "run make readme"


def test_pictures_and_links_exist():
    text = (ROOT / "README.md").read_text()
    places = [p for p in re.findall(r"\]\(([^)]+)\)", text) if not p.startswith("http")]
    assert places
    for place in places:
        assert (ROOT / place).exists(), place


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()):
        if target not in ("path",):
            assert target in targets, target


def commands() -> list[list[str]]:
    "The words of every xray-explain line"
    text = re.sub(r"\\\n\s*", "", (ROOT / "README.md").read_text())  # lines that go on
    return [
        shlex.split(line)
        for line in re.findall(r"^\.venv/bin/xray-explain (.+?)(?:\s+#.*)?$", text, re.M)
    ]


def test_commands_are_understood():
    from xray_explain.cli import build_parser

    assert len(commands()) >= 5
    for words in commands():
        build_parser().parse_args(words)


def documented_commands() -> list[tuple[str, list[str]]]:
    "Notebook and words of every xray-explain line in the shell blocks of all notebooks, as a shell reads them"
    found = []
    for path in sorted((ROOT / "nbs").rglob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] != "markdown":
                continue
            for block in re.findall(r"^```sh\n(.*?)^```", "".join(cell["source"]), re.M | re.S):
                # a backslash goes on in the next line, two are an argument
                lines = re.sub(r"(?<!\\)\\\n", " ", block).splitlines()
                words = [shlex.split(line, comments=True) for line in lines]
                found += [(path.stem, w[1:]) for w in words if w and w[0].endswith("xray-explain")]
    return found


def test_commands_of_all_notebooks_are_understood():
    from xray_explain.cli import build_parser

    assert len(documented_commands()) >= 30
    for notebook, words in documented_commands():
        try:
            build_parser().parse_args(words)
        except SystemExit as end:
            assert end.code == 0, f"{notebook}: xray-explain {shlex.join(words)}"


@pytest.mark.slow
def test_commands_run(tmp_path):
    "One after the other; without the hub, whose weights need a network, and what test_view and test_ray start"
    from test_view import dicom

    from xray_explain.data.phantom import make_phantom

    write_btxrd(tmp_path, per_class=100)  # 45 validation cases, enough to calibrate on
    folder = write_phantoms(
        tmp_path / "path" / "to" / "dataset",
        per_class=4,
        seed=8,
        size=200,
        workers=1,
        progress=False,
    )
    shutil.copytree(folder / "images", tmp_path / "films")
    shutil.copy(MODELS["bone_phantoms"], tmp_path / "model.safetensors")
    (tmp_path / "film.dcm").write_bytes(dicom(make_phantom(9, "Malignant", 300).image))
    pd.DataFrame(
        {"path": [f"films/{p.name}" for p in sorted((tmp_path / "films").iterdir())]}
    ).to_csv(tmp_path / "films.csv", index=False)
    for words in commands():
        if words[0] == "view" or "ray" in words:
            continue
        if "hub" in words:
            words = [*(w.replace("hub", "") for w in words), "--epochs", "1"]
        done = subprocess.run(
            [Path(sys.executable).parent / "xray-explain", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**os.environ, "XRAY_EXPLAIN_CACHE": str(tmp_path / "cache")},
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
