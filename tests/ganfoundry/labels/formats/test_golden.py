"""Files as the tools write them, by hand, with the label maps they must give."""

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfoundry.labels.formats import brush_rle, detect, read_annotations
from tests.ganfoundry.labels.formats.formathelp import picture


def seen(image) -> list[str]:
    """Rows of a label map, a letter a class ("." is background)."""
    letters = [".", *(name[0] for name in image.classes[1:])]
    return ["".join(letters[index] for index in row) for row in image.label]


def only(path: Path, format: str | None = None):
    (image,) = read_annotations(path, format)
    return image


def png(mask: list[list[int]]) -> str:
    stream = io.BytesIO()
    Image.fromarray(np.array(mask, np.uint8) * 255).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def labelme(folder: Path, *shapes, **more) -> Path:
    table = {"version": "5.2.1", "flags": {}, "shapes": list(shapes), "imagePath": "..\\photos\\car 1.jpg",
             "imageData": None, "imageHeight": 6, "imageWidth": 8, **more}  # fmt: skip
    (folder / "car 1.json").write_text(json.dumps(table))
    return folder


def test_labelme_draws_in_the_order_of_the_list(tmp_path):
    body = shape("body", [[1.0, 1.0], [7.0, 1.0], [7.0, 5.0], [1.0, 5.0]], description="", mask=None)
    disc = shape("wheel", [[3.0, 3.0], [3.0, 4.6]], "circle")
    box = shape("lamp", [[7.0, 3.0], [6.0, 2.0]], "rectangle")  # drawn from its lower right corner
    mask = shape("mirror", [[0.0, 0.0], [1.0, 1.0]], "mask", mask=png([[1, 0], [1, 1]]))
    nose = shape("nose", [[2.25, 3.5]], "point")
    hidden = shape("ear", [[9.0, -1.0]], "point") | {"flags": {"hidden": True}}
    line = shape("scratch", [[0, 0], [3, 3]], "linestrip")
    image = only(labelme(tmp_path, body, disc, box, mask, nose, hidden, line))
    assert seen(image) == ["m.......", "mmwwbbb.", ".wwwwbl.", ".wwwwbb.", ".bwwbbb.", "........"]
    assert image.name == "car 1.jpg"
    assert image.keypoints == {"nose": (2.25, 3.5, 2.0), "ear": (9.0, -1.0, 1.0)}
    assert len(image.notes) == 1
    assert "linestrip" in image.notes[0]


def test_labelme_of_version_3_tells_no_size_and_carries_its_picture(tmp_path):
    stream = io.BytesIO()
    Image.new("RGB", (8, 6)).save(stream, format="JPEG")
    old = {"label": "body", "line_color": None, "fill_color": None, "points": [[0, 0], [4, 0], [4, 3], [0, 3]]}
    folder = labelme(tmp_path, old, imageData=base64.b64encode(stream.getvalue()).decode())
    table = json.loads((folder / "car 1.json").read_text())
    del table["imageHeight"], table["imageWidth"]
    (folder / "car 1.json").write_text(json.dumps(table))
    image = only(folder)
    assert image.label.shape == (6, 8)
    assert image.label.sum() == 12
    assert image.picture == stream.getvalue()


def test_later_labelme_shapes_cover_earlier_ones_and_holes_can_be_drawn(tmp_path):
    ring = shape("body", [[0, 0], [6, 0], [6, 6], [0, 6]])
    hole = shape("_background_", [[2, 2], [4, 2], [4, 4], [2, 4]])
    image = only(labelme(tmp_path, ring, hole))
    assert image.label.sum() == 32
    assert only(labelme(tmp_path, hole, ring)).label.sum() == 36


COCO = {
    "info": {"description": "by hand"},
    "images": [{"id": 7, "file_name": "val/a.png", "height": 4, "width": 6, "license": 1, "coco_url": ""}],
    "categories": [
        {"id": 3, "name": "body", "supercategory": "part"},
        {"id": 18, "name": "wheel", "supercategory": "part"},
        {"id": 1, "name": "cat", "keypoints": ["nose", "ear", "tail"], "skeleton": [[1, 2]]},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 18, "iscrowd": 0, "area": 4.0, "bbox": [1, 1, 2, 2],
         "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]},
        {"id": 2, "image_id": 7, "category_id": 3, "iscrowd": 0, "area": 18.0, "bbox": [0, 0, 6, 3],
         "segmentation": [[0, 0, 4, 0, 4, 3, 0, 3], [5.0, 0.0, 6.0, 0.0, 6.0, 3.0, 5.0, 3.0]]},
        {"id": 3, "image_id": 7, "category_id": 3, "iscrowd": 1, "area": 2.0, "bbox": [4, 3, 2, 1],
         "segmentation": {"size": [4, 6], "counts": [19, 1, 3, 1]}},
        {"id": 4, "image_id": 7, "category_id": 1, "iscrowd": 0, "area": 2.0, "bbox": [1, 1, 2, 2], "segmentation": [],
         "num_keypoints": 2, "keypoints": [2, 1, 2, 0, 0, 0, 5, 3, 1]},
        {"id": 5, "image_id": 7, "category_id": 18, "iscrowd": 0, "area": 2.0, "bbox": [1, 1, 2, 2]},
    ],
}  # fmt: skip


def test_coco_draws_small_areas_over_large_ones(tmp_path):
    """The wheel comes first in the file and stays on top."""
    (tmp_path / "instances.json").write_text(json.dumps(COCO))
    image = only(tmp_path / "instances.json")
    assert seen(image) == ["bbbb.b", "bwwb.b", "bwwb.b", "....bb"]
    assert image.name == "a.png"
    assert image.keypoints == {"nose": (2.5, 1.5, 2.0), "tail": (5.5, 3.5, 1.0)}, "COCO counts from pixel centres"
    assert len(image.notes) == 1
    assert "box" in image.notes[0]


def test_compressed_run_lengths(tmp_path):
    """The text that pycocotools gives for ones in rows 1, 2 of columns 1, 2 of a 4 x 6 image."""
    from pycocotools import mask as coco_mask

    inside = np.zeros((4, 6), np.uint8, order="F")
    inside[1:3, 1:3] = 1
    counts = coco_mask.encode(inside)["counts"].decode()
    assert counts == "5220;"  # 5, 2, 2, then differences to the run before the last: 0, 11
    table = COCO | {
        "annotations": [COCO["annotations"][0] | {"segmentation": {"size": [4, 6], "counts": counts}}],
    }
    (tmp_path / "a.json").write_text(json.dumps(table))
    assert seen(only(tmp_path)) == ["......", ".ww...", ".ww...", "......"]


def test_cvats_two_files_are_read_as_one(tmp_path):
    """COCO 1.0 and COCO Keypoints 1.0 exports: masks as run lengths, skeleton points where they were put."""
    info = {"contributor": "", "date_created": "", "description": "", "url": "", "version": "", "year": ""}
    head = {"licenses": [{"name": "", "id": 0, "url": ""}], "info": info}
    images = [{"id": 1, "width": 4, "height": 2, "file_name": "a.png", "license": 0, "flickr_url": "", "coco_url": "",
               "date_captured": 0}]  # fmt: skip
    common = {"id": 1, "image_id": 1, "category_id": 1}
    parts = head | {
        "categories": [{"id": 1, "name": "body", "supercategory": ""}],
        "images": images,
        "annotations": [common | {"segmentation": {"counts": [2, 4, 2], "size": [2, 4]}, "area": 4.0,
                        "bbox": [1.0, 0.0, 2.0, 2.0], "iscrowd": 1, "attributes": {"occluded": False}}],
    }  # fmt: skip
    points = head | {
        "categories": [{"id": 1, "name": "car", "supercategory": "", "keypoints": ["nose", "ear"], "skeleton": []}],
        "images": images,
        "annotations": [common | {"segmentation": [], "area": 1.0, "bbox": [1.0, 0.0, 1.0, 1.0], "iscrowd": 0,
                        "attributes": {"occluded": False, "keyframe": False}, "num_keypoints": 2,
                        "keypoints": [1.25, 0.5, 2, 3.5, 1.0, 1]}],
    }  # fmt: skip
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_default.json").write_text(json.dumps(parts))
    (tmp_path / "annotations" / "person_keypoints_default.json").write_text(json.dumps(points))
    file = picture(tmp_path / "images" / "default" / "a.png")
    assert detect(tmp_path) == "coco"
    image = only(tmp_path, "cvat")
    assert seen(image) == [".bb.", ".bb."]
    assert image.keypoints == {"nose": (1.25, 0.5, 2.0), "ear": (3.5, 1.0, 1.0)}
    assert image.picture == file


def region(kind: str, value: dict, **more) -> dict:
    return {"id": "Rz9oHDXIwG", "type": kind, "from_name": "tag", "to_name": "img", "original_width": 8,
            "original_height": 4, "image_rotation": 0, "origin": "manual", "value": value, **more}  # fmt: skip


# 8 x 4 pixels, a run of 4 x 9 zero bytes, one of 4 x 5 of 255, one of zeros, and the rest byte by byte.
BRUSH_BITS = (
    f"{128:032b}" "00111" "0010" "0011" "0111" "1111"
    "1" "10" f"{36 - 1:08b}" f"{0:08b}"
    "1" "10" f"{20 - 1:08b}" f"{255:08b}"
    "1" "11" f"{64 - 1:016b}" f"{0:08b}"
    "0" "01" f"{8 - 1:04b}" + f"{0:08b}" * 3 + f"{200:08b}" + f"{0:08b}" * 3 + f"{90:08b}"
)  # fmt: skip
BRUSH = [int(BRUSH_BITS[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(BRUSH_BITS), 8)]


def test_a_brush_mask_by_hand():
    """Runs and single bytes; alpha 200 is inside, alpha 90 outside."""
    expected = np.zeros(32, bool)
    expected[9:14] = True
    expected[30] = True
    np.testing.assert_array_equal(brush_rle.decode(BRUSH, 4, 8), expected.reshape(4, 8))


def test_label_studio(tmp_path):
    task = {
        "id": 12,
        "data": {"image": "/data/upload/3/1c2d3e4f-sample-0001.png"},
        "annotations": [
            {"id": 1, "was_cancelled": False, "result": [
                region("brushlabels", {"format": "rle", "rle": BRUSH, "brushlabels": ["wheel"]}),
                region("polygonlabels", {"points": [[50, 0], [100, 0], [100, 50], [50, 50]], "closed": True,
                                         "polygonlabels": ["body"]}, id="b"),
                region("keypointlabels", {"x": 12.5, "y": 50, "width": 0.3, "keypointlabels": ["nose"]}, id="k"),
                region("choices", {"x": 12.5, "y": 50, "width": 0.3, "choices": ["hidden"]}, id="k"),
                region("keypointlabels", {"x": 25, "y": 75, "width": 0.3, "keypointlabels": ["ear"]}, id="l"),
                region("ellipselabels", {"x": 1, "y": 1, "radiusX": 2, "radiusY": 2, "ellipselabels": ["e"]}, id="e"),
            ]},
            {"id": 2, "was_cancelled": True, "result": []},
        ],
        "predictions": [],
    }  # fmt: skip
    skipped = {"id": 13, "data": {"image": "b.png"}, "annotations": [{"was_cancelled": True, "result": []}]}
    (tmp_path / "project-3.json").write_text(json.dumps([task, skipped]))
    image = only(tmp_path)
    assert seen(image) == ["....bbbb", ".wwwbbbb", "........", "......w."]
    assert image.name == "1c2d3e4f-sample-0001.png"
    assert image.keypoints == {"nose": (1.0, 2.0, 1.0), "ear": (2.0, 3.0, 2.0)}
    assert len(image.notes) == 1


def test_the_last_annotation_counts_and_predictions_only_without_one(tmp_path):
    def brush(name):
        return {"result": [region("brushlabels", {"format": "rle", "rle": BRUSH, "brushlabels": [name]})]}

    task = {"data": {"image": "a.png"}, "annotations": [brush("first"), brush("last")], "predictions": [brush("guess")]}
    (tmp_path / "a.json").write_text(json.dumps([task]))
    assert only(tmp_path).classes[1] == "last"
    (tmp_path / "a.json").write_text(json.dumps([task | {"annotations": []}]))
    assert only(tmp_path).classes[1] == "guess"


def test_labelme2voc_and_datasetgan_folders(tmp_path):
    """labelme2voc: SegmentationClassPNG and class_names.txt; DatasetGAN: image_mask0.npy."""
    (tmp_path / "voc" / "SegmentationClassPNG").mkdir(parents=True)
    label = np.array([[0, 1], [2, 2]], np.uint8)
    indexed = Image.fromarray(label).convert("P")
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    indexed.save(tmp_path / "voc" / "SegmentationClassPNG" / "a.png")
    (tmp_path / "voc" / "class_names.txt").write_text("__ignore__\n_background_\nbody\nwheel\n")
    file = picture(tmp_path / "voc" / "JPEGImages" / "a.jpg")
    image = only(tmp_path / "voc")
    assert seen(image) == [".b", "ww"]
    assert image.picture == file
    (tmp_path / "gan").mkdir()
    np.save(tmp_path / "gan" / "image_mask0.npy", label.astype(np.float16))
    (found,) = read_annotations(tmp_path / "gan", classes=("background", "x", "y"))
    assert seen(found) == [".x", "yy"]


def test_what_is_not_known_is_said(tmp_path):
    minimal = [{"image": "a.png", "id": 1, "tag": [{"x": 1, "y": 1}]}]
    (tmp_path / "min.json").write_text(json.dumps(minimal))
    with pytest.raises(ValueError, match="not JSON-MIN"):
        detect(tmp_path)
    panoptic = COCO | {"annotations": [{"image_id": 7, "segments_info": [], "file_name": "a.png"}]}
    (tmp_path / "min.json").write_text(json.dumps(panoptic))
    with pytest.raises(ValueError, match="panoptic"):
        only(tmp_path)
    (tmp_path / "two.json").write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": []}]))
    with pytest.raises(ValueError, match="several formats"):
        detect(tmp_path)
