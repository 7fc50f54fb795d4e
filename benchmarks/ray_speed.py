"""Ray on this machine against the local engine, and what a million pictures would cost.

    python benchmarks/ray_speed.py --images 300 --size 2000 1500

Ray is started before the clock; a first small run loads the network into its worker. Both do the same: read, explain,
draw overlays of 224 pixels, write. The million is calculated from the rates.
"""
import argparse
import os
import tempfile
from pathlib import Path

import torch
from folder_speed import make, seconds

from xray_explain.engine import LocalEngine, Options, run
from xray_explain.model import Checkpoint, Preprocessing, build_net
from xray_explain.ray_engine import RayEngine, connect
from xray_explain.sources import from_folder


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300, help="JPEGs (default 300)")
    parser.add_argument("--size", type=int, nargs=2, default=(2000, 1500), help="width and height (default 2000 1500)")
    parser.add_argument("--batch", type=int, default=16, help="pictures in a forward pass (default 16)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--price", type=float, default=0.05, help="of a core for an hour, in any currency (default 0.05)")
    return parser.parse_args()


def main():
    args = arguments()
    torch.manual_seed(0)
    way = Preprocessing(contrast="clahe", reading="reduced")
    model = Checkpoint(build_net("efficientnet_b0", 3).eval().requires_grad_(False), "efficientnet_b0", ("Normal", "Benign", "Malignant"), way)
    options, rates = Options(args.batch, "fp32", "png", 224), {}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "in"
        folder.mkdir()
        make(folder, args.images, tuple(args.size))
        sources, count = from_folder(folder)
        ray, mine = connect()
        go = lambda name, engine, workers: seconds(lambda: run(model, sources, count, Path(home) / name, options, engine, workers,
                                                               args.device, progress=False))
        go("warm", RayEngine, 1)
        rates["Ray, one worker"] = count / go("ray", RayEngine, 1)
        if mine: ray.shutdown()
        rates["local engine"] = count / go("local", LocalEngine, os.cpu_count())
    print(f"{count} JPEGs of {args.size[0]} x {args.size[1]}, {os.cpu_count()} cores, {args.device}\n")
    print("| engine | images/s | ratio |\n|---|---:|---:|")
    for name, rate in rates.items(): print(f"| {name} | {rate:.2f} | {rate / rates['local engine']:.2f} |")
    print("\n| a million pictures | core hours | price |\n|---|---:|---:|")
    for name, rate in rates.items():
        hours = 1e6 / rate / 3600 * os.cpu_count()
        print(f"| {name} | {hours:.0f} | {hours * args.price:.0f} |")


if __name__ == "__main__": main()
