#!/bin/bash
# LabelMe's own mask of a polygon holds one row and one column more than COCO's: a square of 8 x 8 pixels has 81 and 64.
# LabelMe draws with Pillow, which paints the outline as well; COCO counts the pixels whose centres lie inside. A small
# lesion measured by one rule and scored by the other differs by a quarter of its area.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv venv
venv/bin/pip --quiet install labelme==6.3.1 pycocotools==2.0.11 numpy==2.4.6 pillow==13.0.0
venv/bin/python - <<'P'
from importlib.metadata import version

from labelme.utils import shape_to_mask
from pycocotools import mask as coco

print("labelme", version("labelme"), "pycocotools", version("pycocotools"))
square = [[4, 4], [12, 4], [12, 12], [4, 12]]  # corners of pixels 4 to 11 in x and y
drawn = int(shape_to_mask((20, 20), square, "polygon").sum())
runs = coco.frPyObjects([[c for point in square for c in point]], 20, 20)
counted = int(coco.decode(runs).sum())
print("LabelMe:", drawn, "pixels; COCO:", counted)
raise SystemExit(0 if (drawn, counted) == (81, 64) else "this has changed")
P
