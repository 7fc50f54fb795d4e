"""Make the sample of real films that comes with the package, from FracAtlas as it is downloaded.

    python tools/fracatlas_sample.py fracatlas split.csv xray_explain/samples/fractures.zip

The split file is that of `xray-explain split fracatlas --label fractured:0=Normal,1=Fractured`. Of its test
films that are whole and small enough, 20 of each class are taken by the order of a digest of their names, so
nobody chose them by how they look or by what a model says of them.
"""

import argparse
import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from pathlib import Path

CLASSES = {"0": "Normal", "1": "Fractured"}
FOLDERS = {"0": "Non_fractured", "1": "Fractured"}
OUTLINES = "Annotations/COCO JSON/COCO_fracture_masks.json"
LARGEST = 40_000  # bytes of a film
NOTICE = """Forty radiographs of FracAtlas, unchanged, with their outlines, and a part of its table.

Abedeen, I., Rahman, M.A., Prottyasha, F.Z. et al.: FracAtlas: A Dataset for Fracture Classification,
Localization and Segmentation of Musculoskeletal Radiographs. Scientific Data 10, 521 (2023),
doi 10.1038/s41597-023-02432-4; data: doi 10.6084/m9.figshare.22363012.
Licence: Creative Commons Attribution 4.0 International (CC BY 4.0),
https://creativecommons.org/licenses/by/4.0/. Changes: a selection was made, and the columns label and split
were added to the table.
"""


def digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def is_whole(film: bytes) -> bool:
    "Whether a JPEG ends with its marker; about 60 of the data set are cut off"
    return film.rstrip(b"\0").endswith(b"\xff\xd9")


def chosen(rows: list[dict], folder: Path, split: dict[str, str], of_each: int) -> list[dict]:
    "So many films of each class, by the order of their digests"
    films = []
    for value in CLASSES:
        of_class = [r for r in rows if r["fractured"] == value and split[r["image_id"]] == "test"]
        ordered = sorted(of_class, key=lambda row: digest(row["image_id"]))
        fitting = [row for row in ordered if _fits(_path(folder, row).read_bytes())]
        films += fitting[:of_each]
    return sorted(films, key=lambda row: row["image_id"])


def _path(folder: Path, row: dict) -> Path:
    return folder / "images" / FOLDERS[row["fractured"]] / row["image_id"]


def _fits(film: bytes) -> bool:
    return len(film) <= LARGEST and is_whole(film)


def table_of(rows: list[dict]) -> str:
    text = io.StringIO()
    written = [{**row, "label": CLASSES[row["fractured"]], "split": "test"} for row in rows]
    writer = csv.DictWriter(text, written[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(written)
    return text.getvalue()


def outlines_of(rows: list[dict], folder: Path) -> str:
    "The data set's COCO file with these films only"
    whole = json.loads((folder / OUTLINES).read_text(encoding="utf-8"))
    names = {row["image_id"] for row in rows}
    images = [image for image in whole["images"] if image["file_name"] in names]
    numbers = {image["id"] for image in images}
    parts = [part for part in whole["annotations"] if part["image_id"] in numbers]
    return json.dumps({**whole, "images": images, "annotations": parts})


def write_zip(path: Path, members: Iterable[tuple[str, bytes]]):
    "The same bytes whenever it is made"
    with zipfile.ZipFile(path, "w") as zipped:
        for name, data in members:
            kind = zipfile.ZIP_STORED if name.endswith(".jpg") else zipfile.ZIP_DEFLATED
            info = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            zipped.writestr(info, data, kind)


def main():
    parser = argparse.ArgumentParser(allow_abbrev=False, description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("split_file", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    with open(args.split_file, encoding="utf-8", newline="") as f:
        split = {row["image_id"]: row["split"] for row in csv.DictReader(f)}
    with open(args.folder / "dataset.csv", encoding="utf-8", newline="") as f:
        rows = [row for row in csv.DictReader(f) if row["image_id"] in split]
    rows = [row for row in rows if _path(args.folder, row).exists()]
    films = chosen(rows, args.folder, split, 20)
    top = "fractures"
    members = [
        ("NOTICE", NOTICE.encode()),
        ("dataset.csv", table_of(films).encode()),
        (OUTLINES, outlines_of(films, args.folder).encode()),
    ]
    members += [
        (
            f"images/{FOLDERS[row['fractured']]}/{row['image_id']}",
            _path(args.folder, row).read_bytes(),
        )
        for row in films
    ]
    write_zip(args.output, [(f"{top}/{name}", data) for name, data in members])
    print(f"{len(films)} films, {args.output.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
