"""Nasty inputs made from a good one, and what reading each of them gives, in how long and with how much memory.

What a reader has to show for every input: the right picture, or one line that says why not. A damaged file without a
checksum (a flipped bit in a BMP) gives a picture that nobody can know to be wrong; those are counted by themselves.
"""

import struct
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import psutil
import pydicom
from imagecodecs import jpeg2k_encode
from PIL import Image
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence

from xray_explain.read.processes import READ_FILM, Readers
from xray_explain.read.sources import Source

ROWS, COLUMNS = 48, 64
_y, _x = np.mgrid[:ROWS, :COLUMNS]
BONE = np.clip(1 - np.abs(_y - 20) / (12 + _x / 8), 0, 1)  # no symmetry: a turn or a flip shows
BONE[np.hypot(_y - 20, _x - 15) < 5] *= 0.5
GREY = np.round(BONE * 255).astype(np.uint8)
DEEP = np.round(BONE * 4095).astype(np.uint16)
DEEP[20, 40] = 4095


@dataclass(frozen=True)
class Nasty:
    "One input and what is allowed to come of it"

    kind: str
    name: str
    data: bytes
    right: np.ndarray | None = None  # the picture; None: there is none
    close: float = 2 / 255  # mean difference that still is the picture
    damaged: bool = False  # its maker broke it: any picture of sane numbers is allowed
    refusable: bool = False  # where `right` is given, a clear line is allowed too


# --- bitmaps


def saved(picture, form: str, **options) -> bytes:
    file = BytesIO()
    (picture.copy() if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(
        file, form, **options
    )
    return file.getvalue()


@lru_cache
def bitmaps() -> dict[str, tuple[bytes, np.ndarray, float]]:
    "The same picture in every form: content, what is right, how close"
    deep = DEEP / 4095
    return {
        "jpeg": (saved(GREY, "JPEG", quality=95), GREY / 255, 0.01),
        "progressive jpeg": (
            saved(np.dstack([GREY] * 3), "JPEG", quality=95, progressive=True),
            GREY / 255,
            0.01,
        ),
        "png": (saved(GREY, "PNG"), GREY / 255, 1e-6),
        "16-bit png": (saved(DEEP, "PNG"), deep, 1e-6),
        "bmp": (saved(GREY, "BMP"), GREY / 255, 1e-6),
        "tiff": (saved(GREY, "TIFF"), GREY / 255, 1e-6),
        "deflated tiff": (saved(DEEP, "TIFF", compression="tiff_adobe_deflate"), deep, 1e-6),
        "lzw tiff": (saved(GREY, "TIFF", compression="tiff_lzw"), GREY / 255, 1e-6),
        "dicom": (dicom(), deep, 1e-3),
        "rle dicom": (dicom(compress=uid.RLELossless), deep, 1e-3),
        "jpeg 2000 dicom": (
            dicom(
                encapsulated=(
                    uid.JPEG2000Lossless,
                    saved(DEEP, "JPEG2000", irreversible=False, no_jp2=True),
                )
            ),
            deep,
            1e-3,
        ),
        "jpeg 2000": (imagecodecs.jpeg2k_encode(GREY, reversible=True), GREY / 255, 1e-6),
        "jpeg xl": (jxl(DEEP, bitspersample=12), deep, 1e-6),
        "jpeg xl in boxes": (jxl(GREY, usecontainer=True), GREY / 255, 1e-6),
        "12-bit jpeg dicom": (streamed(*by_library()["12-bit jpeg"]), deep, 0.01),
        "htj2k dicom": (streamed(*by_library()["htj2k"]), deep, 1e-3),
        "jpeg xl dicom": (streamed(*by_library()["jpeg xl"]), deep, 1e-3),
    }


def jxl(values: np.ndarray, **options) -> bytes:
    return imagecodecs.jpegxl_encode(values, lossless=True, **options)


@lru_cache
def by_library() -> dict[str, tuple[str, bytes]]:
    "12 bits in the ways that Pillow and pydicom do not decode: end of the transfer syntax, stream"
    two = imagecodecs.jpeg2k_encode(DEEP, bitspersample=12, reversible=True, codecformat="j2k")
    high = imagecodecs.htj2k_encode(DEEP, reversible=True)
    lossy = imagecodecs.htj2k_encode(DEEP, level=0.0005, reversible=False)
    return {
        "12-bit jpeg": ("51", imagecodecs.jpeg8_encode(DEEP, level=98, bitspersample=12)),
        "htj2k": ("201", high),
        "htj2k by resolution": ("202", high),
        "htj2k, lossy": ("203", lossy),
        "jpeg 2000 said to be htj2k": ("201", two),
        "jpeg xl": ("110", jxl(DEEP, bitspersample=12)),
        "jpeg xl of 16 bits": ("110", jxl(DEEP)),
        "jpeg xl in boxes": ("112", jxl(DEEP, bitspersample=12, usecontainer=True)),
    }


def streamed(syntax: str, stream: bytes, values: np.ndarray = DEEP, **tags) -> bytes:
    "A DICOM file around a compressed picture; the end of its transfer syntax says how"
    data = dicom(values, encapsulated=(uid.JPEG2000Lossless, stream), **tags)
    return relabelled(data, uid.UID(f"1.2.840.10008.1.2.4.{syntax}"))


def truncated() -> Iterator[Nasty]:
    for form, (data, right, close) in bitmaps().items():
        for tenth in range(1, 10):
            yield Nasty(
                "truncated",
                f"{form} at {tenth}/10",
                data[: len(data) * tenth // 10],
                right,
                close,
                damaged=True,
            )


def flipped(times: int = 5) -> Iterator[Nasty]:
    rng = np.random.default_rng(0)
    for form, (data, right, close) in bitmaps().items():
        for n in range(times):
            broken = bytearray(data)
            for place in rng.integers(0, len(data), 1 + n):
                broken[place] ^= 1 << rng.integers(8)
            yield Nasty(
                "bit flips", f"{form} {1 + n} flips", bytes(broken), right, close, damaged=True
            )


def misnamed() -> Iterator[Nasty]:
    wrong = {
        "jpeg": "film.png",
        "png": "film.jpg",
        "16-bit png": "film.dcm",
        "bmp": "film.tif",
        "tiff": "film.bmp",
        "dicom": "film.jpg",
        "rle dicom": "film.txt",
    }
    for form, name in wrong.items():
        data, right, close = bitmaps()[form]
        yield Nasty("wrong extension", f"{form} as {name}", data, right, close)


def no_pictures() -> Iterator[Nasty]:
    rng = np.random.default_rng(1)
    mp4 = struct.pack(">I", 24) + b"ftypisom" + b"\0\0\2\0isomiso2" + rng.bytes(4000)
    others = {
        "nothing": b"",
        "one byte": b"\xff",
        "zeros": bytes(5000),
        "letter.jpg": b"dear colleague\n" * 50,
        "page.png": b"<!DOCTYPE html><html><body>404</body></html>",
        "random": rng.bytes(5000),
        "report.pdf": b"%PDF-1.7\n" + rng.bytes(900),
        "archive.zip": b"PK\3\4" + rng.bytes(900),
        "animation.gif": saved(GREY, "GIF"),
        "photo.webp": saved(GREY, "WEBP"),
        "video.mp4": mp4,
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "page.ps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "icon.ico": saved(GREY, "ICO"),
        "program": b"\x7fELF" + rng.bytes(900),
        "png signature": b"\x89PNG\r\n\x1a\n",
        "jpeg start": b"\xff\xd8\xff\xe0",
        "tiff start": b"II*\0\x08\0\0\0",
        "bmp start": b"BM" + bytes(52),
        "jpeg xl start": b"\xff\x0a",
        "jpeg 2000 start": b"\xff\x4f\xff\x51\0\x29",
    }
    for name, data in others.items():
        yield Nasty("no picture", name, data)


def codecs() -> Iterator[Nasty]:
    "JPEG XL, JPEG 2000 and 12-bit JPEG, as files and in DICOM"
    right, deep, k = GREY / 255, DEEP / 4095, "new codec"
    clear = np.dstack([np.full_like(GREY, 255)] * 3 + [GREY])
    for name, encode in (("xl", jxl), ("2000", imagecodecs.jpeg2k_encode)):
        yield Nasty(k, f"{name}, colour", encode(np.dstack([GREY] * 3)), right)
        yield Nasty(k, f"{name}, 16-bit colour", encode(np.dstack([DEEP << 4] * 3)), deep, 0.01)
        yield Nasty(k, f"{name}, 12 bits", encode(DEEP, bitspersample=12), deep, 1e-6)
        yield Nasty(k, f"{name}, 1 x 20000", encode(np.zeros((1, 20_000), np.uint8)))
    yield Nasty(k, "xl, alpha", jxl(clear), right, 0.005)
    yield Nasty(k, "xl, lossy", imagecodecs.jpegxl_encode(GREY, distance=1.0), right, 0.02)
    yield Nasty(k, "xl, 4 bits", jxl(GREY >> 4, bitspersample=4), (GREY >> 4) / 15, 1e-6)
    yield Nasty(k, "xl, floats", jxl(BONE.astype(np.float32)), BONE, 0.01)
    yield Nasty(k, "xl, an animation", jxl(np.stack([GREY, 255 - GREY])), right)
    signed = DEEP.astype(np.int16) - 2048
    two = imagecodecs.jpeg2k_encode(signed, bitspersample=12, reversible=True)
    yield Nasty(k, "2000, signed", two, BONE, 0.01)
    for name, (syntax, stream) in by_library().items():
        close = 0.01 if syntax in ("51", "203") else 1e-3
        yield Nasty(k, f"dicom, {name}", streamed(syntax, stream), deep, close)
    # a lossy picture brighter than 10 bits allow must not turn black
    over = np.round(BONE * 1060).astype(np.uint16)
    stream = imagecodecs.jpeg8_encode(over, level=98, bitspersample=12)
    tags = dict(BitsStored=10, HighBit=9, WindowCenter=512, WindowWidth=1024)
    yield Nasty(
        k, "brighter than its bits", streamed("51", stream, over, **tags), over / 1023, 0.01
    )
    rgb = np.dstack([DEEP] * 3)
    stream = imagecodecs.jpeg2k_encode(rgb, bitspersample=12, reversible=True, codecformat="j2k")
    tags = dict(SamplesPerPixel=3, PhotometricInterpretation="YBR_RCT", PlanarConfiguration=0)
    yield Nasty(k, "12-bit colour", streamed("90", stream, rgb, **tags), deep, 1e-3)


def codec_bombs() -> Iterator[Nasty]:
    "Streams of a few bytes that claim a vast picture, or another than the file around them"
    k, rows = "bomb", struct.pack(">I", 2**31 - 1)
    small = by_library()
    vast = b"\xff\x0a" + (6 | 99_999 << 3 | 1 << 33).to_bytes(16, "little")
    boxes = b"\0\0\0\x0cJXL \r\n\x87\n" + struct.pack(">I4s", 8 + len(vast), b"jxlc") + vast
    yield Nasty(k, "jpeg xl of 100000 x 100000", vast)
    yield Nasty(k, "jpeg xl of 100000 x 100000 in boxes", boxes)
    yield Nasty(
        k, "jpeg xl, boxes without end", boxes[:12] + struct.pack(">I4s", 8, b"free") * 10**6
    )
    grey = imagecodecs.jpeg2k_encode(GREY, reversible=True)
    at = grey.index(b"\xff\x4f\xff\x51") + 8
    yield Nasty(k, "jpeg 2000 of 2 billion rows", grey[:at] + rows * 2 + grey[at + 8 :])
    large = np.zeros((6000, 6000), np.uint16)
    streams = {
        "51": imagecodecs.jpeg8_encode(large, level=50, bitspersample=12),
        "110": imagecodecs.jpegxl_encode(large, effort=1),
        "201": imagecodecs.htj2k_encode(large, reversible=True),
    }
    for syntax, stream in streams.items():
        yield Nasty(k, f"larger than its DICOM header says, {syntax}", streamed(syntax, stream))
    _, high = small["htj2k"]
    yield Nasty(k, "htj2k of 2 billion rows", streamed("201", high[:8] + rows * 2 + high[16:]))
    _, twelve = small["12-bit jpeg"]
    at = twelve.index(b"\xff\xc1") + 5
    yield Nasty(
        k, "jpeg of 65535 rows", streamed("51", twelve[:at] + b"\xff" * 4 + twelve[at + 4 :])
    )
    for syntax in ("51", "110", "201"):
        for name, stream in (("nothing", b""), ("noise", b"\xff\xd8" + bytes(500))):
            yield Nasty(k, f"{name} as {syntax}", streamed(syntax, stream or b"\0"))


def sizes() -> Iterator[Nasty]:
    for rows, columns in ((1, 1), (1, 20_000), (20_000, 1), (15, 400), (400, 15), (2, 2)):
        for form in ("PNG", "JPEG"):
            yield Nasty(
                "tiny or thin",
                f"{rows} x {columns} {form}",
                saved(np.zeros((rows, columns), np.uint8), form),
            )
    for rows, columns in ((16, 16), (16, 20_000), (20_000, 16)):
        values = np.resize(np.arange(251, dtype=np.uint8), (rows, columns))
        yield Nasty("tiny or thin", f"{rows} x {columns}", saved(values, "PNG"), values / 255)


def depths() -> Iterator[Nasty]:
    yield Nasty("deep", "12 of 16 bits png", saved(DEEP, "PNG"), DEEP / 4095)
    yield Nasty("deep", "16 of 16 bits tiff", saved((BONE * 65535).astype(np.uint16), "TIFF"), BONE)
    yield Nasty(
        "deep",
        "32-bit whole numbers",
        saved(Image.fromarray((BONE * 4095).astype(np.int32)), "TIFF"),
        BONE,
    )
    yield Nasty(
        "deep",
        "32-bit, beyond 16",
        saved(Image.fromarray((BONE * 9e8).astype(np.int32)), "TIFF"),
        BONE,
        0.01,
    )
    yield Nasty(
        "deep",
        "32-bit, negative",
        saved(Image.fromarray((BONE * 4000 - 1000).astype(np.int32)), "TIFF"),
        BONE,
        0.01,
    )
    yield Nasty("deep", "white is zero", saved(4095 - DEEP, "TIFF", tiffinfo={262: 0}), DEEP / 4095)
    yield Nasty("deep", "8 bits, white is zero", tiff_white_is_zero(), GREY / 255)
    yield Nasty("deep", "1 bit", saved(BONE > 0.5, "PNG"), (BONE > 0.5).astype(float))
    yield Nasty(
        "deep",
        "1 bit tiff",
        saved(BONE > 0.5, "TIFF", compression="group4"),
        (BONE > 0.5).astype(float),
    )
    for bits in (2, 4):
        levels = (GREY >> (8 - bits)).astype(np.uint8)
        yield Nasty("deep", f"{bits} bits", png(levels, bits), levels / (2**bits - 1))
    yield Nasty(
        "deep",
        "48-bit colour",
        png(np.repeat(DEEP[..., None] << 4, 3, 2).reshape(ROWS, -1), 16, colour=2),
        (DEEP << 4) / 65535,
    )
    floats = (BONE * 30 - 7).astype(np.float32)
    spoilt = {
        "plain": floats,
        "NaN": floats.copy(),
        "inf": floats.copy(),
        "-inf": floats.copy(),
        "huge": floats.astype(np.float32) * 1e30,
    }
    spoilt["NaN"][:3], spoilt["inf"][5, 5], spoilt["-inf"][6, 6] = np.nan, np.inf, -np.inf
    for name, values in spoilt.items():
        right = np.where(np.isfinite(values), BONE, 0)
        yield Nasty("float", f"{name} tiff", saved(Image.fromarray(values), "TIFF"), right, 0.01)
        inverse = saved(Image.fromarray(-values), "TIFF", tiffinfo={262: 0})
        yield Nasty("float", f"{name} tiff, white is zero", inverse, right, 0.01)
    yield Nasty(
        "float",
        "from -3e38 to 3e38",
        saved(Image.fromarray(((BONE - 0.5) * 6e38).astype(np.float32)), "TIFF"),
        BONE,
        0.01,
    )
    yield Nasty("float", "all NaN", saved(Image.fromarray(np.full_like(floats, np.nan)), "TIFF"))
    yield Nasty("float", "all inf", saved(Image.fromarray(np.full_like(floats, np.inf)), "TIFF"))
    yield Nasty(
        "float",
        "all the same",
        saved(Image.fromarray(np.full_like(floats, 7)), "TIFF"),
        np.zeros_like(BONE),
    )


def png(values: np.ndarray, bits: int, colour: int = 0, extra: bytes = b"", size=None) -> bytes:
    "A PNG from its parts; `values` are samples, (rows, columns x samples of a pixel)"
    if bits == 16:
        rows = [b"\0" + r.astype(">u2").tobytes() for r in values]
    else:
        rows = [
            b"\0" + np.packbits(np.unpackbits(r[:, None], axis=1)[:, 8 - bits :]).tobytes()
            for r in values
        ]
    rows_, columns = size or (values.shape[0], values.shape[1] // (3 if colour == 2 else 1))
    header = struct.pack(">IIBBBBB", columns, rows_, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + extra
        + chunk(b"IDAT", zlib.compress(b"".join(rows)))
        + chunk(b"IEND", b"")
    )


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(
    pixels: bytes,
    rows: int,
    columns: int,
    bits: int = 8,
    compression: int = 1,
    photometric: int = 1,
    **tags,
) -> bytes:
    "A little-endian TIFF of one strip from its parts"
    entries = {
        256: columns,
        257: rows,
        258: bits,
        259: compression,
        262: photometric,
        273: 8,
        277: 1,
        278: rows,
        279: len(pixels),
    }
    entries |= {int(k[1:]): v for k, v in tags.items()}
    table = b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())
    )
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(pixels))
        + pixels
        + struct.pack("<H", len(entries))
        + table
        + bytes(4)
    )


def tiff_white_is_zero() -> bytes:
    return tiff((255 - GREY).tobytes(), ROWS, COLUMNS, photometric=0)


def colours() -> Iterator[Nasty]:
    rgb = np.dstack([GREY] * 3)
    clear = np.dstack([np.full_like(GREY, 255)] * 3 + [GREY])
    yield Nasty("colour", "rgb", saved(rgb, "PNG"), GREY / 255)
    yield Nasty("colour", "palette", saved(Image.fromarray(GREY).convert("P"), "PNG"), GREY / 255)
    shuffled = Image.fromarray(255 - GREY, "P")
    shuffled.putpalette(np.repeat(255 - np.arange(256), 3).astype(np.uint8).tobytes())
    yield Nasty("colour", "palette, inverse", saved(shuffled, "PNG"), GREY / 255)
    yield Nasty("colour", "palette bmp", saved(shuffled, "BMP"), GREY / 255)
    yield Nasty("colour", "palette tiff", saved(shuffled, "TIFF"), GREY / 255)
    yield Nasty("colour", "alpha", saved(clear, "PNG"), GREY / 255, 0.005)
    yield Nasty("colour", "alpha tiff", saved(clear, "TIFF"), GREY / 255, 0.005)
    grey_alpha = Image.merge("LA", [Image.new("L", (COLUMNS, ROWS), 255), Image.fromarray(GREY)])
    yield Nasty("colour", "grey and alpha", saved(grey_alpha, "PNG"), GREY / 255, 0.005)
    yield Nasty(
        "colour",
        "one transparent colour",
        saved(GREY, "PNG", transparency=255),
        np.where(GREY == 255, 0, GREY) / 255,
        0.005,
    )
    yield Nasty(
        "colour",
        "cmyk jpeg",
        saved(Image.fromarray(rgb).convert("CMYK"), "JPEG", quality=95),
        GREY / 255,
        0.02,
    )
    yield Nasty(
        "colour", "cmyk tiff", saved(Image.fromarray(rgb).convert("CMYK"), "TIFF"), GREY / 255, 0.01
    )
    yield Nasty(
        "colour",
        "ycbcr tiff",
        saved(Image.fromarray(rgb).convert("YCbCr"), "TIFF"),
        GREY / 255,
        0.02,
        refusable=True,
    )
    yield Nasty("colour", "lab tiff", saved(lab(), "TIFF"), GREY / 255, 0.08, refusable=True)


def lab() -> Image.Image:
    plane = Image.fromarray(GREY)
    return Image.merge(
        "LAB", [plane, Image.new("L", plane.size, 128), Image.new("L", plane.size, 128)]
    )


TURNS = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


def turned() -> Iterator[Nasty]:
    for value, turn in TURNS.items():
        exif = Image.Exif()
        exif[274] = value
        for form in ("JPEG", "PNG", "TIFF"):
            options = {"quality": 95} if form == "JPEG" else {}
            yield Nasty(
                "exif rotation",
                f"{form} {value}",
                saved(GREY, form, exif=exif, **options),
                turn(GREY / 255),
                0.01,
            )
    for value in (0, 9, 65535):
        exif = Image.Exif()
        exif[274] = value
        yield Nasty(
            "exif rotation",
            f"{value}, which there is not",
            saved(GREY, "JPEG", exif=exif, quality=95),
            GREY / 255,
            0.01,
        )
    broken = saved(
        GREY, "JPEG", quality=95, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 40
    )
    yield Nasty("exif rotation", "a broken block", broken, GREY / 255, 0.01, refusable=True)


def several() -> Iterator[Nasty]:
    film, other = Image.fromarray(GREY), Image.fromarray(255 - GREY)
    for form, what in (
        ("PNG", "animated png"),
        ("TIFF", "tiff of two pages"),
        ("MPO", "two pictures of a camera"),
    ):
        yield Nasty(
            "several frames",
            what,
            saved(film, form, save_all=True, append_images=[other.copy()]),
            GREY / 255,
            0.02,
        )
    yield Nasty(
        "several frames",
        "tiff of 300 pages",
        saved(film, "TIFF", save_all=True, append_images=[other.copy()] * 299),
        GREY / 255,
    )
    yield Nasty(
        "several frames",
        "animated gif",
        saved(film, "GIF", save_all=True, append_images=[other.copy()]),
    )
    circle = bytearray(saved(film, "TIFF"))
    circle[-4:] = struct.pack("<I", 8)  # the next page is the first
    yield Nasty(
        "several frames",
        "tiff whose pages go in a circle",
        bytes(circle),
        GREY / 255,
        refusable=True,
    )


def bombs() -> Iterator[Nasty]:
    nothing = zlib.compress(bytes(10**7), 9)
    for side in (7_000, 30_000, 2**31 - 1):
        header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        data = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", nothing)
            + chunk(b"IEND", b"")
        )
        yield Nasty("bomb", f"png of {side} x {side}", data)
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(2 * 10**8), 9))
    yield Nasty(
        "bomb", "png with 200 MB of text", png(GREY, 8, extra=text), GREY / 255, refusable=True
    )
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(2 * 10**8), 9))
    yield Nasty(
        "bomb",
        "png with 200 MB of colour profile",
        png(GREY, 8, extra=profile),
        GREY / 255,
        refusable=True,
    )
    yield Nasty(
        "bomb",
        "png that unpacks to more than it says",
        png(np.zeros((20_000, 2_000), np.uint8), 8, size=(64, 64)),
        np.zeros((64, 64)),
        refusable=True,
    )
    for compression, name in ((1, "raw"), (5, "lzw"), (8, "deflate"), (32773, "packbits")):
        yield Nasty(
            "bomb",
            f"{name} tiff of 30000 x 30000",
            tiff(nothing[:20000], 30_000, 30_000, compression=compression),
        )
        yield Nasty(
            "bomb",
            f"{name} tiff that has not what it says",
            tiff(nothing[:20000], 6_000, 6_000, compression=compression),
        )
    yield Nasty("bomb", "tiff, 4 billion rows", tiff(bytes(100), 2**32 - 1, 2**32 - 1))
    yield Nasty("bomb", "tiff, 1000 bits", tiff(bytes(100), 64, 64, bits=1000))
    yield Nasty("bomb", "tiff, 65535 samples", tiff(bytes(100), 64, 64, t277=65535))
    many = (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", 65535)
        + struct.pack("<HHII", 700, 1, 2**31, 8) * 2000
    )
    yield Nasty("bomb", "tiff with tags of 2 GB", many)
    for side in (30_000, 2**31 - 1):
        header = (
            b"BM"
            + struct.pack("<IHHI", 54, 0, 0, 54)
            + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 0, 0, 0, 0, 0, 0)
        )
        yield Nasty("bomb", f"bmp of {side} x {side}", header + bytes(1000))
    film = bytearray(saved(GREY, "JPEG"))
    at = film.index(b"\xff\xc0")
    film[at + 5 : at + 9] = b"\xff\xff\xff\xff"
    yield Nasty("bomb", "jpeg of 65535 x 65535", bytes(film))
    yield Nasty("bomb", "jpeg of 3000 scans", many_scans(np.zeros((2000, 2000), np.uint8), 3000))
    yield Nasty(
        "bomb",
        "jpeg of 400 scans",
        many_scans(np.random.default_rng(0).integers(0, 255, (1500, 1500), np.uint8), 400),
    )
    inner = saved(np.zeros((5000, 7000), np.uint8), "JPEG2000", irreversible=False, no_jp2=True)
    yield Nasty(
        "bomb",
        "dicom of 64 x 48 around 35 million pixels",
        dicom(encapsulated=(uid.JPEG2000Lossless, inner), BitsAllocated=8, BitsStored=8, HighBit=7),
    )
    lying = bytearray(saved(DEEP, "JPEG2000", irreversible=False, no_jp2=True))
    siz = lying.index(b"\xff\x51")
    lying[siz + 6 : siz + 14] = struct.pack(">II", 2**31 - 1, 2**31 - 1)
    yield Nasty(
        "bomb",
        "dicom around a picture that says 2 billion",
        dicom(encapsulated=(uid.JPEG2000Lossless, bytes(lying))),
    )
    whole = saved(DEEP, "JPEG2000", irreversible=False, no_jp2=True)
    many_bits, short = bytearray(whole), whole[:4] + whole[8:]
    many_bits[siz + 40] = 127  # bits of a pixel, less one
    for name, inner in (
        ("of 128 bits", bytes(many_bits)),
        ("whose header lacks four bytes", short),
    ):  # each ends GDCM's process
        yield Nasty(
            "bomb",
            f"dicom around a picture {name}",
            dicom(encapsulated=(uid.JPEG2000Lossless, inner)),
        )
    yield Nasty("bomb", "dicom of 65535 x 65535", dicom(Rows=65535, Columns=65535))
    yield Nasty(
        "bomb",
        "rle dicom of 65535 x 65535",
        dicom(compress=uid.RLELossless, Rows=65535, Columns=65535),
    )
    rle = struct.pack("<16I", 2, 64, 64 + 10**6, *[0] * 13) + b"\x81\0" * 10**6
    yield Nasty(
        "bomb",
        "rle dicom that unpacks to more than it says",
        dicom(encapsulated=(uid.RLELossless, rle)),
        DEEP * 0,
        damaged=True,
        refusable=True,
    )
    yield Nasty("bomb", "dicom of a million frames", dicom(NumberOfFrames=10**6))
    yield Nasty("bomb", "deflated dicom", dicom(deflated=True))
    yield Nasty("bomb", "dicom of 10000 nested items", nested(10_000), DEEP / 4095, refusable=True)
    yield Nasty(
        "bomb",
        "dicom with a value of 4 GB",
        dicom()[:-3000] + struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 2**32 - 2) + bytes(100),
        damaged=True,
    )


def many_scans(values: np.ndarray, times: int) -> bytes:
    "A progressive JPEG whose last scan is said again and again"
    data = saved(values, "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    return data[:-2] + data[scan:-2] * times + data[-2:]


# --- DICOM


def dicom(
    values: np.ndarray = DEEP,
    compress=None,
    encapsulated=None,
    big=False,
    implicit=False,
    deflated=False,
    drop=(),
    **tags,
) -> bytes:
    "A computed radiograph with these stored numbers; `tags` change it, `drop` takes tags away"
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    syntax = (
        uid.ExplicitVRBigEndian
        if big
        else uid.ImplicitVRLittleEndian
        if implicit
        else uid.DeflatedExplicitVRLittleEndian
        if deflated
        else uid.ExplicitVRLittleEndian
    )
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = (
        uid.ComputedRadiographyImageStorage,
        "1.2.3.4",
        "CR",
    )
    ds.PatientName = "Planted^Jane"
    ds.Rows, ds.Columns, ds.SamplesPerPixel, ds.PhotometricInterpretation = (
        *values.shape[:2],
        1,
        "MONOCHROME2",
    )
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = (
        8 * values.itemsize,
        12,
        11,
        int(values.dtype.kind == "i"),
    )
    if values.itemsize == 1:
        ds.BitsStored, ds.HighBit = 8, 7
    ds.WindowCenter, ds.WindowWidth = 2048, 4096
    pixels = (
        values.astype(values.dtype.newbyteorder(">")) if big and values.itemsize > 1 else values
    )
    ds.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    ds["PixelData"].VR = "OW" if values.itemsize > 1 else "OB"
    if compress:
        ds.compress(compress)
    if encapsulated:
        ds.file_meta.TransferSyntaxUID = encapsulated[0]
        ds.PixelData = pydicom.encaps.encapsulate([encapsulated[1]])
        ds["PixelData"].is_undefined_length = True
        ds["PixelData"].VR = "OB"
    with pydicom.config.disable_value_validation():
        for tag, value in tags.items():
            setattr(ds, tag, value)
        for tag in drop:
            del ds[tag]
        file = BytesIO()
        pydicom.dcmwrite(
            file,
            ds,
            enforce_file_format=True,
            little_endian=not big if big else None,
            implicit_vr=False if big else None,
        )
    return file.getvalue()


def nested(depth: int) -> bytes:
    "A sequence in a sequence in a sequence, of undefined length, before the picture"
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    start = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 2**32 - 1) + item
    data = dicom()
    at = data.index(struct.pack("<HH2s", 0x0008, 0x0060, b"CS"))
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    behind = data.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    return data[:behind] + start * depth + end * depth + data[behind:] if at < behind else data


def _table(values: np.ndarray, first: int = 0, bits: int = 16) -> Sequence:
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), first, bits], values.tolist()
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    return Sequence([item])


def windows() -> Iterator[Nasty]:
    # DICOM PS3.3 C.11.2.1.2
    ramp = lambda centre, width: np.clip((DEEP - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)
    for centre, width in ((2048, 4096), (1000, 500), (3000, 2), (2000, 1)):
        right = ramp(centre, width) if width > 1 else (DEEP > centre - 0.5).astype(float)
        yield Nasty(
            "dicom window",
            f"{centre} ± {width}",
            dicom(WindowCenter=centre, WindowWidth=width),
            right,
            1e-3,
        )
    for centre, width in ((-50, 100), (60_000, 100)):  # one colour: left out
        window = dicom(WindowCenter=centre, WindowWidth=width)
        yield Nasty("dicom window", f"{centre} ± {width}", window, BONE, 0.02)
    for width in (0, -5, 0.5):
        yield Nasty(
            "dicom window", f"width {width}", dicom(WindowWidth=width), BONE, 0.02, refusable=True
        )
    yield Nasty(
        "dicom window",
        "several",
        dicom(WindowCenter=[1000, 2048, 3000], WindowWidth=[500, 4096, 10]),
        ramp(1000, 500),
        1e-3,
    )
    yield Nasty(
        "dicom window",
        "two centres, one width",
        dicom(WindowCenter=[1000, 2048], WindowWidth=500),
        ramp(1000, 500),
        1e-3,
        refusable=True,
    )
    yield Nasty(
        "dicom window",
        "no numbers",
        dicom(WindowCenter=1234).replace(b"1234", b"Jane"),
        BONE,
        0.02,
        refusable=True,
    )
    yield Nasty(
        "dicom window",
        "NaN",
        dicom(WindowCenter=1234).replace(b"1234", b"NaN "),
        BONE,
        0.02,
        refusable=True,
    )
    yield Nasty("dicom window", "empty", dicom(WindowCenter=None, WindowWidth=None), BONE, 0.02)
    yield Nasty("dicom window", "none", dicom(drop=["WindowCenter", "WindowWidth"]), BONE, 0.02)
    yield Nasty("dicom window", "no width", dicom(drop=["WindowWidth"]), BONE, 0.02)
    linear = np.clip((DEEP - 1000.0) / 500 + 0.5, 0, 1)
    yield Nasty(
        "dicom window",
        "exact",
        dicom(WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR_EXACT"),
        linear,
        1e-3,
    )
    sigmoid = 1 / (1 + np.exp(-4 * (DEEP - 2048.0) / 1000))
    yield Nasty(
        "dicom window",
        "sigmoid",
        dicom(WindowCenter=2048, WindowWidth=1000, VOILUTFunction="SIGMOID"),
        sigmoid,
        2e-3,
    )
    yield Nasty(
        "dicom window",
        "a function there is not",
        dicom(VOILUTFunction="SPLINE"),
        BONE,
        0.02,
        refusable=True,
    )
    none = ["WindowCenter", "WindowWidth"]
    curve = np.round(np.sqrt(np.arange(4096) / 4095) * 65535).astype(int)
    yield Nasty(
        "dicom table",
        "16 bits",
        dicom(drop=none, VOILUTSequence=_table(curve)),
        np.sqrt(DEEP / 4095),
        2e-3,
    )
    yield Nasty(
        "dicom table",
        "8 bits",
        dicom(drop=none, VOILUTSequence=_table(curve // 256, bits=8)),
        np.sqrt(DEEP / 4095),
        5e-3,
    )
    yield Nasty(
        "dicom table",
        "counts before the window",
        dicom(VOILUTSequence=_table(curve)),
        np.sqrt(DEEP / 4095),
        2e-3,
    )
    late = np.round(np.linspace(0, 65535, 1024)).astype(int)
    yield Nasty(
        "dicom table",
        "from 1000 on",
        dicom(VOILUTSequence=_table(late, first=1000)),
        np.clip((DEEP - 1000.0) / 1023, 0, 1),
        2e-3,
    )
    wrong = _table(curve)
    wrong[0].LUTDescriptor = [60000, 0, 16]
    yield Nasty(
        "dicom table",
        "shorter than it says",
        dicom(VOILUTSequence=wrong),
        refusable=True,
        damaged=True,
    )
    yield Nasty(
        "dicom table", "empty", dicom(VOILUTSequence=Sequence([Dataset()])), BONE, refusable=True
    )
    modality = dicom(ModalityLUTSequence=_table(np.arange(4096)[::-1]), VOILUTFunction="LINEAR")
    yield Nasty("dicom table", "of the modality", modality, 1 - DEEP / 4095, 2e-3)


def dicoms() -> Iterator[Nasty]:
    right = DEEP / 4095
    k = "dicom"
    yield Nasty(
        k, "MONOCHROME1", dicom(4095 - DEEP, PhotometricInterpretation="MONOCHROME1"), right, 1e-3
    )
    yield Nasty(
        k, "lower case", dicom(PhotometricInterpretation="monochrome2"), right, 1e-3, refusable=True
    )
    yield Nasty(k, "implicit", dicom(implicit=True), right, 1e-3)
    yield Nasty(k, "big-endian", dicom(big=True), right, 1e-3)
    yield Nasty(k, "signed", dicom(DEEP.astype(np.int16) - 2048, WindowCenter=0), right, 1e-3)
    yield Nasty(
        k,
        "signed, no window",
        dicom(DEEP.astype(np.int16) - 2048, drop=["WindowCenter", "WindowWidth"]),
        BONE,
        0.02,
    )
    yield Nasty(
        k,
        "rescaled",
        dicom(RescaleSlope=2, RescaleIntercept=-4096, WindowCenter=0, WindowWidth=8192),
        right,
        1e-3,
    )
    yield Nasty(
        k,
        "rescaled by nothing",
        dicom(RescaleSlope=0, RescaleIntercept=0),
        np.zeros_like(BONE),
        refusable=True,
        damaged=True,
    )
    yield Nasty(
        k,
        "a slope that is no number",
        dicom(RescaleSlope=1234, RescaleIntercept=0).replace(b"1234", b"tall"),
        right,
        1e-3,
        refusable=True,
    )
    yield Nasty(
        k,
        "a slope of 1e308",
        dicom(RescaleSlope="1e308", RescaleIntercept=0, drop=["WindowCenter", "WindowWidth"]),
        BONE,
        0.02,
        refusable=True,
    )
    yield Nasty(k, "no intercept", dicom(RescaleSlope=1), right, 1e-3, refusable=True)
    padded = DEEP.copy()
    padded[:, :9] = 4095
    plain = np.where(_x < 9, 0, right)
    yield Nasty(
        k,
        "padding",
        dicom(padded, PixelPaddingValue=4095),
        np.where(padded == 4095, 0, plain),
        1e-3,
    )
    yield Nasty(
        k,
        "a range of padding",
        dicom(padded, PixelPaddingValue=4000, PixelPaddingRangeLimit=4095),
        np.where(padded >= 4000, 0, plain),
        1e-3,
    )
    yield Nasty(
        k,
        "nothing but padding",
        dicom(DEEP * 0 + 7, PixelPaddingValue=7, drop=["WindowCenter", "WindowWidth"]),
        np.zeros_like(BONE),
    )
    rgb = np.dstack([GREY] * 3)
    colour = dict(
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        Rows=ROWS,
        Columns=COLUMNS,
    )
    yield Nasty(k, "colour", dicom(rgb, **colour), GREY / 255)
    yield Nasty(
        k,
        "colour by planes",
        dicom(np.ascontiguousarray(rgb.transpose(2, 0, 1)), **colour | {"PlanarConfiguration": 1}),
        GREY / 255,
    )
    ybr = np.dstack([GREY, np.full_like(GREY, 128), np.full_like(GREY, 128)])
    yield Nasty(
        k,
        "YBR_FULL",
        dicom(ybr, **colour | {"PhotometricInterpretation": "YBR_FULL"}),
        GREY / 255,
        0.01,
    )
    yield Nasty(
        k,
        "YBR_FULL_422",
        dicom(ybr, **colour | {"PhotometricInterpretation": "YBR_FULL_422"}),
        GREY / 255,
        0.01,
        refusable=True,
    )
    yield Nasty(k, "palette", dicom(GREY, PhotometricInterpretation="PALETTE COLOR"))
    yield Nasty(k, "8 bits", dicom(GREY, WindowCenter=128, WindowWidth=256), GREY / 255, 0.005)
    yield Nasty(k, "32 bits", dicom(DEEP.astype(np.uint32)), right, 1e-3, refusable=True)
    yield Nasty(
        k,
        "1 bit",
        dicom(
            np.packbits(BONE > 0.5, bitorder="little")[None],
            Rows=ROWS,
            Columns=COLUMNS,
            BitsAllocated=1,
            BitsStored=1,
            HighBit=0,
            WindowCenter=0.5,
            WindowWidth=1,
        ),
        (BONE > 0.5).astype(float),
        refusable=True,
    )
    yield Nasty(
        k,
        "more bits stored than allocated",
        dicom(BitsStored=40),
        right,
        refusable=True,
        damaged=True,
    )
    yield Nasty(k, "no bits", dicom(BitsAllocated=0, BitsStored=0), refusable=True)
    for tag in (
        "Rows",
        "Columns",
        "PixelData",
        "BitsAllocated",
        "BitsStored",
        "PixelRepresentation",
        "SamplesPerPixel",
        "PhotometricInterpretation",
    ):
        yield Nasty(k, f"no {tag}", dicom(drop=[tag]), right, 1e-3, refusable=True)
    for rows in (0, 1, 47, 49):
        yield Nasty(
            k,
            f"{rows} rows where there are 48",
            dicom(Rows=rows),
            right[:rows],
            1e-3,
            refusable=True,
            damaged=rows > 1,
        )
    yield Nasty(
        k, "half of the pixels", dicom(PixelData=DEEP.tobytes()[: DEEP.nbytes // 2]), damaged=True
    )
    yield Nasty(k, "no pixels at all", dicom(PixelData=b""))
    yield Nasty(
        k,
        "float pixels",
        dicom(
            drop=["PixelData"], FloatPixelData=BONE.astype(np.float32).tobytes(), BitsAllocated=32
        ),
    )
    yield Nasty(k, "two frames", dicom(NumberOfFrames=2, PixelData=DEEP.tobytes() * 2))
    yield Nasty(
        k, "minus one frames", dicom(NumberOfFrames=-1), right, 1e-3, refusable=True, damaged=True
    )
    for syntax, name in (
        (uid.UID("1.2.840.10008.1.2.4.111"), "JPEG XL"),
        (uid.HTJ2KLossless, "HTJ2K"),
        (uid.JPEGLSLossless, "JPEG-LS"),
        (uid.UID("1.2.840.10008.1.2.4.102"), "MPEG-4 video"),
        (uid.UID("1.2.3.4.5"), "a private codec"),
        (uid.JPEGBaseline8Bit, "JPEG around nothing"),
    ):
        yield Nasty(
            "dicom codec",
            name,
            relabelled(dicom(encapsulated=(uid.JPEG2000, b"\xff\xd8\xff" + bytes(501))), syntax),
        )
    yield Nasty(
        "dicom codec",
        "JPEG",
        dicom(
            GREY,
            encapsulated=(uid.JPEGBaseline8Bit, saved(GREY, "JPEG", quality=95)),
            WindowCenter=128,
            WindowWidth=256,
        ),
        GREY / 255,
        0.01,
    )
    yield Nasty(
        "dicom codec",
        "video of 300 frames",
        relabelled(
            dicom(encapsulated=(uid.JPEG2000, bytes(900)), NumberOfFrames=300),
            uid.UID("1.2.840.10008.1.2.4.102"),
        ),
    )
    yield Nasty("dicom codec", "uncompressed, says RLE", relabelled(dicom(), uid.RLELossless))
    yield Nasty(
        "dicom codec",
        "implicit, says explicit",
        relabelled(dicom(implicit=True), uid.ExplicitVRLittleEndian),
        right,
        1e-3,
        refusable=True,
    )
    yield Nasty(
        "dicom codec",
        "explicit, says implicit",
        relabelled(dicom(), uid.ImplicitVRLittleEndian),
        right,
        1e-3,
        refusable=True,
    )
    for name, made in others().items():
        yield Nasty("dicom without a picture", name, made)
    yield Nasty("dicom", "no preamble", dicom()[132:], right, 1e-3)
    bare = dicom()[dicom().index(b"\x08\0\x16\0") :]
    yield Nasty("dicom", "no preamble and no first group", bare, right, 1e-3)
    yield Nasty("dicom without a picture", "preamble alone", bytes(128) + b"DICM")
    yield Nasty(
        "dicom without a picture",
        "no first group",
        bytes(128) + b"DICM" + dicom()[dicom().index(b"\x08\0\x16\0") :],
        right,
        1e-3,
        refusable=True,
    )


def _frame(**values) -> Dataset:
    "A functional group with these values"
    group = Dataset()
    group.FrameVOILUTSequence = Sequence([Dataset()])
    for tag, value in values.items():
        setattr(group.FrameVOILUTSequence[0], tag, value)
    return group


def at_odds() -> Iterator[Nasty]:
    "Legal files, and usual faults, that come out black, white or as noise where each value is taken at its word"
    k, right = "dicom values at odds", DEEP / 4095
    signed = DEEP.astype(np.int16) - 2048
    none = ["WindowCenter", "WindowWidth"]
    curve = np.round(np.sqrt(np.arange(4096) / 4095) * 65535).astype(int)
    root = np.sqrt(DEEP / 4095)

    def tabled(values, entries, first=0, bits=16, **tags):
        return dicom(values, drop=none, VOILUTSequence=_table(entries, first, bits), **tags)

    minus = dict(entries=curve, first=63488)  # -2048, typed unsigned
    yield Nasty(k, "table from -2048", tabled(signed, **minus), root, 2e-3)
    yield Nasty(k, "the same, implicit", tabled(signed, **minus, implicit=True), root, 2e-3)
    shifted = dict(RescaleSlope=1, RescaleIntercept=-2048)
    yield Nasty(k, "the same by intercept", tabled(DEEP, **minus, **shifted), root, 2e-3)
    low = 10_000 + np.round(np.arange(4096) * 40_000 / 4095).astype(int)
    yield Nasty(k, "table of low contrast", tabled(DEEP, low), (10_000 + 40_000 * right) / 65535)
    yield Nasty(k, "12 bits said to be 16", tabled(DEEP, np.arange(4096)), right, 1e-3)
    packed = _table(curve // 256, bits=8)
    packed[0].add_new("LUTData", "OW", (curve // 256).astype(np.uint8).tobytes())
    yield Nasty(k, "entries two to a word", dicom(drop=none, VOILUTSequence=packed), root, 5e-3)
    twelve = _table(np.arange(4096)[::-1], bits=12)
    modality = dicom(DEEP, ModalityLUTSequence=twelve, VOILUTSequence=_table(curve), drop=none)
    yield Nasty(k, "modality table of 12 bits", modality, np.sqrt(1 - right), 2e-3)

    edge = _x < 9
    black = np.where(edge, 0, right)
    negative = np.where(edge, -2048, 2047 - DEEP.astype(int)).astype(np.int16)
    tags = dict(PhotometricInterpretation="MONOCHROME1", WindowCenter=0)
    for value, vr in ((63488, b"US"), (-2048, b"SS")):
        data = dicom(negative, PixelPaddingValue=-2048, **tags).replace(
            b"\x28\0\x20\x01SS", b"\x28\0\x20\x01" + vr
        )
        at_most = np.where(negative == -2048, 0, black)
        yield Nasty(k, f"padding of {value}", data, at_most, 1e-3)
    deep = np.where(edge, 65535, DEEP * 15).astype(np.uint16)
    sixteen = dict(BitsStored=16, HighBit=15, WindowCenter=2048 * 15, WindowWidth=4096 * 15)
    data = dicom(deep, PixelPaddingValue=65535, **sixteen)
    yield Nasty(k, "padding of -1", data.replace(b" \x01US", b" \x01SS"), black, 1e-3)

    yield Nasty(k, "12 bits at the upper end", dicom(DEEP << 4, HighBit=15), right, 1e-3)
    yield Nasty(k, "HighBit 15 that is not so", dicom(HighBit=15), right, 1e-3)
    overlaid = DEEP | (np.uint16(1) << 12) * (_x > 40)
    yield Nasty(k, "overlay bits", dicom(overlaid), right, 1e-3)
    yield Nasty(k, "overlay bits, RLE", dicom(overlaid, compress=uid.RLELossless), right, 1e-3)
    for name, values, centre in (("overlay", overlaid, 2048), ("sign", signed & 0x0FFF, 0)):
        stream = saved(values.astype(np.uint16), "JPEG2000", irreversible=False, no_jp2=True)
        plain = dicom(
            signed if centre == 0 else DEEP,
            encapsulated=(uid.JPEG2000Lossless, stream),
            WindowCenter=centre,
        )
        yield Nasty(k, f"{name} bits, JPEG 2000", plain, right, 1e-3)

    stream = jpeg2k_encode(
        (signed & 0x0FFF).astype(np.uint16), level=0, bitspersample=12, codecformat="j2k"
    )
    data = dicom(signed, encapsulated=(uid.JPEG2000Lossless, stream), WindowCenter=0)
    yield Nasty(k, "unsigned JPEG 2000 of signed numbers", data, right, 1e-3)

    inverse = dict(PresentationLUTShape="INVERSE")
    yield Nasty(k, "MONOCHROME2 and INVERSE", dicom(4095 - DEEP, **inverse), right, 1e-3)
    for name, tags in (
        (
            "of the frame",
            dict(
                PerFrameFunctionalGroupsSequence=Sequence(
                    [_frame(WindowCenter=1000, WindowWidth=501)]
                )
            ),
        ),
        (
            "of all frames",
            dict(
                SharedFunctionalGroupsSequence=Sequence(
                    [_frame(WindowCenter=1000, WindowWidth=501)]
                )
            ),
        ),
    ):
        data = dicom(drop=none, SOPClassUID=uid.EnhancedXAImageStorage, **tags)
        yield Nasty(k, f"window {name}", data, np.clip((DEEP - 749.5) / 500, 0, 1), 1e-3)
    for name, text in (("a comma", b"0,15\\0,15"), ("one number", b"0.15      ")):
        data = dicom(PixelSpacing=["0.15", "0.15"]).replace(b"0.15\\0.15 ", text[:9] + b" ")
        yield Nasty(k, f"spacing with {name}", data, right, 1e-3)
    tall = cv2.resize(right, (COLUMNS, 2 * ROWS), interpolation=cv2.INTER_LINEAR)
    for tags in (dict(PixelAspectRatio=[2, 1]), dict(ImagerPixelSpacing=["0.4", "0.2"])):
        yield Nasty(k, f"pixels that are not square, {[*tags][0]}", dicom(**tags), tall, 1e-3)


def objects() -> Iterator[Nasty]:
    "Pictures of another kind than projection radiographs"
    of_bits = dict(BitsAllocated=1, BitsStored=1, HighBit=0, Rows=ROWS, Columns=COLUMNS)
    bits = np.packbits(BONE > 0.5, bitorder="little")[None]
    fractional = dict(SOPClassUID=uid.SegmentationStorage, Modality="SEG")
    label_map = fractional | {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.7"}
    for name, data in (
        ("binary segmentation", dicom(bits, **of_bits, **fractional)),
        ("fractional segmentation", dicom(GREY, **fractional)),
        ("label map", dicom(GREY // 64, **label_map)),
        ("CT slice", dicom(SOPClassUID=uid.CTImageStorage, Modality="CT")),
        ("MR slice", dicom(SOPClassUID=uid.MRImageStorage, Modality="MR")),
        ("ultrasound", dicom(GREY, SOPClassUID=uid.UltrasoundImageStorage, Modality="US")),
        ("parametric map", dicom(SOPClassUID=uid.ParametricMapStorage, Modality="MR")),
        ("dose", dicom(SOPClassUID=uid.RTDoseStorage, Modality="RTDOSE")),
        ("private segmentation", dicom(SOPClassUID="1.2.3.4", Modality="SEG")),
    ):
        yield Nasty("dicom of another kind", name, data)
    unknown = dicom(SOPClassUID="1.2.3.4")
    yield Nasty("dicom of another kind", "a class nobody knows", unknown, DEEP / 4095, 1e-3)


def relabelled(data: bytes, syntax) -> bytes:
    "The file with another transfer syntax in its first group"
    old = pydicom.dcmread(BytesIO(data)).file_meta.TransferSyntaxUID
    pad = lambda u: str(u).encode() + b"\0" * (len(u) % 2)
    return data.replace(
        struct.pack("<H", len(pad(old))) + pad(old),
        struct.pack("<H", len(pad(syntax))) + pad(syntax),
        1,
    )


def others() -> dict[str, bytes]:
    "DICOM objects that are no radiographs"

    def made(sop, **tags):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID, ds.PatientName = sop, "1.2.3.5", "Planted^Jane"
        for tag, value in tags.items():
            setattr(ds, tag, value)
        file = BytesIO()
        pydicom.dcmwrite(file, ds, enforce_file_format=True)
        return file.getvalue()

    text = Dataset()
    text.ValueType, text.TextValue = "TEXT", "Planted^Jane has a fracture"
    entry = Dataset()
    entry.DirectoryRecordType, entry.PatientID = "PATIENT", "Planted"
    return {
        "DICOMDIR": made(
            uid.MediaStorageDirectoryStorage, DirectoryRecordSequence=Sequence([entry])
        ),
        "structured report": made(
            uid.BasicTextSRStorage, Modality="SR", ContentSequence=Sequence([text])
        ),
        "pdf": made(
            uid.EncapsulatedPDFStorage,
            MIMETypeOfEncapsulatedDocument="application/pdf",
            EncapsulatedDocument=b"%PDF-1.7 ",
        ),
        "presentation state": made(uid.GrayscaleSoftcopyPresentationStateStorage, Modality="PR"),
        "waveform": made(uid.TwelveLeadECGWaveformStorage, Modality="ECG"),
    }


def largest() -> Iterator[Nasty]:
    "Pictures just below the limit: right, and still within the limits of time and memory"
    rng = np.random.default_rng(0)
    grey = np.kron(rng.integers(0, 255, (200, 500), np.uint8), np.ones((20, 20), np.uint8))[:3999]
    deep = grey.astype(np.uint16) << 4
    shown = grey / np.float32(255)
    yield Nasty("largest", "png", saved(grey, "PNG", compress_level=1), shown)
    yield Nasty(
        "largest",
        "png with alpha",
        saved(np.dstack([grey] * 3 + [np.full_like(grey, 255)]), "PNG", compress_level=1),
        shown,
    )
    yield Nasty("largest", "jpeg", saved(np.dstack([grey] * 3), "JPEG", quality=90), shown, 0.02)
    yield Nasty(
        "largest",
        "float tiff",
        saved(Image.fromarray(deep.astype(np.float32)), "TIFF"),
        shown,
        0.01,
    )
    yield Nasty("largest", "dicom", dicom(deep), shown, 0.01)
    yield Nasty(
        "largest",
        "dicom without a window",
        dicom(deep, drop=["WindowCenter", "WindowWidth"]),
        shown,
        0.01,
    )
    scale = dict(RescaleSlope=2, RescaleIntercept=-5, WindowCenter=4091, WindowWidth=8192)
    yield Nasty("largest", "dicom with a rescale", dicom(deep, **scale), shown, 0.01)
    twelve = dict(bitspersample=12)
    yield Nasty(
        "largest", "jpeg xl", imagecodecs.jpegxl_encode(deep, effort=1, **twelve), shown, 0.01
    )
    yield Nasty("largest", "jpeg 2000", imagecodecs.jpeg2k_encode(grey, reversible=True), shown)
    for syntax, stream in {
        "51": imagecodecs.jpeg8_encode(deep, level=90, **twelve),
        "110": imagecodecs.jpegxl_encode(deep, effort=1, **twelve),
        "201": imagecodecs.htj2k_encode(deep, reversible=True),
    }.items():
        yield Nasty("largest", f"dicom by {syntax}", streamed(syntax, stream, deep), shown, 0.02)


def corpus(large: bool = False) -> list[Nasty]:
    "Every input; `large`: also those that take a second each"
    makers = (
        truncated,
        flipped,
        misnamed,
        no_pictures,
        codecs,
        codec_bombs,
        sizes,
        depths,
        colours,
        turned,
        several,
        bombs,
        windows,
        dicoms,
        at_odds,
        objects,
    )
    return [
        item for make in (*makers, largest)[: None if large else len(makers)] for item in make()
    ]


# --- what comes of it


@dataclass(frozen=True)
class Outcome:
    "What reading one input gave, in the product's own process"

    item: Nasty
    said: str  # 'right', 'refused', 'altered' (a damaged file that no checksum gives away), 'wrong', 'crashed' or 'hung'
    told: str  # the line that refuses it
    seconds: float  # of the process's processor time
    mebibytes: float  # the most above what it had before


def judged(item: Nasty, fine: bool, found) -> str:
    "Which of the outcomes it is"
    if not fine:
        return (
            "crashed"
            if "crashed" in found
            else "hung"
            if "no answer within" in found
            else "refused"
        )
    pixels = found.pixels
    if (
        pixels.dtype != np.float32
        or not np.isfinite(pixels).all()
        or pixels.min() < 0
        or pixels.max() > 1
    ):
        return "wrong"
    if (
        item.right is not None
        and pixels.shape == item.right.shape
        and np.abs(pixels - item.right).mean() <= item.close
    ):
        return "right"
    return "altered" if item.damaged else "wrong"


class Examination:
    "One reading process, watched from outside; use as a context"

    def __init__(self, seconds: float = 60):
        self.readers, self.deaths = Readers(1, seconds=seconds), 0

    def __enter__(self):
        for warm in ("png", "jpeg 2000 dicom"):
            self._ask(Nasty("", warm, bitmaps()[warm][0]))  # libraries are loaded
        return self

    def __exit__(self, *_):
        self.readers.__exit__()

    def _ask(self, item):
        return self.readers.submit(READ_FILM, Source(item.name, ""), item.data, None).result()

    def __call__(self, item: Nasty) -> Outcome:
        process = self.readers._all[0]._process
        start, (fine, found) = _state(process), self._ask(item)
        alive = self.readers._all[0]._process is process
        self.deaths += process is not None and not alive  # none: it has died over the last one
        seconds, memory = (
            np.subtract(_state(process, reset=False), start)
            if alive
            else (float("nan"), float("nan"))
        )
        return Outcome(item, judged(item, fine, found), "" if fine else found, seconds, memory)


def _state(process, reset: bool = True) -> tuple[float, float]:
    "Seconds of processor time, and mebibytes: now after a reset of the peak, or the peak"
    if process is None:
        return 0.0, 0.0  # it will be started again
    times = psutil.Process(process.pid).cpu_times()
    if not sys.platform.startswith("linux"):
        return times.user + times.system, float("nan")
    if reset:
        Path(f"/proc/{process.pid}/clear_refs").write_text("5")
    peak = next(
        line
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )
    return times.user + times.system, int(peak.split()[1]) / 1024
