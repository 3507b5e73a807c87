"""Names of the parts and keypoints of the faces world."""

from __future__ import annotations

from enum import IntEnum

from ganfoundry.worlds.part_table import tabled_schema

# fine part, its class of nine, its class of five, its colour
_TABLE = (
    ("background", "background", "background", (0, 0, 0)),
    ("skin", "skin", "skin", (240, 190, 150)),
    ("nose", "nose", "skin", (200, 120, 90)),
    ("ear", "ear", "skin", (250, 140, 60)),
    ("neck", "neck", "skin", (170, 120, 200)),
    ("brow", "brow", "eye", (110, 70, 20)),
    ("eye_white", "eye", "eye", (240, 240, 255)),
    ("iris", "eye", "eye", (40, 150, 230)),
    ("pupil", "eye", "eye", (20, 60, 120)),
    ("upper_lip", "mouth", "mouth", (230, 50, 80)),
    ("lower_lip", "mouth", "mouth", (180, 20, 60)),
    ("teeth", "mouth", "mouth", (255, 255, 160)),
    ("inner_mouth", "mouth", "mouth", (110, 0, 50)),
    ("hair", "hair", "hair", (60, 160, 80)),
)

_SIDED_KEYPOINTS = (
    "eye_outer",
    "eye_inner",
    "mouth_corner",
    "nose_wing",
    "ear_lobe",
    "brow_outer",
    "brow_inner",
)

FACE_SCHEMA = tabled_schema(
    "faces", _TABLE, ("parts9", "parts5"), _SIDED_KEYPOINTS, ("nose_tip", "upper_lip", "lower_lip", "chin")
)
"""Schema of the faces world; left and right are the person's own."""

KEYPOINTS = FACE_SCHEMA.keypoints

Part = IntEnum("Part", {name.upper(): index for index, name in enumerate(FACE_SCHEMA.parts)})  # type: ignore[misc]
Part.__doc__ = "Fine part ids of the faces world."
