"""Annotated pictures for the tests of the formats: random ones, and what a reader should give back."""

from pathlib import Path

import hypothesis.extra.numpy as arrays
import hypothesis.strategies as st
import numpy as np
from PIL import Image

from ganfoundry.labels.formats import AnnotatedImage
from ganfoundry.labels.schema import PartSchema

SCHEMA = PartSchema(
    name="thing",
    parts=("background", "body", "wheel & tyre", "fenêtre", "lamp"),
    levels={},
    keypoints=("nose", "left ear", "right ear"),
)
PARTS = len(SCHEMA.parts)


@st.composite
def annotated(draw: st.DrawFn, name: str = "a.png") -> AnnotatedImage:
    """A random label map of blobs and noise with keypoints; holes and diagonal contacts are frequent."""
    height, width = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    label = draw(arrays.arrays(np.uint8, (height, width), elements=st.sampled_from(range(PARTS)), fill=st.just(1)))
    keypoints = {}
    for key in SCHEMA.keypoints:
        visibility = draw(st.sampled_from((0, 1, 2)))
        if visibility:
            x, y = (draw(st.floats(0, side, width=32)) for side in (width, height))
            keypoints[key] = (x, y, float(visibility))
    return of_label(name, label, keypoints)


def of_label(name: str, label: np.ndarray, keypoints: dict | None = None) -> AnnotatedImage:
    """Annotation of a map of part ids of `SCHEMA`."""
    return AnnotatedImage(name, label.astype(np.uint16), SCHEMA.parts, keypoints or {})


def part_ids(image: AnnotatedImage) -> np.ndarray:
    """Map of part ids of `SCHEMA`."""
    return np.array([SCHEMA.parts.index(name) for name in image.classes], np.uint8)[image.label]


def assert_same(found: AnnotatedImage, given: AnnotatedImage) -> None:
    np.testing.assert_array_equal(part_ids(found), part_ids(given))
    assert Path(found.name).stem == Path(given.name).stem
    assert found.keypoints.keys() == given.keypoints.keys()
    for key, point in given.keypoints.items():
        np.testing.assert_allclose(found.keypoints[key], point, atol=1e-4)
    assert found.notes == ()


def picture(path: Path, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (9, 8, 7)).save(path)
    return path
