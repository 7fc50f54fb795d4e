"The page of all cases in a browser: sorted, filtered and enlarged without a network, with 60 cases and with 4,000."

import csv
import json
import re
import time
from pathlib import Path

import pytest

from xray_explain.measure.order import ORDERS
from xray_explain.report.webpage import as_html, interactive, shown_cell, text_cell
from xray_explain.view import all_cases
from xray_explain.view.worklist import listed_names
from xray_explain.wording import UNLIKE_TRAINING

FORMULA = "=1+1.jpeg"


def cases_page(folder: Path, number: int) -> Path:
    "A page of made-up cases with four pictures in turn: three classes, every tenth wrong, every 25th unlike the training"
    import nbformat
    import numpy as np
    import pandas as pd
    from IPython.display import HTML

    classes = np.array(["Benign", "Malignant", "Normal"])
    n = np.arange(number)
    label, wrong = classes[n % 3], n % 10 == 3
    iou = np.where(label == "Normal", np.nan, (n * 7 % 100) / 100)
    figures = pd.DataFrame(
        {
            # the second wrong one's name is what a spreadsheet would take for a formula
            "image_id": [FORMULA if i == 13 else f"IMG{i}.jpeg" for i in n],
            "label": label,
            "prediction": np.where(wrong, classes[(n + 1) % 3], label),
            "confidence": 0.4 + (n * 13 % 599) / 1000,
            "right": ~wrong,
            "iou": iou,
            "hit": np.where(np.isnan(iou), np.nan, iou > 0.3),
            "area": iou / 10,
            "unlike": n % 25 == 7,
        }
    )
    side = all_cases.picture_side(number)
    noise = np.random.default_rng(0)
    drawn = [
        all_cases._webp(
            np.kron(noise.integers(0, 256, (8, 8, 3)), np.ones((side // 8,) * 2 + (1,))).astype(
                np.uint8
            )
        )
        for _ in range(4)
    ]
    table = pd.DataFrame(
        {
            "image_id": figures.image_id,
            "site": np.where(n % 2, "<b>knee</b>", "hip"),
            "age": n % 80,
            "-shift": n - 30,
        }
    )

    class Made:
        cases = type("Table", (), {"table": table})

    Made.table = table
    data = all_cases.page_data(Made, figures, [drawn[i % 4] if i else "" for i in n])
    page = as_html(
        nbformat.v4.new_notebook(
            cells=[text_cell("# All cases"), shown_cell(HTML(all_cases._TABLE))]
        )
    )
    place = folder / f"{number}.html"
    page = interactive(page, all_cases._script(), all_cases._style(), {"cases-data": data})
    place.write_text(page, encoding="utf-8")
    figures.to_pickle(place.with_suffix(".pickle"))
    return place


@pytest.fixture(scope="module")
def sixty(tmp_path_factory):
    return cases_page(tmp_path_factory.mktemp("sixty"), 60)


def opened(browser, place: Path, **options):
    "The page in a window that notes whatever it asks for and complains about"
    page = browser.new_context(offline=True, accept_downloads=True, **options).new_page()
    page.heard = []
    page.on("console", lambda message: page.heard.append(message.text))
    page.on("pageerror", lambda error: page.heard.append(str(error)))
    page.on("request", lambda r: r.url.startswith("data:") or page.heard.append(r.url))
    page.goto(place.as_uri())
    page.wait_for_selector("#cases tbody tr .thumb")
    return page


def column(page, name: str) -> list[str]:
    return page.locator(f'#cases tbody td[data-label="{name}"]').all_inner_texts()


def test_sorted_filtered_enlarged(browser, sixty, tmp_path):
    page = opened(browser, sixty)
    counted = page.locator(".dt-info")
    assert counted.inner_text() == "60 of 60 cases, 1 to 25 shown"
    # worst first: six wrong ones, the surest before all, then right ones by overlap
    assert column(page, "Right")[:7] == ["wrong"] * 6 + ["right"]
    sure = [float(p) for p in column(page, "Confidence")[:6]]
    assert sure == sorted(sure, reverse=True)
    assert column(page, "site")[:1] in (["hip"], ["<b>knee</b>"]), "cells are text, not HTML"

    # by a column, by keyboard: what has no overlap is last either way
    order = page.locator("thead th", has_text="Overlap").locator(".dtcc-button_order")
    order.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("th[aria-sort=ascending]")
    rising = [float(v) for v in column(page, "Overlap (IoU)")]
    assert rising == sorted(rising) and rising[0] == 0
    page.keyboard.press("Enter")
    page.wait_for_selector("th[aria-sort=descending]")
    falling = [float(v) for v in column(page, "Overlap (IoU)")]
    assert falling == sorted(falling, reverse=True) and falling[0] > 0.9
    assert page.get_by_label("Order of cases").input_value() == ""

    # by a list of a column's values
    page.locator("thead th", has_text="Right").locator(".dtcc-button_dropdown").click()
    page.locator(".dtcc-dropdown .dtcc-list-buttons button", has_text="wrong").click()
    page.keyboard.press("Escape")
    assert counted.inner_text() == "6 of 60 cases, 1 to 6 shown"
    assert set(column(page, "Right")) == {"wrong"}

    # these, in their order, are what is saved
    with page.expect_download() as download:
        page.get_by_role("button", name="Save these cases as CSV").click()
    download.value.save_as(tmp_path / "cases.csv")
    rows = list(csv.DictReader((tmp_path / "cases.csv").read_text("utf-8-sig").splitlines()))
    files = column(page, "File")
    assert [row["image_id"] for row in rows] == [f"'{f}" if f == FORMULA else f for f in files]
    assert FORMULA in files and listed_names(tmp_path / "cases.csv") == files
    assert all(float(row["confidence"]) > 0 for row in rows), "numbers stay numbers"
    assert [int(row["'-shift"]) for row in rows] == [int(v) for v in column(page, "-shift")]
    assert {row["right"] for row in rows} == {"wrong"} and "picture" not in rows[0]

    # large, from case to case, and back
    page.locator(".thumb").nth(1).click()
    words = page.locator("#large p")
    assert words.inner_text().startswith(f"2 of 6 cases. File: {column(page, 'File')[1]}")
    page.keyboard.press("ArrowRight")
    assert words.inner_text().startswith("3 of 6 cases.")
    assert page.locator("#large img").evaluate("e => e.complete && e.naturalWidth") == 400
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()

    page.get_by_role("button", name="Clear all filters").click()
    assert counted.inner_text().startswith("60 of 60")
    page.get_by_role("searchbox").fill("UNLIKE")
    assert counted.inner_text() == "3 of 60 cases, 1 to 3 shown"  # 7, 32, 57
    assert page.locator("tr.untrusted").count() == 3
    assert set(column(page, "Trust")) == {UNLIKE_TRAINING}
    assert page.heard == [sixty.as_uri()], page.heard


def test_orders_of_the_view_are_those_of_the_page(browser, sixty):
    import pandas as pd

    from xray_explain.measure.order import case_order

    figures, page = pd.read_pickle(sixty.with_suffix(".pickle")), opened(browser, sixty)
    choice = page.get_by_label("Order of cases")
    for order in ORDERS:
        choice.select_option(label=f"{order}: {ORDERS[order]}")
        assert column(page, "File") == figures.image_id[case_order(figures, order)[:25]].tolist()


def test_for_everybody(browser, sixty):
    "By the rules for accessible pages, in light and dark; on a phone; on paper"
    import axe_playwright_python

    axe = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page = opened(browser, sixty, bypass_csp=True)
    page.evaluate(axe)
    for colours in ("light", "dark"):
        page.emulate_media(color_scheme=colours)
        rules = "" if colours == "light" else "{runOnly: ['color-contrast']}"
        broken = page.evaluate(f"() => axe.run({rules})")["violations"]
        assert not broken, [(v["id"], v["nodes"][0]["html"]) for v in broken]
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.emulate_media(media="print")
    assert not page.get_by_role("button", name="Columns").is_visible()


def test_the_script_is_the_one_that_the_policy_names(browser, sixty, tmp_path):
    text = sixty.read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text) or re.search(
        r'content="([^"]+)" http-equiv="Content-Security-Policy"', text
    )
    assert policy[1].startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    )
    (tmp_path / "changed.html").write_text(
        text.replace("// A page of all cases", "// Another"), encoding="utf-8"
    )
    page = browser.new_page()
    page.goto((tmp_path / "changed.html").as_uri())
    assert page.locator("#cases").count() == 0


@pytest.mark.slow
def test_four_thousand(browser, tmp_path):
    place = cases_page(tmp_path, 4000)
    assert place.stat().st_size < 40e6
    start = time.perf_counter()
    page = opened(browser, place)
    assert time.perf_counter() - start < 30
    assert page.locator(".dt-info").inner_text() == "4000 of 4000 cases, 1 to 25 shown"
    assert page.locator("#cases tbody img").count() <= 25
    page.get_by_role("searchbox").fill("IMG123")
    assert page.locator(".dt-info").inner_text().startswith("11 of 4000")
    assert json.loads(page.locator("#cases-data").text_content())["rows"][0][1] == "IMG0.jpeg"
    assert page.heard == [place.as_uri()], page.heard
