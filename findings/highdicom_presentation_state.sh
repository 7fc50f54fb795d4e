#!/bin/bash
# A presentation state by highdicom does not show a film as the film's own header does, in two ways that nobody is told of:
# 1. A film with low numbers white (MONOCHROME1) gets the Presentation LUT Shape IDENTITY, its default. A state takes the
#    place of the film's own grey scale (PS3.3 C.11.6), so a viewer shows bones dark, unless the caller asks for INVERSE.
# 2. A VOI LUT of 12 bits, which a DX film may have (C.8.11.3: 10 to 16), is copied as one of 16 bits, as a state must have
#    it (C.11.8: 8 or 16), but its values stay below 4096 of 65535: a viewer shows the film at a sixteenth of its brightness.
# And a film that has a table and a window, which C.11.2 allows, is refused with a ValueError.
set -euo pipefail
cd "$(mktemp -d)" && trap 'rm -rf "$PWD"' EXIT
python3 -m venv venv
venv/bin/pip --quiet install highdicom==0.28.2 pydicom==3.0.2 numpy==2.4.6
venv/bin/python - <<'P'
from importlib.metadata import version

import numpy as np
from highdicom.pr import GrayscaleSoftcopyPresentationState
from pydicom import Dataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, generate_uid

print("highdicom", version("highdicom"), "pydicom", version("pydicom"))


def film(**tags):
    ds = Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID = DigitalXRayImageStorageForPresentation, generate_uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = generate_uid(), generate_uid()
    ds.PatientID = ds.PatientName = ds.PatientBirthDate = ds.PatientSex = ds.AccessionNumber = ""
    ds.StudyID = ds.StudyDate = ds.StudyTime = ""
    ds.Rows, ds.Columns, ds.SamplesPerPixel = 64, 48, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PhotometricInterpretation = "MONOCHROME1"
    ds.PresentationLUTShape = "INVERSE"
    for tag, value in tags.items():
        setattr(ds, tag, value)
    return ds


def state(of):
    made = generate_uid(), 1, generate_uid(), 1, "maker", "model", "1", "1", "LABEL"
    return GrayscaleSoftcopyPresentationState([of], *made)


table = Dataset()
table.LUTDescriptor = [4096, 0, 12]
table.LUTData = np.arange(4096, dtype="<u2").tobytes()
table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"

shape = state(film()).PresentationLUTShape
(copied,) = state(film(VOILUTSequence=[table])).SoftcopyVOILUTSequence[0].VOILUTSequence
bits, most = copied.LUTDescriptor[2], int(np.frombuffer(copied.LUTData, "<u2").max())
try:
    state(film(VOILUTSequence=[table], WindowCenter=2048, WindowWidth=4096))
    both = "taken"
except ValueError as e:
    both = "refused: " + str(e)
print("MONOCHROME1, INVERSE in the film ->", shape, "in the state")
print("a table of 12 bits up to 4095 ->", bits, "bits, up to", most)
print("a table and a window:", both)
changed = (shape, bits, most, both[:7]) != ("IDENTITY", 16, 4095, "refused")
raise SystemExit("this has changed" if changed else 0)
P
