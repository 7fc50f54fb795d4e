"""How large the DICOM objects of a film are and how long each takes, beside the overlay.

    python benchmarks/dicom_objects.py

Of a made-up film of 3000 x 2400 pixels, 12 bits in 16, low numbers white, with noise as a detector has it. Seconds of one core, the
best of several rounds, libraries imported. An Intel Xeon at 2.1 GHz, shared with two trainings, gave: see nbs/7_infer/5_dicom/08_objects.ipynb.
"""

import argparse
import tempfile
import time
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

from xray_explain.infer.dicom.capture import capture, dicom_file
from xray_explain.infer.dicom.document import document
from xray_explain.infer.dicom.identity import film_header
from xray_explain.infer.dicom.objects import draw_all
from xray_explain.infer.dicom.presentation import presentation
from xray_explain.infer.dicom.regions import film_map, film_regions
from xray_explain.infer.dicom.segments import segments
from xray_explain.infer.dicom.statement import KINDS, Statement
from xray_explain.infer.record import Drawing, draw_overlay, overlay_file
from xray_explain.infer.verdict import Verdict
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.radiograph import read_radiograph
from xray_explain.read.sources import Source


def film(rows: int, columns: int) -> bytes:
    "A bone in noise"
    ds = pydicom.Dataset()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3.4"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality = "1.2.3", "1.2.3.1", "DX"
    ds.PatientName, ds.PatientID, ds.PixelSpacing = "Nobody^At all", "0", [0.14, 0.14]
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = (
        rows,
        columns,
        1,
        "MONOCHROME1",
    )
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    bone = np.exp(-(((x - columns * 0.4 - y / 12) / (columns / 9)) ** 2))
    noise = np.random.default_rng(0).normal(0, 25, bone.shape)
    ds.PixelData = (4095 * (1 - 0.8 * bone) - 200 + noise).clip(0, 4095).astype(np.uint16).tobytes()
    file = BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


def statement(shape: tuple[int, int]) -> Statement:
    "Two hot regions on a grid as a network's"
    local: np.ndarray = np.full((14, 14), -1, np.float32)
    local[5:8, 5:7], local[11, 4] = 4, 2.5
    drawing = Drawing(
        local, Preprocessing(), 5.0, "demo · Benign 0.700", threshold=1.5, shown="Benign"
    )
    verdict = Verdict(
        "Model of nothing", "demo", "Benign 0.700", "Benign", "localised", "not calibrated"
    )
    scores = {"Normal": 0.2, "Benign": 0.7, "Malignant": 0.1}
    return Statement(verdict, scores, ("Benign",), (), {}, shape, drawing, "demo", "ab" * 32, KINDS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument(
        "--size", nargs=2, type=int, default=(3000, 2400), metavar=("ROWS", "COLUMNS")
    )
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows, columns = options.size
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "film.dcm"
        path.write_bytes(film(rows, columns))
        said = statement((rows, columns))
        header = film_header(str(path), [])
        over = film_map(said, header)
        regions = film_regions(over, said)

        def secondary():
            picture = read_radiograph(path)
            return dicom_file(capture(header, said, draw_overlay(picture.pixels, said.drawing)))

        def hot():
            return film_regions(film_map(said, header), said)

        work = {
            "overlay, a PNG": lambda: overlay_file(path, said.drawing),
            "map and regions": hot,
            "sc, with reading and drawing": secondary,
            "gsps": lambda: dicom_file(presentation(header, said, regions)),
            "sr": lambda: dicom_file(document(header, said, regions)),
            "seg": lambda: dicom_file(segments(header, said, over)),
            "all four and the overlay, as a folder makes them": lambda: draw_all(
                Source("film.dcm", str(path)), None, said
            ),
        }
        print(f"{rows} x {columns} pixels, {path.stat().st_size / 1e6:.1f} MB\n")
        print("| object | seconds of a processor | kB |\n|---|---|---|")
        for name, make in work.items():
            seconds = []
            for _ in range(options.rounds + 1):  # the first imports
                start = time.process_time()  # others' work on this machine is none of ours
                made = make()
                seconds.append(time.process_time() - start)
            size = f"{len(made) / 1000:.1f}" if isinstance(made, bytes) else ""
            print(f"| {name} | {min(seconds[1:]):.3f} | {size} |")


if __name__ == "__main__":
    main()
