"""What comes of nasty inputs: how many of each kind are read right, refused with a reason, crash, or hang.

    python benchmarks/hostile.py                 # the corpus of the tests
    python benchmarks/hostile.py --fuzz 300      # and 300 seconds of inputs changed at random
    python benchmarks/hostile.py --output benchmarks/figures/hostile.json   # the figures of the docs

Right: the picture as it was. Refused: one line that says why. Altered: the file was damaged, has no checksum, and what
its pixels say now is read. Seconds are those of a processor, MiB what is added to the process that reads.
"""

import argparse
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from hostile_corpus import Examination, Nasty, corpus  # noqa: E402

from xray_explain.files import write_json  # noqa: E402

SAID = ("right", "refused", "altered", "wrong", "crashed", "hung")


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--small", action="store_true", help="without the largest pictures")
    parser.add_argument(
        "--fuzz", type=float, default=0, help="seconds of random changes (default 0)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the changes (default 0)")
    parser.add_argument("--output", metavar="FILE", help="write the table as JSON")
    return parser.parse_args()


def changed(data: bytes, rng) -> bytes:
    "The input cut, doubled in parts, overwritten, or with bytes that mean a lot in headers"
    data = bytearray(data[:200_000])
    for _ in range(rng.integers(1, 6)):
        if not data:
            return b""
        # most of what a decoder decides by stands at the beginning
        at = int(len(data) * rng.random() ** 3)
        length = int(rng.integers(1, 9))
        how = rng.integers(6)
        if how == 0:
            data[at : at + length] = rng.bytes(length)
        elif how == 1:
            data[at : at + length] = bytes([rng.choice([0, 1, 0x7F, 0x80, 0xFF])]) * length
        elif how == 2:
            data[at] ^= 1 << rng.integers(8)
        elif how == 3:
            del data[at : at + int(rng.integers(1, 200))]
        elif how == 4:
            data[at:at] = data[at : at + int(rng.integers(1, 200))]
        else:
            del data[int(len(data) * rng.random()) :]
    return bytes(data)


def fuzzed(items, seconds, seed):
    "Changed inputs for as long as told"
    rng, end = np.random.default_rng(seed), time.monotonic() + seconds
    while time.monotonic() < end:
        item = items[rng.integers(len(items))]
        yield Nasty("changed at random", item.name, changed(item.data, rng), damaged=True)


def row(kind, outcomes) -> dict:
    "A line of the table, printed"
    counts = [sum(o.said == s for o in outcomes) for s in SAID]
    # of a process that died nobody can say
    known = lambda of: [o for o in outcomes if not math.isnan(getattr(o, of))]
    slowest, largest = (
        max(known(of), key=lambda o: getattr(o, of)) for of in ("seconds", "mebibytes")
    )
    seconds, memory = slowest.seconds, largest.mebibytes
    print(
        f"| {kind} | {len(outcomes)} | {' | '.join(map(str, counts))} | {seconds:.2f} | {memory:.0f} |",
        flush=True,
    )
    return {
        "inputs": kind,
        "number": len(outcomes),
        **dict(zip(SAID, counts)),
        "most_seconds": round(seconds, 2),
        "slowest": slowest.item.name,
        "most_mebibytes": round(memory),
        "largest": largest.item.name,
    }


def main():
    args = arguments()
    warnings.simplefilter("ignore")  # of pydicom, about what is made on purpose
    items = corpus(large=not args.small)
    print(
        f"| inputs | number | {' | '.join(SAID)} | most seconds | most MiB |\n|---|---:{'|---:' * len(SAID)}|---:|---:|"
    )
    with Examination() as examine:
        every = [examine(item) for item in items]
        table = [
            row(kind, [o for o in every if o.item.kind == kind])
            for kind in dict.fromkeys(o.item.kind for o in every)
        ]
        table.append(row("all", every))
        if args.fuzz:
            small = [i for i in items if len(i.data) < 200_000]
            found = [examine(item) for item in fuzzed(small, args.fuzz, args.seed)]
            table.append(row(f"changed at random, {args.fuzz:g} s", found))
            every += found
        print(f"\nprocesses that died: {examine.deaths}")
    if args.output:
        write_json(args.output, {"table": table, "processes_that_died": examine.deaths})
    for o in every:
        if o.said in ("wrong", "crashed", "hung") or "report this" in o.told:
            print(f"{o.item.kind}, {o.item.name}: {o.said} {o.told}")


if __name__ == "__main__":
    main()
