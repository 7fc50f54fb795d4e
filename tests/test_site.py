"The documentation, built with the package from PyPI and walked through in a real browser."

import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from xray_explain.wording import RESEARCH_USE

ROOT = Path(__file__).parent.parent
SOURCES = (
    "nbs",
    "xray_explain",
    "results",
    "settings.ini",
    "_quarto.yml",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
)
# a page's own ids, its links, its pictures that are not there, and its mathematics
LOOK = """() => ({
    ids: [...document.querySelectorAll('[id]')].map((e) => e.id),
    links: [...document.querySelectorAll('a[href]')].map((e) => e.href),
    missing: [...document.images].filter((e) => !e.complete || !e.naturalWidth).map((e) => e.currentSrc.slice(0, 90)),
    pictures: document.images.length, formulas: document.querySelectorAll('math').length,
    text: document.body.textContent })"""


def absent(what):
    "A missing browser or builder is a failure in CI, elsewhere a reason to skip"
    pytest.fail(what) if os.environ.get("CI") == "true" else pytest.skip(what)


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    "The built site behind a server on this machine"
    try:
        import latex2mathml  # noqa: E401, F401
        import smalldocs  # noqa: F401
    except ImportError:
        absent("needs smalldocs and latex2mathml; pip install -e '.[dev]'")
    home = tmp_path_factory.mktemp("site")
    for name in SOURCES:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, home / name)
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / "build_site.py", "smalldocs"],
        cwd=home,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(home)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Silent, directory=home / "_docs")
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/", home / "_docs"
    server.shutdown()


@pytest.fixture(scope="module")
def walk(address, browser):
    "What every page holds, by its address; and every request that failed or was for another machine"
    home, place = address
    page, wrong, seen = browser.new_page(), [], {}
    page.on("request", lambda r: None if r.url.startswith((home, "data:")) else wrong.append(r.url))
    page.on("response", lambda r: None if r.status < 400 else wrong.append(f"{r.status} {r.url}"))
    page.on("pageerror", lambda e: wrong.append(f"{page.url}: {e}"))
    for file in sorted(place.rglob("*.html")):
        url = home + file.relative_to(place).as_posix()
        page.goto(url)
        seen[url] = page.evaluate(LOOK)
    page.close()
    return seen, wrong


def test_nothing_leaves_the_machine(walk):
    seen, wrong = walk
    assert len(seen) > 80 and not wrong


def test_no_link_is_broken(walk, address):
    seen, (home, place) = walk[0], address

    def broken(link):
        path, _, part = link.partition("#")
        path = path + "index.html" if path.endswith("/") else path
        if not path.startswith(home):
            return False
        if path not in seen:
            return not (place / path[len(home) :]).is_file()
        return bool(part) and part not in seen[path]["ids"] and not part.startswith(":~:")

    lost = {
        (url[len(home) :], link[len(home) :])
        for url, found in seen.items()
        for link in found["links"]
        if broken(link)
    }
    assert sum(len(found["links"]) for found in seen.values()) > 1000
    assert not lost, sorted(lost)[:20]


def test_the_sidebar_leads_to_every_page_of_every_room(walk, address):
    home, place = address
    reference = [p for p in place.glob("*/*.html") if p.parent.name[0].isdigit()]
    assert len(reference) > 70
    linked = {link.partition("#")[0] for link in walk[0][home + "index.html"]["links"]}
    away = [p for p in reference if home + p.relative_to(place).as_posix() not in linked]
    assert not away, away


def test_a_name_leads_to_its_own_room(walk, address):
    "`read` and `report` have an annotation page each, and nbdev links names to them"
    links = {link.removeprefix(address[0]) for found in walk[0].values() for link in found["links"]}
    assert "1_read/7_outlines/01_annotation.html#read_annotation" in links
    assert "8_report/04_annotation.html#annotation_report" in links


def test_no_picture_is_missing(walk):
    seen, _ = walk
    assert sum(found["pictures"] for found in seen.values()) > 60
    assert not {url: found["missing"] for url, found in seen.items() if found["missing"]}


def test_every_page_says_what_it_is_not_for(walk):
    seen, _ = walk
    assert not [url for url, found in seen.items() if RESEARCH_USE not in found["text"]]


def test_mathematics_needs_no_network(walk):
    seen, _ = walk
    formulas = {url: found["formulas"] for url, found in seen.items() if found["formulas"]}
    assert (
        max(n for url, n in formulas.items() if url.endswith("understand/identity.html")) >= 8
        and len(formulas) >= 4
    )
    assert not [
        url
        for url, found in seen.items()
        if re.search(r"\\(sum|frac|mu|begin)\b", found["text"].replace("sum(", ""))
    ]


def test_signatures_are_code(walk):
    seen, _ = walk
    assert (
        "def heatmap_of("
        in seen[next(url for url in seen if url.endswith("3_evidence/04_heatmap.html"))]["text"]
    )
    assert not [
        url
        for url, found in seen.items()
        if re.search(r"\]\(/[\d\w/]*\d\d_|\]\(https://xray-explain", found["text"])
    ]


def test_docstrings_are_text_and_in_order(walk, address):
    from xray_explain.report.gallery import save_contrast

    pages = {url.removeprefix(address[0]): found for url, found in walk[0].items()}
    assert save_contrast.__doc__.replace("`", "") in pages["8_report/06_gallery.html"]["text"]
    assert not [name for name, found in pages.items() if "Call self as a function" in found["text"]]
    names = [
        name
        for name in pages["99_cli.html"]["ids"]
        if name in ("phantom", "audit", "split", "train", "view")
    ]
    assert names == ["phantom", "audit", "split", "train", "view"]


@pytest.mark.parametrize("opened", ["served", "as a file"])
def test_search_finds_a_page(address, browser, opened):
    page = browser.new_page()
    page.goto(address[0] if opened == "served" else (address[1] / "index.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("pseudonym")
    page.get_by_role("link", name=re.compile("pseudonym", re.I)).first.wait_for(timeout=5000)
    page.close()


def test_dark_and_light(address, browser):
    "It follows the system, and the reader's own choice stays on the next page"
    bright = "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3"
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(address[0])
        assert (page.evaluate(bright) > 127) == (scheme == "light")
        page.locator(".quarto-color-scheme-toggle:visible").first.click()
        page.goto(address[0] + "CHANGELOG.html")
        assert (page.evaluate(bright) > 127) == (scheme == "dark")
        page.close()


def test_a_figure_can_be_enlarged(address, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.goto(address[0] + "understand/metrics.html")
    figure, large = page.locator("main img").first, page.locator("dialog.large-figure")
    figure.click()
    assert large.locator("img").bounding_box()["width"] > 1.3 * figure.bounding_box()["width"]
    page.keyboard.press("Escape")
    large.wait_for(state="hidden")
    page.close()


def test_the_bars_show_where_one_is(address, browser):
    page = browser.new_page(viewport={"width": 1200, "height": 700})
    page.goto(address[0] + "tutorials/view.html")
    assert page.locator(".navbar .nav-link.active").all_inner_texts() == ["Use it"]
    page.goto(address[0] + "99_cli.html")
    box = page.locator("#quarto-sidebar a.active").bounding_box()
    assert 60 < box["y"] < 700 - box["height"]
    page.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_are_as_wide_as_the_screen(address, browser, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    for name in (
        "index",
        "tutorials/first_heatmap",
        "understand/identity",
        "05_1_head",
        "reports/annotation",
        "MODEL_CARD",
    ):
        page.goto(f"{address[0]}{name}.html")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, name
        if keep := os.environ.get("XRAY_EXPLAIN_PICTURES"):
            page.screenshot(path=f"{keep}/{name.replace('/', '_')}_{width}.png")
    page.close()
