"""How fast is training, and what share of it does the guidance term cost? Steps with and without it take turns.

    python benchmarks/train_speed.py --threads 2
    python benchmarks/train_speed.py --device cuda --batch 128 --precision bf16

The share is the median over pairs of steps of (with - without) / without; reading from disk is not part of it.
"""

import argparse
import platform
import time

import numpy as np
import torch

from xray_explain.model.recipe import Recipe
from xray_explain.model.training import Trainer


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--architecture", nargs="+", default=["efficientnet_b0", "tf_efficientnet_lite0"]
    )
    parser.add_argument(
        "--size", type=int, default=224, help="height and width of a picture (default 224)"
    )
    parser.add_argument(
        "--stride", type=int, nargs="+", default=[32, 16], help="pixels per cell (default 32 16)"
    )
    parser.add_argument("--batch", type=int, default=32, help="pictures in a step (default 32)")
    parser.add_argument("--pairs", type=int, default=10, help="pairs of steps (default 10)")
    parser.add_argument(
        "--threads", type=int, default=torch.get_num_threads(), help="torch's threads"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    return parser.parse_args()


def trainer(args, architecture, stride, guidance):
    recipe = Recipe(
        architecture,
        output_stride=stride,
        image_size=args.size,
        batch_size=args.batch,
        guidance=guidance,
        precision=args.precision,
        epochs=100,
    )
    return Trainer(recipe, ("Normal", "Benign", "Malignant"), torch.ones(3), 10, args.device)


def batch(args):
    "Pictures with a square outline each but every third, which is Normal"
    rng = torch.Generator().manual_seed(0)
    pictures = torch.randint(
        0, 256, (args.batch, args.size, args.size), generator=rng, dtype=torch.uint8
    )
    masks, labels = torch.zeros_like(pictures), torch.arange(args.batch) % 3
    masks[labels > 0, args.size // 4 : args.size // 2, args.size // 4 : args.size // 2] = 1
    return pictures, masks, labels, rng


def seconds(one, data):
    start = time.perf_counter()
    one.step(*data)
    if one.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    data = batch(args)
    print(
        f"{args.device}, {args.threads} threads, {platform.machine()}, torch {torch.__version__}, {args.size} x {args.size}, "
        f"batch {args.batch}, {args.precision}\n\n| network | stride | images/s | with guidance | share of the term |"
    )
    print("|---|---:|---:|---:|---:|")
    for architecture in args.architecture:
        for stride in args.stride:
            pair = [trainer(args, architecture, stride, g) for g in (0.0, 1.0)]
            for one in pair:
                one.net.train()
                seconds(one, data)
            taken = []
            for i in range(args.pairs):
                first = i % 2  # neither always comes after the other
                times = {k: seconds(pair[k], data) for k in (first, 1 - first)}
                taken.append((times[0], times[1]))
            plain, led = np.array(taken).T
            print(
                f"| {architecture} | {stride} | {args.batch / np.median(plain):.1f} | {args.batch / np.median(led):.1f} | "
                f"{np.median((led - plain) / plain):+.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
