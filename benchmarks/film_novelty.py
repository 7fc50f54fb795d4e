"""Does a model of real films notice films unlike those of its training?

    python benchmarks/film_novelty.py bone_tumours --data btxrd --split-file split.csv \\
        --others fracatlas/images radiographs/whole/images --figures benchmarks/figures/novelty_bone_tumours.json

Its test films are the familiar ones. The same films inverted, turned by 180° and by 90°, their parts, and films of other
folders are the unlike ones; of each folder a sample is taken by a digest of the names. AUC is that of the score which decides
on the flag, unlike against familiar.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np
from novelty import crop
from sklearn.metrics import roc_auc_score
from tabulate import tabulate

from xray_explain.data.cases import read_cases
from xray_explain.files import six_digits, write_json
from xray_explain.infer.inference import infer_radiographs
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.read.pixels import RadiographError
from xray_explain.read.radiograph import Radiograph, find_radiographs, read_radiograph


def films(paths, most):
    "So many pictures, by the order of a digest of their names, without those that cannot be read"
    by_digest = sorted(paths, key=lambda path: hashlib.sha256(path.name.encode()).digest())
    pixels = []
    for path in by_digest:
        try:
            pixels.append(read_radiograph(path).pixels)
        except RadiographError:
            continue
        if len(pixels) == most:
            break
    return pixels


def scores(checkpoint, pixels):
    "Novelty of pictures; above 1 they are flagged"
    values = []
    for i in range(0, len(pixels), 16):
        radiographs = [
            Radiograph(np.ascontiguousarray(p, np.float32), "", "PNG", None, {})
            for p in pixels[i : i + 16]
        ]
        values += [inference.ood_score for inference in infer_radiographs(checkpoint, radiographs)]
    return np.array(values)


def main():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint")
    parser.add_argument("--data", required=True)
    parser.add_argument("--label", default="")
    parser.add_argument("--split-file", required=True)
    parser.add_argument("--others", nargs="*", default=[], type=Path)
    parser.add_argument("--most", type=int, default=200)
    parser.add_argument("--figures", type=Path, help="JSON to write")
    args = parser.parse_args()
    checkpoint, rng = load_checkpoint(args.checkpoint), np.random.default_rng(0)
    test = read_cases(args.data, None, args.split_file, args.label).split("test")
    own = films([Path(p) for p in test.table.image], args.most)
    kinds = {
        "inverted": [1 - p for p in own],
        "turned by 180°": [np.rot90(p, 2) for p in own],
        "turned by 90°": [np.rot90(p, rng.choice([1, 3])) for p in own],
        "a part, 20 to 40 % of each side": [crop(p, rng, 0.2, 0.4) for p in own],
    }
    for folder in args.others:
        name = {"images": folder.parent.name}.get(folder.name, folder.name)
        kinds[f"films of {name}"] = films(find_radiographs(folder), args.most)
    familiar = scores(checkpoint, own)
    report = {"test films": _row(familiar, familiar)}
    report |= {kind: _row(familiar, scores(checkpoint, pixels)) for kind, pixels in kinds.items()}
    rows = [[kind, *row.values()] for kind, row in report.items()]
    print(tabulate(rows, ["", "films", "AUC", "flagged"], "github", floatfmt=".3f"))
    if args.figures:
        write_json(args.figures, six_digits(report))


def _row(familiar, values):
    truth = np.r_[np.zeros(len(familiar)), np.ones(len(values))]
    auc = roc_auc_score(truth, np.r_[familiar, values])
    return {"films": len(values), "AUC": auc, "flagged": float((values > 1).mean())}


if __name__ == "__main__":
    main()
