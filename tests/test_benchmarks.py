"Every benchmark runs, at sizes that say nothing about speed, so that its figures can be had again"
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
slow = lambda *values: pytest.param(*values, marks=pytest.mark.slow)
SMALL = [
    ("cam_speed", "--threads 1 --images 4 --batch 2 --rounds 1 --size 64"),
    ("folder_speed", "--images 3 --size 200 150 --workers 1"),
    slow("view_latency", "--rounds 2 --size 400 300"),
    slow("train_speed", "--architecture test_efficientnet --size 64 --batch 4 --pairs 1 --stride 32"),
    slow("folder_memory", "--images 4 8 --size 100 --workers 1 --architecture test_efficientnet"),
    slow("ray_speed", "--images 40 --size 200 150 --batch 8"),
    slow("start_speed", "--rounds 1"),
    slow("report_speed", "--cases 12"),
    slow("phantom_speed", "--images 1 --size 128"),
    slow("licences", "--all"),
    slow("novelty", "report --per-class 2"),
    slow("near_duplicates", ""),
    slow("guidance", "{data} --seeds 0 --output {out} --stage architecture=test_efficientnet image_size=64 epochs=1"),
    slow("view_picture", "{out}.png"),
]
ELSEWHERE = {"soak": "test_soak.py", "hostile": "test_hostile.py", "fuzz_parsers": "test_hostile.py"}  # what tests each of these


def test_none_is_forgotten():
    known = {entry.values[0] if hasattr(entry, "values") else entry[0] for entry in SMALL}
    assert known | set(ELSEWHERE) == {p.stem for p in (ROOT / "benchmarks").glob("*.py")}
    assert all((ROOT / "tests" / by).is_file() for by in ELSEWHERE.values())
    assert set(re.findall(r"benchmarks/(\w+)\.py", (ROOT / "README.md").read_text())) <= known


@pytest.mark.parametrize("name, options", SMALL)
def test_runs(name, options, tmp_path):
    data = tmp_path / "data"
    if "{data}" in options:
        from xray_explain.phantom import write_phantoms
        write_phantoms(data, 14, seed=5, size=96, workers=1, progress=False)
    words = [w.format(data=data, out=tmp_path / "out") for w in options.split()]
    done = subprocess.run([sys.executable, ROOT / "benchmarks" / f"{name}.py", *words], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    if name == "view_picture": assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    else: assert re.search(r"\d", done.stdout) and not re.search(r"\bnan\b|\binf\b", done.stdout), done.stdout
