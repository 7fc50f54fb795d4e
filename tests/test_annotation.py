"Real LabelMe files: they belong to their pictures, and masks take the same way as the picture"

import json

import numpy as np
import pytest

from xray_explain.read.geometry import Geometry
from xray_explain.read.outlines.annotation import load_annotation_mask, read_annotation
from xray_explain.read.radiograph import read_radiograph


@pytest.fixture(scope="module")
def annotated(shared):
    "Paths of the whole radiographs that have an annotation, with it"
    folder = shared / "radiographs/whole"
    return [
        (folder / "images" / json.loads(path.read_text())["imagePath"], path)
        for path in sorted((folder / "Annotations").glob("*.json"))
    ]


def test_every_file_reads_and_fits_its_picture(annotated):
    assert len(annotated) > 30
    for image, path in annotated:
        annotation = read_annotation(path)
        assert annotation.image_name == image.name and annotation.lesions
        assert annotation.shape == read_radiograph(image).shape


def test_masks_are_the_rectangles_of_the_file(annotated):
    "Worked from the JSON alone: centres between the corners; one on the left or upper edge is inside"
    for _, path in annotated:
        data = json.loads(path.read_text())
        expected = np.zeros((data["imageHeight"], data["imageWidth"]), np.uint8)
        for shape in data["shapes"]:
            (x0, y0), (x1, y1) = np.sort(np.array(shape["points"]), axis=0)
            y, x = np.indices(expected.shape) + 0.5
            expected |= ((x >= x0) & (x < x1) & (y >= y0) & (y < y1)).astype(np.uint8)
        assert np.array_equal(read_annotation(path).mask(), expected), path.name


def test_mask_takes_the_way_of_the_picture(annotated):
    "Stretching the outline and sending the mask through the picture's geometry agree to the border pixels"
    for _, path in annotated:
        annotation = read_annotation(path)
        by_outline = load_annotation_mask(path, 224)
        by_geometry = Geometry(annotation.shape, (224, 224)).mask_to_canvas(annotation.mask())
        differ = (by_outline != by_geometry).sum()
        perimeter = 2 * np.ptp(annotation.boxes((224, 224)).reshape(-1, 2, 2), axis=1).sum()
        assert differ <= 0.5 * perimeter + 4, path.name
