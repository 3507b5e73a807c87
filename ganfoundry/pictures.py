"""Small pictures of arrays: grids, label overlays, heat maps, captions, PNG bytes."""

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]


def grid(images: Pixels, columns: int, *, scale: int = 1, gap: int = 2, background: int = 255) -> Pixels:
    """Tile images row by row.

    Parameters
    ----------
    images : (n, H, W, 3) uint8
    columns : int
        Images in a row; the last row is filled up with the background.
    scale : int
        Nearest-neighbour magnification.
    gap : int
        Pixels between tiles, after magnification.
    background : int
        Grey level of gaps and of missing tiles.

    Returns
    -------
    (rows * (H * scale + gap) - gap, columns * (W * scale + gap) - gap, 3) uint8

    Raises
    ------
    ValueError
        If there is no image.
    """
    if len(images) == 0:
        raise ValueError("a grid needs at least one image")
    images = magnify(images, scale)
    count, height, width = images.shape[:3]
    rows = -(-count // columns)
    canvas = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), background, np.uint8)
    for index, image in enumerate(images):
        y, x = (index // columns) * (height + gap), (index % columns) * (width + gap)
        canvas[y : y + height, x : x + width] = image
    return canvas


def spread(rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Pick at most `count` of the rows (n,), evenly spread, in their order."""
    positions = np.linspace(0, len(rows) - 1, min(len(rows), count)).astype(np.int64)
    return rows[np.unique(positions)]


def magnify(images: Pixels, scale: int) -> Pixels:
    """Repeat every pixel `scale` times along both image axes of (..., H, W, 3)."""
    return images.repeat(scale, axis=-3).repeat(scale, axis=-2)


def colourise(label: NDArray[np.integer], palette: Pixels) -> Pixels:
    """Paint part ids (..., H, W) with the colours of a palette (classes, 3): (..., H, W, 3) uint8."""
    colours: Pixels = palette[label]
    return colours


def overlay(images: Pixels, labels: NDArray[np.integer], palette: Pixels, *, opacity: float = 0.55) -> Pixels:
    """Blend label colours over images; class 0 (background) stays clear.

    Parameters
    ----------
    images : (..., H, W, 3) uint8
    labels : (..., H, W) int, indices into the palette
    palette : (classes, 3) uint8
    opacity : float in [0, 1]

    Returns
    -------
    (..., H, W, 3) uint8
    """
    mixed = (1 - opacity) * images + opacity * colourise(labels, palette)
    return np.where((labels > 0)[..., None], np.round(mixed), images).astype(np.uint8)


_HEAT = np.array([[12, 8, 38], [84, 20, 108], [168, 44, 96], [232, 96, 48], [252, 176, 44], [252, 252, 190]], float)


def heatmap(values: NDArray[np.floating], maximum: float) -> Pixels:
    """Map values in [0, maximum], (..., H, W), to dark blue ... red ... pale yellow, (..., H, W, 3) uint8."""
    position = np.clip(np.asarray(values, float) / max(maximum, 1e-12), 0, 1) * (len(_HEAT) - 1)
    low = np.minimum(position.astype(int), len(_HEAT) - 2)
    fraction = (position - low)[..., None]
    colours: Pixels = np.round(_HEAT[low] * (1 - fraction) + _HEAT[low + 1] * fraction).astype(np.uint8)
    return colours


def captioned(images: Pixels, captions: Sequence[str], columns: int, *, scale: int = 2) -> Pixels:
    """Grid of images, each with one line of text under it.

    Parameters
    ----------
    images : (n, H, W, 3) uint8
    captions : n strings, cut to what fits the width
    """
    band = 13
    images = magnify(images, scale)
    height, width = images.shape[1:3]
    tiles = np.full((len(images), height + band, width, 3), 255, np.uint8)
    tiles[:, :height] = images
    for tile, caption in zip(tiles, captions, strict=True):
        strip = Image.new("RGB", (width, band), "white")
        ImageDraw.Draw(strip).text((2, 1), caption[: max(1, width // 6)], fill=(40, 40, 40))
        tile[height:] = np.asarray(strip)
    return grid(tiles, columns)


def png_bytes(image: Pixels, *, optimize: bool = True) -> bytes:
    """Encode (H, W, 3) or (H, W) uint8 as PNG; `optimize` takes several times as long for a few per cent."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=optimize)
    return stream.getvalue()


def data_url(image: Pixels, *, quality: int | None = None) -> str:
    """Image as a data: URL, so that a page stands alone: a PNG, or with a quality (1 to 95) a JPEG."""
    if quality is None:
        return "data:image/png;base64," + base64.b64encode(png_bytes(image)).decode("ascii")
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=quality, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
