#!/bin/bash
# pydicom does not hand a 12-bit JPEG Extended picture (1.2.840.10008.1.2.4.51) to GDCM, which decodes it.
# Found while adding codecs: "pixel_array" raises although python-gdcm is installed and reads the file.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv venv
venv/bin/pip --quiet install pydicom==3.0.2 python-gdcm==3.2.6 numpy==2.4.6 imagecodecs==2026.3.6
venv/bin/python - <<'P'
import gdcm
import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import DigitalXRayImageStorageForPresentation, JPEGExtended12Bit, generate_uid

print("pydicom", pydicom.__version__, "GDCM", gdcm.Version.GetVersion())
x, y = np.meshgrid(np.arange(64), np.arange(64))
film = (2047 + 1500 * np.sin(x / 9) * np.cos(y / 7)).astype(np.uint16)
coded = imagecodecs.jpeg8_encode(film, level=95, bitspersample=12)
assert b"\xff\xc1" in coded  # SOF1, extended sequential, with 12 bits a sample
reference = imagecodecs.jpeg8_decode(coded)

ds = Dataset()
ds.file_meta = FileMetaDataset()
ds.file_meta.TransferSyntaxUID = JPEGExtended12Bit
ds.SOPClassUID = DigitalXRayImageStorageForPresentation
ds.SOPInstanceUID = generate_uid()
ds.Rows, ds.Columns, ds.SamplesPerPixel = 64, 64, 1
ds.PhotometricInterpretation, ds.PixelRepresentation = "MONOCHROME2", 0
ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
ds.PixelData = encapsulate([coded])
ds["PixelData"].VR = "OB"
ds.save_as("film.dcm", enforce_file_format=True)

try:
    pydicom.dcmread("film.dcm").pixel_array
    refused = False
except RuntimeError as e:
    refused = "12-bit" in str(e)
    print("pydicom:", e)

reader = gdcm.ImageReader()
reader.SetFileName("film.dcm")
assert reader.Read()
text = reader.GetImage().GetBuffer()
decoded = np.frombuffer(text.encode("utf-8", "surrogateescape"), np.uint16).reshape(64, 64)
off = int(np.abs(decoded.astype(int) - reference).max())
print("gdcm.ImageReader: at most", off, "of 4096 levels from libjpeg-turbo's picture")
raise SystemExit(0 if refused and off <= 2 else "this has changed")
P
