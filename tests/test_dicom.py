"DICOM values: against pydicom, damaged in every way, and what is said of them in every output"

import csv
import json
from io import BytesIO

import cv2
import numpy as np
import pyarrow.parquet as pq
import pydicom
import pytest
from hostile_corpus import DEEP, dicom
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.tag import Tag
from test_engine import model  # noqa: F401, a fixture

from xray_explain.data.duplicates import picture_print
from xray_explain.infer.inference import infer_folder, infer_image, results_table
from xray_explain.read.outlines.annotation import (
    Annotation,
    Lesion,
    annotation_on,
    write_annotation,
)
from xray_explain.read.pixels import RadiographError
from xray_explain.read.processes import read_case
from xray_explain.read.radiograph import ONE_COLOUR, read_radiograph
from xray_explain.read.sources import Source
from xray_explain.view.words import summary

NO_WINDOW = ["WindowCenter", "WindowWidth"]


def random_film(rng) -> tuple[bytes, bool]:
    "A legal film of any layout, rescale and window, and whether it has a window"
    bits, signed = int(rng.choice([8, 10, 12, 14, 16])), bool(rng.integers(2))
    size = 1 if bits == 8 else 2
    low = -(2 ** (bits - 1)) if signed else 0
    values = np.round(low + DEEP / 4095 * (2**bits - 1)).astype(f"{'iu'[not signed]}{size}")
    slope, intercept = float(rng.choice([1, 0.5, 2, 1e-3])), int(rng.integers(-3000, 3000))
    ends = [low * slope + intercept, (low + 2**bits - 1) * slope + intercept]
    function = str(rng.choice(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
    width = max(1.5, (ends[1] - ends[0]) * rng.uniform(0.3, 1))
    window = dict(WindowCenter=round(sum(ends) / 2, 6), WindowWidth=round(width, 6))
    tags = dict(RescaleSlope=slope, RescaleIntercept=intercept, VOILUTFunction=function)
    layout = dict(BitsStored=bits, HighBit=bits - 1)
    compress = pydicom.uid.RLELossless if rng.integers(2) else None
    return dicom(values, compress=compress, **layout, **tags, **window)


def by_pydicom(data: bytes) -> np.ndarray:  # (H, W) in [0, 1]
    "pydicom's own steps, to the ends of their range"
    ds = pydicom.dcmread(BytesIO(data))
    values = apply_modality_lut(ds.pixel_array, ds)
    low, high = apply_voi_lut(np.array([-1e12, 1e12]), ds)
    return (apply_voi_lut(values, ds) - low) / (high - low)


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
def test_legal_films_are_what_pydicom_shows():
    rng = np.random.default_rng(0)
    for _ in range(60):
        data = random_film(rng)
        film = read_radiograph(data)
        assert np.abs(film.pixels - by_pydicom(data)).max() < 2e-5
        assert film.notes == ()


AUXILIARY = (
    "PixelPaddingValue PixelPaddingRangeLimit RescaleSlope RescaleIntercept ModalityLUTSequence "
    "VOILUTSequence VOILUTFunction WindowCenter WindowWidth PresentationLUTShape PixelSpacing "
    "ImagerPixelSpacing NominalScannedPixelSpacing PixelAspectRatio HighBit BurnedInAnnotation "
    "SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence Modality BodyPartExamined"
).split()
TEXTS = [b"tall", b"1\\2", b"1,5", b"nan", b"-1e308", b"1e-300\\0", b"9" * 40, b"", b"INVERSE"]
VALUES = st.one_of(st.sampled_from(TEXTS), st.binary(max_size=24))
TYPES = st.sampled_from(["DS", "IS", "US", "SS", "CS", "LO", "UN", "OW", "OB", "FD", "PN"])
DAMAGE = st.lists(st.tuples(st.sampled_from(AUXILIARY), TYPES, VALUES), min_size=1, max_size=4)


def damaged(changes: list[tuple[str, str, bytes]]) -> bytes:
    "A film with these bytes for its auxiliary values"
    ds = pydicom.dcmread(BytesIO(dicom()))
    for keyword, vr, value in changes:
        value += b" " * (len(value) % 2)
        ds[Tag(keyword)] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)
    file = BytesIO()
    ds.save_as(file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(changes=DAMAGE)
@example(changes=[("WindowCenter", "DS", b"nan")])
@example(changes=[("RescaleSlope", "DS", b"nan")])
@example(changes=[("HighBit", "DS", b"tall")])
def test_a_damaged_value_never_costs_the_picture(changes):
    film = read_radiograph(damaged(changes), "x.dcm")
    assert film.pixels.dtype == np.float32 and film.notes is not None
    assert 0 <= film.pixels.min() <= film.pixels.max() <= 1
    assert all("\n" not in note and len(note) < 160 for note in film.notes)


LENGTHS = st.integers(0, 70_000)
ENTRIES = st.lists(st.integers(0, 65535), min_size=1, max_size=40)


@settings(max_examples=60, deadline=None, database=None)
@given(count=LENGTHS, first=st.integers(0, 65535), bits=st.integers(0, 65535), entries=ENTRIES)
def test_any_table_gives_a_picture(count, first, bits, entries):
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [count % 65536, first, bits])
    item.add_new("LUTData", "US", entries)
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        film = read_radiograph(dicom(drop=NO_WINDOW, **{keyword: pydicom.Sequence([item])}))
        assert 0 <= film.pixels.min() <= film.pixels.max() <= 1


@pytest.fixture(scope="module")
def doubtful(tmp_path_factory):
    "A folder with a black PNG and a film whose header disagrees with itself"
    folder = tmp_path_factory.mktemp("doubtful")
    cv2.imwrite(str(folder / "black.png"), np.zeros((64, 64), np.uint8))
    inverse = dicom(4095 - DEEP, PresentationLUTShape="INVERSE")
    (folder / "inverse.dcm").write_bytes(inverse)
    (folder / "plain.dcm").write_bytes(dicom())
    return folder


def test_a_doubtful_reading_is_said_in_every_output(model, doubtful, tmp_path, capsys):  # noqa: F811
    from xray_explain.cli import main

    checkpoint, path = model
    right = {
        "black.png": ONE_COLOUR,
        "inverse.dcm": "MONOCHROME2 and PresentationLUTShape INVERSE disagree about what is white",
        "plain.dcm": "",
    }
    records, failures = infer_folder(checkpoint, doubtful, tmp_path, gradcam=False, progress=False)
    assert not failures
    rows = list(csv.DictReader((tmp_path / "batch_results.csv").open(encoding="utf-8")))
    columns = pq.read_table(tmp_path / "batch_results.parquet").to_pylist()
    written = json.loads((tmp_path / "batch_results.json").read_text())
    for record, row, column, entry in zip(records, rows, columns, written, strict=True):
        note = right[record["image_name"]]
        assert [n.startswith(note) for n in entry["notes"]] == [True] * bool(note)
        assert row["notes"] == column["notes"] == "; ".join(entry["notes"])
        assert record["caution"].lower().startswith(note.lower())
        assert record["caution"] in results_table(records)
    for name, note in right.items():
        inference = infer_image(checkpoint, doubtful / name)
        lines = inference.verdict.notes
        lines = [line for line in lines if note and line.lower().startswith(note.lower())]
        shown = {note["text"] for note in summary(inference)["notes"]}
        assert len(lines) == bool(note) and set(lines) <= shown
        case = read_case(Source(name, str(doubtful / name)), None, checkpoint.preprocessing)
        assert [n.startswith(note) for n in case[2]] == [True] * bool(note)
        assert picture_print(doubtful / name)["notes"].startswith(note)

    picture = str(doubtful / "inverse.dcm")
    out = ["--no-gradcam", "--output-dir", str(tmp_path)]
    main(["infer", "--image", picture, "--checkpoint", str(path), *out])
    assert right["inverse.dcm"] in capsys.readouterr().out


def test_an_outline_on_the_stored_picture_lands(tmp_path):
    "Pixels twice as high as wide: drawn on the stored grid, or on a square export, it is one place"
    lesion = np.array([[20.0, 10], [40, 10], [40, 20], [20, 20]])
    values = np.full((48, 64), 500, np.uint16)
    values[10:20, 20:40] = 4095
    film = read_radiograph(dicom(values, PixelSpacing=["0.4", "0.2"]))
    assert film.shape == (96, 64) and film.stored_shape == (48, 64)
    assert (film.spacing.rows, film.spacing.columns) == pytest.approx((0.2, 0.2))
    assert film.spacing.basis == "unstated"
    for shape, scale in (((48, 64), 1), ((96, 64), [1, 2]), (None, 1)):
        outline = Annotation((Lesion("tumour", "polygon", lesion * scale),), shape, "a.dcm")
        write_annotation(tmp_path / "a.json", outline)
        mask = annotation_on(film, tmp_path / "a.json").mask(film.shape)
        assert np.array_equal(mask > 0, film.pixels > 0.6), shape
    # by hand: rows 20 to 39 and columns 20 to 39
    assert mask[20:40, 20:40].all() and mask.sum() == 400


@pytest.mark.parametrize("aspect", ["1\\100", "0\\1", "-1\\1", "1\\0", "2"])
def test_an_aspect_that_cannot_be_is_left_out(aspect):
    film = read_radiograph(dicom(PixelAspectRatio=aspect.split("\\")))
    assert film.shape == DEEP.shape and film.stored_shape is None


def test_messages_are_of_what_the_object_is():
    "And of its class no more than the standard's own words"
    for sop, words in (
        (
            pydicom.uid.SegmentationStorage,
            "it is a DICOM segmentation, not a projection radiograph",
        ),
        (pydicom.uid.CTImageStorage, "in DICOM's words it is 'CT Image'"),
        (pydicom.uid.RTStructureSetStorage, "in DICOM's words it is 'RT Structure Set'"),
    ):
        with pytest.raises(RadiographError, match=f"^mine.dcm: {words}") as e:
            read_radiograph(dicom(SOPClassUID=sop), "mine.dcm")
        assert sop not in str(e.value) and "\n" not in str(e.value)
    film = read_radiograph(dicom(SOPClassUID="1.2.826.0.1.3680043.2.1143"), "mine.dcm")
    assert len(film.notes) == 1 and "3680043" not in repr(vars(film))
