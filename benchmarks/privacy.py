"""Does a patient's name get out? Marks in every standard text tag of DICOM files, in EXIF and comments; all that is written is searched.

    python benchmarks/privacy.py                 # infer with files good and broken, overlays, tables, messages
    python benchmarks/privacy.py --reports       # and the inference report as notebook and page
"""
import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from test_privacy import MARK, every_text, fill  # noqa: E402

from xray_explain.output import write_json  # noqa: E402


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", action="store_true", help="also the inference report, which takes a minute")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    return parser.parse_args()


_CALL = "import sys; from xray_explain.cli import main; sys.exit(main())"


def said(*argv) -> bytes:
    "What a command says, errors in full"
    done = subprocess.run([sys.executable, "-c", _CALL, "--debug", *map(str, argv)], capture_output=True)
    return done.stdout + done.stderr


def written(films: Path, out: Path, reports: bool) -> dict[str, dict[str, bytes]]:
    "Everything that comes out, by where it comes from"
    found = {"messages": {}}
    for name, options in {"PNG overlays and maps": ["--maps"], "JPEG overlays": ["--overlay-format", "jpeg"]}.items():
        found["messages"][name] = said("infer", "--input-dir", films, "--output-dir", out / name, *options)
    for name in ("good.dcm", "jpeg.jpg", "window.dcm", "cut5.dcm", "codec.dcm"):
        found["messages"][name] = said("infer", "--image", films / name, "--output-dir", out / "single pictures")
    if reports:
        from xray_explain.publish import run_report
        run_report("inference", out / "report, notebook and page", data=str(films))
    return found | {place.name: every_text(place) for place in sorted(out.iterdir())}


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as home:
        tags = fill(films := Path(home) / "in")
        planted = {p.name: p.read_bytes() for p in films.iterdir()}
        found = written(films, Path(home) / "out", args.reports)
    count = lambda texts: {"files": len(texts), "bytes": sum(map(len, texts.values())), "marks": sum(len(MARK.findall(t)) for t in texts.values())}
    rows = [{"searched": name, **count(texts)} for name, texts in ({"the files themselves": planted} | found).items()]
    print("| searched | files | bytes | marks |\n|---|---:|---:|---:|")
    for row in rows: print(f"| {' | '.join(f'{v:,}' if isinstance(v, int) else v for v in row.values())} |")
    if args.output: write_json(args.output, {"tags": tags, "rows": rows})


if __name__ == "__main__": main()
