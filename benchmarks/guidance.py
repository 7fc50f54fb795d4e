"""What does guidance give? The same training with and without it, over several seeds, on cases it has not seen.

    python benchmarks/guidance.py DATA --forms none share overlap outside --stage image_size=128 epochs=4 --output runs/forms
    python benchmarks/guidance.py DATA --forms none overlap --fit all --measure test --stage ... --stage ... --output runs/final

A stage is a training by these settings of a recipe; the next one starts from what it gave, and may set a weight of its own
for the term (guidance=0: none any more), which the form 'none' never has. `--fit train` leaves the
validation cases to measure on, which is where forms are compared; `--fit all` trains on all but the test cases, a twelfth
held back to watch, for a comparison whose settings are fixed. A training that is done is not done again. Figures are
means over seeds, in brackets their range; intervals are from 1000 resamples of whole groups, of the mean over seeds.
"Drop" is by how much the true class's centred logit falls when the lesion is removed (the phantoms' twins), covered, or as
much is covered elsewhere: the median over outlined cases.
"""

import argparse
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedGroupKFold
from tabulate import tabulate

from xray_explain.data.cases import read_cases
from xray_explain.measure.bootstrap import group_weights, resampled_median
from xray_explain.measure.overlap import grid_ceiling
from xray_explain.measure.performance import ranking_figures
from xray_explain.measure.reliance import reliance_records
from xray_explain.measure.study import examine, localization_records
from xray_explain.model.batches import training_split
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.model.recipe import Recipe
from xray_explain.model.training import train

TYPES = {f.name: type(f.default) for f in fields(Recipe)}
MEASURED = [
    "accuracy",
    "AUC",
    "mean IoU",
    "hit rate",
    "share inside",
    "drop removed",
    "drop covered",
    "drop elsewhere",
]


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("data", help="folder of a data set with outlines")
    parser.add_argument(
        "--forms", nargs="+", default=["none", "overlap"], help="'none' and forms of the term"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--guidance",
        type=float,
        default=1.0,
        help="weight of the term in stages that set none (default 1)",
    )
    parser.add_argument(
        "--stage",
        nargs="+",
        action="append",
        required=True,
        metavar="SETTING=VALUE",
        help="of the recipe",
    )
    parser.add_argument("--fit", choices=("train", "all"), default="train")
    parser.add_argument("--measure", choices=("val", "test"), default="val")
    parser.add_argument("--output", required=True, type=Path, help="folder of the trainings")
    args = parser.parse_args()
    if args.fit == "all" and args.measure == "val":
        parser.error("--fit all trains on the validation cases: measure on test")
    return args


def settings(stage):
    return {k: TYPES[k](v) for k, v in (part.split("=", 1) for part in stage)}


def divided(cases, fit):
    "The cases with the split that the trainings use"
    if fit == "train":
        train_, val = training_split(cases)
        rest = cases.table[cases.table.split == "test"]
        parts = [train_.table.assign(split="train"), val.table.assign(split="val"), rest]
        return replace(cases, table=pd.concat(parts, ignore_index=True))
    table = cases.table.copy()
    free = np.flatnonzero(table.split != "test")
    own = table.iloc[free]
    _, held = next(
        StratifiedGroupKFold(12, shuffle=True, random_state=0).split(own, own.label, own.group)
    )
    table["split"] = np.where(table.split == "test", "test", "train")
    table.iloc[free[held], table.columns.get_loc("split")] = "val"
    return replace(cases, table=table)


def trained(cases, args, form, seed):
    "The checkpoint of all stages"
    start = ""
    for number, stage in enumerate(args.stage, 1):
        given = settings(stage) | ({"start": start} if start else {})
        led = (
            {"guidance": 0.0}
            if form == "none"
            else {"guidance": given.get("guidance", args.guidance), "form": form}
        )
        out = args.output / f"{form}_{seed}_{number}"
        if not (out / "model.safetensors").is_file():
            train(cases, out, Recipe(**(given | led), seed=seed))
        start = str(out / "model.safetensors")
    return load_checkpoint(start)


def measured(checkpoint, cases, cache):
    "Per case: right, p (C,), IoU, hit, share and drops (NaN without an outline)"
    if cache.is_file():
        return pd.read_parquet(cache)
    study = examine(checkpoint, cases, progress=False)
    local = (
        localization_records(study)
        .query("shown_class == 'true' and map == 'evidence'")
        .set_index("image_id")
    )
    drops = reliance_records(checkpoint, study.cases, progress=False).set_index("image_id")
    table = study.table.set_index("image_id")
    table = table[["label", "group", "prediction", *(f"p_{c}" for c in study.classes)]]
    table = table.join(local[["iou", "hit", "share_inside", "area"]].astype(float)).join(
        drops[["removed", "covered", "elsewhere"]]
    )
    table["ceiling"] = pd.Series(
        {
            study.table.image_id[i]: grid_ceiling(study.masks[i], study.evidence.shape[2:])
            for i in study.annotated
        }
    )
    table.to_parquet(cache)
    return table


def figures(table, weights):
    "(R, 8) the measured figures of one training under case weights (R, N)"
    named = [c for c in table if c.startswith("p_")]
    scored = named[1:] if len(named) == 2 else named
    auc = np.mean(
        [
            ranking_figures((table.label == c[2:]).to_numpy(), table[c].to_numpy(), weights)[0]
            for c in scored
        ],
        0,
    )
    right = weights @ (table.label == table.prediction).to_numpy() / weights.sum(1)
    outlined = table.iou.notna().to_numpy()
    own = weights[:, outlined]
    means = [
        own @ table.loc[outlined, c].to_numpy() / own.sum(1) for c in ("iou", "hit", "share_inside")
    ]
    return np.stack(
        [
            right,
            auc,
            *means,
            *(
                weighted_median(table[c].to_numpy(), weights)
                for c in ("removed", "covered", "elsewhere")
            ),
        ],
        1,
    )


def weighted_median(values, weights):
    known = ~np.isnan(values)
    if not known.any():
        return np.full(len(weights), np.nan)
    return resampled_median(values[known], weights[:, known])[1]


def shown(value, low, high):
    return "-" if np.isnan(value) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def main():
    args = arguments()
    cases = divided(read_cases(args.data), args.fit)
    asked = cases.split(args.measure)
    tables = {
        form: [
            measured(
                trained(cases, args, form, seed),
                asked,
                args.output / f"{form}_{seed}_{args.measure}.parquet",
            )
            for seed in args.seeds
        ]
        for form in args.forms
    }
    first = tables[args.forms[0]][0]
    once, many = np.ones((1, len(first))), group_weights(first.group)
    point = {f: np.concatenate([figures(t, once) for t in ts]) for f, ts in tables.items()}
    drawn = {f: np.mean([figures(t, many) for t in ts], 0) for f, ts in tables.items()}
    print(
        f"{args.measure} of {cases.name}: {len(first)} cases, {int(first.iou.notna().sum())} outlined, seeds {args.seeds}, "
        f"fitted on {len(cases.split('train'))}; ceiling of the grid {first.ceiling.mean():.3f}\n"
    )
    rows = [
        [f, *(shown(m, lo, hi) for m, lo, hi in zip(v.mean(0), v.min(0), v.max(0)))]
        for f, v in point.items()
    ]
    print(tabulate(rows, ["form, range over seeds", *MEASURED], tablefmt="github"), "\n")
    limits = {
        f: np.nanpercentile(d, [2.5, 97.5], axis=0) if len(d) else d for f, d in drawn.items()
    }
    rows = [
        [f, *(shown(m, lo, hi) for m, lo, hi in zip(point[f].mean(0), *limits[f]))] for f in point
    ]
    print(tabulate(rows, ["form, 95 % interval", *MEASURED], tablefmt="github"), "\n")
    if "none" in tables:
        for f in tables.keys() - {"none"}:
            each = point[f] - point["none"]
            low, high = np.nanpercentile(drawn[f] - drawn["none"], [2.5, 97.5], axis=0)
            rows = [[f"seed {s}", *(f"{v:+.3f}" for v in d)] for s, d in zip(args.seeds, each)]
            rows.append(
                [
                    "mean, 95 % interval",
                    *(shown(m, lo, hi) for m, lo, hi in zip(each.mean(0), low, high)),
                ]
            )
            print(tabulate(rows, [f"{f} less none", *MEASURED], tablefmt="github"), "\n")
    area = first.area.dropna()
    third = pd.qcut(area, 3, labels=["small", "middle", "large"])
    rows = [
        [
            f,
            *(
                np.mean([t.loc[third.index[third == s], c].mean() for t in ts])
                for s in third.cat.categories
                for c in ("iou", "hit")
            ),
        ]
        for f, ts in tables.items()
    ]
    print(
        tabulate(
            rows,
            ["by lesion size", *(f"{s} {c}" for s in third.cat.categories for c in ("IoU", "hit"))],
            tablefmt="github",
            floatfmt=".3f",
        )
    )


if __name__ == "__main__":
    main()
