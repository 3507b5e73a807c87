"""Pictures of an export as PNG: the same array gives the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image


def encode_png(image: npt.NDArray[np.uint8], palette: Sequence[Sequence[int]] | None = None) -> bytes:
    """Return an image, uint8 (H, W, 3) or (H, W), as PNG.

    Parameters
    ----------
    image : ndarray
    palette : sequence of (r, g, b), optional
        Of a label map: the PNG keeps the class ids and shows the colours.
    """
    picture = Image.fromarray(image)
    if palette is not None:
        picture = picture.convert("P")
        picture.putpalette([value for colour in palette for value in colour])
    buffer = io.BytesIO()
    picture.save(buffer, "png", compress_level=6)
    return buffer.getvalue()


def image_name(row: int) -> str:
    """Return the file name of a row's picture."""
    return f"{row:08d}.png"
