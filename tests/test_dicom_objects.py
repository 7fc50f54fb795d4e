"What is written for a PACS: in the right place on films of every kind, of the right patient, the same again, and valid to programs that nobody here wrote."

import csv
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
)
from test_engine import model  # noqa: F401, a fixture

from xray_explain.cli import main
from xray_explain.evidence.extent import length_text
from xray_explain.infer import folder as engine
from xray_explain.infer import record as infer_record
from xray_explain.infer.dicom import objects as dicom_objects
from xray_explain.infer.dicom.statement import KINDS
from xray_explain.infer.folder import Options, run
from xray_explain.infer.journal import RunError
from xray_explain.infer.record import NetworkOutput
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.sources import from_folder
from xray_explain.wording import RESEARCH_USE

ROWS, COLUMNS = 600, 450
SPOT = 380, 460, 90, 170  # rows and columns of what is bright on a film


def film(
    inverted=True, name="Müller^Jörg", sop_class=DigitalXRayImageStorageForPresentation, **tags
):
    "A film of 12 bits in 16, not square, dim but for a spot"
    ds = pydicom.Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, "1.2.3.4", "DX"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "1.2.3", "1.2.3.1", "1.2.9"
    ds.PatientName, ds.PatientID, ds.PatientSex, ds.PatientBirthDate = name, "K 17", "F", "19700102"
    ds.StudyDate, ds.StudyTime, ds.StudyID, ds.AccessionNumber = "20260901", "101500", "S7", "A9"
    ds.PatientOrientation, ds.ImageLaterality, ds.InstanceNumber = ["L", "F"], "L", 3
    ds.PixelSpacing = [0.14, 0.14]
    ds.Rows, ds.Columns, ds.SamplesPerPixel = ROWS, COLUMNS, 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
    ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    ds.WindowCenter, ds.WindowWidth, ds.RescaleSlope, ds.RescaleIntercept = 2048, 4096, 1, 0
    ds.RescaleType = "US"
    y, x = np.mgrid[:ROWS, :COLUMNS]
    pixels = 400 + 300 * np.sin(x / 50) + y / 10
    top, bottom, left, right = SPOT
    pixels[top:bottom, left:right] = 4000
    pixels = np.round(4095 - pixels if inverted else pixels).astype(np.uint16)
    ds.PixelData = pixels.tobytes()
    for tag, value in tags.items():
        setattr(ds, tag, value)
    file = BytesIO()
    pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue()


@pytest.fixture
def bright(model, monkeypatch):  # noqa: F811
    "A model that calls bright parts Benign, on a grid of 8 x 8, from a validated threshold on"
    checkpoint = replace(
        model[0],
        preprocessing=Preprocessing((96, 96)),
        localization={"local_logit": {"threshold": 1.0}},
        evidence_scale=(4.0,) * 3,
        operating_points={"Benign": {"threshold": 0.4, "rule": "a sensitivity of 0.95"}},
    )

    class Bright:
        fingerprint = "ab" * 32

        def __init__(self, checkpoint, *_):
            self.checkpoint = checkpoint

        def __call__(self, canvases):
            probs = np.array([0.2, 0.7, 0.1], np.float32)
            outputs = []
            for canvas in canvases:
                cells = cv2.resize(canvas, (8, 8), interpolation=cv2.INTER_AREA)
                benign = 20 * (cells - 0.3) / 64
                evidence = np.stack([-benign / 2, benign, -benign / 2]).astype(np.float32)
                outputs.append(NetworkOutput(np.log(probs), probs, evidence, True, 0.5))
            return outputs

    monkeypatch.setattr(engine, "Network", Bright)
    return checkpoint


def explained(
    checkpoint, place: Path, films: dict[str, bytes], key=b"", kinds=",".join(KINDS), **more
):
    "Records of films by name, and the folder"
    (place / "in").mkdir(exist_ok=True)
    for name, data in films.items():
        (place / "in" / name).write_bytes(data)
    sources, count = from_folder(place / "in")
    options = Options(dicom_out=kinds, **more)
    run(checkpoint, replace(sources, key=key), count, place / "out", options, progress=False)
    records = json.loads((place / "out" / "batch_results.json").read_text())
    return {record["image_name"]: record for record in records}


def objects(place: Path, record: dict) -> dict[str, pydicom.Dataset]:
    return {kind: pydicom.dcmread(place / "out" / p) for kind, p in record["dicom"].items()}


def contours(gsps) -> list[np.ndarray]:
    drawn = [g for a in gsps.GraphicAnnotationSequence for g in a.get("GraphicObjectSequence", [])]
    return [np.reshape(g.GraphicData, (-1, 2)) for g in drawn]


def words(gsps) -> str:
    texts = [t for a in gsps.GraphicAnnotationSequence for t in a.get("TextObjectSequence", [])]
    return "\n".join(t.UnformattedTextValue for t in texts)


def tree(item) -> list:
    "Every item of a report"
    return [item, *(i for child in item.get("ContentSequence", []) for i in tree(child))]


def measurements(report) -> dict[str, tuple[float, str]]:
    "The first of each name: its value and unit"
    measured: dict = {}
    for item in tree(report):
        for value in item.get("MeasuredValueSequence", []):
            unit = value.MeasurementUnitsCodeSequence[0].CodeValue
            name = item.ConceptNameCodeSequence[0].CodeMeaning
            measured.setdefault(name, (float(value.NumericValue), unit))
    return measured


def table() -> pydicom.Dataset:
    "A VOI LUT of 12 bits that changes nothing, with words about it"
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTExplanation = [4096, 0, 12], "Planted Jane"
    item.LUTData = np.arange(4096, dtype="<u2").tobytes()
    item["LUTDescriptor"].VR, item["LUTData"].VR = "US", "OW"
    return item


FILMS = {
    "low numbers white": film(),
    "low numbers black": film(False),
    "pixels twice as high as wide": film(PixelSpacing=[0.2, 0.1]),
    "a table and two windows": film(
        VOILUTSequence=Sequence([table()]), WindowCenter=[2048, 900], WindowWidth=[4096, 500]
    ),
    "computed radiograph without an orientation": film(
        sop_class=ComputedRadiographyImageStorage, PatientOrientation=None, Modality="CR"
    ),
}


@pytest.mark.parametrize("kind", FILMS)
def test_every_object_has_the_hot_spot_where_the_film_has_it(kind, bright, tmp_path):
    (record,) = explained(bright, tmp_path, {"film.dcm": FILMS[kind]}).values()
    made = objects(tmp_path, record)
    assert tuple(made) == KINDS and record["dicom_note"] == ""
    top, bottom, left, right = SPOT
    middle = ((left + right) / 2, (top + bottom) / 2)
    (line,) = contours(made["gsps"])
    assert cv2.pointPolygonTest(line.astype(np.float32), middle, False) > 0
    cell = (
        600 / 8
    )  # the square that the canvas spans has 600 pixels; the line is at most so far off
    assert np.abs(line.mean(0) - middle).max() < cell / 2 and np.ptp(line, 0).max() < 3 * cell
    heat = made["seg"].pixel_array.astype(float)
    assert heat.shape == (ROWS, COLUMNS) and heat.max() > 40
    y, x = np.indices(heat.shape)
    centre = (x * heat).sum() / heat.sum(), (y * heat).sum() / heat.sum()
    assert np.abs(np.subtract(centre, middle)).max() < cell / 2
    # hot from a local logit of 1 on, where full colour is 4: the line runs where a quarter is
    mask: np.ndarray = np.zeros((ROWS, COLUMNS), np.uint8)
    cv2.fillPoly(mask, [np.rint(line - 0.5).astype(np.int32)], 1)
    hot = heat >= 25
    assert (hot & (mask > 0)).sum() / (hot | (mask > 0)).sum() > 0.98
    shown = made["sc"].pixel_array.astype(float)
    assert shown.shape[:2] == tuple(record["image_shape"])
    colour = cv2.resize(np.abs(shown[..., 0] - shown[..., 2]), (COLUMNS, ROWS))
    assert colour[hot].mean() > 5 * colour[heat == 0].mean()
    regions = [i for i in tree(made["sr"]) if i.get("ValueType") == "SCOORD"]
    assert np.allclose(np.reshape(regions[0].GraphicData, (-1, 2)), line, atol=0.01)
    value, unit = measurements(made["sr"])["Area"]
    pixel = 0.02 if "twice as high" in kind else 0.14**2  # mm2
    assert unit == "mm2" and abs(value - pixel * hot.sum()) < 0.03 * pixel * hot.sum()


def test_objects_belong_to_the_film(bright, tmp_path):
    (record,) = explained(bright, tmp_path, {"film.dcm": film()}).values()
    made = objects(tmp_path, record)
    for kind, ds in made.items():
        assert (ds.StudyInstanceUID, ds.PatientID, ds.PatientSex) == ("1.2.3", "K 17", "F"), kind
        assert (str(ds.PatientName), ds.PatientBirthDate) == ("Müller^Jörg", "19700102"), kind
        assert (ds.StudyDate, ds.AccessionNumber, ds.StudyID) == ("20260901", "A9", "S7"), kind
        assert ds.SeriesInstanceUID != "1.2.3.1" and "1.2.3.4" in str(ds), kind
        assert RESEARCH_USE in str(ds.SeriesDescription) and ds.DeviceSerialNumber == "ab" * 32
    assert len({ds.SeriesInstanceUID for ds in made.values()}) == 4
    assert made["seg"].FrameOfReferenceUID == "1.2.9"
    assert made["gsps"].PresentationLUTShape == "INVERSE"
    assert made["sc"].BurnedInAnnotation == "YES" and made["sc"].Laterality == "L"
    text = words(made["gsps"])
    assert text.startswith(RESEARCH_USE) and "Benign 0.700" in text and "(local logit 1)" in text
    assert "1: 100% of the evidence for Benign" in text
    said = " | ".join(str(i.get("TextValue", "")) for i in tree(made["sr"]))
    assert RESEARCH_USE in said and "checkpoint fingerprint: " + "ab" * 32 in said
    assert RESEARCH_USE in made["seg"].SegmentSequence[0].SegmentDescription


IN_PLANE = {"ImagerPixelSpacing": [0.14, 0.14]}
MILLIMETRES = {  # header -> mm a pixel, and whose
    "not stated": ({}, 0.14, "not said to be calibrated"),
    "at the detector": (IN_PLANE, 0.14, "at the detector, larger than the bone itself"),
    "calibrated": (
        {
            **IN_PLANE,
            "PixelSpacing": [0.1, 0.1],
            "PixelSpacingCalibrationType": "FIDUCIAL",
            "PixelSpacingCalibrationDescription": "a coin",
        },
        0.1,
        "calibrated on an object of known size",
    ),
    "corrected": (
        {**IN_PLANE, "PixelSpacing": None, "EstimatedRadiographicMagnificationFactor": "1.4"},
        0.1,
        "corrected for an estimated magnification of 1.4",
    ),
    "none": ({"PixelSpacing": None}, 0, ""),
    "proportions alone": ({"PixelSpacing": None, "PixelAspectRatio": ["1", "1"]}, 0, ""),
    "no spacing at all": ({"PixelSpacing": [0, 0]}, 0, ""),
}


@pytest.mark.parametrize("stated", MILLIMETRES)
def test_a_size_says_whose_millimetres_it_is_in(stated, bright, tmp_path):
    "A spot of 80 x 80 pixels: in record, table, presentation state and report the same number and word"
    tags, mm, whose = MILLIMETRES[stated]
    (record,) = explained(bright, tmp_path, {"a.dcm": film(**tags)}, kinds="gsps,sr").values()
    (region,) = record["regions"]
    size, made = region["size"], objects(tmp_path, record)
    report, text = measurements(made["sr"]), words(made["gsps"])
    row = next(csv.DictReader(open(tmp_path / "out" / "batch_results.csv")))
    unit = "mm" if mm else "pixels"
    assert (size["unit"], size["spacing"], row["region1_unit"]) == (unit, whose, unit)
    # by the evidence of cells of 75 pixels: between one cell and three
    assert 75 * (mm or 1) < size["shorter"] <= size["longest"] < 3 * 75 * (mm or 1)
    assert size["cell"] == pytest.approx([75 * (mm or 1)] * 2)
    assert float(row["region1_longest"]) == pytest.approx(size["longest"], rel=1e-5)
    lengths = " x ".join(length_text(size[name]) for name in ("longest", "shorter"))
    assert f"{lengths} {unit}" in text and text.isascii()
    meanings = [c.CodeMeaning for i in tree(made["sr"]) for c in i.get("ConceptCodeSequence", [])]
    if mm:
        assert report["Long axis"] == (pytest.approx(size["longest"], abs=1e-3), "mm")
        assert report["Area"] == (pytest.approx(size["area"], abs=1e-3), "mm2")
        assert f"Sizes in mm {whose}" in text and whose in meanings
        assert record["spacing"]["rows"] == pytest.approx(mm)
    else:
        assert report["Area"][1] == "{pixels}" and "Long axis" not in report
        assert record["spacing"] is None and "mm" not in text.split("Sizes")[1]
    assert bool(record["notes"]) == (stated == "no spacing at all")


SECOND = {"threshold": 0.6, "rule": "a specificity of 0.95"}
STYLES = {  # of the point of high sensitivity and of the other -> line, its words
    "solid": (0.4, SECOND, "Solid line: Benign passes the operating point of high specificity"),
    "dashed": (0.4, SECOND | {"threshold": 0.9}, "Dashed line: Benign passes the operating point"),
    "dotted": (0.8, SECOND | {"threshold": 0.9}, "Dotted line: Benign passes no operating point"),
    "alone": (0.4, None, ""),
}


@pytest.mark.parametrize("style", STYLES)
def test_the_line_says_which_operating_point_is_passed(style, bright, tmp_path):
    "In overlay, presentation state, report and record; with one point the line is whole and means nothing"
    threshold, second, legend = STYLES[style]
    point = {"threshold": threshold, "rule": "a sensitivity of 0.95"}
    point |= {"specific": second} if second else {}
    checkpoint = replace(bright, operating_points={"Benign": point})
    kinds = "gsps,sr"
    (record,) = explained(checkpoint, tmp_path, {"a.dcm": film()}, kinds=kinds).values()
    made = objects(tmp_path, record)
    passed = {"solid": "specific", "dashed": "sensitive", "dotted": "none"}.get(style)
    assert record["points_passed"] == ({"Benign": passed} if passed else {})
    lines, (outline,) = contours(made["gsps"]), outlines(made["sr"])
    lengths = [np.hypot(*np.diff(line, axis=0).T).sum() for line in lines]
    share = sum(lengths) / np.hypot(*np.diff(outline, axis=0).T).sum()
    expected = {"dashed": 6 / 10, "dotted": 2 / 6}.get(style, 1)
    assert share == pytest.approx(expected, abs=0.08) and (len(lines) == 1) == (expected == 1)
    said = " | ".join(str(i.get("TextValue", "")) for i in tree(made["sr"]))
    described = Image.open(tmp_path / "out" / record["overlay"]).info["Description"]
    for text in (words(made["gsps"]), said):
        assert (legend in text) if legend else "line:" not in text
    assert (legend.lower() in described.lower()) if legend else "line:" not in described


def outlines(report) -> list[np.ndarray]:
    regions = [i for i in tree(report) if i.get("ValueType") == "SCOORD"]
    return [np.reshape(region.GraphicData, (-1, 2)) for region in regions]


def test_a_presentation_state_has_the_tables_of_its_film(bright, tmp_path):
    "In the 16 bits that it has, from black to white, without words about them, which may name somebody"
    data = FILMS["a table and two windows"]
    (record,) = explained(bright, tmp_path, {"film.dcm": data}, kinds="gsps").values()
    (shown,) = objects(tmp_path, record)["gsps"].SoftcopyVOILUTSequence
    values = np.frombuffer(shown.VOILUTSequence[0].LUTData, "<u2")
    assert list(shown.VOILUTSequence[0].LUTDescriptor) == [4096, 0, 16]
    assert (values[0], values[2048], values[-1]) == (0, 32776, 65535)  # 2048 * 65535 / 4095
    assert "WindowCenter" not in shown and "Planted" not in str(shown)


def test_a_run_that_is_gone_on_with_makes_what_is_missing_and_the_same(bright, tmp_path):
    films = {"a.dcm": film(), "b.dcm": film(SOPInstanceUID="1.2.3.5", InstanceNumber=4)}
    before = explained(bright, tmp_path, films, kinds="gsps,sr")
    uids = {
        p: pydicom.dcmread(tmp_path / "out" / p).SOPInstanceUID
        for r in before.values()
        for p in r["dicom"].values()
    }
    assert len(set(uids.values())) == 4
    gone = tmp_path / "out" / before["b.dcm"]["dicom"]["sr"]
    kept = tmp_path / "out" / before["a.dcm"]["dicom"]["sr"]
    gone.unlink()
    time = kept.stat().st_mtime_ns
    assert explained(bright, tmp_path, {}, kinds=" sr,gsps") == before
    assert gone.is_file() and kept.stat().st_mtime_ns == time
    assert {p: pydicom.dcmread(tmp_path / "out" / p).SOPInstanceUID for p in uids} == uids
    with pytest.raises(RunError, match="it holds a run with dicom out gsps,sr, not sc"):
        explained(bright, tmp_path, {}, kinds="sc")


def test_a_run_of_an_earlier_version_gets_its_objects(bright, tmp_path):
    "Its note knows nothing of DICOM, its records name no object"
    explained(bright, tmp_path, {"a.dcm": film()}, kinds="")
    note = tmp_path / "out" / "run" / "run.json"
    known = json.loads(note.read_text())
    del known["dicom_out"]
    note.write_text(json.dumps(known))
    (record,) = explained(bright, tmp_path, {}, kinds="gsps").values()
    assert list(record["dicom"]) == ["gsps"]


def test_a_film_is_read_and_drawn_once_for_overlay_and_capture(bright, tmp_path, monkeypatch):
    calls = []
    for module in (infer_record, dicom_objects):
        for name in {"read_radiograph", "draw_overlay"} & vars(module).keys():
            called = getattr(module, name)
            count = lambda *a, f=called, n=name: calls.append(n) or f(*a)
            monkeypatch.setattr(module, name, count)
    records = explained(bright, tmp_path, {"a.dcm": film()})
    assert calls == ["read_radiograph", "draw_overlay"]  # beside the network's own reading
    png = cv2.imread(str(tmp_path / "out" / records["a.dcm"]["overlay"]))[..., ::-1]
    assert (objects(tmp_path, records["a.dcm"])["sc"].pixel_array == png).all()


def test_objects_that_end_their_work_do_not_cost_the_overlay(bright, tmp_path, monkeypatch):
    def too_large(*_):
        raise MemoryError

    monkeypatch.setattr("xray_explain.infer.dicom.objects.dicom_objects", too_large)
    record = explained(bright, tmp_path, {"a.dcm": film()})["a.dcm"]
    assert (tmp_path / "out" / record["overlay"]).is_file() and record["dicom"] == {}
    assert record["dicom_note"] == "a.dcm: too large for the memory; shrink it first"


def test_what_cannot_be_made_costs_nothing_else(bright, tmp_path):
    png = cv2.imencode(".png", np.full((90, 60), 99, np.uint8))[1].tobytes()
    films = {
        "picture.png": png,
        "no study.dcm": film(StudyInstanceUID=""),
        "odd.dcm": film(PatientSex="X", SOPInstanceUID="1.2.3.6"),
        "no window.dcm": film(WindowCenter=None, WindowWidth=None, SOPInstanceUID="1.2.3.7"),
        "intercept.dcm": film(RescaleSlope=None, SOPInstanceUID="1.2.3.8"),
    }
    records = explained(bright, tmp_path, films)
    assert len(records) == len(films)
    assert all((tmp_path / "out" / r["overlay"]).is_file() for r in records.values())
    notes = {name: record["dicom_note"] for name, record in records.items()}
    assert "no DICOM file" in notes["picture.png"] and records["picture.png"]["dicom"] == {}
    assert "lacks StudyInstanceUID" in notes["no study.dcm"]
    assert "left out: PatientSex" in notes["odd.dcm"] and len(records["odd.dcm"]["dicom"]) == 4
    assert notes["no window.dcm"] == "" and len(records["no window.dcm"]["dicom"]) == 4
    assert notes["intercept.dcm"] == "" and len(records["intercept.dcm"]["dicom"]) == 4


def test_without_a_threshold_or_evidence_no_contour_is_drawn(bright, tmp_path):
    without = replace(bright, localization={})
    (record,) = explained(without, tmp_path, {"a.dcm": film()}).values()
    made = objects(tmp_path, record)
    assert not contours(made["gsps"]) and "No contour: no threshold" in words(made["gsps"])
    assert not [i for i in tree(made["sr"]) if i.get("ValueType") == "SCOORD"]


def test_a_cluster_makes_the_same(bright, tmp_path, monkeypatch):
    "The stages of Ray's engine, called one after the other"
    from xray_explain.infer import cluster
    from xray_explain.infer.cluster import batch_row, draw_row, read_row, work_of, write_rows
    from xray_explain.read.processes import Readers

    monkeypatch.setattr(cluster, "_readers", lambda: Readers(0))

    (record,) = explained(bright, tmp_path, {"a.dcm": film()}).values()
    sources, _ = from_folder(tmp_path / "in")
    options = Options(dicom_out=",".join(KINDS))
    read = read_row(batch_row(0, [tuple(s) for s in sources]), bright.preprocessing, 0)
    work = engine.explain_batch(engine.Network(bright), work_of(read), options)
    row = draw_row(batch_row(0, work))
    (batch,) = write_rows([row], tmp_path / "cluster", sources, options)
    (again,) = batch["records"]
    assert again["dicom"] == record["dicom"] and again["dicom_note"] == ""
    for place in again["dicom"].values():
        first, second = (pydicom.dcmread(tmp_path / f / place) for f in ("out", "cluster"))
        assert first.SOPInstanceUID == second.SOPInstanceUID


def test_another_kind_is_refused_before_anything_runs(tmp_path, capsys):
    command = ["infer", "--image", str(tmp_path / "film.dcm"), "--dicom-out", "sc,pdf"]
    (tmp_path / "film.dcm").write_bytes(film())
    assert main([*command, "--output-dir", str(tmp_path / "out")]) == 1
    assert (
        "unknown kind of DICOM object 'pdf'; there are sc, gsps, sr, seg" in capsys.readouterr().err
    )
    assert not (tmp_path / "out").exists()


# --- programs that nobody here wrote


@pytest.fixture
def program():
    "Debian's dicom3tools and dcmtk; without them a test is skipped, in CI it fails"

    def call(name, *arguments, status=0):
        if not shutil.which(name):
            reason = f"no {name}; on Debian and Ubuntu: apt install dicom3tools dcmtk"
            pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
        done = subprocess.run([name, *map(str, arguments)], capture_output=True, text=True)
        assert status is None or done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return call


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILMS)
def test_a_validator_finds_no_error(kind, bright, program, tmp_path):
    for key in (b"", b"sixteen characters at least"):
        place = tmp_path / ("hidden" if key else "plain")
        place.mkdir()
        (record,) = explained(bright, place, {"film.dcm": FILMS[kind]}, key).values()
        for path in record["dicom"].values():
            told = program("dciodvfy", place / "out" / path, status=None)
            assert "Error" not in told, (path, told)


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILMS)
def test_a_viewer_renders_film_and_report(kind, bright, program, tmp_path):
    "With the presentation state the film looks as without it: bones bright, whatever its numbers mean"
    (record,) = explained(bright, tmp_path, {"film.dcm": FILMS[kind]}).values()
    paths = {kind: tmp_path / "out" / p for kind, p in record["dicom"].items()}
    shown = tmp_path / "shown.pgm"
    program("dcmp2pgm", "--pstate", paths["gsps"], tmp_path / "in" / "film.dcm", shown)
    picture = cv2.imread(str(shown), cv2.IMREAD_UNCHANGED)
    assert picture.shape == (ROWS, COLUMNS)
    top, bottom, left, right = SPOT
    inside = picture[top + 5 : bottom - 5, left + 5 : right - 5].mean()
    assert inside > 200 and picture[:300].mean() < 80
    page = tmp_path / "report.html"
    program("dsr2html", paths["sr"], page)
    text = re.sub("<[^>]+>", " ", page.read_text("utf-8"))
    for told in (
        RESEARCH_USE,
        "Müller",
        "Benign",
        "70.0 %",
        "At or above operating point",
        "Visual explanation",
    ):
        assert told in text, told


@pytest.mark.slow
def test_objects_of_real_films_are_valid(bright, program, shared, tmp_path):
    films = {p.name: p.read_bytes() for p in sorted((shared / "radiographs" / "dicom").iterdir())}
    records = explained(bright, tmp_path, films)
    assert len(films) > 4 and all(len(record["dicom"]) == 4 for record in records.values())
    for record in records.values():
        assert record["dicom_note"] == ""
        for path in record["dicom"].values():
            told = program("dciodvfy", tmp_path / "out" / path, status=None)
            assert "Error" not in told, (path, told)
