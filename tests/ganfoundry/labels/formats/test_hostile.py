"""Files that are torn, wrong or meant to do harm: one sentence that names the file, and nothing large is allocated."""

import base64
import io
import json
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.labels.formats import FORMATS, brush_rle, read_annotations, write_annotations
from ganfoundry.labels.formats.base import base_name
from ganfoundry.labels.formats.polygons import fill
from tests.ganfoundry.labels.formats.formathelp import SCHEMA, of_label
from tests.ganfoundry.labels.formats.test_golden import BRUSH, COCO, region, shape

HUGE = 10**9
LABELME = {"version": "5", "shapes": [], "imagePath": "a.png", "imageHeight": 6, "imageWidth": 8}
SQUARE = [[0, 0], [4, 0], [4, 4]]


def bomb() -> str:
    """A PNG of a few bytes that says it is 60,000 pixels wide and high."""
    stream = io.BytesIO()
    Image.new("1", (8, 8)).save(stream, format="PNG")
    content = bytearray(stream.getvalue())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return base64.b64encode(content).decode()


def coco(**annotation: object) -> dict:
    return COCO | {"annotations": [COCO["annotations"][0] | annotation]}


def rle(counts: object, size: object = (4, 6)) -> dict:
    return coco(segmentation={"size": list(size), "counts": counts})


def studio(*regions: dict) -> list:
    return [{"data": {"image": "a.png"}, "annotations": [{"result": list(regions)}]}]


def brush(data: list) -> list:
    return studio(region("brushlabels", {"format": "rle", "rle": data, "brushlabels": ["w"]}))


def header(words: int, size: int = 7) -> list[int]:
    bits = f"{words:032b}{size:05b}0010001101111111".ljust(64, "0")
    return [int(bits[i : i + 8], 2) for i in range(0, 64, 8)]


CASES = {
    "labelme size": LABELME | {"imageHeight": HUGE, "imageWidth": HUGE},
    "labelme negative size": LABELME | {"imageHeight": -3},
    "labelme size of text": LABELME | {"imageHeight": "6"},
    "labelme infinite size": LABELME | {"imageHeight": 1e400},
    "labelme shapes": LABELME | {"shapes": {"label": "x"}},
    "labelme shape": LABELME | {"shapes": ["x"]},
    "labelme label": LABELME | {"shapes": [shape(None, SQUARE)]},
    "labelme long label": LABELME | {"shapes": [shape("x" * 10_000, SQUARE)]},
    "labelme points": LABELME | {"shapes": [shape("x", [[1, 2, 3]])]},
    "labelme nan": LABELME | {"shapes": [shape("x", [[0, 0], [float("nan"), 1], [2, 2]])]},
    "labelme far": LABELME | {"shapes": [shape("x", [[0, 0], [1e300, 1], [2, 2]])]},
    "labelme mask": LABELME | {"shapes": [shape("x", [[0, 0], [1, 1]], "mask", mask="no base64!")]},
    "labelme mask no png": LABELME | {"shapes": [shape("x", [[0, 0], [1, 1]], "mask", mask="AAAA")]},
    "labelme mask bomb": LABELME | {"shapes": [shape("x", [[0, 0], [1, 1]], "mask", mask=bomb())]},
    "labelme mask place": LABELME | {"shapes": [shape("x", [[-1, 0], [1, 1]], "mask", mask=bomb())]},
    "labelme no size, no picture": {"shapes": [], "imagePath": "a.png"},
    "labelme picture": LABELME | {"imageData": "no base64!"},
    "labelme path": LABELME | {"imagePath": "../.."},
    "coco size": COCO | {"images": [COCO["images"][0] | {"height": HUGE}]},
    "coco twice": COCO | {"images": COCO["images"] * 2},
    "coco no image": coco(image_id=8),
    "coco no category": coco(category_id=99),
    "coco list as id": coco(category_id=[1]),
    "coco odd polygon": coco(segmentation=[[0, 0, 1, 1, 2, 2, 3]]),
    "coco text polygon": coco(segmentation=[["0", "0", "1", "1", "2", "2"]]),
    "coco deep polygon": coco(segmentation=[[[0, 0, 1, 1, 2, 2]]]),
    "coco run lengths short": rle([5, 5]),
    "coco run lengths absurd": rle([0, 10**12]),
    "coco run lengths negative": rle([30, -6]),
    "coco run lengths size": rle([5, 19], (HUGE, HUGE)),
    "coco run lengths text": rle("~~~~"),
    "coco run lengths torn text": rle("52o"),
    "coco run lengths huge text": rle("oooooooooooooooooooooooo0"),
    "coco run lengths kind": rle(7),
    "coco keypoints short": coco(category_id=1, segmentation=[], keypoints=[1, 2, 2]),
    "coco keypoints visibility": coco(category_id=1, segmentation=[], keypoints=[1, 2, 3] * 3),
    "coco keypoints text": coco(category_id=1, segmentation=[], keypoints=["1", 2, 2] * 3),
    "coco keypoints of none": coco(keypoints=[1, 2, 2]),
    "studio no data": brush([]),
    "studio torn": brush(BRUSH[:12]),
    "studio bytes": brush([300]),
    "studio text": brush("AAAA"),
    "studio words": brush(header(2**32 - 1)),
    "studio word size": brush(header(128, 31)),
    "studio other size": brush(header(4 * 4 * 4)),
    "studio whole of another size": brush(brush_rle.encode(np.ones((4, 4), bool))),
    "studio sizes": studio(region("brushlabels", {}), region("brushlabels", {}) | {"original_width": 3}),
    "studio huge size": studio(region("polygonlabels", {}) | {"original_width": HUGE, "original_height": HUGE}),
    "studio two labels": studio(region("polygonlabels", {"points": SQUARE, "polygonlabels": ["a", "b"]})),
    "studio rotated": studio(region("polygonlabels", {"points": SQUARE, "polygonlabels": ["a"]}, image_rotation=90)),
    "studio value": studio(region("polygonlabels", [])),
    "studio no name": [{"data": {"image": "/"}, "annotations": [{"result": [region("polygonlabels", {})]}]}],
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_bad_file_is_one_sentence_that_names_it(tmp_path: Path, name: str) -> None:
    file = tmp_path / "bad.json"
    file.write_text(json.dumps(CASES[name]))
    format = {"labelme": "labelme", "coco": "coco", "studio": "label-studio"}[name.split()[0]]
    tracemalloc.start()
    with pytest.raises(InputError) as caught:
        list(read_annotations(file, format))
    assert tracemalloc.get_traced_memory()[1] < 30e6
    tracemalloc.stop()
    assert "bad.json" in str(caught.value)
    assert len(str(caught.value)) < 400
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.75])
def test_a_torn_file_is_refused(tmp_path: Path, format: str, keep: float) -> None:
    write_annotations(tmp_path, format, [of_label("a.png", np.arange(35).reshape(5, 7) % 5)], SCHEMA)
    file = next(path for path in sorted(tmp_path.rglob("*")) if path.suffix in (".json", ".png", ".npy"))
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    with pytest.raises(InputError, match=file.name):
        list(read_annotations(tmp_path, format))


@pytest.mark.parametrize("format", ["labelme", "png", "npy"])
def test_the_others_are_read_where_someone_notes_what_is_torn(tmp_path: Path, format: str) -> None:
    label = np.arange(35).reshape(5, 7) % 5
    write_annotations(tmp_path, format, [of_label(f"{name}.png", label) for name in "abc"], SCHEMA)
    torn = next(tmp_path.rglob({"labelme": "b.json"}.get(format, f"b.{format}")))
    torn.write_bytes(torn.read_bytes()[:30])
    noted: list[InputError] = []
    assert [Path(image.name).stem for image in read_annotations(tmp_path, None, None, noted.append)] == ["a", "c"]
    assert [torn.name in str(error) for error in noted] == [True]


@pytest.mark.parametrize("format", ["coco", "label-studio"])
def test_what_one_file_says_wrongly_of_one_picture_leaves_the_others(tmp_path: Path, format: str) -> None:
    label = np.arange(35).reshape(5, 7) % 5
    write_annotations(tmp_path, format, [of_label(f"{name}.png", label) for name in "abc"], SCHEMA)
    (file,) = tmp_path.glob({"coco": "*.json", "label-studio": "tasks.json"}[format])
    table = json.loads(file.read_text())
    if format == "coco":
        next(row for row in table["annotations"] if row["image_id"] == table["images"][1]["id"])["category_id"] = 99
    else:
        table[1]["predictions"][0]["result"][0]["original_width"] = 3
    file.write_text(json.dumps(table))
    noted: list[InputError] = []
    assert [Path(image.name).stem for image in read_annotations(file, None, None, noted.append)] == ["a", "c"]
    assert [file.name in str(error) for error in noted] == [True]


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "{}", "null", "[]", "\x00", '{"shapes": 1, "imagePath": 1}', "1e999"]
)
def test_json_of_other_kinds(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError):
        list(read_annotations(tmp_path / "bad.json"))


def test_absurd_headers_allocate_nothing(tmp_path: Path) -> None:
    """NPY and PNG headers that promise terabytes."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": (HUGE, HUGE)})
    (tmp_path / "a.npy").write_bytes(stream.getvalue())
    (tmp_path / "b.png").write_bytes(base64.b64decode(bomb()))
    for file in ("a.npy", "b.png"):
        tracemalloc.start()
        with pytest.raises(InputError, match=file):
            list(read_annotations(tmp_path / file))
        assert tracemalloc.get_traced_memory()[1] < 1e6
        tracemalloc.stop()


def test_pickled_arrays_are_not_opened(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{"x": 1}], object))
    with pytest.raises(InputError, match=r"a\.npy"):
        list(read_annotations(tmp_path))


@pytest.mark.parametrize(
    ("values", "words"),
    [([[0.5, 1]], "no class ids"), ([[np.nan, 1]], "no class ids"), ([[-1, 0]], "ids are"), ([[70_000, 0]], "ids are")],
)
def test_arrays_that_are_no_ids(tmp_path: Path, values: list, words: str) -> None:
    np.save(tmp_path / "a.npy", np.array(values))
    with pytest.raises(InputError, match=words):
        list(read_annotations(tmp_path))


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\..\\a.png", "a.png"),
        ("/data/upload/3/1c2d-a%20b.png", "1c2d-a b.png"),
        ("/data/local-files/?d=folder/..%2Fa.png", "a.png"),
        ("https://host/x/a.png?token=1/2", "a.png"),
        ("a" * 5000 + "/b.png", "b.png"),
        ("a.png\x00.txt", "a.png.txt"),
    ],
)
def test_of_a_path_only_the_name_is_used(path: str, name: str) -> None:
    assert base_name(path, "file") == name


@pytest.mark.parametrize("path", ["", "..", "a/..", "/", "x/%2e%2e", None, 7, "\x00"])
def test_a_path_without_a_name_is_refused(path: object) -> None:
    with pytest.raises(InputError, match=r"file:"):
        base_name(path, "file")


def test_links_are_not_followed(tmp_path: Path) -> None:
    """A mask that is a link to a picture elsewhere is not read, nor is a linked folder."""
    (tmp_path / "secret").mkdir()
    Image.fromarray(np.ones((2, 2), np.uint8)).save(tmp_path / "secret" / "a.png")
    (tmp_path / "given").mkdir()
    (tmp_path / "given" / "a.png").symlink_to(tmp_path / "secret" / "a.png")
    (tmp_path / "given" / "masks").symlink_to(tmp_path / "secret")
    with pytest.raises(InputError):
        list(read_annotations(tmp_path / "given"))


def test_a_polygon_far_outside_is_cut_to_the_image() -> None:
    assert fill([[[-1e5, -1e5], [1e5, -1e5], [1e5, 1e5], [-1e5, 1e5]]], 3, 4).all()
    assert not fill([[[50, 50], [60, 50], [60, 60]]], 3, 4).any()


def test_runs_longer_than_sixteen_bits() -> None:
    mask = np.zeros((300, 300), bool)
    mask[1:250] = True
    np.testing.assert_array_equal(brush_rle.decode(brush_rle.encode(mask), 300, 300), mask)
