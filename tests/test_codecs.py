"Compressed pictures against other decoders: Pillow, GDCM, OpenJPH, and numbers that pydicom's own tests hold"

from io import BytesIO
from pathlib import Path

import gdcm
import imagecodecs
import numpy as np
import pydicom
import pytest
from hostile_corpus import BONE, DEEP, by_library, dicom, jxl, saved, streamed
from PIL import Image
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames

from xray_explain.read.codecs import decoded, stream_of
from xray_explain.read.pixels import OUT_OF_MEMORY, RadiographError
from xray_explain.read.processes import READ_FILM, Readers
from xray_explain.read.radiograph import read_radiograph
from xray_explain.read.sources import Source


def by_gdcm(path: Path) -> np.ndarray:
    "The stored numbers by `gdcm.ImageReader`, which pydicom does not ask for 12-bit JPEG"
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    columns, rows = reader.GetImage().GetDimensions()[:2]
    data = reader.GetImage().GetBuffer().encode("utf-8", "surrogateescape")
    return np.frombuffer(data, np.uint16).reshape(rows, columns)


def stream(path) -> bytes:
    return next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))


@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_jpeg_extended_of_12_bits_has_the_numbers_of_pydicoms_tests(name):
    values = decoded(stream(get_testdata_file(name)))
    assert values.shape == (1024, 256)
    assert (values[420, 140], values[230, 120]) == (244, 95)


def test_jpeg_extended_agrees_with_gdcm(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(streamed(*by_library()["12-bit jpeg"]))
    ours = decoded(by_library()["12-bit jpeg"][1]).astype(int)
    assert np.abs(ours - by_gdcm(path)).max() <= 2 and np.abs(ours - DEEP).mean() < 8
    assert np.abs(read_radiograph(path).pixels - DEEP / 4095).mean() < 0.003


def test_a_lossy_film_is_its_lossless_twin(shared):
    "10 bits in a 12-bit JPEG: eight of its pixels are 1,024, which GDCM cuts down to 0"
    folder = shared / "radiographs" / "dicom"
    film, twin = (read_radiograph(folder / f"{n}.dcm").pixels for n in ("RG3_JPLY", "RG3_RLE"))
    assert film.shape == twin.shape and np.abs(film - twin).mean() < 0.003
    ours, theirs = decoded(stream(folder / "RG3_JPLY.dcm")), by_gdcm(folder / "RG3_JPLY.dcm")
    over = ours > 1023
    assert over.sum() == 8 and (theirs[over] == 0).all()
    assert np.abs(ours[~over].astype(int) - theirs[~over]).max() <= 2
    assert np.abs(film - twin)[over].max() < 0.05


def test_high_throughput_jpeg_2000_agrees_with_two_libraries():
    for name in ("htj2k", "htj2k, lossy"):
        data = by_library()[name][1]
        ours = decoded(data).astype(int)
        assert np.abs(ours - np.asarray(Image.open(BytesIO(data)))).max() <= 1  # Pillow's OpenJPEG
        assert np.abs(ours - imagecodecs.htj2k_decode(data)).max() <= 1  # OpenJPH
    assert np.array_equal(decoded(by_library()["htj2k"][1]), DEEP)


def test_jpeg_2000_of_8_bits_agrees_with_pillow_and_jpeg_xl_with_what_was_written():
    rgb = np.dstack([(BONE * v).astype(np.uint8) for v in (255, 200, 90)])
    data = saved(rgb, "JPEG2000", irreversible=False)
    assert np.array_equal(decoded(data), np.asarray(Image.open(BytesIO(data))))
    for values in (DEEP, rgb, BONE.astype(np.float32)):
        for boxes in (False, True):
            data = jxl(values, usecontainer=boxes)
            assert stream_of(data)[:2] == values.shape[:2]
            assert np.array_equal(decoded(data), values)


def test_a_jpeg_inside_jpeg_xl_comes_out_as_the_jpeg():
    "Transfer syntax 1.2.840.10008.1.2.4.111 keeps the JPEG, to be had again byte for byte"
    jpeg = saved((BONE * 255).astype(np.uint8), "JPEG", quality=95)
    try:
        data = imagecodecs.jpegxl_encode_jpeg(jpeg)
    except (AttributeError, imagecodecs.DelayedImportError):
        pytest.skip("this imagecodecs cannot transcode")
    grey = np.asarray(Image.open(BytesIO(jpeg))).astype(int)
    assert np.abs(decoded(data).reshape(grey.shape) - grey).max() <= 2


def test_what_the_memory_does_not_hold_is_not_called_broken():
    "Decoders say the same of both; 40 MB are too few for 16 million pixels, by any of them"
    black = np.zeros((4000, 4000), np.uint16)
    films = {
        "png": saved(black.astype(np.uint8), "PNG", compress_level=1),
        "jpeg xl": imagecodecs.jpegxl_encode(black, effort=1),
        "jpeg 2000": imagecodecs.jpeg2k_encode(black.astype(np.uint8), reversible=True),
        "rle": dicom(black, compress=pydicom.uid.RLELossless),
        "12-bit jpeg": streamed("51", imagecodecs.jpeg8_encode(black, bitspersample=12), black),
        "cut off": saved((BONE * 255).astype(np.uint8), "PNG")[:200],
    }
    with Readers(1, memory=40 << 20) as readers:
        lines = {}
        for name, data in films.items():
            small = readers.submit(READ_FILM, Source("s", ""), saved(DEEP, "PNG"), None).result()
            assert small[0], "the process reads on"
            lines[name] = readers.submit(READ_FILM, Source(name, ""), data, None).result()
    assert "broken or incomplete" in lines.pop("cut off")[1]
    assert lines == {name: (False, f"{name}: {OUT_OF_MEMORY}") for name in lines}


@pytest.mark.parametrize("form", ["png", "jxl", "jp2"])
def test_the_size_in_a_header_is_asked_before_anything_is_decoded(form, monkeypatch):
    black = np.zeros((15, 4000), np.uint8)
    data = {
        "png": lambda: saved(black, "PNG"),
        "jxl": lambda: jxl(black),
        "jp2": lambda: imagecodecs.jpeg2k_encode(black, bitspersample=8, reversible=True),
    }[form]()
    monkeypatch.setattr("xray_explain.read.radiograph.decoded", lambda data: 1 / 0)
    with pytest.raises(RadiographError, match="4000 x 15 pixels; both sides need at least 16"):
        read_radiograph(data)
