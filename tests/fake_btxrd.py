"A small BTXRD as it is downloaded: one zip with a top folder, nested annotations, a workbook and mixed extensions"

import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from xray_explain.data.phantom import write_phantoms


def grey(path):
    return cv2.imread(str(path), 0)


def write(path, pixels, quality=95):
    assert cv2.imwrite(
        str(path), np.clip(pixels, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )


def with_row(table, number, like, **changed):
    "The table with one row more, which is another's but for its number and what is changed"
    row = table.iloc[[like - 1]].assign(image_id=f"IMG{number:06d}.jpeg", **changed)
    return pd.concat([table, row], ignore_index=True)


def plant_doubles(folder, table):
    "Pictures 2, 3 and 4 once more: equal, smaller and saved again, brighter in another centre"
    images, n = folder / "images", len(table)
    shutil.copy(images / "IMG000002.jpeg", images / f"IMG{n + 1:06d}.jpeg")
    write(
        images / f"IMG{n + 2:06d}.jpeg",
        cv2.resize(
            grey(images / "IMG000003.jpeg"), None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA
        ),
        60,
    )
    write(images / f"IMG{n + 3:06d}.jpeg", 1.15 * grey(images / "IMG000004.jpeg") + 10.0)
    for new, old in ((n + 1, 2), (n + 2, 3)):
        table = with_row(table, new, old)
    table.loc[3, "center"] = 1
    return with_row(table, n + 3, 4, center=2)


def plant_faults(folder, table):
    "Rows and files that are wrong in the ways real ones are; the rows' numbers by fault"
    n, images, outlines = len(table), folder / "images", folder / "Annotations"
    table = with_row(table, n + 1, 5, malignant=1)  # both kinds
    table = with_row(table, n + 2, 1, tumor=1)  # neither kind
    table = with_row(table, n + 3, 1)  # no picture
    table = with_row(table, n + 4, 1)  # a picture that cannot be read
    for number in (n + 1, n + 2):
        write(
            images / f"IMG{number:06d}.jpeg",
            np.random.default_rng(number).integers(0, 255, (200, 160)),
        )
    (images / f"IMG{n + 4:06d}.jpeg").write_bytes((images / "IMG000001.jpeg").read_bytes()[:300])
    # in no row
    (images / "IMG000999.jpeg").write_bytes(cv2.imencode(".jpg", np.eye(64) * 200)[1].tobytes())
    # of no picture
    (outlines / "IMG000998.json").write_text((outlines / "IMG000005.json").read_text())
    larger = json.loads((outlines / "IMG000006.json").read_text())
    larger["imageWidth"] *= 2
    (outlines / "IMG000006.json").write_text(json.dumps(larger))
    return table, {"both": n + 1, "neither": n + 2, "absent": n + 3, "unreadable": n + 4}


def write_btxrd(
    place: Path, per_class=12, seed=41, size=200, faults=True, top="BTXRD"
) -> tuple[Path, dict]:
    "The zip, and the numbers of the rows that are wrong"
    folder = write_phantoms(place / "made", per_class, seed, size, workers=1, progress=False)
    shutil.rmtree(folder / "twins")
    (folder / "phantoms.csv").unlink()  # what remains cannot be told from BTXRD
    table, wrong = plant_doubles(folder, pd.read_csv(folder / "dataset.csv")), {}
    if faults:
        table, wrong = plant_faults(folder, table)
    (folder / "dataset.csv").unlink()
    table.to_excel(folder / "dataset.xlsx", index=False)
    for number in (7, 8):
        (folder / "images" / f"IMG{number:06d}.jpeg").rename(
            folder / "images" / f"IMG{number:06d}.jpg"
        )
    with zipfile.ZipFile(place / "BTXRD.zip", "w") as z:
        z.write(folder / "dataset.xlsx", f"{top}/dataset.xlsx")
        for path in sorted((folder / "images").iterdir()):
            z.write(path, f"{top}/images/{path.name}")
        for path in sorted((folder / "Annotations").iterdir()):
            z.write(path, f"{top}/Annotations/Annotations/{path.name}")
        z.writestr(f"__MACOSX/{top}/._dataset.xlsx", "x")
        z.writestr(f"{top}/.DS_Store", "x")
    shutil.rmtree(folder)
    return place / "BTXRD.zip", wrong
