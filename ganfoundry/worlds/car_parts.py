"""Names of the parts, materials and keypoints of the cars world."""

from __future__ import annotations

from enum import IntEnum

from ganfoundry.worlds.part_table import tabled_schema

# fine part, its class of twelve, its class of five, its colour
_TABLE = (
    ("background", "background", "background", (0, 0, 0)),
    ("bonnet", "bonnet", "body", (230, 60, 50)),
    ("roof", "roof", "body", (60, 100, 220)),
    ("boot", "boot", "body", (240, 150, 40)),
    ("front_bumper", "bumper", "body", (150, 40, 110)),
    ("rear_bumper", "bumper", "body", (110, 60, 150)),
    ("front_wing", "side", "body", (60, 170, 80)),
    ("rear_wing", "side", "body", (20, 110, 90)),
    ("front_door", "side", "body", (120, 210, 90)),
    ("rear_door", "side", "body", (180, 220, 60)),
    ("sill", "side", "body", (90, 90, 40)),
    ("pillar", "roof", "body", (130, 150, 230)),
    ("load_bed", "boot", "body", (150, 100, 60)),
    ("windscreen", "windscreen", "glass", (90, 220, 230)),
    ("rear_window", "rear_window", "glass", (40, 150, 170)),
    ("front_side_window", "side_window", "glass", (170, 240, 220)),
    ("rear_side_window", "side_window", "glass", (110, 190, 190)),
    ("headlamp", "headlamp", "lamp", (255, 245, 130)),
    ("tail_lamp", "tail_lamp", "lamp", (255, 0, 60)),
    ("grille", "bumper", "body", (80, 70, 90)),
    ("number_plate", "bumper", "body", (250, 250, 250)),
    ("mirror", "side", "body", (250, 120, 200)),
    ("wheel_arch", "wheel", "wheel", (70, 60, 60)),
    ("tyre", "wheel", "wheel", (120, 120, 120)),
    ("rim", "wheel", "wheel", (200, 200, 200)),
)

_SIDED_KEYPOINTS = (
    "front_wheel",
    "rear_wheel",
    "headlamp",
    "tail_lamp",
    "mirror",
    "front_roof_corner",
    "rear_roof_corner",
    "windscreen_base",
    "rear_window_base",
    "front_bumper_corner",
    "rear_bumper_corner",
)

CAR_SCHEMA = tabled_schema("cars", _TABLE, ("parts12", "parts5"), _SIDED_KEYPOINTS, ("front_plate", "rear_plate"))
"""Schema of the cars world; left and right are the car's own."""

KEYPOINTS = CAR_SCHEMA.keypoints

Part = IntEnum("Part", {name.upper(): index for index, name in enumerate(CAR_SCHEMA.parts)})  # type: ignore[misc]
Part.__doc__ = "Fine part ids of the cars world."


class Material(IntEnum):
    """What a face is made of: a row of the table that the shading reads."""

    PAINT = 0
    ROOF_PAINT = 1
    GLASS = 2
    PLASTIC = 3
    SEAM = 4
    CHROME = 5
    TYRE = 6
    RIM = 7
    DARK = 8
    HEADLAMP = 9
    TAIL_LAMP = 10
    INDICATOR = 11
    PLATE = 12
    PLATE_TEXT = 13
    BUMPER = 14
    REFLECTOR = 15
