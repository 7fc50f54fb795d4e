"Every benchmark runs, at sizes that say nothing about speed, so that its figures can be had again"

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUICK = {"cam_speed", "folder_speed"}  # which `make test` runs, too
# options, and what the table that is printed must hold
SMALL = {
    "cam_speed": (
        "--threads 1 --images 4 --batch 2 --rounds 1 --size 64",
        "pytorch-grad-cam, one object, all classes",
    ),
    "compiled_speed": (
        "--networks test_efficientnet --batch 4 --rounds 1 --others --layer bn2",
        "| compiled, bf16, a single picture |",
    ),
    "folder_speed": ("--images 3 --size 200 150 --workers 1", "ours, no overlays"),
    "view_latency": ("--rounds 2 --size 400 300", "control_median_ms"),
    "train_speed": (
        "--architecture test_efficientnet --size 64 --batch 4 --pairs 1 --stride 32",
        "test_efficientnet",
    ),
    "fine_speed": (
        "--body test_efficientnet --size 64 --batch 2 --rounds 1 --strides 8 --canvas 96 --scales 0.667",
        "fine.test_efficientnet, 8 pixels, on 96 pixels and 0.667 of it",
    ),
    "dicom_objects": ("--size 300 240 --rounds 1", "| seg |"),
    "node_speed": (
        "--images 3 --size 300 240 --rounds 1 --workers 1 --architecture test_efficientnet",
        "| node |",
    ),
    "folder_memory": (
        "--images 4 8 --size 100 --workers 1 --architecture test_efficientnet",
        "| 8 |",
    ),
    "ray_speed": ("--images 40 --size 200 150 --batch 8", "Ray"),
    "start_speed": ("--rounds 1", "xray-explain infer --image"),
    "report_speed": ("--cases 12", "another threshold"),
    "phantom_speed": ("--images 1 --size 128", "images/s on one core"),
    "licences": ("--all", "torch"),
    "novelty": ("report --per-class 2", "flagged of"),
    "near_duplicates": ("", "trimmed at each side"),
    "guidance": (
        "{data} --seeds 0 --output {out} --stage architecture=test_efficientnet image_size=64 epochs=1 "
        "--stage architecture=test_efficientnet image_size=64 epochs=1 guidance=0",
        "overlap less none",
    ),
    "view_picture": ("{out}.png", ""),
}
# what tests each of these
ELSEWHERE = {
    "soak": "test_soak.py",
    "hostile": "test_hostile.py",
    "fuzz_parsers": "test_hostile.py",
    "floors": "test_packaging.py",
    "labelme_opens": "test_outlines.py",
    "real_bones": "test_benchmarks.py",
    "film_novelty": "test_benchmarks.py",
}


def test_none_is_forgotten():
    assert set(SMALL) | set(ELSEWHERE) == {p.stem for p in (ROOT / "benchmarks").glob("*.py")}
    assert all(name in (ROOT / "tests" / by).read_text() for name, by in ELSEWHERE.items())
    assert set(re.findall(r"benchmarks/(\w+)\.py", (ROOT / "README.md").read_text())) <= set(SMALL)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in SMALL]
)
def test_runs(name, tmp_path):
    options, told = SMALL[name]
    data, out = tmp_path / "data", tmp_path / "out"
    if "{data}" in options:
        from xray_explain.data.phantom import write_phantoms

        write_phantoms(data, 14, seed=5, size=96, workers=1, progress=False)
    words = options.format(data=data, out=out).split()
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{name}.py", *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert told in done.stdout and not re.search(r"\bnan\b|\binf\b", done.stdout), done.stdout
    if name == "view_picture":
        assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    if (
        name == "guidance"
    ):  # each stage has the weight that was asked for it, and the form 'none' has none
        weights = {
            p.parent.name: json.loads(p.read_text())["guidance"] for p in out.glob("*/recipe.json")
        }
        assert weights == {"none_0_1": 0, "none_0_2": 0, "overlap_0_1": 1, "overlap_0_2": 0}


def run_benchmark(name, *options):
    "What one prints"
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *map(str, options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_real_bones_are_measured_and_their_films_told_from_others(tmp_path):
    "On phantoms: two trainings of a tiny network, their difference, and the score of the shipped model"
    from xray_explain.cli import main
    from xray_explain.data.phantom import write_phantoms

    data, split = tmp_path / "data", tmp_path / "split.csv"
    write_phantoms(data, per_class=24, seed=3, size=128, workers=1, progress=False)
    assert main(["split", str(data), "--output", str(split)]) == 0
    tiny = ("architecture=test_efficientnet", "freeze=0", "image_size=64", "epochs=1")
    told = run_benchmark(
        "real_bones",
        *("--data", data, "--weights", "", "--seeds", 0, "--output", tmp_path / "runs"),
        *("--run", "guided", split, *tiny, "--run", "plain", split, *tiny, "guidance=0"),
        *("--run", "fine", split, *tiny, "start=guided"),
        *("--figures", tmp_path / "figures.json"),
    )
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert "guided less plain" in told and figures["plain"]["settings"]["guidance"] == 0
    auc = {run: figures[run]["figures"]["AUC"]["mean"] for run in ("guided", "plain", "fine")}
    for first, second in (("guided", "plain"), ("fine", "guided")):
        less = figures[f"{first} less {second}"]["AUC"]["mean"]
        assert less == pytest.approx(auc[first] - auc[second], abs=1e-5)
    started = json.loads((tmp_path / "runs" / "fine_0" / "recipe.json").read_text())["start"]
    assert started == "model.safetensors"
    told = run_benchmark(
        "film_novelty", "bone_phantoms", "--data", data, "--split-file", split, "--most", 8
    )
    assert "turned by 180°" in told
