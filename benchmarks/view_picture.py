"""The view's picture for the documentation: phantoms alone, the one that is shown written as DICOM.

python benchmarks/view_picture.py nbs/images/view.png
"""

import sys
import tempfile
from pathlib import Path

from PIL import Image
from view_latency import shown

from xray_explain.data.phantom import make_phantom

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from test_view import dicom  # noqa: E402, the one way to write a phantom as DICOM


def main(place):
    with tempfile.TemporaryDirectory() as folder:
        for seed, label in [(60_000_005, "Malignant"), (60_000_001, "Benign")]:
            (Path(folder) / f"phantom_{label.lower()}.dcm").write_bytes(
                dicom(make_phantom(seed, label, 600).image)
            )
        with shown(folder, (1280, 720)) as page:
            page.locator(".xe [data-step='1']").click()
            page.wait_for_function(
                "document.querySelector('.xe [data-caption=plain]').textContent.startsWith('phantom_malignant')"
            )
            page.wait_for_timeout(1000)
            page.screenshot(path=place)
    Image.open(place).convert("RGB").save(place, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1])
