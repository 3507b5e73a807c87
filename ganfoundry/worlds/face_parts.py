"""Names of the parts and keypoints of the faces world."""

from __future__ import annotations

from enum import IntEnum

from ganfoundry.worlds.part_table import tabled_schema


class Part(IntEnum):
    """Fine part ids of the faces world."""

    BACKGROUND = 0
    SKIN = 1
    NOSE = 2
    EAR = 3
    NECK = 4
    BROW = 5
    EYE_WHITE = 6
    IRIS = 7
    PUPIL = 8
    UPPER_LIP = 9
    LOWER_LIP = 10
    TEETH = 11
    INNER_MOUTH = 12
    HAIR = 13


# fine part, its class of nine, its class of five, its colour
_TABLE = (
    (Part.BACKGROUND, "background", "background", (0, 0, 0)),
    (Part.SKIN, "skin", "skin", (240, 190, 150)),
    (Part.NOSE, "nose", "skin", (200, 120, 90)),
    (Part.EAR, "ear", "skin", (250, 140, 60)),
    (Part.NECK, "neck", "skin", (170, 120, 200)),
    (Part.BROW, "brow", "eye", (110, 70, 20)),
    (Part.EYE_WHITE, "eye", "eye", (240, 240, 255)),
    (Part.IRIS, "eye", "eye", (40, 150, 230)),
    (Part.PUPIL, "eye", "eye", (20, 60, 120)),
    (Part.UPPER_LIP, "mouth", "mouth", (230, 50, 80)),
    (Part.LOWER_LIP, "mouth", "mouth", (180, 20, 60)),
    (Part.TEETH, "mouth", "mouth", (255, 255, 160)),
    (Part.INNER_MOUTH, "mouth", "mouth", (110, 0, 50)),
    (Part.HAIR, "hair", "hair", (60, 160, 80)),
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
