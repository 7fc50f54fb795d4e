"""Whether a lower bound in settings.ini lets in a version with a known weakness, and whether the bounds install together.

python benchmarks/floors.py              # asks PyPI about each requirement; 1 where a weakness lies at a bound
python benchmarks/floors.py --resolve    # and uv (pip install uv) for one set of versions at the bounds
"""

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from configparser import ConfigParser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.13")


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--pypi", default="https://pypi.org", help="address of the index")
    parser.add_argument("--settings", default=ROOT / "settings.ini", help="file of requirements")
    parser.add_argument("--resolve", action="store_true", help="also find versions at the bounds")
    return parser.parse_args()


def requirements(settings: Path) -> list[Requirement]:
    "All of them, those of extras too"
    parser = ConfigParser(delimiters=["="])
    parser.read(settings, encoding="utf-8")
    lists = [text for key, text in parser["DEFAULT"].items() if key.endswith("requirements")]
    return [Requirement(line) for text in lists for line in text.split("\n") if line.strip()]


def ask(address: str) -> dict:
    request = urllib.request.Request(
        address, headers={"Accept": "application/vnd.pypi.simple.v1+json, application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def lowest(versions: list[str], asked: Requirement) -> Version:
    "The smallest release that a requirement lets in"
    known = []
    for text in versions:
        try:
            known.append(Version(text))
        except InvalidVersion:  # of before PEP 440
            continue
    return min(asked.specifier.filter(known))


def weaknesses(answer: dict) -> list[str]:
    "What PyPI's JSON says of a release, without what was withdrawn"
    return [
        f"{'/'.join([entry['id'], *entry.get('aliases', [])])}, "
        f"gone in {' or '.join(entry.get('fixed_in') or ['none'])}"
        for entry in answer.get("vulnerabilities", [])
        if not entry.get("withdrawn")
    ]


def resolve(asked: list[Requirement]) -> bool:
    "Whether uv finds one set of versions in which each requirement has its lowest"
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "requirements.in"
        listed.write_text("\n".join(map(str, asked)))
        command = [sys.executable, "-m", "uv", "pip", "compile", str(listed)]
        options = ["--universal", "--resolution", "lowest-direct"]
        runs = [
            subprocess.run([*command, *options, "--python-version", python], capture_output=True)
            for python in PYTHONS
        ]
    for python, run in zip(PYTHONS, runs):
        count = sum(b"==" in line.split(b";")[0] for line in run.stdout.splitlines())
        print(f"Python {python}: {f'{count} packages' if run.returncode == 0 else 'no solution'}")
    return all(run.returncode == 0 for run in runs)


def main() -> int:
    args = arguments()
    asked, weak, silent = requirements(args.settings), 0, 0
    print("| requirement | lowest version | known weaknesses |\n|---|---|---|")
    for requirement in asked:
        version = "?"
        try:
            versions = ask(f"{args.pypi}/simple/{requirement.name}/")["versions"]
            version = lowest(versions, requirement)
            entries = weaknesses(ask(f"{args.pypi}/pypi/{requirement.name}/{version}/json"))
        except (OSError, ValueError, KeyError) as e:
            silent += 1
            print(f"| {requirement} | {version} | could not be asked: {e} |")
            continue
        weak += bool(entries)
        print(f"| {requirement} | {version} | {'; '.join(entries) or 'none'} |")
    print(
        f"\n{len(asked)} requirements, {weak} with a known weakness at their bound, {silent} unknown"
    )
    together = resolve(asked) if args.resolve else True
    return 2 if silent else int(weak > 0 or not together)


if __name__ == "__main__":
    sys.exit(main())
