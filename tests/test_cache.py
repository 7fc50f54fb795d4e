"What was computed once is used again, and only where data, checkpoint and every module of the code are the same."

import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from xray_explain.data.phantom import write_phantoms
from xray_explain.files import PACKAGE
from xray_explain.measure import cache
from xray_explain.measure.study import examine, open_cases
from xray_explain.model.checkpoint import Checkpoint, build_net
from xray_explain.read.preprocessing import Preprocessing

CLASSES = ("Normal", "Benign", "Malignant")


@pytest.fixture
def package(tmp_path, monkeypatch):
    "A copy of the package that the fingerprint is taken of"
    copied = tmp_path / "xray_explain"
    shutil.copytree(PACKAGE, copied, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "PACKAGE", copied)
    return copied


def change(module):
    module.parent.mkdir(parents=True, exist_ok=True)
    with open(module, "a") as f:
        f.write("\n# changed\n")


def test_every_module_of_every_folder_is_seen(package):
    prints, modules = [cache.code_fingerprint()], sorted(package.rglob("*.py"))
    rooms = {module.parent.relative_to(package).parts for module in modules}
    assert {(), ("read",), ("measure",), ("view",)} <= rooms
    for module in modules:
        change(module)
        prints.append(cache.code_fingerprint())
    change(package / "new" / "room" / "module.py")
    prints.append(cache.code_fingerprint())
    assert len(set(prints)) == len(modules) + 2


@pytest.fixture
def ran(monkeypatch):
    "How often the network went through the cases"
    calls = []

    def counting(*args, **options):
        calls.append(args)
        return examine(*args, **options)

    monkeypatch.setattr(cache, "examine", counting)
    return calls


def test_changed_code_is_run_again(package, ran, tmp_path, monkeypatch):
    "Study and tables: from the cache while nothing changes, anew after a change in any room"
    monkeypatch.setenv("XRAY_EXPLAIN_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    net = build_net("test_efficientnet", 3).eval()
    model = Checkpoint(net, "test_efficientnet", CLASSES, Preprocessing((64, 64)))
    data = write_phantoms(tmp_path / "set", 1, seed=5, size=96, workers=1, progress=False)
    cases, tables = open_cases(data, model), []

    def make():
        tables.append(1)
        return pd.DataFrame({"drop": [1.0]})

    for changed, times in ((None, 1), (None, 1), ("evidence/cam.py", 2), ("cli.py", 3), (None, 3)):
        if changed:
            change(package / changed)
        study = cache.cached_study(model, cases, progress=False)
        cache.cached_table(study, "drops", make)
        assert (len(ran), len(tables)) == (times, times), changed
    again = cache.cached_study(model, cases, cache=False, progress=False)
    assert len(ran) == 4 and np.array_equal(again.evidence, study.evidence)
