"""How long until there is an answer? `--help`, and one picture against the least that it needs.

    python benchmarks/start_speed.py --rounds 3

The least: import torch and timm, load the weights, one forward pass.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

CLI = "import sys; from xray_explain.cli import main; sys.exit(main())"
LEAST = """
import sys, json, timm, torch
from safetensors import safe_open
from safetensors.torch import load_file
with safe_open(sys.argv[1], "pt") as f: header = json.loads(f.metadata()["xray_explain"])
net = timm.create_model(header["architecture"], num_classes=len(header["class_names"]), **header["model_args"]).eval()
net.load_state_dict({k: v for k, v in load_file(sys.argv[1]).items() if not k.startswith("novelty.")})
with torch.inference_mode(): net(torch.zeros(1, 3, *header["preprocessing"]["size"]))
"""


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds", type=int, default=3, help="rounds; the fastest counts (default 3)"
    )
    return parser.parse_args()


def seconds(*argv):
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", *map(str, argv)], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    args = arguments()
    from xray_explain.shipped import MODELS

    with tempfile.TemporaryDirectory() as home:
        film = Path(home) / "film.png"
        cv2.imwrite(str(film), (np.random.default_rng(0).random((500, 400)) * 255).astype(np.uint8))
        ways = {
            "python": ("pass",),
            "xray-explain --help": (CLI, "--help"),
            "the least": (LEAST, MODELS["bone_phantoms"]),
            "xray-explain infer --image": (CLI, "infer", "--image", film, "--output-dir", home),
        }
        taken = {
            name: min(seconds(*argv) for _ in range(args.rounds)) for name, argv in ways.items()
        }
    print("| what | s | against the least |\n|---|---:|---:|")
    for name, s in taken.items():
        print(f"| {name} | {s:.2f} | {s / taken['the least']:.2f} |")


if __name__ == "__main__":
    main()
