"""Does LabelMe open the outline files that this program writes?

    python benchmarks/labelme_opens.py                 # makes an environment with LabelMe 6.3.1, and removes it
    python benchmarks/labelme_opens.py --python PATH   # of an environment that has LabelMe

LabelMe is under the GPL and brings Qt and onnxruntime, so it is no requirement of this project. Its own loader reads
the outlines of three phantoms, and one of every kind of shape that is read here.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

from xray_explain.data.phantom import write_phantoms
from xray_explain.read.outlines.annotation import KINDS, Annotation, Lesion, write_annotation

LOADER = """
import sys
from labelme import __version__
from labelme._label_file import LabelFile, LabelFileError
opened = 0
for name in sys.argv[1:]:
    try:
        opened += bool(LabelFile(name).shapes)
    except LabelFileError as e:
        print(e)
print(f"LabelMe {__version__} opens {opened} of {len(sys.argv) - 1}")
"""


def every_kind() -> tuple[Lesion, ...]:
    "A lesion of every kind that is read"
    corners = np.array([[10, 10], [40, 10], [40, 30], [10, 30]], float)
    several = {"polygon": corners, "oriented_rectangle": corners, "rotation": corners}
    bitmaps = {"mask": np.ones((20, 30), bool)}
    return tuple(
        Lesion(kind, kind, several.get(kind, corners[[0, 2]]), bitmaps.get(kind)) for kind in KINDS
    )


def environment(folder: Path) -> Path:
    "The interpreter of a new environment with LabelMe"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "labelme==6.3.1"], check=True)
    return python


parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__.split("\n")[0])
parser.add_argument("--python", help="interpreter of an environment that has LabelMe")
args = parser.parse_args()
with tempfile.TemporaryDirectory() as scratch:
    home = write_phantoms(Path(scratch) / "set", 2, seed=3, size=128, workers=1, progress=False)
    cv2.imwrite(str(home / "images" / "kinds.png"), np.zeros((60, 80), np.uint8))
    write_annotation(
        home / "Annotations/kinds.json", Annotation(every_kind(), (60, 80), "kinds.png")
    )
    files = sorted((home / "Annotations").glob("*.json"))[-4:]
    python = args.python or environment(Path(scratch) / "environment")
    sys.exit(subprocess.run([python, "-c", LOADER, *files]).returncode)
