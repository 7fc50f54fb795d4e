"Real radiographs and DICOM files through the whole of inference."

import json

import cv2
import pydicom
import pytest

from xray_explain.infer.inference import infer_folder
from xray_explain.model.checkpoint import load_checkpoint
from xray_explain.read.radiograph import find_radiographs, read_radiograph


@pytest.fixture(scope="module")
def model():
    return load_checkpoint("bone_phantoms")


def patient_texts(folder):
    "Every text of the headers that is about a patient, a place or a person"
    groups = {"PN", "LO", "SH", "LT", "ST", "UT", "DA", "AS"}
    allowed = {"Modality", "Manufacturer"}
    texts = set()
    for path in folder.glob("*.dcm"):
        for e in pydicom.dcmread(path, stop_before_pixels=True):
            # short words and numbers would be found in any file by accident
            if e.VR in groups and e.keyword not in allowed and len(str(e.value)) > 5:
                texts.add(str(e.value).encode())
    return texts


def test_dicom_overlays_have_the_pictures_shape_and_no_patient_text(shared, model, tmp_path):
    folder = shared / "radiographs" / "dicom"
    records, failures = infer_folder(model, folder, tmp_path, progress=False)
    assert len(records) + len(failures) == 6 and len(records) >= 5
    for r in records:
        assert cv2.imread(str(tmp_path / r["overlay"])).shape[:2] == tuple(r["image_shape"])
    texts, written = patient_texts(folder), b"".join(p.read_bytes() for p in tmp_path.rglob("*.*"))
    assert texts
    assert not [t for t in texts if t in written]


def test_same_film_by_two_codecs_gives_one_answer(shared, model, tmp_path):
    films = [shared / "radiographs" / "dicom" / f"{n}.dcm" for n in ("RG3_RLE", "RG3_J2KR")]
    records, _ = infer_folder(
        model, films[0].parent, tmp_path, gradcam=False, paths=films, progress=False
    )
    # a picture's place in the batch may change the last bit
    assert records[0]["scores"] == pytest.approx(records[1]["scores"], abs=1e-5)
    assert records[0]["peak_xy"] == records[1]["peak_xy"]


def test_whole_radiographs_that_are_not_square(shared, model, tmp_path):
    folder = shared / "radiographs" / "whole" / "images"
    paths = [p for p in find_radiographs(folder) if len(set(read_radiograph(p).shape)) == 2][:6]
    records, failures = infer_folder(model, folder, tmp_path, paths=paths, progress=False)
    assert len(records) == 6 and not failures
    for r in records:
        shape = cv2.imread(str(folder / r["image_name"])).shape[:2]
        assert (
            cv2.imread(str(tmp_path / r["overlay"])).shape[:2] == shape == tuple(r["image_shape"])
        )
        if r["peak_xy"]:
            assert r["peak_xy"][0] < shape[1] and r["peak_xy"][1] < shape[0]
    assert len(json.loads((tmp_path / "batch_results.json").read_text())) == 6
