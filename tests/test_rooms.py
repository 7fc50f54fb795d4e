"Where lines live and how dense they are: arrows point down, and the front door opens onto every room."

import ast
import importlib
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "xray_explain"
sys.path.insert(0, str(ROOT / "tools"))

import grain  # noqa: E402

HEAVY = {
    *("torch", "torchvision", "timm", "pandas", "scipy", "sklearn", "skimage", "matplotlib"),
    *("papermill", "cv2", "pydicom", "pyarrow", "numpy", "PIL"),
}


def place(source: str) -> tuple[int, ...]:
    "Numbers of the room, of a room in it and of the notebook; the command line is above all rooms"
    told = re.search(r"File to edit: (?:\.\./)+nbs/((?:\d+_\w+/)*\d+_\w+)\.ipynb", source)
    numbers = tuple(int(part.split("_")[0]) for part in told[1].split("/"))
    if len(numbers) == 1:
        return (99 if numbers[0] == 99 else 0), *numbers
    return numbers


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    return grain.arrows()


def test_imports_are_seen_in_every_form():
    modules = {"files", "draw.page", "draw.overlay", "read.pixels", "read.dicom", "infer.folder"}
    source = """
from ..files import (
    atomic_path,
    write_json,
)
from xray_explain.read.pixels import by_range
from . import overlay
import xray_explain.infer.folder
def late():
    from ..read import dicom as reader
    import numpy
    from .gallery import nothing_that_is_a_module_here
"""
    assert grain.imported(source, "draw.page", modules) == modules - {"draw.page"}


def test_every_arrow_points_down(arrows):
    "Rooms in the order of their numbers, notebooks in a room in the order of theirs"
    assert sum(map(len, arrows.values())) > 250, "the parser sees too little"
    at = {name: place(text) for name, text in grain.modules().items()}
    up = [f"{a} imports {b}" for a, used in arrows.items() for b in used if at[b] >= at[a]]
    assert not up, up


def test_there_is_no_circle(arrows):
    "Of modules, nor of rooms"
    TopologicalSorter(arrows).prepare()
    TopologicalSorter(grain.rooms(arrows)).prepare()


def test_numbers_are_those_of_one_notebook():
    "Each number once in a folder, and a notebook is called as its module"
    at = [place(text) for text in grain.modules().values()]
    assert len(at) == len(set(at))
    for name, text in grain.modules().items():
        notebook = re.search(r"File to edit: (?:\.\./)+nbs/(\S+)\.ipynb", text)[1]
        assert re.sub(r"\b\d+_", "", notebook).replace("/", ".") == name


def test_no_module_goes_through_the_front_door():
    "Rooms import from rooms; the version alone is taken from the package itself, in one place"
    for name, text in grain.modules().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom):
                front = node.module == "xray_explain" or (
                    not node.module and node.level == 1 + name.count(".")
                )
                taken = [alias.name for alias in node.names] if front else []
                assert not taken or (name, taken) == ("files", ["__version__"]), f"{name}: {taken}"


def public_names() -> list[str]:
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
    return [a.asname for node in stub.body if isinstance(node, ast.ImportFrom) for a in node.names]


def test_the_front_door_opens_onto_every_room():
    import xray_explain as xe

    assert set(xe.__all__) == {*public_names(), "__version__"}
    assert {*public_names()} <= {*dir(xe)}
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text("utf-8"))
    rooms = {node.module.split(".")[0] for node in stub.body if isinstance(node, ast.ImportFrom)}
    assert rooms == {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").is_file()}
    assert all(re.search(rf"^    {room} ", xe.__doc__, re.M) for room in rooms)
    for node in stub.body:
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(f"xray_explain.{node.module}")
            for alias in node.names:
                assert getattr(xe, alias.name) is getattr(module, alias.name)
    with pytest.raises(AttributeError, match="no_such_thing"):
        xe.no_such_thing


def test_the_front_door_is_light():
    "The best of five starts, less that of an empty Python: below 0.3 s, and nothing heavy comes along"
    code = "import sys, time; t = time.perf_counter(); import xray_explain; print(time.perf_counter() - t); print(*sys.modules)"
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(5)
    ]
    seconds, loaded = zip(*(run.stdout.split("\n")[:2] for run in runs))
    assert min(map(float, seconds)) < 0.3
    assert not HEAVY & {name.split(".")[0] for name in loaded[0].split()}


@pytest.mark.parametrize(
    "old", ["cam", "model", "infer", "dataset", "engine", "report", "readers", "output"]
)
def test_old_places_are_gone(old):
    "Not kept as aliases: a name that is now a room holds nothing but the room"
    found = PACKAGE / f"{old}.py"
    assert not found.exists()
    room = PACKAGE / old / "__init__.py"
    assert not room.exists() or not room.read_text("utf-8").strip()


def test_the_grain(arrows):
    "What CONTRIBUTING promises; `python tools/grain.py` shows the figures"
    sources = grain.modules().values()
    assert grain.floors(grain.rooms(arrows)) <= 9
    assert grain.nodes_a_line(sources) <= 14
    assert grain.wide_share(sources) <= 0.06
    assert grain.tall_share() <= 0.05
    assert grain.javascript_functions()[0][0] <= 40
    assert all(n <= 10 for room, n in grain.entries().items() if room != "measure")


def test_the_grain_is_measured():
    "By hand: two lines with 4 and 10 nodes; one wide line of five; three floors"
    source = 'def f(x):\n    "Words"\n    y = 1\n    return (x + 1) * y\n\n\n# ' + "-" * 100 + "\n"
    assert grain.nodes_a_line([source]) == (4 + 10) / 2
    wide = "x = " + "1 + " * 30 + "1\n"
    assert grain.wide_share([source + wide]) == 1 / 5
    assert grain.floors({"a": set(), "b": {"a"}, "c": {"a", "b"}}) == 3
    assert grain.rooms({"a.x": {"a.y", "b"}, "a.y": set(), "b": set()}) == {"a": {"b"}, "b": set()}


def test_the_shortest_use_in_the_docstring_works(tmp_path, monkeypatch):
    import cv2

    import xray_explain as xe

    code = xe.__doc__.split("\n\nNames")[0].split("\n\n", 1)[1]
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("knee.png", (xe.make_phantom(3, "Benign", size=200).image * 255).astype("uint8"))
    names: dict = {}
    exec("\n".join(line.removeprefix("    ") for line in code.splitlines()), names)
    assert names["inference"].prediction in names["checkpoint"].class_names
    size = names["checkpoint"].preprocessing.size
    assert names["x"].shape == (1, 3, *size)
