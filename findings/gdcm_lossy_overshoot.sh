#!/bin/bash
# The brightest pixels of a lossy 12-bit JPEG can come out black. Where the header stores 10 bits, a decoder's rounding
# may give 1,024 for 1,023, and GDCM keeps the lower ten bits of it, which are 0. On a real radiograph it is a handful
# of pixels inside the lead marker. Cut numbers off at the header's maximum instead; libjpeg-turbo gives them whole.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv venv
venv/bin/pip --quiet install python-gdcm==3.2.6 pydicom==3.0.2 imagecodecs==2026.3.6 numpy==2.4.6
venv/bin/python - <<'P'
from importlib.metadata import version

import gdcm
import imagecodecs
import numpy as np
import pydicom
from pydicom import uid

print("python-gdcm", version("python-gdcm"), "imagecodecs", version("imagecodecs"))
y, x = np.mgrid[:64, :64]
film = np.minimum(1023, 8 * x + 12 * y).astype(np.uint16)  # a ramp up to white, in 10 bits
stream = imagecodecs.jpeg8_encode(film, level=80, bitspersample=12)
ds = pydicom.Dataset()
ds.file_meta = pydicom.dataset.FileMetaDataset()
ds.file_meta.TransferSyntaxUID = uid.JPEGExtended12Bit
ds.SOPClassUID, ds.SOPInstanceUID = uid.ComputedRadiographyImageStorage, "1.2.3"
ds.PhotometricInterpretation, ds.SamplesPerPixel, ds.PixelRepresentation = "MONOCHROME2", 1, 0
(ds.Rows, ds.Columns), ds.BitsAllocated, ds.BitsStored, ds.HighBit = film.shape, 16, 10, 9
ds.PixelData = pydicom.encaps.encapsulate([stream])
pydicom.dcmwrite("film.dcm", ds, enforce_file_format=True)
reader = gdcm.ImageReader()
reader.SetFileName("film.dcm")
assert reader.Read()
data = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
by_gdcm = np.frombuffer(data, np.uint16).reshape(film.shape)
whole = imagecodecs.jpeg8_decode(stream)
over = whole > 1023
print(over.sum(), "pixels above 1,023: libjpeg-turbo", whole[over].max(), "at most, GDCM", by_gdcm[over].max())
raise SystemExit(0 if over.any() and by_gdcm[over].max() < 100 else "this has changed")
P
