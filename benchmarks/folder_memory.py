"""Does memory grow with the number of pictures? Peak resident memory of a run over few and over many.

python benchmarks/folder_memory.py --images 500 5000
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

RUN = """
import resource, sys
import torch
from xray_explain.infer.folder import Options, run
from xray_explain.model.checkpoint import Checkpoint, build_net
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.sources import from_folder
torch.manual_seed(0)
model = Checkpoint(build_net(sys.argv[3], 3).eval().requires_grad_(False), sys.argv[3], ("Normal", "Benign", "Malignant"), Preprocessing())
sources, count = from_folder(sys.argv[1])
counts = run(model, sources, count, sys.argv[2], Options(16, overlay_size=128), workers=int(sys.argv[4]), progress=False)
assert (counts.explained, counts.failed) == (count, 0)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--images",
        type=int,
        nargs="+",
        default=[500, 5000],
        help="pictures of each run (default 500 5000)",
    )
    parser.add_argument("--size", type=int, default=600, help="pixels of a side (default 600)")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes that read and draw (default 2)"
    )
    parser.add_argument("--architecture", default="efficientnet_b0")
    return parser.parse_args()


def peak(home, images, args):
    "Mebibytes of the run itself, and of its largest worker"
    folder = home / str(images)
    folder.mkdir()
    rng = np.random.default_rng(0)
    base = cv2.resize(rng.random((30, 30), np.float32) * 255, (args.size, args.size)).astype(
        np.uint8
    )
    for i in range(images):
        cv2.imwrite(str(folder / f"{i:06}.jpg"), np.roll(base, 7 * i, 1))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            RUN,
            folder,
            home / f"out{images}",
            args.architecture,
            str(args.workers),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return [int(v) / unit for v in done.stdout.split()[-2:]]


def main():
    args = arguments()
    print(f"{args.architecture}, {args.workers} workers, JPEGs of {args.size} x {args.size}\n")
    print("| pictures | run, MiB | a worker, MiB | run, ratio |\n|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as home:
        first = None
        for images in args.images:
            own, worker = peak(Path(home), images, args)
            first = first or own
            print(f"| {images} | {own:.0f} | {worker:.0f} | {own / first:.3f} |", flush=True)


if __name__ == "__main__":
    main()
