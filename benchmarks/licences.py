"""What the package needs, in which version and under which licence, as the installed distributions say themselves.

python benchmarks/licences.py            # what users install
python benchmarks/licences.py --all      # and what developers install
python benchmarks/licences.py --output benchmarks/figures/licences.json
"""

import argparse
import re
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement

from xray_explain.files import write_json

EXTRAS = ("ray", "view")  # what users may ask for


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--all", action="store_true", help="also the extras dev and benchmarks")
    parser.add_argument("--output", metavar="FILE", help="write the table as JSON")
    return parser.parse_args()


def needed(extras: tuple) -> list[str]:
    "Installed distributions that the package needs, directly or not, without itself"
    seen, waiting = {}, [("xray_explain", extras)]
    while waiting:
        name, wanted = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if set(wanted) <= seen.get(key, set()) and key in seen:
            continue
        seen[key] = seen.get(key, set()) | set(wanted)
        try:
            requires = distribution(name).requires or []
        except PackageNotFoundError:
            continue
        for line in map(Requirement, requires):
            if line.marker is None or any(
                line.marker.evaluate({"extra": e}) for e in ("", *wanted)
            ):
                waiting.append((line.name, tuple(line.extras)))
    return sorted(seen.keys() - {"xray-explain"})


def licence(name: str) -> tuple[str, str]:
    "Version and licence; '' for what is not installed here"
    try:
        data = distribution(name).metadata
    except PackageNotFoundError:
        return "", "not installed"
    classified = [
        c.rpartition(" :: ")[2]
        for c in data.get_all("Classifier") or []
        if c.startswith("License :: ")
    ]
    told = (
        data.get("License-Expression")
        or "; ".join(classified)
        or (data.get("License") or "").strip().split("\n")[0][:60]
    )
    return data["Version"], told or "not stated"


def main():
    args = arguments()
    rows = [
        dict(zip(("package", "version", "licence"), (name, *licence(name))))
        for name in needed(EXTRAS + ("dev", "benchmarks") * args.all)
    ]
    print("| package | version | licence |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(row.values())} |")
    print(f"\n{len(rows)} packages")
    if args.output:
        write_json(args.output, rows)


if __name__ == "__main__":
    main()
