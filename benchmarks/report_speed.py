"""How long does the annotation report take, the first time and with another threshold?

python benchmarks/report_speed.py --cases 600
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from xray_explain.data.cases import BTXRD_CLASSES
from xray_explain.data.phantom import write_phantoms
from xray_explain.report.run import run_report


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", type=int, default=600, help="phantoms (default 600)")
    return parser.parse_args()


def main():
    args = arguments()
    taken = {}
    with tempfile.TemporaryDirectory() as home:
        os.environ["XRAY_EXPLAIN_CACHE"] = f"{home}/cache"
        data = write_phantoms(
            Path(home) / "unseen", args.cases // len(BTXRD_CLASSES), seed=600, progress=False
        )
        for told, threshold in (("first", 0.5), ("another threshold", 0.3)):
            start = time.perf_counter()
            run_report("annotation", Path(home) / "out", data=str(data), threshold=threshold)
            taken[told] = time.perf_counter() - start
    print("| run | s | against the first |\n|---|---:|---:|")
    for told, s in taken.items():
        print(f"| {told} | {s:.1f} | {s / taken['first']:.3f} |")


if __name__ == "__main__":
    main()
