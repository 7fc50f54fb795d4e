"What objects say of themselves, names that are not there, lists that come from one row, and help()"

import dataclasses
import importlib.util
import inspect
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

import xray_explain as xe
from xray_explain.display import SIDE
from xray_explain.infer.verdict import UNLIKE_TRAINING
from xray_explain.wording import RESEARCH_USE

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import grain  # noqa: E402

LARGE = re.compile(r"ndarray|Tensor|DataFrame|Series|Module|Checkpoint|Study|Inference|\bbytes\b")


def modules():
    return [importlib.import_module(f"xray_explain.{name}") for name in grain.modules()]


def fields_of(cls: type) -> dict[str, str]:
    "Fields of a dataclass that its repr shows, or of a named tuple, with their annotations"
    if dataclasses.is_dataclass(cls):
        return {f.name: str(f.type) for f in dataclasses.fields(cls) if f.repr}
    return {name: str(cls.__annotations__.get(name)) for name in getattr(cls, "_fields", ())}


def writes_everything(cls: type) -> bool:
    "Whether its repr is the one that dataclass or NamedTuple made"
    code = inspect.unwrap(cls.__repr__).__code__
    return code.co_filename.startswith("<") or code.co_filename.endswith("/collections/__init__.py")


def test_a_generated_repr_is_recognised():
    @dataclasses.dataclass
    class Plain:
        a: np.ndarray

    @dataclasses.dataclass
    class Short:
        a: np.ndarray

        def __repr__(self):
            return "Short"

    @dataclasses.dataclass
    class Hidden:
        a: np.ndarray = dataclasses.field(repr=False)

    assert not fields_of(Hidden)
    assert writes_everything(Plain) and not writes_everything(Short)
    assert fields_of(Plain) == {"a": str(np.ndarray)} and LARGE.search(str(np.ndarray))


def test_no_public_class_writes_out_what_it_holds():
    "Arrays, tables, networks and what holds them are no text"
    classes = {
        cls
        for module in modules()
        for name, cls in vars(module).items()
        if inspect.isclass(cls) and cls.__module__ == module.__name__ and not name.startswith("_")
    }
    held = {c: [n for n, kind in fields_of(c).items() if LARGE.search(kind)] for c in classes}
    assert sum(map(bool, held.values())) > 20, "the search sees too little"
    loud = {f"{c.__name__}: {names}" for c, names in held.items() if names and writes_everything(c)}
    assert not loud, sorted(loud)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    "Pictures, an outline, tables and a checkpoint, by the names that the docstrings use"
    folder = tmp_path_factory.mktemp("home")
    xe.write_phantoms(folder / "set", per_class=2, seed=3, size=160, workers=1, progress=False)
    (folder / "set" / "images").rename(folder / "pictures")
    (folder / "pictures").rename(folder / "set" / "images")
    phantom = xe.make_phantom(3, "Malignant", size=200)
    cv2.imwrite(str(folder / "knee.png"), (phantom.image * 255).astype("uint8"))
    noise = np.random.default_rng(0).integers(0, 256, (200, 300), dtype=np.uint8)
    cv2.imwrite(str(folder / "noise.png"), noise)
    outline = sorted((folder / "set" / "Annotations").iterdir())[0]
    (folder / "knee.json").write_bytes(outline.read_bytes())
    return folder


@pytest.fixture(scope="module")
def objects(home) -> dict:
    checkpoint = xe.load_checkpoint("bone_phantoms")
    film = xe.read_radiograph(home / "knee.png")
    cases = xe.read_cases(home / "set", checkpoint.class_names)
    x = checkpoint.preprocessing.tensor(film)[None]
    return {
        "Checkpoint": checkpoint,
        "Radiograph": film,
        "Cases": cases,
        "Annotation": xe.read_annotation(home / "knee.json"),
        "Explanation": xe.explain(checkpoint, x),
        "Inference": xe.infer_image(checkpoint, home / "knee.png"),
        "Study": xe.examine(checkpoint, cases, progress=False),
        "InferenceView": xe.InferenceView(checkpoint),
    }


def test_every_object_of_the_front_door_says_in_a_line_or_two_what_it_is(objects):
    classes = {name for name in xe.__all__ if inspect.isclass(getattr(xe, name))}
    assert set(objects) == classes - {"RadiographError"}
    for name, thing in objects.items():
        text = repr(thing)
        assert len(text) < 300 and text.count("\n") <= 1, (name, text)
    assert "knee.png" in repr(objects["Inference"]) and "200 x 200" in repr(objects["Radiograph"])
    worth = objects["Checkpoint"].worth_short
    assert "Normal, Benign, Malignant" in repr(objects["Checkpoint"])
    for name in ("Checkpoint", "Study", "Inference"):
        assert worth in repr(objects[name])
    text = repr(objects["Inference"])
    assert text.index(worth) < text.index("Malignant 0."), "its worth stands before a verdict"


class Card(HTMLParser):
    def __init__(self, html: str):
        super().__init__()
        self.images: list[dict] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))

    def handle_data(self, data):
        self.text += data + "\n"


@pytest.mark.parametrize("name", ["Inference", "Radiograph", "Explanation", "Study"])
def test_a_notebook_shows_a_small_picture_and_what_is_to_be_said(objects, name):
    import base64

    html = objects[name]._repr_html_()
    card = Card(html)
    assert card.tags <= {"div", "img", "strong", "b", "br", "small"}
    assert card.images and RESEARCH_USE in card.text and len(html) < 120_000
    for image in card.images:
        assert len(image["alt"]) > 10
        png = base64.b64decode(image["src"].removeprefix("data:image/png;base64,"))
        assert max(cv2.imdecode(np.frombuffer(png, np.uint8), 0).shape) <= SIDE
    assert not re.search(r"background|color:\s*[^;\"]*#|black|white", html), "the page's colours"
    if name != "Radiograph":
        worth = objects["Checkpoint"].worth_short.split(":")[0]
        assert "phantom" in worth and "phantom" in card.text


def test_a_flagged_picture_says_so_first(objects, home):
    strange = xe.infer_image(objects["Checkpoint"], home / "noise.png")
    assert strange.unlike_training
    lines = [line for line in Card(strange._repr_html_()).text.splitlines() if line.strip()]
    assert lines[0] == "noise.png" and lines[1].startswith(UNLIKE_TRAINING)
    assert repr(strange).startswith(f"Inference('noise.png': {UNLIKE_TRAINING}")
    assert not any("calibrated" in line or "operating point" in line for line in lines)
    x = objects["Checkpoint"].preprocessing.tensor(strange.radiograph)[None]
    card = Card(xe.explain(objects["Checkpoint"], x)._repr_html_())
    assert any(line.startswith(f"{UNLIKE_TRAINING} · ") for line in card.text.splitlines())


def test_what_a_file_is_called_cannot_become_markup(objects):
    name = "<img src=x onerror=alert(1)>.png"
    film = dataclasses.replace(objects["Radiograph"], name=name)
    inference = dataclasses.replace(objects["Inference"], radiograph=film)
    cases = dataclasses.replace(objects["Study"].cases, name="<script>", kind="plain")
    study = dataclasses.replace(objects["Study"], cases=cases)
    for thing in (film, inference, study):
        card = Card(thing._repr_html_())
        assert "script" not in card.tags and all("onerror" not in image for image in card.images)
    assert name in Card(film._repr_html_()).text


def test_a_class_is_asked_for_by_name_or_index_and_an_unknown_one_is_named(objects):
    checkpoint, inference = objects["Checkpoint"], objects["Inference"]
    x = checkpoint.preprocessing.tensor(objects["Radiograph"])[None]
    study = objects["Study"]
    probs, truth = study.probs, study.y_true
    from xray_explain.evidence.heatmap import contrast_of, heatmap_of

    shape = inference.radiograph.shape
    ways = {
        "heatmap": inference.heatmap,
        "overlay": inference.overlay,
        "explain": lambda c: xe.explain(checkpoint, x, classes=c).evidence,
        "several": lambda c: xe.explain(checkpoint, x, classes=[0, c]).evidence,
        "generate_gradcam": lambda c: xe.generate_gradcam(checkpoint, x, c),
        "heatmap_of": lambda c: heatmap_of(checkpoint, inference.centred, c, shape),
        "contrast_of": lambda c: contrast_of(checkpoint, inference.centred, c, 0, shape),
        "against": lambda c: contrast_of(checkpoint, inference.centred, 0, c, shape),
    }
    there = "there are Normal (0), Benign (1), Malignant (2)"
    for name, way in ways.items():
        assert np.array_equal(np.asarray(way("Malignant")), np.asarray(way(np.int64(2)))), name
        for wrong in ("malignant ", "M", 3, -1, 2.0, True):
            with pytest.raises(ValueError) as caught:
                way(wrong)
            line = str(caught.value)
            assert there.casefold() in line.casefold() and "\n" not in line, (name, wrong, line)
        with pytest.raises(ValueError, match="did you mean 'Malignant'?"):
            way("malignent")
    for k in (3, -1):
        with pytest.raises(ValueError, match="unknown class"):
            xe.select_examples(truth, truth, probs, k)


def test_the_view_takes_a_class_by_its_name(objects):
    view = objects["InferenceView"]
    view.turn(class_idx="Benign", versus="Normal")
    assert (view.class_idx, view.versus) == (1, 0)
    there = r"There are Normal \(0\), Benign \(1\), Malignant \(2\)"
    with pytest.raises(ValueError, match=f"'Malignent', did you mean 'Malignant'. {there}"):
        view.turn(class_idx="Malignent")
    with pytest.raises(Exception, match=r"class_idx: unknown class '3'; there are Normal \(0\)"):
        view.turn(class_idx=3)
    assert (view.class_idx, view.versus) == (1, 0)


@pytest.mark.parametrize(
    "ask,named",
    [
        (lambda: xe.make_phantom(1, "Malignent"), "did you mean 'Malignant'? There are Normal, "),
        (lambda: xe.run_report("galery"), "did you mean 'gallery'? There are "),
        (
            lambda: xe.run_report("gallery", noramlize="image"),
            "did you mean 'normalize'? There are ",
        ),
    ],
)
def test_whatever_is_asked_for_by_name_is_answered_with_the_nearest(ask, named):
    with pytest.raises((ValueError, RuntimeError)) as caught:
        ask()
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_options_that_name_something_say_what_there_is(objects):
    from xray_explain.draw.encoding import overlay_suffix
    from xray_explain.infer.folder import Options
    from xray_explain.model.checkpoint import CheckpointError, build_net
    from xray_explain.model.recipe import Recipe
    from xray_explain.read.preprocessing import Preprocessing
    from xray_explain.view.look import colour_levels

    x = objects["Checkpoint"].preprocessing.tensor(objects["Radiograph"])[None]
    nearest = {
        "'stretch'": lambda: Preprocessing(fit="strech"),
        "'clahe'": lambda: Preprocessing(contrast="CLAHE"),
        "'reduced'": lambda: Preprocessing(reading="reduce"),
        "'absolute'": lambda: objects["Inference"].heatmap(0, "absolut"),
        "'overlap'": lambda: Recipe(form="overlaps"),
        "'bf16'": lambda: Options(precision="bfp16"),
        "'jpeg'": lambda: overlay_suffix("jpg"),
        "'viridis'": lambda: colour_levels("Viridis"),
        "'body.blocks.6.0.conv_pw'": lambda: xe.explain(
            objects["Checkpoint"], x, layer="body.blocks.6.0.conv-pw"
        ),
    }
    for name, ask in nearest.items():
        with pytest.raises(ValueError, match=f"did you mean {name}") as caught:
            ask()
        assert " There are " in str(caught.value), caught.value
    with pytest.raises(CheckpointError, match="did you mean 'resnet50'?"):
        build_net("resnet_50", 2)


def again(name: str, monkeypatch):
    "A module that is run once more, beside the one that others use"
    former = importlib.import_module(f"xray_explain.{name}")
    path, twin = former.__file__, f"xray_explain.{name}_again"
    spec = importlib.util.spec_from_file_location(twin, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, twin, module)
    spec.loader.exec_module(module)
    return module


def test_a_method_is_added_in_one_row(objects, monkeypatch):
    "explain, its errors, the view's list, the report's rows and colours"
    from xray_explain.evidence.library import METHODS, Method
    from xray_explain.measure.baselines import MAP_WORDS
    from xray_explain.report import faithfulness

    assert MAP_WORDS["gradcam"].name == METHODS["gradcam"].title
    monkeypatch.setitem(METHODS, "mycam", Method("My CAM", "LayerCAM", "7 forward"))
    checkpoint = objects["Checkpoint"]
    x = checkpoint.preprocessing.tensor(objects["Radiograph"])[None]
    ours, theirs = (
        xe.explain(checkpoint, x, method=method, classes="Benign").evidence
        for method in ("mycam", "layercam")
    )
    assert ours.abs().max() > 0 and bool((ours == theirs).all())
    with pytest.raises(ValueError, match="unknown method 'my cam', did you mean 'mycam'.*, mycam$"):
        xe.explain(checkpoint, x, method="my cam")
    look = again("view.look", monkeypatch)
    assert look.METHODS_SHOWN["mycam"] == "My CAM" and look.Look(method="mycam").method == "mycam"
    compared = again("measure.methods", monkeypatch).METHODS
    assert (compared["mycam"].title, compared["mycam"].cost) == ("My CAM", "7 forward")
    monkeypatch.setattr(faithfulness, "METHODS", compared)
    assert faithfulness._styles()["mycam"].label == "My CAM"
    assert "mycam" in faithfulness.subset_sizes(2, 2, 2, True, 2)


def test_help_on_the_package_names_what_is_there():
    import pydoc

    from xray_explain.guide import EXAMPLES

    named = set(re.findall(r"\w+", xe.__doc__.split("Names, by what")[1].split("Rooms, each")[0]))
    assert {*xe.__all__} - {"__version__"} <= named
    assert set(EXAMPLES) == {*xe.__all__} - {"__version__"}
    page = pydoc.plaintext.document(xe.explain)
    assert "x: (B, 3, H, W) normalised pictures" in page
    assert 'method="gradcam++"' in page and page.count("Example:") == 1
    for name in EXAMPLES:
        doc = getattr(xe, name).__doc__
        assert doc.count("Example:") == 1 and max(map(len, doc.splitlines())) <= 110, name
    fields = xe.Radiograph.__doc__
    assert "Fields:" in fields and "pixels: (H, W) float32 in [0, 1]" in fields
    assert "Returns:" in xe.read_cases.__doc__ or "Parameters:" in xe.read_cases.__doc__


def test_the_tab_key_finds_names():
    from IPython.core.completer import IPCompleter

    completer = IPCompleter(namespace={"xe": xe})
    completer.use_jedi = False  # whose answers differ from one version to the next
    found = {name.split(".")[-1] for name in completer.complete("xe.read_")[1]}
    assert {"read_radiograph", "read_annotation", "read_cases"} <= found
    inference = {name for name in dir(xe.Inference) if not name.startswith("_")}
    assert {"heatmap", "overlay", "verdict", "record", "peak"} <= inference


def examples() -> list:
    from xray_explain.guide import EXAMPLES

    slow = {"run_report"}
    return [
        pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in EXAMPLES
    ]


@pytest.mark.parametrize("name", examples())
def test_the_example_of_each_name_runs(home, objects, name, monkeypatch):
    from xray_explain.guide import EXAMPLES

    monkeypatch.chdir(home)
    if name != "load_checkpoint":  # which takes as long as most of them
        monkeypatch.setattr(xe, "load_checkpoint", lambda: objects["Checkpoint"], raising=False)
    exec(EXAMPLES[name], {"xe": xe})
