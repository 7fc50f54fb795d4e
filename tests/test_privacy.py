"""Marked values in every standard text tag of a DICOM file, in EXIF and in names of files; then every byte that is written is searched."""

import json
import os
import re
import struct
import traceback
import zipfile
from io import BytesIO
from pathlib import Path

import cv2
import imagecodecs
import pandas as pd
import pydicom
import pytest
from hostile_corpus import DEEP, GREY, by_library, dicom, jxl, relabelled, saved
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, SegmentationStorage
from test_engine import model, picture  # noqa: F401, fixtures

from xray_explain.files import write_json

# the last: spaced out or in UTF-16
MARK = re.compile(
    rb"QZ[0-9]{5}|qz[0-9]{5}|18990131|235958\.9|117Y|Q.{0,3}Z.{0,3}9.{0,3}9.{0,3}9.{0,3}9.{0,3}9"
)
LONG = {
    "PN": "QZ{:05}^Jane",
    "LO": "QZ{:05} text",
    "SH": "QZ{:05}",
    "ST": "QZ{:05} text",
    "LT": "QZ{:05} text",
    "UT": "QZ{:05} text",
    "UC": "QZ{:05}",
    "UR": "http://qz{:05}.test",
    "AE": "QZ{:05}",
    "CS": "QZ{:05}",
    "DA": "18990131",
    "TM": "235958.9",
    "DT": "18990131235958.9",
    "AS": "117Y",
    "UI": "1.2.826.0.1.18990131.{}",
}
PICTURE = {
    "PhotometricInterpretation",
    "TransferSyntaxUID",
    "SOPClassUID",
    "VOILUTFunction",
    "PresentationLUTShape",
    "BurnedInAnnotation",
}


# values that are read as numbers, and that a mark takes the place of
NUMBERS = {
    "window": {"WindowCenter": 1234567},
    "frames": {"NumberOfFrames": 1234567},
    "geometry": dict.fromkeys(
        ("PixelSpacing", "ImagerPixelSpacing", "PixelAspectRatio"), [1234567, 1234567]
    ),
    "intercept": {"RescaleIntercept": 1234567, "RescaleSlope": 1},
}


def planted(**tags) -> tuple[bytes, int]:
    "A radiograph with a mark in every standard tag of text, and how many there are"
    ds, count = pydicom.dcmread(BytesIO(dicom(DEEP, **tags))), 0
    with pydicom.config.disable_value_validation():
        for n, (tag, (vr, _, _, _, keyword)) in enumerate(DicomDictionary.items()):
            if (
                vr not in LONG
                or not keyword
                or keyword in PICTURE
                or tag >> 16 in (0, 2, 4, 6)
                or tag >> 16 >= 0x7000
            ):
                continue
            ds.add_new(tag, vr, LONG[vr].format(n))
            count += 1
        ds.file_meta.SourceApplicationEntityTitle, ds.file_meta.ImplementationVersionName = (
            "QZ00001",
            "QZ00002",
        )
        ds.BurnedInAnnotation = "YES"
        inner = Dataset()
        inner.PatientName, inner.PatientID, inner.TextValue = "QZ00003^Jane", "QZ00004", "QZ00005"
        ds.RequestAttributesSequence, ds.ReferencedStudySequence = (
            Sequence([inner]),
            Sequence([inner]),
        )
        ds.private_block(0x0011, "QZ00006", create=True).add_new(1, "LO", "QZ00007")
        ds.preamble = b"QZ00008".ljust(128, b"\0")
        file = BytesIO()
        pydicom.dcmwrite(file, ds, enforce_file_format=True)
    return file.getvalue(), count


def bitmaps() -> dict[str, bytes]:
    "Marks in EXIF, XMP, comments and text blocks"
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    for tag in (270, 271, 305, 315, 33432, 37510, 40093):
        exif[tag] = f"QZ{tag:05} Jane"
    for key in ("Title", "Author", "Comment"):
        text.add_text(key, "QZ00009 Jane")
    text.add_itxt("Description", "QZ00010 Jane", zip=True)
    box = lambda kind, content: struct.pack(">I4s", 8 + len(content), kind) + content
    boxes = box(b"xml ", b"<x>QZ00030 Jane</x>")
    return {
        "xl.jxl": jxl(GREY, usecontainer=True) + boxes + box(b"Exif", bytes(4) + exif.tobytes()),
        "2000.jp2": imagecodecs.jpeg2k_encode(GREY, reversible=True)
        + boxes
        + box(b"uuid", b"JpgTiffExif->JP2" + exif.tobytes()),
        "jpeg.jpg": saved(GREY, "JPEG", exif=exif, comment=b"QZ00011 Jane", xmp=b"<x>QZ00012</x>"),
        "png.png": saved(GREY, "PNG", pnginfo=text, exif=exif),
        "tiff.tif": saved(GREY, "TIFF", tiffinfo={270: "QZ00013", 315: "QZ00014", 305: "QZ00015"}),
    }


def fill(folder: Path) -> int:
    "Planted files, whole and broken in ways that make decoders talk; gives the number of marks in the first"
    folder.mkdir()
    good, count = planted()
    (folder / "good.dcm").write_bytes(good)
    for name, data in bitmaps().items():
        (folder / name).write_bytes(data)
        (folder / f"cut_{name}").write_bytes(data[: len(data) - 40])
    for tenth in (1, 3, 5, 7, 9):
        (folder / f"cut{tenth}.dcm").write_bytes(good[: len(good) * tenth // 10])
    (folder / "codec.dcm").write_bytes(relabelled(good, "1.2.826.0.1.18990131"))
    (folder / "bare.dcm").write_bytes(good[132:])
    (folder / "kind.dcm").write_bytes(planted(SOPClassUID=SegmentationStorage)[0])
    for name in ("12-bit jpeg", "htj2k", "jpeg xl"):  # what a library decodes, whole and cut
        end, stream = by_library()[name]
        data = relabelled(
            planted(encapsulated=(JPEG2000Lossless, stream))[0], f"1.2.840.10008.1.2.4.{end}"
        )
        (folder / f"by_library_{end}.dcm").write_bytes(data)
        (folder / f"cut_by_library_{end}.dcm").write_bytes(data[: len(data) - len(stream) // 2])
    for name, tags in NUMBERS.items():  # where a number is expected
        data = planted(**tags)[0]
        assert data.count(b"1234567") == len(re.findall("1234567", repr(tags))), name
        (folder / f"{name}.dcm").write_bytes(data.replace(b"1234567", b"QZ99999"))
    (folder / "short.dcm").write_bytes(planted(PixelData=b"QZ00016 " * 9)[0])
    return count


def every_text(folder: Path) -> dict[str, bytes]:
    "What is written: the bytes of each file, and the content of those that are packed"
    found = {}
    for path in (p for p in sorted(folder.rglob("*")) if p.is_file()):
        name = path.relative_to(folder).as_posix()
        found[name] = name.encode() + path.read_bytes()
        if path.suffix == ".parquet":
            found[f"{name} unpacked"] = pd.read_parquet(path).to_csv().encode()
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as z:
                found[f"{name} unpacked"] = b"".join(z.read(n) for n in z.namelist())
        if path.suffix in (".png", ".jpg"):
            found[f"{name} unpacked"] = repr(Image.open(path).info).encode()
    return found


def search(texts: dict[str, bytes], where: str = "", mark=MARK) -> int:
    "How many bytes were searched; fails where a mark is in them. `where` is what the docs call it, in XRAY_EXPLAIN_FIGURES"
    found = {name: hit for name, data in texts.items() if (hit := mark.search(data))}
    searched, folder = sum(map(len, texts.values())), os.environ.get("XRAY_EXPLAIN_FIGURES")
    if where and folder:
        path = Path(folder) / "privacy.json"
        kept = json.loads(path.read_text()) if path.is_file() else {}
        write_json(
            path,
            dict(
                sorted(
                    {
                        **kept,
                        where: {"things": len(texts), "bytes": searched, "marks": len(found)},
                    }.items()
                )
            ),
        )
    assert not found, [
        f"{name}: {texts[name][max(0, hit.start() - 60) : hit.end() + 30]}"
        for name, hit in found.items()
    ]
    return searched


@pytest.fixture
def cli(capfd):
    "The command line in this process: its status, and everything that it and its processes say"
    from xray_explain.cli import main

    def call(*argv):
        capfd.readouterr()
        try:
            status, crash = main([str(a) for a in argv]), ""
        except Exception:
            status, crash = 1, traceback.format_exc()  # what --debug shows
        return status, "".join(capfd.readouterr()) + crash

    return call


def test_no_mark_gets_out_of_infer(model, cli, tmp_path):
    count = fill(tmp_path / "in")
    assert count > 1500 and MARK.search((tmp_path / "in" / "good.dcm").read_bytes())
    told = {}
    for name, options in {
        "png": ["--maps", "--workers", 1],
        "jpeg": ["--overlay-format", "jpeg", "--workers", 0],
    }.items():
        status, said = cli(
            "--debug",
            "infer",
            "--input-dir",
            tmp_path / "in",
            "--checkpoint",
            model[1],
            "--output-dir",
            tmp_path / "out" / name,
            *options,
        )
        assert status == 1 and "Traceback" not in said
        told[f"said of {name}"] = said.encode()
    for name in ("good.dcm", "jpeg.jpg", "window.dcm", "cut5.dcm", "codec.dcm"):
        told[f"said of {name}"] = cli(
            "--debug",
            "infer",
            "--image",
            tmp_path / "in" / name,
            "--checkpoint",
            model[1],
            "--output-dir",
            tmp_path / "out" / "one",
        )[1].encode()
    assert b"Traceback" in told["said of cut5.dcm"]
    assert (
        b"Text is part of the picture" in told["said of good.dcm"]
        and b"text is part of the picture" in told["said of png"]
    )
    record = json.loads((tmp_path / "out" / "one" / "good.json").read_text())
    assert record["burned_in_annotation"] is True
    searched = search(every_text(tmp_path / "out") | told, "inference")
    print(f"{count} tags planted, {searched:,} bytes searched")
    assert searched > 50_000 and len(list((tmp_path / "out").rglob("*_gradcam.*"))) >= 9


def test_no_mark_gets_out_of_the_view(model, capfd, recwarn, tmp_path):
    from xray_explain.view.widget import InferenceView

    fill(tmp_path / "in")
    recwarn.clear()  # of what wrote the files
    capfd.readouterr()
    view, sent, told = InferenceView(model[0], tmp_path / "in"), [], {}
    view.send = lambda what, buffers=(): sent.append(
        json.dumps(what).encode() + b"".join(map(bytes, buffers))
    )
    for i, entry in enumerate(view.entries):
        # from the folder, and as the page sends it
        for act in (
            lambda: view.turn(case_idx=i),
            lambda: view.look_at(entry.path.read_bytes(), entry.name),
        ):
            act()
            for kind in ("png", "json") if view.inference else ():
                view.save(tmp_path / "out" / f"{i}.{kind}")
                view.hear({"kind": kind}, [])
        told[f"state {i}"] = repr((view, view.get_state(), view.error, view.film)).encode()
    assert any(b"Text is part of the picture" in what and b'"grave": true' in what for what in sent)
    said = "".join(capfd.readouterr()) + "".join(str(w.message) for w in recwarn)
    searched = search(
        every_text(tmp_path / "out") | told | {"sent": b"".join(sent), "said": said.encode()},
        "the view",
    )
    print(f"{len(sent)} messages, {searched:,} bytes searched")
    assert searched > 50_000 and len(list((tmp_path / "out").iterdir())) >= 8


@pytest.mark.slow
def test_no_mark_gets_into_notebooks_and_pages(tmp_path):
    from xray_explain.report.run import run_report

    fill(tmp_path / "in")
    run_report("inference", tmp_path / "out", data=str(tmp_path / "in"))
    texts = every_text(tmp_path / "out")
    assert {"reports/inference.html", "reports/inference.ipynb"} <= texts.keys()
    print(f"{search(texts, 'the inference report'):,} bytes searched")


def test_pseudonyms_leave_no_name(model, picture, cli, tmp_path):
    folder, key = tmp_path / "in" / "QZ00021 Doe", tmp_path / "mine" / "key"
    (folder / "QZ00022").mkdir(parents=True)
    key.parent.mkdir()
    data = cv2.imencode(".png", picture)[1].tobytes()
    for name in ("QZ00023.png", "QZ00022/QZ00024.png"):
        (folder / name).write_bytes(data)
    (folder / "QZ00025.png").write_bytes(data[:-200])
    (folder / "list_QZ00026.csv").write_text(
        "path\nQZ00023.png\nQZ00022/QZ00024.png\nQZ00027.png\n"
    )
    common = ["--checkpoint", model[1], "--pseudonymise", key]
    told = {}
    for name, what in {
        "folder": ["--input-dir", folder],
        "manifest": ["--manifest", folder / "list_QZ00026.csv"],
        "one": ["--image", folder / "QZ00023.png"],
        "broken": ["--image", folder / "QZ00025.png"],
    }.items():
        workers = [] if "--image" in what else ["--workers", 1]
        status, said = cli(
            "infer", *what, *common, "--output-dir", tmp_path / "out" / name, *workers
        )
        assert status == (0 if name == "one" else 1), said
        told[name] = said.encode()
    search(every_text(tmp_path / "out") | told, "pseudonyms")
    keys = lambda name: [
        r["image_name"]
        for r in json.loads((tmp_path / "out" / name / "batch_results.json").read_text())
    ]
    assert sorted(keys("folder")) == sorted(keys("manifest")) and all(
        re.fullmatch("[0-9a-f]{32}", k) for k in keys("folder")
    )
    assert (tmp_path / "out" / "one").joinpath(f"{keys('manifest')[0]}.json").is_file()
    from xray_explain.infer.pseudonyms import pseudonym, read_key

    assert pseudonym(read_key(key), "QZ00022/QZ00024.png") == keys("manifest")[1]
    assert key.read_bytes().strip() not in b"".join(every_text(tmp_path / "out").values())
    status, said = cli(
        "infer",
        "--image",
        folder / "QZ00023.png",
        "--checkpoint",
        model[1],
        "--output-dir",
        tmp_path / "x",
        "--pseudonymise",
        tmp_path / "x" / "key",
    )
    assert status == 1 and "keep it in another folder" in said and not (tmp_path / "x").exists()


def test_patient_values_are_in_dicom_objects_and_nowhere_else(model, cli, tmp_path):
    "Objects for a PACS carry the patient of their film; with a key they carry nobody's"
    folder, key = tmp_path / "in", tmp_path / "mine" / "key"
    folder.mkdir()
    key.parent.mkdir()
    data = planted()[0]
    (folder / "film.dcm").write_bytes(data)
    (folder / "cut.dcm").write_bytes(data[: len(data) // 2])
    film = pydicom.dcmread(BytesIO(data))
    common = ["--checkpoint", model[1], "--dicom-out", "sc,gsps,sr,seg"]
    told, ways = (
        {},
        {
            "apart": ["--input-dir", folder, "--workers", 1],
            "here": ["--input-dir", folder, "--workers", 0],
            "one": ["--image", folder / "film.dcm"],
        },
    )
    for name, what in ways.items():
        for hidden in (False, True):
            out = tmp_path / ("hidden" if hidden else "open") / name
            more = ["--pseudonymise", key] if hidden else []
            told[f"said of {name} {hidden}"] = cli(
                "--debug", "infer", *what, *common, *more, "--output-dir", out
            )[1].encode()
            objects = {p.name: pydicom.dcmread(p) for p in out.rglob("*.dcm")}
            assert len(objects) == 4, told
            for path, ds in objects.items():
                same = ds.PatientID == film.PatientID, ds.PatientName == film.PatientName
                same += (ds.StudyInstanceUID == film.StudyInstanceUID,)
                assert same == (not hidden,) * 3, path
                assert (film.SOPInstanceUID in str(ds)) != hidden, path
                if hidden:
                    assert (
                        ds.PatientID == ds.PatientName != "" and ds.PatientIdentityRemoved == "YES"
                    )
    assert b"film_gradcam.seg.dcm" in told["said of one False"]
    texts = every_text(tmp_path / "hidden") | told
    texts |= {k: v for k, v in every_text(tmp_path / "open").items() if not k.endswith(".dcm")}
    searched = search(texts, "DICOM objects")
    print(f"{searched:,} bytes searched")
    assert searched > 50_000
    for path in (tmp_path / "open").rglob("*.dcm"):
        assert MARK.search(path.read_bytes()), path.name
