"""What do finer cells cost? A pass with the maps of all classes, of fine networks and of the coarse one of the same body.

    python benchmarks/fine_speed.py --threads 1
    python benchmarks/fine_speed.py --threads 1 --canvas 384 --scales 0.667

All networks are folded as inference folds them and take turns in every round. The ratio is the median over rounds of a
network's seconds by those of the body with cells of 16 pixels, whose map is the 14 x 14 cells of a picture of 224 pixels.
With `--canvas` one more network sees the same pictures on that canvas, and at these scales, with the first of the strides.
"""

import argparse
import platform
import time

import numpy as np
import timm
import torch
from tabulate import tabulate

from xray_explain.evidence.cam import explain
from xray_explain.model.networks.fine import FINE
from xray_explain.model.networks.folding import folded
from xray_explain.model.recipe import scales_of

COARSE = 16  # pixels per cell of the network that the others are compared with


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--body", default="tf_efficientnet_lite0")
    parser.add_argument("--strides", type=int, nargs="+", default=[8, 4], help="pixels per cell")
    parser.add_argument("--size", type=int, default=224, help="height and width of a picture")
    parser.add_argument("--canvas", type=int, default=0, help="of one more, in pixels")
    parser.add_argument("--scales", default="", help="of that one, shares of its canvas")
    parser.add_argument("--batch", type=int, default=16, help="pictures in a pass")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    return parser.parse_args()


def network(name, stride, **more):
    "With random weights, which cost as much as trained ones"
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=3, output_stride=stride, **more).eval()
    return folded(net.requires_grad_(False))


def seconds(net, pictures):
    start = time.perf_counter()
    explanation = explain(net, pictures)
    return time.perf_counter() - start, explanation.evidence.shape[2:]


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    names = {f"{args.body}, {COARSE} pixels": network(args.body, COARSE)}
    for stride in args.strides:
        names[f"{FINE}{args.body}, {stride} pixels"] = network(FINE + args.body, stride)
    sizes = [args.size] * len(names)
    if args.canvas:
        seen = f"on {args.canvas} pixels" + (f" and {args.scales} of it" if args.scales else "")
        more = network(FINE + args.body, args.strides[0], scales=scales_of(args.scales))
        names[f"{FINE}{args.body}, {args.strides[0]} pixels, {seen}"] = more
        sizes.append(args.canvas)
    pictures = [torch.randn(args.batch, 3, size, size) for size in sizes]
    grids = {name: seconds(net, x)[1] for (name, net), x in zip(names.items(), pictures)}
    taken = np.array(
        [
            [seconds(net, x)[0] for net, x in zip(names.values(), pictures)]
            for _ in range(args.rounds)
        ]
    )
    rows = zip(
        names,
        (f"{h} × {w}" for h, w in grids.values()),
        args.batch / np.median(taken, 0),
        np.median(taken / taken[:, :1], 0),
    )
    print(
        f"{args.threads} threads, {platform.machine()}, torch {torch.__version__}, "
        f"{args.size} × {args.size}, batches of {args.batch}, {args.rounds} rounds\n"
    )
    headers = ["network", "cells", "pictures a second", "times the coarse one's seconds"]
    print(tabulate(rows, headers, "github", floatfmt=("", "", ".1f", ".2f")))


if __name__ == "__main__":
    main()
