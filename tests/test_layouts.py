"Data sets as they come: folders for classes and splits, outlines in any place and format, zips"

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

from xray_explain.cli import main
from xray_explain.data.archive import DatasetError
from xray_explain.data.audit import audit
from xray_explain.data.cases import list_rows, read_cases
from xray_explain.measure.cache import data_fingerprint
from xray_explain.read.outlines.annotation import read_annotation
from xray_explain.view.worklist import worklist

SIDE = 40
ATLAS = "fractured:0=Normal,1=Fractured"


def film(path, seed=0):
    "A picture of noise, so that no two are doubles"
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (8, 8), np.uint8)
    cv2.imwrite(str(path), cv2.resize(noise, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


def put(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if isinstance(text, str) else json.dumps(text))


def coco(boxes):
    "Name of a picture -> its box, x y width height, as a COCO file has them"
    return {
        "images": [
            {"id": n, "file_name": name, "width": SIDE, "height": SIDE}
            for n, name in enumerate(boxes)
        ],
        "annotations": [
            {"id": n, "image_id": n, "category_id": 1, "bbox": box}
            for n, box in enumerate(boxes.values())
            if box
        ],
        "categories": [{"id": 1, "name": "fracture"}],
    }


def voc(name, box):
    x, y, w, h = box
    corners = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
    size = f"<size><width>{SIDE}</width><height>{SIDE}</height></size>"
    thing = f"<object><name>fracture</name><bndbox>{corners}</bndbox></object>" if w else ""
    return f"<annotation><filename>{name}</filename>{size}{thing}</annotation>"


def yolo(box):
    x, y, w, h = (value / SIDE for value in box)
    return f"0 {x + w / 2} {y + h / 2} {w} {h}\n" if w else ""


NOTHING = (0, 0, 0, 0)
BOXES = {f"F{n}.jpg": (4 + n, 6, 10, 12) for n in range(4)}


@pytest.fixture
def atlas(tmp_path):
    "FracAtlas's layout: four fractures and four healthy, one of which lies in the other folder"
    folder = tmp_path / "atlas"
    names = [*BOXES, *(f"N{n}.jpg" for n in range(4))]
    for n, name in enumerate(names):
        film(folder / "images" / ("Fractured" if n < 5 else "Non_fractured") / name, n)
        box = BOXES.get(name, NOTHING)
        put(folder / f"Annotations/PASCAL VOC/{name[:-4]}.xml", voc(name, box))
        put(folder / f"Annotations/YOLO/{name[:-4]}.txt", yolo(box))
    put(
        folder / "Annotations/COCO JSON/COCO.json",
        coco({**BOXES, "N1.jpg": None, "gone.jpg": (1, 2, 3, 4)}),
    )
    flags = [1] * 4 + [0] * 4
    pd.DataFrame({"image_id": names, "fractured": flags}).to_csv(
        folder / "dataset.csv", index=False
    )
    put(folder / "Utilities/Fracture Split/train.csv", "image_id\nF0.jpg\n")
    return folder


def test_outlines_of_several_formats_are_found_and_one_counts(atlas):
    cases = read_cases(atlas, label=ATLAS)
    rows = cases.table.set_index("image_id")
    assert rows.annotation[rows.label == "Normal"].isna().all()
    for name, (x, y, w, h) in BOXES.items():
        annotation = read_annotation(rows.annotation[name])
        assert annotation.boxes((SIDE, SIDE)).tolist() == [[x, y, x + w, y + h]]
        assert str(rows.annotation[name]).endswith(f"COCO.json::{name}")
    assert cases.problems == ("outline of no picture in the table (1): gone.jpg",)
    audited = audit(atlas, progress=False, label=ATLAS)
    counts = audited.outlines()
    assert counts.loc["COCO JSON"].tolist() == [4, 4, 0]
    assert counts.loc["YOLO text"].tolist() == counts.loc["PASCAL VOC XML"].tolist() == [4, 0, 0]
    assert audited.by_class().outlined.tolist() == [0, 4, 4]


def test_formats_that_disagree_are_named(atlas):
    "A box 7 pixels off, one outline too many, and a picture that a format leaves out"
    x, y, w, h = BOXES["F0.jpg"]
    put(atlas / "Annotations/YOLO/F0.txt", yolo((x + 7, y, w, h)))
    put(atlas / "Annotations/YOLO/F1.txt", yolo(BOXES["F1.jpg"]) + yolo((1, 1, 3, 3)))
    (atlas / "Annotations/PASCAL VOC/F2.xml").unlink()
    audited = audit(atlas, progress=False, label=ATLAS)
    wrong = audited.findings[
        audited.findings.finding == "formats that outline a picture differently"
    ]
    assert dict(zip(wrong.image_id, wrong.detail)) == {
        "F0.jpg": "YOLO text: a box 7 pixels off; COCO JSON counts",
        "F1.jpg": "YOLO text: 2 outlines, not 1; COCO JSON counts",
        "F2.jpg": "PASCAL VOC XML: 0 outlines, not 1; COCO JSON counts",
    }
    differ = audited.outlines()["differ from the one used"].to_dict()
    assert differ == {"COCO JSON": 0, "YOLO text": 2, "PASCAL VOC XML": 1}


def test_a_changed_outline_in_a_file_of_many_changes_the_fingerprint(atlas):
    before = data_fingerprint(read_cases(atlas, label=ATLAS))
    moved = {**BOXES, "F3.jpg": (20, 20, 5, 5)}
    put(atlas / "Annotations/COCO JSON/COCO.json", coco(moved))
    assert data_fingerprint(read_cases(atlas, label=ATLAS)) != before
    put(atlas / "Annotations/COCO JSON/COCO.json", coco(dict(zip(BOXES, moved.values()))))


def test_the_view_draws_outlines_of_a_file_of_many(atlas):
    entries = {entry.name: entry for entry in worklist(atlas, ATLAS)}
    mask = entries["F2.jpg"].read().mask
    x, y, w, h = BOXES["F2.jpg"]
    assert np.argwhere(mask).min(0).tolist() == [y, x]
    assert mask.sum() == w * h
    assert entries["N3.jpg"].read().mask is None
    (atlas / "dataset.csv").unlink()
    by_folder = {entry.name: entry for entry in worklist(atlas)}  # what the folders say
    assert by_folder["N0.jpg"].label == "Fractured" and by_folder["N1.jpg"].label == "Non_fractured"
    assert by_folder["F2.jpg"].read().mask.sum() == w * h


def test_a_zip_as_downloaded_is_the_same_data_set(atlas, tmp_path, monkeypatch):
    monkeypatch.setenv("XRAY_EXPLAIN_CACHE", str(tmp_path / "cache"))
    around = tmp_path / "around"
    shutil.copytree(atlas, around / "FracAtlas")
    put(around / "__MACOSX/FracAtlas/images/Fractured/._F0.jpg", "x")
    zipped = read_cases(shutil.make_archive(tmp_path / "atlas", "zip", around), label=ATLAS)
    plain = read_cases(atlas, label=ATLAS)
    assert zipped.table.image_id.tolist() == plain.table.image_id.tolist()
    assert zipped.problems == plain.problems
    assert data_fingerprint(zipped) == data_fingerprint(plain)


@pytest.fixture
def folders(tmp_path):
    "A folder for each split, and in it one for each class; masks beside them"
    top = tmp_path / "bones" / "bones"
    seed = 0
    for split, number in (("Training", 6), ("valid", 2), ("test", 2)):
        for label in ("Cyst", "Normal"):
            for n in range(number):
                film(top / split / label / f"{split}{label}{n}.png", seed := seed + 1)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    (top / "masks/test").mkdir(parents=True)
    cv2.imwrite(str(top / "masks/test/testNormal0.png"), mask)  # black, as for a healthy bone
    mask[10:20, 5:9] = 255
    cv2.imwrite(str(top / "masks/test/testCyst0_mask.png"), mask)
    return top


def test_folders_name_classes_and_splits(folders):
    for data in (folders, folders.parent):
        cases = read_cases(data)
        assert cases.classes == ("Normal", "Cyst")
        assert cases.summary().loc["Cyst"].to_dict() == {
            **{"train": 6, "val": 2, "test": 2, "all": 10, "outlined": 1}
        }
        assert cases.problems == ()
        said = "classes: Cyst (10), Normal (10); and the splits: train (12), val (4), test (4)."
        assert cases.caveat.startswith(f"The folders of the pictures name the {said}")
    (path,) = cases.table.annotation.dropna()
    assert read_annotation(path).boxes().tolist() == [[5, 10, 9, 20]]
    assert read_cases(folders, use_split=False).table["split"].eq("").all()
    renamed = read_cases(folders, label="folder:Cyst=Lesion")
    assert renamed.classes == ("Normal", "Lesion")


def test_folders_split_what_a_table_does_not(folders):
    "The table counts for the classes, and its own column for the split"
    names = sorted(p.name for p in folders.rglob("*.png") if "masks" not in p.parts)
    table = pd.DataFrame({"image_id": names, "label": ["A", "B"] * 10})
    table.to_csv(folders / "dataset.csv", index=False)
    cases = read_cases(folders)
    assert cases.classes == ("A", "B") and cases.table["split"].value_counts()["train"] == 12
    assert "name the splits: train (12), val (4), test (4)." in cases.caveat
    table.assign(split="test").to_csv(folders / "dataset.csv", index=False)
    cases = read_cases(folders)
    assert set(cases.table["split"]) == {"test"} and "name the splits" not in cases.caveat


def test_two_pictures_of_one_name_keep_their_own_outlines(tmp_path):
    "train/1.png and test/1.png: the folders say whose a file is, and where they do not none is used"
    for n, where in enumerate(("train/Cyst", "test/Cyst", "train/Normal", "test/Normal")):
        film(tmp_path / "set/images" / where / f"{1 + n // 2}.png", n)
    put(tmp_path / "set/labels/test/Cyst/1.txt", yolo((1, 2, 3, 4)))
    put(tmp_path / "set/Annotations/1.json", {"shapes": []})
    listing = list_rows(tmp_path / "set")
    rows = listing.rows.set_index("image_id").annotation.dropna()
    assert rows.index.tolist() == ["test/Cyst/1.png"]
    unclear = listing.troubles["outline of a name that several pictures have, not used"]
    assert unclear == ["1.json"]


@pytest.mark.parametrize(
    "names, line",
    [
        (["a.png"], "lie in no folders that name classes; write dataset.csv"),
        (["train/a.png", "test/b.png"], "lie in no folders that name classes"),
        (["only/a.png"], "only the folder only may name a class"),
        (["x/p1/a.png", "y/p2/b.png"], "which folder names the class is not clear in x/p1"),
    ],
)
def test_what_folders_do_not_say_is_refused(tmp_path, names, line):
    for name in names:
        film(tmp_path / "set/images" / name)
    with pytest.raises(DatasetError, match=line):
        read_cases(tmp_path / "set")


def test_a_cut_off_picture_is_named_counted_and_left_out(folders, tmp_path, capsys):
    for n in range(20):
        film(folders / f"Training/{'Cyst' if n % 2 else 'Normal'}/more{n}.jpg", 100 + n)
    cut = folders / "Training/Normal/more0.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    out = tmp_path / "split.csv"
    assert main(["split", str(folders), "--output", str(out)]) == 0
    said = capsys.readouterr().out
    assert "excluded (1): more0.jpg; what cannot be read" in said
    audited = audit(folders, progress=False)
    bad = audited.findings[audited.findings.finding == "picture that cannot be read"]
    assert bad.image_id.tolist() == ["more0.jpg"]


def test_an_audit_says_what_a_split_tears(tmp_path):
    "Two views of one patient on both sides, by the column patient_id"
    for n in range(6):
        film(tmp_path / f"set/images/{n}.png", n)
    split = ["train", "test", "train", "train", "test", "val"]
    table = pd.DataFrame({"image_id": [f"{n}.png" for n in range(6)], "label": ["A", "B"] * 3})
    table = table.assign(split=split, patient_id=[1, 1, 2, 2, 3, 4])
    table.to_csv(tmp_path / "set/dataset.csv", index=False)
    assert audit(tmp_path / "set", progress=False).grouping == (
        "For `split`, grouped by rows that agree in patient_id: 4 groups, the largest of 2 pictures; "
        "the split at hand (train 3, val 1, test 2) tears 1 of them (2 pictures)."
    )


def test_fracatlas_as_downloaded(shared):
    "Its 489 outlined fractures by COCO; the healthy one in the other folder keeps its label"
    folder = shared / "fracatlas"
    listing = list_rows(folder, label=ATLAS)
    assert listing.usable.label.value_counts().to_dict() == {"Normal": 2500, "Fractured": 489}
    cases = listing.cases()
    assert cases.table.annotation.notna().sum() == 489
    assert cases.problems == ("outline on a Normal case, not used (1): IMG0003298.jpg",)
    forms = {frozenset(forms) for forms in listing.forms.of.values()}
    assert forms == {frozenset({"COCO JSON", "VGG JSON", "YOLO text", "PASCAL VOC XML"})}


def test_btxrd_as_downloaded(shared):
    listing = list_rows(shared / "btxrd")
    assert listing.kind == "btxrd" and listing.stretched == (256, 256)
    assert listing.usable.annotation.notna().sum() == 1494
