"Outlines from other hands: on the picture they belong to or refused, and never at the picture's cost; doubles in any position"

import base64
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from xray_explain.cli import main
from xray_explain.data.audit import audit
from xray_explain.data.cases import list_rows, read_cases
from xray_explain.data.duplicates import duplicate_of, near_pairs, picture_prints
from xray_explain.data.phantom import write_phantoms
from xray_explain.measure.localization import agreement_records
from xray_explain.measure.study import examine, shown_case
from xray_explain.model.batches import load_canvases
from xray_explain.model.checkpoint import Checkpoint, build_net
from xray_explain.read.outlines.annotation import annotation_on, read_annotation
from xray_explain.read.preprocessing import Preprocessing
from xray_explain.read.radiograph import read_radiograph
from xray_explain.report.annotation import annotation_report
from xray_explain.view.worklist import worklist

CLASSES = ("Normal", "Benign", "Malignant")
SMALL = Preprocessing((64, 64))


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    "Eight outlined phantoms and four healthy ones"
    folder = tmp_path_factory.mktemp("outlines") / "set"
    return write_phantoms(folder, 4, seed=4, size=160, workers=1, progress=False)


def copied(phantoms, folder):
    "The same data set, with labels in a plain table"
    shutil.copytree(phantoms, folder)
    (folder / "phantoms.csv").unlink()
    return folder


def outlined(folder):
    "Names of the outlined pictures, and the path of a name's picture and outline"
    names = sorted(p.stem for p in (folder / "Annotations").iterdir())
    return names, lambda n: folder / f"images/{n}.jpeg", lambda n: folder / f"Annotations/{n}.json"


def changed(path, change):
    "A JSON file, changed in place"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_files_are_such_as_labelme_opens(phantoms):
    "The rules of LabelMe 6.3.1's loader: labelme/_label_file.py, read_label_file and what it calls"
    for path in (phantoms / "Annotations").iterdir():
        raw = json.loads(path.read_text())
        assert raw["imageData"] is None
        picture = Image.open(path.parent / raw["imagePath"])  # relative to the file
        assert raw["imagePath"] == f"../images/{path.stem}.jpeg"
        assert picture.size == (raw["imageWidth"], raw["imageHeight"])
        for shape in raw["shapes"]:
            assert {"label", "points", "shape_type"} <= set(shape)
            assert all(
                len(p) == 2 and {type(v) for v in p} <= {int, float} for p in shape["points"]
            )
            assert shape["flags"] == {} and shape["group_id"] is None


@pytest.mark.slow
def test_labelme_itself_opens_them():
    "benchmarks/labelme_opens.py, which can also make an environment that has LabelMe"
    if not importlib.util.find_spec("labelme"):
        pytest.skip("LabelMe is not installed here: it is GPL, and brings Qt and onnxruntime")
    script = Path(__file__).parents[1] / "benchmarks/labelme_opens.py"
    command = [sys.executable, str(script), "--python", sys.executable]
    assert "opens 4 of 4" in subprocess.run(command, capture_output=True, text=True).stdout


def as_stored(path, tag):
    "A picture that its EXIF tag turns upright, as a camera stores it"
    how = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90}[tag]
    with Image.open(path) as picture:
        stored = picture.transpose(how)
    exif = Image.Exif()
    exif[274] = tag
    stored.save(path, quality=95, exif=exif)


def painted(content):
    "The polygon of a file as a mask of LabelMe's AI tools, by the way of pixels whose centre is inside"
    polygon = next(s for s in content["shapes"] if s["shape_type"] == "polygon")
    size = content["imageHeight"], content["imageWidth"]
    y, x = (np.indices(size) + 0.5).reshape(2, -1)
    inside = [
        cv2.pointPolygonTest(np.array(polygon["points"], np.float32), (float(a), float(b)), False)
        for a, b in zip(x, y)
    ]
    mask = np.array(inside).reshape(size) > 0
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    first, last = (columns[0], rows[0]), (columns[-1], rows[-1])
    file = io.BytesIO()
    cut = mask[first[1] : last[1] + 1, first[0] : last[0] + 1]
    Image.fromarray(cut.astype(np.uint8)).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    points = [[float(v) for v in p] for p in (first, last)]
    content["shapes"] = [polygon | {"shape_type": "mask", "points": points, "mask": text}]


@pytest.fixture(scope="module")
def spoiled(phantoms, tmp_path_factory):
    "The phantoms after other hands were at them, what befell each, and the true masks"
    folder = copied(phantoms, tmp_path_factory.mktemp("spoiled") / "set")
    names, picture, outline = outlined(folder)
    sizes = {n: Image.open(picture(n)).size for n in names}
    lying = [n for n in names if sizes[n][0] != sizes[n][1]]
    square = [n for n in names if n not in lying]
    turned, stored, cut = lying[:3]
    others = [*lying[3:], *square]
    landmark, sizeless, ai, broken = others[:4]
    truth = {n: read_annotation(outline(n)).mask() for n in names}

    def on_stored(content):
        "Coordinates on the picture before it is turned to the right"
        height, width = content["imageHeight"], content["imageWidth"]
        for shape in content["shapes"]:
            shape["points"] = [[y, width - x] for x, y in shape["points"]]
        content["imageHeight"], content["imageWidth"] = width, height

    point = {"label": "notch", "points": [[5, 5]], "shape_type": "point", "flags": {}}
    as_stored(picture(turned), 6)
    as_stored(picture(stored), 6)
    changed(outline(stored), on_stored)
    with Image.open(picture(cut)) as whole:
        part = whole.crop((0, 0, whole.width, whole.height * 3 // 4))
    part.save(picture(cut), quality=95)
    changed(outline(landmark), lambda c: c["shapes"].append(point))
    changed(outline(sizeless), lambda c: [c.pop("imageHeight"), c.pop("imageWidth")])
    changed(outline(ai), painted)
    outline(broken).write_text("{")
    kinds = dict(turned=turned, stored=stored, landmark=landmark, sizeless=sizeless, ai=ai)
    return folder, kinds | dict(cut=cut, broken=broken), truth


NOTES = {
    "stored": "is turned with it",
    "landmark": "a point has no area",
    "sizeless": "lacks imageHeight",
    "cut": "other proportions",
    "broken": "this is no JSON",
}


def test_an_outline_counts_on_its_picture_and_never_costs_it(spoiled):
    folder, kinds, truth = spoiled
    checkpoint = Checkpoint(build_net("test_efficientnet", 3).eval(), "test", CLASSES, SMALL)
    cases = read_cases(folder, CLASSES)
    study = examine(checkpoint, cases, progress=False)
    assert (len(study), study.failures) == (12, ())  # every picture has its prediction
    at = {Path(name).stem: i for i, name in enumerate(study.table.image_id)}
    for kind, name in kinds.items():
        mask = study.masks[at[name]]
        film = read_radiograph(study.table.image[at[name]])
        if kind in ("cut", "broken"):
            assert not mask.any(), kind
            assert shown_case(study, at[name])[1] is None
        else:
            true = SMALL.geometry(film.shape).mask_to_canvas(truth[name])
            assert (mask & true).sum() / (mask | true).sum() > (0.95 if kind == "ai" else 0.999), (
                kind
            )
    noted = {
        kind: [note for i, note in study.notes if Path(i).stem == n] for kind, n in kinds.items()
    }
    assert all(len(notes) == (kind in NOTES) for kind, notes in noted.items()), noted
    assert all(text in noted[kind][0] for kind, text in NOTES.items()), noted
    lost = {Path(i).stem: why for i, why in study.not_measured}
    assert set(lost) == {kinds["cut"], kinds["broken"]} and "proportions" in lost[kinds["cut"]]

    report = annotation_report(study, agreement_records(study), resamples=20)
    assert report["num_images"] == 6 and len(report["not_measured"]) == 2
    assert {Path(n["image_id"]).stem for n in report["notes"]} == {
        kinds[kind] for kind in ("stored", "landmark", "sizeless")
    }


def test_training_audit_and_view_agree(spoiled):
    folder, kinds, _ = spoiled
    cases = read_cases(folder, CLASSES)
    with pytest.warns(UserWarning, match="5 notes on what was read"):
        _, masks, _ = load_canvases(cases, SMALL, progress=False)
    name = cases.table.image_id.map(lambda i: Path(i).stem)
    empty = set(name[~masks.numpy().any((1, 2))]) - set(name[cases.table.label == "Normal"])
    assert empty == {kinds["cut"], kinds["broken"]}

    listed = {
        (f.finding, Path(f.image_id).stem)
        for f in audit(folder, progress=False).findings.itertuples()
    }
    assert listed == {
        ("outline of which a part is not used or doubtful", kinds["landmark"]),
        ("outline whose place is doubtful", kinds["stored"]),
        ("outline whose place is doubtful", kinds["sizeless"]),
        ("outline of another picture or cut, not used", kinds["cut"]),
        ("outline that cannot be read", kinds["broken"]),
    }
    entries = {Path(e.name).stem: e for e in worklist(folder)}
    opened = entries[kinds["cut"]].read()
    assert opened.mask is None and "other proportions" in opened.film.notes[-1]
    assert entries[kinds["stored"]].read().mask.any()


def test_pictures_stretched_to_a_square_keep_their_outlines(phantoms, tmp_path):
    "As BTXRD is passed on: the outlines in pixels of the originals, the pictures 96 x 96"
    folder = copied(phantoms, tmp_path / "set")
    for path in (folder / "images").iterdir():
        square = cv2.resize(cv2.imread(str(path), 0), (96, 96), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(path), square)
    cases = read_cases(folder)
    assert cases.stretched == (96, 96)
    (line,) = [p for p in cases.problems if "stretched" in p]
    assert "96 x 96" in line and "if they were cut" in line
    _, masks, _ = load_canvases(cases, Preprocessing((96, 96), fit="stretch"), progress=False)
    for row, mask in zip(cases.table.itertuples(), masks.numpy()):
        if row.annotation:
            assert np.array_equal(mask, read_annotation(row.annotation).mask((96, 96)))
    assert len(audit(folder, progress=False).findings) == 1  # the same line, once

    # one of another size is no part of that: nothing says that it was stretched
    names, picture, _ = outlined(folder)
    cv2.imwrite(str(picture(names[0])), np.zeros((96, 40), np.uint8))
    assert read_cases(folder).stretched is None


def test_btxrd_as_it_is_passed_on(shared):
    cases = read_cases(shared / "btxrd")
    assert cases.stretched == (256, 256)
    table = cases.table[cases.table.annotation.notna()].iloc[::40]
    for row in table.itertuples():
        film = read_radiograph(row.image)
        assert annotation_on(film, row.annotation, cases.stretched).mask(film.shape).any()


def test_what_is_not_read_is_counted(phantoms, tmp_path):
    folder = copied(phantoms, tmp_path / "set")
    voc, yolo = folder / "Annotations/PASCAL VOC", folder / "labels"
    voc.mkdir(), yolo.mkdir()
    for n in range(3):
        (voc / f"IMG{n:06d}.xml").write_text("<annotation></annotation>")
    (yolo / "IMG000001.txt").write_text("")
    (yolo / "IMG000002.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (folder / "Annotations/all.json").write_text('{"images": [], "annotations": []}')
    shutil.copy(folder / "Annotations/IMG000002.json", folder / "images")
    (yolo / "notes.csv").write_text("by,hand\n")
    (folder / "Annotations/broken.xml").write_text("<annotations><image></annotations>")
    listing = list_rows(folder)
    troubles = listing.troubles
    assert troubles.pop("outline that several files give, none used") == ["IMG000002.json"]
    (broken,) = troubles.pop("file of outlines that cannot be read")
    assert broken.startswith("broken.xml (")
    assert {k: v for k, v in troubles.items() if v} == {
        "files among the outlines in no format that is read: 1 CSV": ["labels"]
    }
    rows = listing.rows.set_index("image_id").annotation
    # twice in LabelMe's format, so the box counts; VOC's and COCO's files outline nothing
    assert rows["IMG000002.jpeg"] == str(yolo / "IMG000002.txt")
    assert {line for line in audit(folder, progress=False).findings.finding if "1 CSV" in line}


COPIES = {
    "inverted": lambda g: 255 - g,
    "mirrored": lambda g: g[:, ::-1],
    "mirrored and inverted": lambda g: 255 - g[:, ::-1],
    "turned by 180 degrees": lambda g: g[::-1, ::-1],
    "turned by 90 degrees": lambda g: np.rot90(g, -1),
}


def test_inverted_mirrored_and_turned_copies_are_doubles(phantoms, tmp_path):
    "Smaller and saved again, too; different phantoms, and left and right ones, are none"
    paths = sorted((phantoms / "images").iterdir())
    made = []
    for path, (kind, change) in zip(paths, COPIES.items()):
        grey = cv2.resize(cv2.imread(str(path), 0), None, fx=0.7, fy=0.7)
        made.append(tmp_path / f"{kind}.jpg")
        cv2.imwrite(str(made[-1]), change(grey), [cv2.IMWRITE_JPEG_QUALITY, 60])
    everything = [*paths, *made]
    prints = picture_prints(everything, progress=False)
    pairs = near_pairs(prints)
    listed = {(everything[p.a].name, p.kind, everything[p.b].stem) for p in pairs.itertuples()}
    assert listed == {(p.name, kind, kind) for p, kind in zip(paths, COPIES)}
    sets = duplicate_of([p.name for p in everything], prints)
    assert sets.value_counts().drop("").tolist() == [2] * len(COPIES)


def test_copies_of_one_picture_stay_on_one_side_of_a_split(phantoms, tmp_path):
    folder = copied(phantoms, tmp_path / "set")
    table = pd.read_csv(folder / "dataset.csv")
    grey = cv2.imread(str(folder / "images/IMG000002.jpeg"), 0)
    cv2.imwrite(str(folder / "images/IMG000099.png"), 255 - grey)
    row = table.iloc[[1]].assign(image_id="IMG000099.png", tumor=0, benign=0)
    pd.concat([table, row]).to_csv(folder / "dataset.csv", index=False)
    findings = audit(folder, progress=False).findings
    doubles = findings[findings.finding == "pictures of which one is inverted"]
    assert doubles.image_id.tolist() == ["IMG000002.jpeg"]
    assert doubles.detail.str.startswith("IMG000099.png").all()


def test_evaluate_says_what_it_did_not_use(spoiled, capsys):
    folder, kinds, _ = spoiled
    assert main(["evaluate", str(folder)]) == 0  # no picture was lost
    errors = capsys.readouterr().err
    for kind, text in NOTES.items():
        (line,) = [line for line in errors.splitlines() if f"{kinds[kind]}.jpeg: " in line]
        assert line.startswith("note: ") and text in line
