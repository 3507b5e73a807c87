"""COCO's encodings against pycocotools, which is the format's own implementation."""

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference

from ganfoundry.data import coco
from ganfoundry.data.png import encode_png
from ganfoundry.errors import InputError

masks = hnp.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)))
blocky = st.tuples(hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 5))), st.integers(1, 60)).map(
    lambda pair: np.repeat(np.repeat(pair[0], pair[1], 0), pair[1], 1)
)


@settings(deadline=None)
@given(masks | blocky)
def test_run_lengths_are_pycocotools(mask):
    ours = coco.encode_rle(mask)
    theirs = reference.encode(np.asfortranarray(mask, np.uint8))
    assert ours == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert np.array_equal(coco.decode_rle(ours), mask)


@settings(deadline=None)
@given(masks.filter(np.any))
def test_box_and_area_are_pycocotools(mask):
    annotation = coco.mask_annotation(mask, 3)
    assert annotation["bbox"] == reference.toBbox(annotation["segmentation"]).tolist()
    assert annotation["area"] == reference.area(annotation["segmentation"])


@given(st.text(max_size=30))
def test_other_text_is_no_mask(text):
    try:
        mask = coco.decode_rle({"size": [5, 7], "counts": text})
    except InputError:
        return
    assert mask.shape == (5, 7)


def test_parts_then_object():
    label = np.zeros((6, 8), np.uint8)
    label[1:3, 2:5] = 1
    label[4, 6] = 4
    found = coco.image_annotations(label, 5)
    assert [(a["category_id"], a["bbox"], a["area"]) for a in found] == [
        (1, [2, 1, 3, 2], 6),
        (4, [6, 4, 1, 1], 1),
        (5, [2, 1, 5, 4], 7),
    ]
    assert coco.image_annotations(np.zeros((4, 4), np.uint8), 5) == []


def test_unknown_class_is_refused():
    with pytest.raises(InputError, match="holds the class 7, but there are only 5 classes"):
        coco.image_annotations(np.full((4, 4), 7, np.uint8), 5)


def test_keypoints_go_to_the_object():
    label = np.array([[0, 1], [2, 2]], np.uint8)
    points = np.array([[0.5, 1.5, 0.9], [1.0, 0.25, 0.5], [1.5, 1.5, 0.4]], np.float32)
    *parts, thing = coco.image_annotations(label, 3, points)
    assert thing["keypoints"] == [0.0, 1.0, 2, 0.5, -0.25, 2, 0, 0, 0]
    assert thing["num_keypoints"] == 2
    assert not any("keypoints" in part for part in parts)


def test_categories_name_the_keypoints():
    *parts, thing = coco.categories(["background", "a", "b"], ["nose"])
    assert [(entry["id"], entry["name"], entry["supercategory"]) for entry in parts] == [
        (1, "a", "part"),
        (2, "b", "part"),
    ]
    assert thing == {"id": 3, "name": "object", "supercategory": "object", "keypoints": ["nose"], "skeleton": []}


def test_png_round_trip(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    (tmp_path / "a.png").write_bytes(encode_png(image))
    with Image.open(tmp_path / "a.png") as picture:
        assert np.array_equal(np.array(picture), image)
    assert encode_png(image) == encode_png(image.copy())
    (tmp_path / "b.png").write_bytes(encode_png(image[..., 0] % 3, [(0, 0, 0), (9, 8, 7), (1, 2, 3)]))
    with Image.open(tmp_path / "b.png") as picture:
        assert np.array_equal(np.array(picture), image[..., 0] % 3)
        assert picture.getpalette()[3:6] == [9, 8, 7]
