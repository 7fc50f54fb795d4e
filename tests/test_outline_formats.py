"Outlines of every kind of file, on real data: the same lesions in four forms, and what several tools write."

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
    agree(shared, contents, contents)


def test_masks_are_those_of_cocos_own_tools(shared):
    "Against pycocotools, which asks for pixels that half lie inside, and not for their centres"
    from pycocotools import mask as coco_mask

    for name, content in list(coco_of(shared).items())[::25]:
        shape = content["imageHeight"], content["imageWidth"]
        parts = [np.ravel(s["points"]).tolist() for s in content["shapes"] if "mask" not in s]
        theirs = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(parts, *shape)))
        ours = read_annotation(
            outline_source(
                shared / "fracatlas/Annotations/COCO JSON/COCO_fracture_masks.json", name
            )
        ).mask()
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
