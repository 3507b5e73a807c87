"""Names of the parts, materials and keypoints of the cars world."""

from __future__ import annotations

from enum import IntEnum

from ganfoundry.worlds.part_table import tabled_schema


class Part(IntEnum):
    """Fine part ids of the cars world."""

    BACKGROUND = 0
    BONNET = 1
    ROOF = 2
    BOOT = 3
    FRONT_BUMPER = 4
    REAR_BUMPER = 5
    FRONT_WING = 6
    REAR_WING = 7
    FRONT_DOOR = 8
    REAR_DOOR = 9
    SILL = 10
    PILLAR = 11
    LOAD_BED = 12
    WINDSCREEN = 13
    REAR_WINDOW = 14
    FRONT_SIDE_WINDOW = 15
    REAR_SIDE_WINDOW = 16
    HEADLAMP = 17
    TAIL_LAMP = 18
    GRILLE = 19
    NUMBER_PLATE = 20
    MIRROR = 21
    WHEEL_ARCH = 22
    TYRE = 23
    RIM = 24


# fine part, its class of twelve, its class of five, its colour
_TABLE = (
    (Part.BACKGROUND, "background", "background", (0, 0, 0)),
    (Part.BONNET, "bonnet", "body", (230, 60, 50)),
    (Part.ROOF, "roof", "body", (60, 100, 220)),
    (Part.BOOT, "boot", "body", (240, 150, 40)),
    (Part.FRONT_BUMPER, "bumper", "body", (150, 40, 110)),
    (Part.REAR_BUMPER, "bumper", "body", (110, 60, 150)),
    (Part.FRONT_WING, "side", "body", (60, 170, 80)),
    (Part.REAR_WING, "side", "body", (20, 110, 90)),
    (Part.FRONT_DOOR, "side", "body", (120, 210, 90)),
    (Part.REAR_DOOR, "side", "body", (180, 220, 60)),
    (Part.SILL, "side", "body", (90, 90, 40)),
    (Part.PILLAR, "roof", "body", (130, 150, 230)),
    (Part.LOAD_BED, "boot", "body", (150, 100, 60)),
    (Part.WINDSCREEN, "windscreen", "glass", (90, 220, 230)),
    (Part.REAR_WINDOW, "rear_window", "glass", (40, 150, 170)),
    (Part.FRONT_SIDE_WINDOW, "side_window", "glass", (170, 240, 220)),
    (Part.REAR_SIDE_WINDOW, "side_window", "glass", (110, 190, 190)),
    (Part.HEADLAMP, "headlamp", "lamp", (255, 245, 130)),
    (Part.TAIL_LAMP, "tail_lamp", "lamp", (255, 0, 60)),
    (Part.GRILLE, "bumper", "body", (80, 70, 90)),
    (Part.NUMBER_PLATE, "bumper", "body", (250, 250, 250)),
    (Part.MIRROR, "side", "body", (250, 120, 200)),
    (Part.WHEEL_ARCH, "wheel", "wheel", (70, 60, 60)),
    (Part.TYRE, "wheel", "wheel", (120, 120, 120)),
    (Part.RIM, "wheel", "wheel", (200, 200, 200)),
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
