"""What is written is read back: every pixel, every keypoint, whatever the format."""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image, ImageDraw
from pycocotools.coco import COCO
from scipy import ndimage

from ganfoundry.labels.formats import FORMATS, detect, read_annotations, write_annotations
from ganfoundry.labels.formats.polygons import trace
from tests.ganfoundry.labels.formats.formathelp import SCHEMA, annotated, assert_same, of_label, part_ids

BOTH = [(name, areas) for name in ("labelme", "coco", "label-studio", "cvat") for areas in ("polygons", "masks")]
EVERY = [*BOTH, ("png", "masks"), ("npy", "masks")]


def there_and_back(format: str, images, **options):
    with tempfile.TemporaryDirectory() as name:
        write_annotations(Path(name), format, images, SCHEMA, **options)
        assert detect(Path(name)) == ("coco" if format == "cvat" else format)
        return sorted(read_annotations(name), key=lambda image: image.name)


@pytest.mark.parametrize(("format", "areas"), EVERY)
@given(one=annotated("a.png"), two=annotated("b.png"))
@settings(max_examples=25, deadline=None)
def test_reading_what_was_written_gives_the_same(format, areas, one, two):
    found = there_and_back(format, [one, two], areas=areas)
    # A Label Studio task without a region counts as not labelled.
    expected = [image for image in (one, two) if format != "label-studio" or image.label.any() or image.keypoints]
    assert len(found) == len(expected)
    for image, original in zip(found, expected, strict=True):
        assert_same(image, original)


def shapes(side: int = 96) -> np.ndarray:
    """A ring with a bar through it, two distant discs of one class, and a square on top."""
    y, x = np.mgrid[:side, :side] + 0.5
    label = np.zeros((side, side), np.uint8)
    radius = np.hypot(x - 44, y - 48)
    label[(radius < 40) & (radius > 18)] = 1
    label[46:52] = 2
    for centre in ((80, 12), (84, 84)):
        label[np.hypot(x - centre[0], y - centre[1]) < 9] = 3
    label[20:30, 30:44] = 4
    return label


def boundary_distance(one: np.ndarray, two: np.ndarray) -> float:
    """The farthest that a pixel of other classes lies from the edge of what it was, in pixels."""
    worst = 0.0
    for part in range(len(SCHEMA.parts)):
        wrong = (one == part) & (two != part)
        if wrong.any():
            worst = max(worst, ndimage.distance_transform_edt(one == part)[wrong].max())
    return worst - 0.5


@pytest.mark.parametrize("format", ["labelme", "coco", "label-studio", "cvat"])
@pytest.mark.parametrize("tolerance", [0.0, 0.5, 1.0, 2.0])
def test_simplified_polygons_stay_within_their_tolerance(format, tolerance):
    label = shapes()
    (found,) = there_and_back(format, [of_label("a.png", label)], tolerance=tolerance)
    again = part_ids(found)
    assert boundary_distance(label, again) <= tolerance
    assert (tolerance > 0.9) == bool((label != again).any())


def test_simplifying_leaves_out_corners():
    disc = shapes() == 3
    counts = [sum(map(len, trace(disc, tolerance))) for tolerance in (0.0, 0.75, 1.5)]
    assert counts[0] > 1.5 * counts[1] > 2 * counts[2] > 0


def test_every_format_is_written_and_read_by_its_name(tmp_path):
    image = of_label("a.png", shapes(32))
    for name in FORMATS:
        write_annotations(tmp_path / name, name, [image], SCHEMA)
        (found,) = read_annotations(tmp_path / name, name)
        assert_same(found, image)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools and NumPy 2
@pytest.mark.parametrize("areas", ["polygons", "masks"])
@given(image=annotated())
@settings(max_examples=25, deadline=None)
def test_pycocotools_reads_our_coco_and_sees_the_same(areas, image):
    """Exact polygons too: holes, bridges and components that touch at corners."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        write_annotations(Path(name), "coco", [image], SCHEMA, areas=areas)
        coco = COCO(str(Path(name) / "annotations.json"))
        label, points = np.zeros(image.label.shape, np.uint8), []
        for annotation in coco.loadAnns(coco.getAnnIds()):
            if annotation["segmentation"]:
                inside = coco.annToMask(annotation).astype(bool)
                assert inside.sum() == annotation["area"]
                label[inside] = annotation["category_id"]
            else:
                names = coco.loadCats(annotation["category_id"])[0]["keypoints"]
                rows = np.reshape(annotation["keypoints"], (-1, 3))
                points = [(key, *row) for key, row in zip(names, rows.tolist(), strict=True) if row[2]]
    np.testing.assert_array_equal(label, part_ids(image))
    assert points == [(key, x - 0.5, y - 0.5, v) for key, (x, y, v) in image.keypoints.items()]


def test_labelmes_own_rasteriser_is_at_most_a_pixel_wider():
    """labelme fills with Pillow and draws the outline too (utils.shape_to_mask), so its parts grow a little."""
    mask = shapes() == 1
    canvas = Image.new("1", mask.shape[::-1])
    for polygon in trace(mask):
        ImageDraw.Draw(canvas).polygon([tuple(point) for point in polygon.tolist()], fill=1, outline=1)
    theirs = np.asarray(canvas)
    assert (theirs | ~mask).all(), "nothing is lost"
    grown = theirs & ~mask
    assert ndimage.distance_transform_edt(~mask)[grown].max() < 2
