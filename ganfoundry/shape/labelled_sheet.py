"""A contact sheet of a labelled 3D set: a row of pictures for each view, one map beside the other."""

from __future__ import annotations

from collections.abc import Mapping
from colorsys import hsv_to_rgb
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ganfoundry.pictures import captioned, colourise, heatmap, magnify, overlay
from ganfoundry.shape.labelled_3d import HIDDEN, VISIBLE

Pixels = NDArray[np.uint8]
Rows = Mapping[str, NDArray[Any]]
COLUMNS = ("image", "mask", "parts", "parts on it", "depth", "normals", "uv", "keypoints")
_SIDE = 128  # least side of a picture
_STRIPES = 8  # of the pattern that shows texture coordinates


def label_sheet(rows: Rows, palette: Pixels) -> Pixels:
    """Draw every row of some shards of synthesize-3d.

    Parameters
    ----------
    rows : mapping
        The fields image, mask, label, depth, normals, uv, and perhaps keypoints and keypoint_state, n rows each.
    palette : (classes, 3) uint8

    Returns
    -------
    (H, W, 3) uint8
    """
    image, label, mask = (np.asarray(rows[name]) for name in ("image", "label", "mask"))
    scale = max(1, -(-_SIDE // image.shape[1]))
    maps = [
        image,
        np.repeat(255 * mask[..., None], 3, 3),
        colourise(label, palette),
        overlay(image, label, palette),
        depth_picture(np.asarray(rows["depth"], np.float32)),
        normal_picture(np.asarray(rows["normals"], np.float32), mask),
        uv_picture(np.asarray(rows["uv"], np.float32), mask),
    ]
    columns = [magnify(picture.astype(np.uint8), scale) for picture in maps]
    if "keypoints" in rows:
        columns.append(
            keypoint_picture(image, np.asarray(rows["keypoints"]), np.asarray(rows["keypoint_state"]), scale)
        )
    tiles = np.stack(columns, 1)
    names = COLUMNS[: len(columns)]
    return captioned(tiles.reshape(-1, *tiles.shape[2:]), list(names) * len(image), len(names), scale=1)


def depth_picture(depth: NDArray[np.float32]) -> Pixels:
    """Near is bright, each image from its nearest to its farthest point; black where there is nothing, (N, H, W, 3)."""
    pictures = []
    for one in depth:
        inside = one > 0
        if not inside.any():
            pictures.append(np.zeros((*one.shape, 3), np.uint8))
            continue
        near, far = one[inside].min(), one[inside].max()
        bright = 0.15 + 0.85 * (far - one) / max(far - near, 1e-6)
        pictures.append(heatmap(np.where(inside, bright, 0), 1.0) * inside[..., None])
    return np.stack(pictures).astype(np.uint8)


def normal_picture(normals: NDArray[np.float32], mask: NDArray[np.uint8] | NDArray[np.bool_]) -> Pixels:
    """x, y, z from -1..1 to 0..255; black where there is nothing."""
    shown = np.round((normals + 1) * 127.5) * (mask > 0)[..., None]
    return np.asarray(shown.clip(0, 255).astype(np.uint8))


def uv_picture(uv: NDArray[np.float32], mask: NDArray[np.uint8] | NDArray[np.bool_]) -> Pixels:
    """Red is u and green v, with a chequered blue, so that jumps and mirrored places can be seen."""
    chequer = (np.floor(2 * _STRIPES * uv[..., 0]) + np.floor(_STRIPES * uv[..., 1])) % 2
    shown = np.stack([255 * uv[..., 0], 255 * uv[..., 1], 70 + 150 * chequer], -1) * (mask > 0)[..., None]
    return np.asarray(np.round(shown).clip(0, 255).astype(np.uint8))


def keypoint_picture(images: Pixels, keypoints: NDArray[np.generic], states: NDArray[np.generic], scale: int) -> Pixels:
    """Visible keypoints as discs, hidden ones as rings, over magnified images, (N, scale H, scale W, 3)."""
    count = keypoints.shape[1]
    colours = [tuple(round(255 * v) for v in hsv_to_rgb(index / count, 1.0, 1.0)) for index in range(count)]
    pictures = []
    for image, points, known in zip(magnify(images, scale), keypoints, states, strict=True):
        canvas = Image.fromarray(image)
        pen = ImageDraw.Draw(canvas)
        radius = max(2, len(image) // 48)
        for (x, y), state, colour in zip(points[:, :2].tolist(), known.tolist(), colours, strict=True):
            at = x * scale - 0.5, y * scale - 0.5  # Pillow counts from the centre of the first pixel
            box = [at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius]
            if state == VISIBLE:
                pen.ellipse(box, colour, "black")
            elif state == HIDDEN:
                pen.ellipse(box, None, colour)
        pictures.append(np.asarray(canvas))
    return np.stack(pictures)
