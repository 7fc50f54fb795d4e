"""Does anything grow? Pictures of every form through one process, again and again: memory, open files, threads, hooks, children.

python benchmarks/soak.py --images 10000 --output benchmarks/figures/soak.json
"""

import argparse
import gc
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from hostile_corpus import bitmaps  # noqa: E402

from xray_explain.evidence.cam import generate_gradcam  # noqa: E402
from xray_explain.files import write_json, write_png  # noqa: E402
from xray_explain.infer.inference import infer_image  # noqa: E402
from xray_explain.model.checkpoint import Checkpoint, build_net, load_checkpoint  # noqa: E402
from xray_explain.read.preprocessing import Preprocessing  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--images", type=int, default=10_000, help="calls for one picture (default 10000)"
    )
    parser.add_argument("--side", type=int, default=300, help="pixels of a side (default 300)")
    parser.add_argument(
        "--demo", action="store_true", help="with the demo's network instead of a small one"
    )
    parser.add_argument("--output", metavar="FILE", help="write both states as JSON")
    return parser.parse_args()


def hooks(net) -> int:
    "How many are left on the network"
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(m, k)) for m in net.modules() for k in kinds)


def state(net) -> dict:
    "What must not grow"
    gc.collect()
    me = psutil.Process()
    return {
        "MiB": me.memory_info().rss / 2**20,
        "files": me.num_fds(),
        "threads": threading.active_count(),
        "hooks": hooks(net),
        "children": len(me.children()),
        "gradients": sum(p.grad is not None for p in net.parameters()),
    }


def soak(
    checkpoint, images: int, side: int = 300, tell=lambda done, now: None
) -> tuple[dict, dict]:
    "The state after the first hundredth of the calls (at least 20) and after the last"
    rng, first, early = np.random.default_rng(0), None, max(20, images // 100)
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "film.png"
        write_png(path, rng.integers(0, 255, (side, side), np.uint8))
        good, bad = path.read_bytes(), path.read_bytes()[:-99]
        forms = [data for data, _, _ in bitmaps().values()]
        for i in range(images):
            film = forms[i // 3 % len(forms)] if i % 3 == 0 else good if i % 2 else path
            one = infer_image(checkpoint, film, "film.png", apart=i % 4 < 2)
            one.overlay(i % len(checkpoint.class_names))
            if i % 10 == 0:
                generate_gradcam(
                    checkpoint, checkpoint.preprocessing.tensor(one.radiograph)[None], 0
                )
                try:
                    infer_image(checkpoint, bad, "bad.png", apart=i % 20 == 0)
                except ValueError:
                    pass
            if i + 1 == early:
                first = state(checkpoint.net)
            if (i + 1) % max(1, images // 10) == 0:
                tell(i + 1, state(checkpoint.net))
    return first, state(checkpoint.net)


def main():
    args = arguments()
    torch.manual_seed(0)
    small = lambda: Checkpoint(
        build_net("test_efficientnet", 3).eval().requires_grad_(False),
        "test_efficientnet",
        ("Normal", "Benign", "Malignant"),
        Preprocessing(size=(96, 96)),
    )
    checkpoint, start = load_checkpoint("bone_phantoms") if args.demo else small(), time.monotonic()
    tell = lambda done, now: print(
        f"{done} pictures, {time.monotonic() - start:.0f} s: {now['MiB']:.1f} MiB",
        file=sys.stderr,
        flush=True,
    )
    first, last = soak(checkpoint, args.images, args.side, tell)
    print(f"| {args.images} pictures | early | at the end |\n|---|---:|---:|")
    for what in first:
        print(f"| {what} | {first[what]:.6g} | {last[what]:.6g} |")
    if args.output:
        write_json(
            args.output, {"images": args.images, "side": args.side, "early": first, "late": last}
        )


if __name__ == "__main__":
    main()
