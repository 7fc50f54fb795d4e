"What several test files need"

import os
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
