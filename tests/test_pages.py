"Pages in a browser: nothing is fetched, dark and narrow screens, pictures that enlarge, paper."

import re
from collections import Counter
from io import BytesIO

import nbformat
import pandas as pd
import pytest
from IPython.display import Image as Shown
from PIL import Image

from xray_explain.report.webpage import Captioned, Headline, as_html, shown_cell, text_cell
from xray_explain.wording import RESEARCH_USE

# WCAG 2.2, 1.4.3, of every piece of text and what lies behind it
CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) {
    const c = numbers(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; }
    return [255, 255, 255]; };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), seen = [];
  while (walker.nextNode()) { const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.checkVisibility()) continue;
    const pair = [numbers(getComputedStyle(e).color), behind(e)].map(light).sort((a, b) => b - a);
    seen.push([e.tagName, (pair[0] + 0.05) / (pair[1] + 0.05)]); }
  return {seen, ground: light(behind(document.body))}; }"""


def picture(colour, size=(1400, 500)):
    "A picture of one colour, as a report shows one"
    Image.new("RGB", size, colour).save(data := BytesIO(), "PNG")
    return Shown(data.getvalue(), alt=f"Colour {colour}. A plain picture.")


def written(folder, *cells):
    "The address of a page of these cells"
    path = folder / "page.html"
    path.write_text(as_html(nbformat.v4.new_notebook(cells=list(cells))), encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    "A page with whatever a page can hold"
    wide = pd.DataFrame({f"measure {i}": ["0.93 (0.91 to 0.95)"] * 4 for i in range(12)})
    return written(
        tmp_path_factory.mktemp("page"),
        text_cell("# A page\n\n[A link](#Tables), `code`, and text."),
        shown_cell(Headline("Nine of **ten**.", "a_network", "films")),
        text_cell("## Pictures"),
        shown_cell(picture("#336699"), picture("#996633")),
        text_cell("## Tables"),
        shown_cell(wide, Captioned(wide, "Another of them"), "a" * 300),
        text_cell("![leak](https://example.org/a.png) <script>document.title = 'ran'</script>"),
    )


@pytest.fixture
def opened(browser, everything):
    "Opens the page in a window: addresses it asked for are in `page.asked`, with what came of it"
    windows = []

    def open_in(**options):
        windows.append(window := browser.new_context(offline=True, **options))
        page = window.new_page()
        page.asked = {}
        page.on("request", lambda request: page.asked.setdefault(request.url, ""))
        page.on("requestfailed", lambda r: page.asked.update({r.url: r.failure}))
        page.goto(everything)
        return page

    yield open_in
    for window in windows:
        window.close()


def test_a_page_fetches_nothing_and_runs_nothing(opened, everything):
    "What an output asks for is refused by the page's own policy"
    page = opened()
    others = {url: end for url, end in page.asked.items() if not url.startswith("data:")}
    assert others == {everything: "", "https://example.org/a.png": "csp"}
    assert page.title() == "A page · films · a_network"
    assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(opened, scheme):
    page = opened(color_scheme=scheme)
    for enlarged in (False, True):
        if enlarged:
            page.locator(".enlarge").first.click()
        found = page.evaluate(CONTRAST)
        assert len(found["seen"]) > 100
        assert not [tag for tag, ratio in found["seen"] if ratio < 4.5]
    assert (found["ground"] < 0.05) == (scheme == "dark")


def test_a_narrow_screen_scrolls_only_down(opened):
    page = opened(viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    boxes = [image.bounding_box() for image in page.locator("figure img").all()]
    assert all(box["x"] >= 0 and 350 < box["width"] <= 390 for box in boxes), boxes
    tables = page.locator(".table")
    for i in range(tables.count()):
        assert tables.nth(i).evaluate("e => e.scrollWidth > e.clientWidth + 400")
        tables.nth(i).evaluate("e => e.scrollTo(10000, 0)")
        assert tables.nth(i).evaluate("e => e.scrollLeft") > 400


def test_a_picture_is_enlarged_by_tap_and_by_keyboard(opened):
    page = opened(viewport={"width": 390, "height": 844}, has_touch=True)
    image, large = page.locator("figure img").first, page.locator(":popover-open")
    page.touchscreen.tap(195, image.bounding_box()["y"] + 40)  # on the picture, not its button
    assert large.count() == 1 and image.bounding_box()["width"] == 1400
    large.evaluate("e => e.scrollTo(10000, 0)")
    assert large.evaluate("e => e.scrollLeft") > 1000
    page.get_by_role("button", name="Close").tap()
    assert large.count() == 0 and image.bounding_box()["width"] < 390
    button = page.get_by_role("button", name="Enlarge: Colour #996633")
    height = page.evaluate("document.documentElement.scrollHeight")
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("figure").nth(1).locator(":popover-open img").is_visible()
    assert abs(page.evaluate("document.documentElement.scrollHeight") - height) <= 2  # same place
    page.keyboard.press("Escape")
    assert large.count() == 0
    assert button.evaluate("e => e === document.activeElement")


def printed(browser, address):
    "The text of each sheet, and how many pictures are on it"
    pypdf = pytest.importorskip("pypdf", reason="needs pypdf; pip install -e '.[dev]'")
    page = browser.new_page(color_scheme="dark")
    page.goto(address)
    sheets = pypdf.PdfReader(BytesIO(page.pdf(prefer_css_page_size=True))).pages
    page.close()
    assert {round(float(side) / 72 * 25.4) for side in sheets[0].mediabox[2:]} == {210, 297}
    return [(sheet.extract_text(), len(sheet.images)) for sheet in sheets]


def test_headings_stay_with_their_pictures_on_paper(browser, tmp_path):
    "Sections of many lengths: the heading, its words and the whole picture are on one sheet"
    cells = []
    for n in range(12):
        cells.append(text_cell("\n\n".join(f"filled {i}" for i in range(3 + 5 * n % 11))))
        more = "More about it." if n % 2 else ""
        cells.append(text_cell(f"## Heading-{n}-\n\n{more}\n\nWords-{n}- before a picture."))
        cells.append(shown_cell(picture((20 * n, 100, 100), (900, 400))))
    sheets = printed(browser, written(tmp_path, *cells))
    assert len(sheets) > 4 and sum(pictures for _, pictures in sheets) == 12
    for text, pictures in sheets:
        headings, words = (set(re.findall(rf"{w}-(\d+)-", text)) for w in ("Heading", "Words"))
        assert headings == words and len(headings) == pictures, text
        assert RESEARCH_USE in text and re.search(rf"\d+ / {len(sheets)}", text)


def test_rows_are_whole_on_paper(browser, tmp_path):
    "Of a long table, which has its header on every sheet; a short one is not torn at all"
    words = "and " * 60
    long = pd.DataFrame({"long-head": [f"from-{i}- {words} until-{i}-" for i in range(60)]})
    short = pd.DataFrame({"short-head": [f"short-{i}-" for i in range(12)]})
    cells = [cell for _ in range(6) for cell in (text_cell("A short one:"), shown_cell(short))]
    page = written(tmp_path, text_cell("## Long"), shown_cell(Captioned(long, "All")), *cells)
    sheets = [text for text, _ in printed(browser, page)]
    assert len(sheets) > 4
    for text in sheets:
        begun, ended = (set(re.findall(rf"{word}-(\d+)-", text)) for word in ("from", "until"))
        assert begun == ended and bool(begun) == ("long-head" in text), text
        rows = Counter(re.findall(r"short-(\d+)-", text))
        assert set(rows.values()) <= {text.count("short-head")} and len(rows) in (0, 12), text


def test_wide_tables_fit_on_paper(opened):
    "182 mm of A4, at 96 pixels an inch, hold a table of eight columns with intervals"
    page = opened(viewport={"width": 688, "height": 900})
    page.emulate_media(media="print")
    page.evaluate(
        "document.querySelectorAll('tr').forEach((row) => "
        "[...row.children].slice(9).forEach((cell) => cell.remove()))"
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
