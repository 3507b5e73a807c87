"""One picture of a data set: images, and beside each its labels and keypoints."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ganfoundry.data.coco import VISIBLE
from ganfoundry.data.description import SetDescription
from ganfoundry.data.statistics import Rows
from ganfoundry.pictures import grid, magnify, overlay, spread

Pixels = npt.NDArray[np.uint8]
LEAST_SIDE = 128
SAMPLES = 24


def gallery(
    images: Pixels,
    labels: Pixels | None = None,
    palette: Sequence[Sequence[int]] = (),
    keypoints: npt.NDArray[np.float32] | None = None,
    *,
    columns: int = 6,
) -> Pixels:
    """Draw each image and, to its right, the same with its labels and keypoints over it.

    Parameters
    ----------
    images : (n, H, W, 3) uint8
    labels : (n, h, w) uint8, optional
        Class ids; of the same size as the images, or larger or smaller by a whole factor.
    palette : sequence of (r, g, b)
        Colours of the classes.
    keypoints : (n, K, 3) float32, optional
        x, y in pixels of the label map, visibility 0 to 1; those below one half are not drawn.
    columns : int
        Samples in a row.

    Returns
    -------
    (rows, columns, 3) uint8
    """
    columns = min(columns, len(images))
    scale = max(1, -(-LEAST_SIDE // images.shape[1]))
    shown = magnify(images, scale)
    if labels is None:
        return grid(shown, columns)
    y, x = (np.arange(size) * other // size for size, other in zip(images.shape[1:3], labels.shape[1:], strict=True))
    painted = magnify(overlay(images, labels[:, y][:, :, x], np.array(palette, np.uint8)), scale)
    if keypoints is not None:
        painted = np.stack(
            [
                _dots(picture, points, painted.shape[2] / labels.shape[2])
                for picture, points in zip(painted, keypoints, strict=True)
            ]
        )
    return grid(np.concatenate([shown, painted], axis=2), columns, gap=6)


def draw_rows(reader: Rows, description: SetDescription | None, rows: npt.NDArray[np.int64]) -> Pixels:
    """Draw at most ``SAMPLES`` of the rows, evenly spread.

    Parameters
    ----------
    reader : Rows
        With the field image, and perhaps label and keypoints.
    description : SetDescription, optional
        Colours; without one the labels are not drawn.
    rows : ndarray
        Row numbers to choose from, at least one.
    """
    labelled = description is not None and "label" in reader.fields
    names = ["image", *(name for name in ("label", "keypoints") if labelled and name in reader.fields)]
    found = reader.rows(spread(rows, SAMPLES), names)
    palette = description.palette if description is not None else ()
    return gallery(found["image"], found.get("label"), palette, found.get("keypoints"), columns=6 if labelled else 12)


def _dots(picture: Pixels, points: npt.NDArray[np.float32], scale: float) -> Pixels:
    """Draw the visible keypoints as white discs with a dark rim."""
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    radius = max(2, picture.shape[0] // 48)
    for x, y, visibility in points.tolist():
        if visibility >= VISIBLE:
            at = x * scale - 0.5, y * scale - 0.5  # Pillow counts from the centre of the first pixel
            draw.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], "white", "black")
    return np.asarray(canvas)
