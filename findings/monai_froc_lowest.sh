#!/bin/bash
# A detector whose only box hits the only lesion has sensitivity 0 in MONAI's FROC. The curve has a point for every
# score but the lowest, and ends in an added point (0, 0): what has the lowest score of all pictures never counts, and
# where all scores are equal, as of a detector that gives none, nothing does. Add a false alarm of a score below all
# others (and a picture's share of one alarm more), or count from the lowest score on yourself.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv venv
venv/bin/pip --quiet install monai==1.6.1 torch==2.9.1 numpy==2.4.6
venv/bin/python - <<'P'
import warnings
from importlib.metadata import version

warnings.filterwarnings("ignore")
import numpy as np
from monai.metrics import compute_froc_curve_data, compute_froc_score

print("monai", version("monai"))


def found(alarms, hits, lesions, pictures):
    "False alarms a picture and sensitivity, point by point, and the mean sensitivity"
    curve = compute_froc_curve_data(np.array(alarms, float), np.array(hits, float), lesions, pictures)
    return *(c.tolist() for c in curve), float(compute_froc_score(*curve))


one = found([], [0.9], 1, 1)
equal = found([0.5], [0.5, 0.5], 2, 2)
lower = found([0.1], [0.9], 1, 1)
print("one detection, in the only lesion:", one)
print("two of two lesions and one alarm, all of score 0.5:", equal)
print("the first again, with an alarm of score 0.1:", lower)
same = one == ([0.0], [0.0], 0.0) and equal == ([0.0], [0.0], 0.0) and max(lower[1]) == 1
raise SystemExit(0 if same else "this has changed")
P
