"""How fast are phantoms? Images per second on one core, lesions and twins included.

python benchmarks/phantom_speed.py --images 60 --size 512
"""

import argparse
import platform
import time

import cv2

from xray_explain.data.cases import BTXRD_CLASSES
from xray_explain.data.phantom import make_phantom


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--images", type=int, default=60, help="images of each class (default 60)")
    parser.add_argument(
        "--size", type=int, default=512, help="pixels on the longer side (default 512)"
    )
    return parser.parse_args()


def rate(label, images, size):
    "Images per second of processor time, so that a busy machine does not count"
    start = time.process_time()
    for seed in range(images):
        make_phantom(seed, label, size)
    return images / (time.process_time() - start)


def main():
    args = arguments()
    cv2.setNumThreads(1)
    make_phantom(0, "Benign", args.size)  # loads what is loaded once
    rates = {label: rate(label, args.images, args.size) for label in BTXRD_CLASSES}
    mixed = len(rates) / sum(1 / r for r in rates.values())
    each = ", ".join(f"{label} {r:.1f}" for label, r in rates.items())
    print(
        f"{mixed:.1f} images/s on one core at {args.size} px ({each}; {args.images} of each; {platform.machine()})"
    )


if __name__ == "__main__":
    main()
