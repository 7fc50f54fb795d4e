"""Inputs guided by coverage for the parsers of outlines and of bitmap headers; needs `pip install atheris` (Linux).

    python benchmarks/fuzz_parsers.py annotation -max_total_time=60
    python benchmarks/fuzz_parsers.py radiograph -max_total_time=60 -rss_limit_mb=2000
    python benchmarks/fuzz_parsers.py --output fuzz.json -max_total_time=60    # both in turn, and the figures

Options after the parser's name are libFuzzer's. It ends with a traceback at the first input that gives neither a result
nor the one clear line.
"""
import json
import re
import subprocess
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


def figures(options) -> list[dict]:
    "Both parsers in turn: runs, seconds, and what ended them before their time"
    found = []
    for name in ("annotation", "radiograph"):
        done = subprocess.run([sys.executable, __file__, name, *options], stderr=subprocess.PIPE, text=True, errors="replace")
        counted = re.search(r"Done (\d+) runs in (\d+) second", done.stderr)
        if done.returncode or not counted: print(done.stderr[-2000:], file=sys.stderr)
        runs, seconds = map(int, counted.groups()) if counted else (None, None)
        found.append({"parser": name, "seconds": seconds, "runs": runs, "findings": int(done.returncode != 0 or not counted)})
        print(found[-1], flush=True)
    return found


if __name__ == "__main__":
    if sys.argv[1:2] == ["--output"] and len(sys.argv) > 2:
        from xray_explain.output import write_json
        rows = figures(sys.argv[3:])
        sys.exit(write_json(sys.argv[2], rows) or int(any(r["findings"] for r in rows)))
    parser = {"annotation": annotation, "radiograph": radiograph}.get(sys.argv[1] if len(sys.argv) > 1 else "")
    if parser is None: sys.exit(__doc__)
    atheris.Setup([sys.argv[0], *sys.argv[2:]], parser)
    atheris.Fuzz()
