"""How good are classifiers of real bones, with and without guidance, split by case, by picture and by centre?

    python benchmarks/real_bones.py --data btxrd --weights tf_efficientnet_lite0.safetensors --output runs/btxrd \\
        --run guided split.csv --run plain split.csv guidance=0 --figures benchmarks/figures/btxrd.json

Each `--run NAME FILE [SETTING=VALUE ...]` is a training for each seed by the recipe below with these settings, on the split
of FILE, and is measured on the cases that this split calls `--measure` (val, where settings are chosen; test once they
are). What is trained or measured already is not done again. Figures are means over seeds; intervals are from 1000 resamples
of whole groups, of the mean over seeds. IoU, hit rate and drop are of the true class's evidence, right or wrong prediction,
over the outlined cases; "drop" is by how much its centred logit falls when the lesion is covered, its median; "elsewhere"
the same for as much of the film without a lesion. Runs called guided and plain, and fine and guided, are compared case by
case, and twice and fine, twice and guided; guided and picture, whose test cases are others, by their figures. A run with `start=guided` starts each seed from the
weights of that seed of the run called guided, which comes before it. A run with `seen=fine image_size=384 scales=0.67`
trains nothing: it has the weights of that seed of the run called fine, and sees pictures on that canvas and at these scales.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from guidance import TYPES, measured, weighted_median
from sklearn.metrics import roc_curve
from tabulate import tabulate

from xray_explain.data.cases import read_cases
from xray_explain.files import six_digits, write_json
from xray_explain.measure.bootstrap import group_weights
from xray_explain.measure.performance import ranking_figures
from xray_explain.model.calibration import seen_at
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.model.recipe import Recipe, scales_of
from xray_explain.model.training import train

RECIPE = dict(
    architecture="tf_efficientnet_lite0",
    output_stride=16,
    image_size=224,
    fit="stretch",
    freeze=4,
    epochs=9,
    guidance=1.0,
)
_TYPES = TYPES | {"seen": str}
THIRDS = ("smallest", "middle", "largest")


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--label", default="")
    parser.add_argument("--weights", required=True, help="that trainings start from")
    parser.add_argument(
        "--run", nargs="+", action="append", required=True, metavar="NAME FILE SETTING=VALUE"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--measure", choices=("val", "test"), default="val")
    parser.add_argument("--worst", default="Malignant", help="class whose sensitivity is measured")
    parser.add_argument("--output", required=True, type=Path, help="folder of the trainings")
    parser.add_argument("--figures", type=Path, help="JSON to write")
    return parser.parse_args()


def seeded(settings, trainings, seed):
    "The recipe of one seed, which may start from the same seed of an earlier run, by that run's name"
    earlier = trainings / f"{settings['start']}_{seed}" / "model.safetensors"
    start = str(earlier) if earlier.is_file() else settings["start"]
    return Recipe(**settings | {"start": start, "seed": seed})


def seen(given, trainings, seed):
    "The checkpoint of the same seed of an earlier run, on another canvas or at other scales"
    earlier = load_checkpoint(trainings / f"{given['seen']}_{seed}" / "model.safetensors")
    return seen_at(earlier, int(given.get("image_size", 0)), scales_of(given.get("scales", "")))


def trained(cases, given, args, name, seed):
    "The checkpoint of a training, done now if need be"
    if "seen" in given:
        return seen(given, args.output, seed)
    out = args.output / f"{name}_{seed}"
    recipe = seeded(RECIPE | {"start": args.weights} | given, args.output, seed)
    if not (out / "model.safetensors").is_file():
        train(cases, out, recipe)
    return load_checkpoint(out / "model.safetensors")


def sensitivity_at(table, worst, weights, specificity=0.95):
    "(R,) sensitivity for a class at the highest threshold of this specificity on the same cases"
    values = []
    for row in weights:
        false, true, _ = roc_curve(
            table.label == worst, table[f"p_{worst}"], sample_weight=row, drop_intermediate=False
        )
        values.append(true[false <= 1 - specificity + 1e-12].max())
    return np.array(values)


def macro_auc(table, weights):
    "(R,) mean over classes of one against the rest; of two classes that of the second"
    names = [c for c in table if c.startswith("p_")]
    scored = names[1:] if len(names) == 2 else names
    aucs = [
        ranking_figures((table.label == c[2:]).to_numpy(), table[c].to_numpy(), weights)[0]
        for c in scored
    ]
    return np.mean(aucs, 0)


def thirds(table):
    "Outlined cases by the share of the film that lesions cover: name -> (N,) bool"
    rank = table.area.rank(pct=True)
    bounds = zip(THIRDS, (0, 1 / 3, 2 / 3), (1 / 3, 2 / 3, 1))
    return {name: ((rank > low) & (rank <= high)).to_numpy() for name, low, high in bounds}


def mean_of(values, weights):
    "(R,) weighted means over the cases that have a value"
    known = values.notna().to_numpy()
    used = weights[:, known]
    return used @ values[known].to_numpy(float) / used.sum(1)


def figures(table, worst, weights):
    "Name -> (R,), each figure of one training under case weights (R, N)"
    right = pd.Series(table.label == table.prediction, index=table.index)
    values = {
        "accuracy": mean_of(right, weights),
        "AUC": macro_auc(table, weights),
        f"{worst} sensitivity at specificity 0.95": sensitivity_at(table, worst, weights),
        "IoU": mean_of(table.iou, weights),
        "hit rate": mean_of(table.hit, weights),
        "share inside": mean_of(table.share_inside, weights),
        "drop covered": weighted_median(table.covered.to_numpy(), weights),
        "drop elsewhere": weighted_median(table.elsewhere.to_numpy(), weights),
    }
    for label in sorted(set(table.label[table.iou.notna()])):
        values[f"IoU, {label}"] = mean_of(table.iou.where(table.label == label), weights)
    for name, chosen in thirds(table).items():
        values[f"IoU, {name} third"] = mean_of(table.iou.where(chosen), weights)
        values[f"hit rate, {name} third"] = mean_of(table.hit.where(chosen), weights)
    return values


def summary(tables, worst):
    "Figures of the trainings of one run: mean over seeds, its interval, and each seed's"
    once, many = np.ones((1, len(tables[0]))), group_weights(tables[0].group)
    each = [figures(t, worst, once) for t in tables]
    drawn = [figures(t, worst, many) for t in tables]
    return {name: _figure(name, each, drawn) for name in each[0]}


def _figure(name, each, drawn):
    values = [float(e[name][0]) for e in each]
    low, high = np.nanpercentile(np.mean([d[name] for d in drawn], 0), [2.5, 97.5])
    return {"mean": np.mean(values), "low": low, "high": high, "seeds": values}


def paired(first, second, worst):
    "Figures of the first run less the second's, on the same cases"
    once, many = np.ones((1, len(first[0]))), group_weights(first[0].group)
    sides = [
        [[figures(t, worst, weights) for t in tables] for tables in (first, second)]
        for weights in (once, many)
    ]
    less = lambda pairs, name: [a[name] - b[name] for a, b in zip(*pairs)]  # noqa: E731
    return {
        name: _figure(name, *([{name: d} for d in less(pairs, name)] for pairs in sides))
        for name in sides[0][0][0]
    }


def apart(first, second, worst):
    "Figures of the first run less the second's, each on cases of its own that are resampled alone"
    once, drawn = [], []
    for seed, tables in enumerate((first, second)):
        weights = group_weights(tables[0].group, seed=seed)
        once.append([figures(t, worst, np.ones((1, len(t)))) for t in tables])
        drawn.append([figures(t, worst, weights) for t in tables])
    less = lambda pairs, name: [{name: a[name] - b[name]} for a, b in zip(*pairs)]  # noqa: E731
    return {name: _figure(name, less(once, name), less(drawn, name)) for name in once[0][0]}


COMPARED = (
    ("guided", "plain", paired),
    ("fine", "guided", paired),
    ("twice", "fine", paired),
    ("twice", "guided", paired),
    ("picture", "guided", apart),
)


def shown(figure):
    return f"{figure['mean']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def main():
    args = arguments()
    tables, report = {}, {}
    for name, split_file, *settings in args.run:
        cases = read_cases(args.data, None, split_file, args.label)
        asked = cases.split(args.measure)
        given = {k: _TYPES[k](v) for k, v in (part.split("=", 1) for part in settings)}
        tables[name] = []
        for seed in args.seeds:
            checkpoint = trained(cases, given, args, name, seed)
            cache = args.output / f"{name}_{seed}_{args.measure}.parquet"
            tables[name].append(measured(checkpoint, asked, cache))
        first = tables[name][0]
        report[name] = {
            "cases": len(first),
            "groups": first.group.nunique(),
            "outlined": int(first.iou.notna().sum()),
            "training": len(cases.split("train")),
            "settings": given if "seen" in given else RECIPE | given,
            "measured_on": args.measure,
            "grid_ceiling": float(first.ceiling.mean()),
            "figures": summary(tables[name], args.worst),
        }
        rows = [
            [k, shown(v), *(f"{s:.3f}" for s in v["seeds"])]
            for k, v in report[name]["figures"].items()
        ]
        print(
            f"\n{name}: {len(first)} cases of {args.measure}, {report[name]['outlined']} outlined"
        )
        print(tabulate(rows, ["", "mean (95 %)", *(f"seed {s}" for s in args.seeds)], "github"))
    for first, second, compared in COMPARED:
        if {first, second} <= set(tables):
            less = f"{first} less {second}"
            report[less] = compared(tables[first], tables[second], args.worst)
            rows = [
                [k, shown(v), *(f"{s:+.3f}" for s in v["seeds"])] for k, v in report[less].items()
            ]
            print(tabulate(rows, [less, "mean (95 %)", *map(str, args.seeds)], "github"))
    if args.figures:
        write_json(args.figures, six_digits(report))


if __name__ == "__main__":
    main()
