"""Inputs guided by coverage for the parsers of outlines, of tables and of pictures; needs `pip install atheris` (Linux).

    python benchmarks/fuzz_parsers.py --seconds 120 --output benchmarks/figures/fuzz.json   # each of them
    python benchmarks/fuzz_parsers.py annotation -max_total_time=60                         # one, with libFuzzer's options

It says how many inputs were tried, how much of the code they reached, and the traceback of the first input that gives
neither a result nor the one clear line.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

KEYS = [
    "shapes",
    "label",
    "points",
    "shape_type",
    "imagePath",
    "imageHeight",
    "imageWidth",
    "version",
    "other",
]
WORDS = [
    "polygon",
    "rectangle",
    "circle",
    "line",
    "",
    "../../x",
    "\ud800",
    "\x1b[31m",
    None,
    True,
    10**400,
    -1,
    20,
    float("nan"),
    1e308,
]
CELLS = [
    "",
    "a.png",
    "b",
    "0",
    "1",
    "Benign",
    "nan",
    "=1+1",
    '"',
    "\n",
    "../a.png",
    "\ufeff",
    "image_id",
    "label",
    "tumor",
    "benign",
    "malignant",
    "split",
    "group",
    "Train",
    "validation",
    "holdout",
    "TRUE",
    "False",
    "1.2.840.7",
    "A.PNG",
]


def made(bits, depth: int = 0):
    "A value such as JSON has"
    kind = bits.ConsumeIntInRange(0, 4 if depth < 5 else 2)
    if kind == 0:
        return bits.PickValueInList(WORDS)
    if kind == 1:
        return bits.ConsumeRegularFloat()
    if kind == 2:
        return bits.ConsumeIntInRange(-10, 200)
    if kind == 3:
        return [made(bits, depth + 1) for _ in range(bits.ConsumeIntInRange(0, 5))]
    return {
        bits.PickValueInList(KEYS): made(bits, depth + 1)
        for _ in range(bits.ConsumeIntInRange(0, 6))
    }


KINDS = ["polygon", "rectangle", "circle", "ellipse", "oriented_rectangle", "mask", "point", "line"]
PAINTED = (  # a picture of 3 x 2 pixels
    "iVBORw0KGgoAAAANSUhEUgAAAAMAAAACCAAAAAC4HznGAAAAEElEQVR4nGP4//8/A8N/BgYAGPkD/QWGZCcAAAAASUVORK5CYII="
)


def shape(bits) -> dict:
    "Nearly what LabelMe writes"
    points = [
        [bits.ConsumeFloatInRange(-50, 150), bits.ConsumeFloatInRange(-50, 150)]
        for _ in range(bits.ConsumeIntInRange(0, 8))
    ]
    if bits.ConsumeBool():  # as a mask of that picture has them
        points = [[10, 10], [12, 11]]
    return {
        "label": made(bits),
        "points": points if bits.ConsumeBool() else made(bits),
        "shape_type": bits.PickValueInList(KINDS) if bits.ConsumeBool() else made(bits),
        "mask": PAINTED if bits.ConsumeBool() else made(bits),
    }


def annotation(bits, folder=Path(tempfile.mkdtemp())):
    "A file of nearly the right form"
    from xray_explain.read.outlines.annotation import AnnotationError, fitted, read_annotation

    content = {
        "shapes": [shape(bits) for _ in range(bits.ConsumeIntInRange(0, 4))],
        "imagePath": made(bits),
    }
    content |= {
        k: bits.ConsumeIntInRange(-1, 150)
        for k in ("imageHeight", "imageWidth")
        if bits.ConsumeBool()
    }
    if bits.ConsumeBool():
        content |= {bits.PickValueInList(KEYS): made(bits)}
    text = json.dumps(content) if bits.ConsumeBool() else bits.ConsumeUnicode(500)
    picture = bits.PickValueInList([(100, 100), (100, 60), (60, 100)])
    file = folder / "knee.json"
    file.write_bytes(text.encode("utf-8", "replace"))
    try:
        found = fitted(read_annotation(file), picture, bits.ConsumeIntInRange(1, 8))
    except AnnotationError as e:
        assert "\n" not in str(e)
        return
    assert found.image_name.isprintable() and not any("\n" in note for note in found.notes)
    mask = found.mask((25, 25 * picture[1] // picture[0]))
    assert mask.max(initial=0) <= 1 and len(found.boxes()) == len(found.lesions)


def table(bits, folder=Path(tempfile.mkdtemp()) / "set"):
    "A table of nearly the right form, or any bytes, beside two pictures"
    from xray_explain.data.archive import DatasetError
    from xray_explain.data.cases import read_cases

    for name in ("a.png", "b.png") if not folder.is_dir() else ():
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "images" / name).touch()
    rows = [
        [bits.PickValueInList(CELLS) for _ in range(bits.ConsumeIntInRange(0, 6))]
        for _ in range(bits.ConsumeIntInRange(0, 6))
    ]
    if bits.ConsumeBool():
        rows.insert(
            0,
            ["image_id", "label"]
            if bits.ConsumeBool()
            else ["image_id", "tumor", "benign", "malignant", "split"],
        )
    text = "\n".join(bits.PickValueInList([",", ";", "\t"]).join(row) for row in rows)
    data = (
        text.encode(bits.PickValueInList(["utf-8", "utf-16", "utf-8-sig"]))
        if bits.ConsumeBool()
        else text.encode() + bits.ConsumeBytes(300)
    )
    (folder / "dataset.csv").write_bytes(data)
    try:
        assert len(read_cases(folder)) > 0
    except DatasetError as e:
        assert "\n" not in str(e) and str(folder.parent) not in str(e) and len(str(e)) <= 2000


def radiograph(bits):
    "Any bytes; the first says whether they are taken for DICOM"
    from xray_explain.read.pixels import RadiographError
    from xray_explain.read.radiograph import read_radiograph

    start = bytes(128) + b"DICM" if bits.ConsumeBool() else b""
    try:
        found = read_radiograph(start + bits.ConsumeBytes(bits.remaining_bytes()))
    except RadiographError as e:
        assert "\n" not in str(e) and len(str(e)) < 250
    else:
        assert 0 <= found.pixels.min() <= found.pixels.max() <= 1


def stream(bits):
    "A good stream of a codec that a library decodes, changed in a few places; alone or in DICOM"
    from hostile_corpus import bitmaps

    from xray_explain.read.pixels import RadiographError
    from xray_explain.read.radiograph import read_radiograph

    data = bytearray(bitmaps()[bits.PickValueInList(STREAMS)][0])
    for _ in range(bits.ConsumeIntInRange(0, 6)):
        at = bits.ConsumeIntInRange(0, len(data) - 1)
        data[at : at + bits.ConsumeIntInRange(0, 4)] = bits.ConsumeBytes(4)
    try:
        found = read_radiograph(bytes(data))
    except RadiographError as e:
        assert "\n" not in str(e) and len(str(e)) < 250
    else:
        assert 0 <= found.pixels.min() <= found.pixels.max() <= 1


STREAMS = [
    "jpeg 2000",
    "jpeg xl",
    "jpeg xl in boxes",
    "12-bit jpeg dicom",
    "htj2k dicom",
    "jpeg xl dicom",
]
PARSERS = {"annotation": annotation, "table": table, "radiograph": radiograph, "stream": stream}


def fuzz(name: str, options: list[str]):
    "Try inputs in this process until libFuzzer ends it"
    import atheris

    with atheris.instrument_imports(include=["xray_explain", "PIL", "pydicom"]):
        import xray_explain.data.cases
        import xray_explain.read.codecs
        import xray_explain.read.dicom  # noqa: F401
    atheris.Setup(
        [sys.argv[0], *options], lambda data: PARSERS[name](atheris.FuzzedDataProvider(data))
    )
    atheris.Fuzz()


def outcome(name: str, seconds: int) -> dict:
    "What came of so many seconds of a parser"
    with tempfile.TemporaryDirectory() as folder:  # for the input that is a finding
        done = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).resolve()),
                name,
                f"-max_total_time={seconds}",
                "-print_final_stats=1",
                "-timeout=20",
                "-rss_limit_mb=3000",
            ],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=folder,
        )
    number = lambda pattern: int((re.findall(pattern, done.stderr) or ["0"])[-1])
    if done.returncode:
        print(done.stdout[-3000:], done.stderr[-3000:], sep="\n", file=sys.stderr)
    return {
        "parser": name,
        "seconds": seconds,
        "inputs": number(r"number_of_executed_units:\s*(\d+)"),
        "edges_reached": number(r"cov: (\d+)"),
        "findings": int(done.returncode != 0),
    }


def main():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each parser (default 60)")
    parser.add_argument("--output", metavar="FILE", help="write the table as JSON")
    args = parser.parse_args()
    rows = []
    print("| parser | seconds | inputs | edges reached | findings |\n|---|---:|---:|---:|---:|")
    for name in PARSERS:
        rows.append(outcome(name, args.seconds))
        print(f"| {' | '.join(map(str, rows[-1].values()))} |", flush=True)
    if args.output:
        from xray_explain.files import write_json

        write_json(args.output, rows)
    return any(row["findings"] for row in rows)


if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in PARSERS:
        fuzz(sys.argv[1], sys.argv[2:])
    else:
        sys.exit(main())
