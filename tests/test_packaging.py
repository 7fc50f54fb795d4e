"What is installed: light to import, whole in wheel and sdist, typed; and workflows that hold still."

import json
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml
from packaging.version import Version

ROOT = Path(__file__).parent.parent
HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "pandas",
    "scipy",
    "sklearn",
    "skimage",
    "matplotlib",
    "papermill",
    "cv2",
    "pydicom",
    "pyarrow",
}


@pytest.mark.parametrize("code", ["import xray_explain", "import xray_explain.cli"])
def test_the_import_is_light(code):
    "Counted, since a time depends on the machine; NumPy alone may come along"
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\nimport sys\nprint(*{{m.split('.')[0] for m in sys.modules}})",
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert not HEAVY & {*told.split()}


@pytest.mark.parametrize(
    "module",
    [
        *("read.processes", "read.sources", "read.radiograph", "read.outlines.annotation"),
        *("infer.record", "infer.journal", "infer.results", "infer.pseudonyms"),
    ],
)
def test_what_reads_pictures_does_without_torch(module):
    told = subprocess.run(
        [sys.executable, "-c", f"import sys, xray_explain.{module}\nprint('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told == "False\n"


def test_processes_that_read_and_draw_start_light():
    "Each of them imports this before its first picture; tables took it four times as long"
    code = "import sys, xray_explain.infer.record\nprint(*{m.split('.')[0] for m in sys.modules})"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert not ((HEAVY - {"cv2"}) | {"openpyxl", "requests"}) & {*told.split()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "The sdist, the wheel made from it, and the wheel made from the repository, all without a network"
    place = tmp_path_factory.mktemp("dist")
    make = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"

    def run(kind, out, where):
        done = subprocess.run(
            [sys.executable, "-c", make, kind, place / out],
            cwd=where,
            capture_output=True,
            text=True,
            check=True,
        )
        return place / out / done.stdout.split()[-1]

    here = place / "here"
    here.mkdir()
    for name in ("xray_explain", "nbs", "tests"):
        shutil.copytree(
            ROOT / name,
            here / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"),
        )
    for file in ROOT.iterdir():
        if file.is_file() and file.name != ".git":
            shutil.copy(file, here)
    sdist = run("build_sdist", "sdist", here)
    with tarfile.open(sdist) as t:
        t.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    return sdist, run("build_wheel", "from_sdist", unpacked), run("build_wheel", "from_here", here)


def files(wheel):
    "What a wheel installs, by name, without its list of checksums"
    with zipfile.ZipFile(wheel) as z:
        return {n: z.read(n) for n in z.namelist() if not n.endswith("RECORD")}


def test_the_sdist_makes_the_same_wheel(built):
    sdist, second, first = built
    assert files(first) == files(second)
    names = set(files(first))
    assert {
        "xray_explain/py.typed",
        "xray_explain/models/bone_phantoms/bone_phantoms.safetensors",
        "xray_explain/models/bone_phantoms/NOTICE",
    } <= names
    assert {
        f"xray_explain/{p.relative_to(ROOT / 'xray_explain').as_posix()}"
        for p in (ROOT / "xray_explain" / "view" / "browser").rglob("*")
        if p.is_file()
    } <= names
    assert {
        f"xray_explain/report/notebooks/{p.name}"
        for p in (ROOT / "nbs" / "reports").glob("*.ipynb")
    } <= names
    modules = [p for kind in ("py", "pyi") for p in (ROOT / "xray_explain").rglob(f"*.{kind}")]
    assert {p.relative_to(ROOT).as_posix() for p in modules} <= names and len(modules) > 90
    assert [n for n in names if n.endswith("LICENSE")] and not [
        n for n in names if n.startswith(("tests", "nbs"))
    ]


def test_the_licence_and_the_citation_agree_with_the_package():
    about = dict(
        line.split(" = ", 1)
        for line in (ROOT / "settings.ini").read_text().splitlines()
        if " = " in line
    )
    citation = (ROOT / "CITATION.cff").read_text()
    assert (
        f"version: {about['version']}\n" in citation
        and about["author"] in citation
        and "license: Apache-2.0" in citation
    )
    assert (
        "Apache License" in (ROOT / "LICENSE").read_text()[:200] and about["license"] == "apache2"
    )


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda p: p.name
)
def test_workflows_are_pinned_and_may_do_little(path):
    text = path.read_text()
    told = yaml.safe_load(text)
    assert told["permissions"] == {"contents": "read"}
    used = re.findall(r"uses: (\S+)@(\S+)( # v\d+\.\d+\.\d+)?", text)
    loose = [
        name for name, version, tag in used if not (re.fullmatch("[0-9a-f]{40}", version) and tag)
    ]
    assert used and loose in ([], ["quarto-dev/quarto-actions/setup"])
    for job in told["jobs"].values():
        assert set(job.get("permissions", {})) <= {"pages", "id-token"}


def test_the_types_hold(tmp_path):
    "Signatures within the package, and a program that uses it, as the configuration in pyproject.toml has it"
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if "No module named mypy" in done.stderr:
        pytest.skip("needs mypy; pip install -e '.[dev]'")
    assert done.returncode == 0, done.stdout[-3000:]


def test_notebooks_keep_no_state_of_widgets_and_no_places():
    "A progress bar that once moved, a view with all that it was sent, folders of one machine"
    import nbformat

    paths = sorted((ROOT / "nbs").rglob("*.ipynb"))
    assert len(paths) > 80
    for path in paths:
        notebook = nbformat.read(path, 4)
        outputs = [o for c in notebook.cells for o in c.get("outputs", ())]
        kinds = {kind for o in outputs for kind in o.get("data", {})}
        assert "widgets" not in notebook.metadata, path
        assert not [kind for kind in kinds if "widget" in kind], path
        said = [str(o) for o in outputs if o.output_type == "stream"]
        assert not [text for text in said if "site-packages" in text or str(ROOT) in text], path


class Index(BaseHTTPRequestHandler):
    "A package index of two packages: a bound of the first lets in a weakness, that of the second does not"

    RELEASES = {"old": ["0.9", "1.0", "1.0.1", "2.0"], "new": ["3.0rc1", "3.0"]}
    WEAK = {("old", "1.0"): [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fixed_in": ["1.0.1"]}]}

    def do_GET(self):
        kind, name, *version = self.path.strip("/").split("/")
        if name not in self.RELEASES:
            return self.send_error(404)
        entries = self.WEAK.get((name, version[0] if version else ""), [])
        answer = {"versions": self.RELEASES[name], "vulnerabilities": entries}
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args):
        pass


@pytest.fixture
def index():
    "The address of an index on this machine"
    with ThreadingHTTPServer(("127.0.0.1", 0), Index) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    "bounds, status, shown",
    [
        ("old>=1", 1, "| old>=1 | 1.0 | PYSEC-1/CVE-1, gone in 1.0.1 |"),
        ("old>=1.0.1\n    new>=3", 0, "| new>=3 | 3.0 | none |"),
        ("old>=2\n    gone>=1", 2, "| gone>=1 | ? | could not be asked: HTTP Error 404"),
    ],
)
def test_floors_asks_about_the_lowest_version_that_a_bound_lets_in(
    bounds, status, shown, index, tmp_path
):
    "And what could not be asked is not called clean"
    (tmp_path / "settings.ini").write_text(f"[DEFAULT]\ndev_requirements =\n    {bounds}\n")
    command = [sys.executable, ROOT / "benchmarks" / "floors.py", "--pypi", index]
    run = subprocess.run(
        [*command, "--settings", tmp_path / "settings.ini"], capture_output=True, text=True
    )
    assert run.returncode == status, run.stderr
    assert shown in run.stdout


def test_versions_with_known_weaknesses_are_below_the_floors():
    "The table in SECURITY.md says which weakness each of these bounds keeps out, and the pins are above"
    text = (ROOT / "settings.ini").read_text()
    table = re.findall(r"^\| ([\w-]+) \| ([\d.]+) \|", (ROOT / "SECURITY.md").read_text(), re.M)
    pinned = dict(re.findall(r"^([\w-]+)==([\w.]+)", (ROOT / "constraints.txt").read_text(), re.M))
    assert len(table) >= 10
    for name, bound in table:
        assert re.search(rf"^    {name}(\[\w+\])?>={re.escape(bound)}$", text, re.M), name
        assert Version(pinned[name]) >= Version(bound), name
