"""How far copies and different pictures lie apart by perceptual hash, on phantoms and on the fractures set.

    python benchmarks/near_duplicates.py ../shared/radiographs/fractures ../shared/fracatlas=fractured

Prints, for 64 and 256 bits, the least distances between different pictures (of a data set with groups: of different
groups) and how many copies of each kind lie within the threshold; then the same of pictures that were turned,
mirrored or inverted, where pictures that cannot be read are left out.
"""

import sys
import tempfile

import cv2
import imagehash
import numpy as np
from joblib import Parallel, delayed
from PIL import Image

from xray_explain.data.cases import read_cases
from xray_explain.data.duplicates import NEAR, NEAR_TURNED, TURNS, perceptual_hash, turned_hashes
from xray_explain.data.phantom import write_phantoms
from xray_explain.read.pixels import RadiographError
from xray_explain.read.radiograph import Radiograph, read_radiograph


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
    "1 % trimmed at each side": lambda g: trimmed(g, 0.01),
    "2 % trimmed at each side": lambda g: trimmed(g, 0.02),
    "3 % trimmed at each side": lambda g: trimmed(g, 0.03),
}


def read(path):
    "A picture's grey levels, None for one that cannot be read"
    try:
        return np.round(read_radiograph(path).pixels * 255).astype(np.uint8)
    except RadiographError:
        return None


def film(grey):
    return Radiograph(np.ascontiguousarray(grey) / np.float32(255), "", "PNG")


def measure_turned(name, greys):
    "Distances between different pictures once one is turned or inverted, and of copies"
    plain = np.array([perceptual_hash(film(g)) for g in greys], np.float32)
    turned = np.array([turned_hashes(film(g)) for g in greys], np.float32)
    i, j = np.triu_indices(len(greys), 1)
    for number, (turn, _) in enumerate(TURNS):
        other = turned[:, number]
        bits = plain @ (1 - other.T) + (1 - plain) @ other.T
        same = np.minimum(bits, bits.T)[i, j]
        opposite = 256 - np.maximum(bits, bits.T)[i, j]
        print(
            f"{name}, {turn}: nearest {np.sort(same)[:3].astype(int)}, within {NEAR_TURNED}: "
            f"{(same <= NEAR_TURNED).sum()}; and inverted: nearest {np.sort(opposite)[:3].astype(int)}"
        )
    for kind, copy in {"nothing else": lambda g: g, **COPIES}.items():
        mirrored = [
            (turned_hashes(film(copy(g)))[0] != h).sum() for g, h in zip(greys, turned[:, 0] > 0.5)
        ]
        inverted = [
            (perceptual_hash(film(copy(255 - g))) == h).sum() for g, h in zip(greys, plain > 0.5)
        ]
        print(
            f"  {kind}: mirrored within {NEAR_TURNED}: {np.mean(np.array(mirrored) <= NEAR_TURNED):.1%}, "
            f"inverted within {NEAR}: {np.mean(np.array(inverted) <= NEAR):.1%}"
        )


def measure(cases):
    "Distances between pictures of different groups, and of copies from their originals"
    greys = Parallel(n_jobs=2, prefer="threads")(delayed(read)(p) for p in cases.table.image)
    there = [grey is not None for grey in greys]
    greys = [grey for grey in greys if grey is not None]
    measure_turned(cases.name, greys)
    i, j = np.triu_indices(len(greys), 1)
    apart = cases.table.group[there].to_numpy()[i] != cases.table.group[there].to_numpy()[j]
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
for argument in sys.argv[1:]:
    folder, _, label = argument.partition(
        "="
    )  # and the column of the classes, where it is no other
    measure(read_cases(folder, label=label))
