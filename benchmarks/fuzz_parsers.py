"""Inputs guided by coverage for the parsers of outlines and of bitmap headers; needs `pip install atheris` (Linux).

    python benchmarks/fuzz_parsers.py annotation -max_total_time=60
    python benchmarks/fuzz_parsers.py radiograph -max_total_time=60 -rss_limit_mb=2000

Options after the parser's name are libFuzzer's. It ends with a traceback at the first input that gives neither a result
nor the one clear line.
"""
import json
import sys

import atheris

with atheris.instrument_imports(include=["xray_explain", "PIL", "pydicom"]):
    from xray_explain.annotation import AnnotationError, _parse
    from xray_explain.radiograph import RadiographError, read_radiograph


KEYS = ["shapes", "label", "points", "shape_type", "imagePath", "imageHeight", "imageWidth", "version", "other"]
WORDS = ["polygon", "rectangle", "circle", "line", "", "../../x", "\ud800", "\x1b[31m", None, True, 10**400, -1, 20, float("nan"), 1e308]


def made(bits, depth: int = 0):
    "A value such as JSON has"
    kind = bits.ConsumeIntInRange(0, 4 if depth < 5 else 2)
    if kind == 0: return bits.PickValueInList(WORDS)
    if kind == 1: return bits.ConsumeRegularFloat()
    if kind == 2: return bits.ConsumeIntInRange(-10, 200)
    if kind == 3: return [made(bits, depth + 1) for _ in range(bits.ConsumeIntInRange(0, 5))]
    return {bits.PickValueInList(KEYS): made(bits, depth + 1) for _ in range(bits.ConsumeIntInRange(0, 6))}


def shape(bits) -> dict:
    "Nearly what LabelMe writes"
    points = [[bits.ConsumeFloatInRange(-50, 150), bits.ConsumeFloatInRange(-50, 150)] for _ in range(bits.ConsumeIntInRange(0, 8))]
    return {"label": made(bits), "points": points if bits.ConsumeBool() else made(bits), "shape_type": bits.PickValueInList(WORDS[:5])}


def annotation(data: bytes):
    "A file of nearly the right form"
    bits = atheris.FuzzedDataProvider(data)
    content = {"shapes": [shape(bits) for _ in range(bits.ConsumeIntInRange(0, 4))], "imagePath": made(bits)}
    content |= {k: bits.ConsumeIntInRange(-1, 150) for k in ("imageHeight", "imageWidth") if bits.ConsumeBool()}
    if bits.ConsumeBool(): content |= {bits.PickValueInList(KEYS): made(bits)}
    try: found = _parse(json.dumps(content))
    except AnnotationError as e: assert "\n" not in str(e)
    else: assert found.image_name.isprintable() and found.shape is None or found.mask((16, 16)).shape == (16, 16)


def radiograph(data: bytes):
    "Any bytes; the first says whether they are taken for DICOM"
    try: found = read_radiograph(bytes(128) + b"DICM" + data[1:] if data[:1] == b"D" else data)
    except RadiographError as e: assert "\n" not in str(e) and len(str(e)) < 250
    else: assert 0 <= found.pixels.min() <= found.pixels.max() <= 1


if __name__ == "__main__":
    parser = {"annotation": annotation, "radiograph": radiograph}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if parser is None: sys.exit(__doc__)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], parser)
    atheris.Fuzz()
