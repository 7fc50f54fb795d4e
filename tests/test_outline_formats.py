"Outlines of every kind of file, on real data: the same lesions in four forms, and what several tools write."

import json
import random

import numpy as np
import pytest

from xray_explain.read.outlines.annotation import (
    OUTLINE_FORMATS,
    AnnotationError,
    contents_of,
    fitted,
    outline_format,
    outline_source,
    read_annotation,
)


def of_fracatlas(shared, name, shape):
    "Annotations of a picture in COCO, VGG, YOLO and PASCAL VOC"
    folder, stem = shared / "fracatlas" / "Annotations", name.rpartition(".")[0]
    sources = [
        outline_source(folder / "COCO JSON" / "COCO_fracture_masks.json", name),
        outline_source(folder / "VGG JSON" / "VGG_fracture_masks.json", name),
        folder / "YOLO" / f"{stem}.txt",
        folder / "PASCAL VOC" / f"{stem}.xml",
    ]
    return [fitted(read_annotation(source), shape) for source in sources]


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


# VGG's file has one outline of each, the three other forms have 2, 2 and 3
SHORT = {"IMG0000851.jpg", "IMG0002086.jpg", "IMG0002471.jpg"}


def agree(shared, names, contents):
    "Masks of the polygons to IoU 0.98, boxes to a pixel and a rounding"
    for name in names:
        shape = contents[name]["imageHeight"], contents[name]["imageWidth"]
        coco, via, yolo, voc = of_fracatlas(shared, name, shape)
        if name in SHORT:
            assert (
                len(via.lesions) == 1 < len(coco.lesions) == len(yolo.lesions) == len(voc.lesions)
            )
            continue
        assert len({len(a.lesions) for a in (coco, via, yolo, voc)}) == 1, name
        assert iou(coco.mask(shape), via.mask(shape)) >= 0.98, name
        boxes = [np.array(sorted(a.boxes(shape).tolist())) for a in (coco, via, yolo, voc)]
        for other in boxes[1:]:
            np.testing.assert_allclose(boxes[0], other, atol=1.02, err_msg=name)


def coco_of(shared):
    file = shared / "fracatlas" / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    assert outline_format(file) == "COCO JSON"
    return contents_of(file)


def test_four_forms_of_the_same_outlines_agree(shared):
    contents = coco_of(shared)
    assert len(contents) == 490
    agree(shared, [*list(contents)[::10], *SHORT], contents)


@pytest.mark.slow
def test_four_forms_of_all_outlines_agree(shared):
    contents = coco_of(shared)
    agree(shared, contents, contents)


def test_masks_are_those_of_cocos_own_tools(shared):
    "Against pycocotools, which asks for pixels that half lie inside, and not for their centres"
    from pycocotools import mask as coco_mask

    file = shared / "fracatlas" / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    data = json.loads(file.read_text())
    for picture in data["images"][::25]:
        name, shape = picture["file_name"], (picture["height"], picture["width"])
        of_it = [a for a in data["annotations"] if a["image_id"] == picture["id"]]
        parts = [part for a in of_it for part in a["segmentation"]]
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *shape)))
        ours = read_annotation(outline_source(file, name)).mask()
        border = abs(ours.astype(int) - theirs).sum()
        assert border <= 2 * np.sqrt(max(theirs.sum(), 1)) * 4, name


@pytest.mark.parametrize("kind", OUTLINE_FORMATS, ids=lambda kind: kind.name)
def test_what_is_no_such_file_is_one_line(kind, tmp_path):
    "The first bytes of each kind, and nothing that belongs behind them"
    file = tmp_path / f"knee{kind.suffix}"
    file.write_bytes((bytes(128) if kind.suffix == ".dcm" else b"") + kind.sign + b"1 2 x 4 5\n")
    with pytest.raises(AnnotationError, match=rf"^knee\{kind.suffix}: [^\n]+$"):
        read_annotation(file)


def test_one_of_many_pictures_has_to_be_named(shared):
    file = shared / "fracatlas" / "Annotations" / "VGG JSON" / "VGG_fracture_masks.json"
    with pytest.raises(AnnotationError, match="it outlines 490 pictures; name one as"):
        read_annotation(file)
    with pytest.raises(AnnotationError, match="it does not name IMG9.jpg; check the names in it"):
        read_annotation(outline_source(file, "IMG9.jpg"))


def coco_file(folder, parts, copies=1):
    "A file of one picture of 40 x 60 pixels for each of the objects' segmentations, or of copies"
    pictures = [
        {"id": i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in range(copies)
    ]
    objects = [
        {"image_id": i, "category_id": 1, "segmentation": s} for i in range(copies) for s in parts
    ]
    content = {
        "images": pictures,
        "annotations": objects,
        "categories": [{"id": 1, "name": "cyst"}],
    }
    file = folder / "set.json"
    file.write_text(json.dumps(content))
    return file


def test_run_lengths_that_end_too_early_mark_nothing(tmp_path):
    "pycocotools 2.0.11 fills the rest from memory that nobody wrote; the other object counts"
    sound = {"size": [40, 60], "counts": [81, 3, 2316]}  # rows 1 to 3 of column 2
    for counts in ("", "0" * 50, [5, 2], "zz", [5, -5, 2400]):
        file = coco_file(tmp_path, [{"size": [40, 60], "counts": counts}, sound])
        one = read_annotation(outline_source(file, "0.png"))
        assert np.argwhere(one.mask()).tolist() == [[1, 2], [2, 2], [3, 2]], counts
        assert one.notes == ("shape 1 is not used: its run lengths do not fill its picture",)


def test_a_file_of_many_masks_is_not_unpacked_before_it_is_asked(tmp_path, monkeypatch):
    "Masks of one picture are made when it is read, those of the others never"
    from xray_explain.read.outlines import coco

    made, real = [], coco._bitmap_of
    monkeypatch.setattr(coco, "_bitmap_of", lambda *how: made.append(1) or real(*how))
    file = coco_file(tmp_path, [{"size": [40, 60], "counts": [81, 3, 2316]}] * 2, copies=50)
    assert (len(contents_of(file)), len(made)) == (50, 0)
    assert len(read_annotation(outline_source(file, "7.png")).lesions) == 2 == len(made)


def test_a_file_changed_in_place_is_read_again(tmp_path):
    file = coco_file(tmp_path, [[[1, 1, 5, 1, 5, 5]]])
    before = read_annotation(outline_source(file, "0.png")).mask().sum()
    coco_file(tmp_path, [[[1, 1, 9, 1, 9, 9]]])
    assert read_annotation(outline_source(file, "0.png")).mask().sum() > before


VIA = {
    "a.jpg1": {
        "filename": "a.jpg",
        "regions": [
            {"shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 5, "height": 3}},
            {
                "shape_attributes": {
                    "name": "ellipse",
                    "cx": 9,
                    "cy": 9,
                    "rx": 4,
                    "ry": 2,
                    "theta": 1,
                }
            },
            {
                "shape_attributes": {
                    "name": "polygon",
                    "all_points_x": [1, 5, 5],
                    "all_points_y": [1, 1, 8],
                },
                "region_attributes": {"kind": {"cyst": True}},
            },
        ],
    }
}
LABEL_STUDIO = [
    {
        "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"},
        "annotations": [
            {
                "result": [
                    {
                        "id": "r",
                        "type": kind,
                        "original_width": 60,
                        "original_height": 40,
                        "value": value,
                    }
                    for kind, value in (
                        (
                            "rectanglelabels",
                            {
                                "x": 25,
                                "y": 25,
                                "width": 10,
                                "height": 20,
                                "rotation": 5,
                                "rectanglelabels": ["cyst"],
                            },
                        ),
                        ("polygonlabels", {"points": [[0, 0], [10, 0], [10, 10]]}),
                        ("ellipselabels", {"x": 80, "y": 50, "radiusX": 5, "radiusY": 20}),
                        ("brushlabels", {"format": "rle", "rle": [0, 0, 0, 96, 57, 27, 254, 35]}),
                    )
                ]
            }
        ],
    }
]
CVAT = """<annotations><image id="0" name="a.jpg" width="60" height="40">
<box label="cyst" xtl="6" ytl="8" xbr="14" ybr="12" rotation="90"/>
<polygon label="cyst" points="20,2;28,2;28,9"/><ellipse label="x" cx="30" cy="20" rx="4" ry="2"/>
<mask label="cyst" rle="3, 3" left="1" top="20" width="3" height="2"/></image></annotations>"""
VOC = """<annotation><filename>a.jpg</filename><size><width>60</width><height>40</height></size>
<object><name>cyst</name><difficult>1</difficult><bndbox><xmin>10</xmin><ymin>5</ymin>
<xmax>20</xmax><ymax>15</ymax></bndbox></object></annotation>"""
COCO = {
    "images": [{"id": 1, "file_name": "a.jpg", "height": 40, "width": 60}],
    "categories": [{"id": 1, "name": "cyst"}],
    "annotations": [
        {"image_id": 1, "category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 3]]},
        {"image_id": 1, "category_id": 1, "bbox": [4, 1, 2, 2]},
        {
            "image_id": 1,
            "category_id": 1,
            "segmentation": {"size": [40, 60], "counts": [5, 2, 2393]},
        },
        {"image_id": 1, "category_id": 1, "segmentation": {"size": [40, 60], "counts": "52iZ2"}},
        {
            "image_id": 1,
            "category_id": 1,
            "segmentation": [[0, 0, 2, 0, 2, 1], [4, 3, 6, 3, 6, 4]],
        },
    ],
}
SOUND = {
    "coco.json": json.dumps(COCO),
    "via.json": json.dumps(VIA),
    "studio.json": json.dumps(LABEL_STUDIO),
    "cvat.xml": CVAT,
    "voc.xml": VOC,
    "yolo.txt": "1 0.5 0.5 0.5 0.2\n7 0 0 0.1 0 0.1 0.2\n",
}
OTHERS = ["null", "-1", "1e999", "NaN", '"x"', "[]", "{}", "true", "0", "99999999", ""]


def spoiled(text, rng):
    "The text with one of its numbers or words replaced, or some of it cut out or doubled"
    spots = [i for i, c in enumerate(text) if c in ":,=>[ "]
    at, end = sorted(rng.sample(spots, 2))
    if rng.random() < 0.6:
        end = next((i for i in spots if i > at), end)
        return text[: at + 1] + rng.choice(OTHERS) + text[end:]
    return text[:at] + text[end:] if rng.random() < 0.5 else text[:end] + text[at:]


@pytest.mark.parametrize("name", SOUND)
def test_any_spoiled_file_is_an_annotation_or_one_line(name, tmp_path):
    "Each kind's file, spoiled in 150 ways"
    file, rng = tmp_path / name, random.Random(0)
    file.write_text(SOUND[name])
    assert read_annotation(file).lesions
    read = 0
    for _ in range(150):
        text = spoiled(SOUND[name], rng)
        file.unlink()
        file.write_text(text)
        try:
            one = read_annotation(file)
        except AnnotationError as e:
            assert "\n" not in str(e) and str(e).startswith(name) and len(str(e)) < 400, text
            continue
        try:
            one = fitted(one, (40, 60))
        except AnnotationError as e:
            assert "this one" in str(e), text  # another size, or none and too far out
            continue
        read += bool(one.lesions)
        assert one.mask((40, 60)).shape == (40, 60), text
        assert not any("\n" in note for note in one.notes), text
    assert read > 0


def a_film(path):
    "A radiograph of 20 x 30 pixels with nobody in it"
    import pydicom
    from pydicom.uid import DigitalXRayImageStorageForPresentation as KIND
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    film = pydicom.Dataset()
    film.file_meta = pydicom.dataset.FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.SOPClassUID, film.SOPInstanceUID, film.Modality = KIND, generate_uid(), "DX"
    film.StudyInstanceUID, film.SeriesInstanceUID = generate_uid(), generate_uid()
    film.Rows, film.Columns, film.SeriesNumber, film.InstanceNumber = 20, 30, 1, 1
    film.PatientID = film.PatientName = film.StudyID = film.AccessionNumber = ""
    film.PatientBirthDate = film.PatientSex = film.StudyDate = film.StudyTime = ""
    film.ReferringPhysicianName = ""
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit, film.PixelRepresentation, film.SamplesPerPixel = 7, 0, 1
    film.PhotometricInterpretation = "MONOCHROME2"
    film.PixelData = bytes(range(100, 200)) * 6
    film.save_as(path, enforce_file_format=True)
    return film


def a_segmentation(path, film, mask):
    "By highdicom, of one segment"
    from highdicom.seg import SegmentAlgorithmTypeValues, Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes
    from pydicom.uid import generate_uid

    kind = codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion
    segment = SegmentDescription(1, "cyst", *kind, SegmentAlgorithmTypeValues.MANUAL)
    series = generate_uid(), 2, generate_uid(), 1, "nobody", "none", "0", "0"
    Segmentation([film], mask[None, ..., None], "BINARY", [segment], *series).save_as(path)


def test_a_dicom_segmentation_belongs_to_the_film_that_it_names(tmp_path):
    "Not to that of its own name, as archives call files by numbers"
    from xray_explain.data.listing.files import files_of, first_form, forms_of

    (tmp_path / "images").mkdir()
    (tmp_path / "segmentations").mkdir()
    films = [a_film(tmp_path / "images" / f"{i}.dcm") for i in (1, 2)]
    masks = np.zeros((2, 20, 30), np.uint8)
    masks[0, 2:6, 3:9] = masks[1, 10:12, 20:25] = 1
    a_segmentation(tmp_path / "segmentations" / "1.dcm", films[1], masks[1])
    a_segmentation(tmp_path / "segmentations" / "700.dcm", films[0], masks[0])
    forms = forms_of(files_of(tmp_path)).of
    for i in (0, 1):
        source = first_form(forms[str(tmp_path / "images" / f"{i + 1}.dcm")])
        assert (read_annotation(source).mask() == masks[i]).all()


def test_words_of_several_kinds_in_one_file_do_not_mislead(tmp_path):
    "A LabelMe file whose labels are called as another kind's words, and a COCO file with regions"
    shape = {"label": "images", "points": [[1, 1], [5, 1], [5, 5]], "flags": {"regions": True}}
    labelme = {"shapes": [shape], "images": 1, "imageHeight": 40, "imageWidth": 60}
    file = tmp_path / "a.json"
    file.write_text(json.dumps(labelme))
    assert outline_format(file) == "LabelMe JSON" and len(read_annotation(file).lesions) == 1
    file.write_text(json.dumps(COCO | {"regions": [], "info": {"shapes": 5, "result": 0}}))
    assert outline_format(file) == "COCO JSON" and len(read_annotation(file).lesions) == 5


def test_pictures_of_one_name_in_two_folders_are_told_apart(tmp_path):
    "By the whole name where it is given, and by none of them where it is not"
    pictures = [
        {"id": i, "file_name": f"{folder}/1.png", "height": 40, "width": 60}
        for i, folder in enumerate(("left", "right"))
    ]
    boxes = [{"image_id": i, "category_id": 1, "bbox": [9 * i, 1, 4, 4]} for i in range(2)]
    file = tmp_path / "set.json"
    file.write_text(json.dumps(COCO | {"images": pictures, "annotations": boxes}))
    for i, folder in enumerate(("left", "right")):
        one = read_annotation(outline_source(file, f"{folder}/1.png"))
        assert one.boxes().tolist() == [[9 * i, 1, 9 * i + 4, 5]]
    with pytest.raises(AnnotationError, match="2 of its pictures may be 1.png; name one as it"):
        read_annotation(outline_source(file, "1.png"))
