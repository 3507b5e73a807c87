"""Contact sheets that a person looks at: one row for each viewpoint code, one column for each content."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ganfoundry.pictures import grid
from ganfoundry.views.bins import ALL_AROUND, AzimuthBins
from ganfoundry.views.codes import ViewCode

Pixels = NDArray[np.uint8]

_LABEL_WIDTH = 118


def compass(azimuth: float, size: int) -> Pixels:
    """Object from above, its nose towards the reader, and the camera that looks at it: (size, size, 3) uint8.

    Azimuth 0 stands below (sees the front), 90 at the right (sees the object's left side).
    """
    big = size * 4
    canvas = Image.new("RGB", (big, big), "white")
    draw = ImageDraw.Draw(canvas)
    middle, radius, nose = big / 2, big * 0.16, big * 0.25
    draw.polygon(
        (
            (middle - radius * 0.6, middle + radius * 0.7),
            (middle + radius * 0.6, middle + radius * 0.7),
            (middle, middle + nose),
        ),
        "#33465c",
    )
    draw.ellipse((middle - radius, middle - radius, middle + radius, middle + radius), "#b9c3d0")
    a = math.radians(azimuth)
    x, y = math.sin(a), math.cos(a)
    tip, tail = big * 0.29, big * 0.47
    start = (middle + tail * x, middle + tail * y)
    end = (middle + tip * x, middle + tip * y)
    draw.line((start, end), "#d0352b", max(2, big // 30))
    side = big * 0.06
    draw.polygon(
        (
            (end[0] - x * side, end[1] - y * side),
            (end[0] + x * side * 0.6 + y * side, end[1] + y * side * 0.6 - x * side),
            (end[0] + x * side * 0.6 - y * side, end[1] + y * side * 0.6 + x * side),
        ),
        "#d0352b",
    )
    return np.asarray(canvas.resize((size, size), Image.Resampling.LANCZOS))


def code_sheet(images: Pixels, codes: Sequence[ViewCode], bins: AzimuthBins = ALL_AROUND, *, scale: int = 1) -> Pixels:
    """Rows of images with the code's number, bin, angles and an arrow in front.

    Parameters
    ----------
    images : (codes, contents, R, R, 3) uint8
    codes : viewpoint codes, one a row
    bins : AzimuthBins
        Of the codes.
    scale : int
        Magnification of the images.
    """
    rows, contents, side = images.shape[:3]
    if rows != len(codes):
        raise ValueError(f"{rows} rows of images for {len(codes)} viewpoint codes")
    picture = grid(images.reshape(rows * contents, side, side, 3), contents, scale=scale)
    height = side * scale
    margin = np.full((picture.shape[0], _LABEL_WIDTH, 3), 255, np.uint8)
    for row, code in enumerate(codes):
        top = row * (height + 2)
        margin[top : top + height] = _row_label(code, bins, height)
    return np.concatenate([margin, picture], 1)


def _row_label(code: ViewCode, bins: AzimuthBins, height: int) -> Pixels:
    strip = Image.new("RGB", (_LABEL_WIDTH, height), "white")
    draw = ImageDraw.Draw(strip)
    size = min(56, height)
    strip.paste(Image.fromarray(compass(code.azimuth, size)), (_LABEL_WIDTH - size - 2, (height - size) // 2))
    lines = (
        f"code {code.id}",
        f"bin {code.bin}",
        f"{bins.signed(code.azimuth):.0f} ± {code.azimuth_std:.1f}",
        f"el {code.elevation:.0f}",
    )
    for number, line in enumerate(lines):
        draw.text((2, 2 + number * 14), line, fill=(30, 30, 30))
    return np.asarray(strip)


def legend(names: Sequence[str], palette: Pixels, width: int) -> Pixels:
    """Coloured squares with their names, in rows of the given width: (height, width, 3) uint8."""
    column = 130
    columns = max(1, width // column)
    rows = -(-len(names) // columns)
    canvas = Image.new("RGB", (width, rows * 18 + 4), "white")
    draw = ImageDraw.Draw(canvas)
    for number, (name, colour) in enumerate(zip(names, palette, strict=True)):
        x, y = (number % columns) * column + 4, (number // columns) * 18 + 4
        draw.rectangle((x, y, x + 11, y + 11), tuple(int(channel) for channel in colour), "#404040")
        draw.text((x + 17, y), name, fill=(30, 30, 30))
    return np.asarray(canvas)
