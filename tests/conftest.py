"What several test files need"

import json
import os
import shutil
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    "The folder of real radiographs beside the repository; without it a test is skipped, in CI it fails"
    place = os.environ.get("XRAY_EXPLAIN_SHARED") or Path(__file__).resolve().parents[2] / "shared"
    if not Path(place).is_dir():
        reason = "no folder of real radiographs; set XRAY_EXPLAIN_SHARED or put it at ../shared"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return Path(place)


@pytest.fixture(scope="session")
def other_kernel(tmp_path_factory) -> Path:
    "A value for JUPYTER_PATH: there, `python3` is a kernel of some other interpreter, which fails"
    home = tmp_path_factory.mktemp("jupyter")
    spec = home / "kernels" / "python3" / "kernel.json"
    spec.parent.mkdir(parents=True)
    fails = [sys.executable, "-c", "raise SystemExit('the wrong kernel')", "{connection_file}"]
    spec.write_text(json.dumps({"argv": fails, "display_name": "Python 3", "language": "python"}))
    return home


@pytest.fixture(scope="module")
def browser():
    "Chromium without a window; without one a test is skipped, in CI it fails"
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if not path:
        reason = "no browser; on Debian and Ubuntu: apt install chromium"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    api = pytest.importorskip(
        "playwright.sync_api", reason="needs playwright; pip install -e '.[dev]'"
    )
    quiet = ["sandbox", "first-run"], ["gpu", "background-networking", "sync", "component-update"]
    args = [f"--{word}-{name}" for word, names in zip(("no", "disable"), quiet) for name in names]
    args.append("--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1")
    with api.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=path, args=args)
        yield chromium
        chromium.close()
