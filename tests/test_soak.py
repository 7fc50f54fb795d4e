"What must not grow: memory, files, threads, hooks; and arrays of a wrong kind, which are refused"

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from test_engine import model, picture  # noqa: F401, fixtures

from xray_explain.evidence.cam import explain
from xray_explain.infer.inference import infer_radiographs
from xray_explain.read.radiograph import Radiograph

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))


def check(first, last, growth):
    assert {k: v for k, v in first.items() if k != "MiB"} == {
        k: v for k, v in last.items() if k != "MiB"
    }
    assert last["hooks"] == last["gradients"] == 0
    assert last["MiB"] - first["MiB"] < growth


@pytest.mark.skipif(sys.platform == "win32", reason="counts open files as Unix has them")
def test_nothing_grows_over_calls(model):
    from soak import soak

    check(*soak(model[0], 60, 128), growth=30)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="counts open files as Unix has them")
def test_nothing_grows_over_ten_thousand_calls(model):
    from soak import soak

    check(*soak(model[0], 10_000, 300), growth=60)


@pytest.mark.parametrize(
    "pixels, told",
    [
        (np.zeros((40, 40), np.uint8), "uint8"),
        (np.full((40, 40), 200, np.float32), "200"),
        (np.full((40, 40), np.nan, np.float32), "nan"),
        (np.full((40, 40), -1, np.float32), "-1"),
        (np.zeros((40, 40, 3), np.float32), "(40, 40, 3)"),
        (np.full((40, 40), np.inf, np.float32), "inf"),
    ],
)
def test_pixels_of_a_wrong_kind_are_refused(model, pixels, told):
    with pytest.raises(ValueError, match=".") as caught:
        infer_radiographs(model[0], [Radiograph(pixels, "x.png", "PNG")])
    assert told in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "x, told",
    [
        (torch.zeros(1, 3, 96, 96, dtype=torch.uint8), "uint8"),
        (torch.full((1, 3, 96, 96), float("nan")), "NaN"),
        (torch.full((1, 3, 96, 96), float("inf")), "NaN"),
        (torch.full((1, 3, 96, 96), 200.0), "normalise"),
        (torch.zeros(3, 96, 96), "batch"),
        (torch.zeros(1, 3, 96, 96, dtype=torch.int64), "int64"),
    ],
)
def test_tensors_of_a_wrong_kind_are_refused(model, x, told):
    with pytest.raises(ValueError, match=told):
        explain(model[0], x)
