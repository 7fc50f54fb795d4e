"README.md is nbs/index.ipynb, and what it names exists."
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_readme_is_the_index_notebook():
    made = subprocess.run([Path(sys.executable).parent / "jupyter", "nbconvert", "--to", "markdown", "--stdout", "--log-level", "WARN",
                           "--TagRemovePreprocessor.enabled=True", "--TagRemovePreprocessor.remove_cell_tags", "hide",
                           ROOT / "nbs" / "index.ipynb"], capture_output=True, text=True, check=True).stdout
    assert (ROOT / "README.md").read_text() == made.replace("(../results", "(results"), "run make readme"


def test_pictures_and_links_exist():
    text = (ROOT / "README.md").read_text()
    places = [p for p in re.findall(r"\]\(([^)]+)\)", text) if not p.startswith("http")]
    assert places
    for place in places: assert (ROOT / place).exists(), place


def test_make_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for target in re.findall(r"make ([a-z-]+)", (ROOT / "README.md").read_text()):
        if target not in ("path",): assert target in targets, target


def test_commands_are_understood():
    "Every xray-explain line parses; the fuller ones are run in test_cli and test_reports"
    from xray_explain.cli import build_parser
    text = re.sub(r"\\\n\s*", "", (ROOT / "README.md").read_text())  # lines that go on
    lines = re.findall(r"^\.venv/bin/xray-explain (.+?)(?:\s+#.*)?$", text, re.M)
    assert len(lines) >= 5
    for line in lines: build_parser().parse_args(line.split())
