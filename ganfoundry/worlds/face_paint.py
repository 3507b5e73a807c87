"""Colours of the skin: tone, blush, lips, lids, beard, painted on the vertices of the head."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganfoundry.worlds.face_data import REGIONS, HeadData
from ganfoundry.worlds.face_design import FaceDesign

Array = npt.NDArray[np.float64]

_INSIDE = {"mouth": (0.30, 0.09, 0.09), "teeth": (0.93, 0.91, 0.86), "tongue": (0.66, 0.30, 0.30)}
_LASHES = np.array([0.07, 0.055, 0.05])


def _blob(head: HeadData, x: float, y: float, width: float, height: float) -> Array:
    """Soft spots on both sides of the front of the template, (V,): 1 at (+-x, y) metres from between the eyes."""
    px, py, pz = head.template.T.astype(np.float64)
    spot = np.exp(-0.5 * (((np.abs(px) - x) / width) ** 2 + ((py - y) / height) ** 2))
    return np.asarray(spot * (pz > -0.05))


def _step(value: Array, soft: float) -> Array:
    """Smooth step from 0 to 1 around 0."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(value / soft, -30.0, 30.0))))


def beard_mask(head: HeadData) -> Array:
    """Where a beard grows, (V,) in 0..1: chin, jaw and upper lip, not the lips."""
    x, y, z = head.template.T.astype(np.float64)
    side = np.abs(x)
    jaw = _step(-0.055 - 0.30 * (z + 0.01) + 0.10 * np.maximum(side - 0.03, 0.0) - y, 0.0035)
    jaw = jaw * _step(z + 0.068, 0.004) * _step(y + 0.128, 0.004)
    cheek = _step(side - 0.033, 0.003) + _step(-0.078 - y, 0.003)
    moustache = _blob(head, 0.010, -0.0535, 0.016, 0.0045) * (z > 0.0)
    beard: Array = np.clip(np.maximum(jaw * np.minimum(cheek, 1.0), 1.2 * moustache), 0.0, 1.0) * (1.0 - head.lips)
    return beard


def skin_colours(head: HeadData, design: FaceDesign) -> Array:
    """Unshaded colours of the head's vertices, (V, 3) in 0..1."""
    skin = np.array(design.skin)
    out = np.broadcast_to(skin, head.template.shape).copy()
    position = head.template.astype(np.float64) * [0.0, 1.0, 1.0] + np.abs(head.template) * [1.0, 0.0, 0.0]
    for row in design.mottle:
        out *= 1.0 + 0.012 * row[3] * np.sin(position @ (row[:3] * 90.0) + row[4] * 3.0)[:, None]
    blush = design.blush * np.maximum(
        _blob(head, 0.037, -0.036, 0.013, 0.012), 0.5 * _blob(head, 0.0, -0.036, 0.011, 0.008)
    )
    out *= 1.0 - blush[:, None] * [0.0, 0.13, 0.11]
    out *= 1.0 - 0.14 * _blob(head, 0.031, 0.001, 0.015, 0.009)[:, None]
    shadow = design.eyeshadow * _blob(head, 0.031, 0.0095, 0.013, 0.0045)[:, None]
    out += 0.7 * shadow * (0.55 * skin * [0.75, 0.6, 0.8] - out)
    out *= 1.0 - 0.7 * _blob(head, 0.0075, -0.0475, 0.0032, 0.0022)[:, None]
    beard = beard_mask(head)[:, None] * min(0.9, 0.3 + 0.75 * design.beard) * (design.beard > 0.0)
    out += beard * (0.85 * np.array(design.brow_colour) - out)
    out += 1.0 * head.lips[:, None] * (np.array(design.lips) - out)
    out += (0.9 - 0.4 * design.male) * head.eyelids[:, None] * (_LASHES - out)
    return np.asarray(np.clip(out, 0.02, 0.95))


def corner_colours(head: HeadData, design: FaceDesign) -> Array:
    """Unshaded colours at the corners of the head's triangles, (F, 3, 3): skin, and what is inside the mouth."""
    out = skin_colours(head, design)[head.faces]
    for region, colour in _INSIDE.items():
        out[head.regions == REGIONS.index(region)] = colour
    return out
