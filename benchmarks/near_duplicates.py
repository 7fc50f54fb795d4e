"""How far copies and different pictures lie apart by perceptual hash, on phantoms and on the fractures set.

    python benchmarks/near_duplicates.py ../shared/radiographs/fractures

Prints, for 64 and 256 bits, the least distances between different pictures (of a data set with groups: of different
groups) and how many copies of each kind lie within the threshold.
"""

import sys
import tempfile

import cv2
import imagehash
import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from xray_explain.data.cases import read_cases
from xray_explain.data.duplicates import NEAR
from xray_explain.data.phantom import write_phantoms
from xray_explain.read.radiograph import read_radiograph


def saved(grey, quality):
    return cv2.imdecode(cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], 0)


def scaled(grey, x, y):
    return cv2.resize(grey, None, fx=x, fy=y, interpolation=cv2.INTER_AREA)


def lighter(grey, gain, shift):
    return np.clip(grey * gain + shift, 0, 255).astype(np.uint8)


def trimmed(grey, share):
    rows, columns = (round(share * n) for n in grey.shape)
    return grey[rows:-rows, columns:-columns]


COPIES = {
    "half the size": lambda g: scaled(g, 0.5, 0.5),
    "a third, sides 1:1.09": lambda g: scaled(g, 0.33, 0.36),
    "JPEG quality 30": lambda g: saved(g, 30),
    "brighter, clipped": lambda g: lighter(g, 1.2, 20),
    "less contrast": lambda g: lighter(g, 0.7, 20),
    "gamma 1.4": lambda g: np.round(255 * (g / 255) ** 1.4).astype(np.uint8),
    "CLAHE": lambda g: cv2.createCLAHE(2, (8, 8)).apply(g),
    "0.6 of the size, brighter, JPEG 50": lambda g: saved(
        lighter(scaled(g, 0.6, 0.6), 1.15, 10), 50
    ),
    "3 % trimmed at each side": lambda g: trimmed(g, 0.03),
}


def measure(cases):
    "Distances between pictures of different groups, and of copies from their originals"
    read = lambda path: np.round(read_radiograph(path).pixels * 255).astype(np.uint8)
    greys = Parallel(n_jobs=2, prefer="threads")(delayed(read)(p) for p in cases.table.image)
    i, j = np.triu_indices(len(greys), 1)
    apart = cases.table.group.to_numpy()[i] != cases.table.group.to_numpy()[j]
    for side, near in ((8, NEAR // 4), (16, NEAR)):
        bits = lambda grey: imagehash.phash(Image.fromarray(grey), hash_size=side).hash.ravel()
        hashes = np.array([bits(g) for g in greys], np.float32)
        between = (hashes @ (1 - hashes.T) + (1 - hashes) @ hashes.T)[i, j][apart].astype(int)
        print(
            f"{cases.name}, {side**2} bits: {len(greys)} pictures, {len(between):,} pairs; nearest {np.sort(between)[:5]}, "
            f"within {near}: {(between <= near).sum()}"
        )
        for name, copy in COPIES.items():
            found = np.array([(bits(copy(g)) != h).sum() for g, h in zip(greys, hashes > 0.5)])
            print(
                f"  {name}: median {np.median(found):g}, 99 % {np.quantile(found, 0.99):g}, most {found.max()}, "
                f"within {near}: {(found <= near).mean():.1%}"
            )


with tempfile.TemporaryDirectory() as scratch:
    measure(read_cases(write_phantoms(f"{scratch}/phantoms", 100, seed=77, size=320)))
for folder in sys.argv[1:]:
    measure(read_cases(folder))
