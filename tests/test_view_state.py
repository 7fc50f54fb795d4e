"Every word, control and pane of the view is a function of its state: random walks against a fresh view in the same state."

import base64
import json
import random
import re
from dataclasses import replace
from difflib import ndiff

import cv2
import numpy as np
import pytest
import torch
from test_view import BROWSER, browser  # noqa: F401

from xray_explain.evidence.cam import explain
from xray_explain.evidence.regions import regions_of, share_text
from xray_explain.files import six_digits
from xray_explain.infer.inference import infer_folder, infer_radiographs
from xray_explain.model.checkpoint import Checkpoint, build_net, load_checkpoint
from xray_explain.read.geometry import INTERPOLATIONS, Geometry
from xray_explain.read.outlines.annotation import Annotation, Lesion, write_annotation
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.radiograph import read_radiograph
from xray_explain.view import session as session_module
from xray_explain.view.look import COLOURS, LOOK
from xray_explain.view.session import Session
from xray_explain.view.widget import InferenceView, joined_modules

# `render` on a model that lives in the page; what it sends waits in `sent`, what Python says comes by `deliver`
MOUNT = """async (state) => {
    const { render } = (await import("/view.js")).default, heard = {}, el = document.createElement("div");
    window.sent = [];
    const fire = (event, ...args) => (heard[event] ?? []).forEach((react) => react(...args));
    let changed = {};
    const model = { get: (name) => state[name], off() {},
        set(name, value) {
            if (JSON.stringify(state[name]) === JSON.stringify(value)) return;
            state[name] = changed[name] = value;
            fire(`change:${name}`);
        },
        save_changes() { sent.push({ set: changed }); changed = {}; },
        send(message, _, buffers = []) {
            sent.push({ message, buffers: buffers.map((b) => [...new Uint8Array(b)]) }); },
        on(event, react) { (heard[event] ??= []).push(react); } };
    const view = (text) => new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
    window.deliver = (news) => { for (const { set, message, buffers } of news) {
        if (message) { fire("msg:custom", message, buffers.map(view)); continue; }
        for (const [name, value] of Object.entries(set)) { state[name] = value; fire(`change:${name}`); }
    } };
    document.body.dataset.voila = "voila";
    document.body.style.margin = 0;
    document.head.innerHTML = '<link rel="stylesheet" href="/view.css">';
    await new Promise((done) => { document.querySelector("link").onload = done; });
    document.body.append(el);
    render({ model, el });
}"""
TAKE = "() => { const sent = window.sent; window.sent = []; return sent; }"
DRAWN = (
    "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
)
# all that is seen: words, controls with their choices, bars, pictures
SEEN = """() => { const root = document.querySelector(".xe"), all = (s) => [...root.querySelectorAll(s)];
    return { classes: root.className.replace(/ ?xe-drop/, ""), text: root.innerText,
        hidden: all(".xe-none, .xe-cross").map((e) => [e.hidden, e.textContent]),
        controls: all("input:not([type=file]), select, fieldset, meter").map((e) => [e.name ?? e.ariaLabel, e.type,
            e.value, !!e.checked, !!e.disabled, [...(e.options ?? [])].map((o) => [o.text, o.disabled])]),
        panes: all("canvas").map((c) => c.toDataURL()), bar: all(".xe-bar").map((e) => e.style.cssText) }; }"""
DROP = """(files) => { const data = new DataTransfer();
    for (const [name, bytes] of files) data.items.add(new File([new Uint8Array(bytes)], name));
    document.querySelector(".xe").dispatchEvent(
        new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })); }"""
SET = """([name, value]) => { const control = document.querySelector(`.xe [name="${name}"]` +
        (name === "class_idx" ? `[value="${value}"]` : ""));
    if (control.disabled || control.closest("fieldset:disabled")) return;
    if (typeof value === "boolean" || name === "class_idx") control.checked = name === "class_idx" || value;
    else control.value = value;
    control.dispatchEvent(new Event("input", { bubbles: true })); }"""


class Watched:
    "A view in a page, without a server: messages and traits go both ways whenever they are `pumped`"

    def __init__(self, page, view):
        self.page, self.view, self.out = page, view, []
        view.send = lambda message, buffers=(): self.out.append(
            {"message": message, "buffers": [base64.b64encode(b).decode() for b in buffers]}
        )
        view.observe(lambda c: self.out.append({"set": {c["name"]: c["new"]}}), list(LOOK))
        page.route("http://view.test/*", self.answer)
        page.goto("http://view.test/")
        page.evaluate(MOUNT, {name: getattr(view, name) for name in LOOK})
        self.pump()

    def answer(self, route):
        path = BROWSER / route.request.url.rsplit("/", 1)[1]
        kinds = {".js": "text/javascript", ".css": "text/css; charset=utf-8"}
        if path.suffix in kinds:
            route.fulfill(path=path, content_type=kinds[path.suffix])
        else:
            route.fulfill(body="<!doctype html>", content_type="text/html")

    def hear(self, sent):
        for name, value in sent.get("set", {}).items():
            self.view.set_trait(name, tuple(value) if isinstance(value, list) else value)
        if "message" in sent:
            buffers = [memoryview(bytes(b)) for b in sent["buffers"]]
            self.view.safely(self.view.hear, sent["message"], buffers)

    def pump(self):
        "Let both sides say all that they have to say"
        for _ in range(50):
            sent = self.page.evaluate(TAKE)
            for item in sent:
                self.hear(item)
            news, self.out = self.out, []
            self.page.evaluate("(news) => deliver(news)", json.loads(json.dumps(news)))
            self.page.evaluate(DRAWN)
            if not (sent or news or self.view.coming):
                return
        raise AssertionError("they never fall silent")

    def seen(self):
        return self.page.evaluate(SEEN)

    def text(self, selector):
        return self.page.locator(f".xe {selector}").first.text_content()


def png(pixels):
    return cv2.imencode(".png", pixels)[1].tobytes()


def small(rng, kind=np.uint8):
    return rng.integers(0, 256, (90, 70)).astype(kind)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "A folder of small pictures, two outlined, one that is none"
    folder, rng = tmp_path_factory.mktemp("films"), np.random.default_rng(7)
    (folder / "images").mkdir()
    (folder / "Annotations").mkdir()
    for name in ("a.png", "b.png", "d.png"):
        (folder / "images" / name).write_bytes(png(small(rng)))
    (folder / "images" / "c.png").write_bytes(png(small(rng))[:300])
    ring = np.array([[10, 20], [60, 20], [60, 80], [10, 80]], float)
    for name in ("a", "d"):
        lesion = Annotation((Lesion("tumor", "polygon", ring),), (90, 70), f"{name}.png")
        write_annotation(folder / "Annotations" / f"{name}.json", lesion)
    return folder


@pytest.fixture(scope="module")
def checkpoints():
    "Three classes; two of which only the demo can tell strange pictures; findings; a file that is not there"
    torch.manual_seed(0)
    classes = Checkpoint(
        build_net("test_efficientnet", 3).eval(),
        "test_efficientnet",
        ("Normal", "Benign", "Malignant"),
        Preprocessing(size=(64, 64)),
        evidence_scale=(1.0, 1.0, 1.0),
    )
    two = replace(
        classes, net=build_net("test_efficientnet", 2).eval(), class_names=("no", "yes"), name="two"
    )
    two.evidence_scale = (1.0, 1.0)
    findings = replace(classes, activation="sigmoid", name="findings")
    return [classes, load_checkpoint("bone_phantoms"), two, findings, "absent.safetensors"]


@pytest.fixture(autouse=True)
def a_method_that_fails(monkeypatch):
    real = session_module.other_maps

    def other_maps(inference, method, as_read=None):
        if method == "layercam":
            raise ValueError("it has no layer")
        return real(inference, method, as_read)

    monkeypatch.setattr(session_module, "other_maps", other_maps)


class Walk:
    "Random things that a reader does, by the controls of the page"

    METHODS = ("gradcam", "gradcam", "hirescam", "layercam", "eigencam")

    def __init__(self, watched, checkpoints, seed):
        self.watched, self.view, self.checkpoints = watched, watched.view, checkpoints
        self.rng, self.done = random.Random(seed), []
        self.strange = png(small(np.random.default_rng(seed)))

    def choose(self, name, value):
        self.watched.page.evaluate(SET, [name, value])

    def step(self):
        acts = [
            *[self.picture, self.method, self.class_or_rival] * 3,
            *[self.number, self.switch, self.key] * 2,
            *[self.own_file, self.letter, self.two_files, self.large, self.classifier, self.save],
        ]
        act = self.rng.choice(acts)
        self.done.append(act.__name__)
        act()
        self.watched.pump()

    def picture(self):
        self.choose("case_idx", self.rng.randrange(len(self.view.entries)))

    def method(self):
        self.choose("method", self.rng.choice(self.METHODS))

    def class_or_rival(self):
        names = self.view.checkpoint.class_names if self.view.checkpoint else ()
        if self.rng.random() < 0.5 and names:
            self.choose("class_idx", self.rng.randrange(len(names)))
        elif names and self.view.checkpoint.activation != "sigmoid":
            self.choose("versus", self.rng.randrange(-1, len(names)))

    def number(self):
        name, values = self.rng.choice(
            [
                ("threshold", (0.05, 0.2, 0.5, 0.9)),
                ("opacity", (0.2, 0.55, 1)),
                ("window", (0.4, 1)),
                ("level", (0.3, 0.5)),
                ("zoom", (1, 2.5)),
            ]
        )
        self.choose(name, self.rng.choice(values))

    def switch(self):
        name, values = self.rng.choice(
            [
                ("scale", ("absolute", "image")),
                ("interpolation", INTERPOLATIONS),
                ("colours", tuple(COLOURS)),
                ("contour", (True, False)),
                ("outline", (True, False)),
            ]
        )
        self.choose(name, self.rng.choice(values))

    def key(self):
        keys = ("PageDown", "PageUp", "+", "-", "0", "c", "o", "1", "2", "Shift+ArrowLeft")
        self.watched.page.keyboard.press(self.rng.choice(keys))

    def drop(self, *files):
        self.watched.page.evaluate(DROP, [[name, list(data)] for name, data in files])

    def own_file(self):
        self.drop(("own.png", self.strange))

    def letter(self):
        self.drop(("letter.txt", b"dear colleague"))

    def two_files(self):
        self.drop(("one.png", b"x"), ("two.png", b"y"))

    def large(self):
        message = {"kind": "begin", "name": "large.dcm", "size": 2 * 10**8, "count": 1}
        self.view.safely(self.view.hear, message, [])

    def classifier(self):
        self.view.use(self.rng.choice(self.checkpoints))

    def save(self):
        self.view.safely(self.view.export, self.rng.choice(["png", "json"]))


def same_state(view, films):
    "A fresh view, put into the state of another"
    fresh = InferenceView(view.checkpoint or "absent.safetensors", films)
    if view.case_idx < 0 and view._own:
        fresh.look_at(view._own.source, view._own.name)
    fresh.turn(case_idx=view.case_idx)
    fresh.turn(**{name: value for name, value in view.turned.items() if name != "case_idx"})
    if view.notice:
        fresh._refuse(view.notice)
    return fresh


def differences(one, other):
    "Where two screens differ; of texts the lines"
    unlike = {name: (one[name], other[name]) for name in one if one[name] != other[name]}
    if "text" in unlike:
        lines = [text.splitlines() for text in unlike["text"]]
        unlike["text"] = [line for line in ndiff(*lines) if line[0] in "+-"]
    return unlike


def walked(browser, films, checkpoints, seed, steps, every):  # noqa: F811
    "Walk, and compare with a fresh view now and then"
    pages = [browser.new_page(viewport={"width": 900, "height": 700}) for _ in range(2)]
    faults = []
    pages[0].on("pageerror", lambda e: faults.append(str(e)))
    walk = Walk(Watched(pages[0], InferenceView(checkpoints[0], films)), checkpoints, seed)
    kinds = set()
    for n in range(1, steps + 1):
        walk.step()
        if n % every == 0 or n == steps:
            fresh = Watched(pages[1], same_state(walk.view, films))
            fresh.view.turn(pane=walk.view.pane)
            unlike = differences(walk.watched.seen(), fresh.seen())
            assert not unlike, (seed, n, walk.done[-every:], str(unlike)[:2000])
            kinds.add((bool(walk.view.examined), bool(walk.view.error)))
    assert not faults, faults
    for page in pages:
        page.close()
    return kinds


def test_every_word_and_pane_is_of_the_picture_and_the_controls_shown(
    browser,  # noqa: F811
    films,
    checkpoints,
):
    walked(browser, films, checkpoints, seed=3, steps=24, every=6)


def test_a_large_picture_gives_the_numbers_of_a_run_over_its_folder(checkpoints, tmp_path):
    "By a checkpoint that reads a large JPEG at a part of its size; by every way into the view"
    reduced = Preprocessing(size=(64, 64), reading="reduced")
    checkpoint = replace(checkpoints[0], preprocessing=reduced, temperature=0.01)
    rng, folder = np.random.default_rng(5), tmp_path / "films"
    folder.mkdir()
    grey = cv2.resize(rng.integers(0, 256, (300, 240)).astype(np.uint8), (960, 1200), None, 0, 0, 0)
    (folder / "large.jpg").write_bytes(cv2.imencode(".jpg", grey)[1].tobytes())
    (record,), _ = infer_folder(checkpoint, folder, tmp_path / "out", gradcam=False, progress=False)
    whole = infer_radiographs(checkpoint, [read_radiograph(folder / "large.jpg")])[0]
    assert six_digits(whole.record)["scores"] != record["scores"], "both readings are one"
    session = Session()
    session.start(checkpoint, folder)
    ways = [
        lambda: session,
        lambda: session.look_at(folder / "large.jpg"),
        lambda: session.look_at((folder / "large.jpg").read_bytes(), "large.jpg"),
        lambda: session.use(checkpoints[0]).use(checkpoint),
    ]
    for way in ways:
        shown = json.loads(json.dumps(six_digits(way().inference.record)))
        assert shown == {name: record[name] for name in shown}, session.error
    assert session.film.pixels.shape == (1200, 960)
    canvas = reduced.tensor(reduced.read(folder / "large.jpg"))[None]
    layers = explain(checkpoint, canvas, method="gradcam++").evidence[0].numpy()
    np.testing.assert_allclose(session.turn(method="gradcam++").maps.local, layers, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_every_word_and_pane_after_long_walks(browser, films, checkpoints, seed):  # noqa: F811
    kinds = walked(browser, films, checkpoints, seed, steps=120, every=1)
    assert {(True, False), (False, True)} <= kinds


REGIONS = """([code, cases]) => {
    const { regionsOf, shareText } = new Function(`${code}; return { regionsOf, shareText };`)();
    return cases.map(([grid, shape, level]) => regionsOf(Float32Array.from(grid), shape, level)
        .map(({ share, cells }) => [share, shareText(share), cells]));
}"""


def test_the_browser_divides_a_map_as_python_does(browser):  # noqa: F811
    "Regions, shares and extents in cells; the canvas is one pixel for each cell, so that a box of pixels is one of cells"
    rng = np.random.default_rng(0)
    maps = [
        cv2.GaussianBlur(rng.normal(size=(h, w)).astype(np.float32), (0, 0), 1)
        for h, w in ((32, 32), (9, 20))
    ]
    maps += [np.zeros((3, 3), np.float32), np.float32([[0, 4, 5, 0], [4, 0, 0, -9], [0, 0, 3, 0]])]
    cases = [(grid, level) for grid in maps for level in (0.3, 0.6, 4.0)]
    asked = [[grid.ravel().tolist(), grid.shape, level] for grid, level in cases]
    page = browser.new_page()
    seen = page.evaluate(REGIONS, [joined_modules("regions.js"), json.loads(json.dumps(asked))])
    page.close()
    numbers = set()
    for (grid, level), of_browser in zip(cases, seen):
        of_python = regions_of(grid, level, Geometry(grid.shape, grid.shape))
        numbers.add(len(of_python))
        assert len(of_python) == len(of_browser)
        for region, (share, text, cells) in zip(of_python, of_browser):
            assert abs(region.share - share) < 1e-5 and tuple(cells) == region.box
            assert text == share_text(region.share)
    assert {0, 1, 2} <= numbers and max(numbers) > 9


def test_a_pane_numbers_the_regions_inside_its_contour(browser, checkpoints, films):  # noqa: F811
    "Tags come and go with the contour, follow the slider, and are not for a picture unlike the training"
    view = InferenceView(checkpoints[0], films)
    page = browser.new_page(viewport={"width": 900, "height": 700})
    watched = Watched(page, view)
    drawn = (
        "() => { const said = []; const fill = CanvasRenderingContext2D.prototype.fillText; "
        "CanvasRenderingContext2D.prototype.fillText = function (text, ...at) { said.push(text); fill.call(this, text, ...at); };"
        "window.saidOnPanes = () => said.splice(0); }"
    )
    page.evaluate(drawn)

    def said(**look):
        view.turn(**look)
        watched.pump()
        page.evaluate("() => saidOnPanes()")
        view.turn(opacity=0.9 if view.opacity < 0.8 else 0.5)
        watched.pump()
        return page.evaluate("() => saidOnPanes()")

    many, few = said(scale="image", threshold=0.2), said(threshold=0.9)
    for texts, threshold in ((many, 0.2), (few, 0.9)):
        view.turn(threshold=threshold)
        expected = [
            f"{n}: {share_text(r.share)}" for n, r in enumerate(view.maps.regions(view)[:9], 1)
        ]
        assert texts[: len(expected)] == expected, (texts, expected)
    assert many != few and said(contour=False) == []
    page.close()


def drawn_line(panes) -> int:
    "How much white a contour adds to a pane, of two pictures with it and without"
    lined, plain = (pane.astype(int).min(2) for pane in panes)
    white = ((lined > 200) & (plain < 150)).astype(np.uint8)
    tags = cv2.morphologyEx(white, cv2.MORPH_CLOSE, np.ones((9, 9)))  # words on white boxes
    tags = cv2.dilate(cv2.morphologyEx(tags, cv2.MORPH_OPEN, np.ones((11, 11))), np.ones((5, 5)))
    return int((lined - plain).clip(0)[tags == 0].sum() / 255)


@pytest.mark.parametrize("style", ["solid", "dashed", "dotted"])
def test_a_contour_is_as_sure_as_the_model(style, browser, checkpoints, films):  # noqa: F811
    "Solid from the point of high specificity on, dashed between the two, dotted below; Python draws the same"
    sensitive, specific = {"solid": (0, 0.001), "dashed": (0, 1), "dotted": (1, 1)}[style]
    second = {"threshold": specific, "rule": "specificity 0.95"}
    checkpoint = replace(checkpoints[0], operating_points={"Benign": {"threshold": sensitive}})
    view = InferenceView(checkpoint, films)
    page = browser.new_page(viewport={"width": 900, "height": 700})
    watched = Watched(page, view)
    view.turn(class_idx=1, scale="image", threshold=0.5, opacity=0.0, window=2.0, level=1.0)

    def canvas():
        data = page.evaluate("() => document.querySelector('[data-pane=overlay]').toDataURL()")
        return cv2.imdecode(np.frombuffer(base64.b64decode(data.split(",")[1]), np.uint8), 1)

    def lines(sure: bool) -> list[int]:
        "In the browser and by Python; all of the line, or as it is drawn here"
        checkpoint.operating_points["Benign"]["specific"] = None if sure else second
        view.case_idx, case = -1, view.case_idx
        view.turn(case_idx=max(case, 0), class_idx=1)
        view.turn(scale="image", threshold=0.5, opacity=0.0, window=2.0, level=1.0, outline=False)
        counts = []
        for pane in (canvas, lambda: view.panes()[1]):
            both = []
            for contour in (True, False):
                view.turn(contour=contour)
                watched.pump()
                both.append(pane())
            counts.append(drawn_line(both))
        return counts

    whole, drawn = lines(True), lines(False)
    words = watched.text(".xe-notes")
    for all_of_it, part in zip(whole, drawn):
        assert all_of_it > 40
        expected = {"solid": (0.99, 1.01), "dashed": (0.45, 0.8), "dotted": (0.1, 0.5)}[style]
        assert expected[0] <= part / all_of_it <= expected[1], (whole, drawn)
    side = {"solid": ("above", "above"), "dashed": ("above", "below"), "dotted": ("below", "")}
    first, second_side = side[style]
    assert f"is {first} the operating point" in words
    told = re.findall(r", and (above|below) [<>0-9. ]+ for", words)
    assert told == ([second_side] if second_side else []), words
    page.close()
