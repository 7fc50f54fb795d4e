"""Ray on this machine against the local engine, and what a million pictures would cost.

    python benchmarks/ray_speed.py --images 300 --size 2000 1500

Ray is started before the clock. Both engines do the same: read, explain, draw overlays of 224 pixels, write. "Once
started" counts from the first finished batch to the last, which is what a long run comes to, since processes and the
network are loaded once; "in all" counts from the call. The million is calculated from the former.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from folder_speed import make, seconds

from xray_explain.infer.cluster import RayEngine, connect
from xray_explain.infer.folder import LocalEngine, Options, run
from xray_explain.model.checkpoint import Checkpoint, build_net
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.sources import from_folder


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=300, help="JPEGs (default 300)")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(2000, 1500),
        help="width and height (default 2000 1500)",
    )
    parser.add_argument(
        "--batch", type=int, default=16, help="pictures in a forward pass (default 16)"
    )
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument(
        "--price",
        type=float,
        default=0.05,
        help="of a core for an hour, in any currency (default 0.05)",
    )
    return parser.parse_args()


class Timed:
    "An engine that notes when each batch is finished"

    def __init__(self, engine):
        self.engine, self.times = engine, []

    def __call__(self, *args, **kwargs):
        made = self.engine(*args, **kwargs)

        def batches(parts):
            for batch in made(parts):
                self.times.append((time.perf_counter(), len(batch["records"])))
                yield batch

        return batches

    def once_started(self) -> float:
        "Pictures per second after the first batch"
        (start, first), *_, (end, _) = self.times
        return (sum(n for _, n in self.times) - first) / (end - start)


def main():
    args = arguments()
    torch.manual_seed(0)
    way = Preprocessing(contrast="clahe", reading="reduced")
    model = Checkpoint(
        build_net("efficientnet_b0", 3).eval().requires_grad_(False),
        "efficientnet_b0",
        ("Normal", "Benign", "Malignant"),
        way,
    )
    options, rates = Options(args.batch, "fp32", "png", 224), {}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "in"
        folder.mkdir()
        make(folder, args.images, tuple(args.size))
        sources, count = from_folder(folder)
        ray, mine = connect()

        def go(name, engine, workers):
            timed = Timed(engine)
            whole = seconds(
                lambda: run(
                    model,
                    sources,
                    count,
                    Path(home) / name,
                    options,
                    timed,
                    workers,
                    args.device,
                    progress=False,
                )
            )
            rates[name] = timed.once_started(), count / whole

        go("Ray, one worker", RayEngine, 1)
        if mine:
            ray.shutdown()
        go("local engine", LocalEngine, os.cpu_count())
    print(
        f"{count} JPEGs of {args.size[0]} x {args.size[1]}, {os.cpu_count()} cores, {args.device}\n"
    )
    print("| engine | images/s once started | ratio | in all |\n|---|---:|---:|---:|")
    for name, (rate, whole) in rates.items():
        print(f"| {name} | {rate:.2f} | {rate / rates['local engine'][0]:.2f} | {whole:.2f} |")
    print("\n| a million pictures | core hours | price |\n|---|---:|---:|")
    for name, (rate, _) in rates.items():
        hours = 1e6 / rate / 3600 * os.cpu_count()
        print(f"| {name} | {hours:.0f} | {hours * args.price:.0f} |")


if __name__ == "__main__":
    main()
