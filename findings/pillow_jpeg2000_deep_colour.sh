#!/bin/bash
# White turns black where Pillow reads a JPEG 2000 file with colours of 16 bits: it rounds them to 8 bits, and what is
# rounded up to 256 comes out as 0. All from 65,408 on are touched, the white of a film or of its lead marker. OpenJPEG by
# itself gives the stored numbers: ask it for anything deeper than 8 bits, whose depth stands in the marker segment SIZ.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv venv
venv/bin/pip --quiet install pillow==13.0.0 imagecodecs==2026.3.6 numpy==2.4.6
venv/bin/python - <<'P'
from importlib.metadata import version
from io import BytesIO

import imagecodecs
import numpy as np
from PIL import Image

print("Pillow", version("pillow"), "imagecodecs", version("imagecodecs"))
ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
file = imagecodecs.jpeg2k_encode(np.dstack([ramp] * 3), reversible=True)
stored = imagecodecs.jpeg2k_decode(file)
picture = Image.open(BytesIO(file))
off = np.abs(np.asarray(picture)[..., 0].astype(int) - (ramp >> 8))
print("OpenJPEG off by", np.abs(stored[..., 0].astype(int) - ramp).max())
wrong = ramp[off > 1]
print("Pillow:", picture.mode, "off by", off.max(), "in", len(wrong), "pixels, from", wrong.min(), "on")
exact = np.array_equal(stored[..., 0], ramp)
raise SystemExit(0 if exact and off.max() == 255 and wrong.min() > 65400 else "this has changed")
P
