"""How long from a control to the changed picture, and from a new file to its result? Measured inside the browser.

    python benchmarks/view_latency.py --rounds 20 --size 2000 1500

Serves the view with two phantoms of that size as JPEG files, and drives Chromium through Playwright on software
rendering. A control's time runs from its event to the first frame after the picture was drawn.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

from xray_explain.data.phantom import make_phantom

TIMED = """async ([act, done]) => {
    const root = document.querySelector('.xe'), frame = () => new Promise(requestAnimationFrame);
    const before = { drawn: Number(root.dataset.drawn), name: root.querySelector('[data-caption=plain]').textContent };
    const drawn = () => Number(root.dataset.drawn) > before.drawn, start = performance.now();
    eval(act);
    do await frame(); while (!eval(done) && performance.now() - start < 20000);
    await frame();
    if (!eval(done)) throw new Error(`nothing changed: ${act}`);
    return performance.now() - start;
}"""
SET = """const c = root.querySelector('[name=%s]'); c.value = '%s'; c.dispatchEvent(new Event('input', { bubbles: true }))"""
NEW = "root.querySelector('[data-caption=plain]').textContent !== before.name && drawn() && !root.classList.contains('xe-waits')"
CONTROLS = {
    "class": ("class_idx", None),
    "against": ("versus", [1, 2]),
    "opacity": ("opacity", [0.3, 0.7]),
    "threshold": ("threshold", [0.3, 0.6]),
    "scale": ("scale", ["image", "absolute"]),
    "colours": ("colours", ["cividis", "plasma"]),
    "window": ("window", [0.6, 0.9]),
    "level": ("level", [0.4, 0.6]),
    "zoom": ("zoom", [2, 4]),
}


def arguments():
    parser = argparse.ArgumentParser(
        allow_abbrev=False,
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=20,
        help="changes of each control, and new pictures (default 20)",
    )
    parser.add_argument(
        "--size", type=int, nargs=2, default=[2000, 1500], metavar=("WIDTH", "HEIGHT")
    )
    parser.add_argument(
        "--screen", type=int, nargs=2, default=[1920, 1080], metavar=("WIDTH", "HEIGHT")
    )
    return parser.parse_args()


def films(folder, size):
    "Two phantoms as JPEG files of this width and height"
    for i, label in enumerate(("Benign", "Malignant")):
        image = cv2.resize(
            np.float32(make_phantom(60_000_001 + i, label, 1024).image),
            size,
            interpolation=cv2.INTER_CUBIC,
        )
        cv2.imwrite(str(folder / f"film{i}.jpg"), np.clip(image * 255, 0, 255).astype(np.uint8))


def timed(page, act, done="drawn()"):
    return page.evaluate(TIMED, [act, done])


def control_times(page, name, values, rounds):
    "Milliseconds of each change of a control; the first phantom is shown as Benign, so the classes begin with the next"
    if values is None:
        click = "root.querySelectorAll('[name=class_idx]')[%d].click()"
        return [timed(page, click % ((i + 2) % 3)) for i in range(rounds)]
    return [timed(page, SET % (name, values[i % 2])) for i in range(rounds)]


def upload_time(page, path):
    "Milliseconds from the choice of a file to its picture with its result"
    page.evaluate("""() => { const root = document.querySelector('.xe'), input = root.querySelector('input[type=file]');
        window.start = 0; input.addEventListener('change', () => { window.start = performance.now(); }, { capture: true, once: true }); }""")
    name = page.locator("[data-caption=plain]").text_content()
    page.set_input_files(".xe input[type=file]", path)
    return page.evaluate(
        """async (name) => { const root = document.querySelector('.xe');
        do await new Promise(requestAnimationFrame);
        while (root.querySelector('[data-caption=plain]').textContent === name || root.classList.contains('xe-waits'));
        await new Promise(requestAnimationFrame);
        return performance.now() - window.start; }""",
        name,
    )


def measure(page, folder, rounds):
    "Milliseconds by what was done"
    times = {name: control_times(page, *control, rounds) for name, control in CONTROLS.items()}
    step = "root.querySelector(`[data-step='%d']`).click()"
    times["next picture"] = [
        timed(page, step % (1 if i % 2 == 0 else -1), NEW) for i in range(rounds)
    ]
    uploads = [folder / f"own{i}.jpg" for i in range(2)]
    for i, own in enumerate(uploads):
        shutil.copy(folder / f"film{i}.jpg", own)
    times["own file"] = [upload_time(page, uploads[i % 2]) for i in range(rounds)]
    return times


@contextmanager
def shown(data, screen):
    "The view of a folder of phantoms, on a page of this width and height"
    command = [Path(sys.executable).parent / "xray-explain", "view", "--no-browser"]
    command += ["--data", data, "--checkpoint", "bone_phantoms"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        url = next(
            found[0]
            for line in iter(server.stdout.readline, "")
            if (found := re.search(r"http://127\S+", line))
        )
        with sync_playwright() as p:
            chromium = p.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
            )
            page = chromium.new_page(viewport=dict(zip(("width", "height"), screen)))
            page.goto(url, timeout=180_000)
            page.wait_for_selector(".xe-verdict b", timeout=180_000)
            page.wait_for_timeout(1000)
            yield page
            chromium.close()
    finally:
        server.terminate()
        server.wait()


def main():
    args = arguments()
    with tempfile.TemporaryDirectory() as folder:
        films(Path(folder), args.size)
        with shown(folder, args.screen) as page:
            times = measure(page, Path(folder), args.rounds)
    print(
        f"{args.size[0]} x {args.size[1]} JPEG, screen {args.screen[0]} x {args.screen[1]}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, {args.rounds} rounds; milliseconds: least, median, 90th percentile"
    )
    for name, values in times.items():
        print(
            f"{name:14s} {min(values):7.0f} {statistics.median(values):7.0f} {np.quantile(values, 0.9):7.0f}"
        )
    every = [v for name in CONTROLS for v in times[name]]
    print(
        json.dumps(
            {
                "control_median_ms": round(statistics.median(every)),
                "next_picture_median_ms": round(statistics.median(times["next picture"])),
                "own_file_median_ms": round(statistics.median(times["own file"])),
            }
        )
    )


if __name__ == "__main__":
    main()
