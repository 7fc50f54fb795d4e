"""Which score tells that a picture is unlike those of the training, and how well the chosen one does.

    python benchmarks/novelty.py choose --checkpoint FILE      # all candidates, on one set of pictures
    python benchmarks/novelty.py report --checkpoint FILE --shared ../shared   # the chosen one, on another

Candidates are fitted on validation phantoms and compared on phantoms, corruptions and photographs that the report
does not use. Area under the ROC curve of each kind of unlike picture against unseen phantoms of the same size.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch
from platformdirs import user_cache_path
from skimage import data as skimage_data
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from tabulate import tabulate

from xray_explain.data.phantom import write_phantoms
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.model.novelty import fit_novelty
from xray_explain.read.radiograph import Radiograph, find_radiographs, read_radiograph

SEEDS = {"val": 7101, "choose": 7103, "report": 7102}
PHOTOGRAPHS = {
    "choose": (
        "astronaut",
        "camera",
        "coffee",
        "coins",
        "grass",
        "moon",
        "clock",
        "hubble_deep_field",
    ),
    "report": (
        "cat",
        "rocket",
        "brick",
        "gravel",
        "retina",
        "page",
        "text",
        "colorwheel",
        "immunohistochemistry",
    ),
}


def crop(pixels, rng, low, high):
    "A part of the picture, its sides a share of the picture's"
    h, w = (int(n * rng.uniform(low, high)) for n in pixels.shape)
    y, x = (rng.integers(0, n - m + 1) for n, m in zip(pixels.shape, (h, w)))
    return pixels[y : y + h, x : x + w]


def noises(rng):
    "Ten of each kind of noise"
    side = (400, 400)
    smooth = lambda: cv2.GaussianBlur(rng.normal(0, 1, side), (0, 0), rng.uniform(3, 30))
    scaled = lambda z: (z - z.min()) / np.ptp(z)
    kinds = {
        "uniform noise": lambda: rng.random(side),
        "Gaussian noise": lambda: np.clip(rng.normal(0.5, 0.2, side), 0, 1),
        "salt": lambda: (rng.random(side) < 0.1) * 1.0,
        "clouds": lambda: scaled(smooth()),
        "one grey": lambda: np.full(side, rng.random()),
        "dark noise": lambda: np.clip(np.abs(rng.normal(0, 0.05, side)), 0, 1),
    }
    return {f"far: {name}": [make() for _ in range(10)] for name, make in kinds.items()}


def screenshots(rng, n=20):
    "Lines of letters, dark on light or light on dark"
    shots = []
    for _ in range(n):
        shot = np.full(
            (rng.integers(300, 700), rng.integers(400, 900)), rng.choice([0, 240, 255]), np.uint8
        )
        ink = 255 - int(shot[0, 0])
        for y in range(20, len(shot), int(rng.integers(16, 40))):
            line = "".join(
                " " if rng.random() < 0.17 else chr(rng.integers(97, 123)) for _ in range(60)
            )
            cv2.putText(
                shot,
                line,
                (int(rng.integers(5, 40)), y),
                int(rng.integers(0, 5)),
                rng.uniform(0.4, 0.8),
                ink,
                1,
                cv2.LINE_AA,
            )
        shots.append(shot / 255)
    return shots


def photographs(which, rng):
    "scikit-image's and scikit-learn's pictures, whole and in three parts each"
    grey = lambda p: (
        p / 255
        if p.ndim == 2
        else cv2.cvtColor(np.ascontiguousarray(p[..., :3]), cv2.COLOR_RGB2GRAY) / 255
    )
    whole = [grey(np.asarray(getattr(skimage_data, name)())) for name in PHOTOGRAPHS[which]]
    whole.append(grey(load_sample_images().images[which == "report"]))
    return [part for p in whole for part in (p, *(crop(p, rng, 0.4, 0.9) for _ in range(3)))]


def unlike(which, films, rng, shared):
    "Kinds of unlike pictures, far and near"
    kinds = noises(rng) | {
        "far: photographs": photographs(which, rng),
        "far: screenshots of text": screenshots(rng),
        "near: wrong polarity": [1 - p for p in films],
        "near: turned by 90°": [np.rot90(p, rng.choice([1, 3])) for p in films],
        "near: turned by 180°": [np.rot90(p, 2) for p in films],
        "near: cropped": [crop(p, rng, 0.2, 0.4) for p in films],
    }
    if shared and which == "report":
        parts = lambda p: [p, *(crop(p, rng, 0.75, 0.98) for _ in range(20))]
        dicom = lambda name: parts(
            read_radiograph(Path(shared) / "radiographs" / "dicom" / f"{name}.dcm").pixels
        )
        kinds |= {
            "far: a cat's chest and belly (DX), 21 cuts of one": dicom("cat_dx_quarter_deid"),
            "near: hip (DICOM), 21 cuts of one": dicom("RG2_RLE"),
        }
        kinds["near: real limb radiographs"] = [
            read_radiograph(p).pixels
            for p in find_radiographs(Path(shared) / "radiographs" / "whole" / "images")
        ]
    return kinds


@torch.inference_mode()
def look(model, pixels):
    "Logits (N, C), and every stage's means, the last features' included"
    canvases = [
        model.preprocessing.canvas(
            Radiograph(np.ascontiguousarray(p, np.float32), "", "PNG", None, {})
        )
        for p in pixels
    ]
    told = []
    for i in range(0, len(canvases), 16):
        features, stages = model.net.forward_intermediates(
            model.preprocessing.normalise(np.stack(canvases[i : i + 16]))
        )
        told.append(
            (model.net.forward_head(features), *(s.mean((2, 3)) for s in (*stages, features)))
        )
    return [torch.cat(part) for part in zip(*told)]


def candidates(known):
    "Name -> score of what `look` gives; fitted on validation"
    groups = range(len(known[0]))
    scores = {
        "energy": lambda seen: -seen[0].logsumexp(1),
        "largest logit": lambda seen: -seen[0].amax(1),
        "1 - confidence": lambda seen: -seen[0].softmax(1).amax(1),
    }
    last = len(known) - 1
    unit = lambda t: torch.nn.functional.normalize(t, dim=1).numpy()
    near = NearestNeighbors(n_neighbors=5).fit(unit(known[last]))
    scores["5th nearest neighbour, last features"] = lambda seen: torch.tensor(
        near.kneighbors(unit(seen[last]))[0][:, -1]
    )
    for i in range(1, len(known)):
        name = "last features" if i == last else f"stage {i}"
        fitted = fit_novelty(known[i], groups)
        scores[f"distance, {name}"] = lambda seen, i=i, fitted=fitted: fitted.score(seen[i])
    whole = fit_novelty(torch.cat(known[1:-1], 1), groups)
    scores["distance, all stages"] = lambda seen: whole.score(torch.cat(seen[1:-1], 1))
    return scores


def phantoms(which, per_class):
    folder = user_cache_path("xray_explain") / f"phantoms_{SEEDS[which]}_{per_class}"
    write_phantoms(folder, per_class, seed=SEEDS[which])
    return [read_radiograph(p).pixels for p in find_radiographs(folder / "images")]


def main():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("which", choices=("choose", "report"))
    parser.add_argument("--checkpoint")
    parser.add_argument("--shared", help="folder with real radiographs")
    parser.add_argument("--per-class", type=int, default=50)
    args = parser.parse_args()
    model, rng = load_checkpoint(args.checkpoint), np.random.default_rng(SEEDS[args.which])
    films = phantoms(args.which, args.per_class)
    kinds = {
        name: look(model, pixels)
        for name, pixels in unlike(args.which, films, rng, args.shared).items()
    }
    familiar = look(model, films)
    scores = candidates(look(model, phantoms("val", 100)))
    chosen = scores["distance, all stages"]
    auc = lambda score, seen: roc_auc_score(
        np.r_[np.zeros(len(familiar[0])), np.ones(len(seen[0]))],
        np.r_[score(familiar), score(seen)],
    )
    if args.which == "choose":
        rows = [
            [name, *(auc(score, seen) for seen in kinds.values())] for name, score in scores.items()
        ]
        print(tabulate(rows, headers=["score", *kinds], floatfmt=".3f"))
    else:
        rows = [
            [kind, len(seen[0]), auc(chosen, seen), f"{(chosen(seen) > 1).float().mean():.1%}"]
            for kind, seen in kinds.items()
        ]
        print(tabulate(rows, headers=["kind", "pictures", "AUC", "flagged"], floatfmt=".3f"))
    print(f"flagged of {len(films)} unseen phantoms: {(chosen(familiar) > 1).float().mean():.1%}")


if __name__ == "__main__":
    main()
