"""Designs of cars: the proportions of seven body types and the colours of one car."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Range = tuple[float, float]


@dataclass(frozen=True)
class BodyType:
    """Ranges of the proportions of a body type.

    Lengths are metres. Positions along the car are fractions of its length from the front; heights of the belt line
    are fractions of the car's height. Real lengths are compressed (a real pickup is 1.3 m longer than a hatchback,
    here 0.5 m), so that every car fills the same frame.
    """

    weight: float
    length: Range
    width: Range
    height: Range
    clearance: Range
    wheel_radius: Range
    nose: float
    cowl: float
    belt: float
    tail: float
    windscreen: Range
    """Base and header of the windscreen along the car, before jitter."""
    rear_window: Range
    """Header and base of the rear window along the car, before jitter."""
    axles: Range
    tumblehome: Range
    """Half width of the roof over half width of the belt."""
    doors: int = 4
    tailgate: bool = True
    """Whether the rear window belongs to an upright tailgate (no separate boot deck)."""


BODY_TYPES: Mapping[str, BodyType] = {
    "sedan": BodyType(
        0.18, (4.45, 4.62), (1.76, 1.86), (1.38, 1.46), (0.19, 0.22), (0.32, 0.35), 0.52, 0.635, 0.655, 0.665,
        (0.265, 0.43), (0.68, 0.845), (0.185, 0.795), (0.74, 0.80), tailgate=False,
    ),
    "hatchback": BodyType(
        0.17, (4.0, 4.2), (1.74, 1.84), (1.46, 1.54), (0.19, 0.22), (0.32, 0.35), 0.51, 0.62, 0.645, 0.65,
        (0.225, 0.385), (0.85, 0.985), (0.185, 0.82), (0.76, 0.82),
    ),
    "estate": BodyType(
        0.14, (4.45, 4.62), (1.76, 1.86), (1.44, 1.52), (0.19, 0.22), (0.32, 0.35), 0.51, 0.62, 0.635, 0.635,
        (0.25, 0.41), (0.92, 0.988), (0.185, 0.79), (0.77, 0.82),
    ),
    "suv": BodyType(
        0.16, (4.3, 4.5), (1.86, 1.94), (1.66, 1.78), (0.27, 0.32), (0.385, 0.42), 0.55, 0.625, 0.635, 0.63,
        (0.255, 0.375), (0.90, 0.985), (0.19, 0.80), (0.79, 0.84),
    ),
    "pickup": BodyType(
        0.12, (4.55, 4.68), (1.84, 1.92), (1.64, 1.74), (0.28, 0.33), (0.385, 0.42), 0.56, 0.635, 0.635, 0.63,
        (0.25, 0.36), (0.55, 0.585), (0.175, 0.78), (0.79, 0.84), tailgate=False,
    ),
    "van": BodyType(
        0.12, (4.4, 4.6), (1.82, 1.9), (1.86, 2.0), (0.19, 0.23), (0.33, 0.36), 0.44, 0.52, 0.53, 0.53,
        (0.12, 0.26), (0.965, 0.99), (0.165, 0.77), (0.86, 0.90),
    ),
    "coupe": BodyType(
        0.11, (4.2, 4.4), (1.80, 1.88), (1.28, 1.36), (0.16, 0.19), (0.305, 0.33), 0.55, 0.655, 0.68, 0.70,
        (0.325, 0.475), (0.68, 0.885), (0.185, 0.80), (0.70, 0.76), doors=2, tailgate=False,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class CarDesign:
    """One car: proportions in metres (z from the rear, -length/2, to the front, +length/2) and colours.

    Colours are RGB in 0..1. `paint_hue` is in degrees, saturation and value as in HSV.
    """

    body_type: str
    length: float
    width: float
    height: float
    clearance: float
    wheel_radius: float
    front_axle: float
    rear_axle: float
    nose_height: float
    cowl_height: float
    belt_height: float
    tail_height: float
    cowl: float
    header: float
    rear_header: float
    rear_base: float
    tumblehome: float
    tailgate: bool
    doors: int
    panel_van: bool
    corner_radius: float
    nose_bulge: float
    nose_rake: float
    edge_radius: float
    bonnet_power: float
    lamp_width: float
    lamp_height: float
    lamp_wrap: float
    tail_lamp_width: float
    tail_lamp_height: float
    grille_width: float
    grille_open: bool
    spokes: int
    flare: float
    roof_rails: bool
    paint_name: str
    paint: tuple[float, float, float]
    roof_paint: tuple[float, float, float]
    bumper: tuple[float, float, float]
    rim: tuple[float, float, float]
    glass: tuple[float, float, float]
    plate: tuple[float, float, float]

    @property
    def paint_hsv(self) -> tuple[float, float, float]:
        """Hue in degrees, saturation and value of the paint."""
        hue, saturation, value = colorsys.rgb_to_hsv(*self.paint)
        return hue * 360.0, saturation, value

    @property
    def arch_radius(self) -> float:
        """Radius of the wheel arches, metres."""
        return self.wheel_radius * 1.14


# name, probability, hue in degrees, saturation, value: saturated paints mostly; dark glass hides on dark paint
_PAINTS: tuple[tuple[str, float, Range, Range, Range], ...] = (
    ("red", 0.17, (-8.0, 6.0), (0.82, 0.95), (0.68, 0.88)),
    ("orange", 0.09, (18.0, 30.0), (0.85, 0.97), (0.85, 0.96)),
    ("yellow", 0.10, (44.0, 54.0), (0.80, 0.95), (0.88, 0.98)),
    ("green", 0.11, (95.0, 140.0), (0.60, 0.85), (0.50, 0.75)),
    ("teal", 0.08, (168.0, 188.0), (0.60, 0.85), (0.55, 0.78)),
    ("blue", 0.18, (205.0, 228.0), (0.70, 0.92), (0.62, 0.88)),
    ("purple", 0.06, (262.0, 292.0), (0.50, 0.75), (0.50, 0.72)),
    ("white", 0.11, (0.0, 360.0), (0.00, 0.03), (0.88, 0.97)),
    ("silver", 0.07, (200.0, 240.0), (0.01, 0.07), (0.58, 0.74)),
    ("black", 0.03, (0.0, 360.0), (0.00, 0.15), (0.10, 0.18)),
)


def sample_design(rng: np.random.Generator, body_type: str | None = None) -> CarDesign:
    """Draw a car.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    body_type : str, optional
        One of `BODY_TYPES`; drawn with its weight when left out.
    """
    names = list(BODY_TYPES)
    weights = np.array([BODY_TYPES[name].weight for name in names])
    drawn = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    name = drawn if body_type is None else body_type
    body = BODY_TYPES[name]

    def draw(limits: Range) -> float:
        return float(rng.uniform(*limits))

    def jitter(value: float, spread: float = 0.012) -> float:
        return value + float(rng.uniform(-spread, spread))

    length, width, height = draw(body.length), draw(body.width), draw(body.height)
    shift = float(rng.uniform(-0.012, 0.012))
    single_cab = name == "pickup" and rng.random() < 0.3
    rear_shift = -0.05 if single_cab else 0.0
    panel_van = name == "van" and rng.random() < 0.4
    three_door = name == "hatchback" and rng.random() < 0.3
    tall = name in ("suv", "pickup", "van")
    upright = body.tailgate

    def along(fraction: float) -> float:
        return length * (0.5 - fraction)

    return CarDesign(
        body_type=name,
        length=length,
        width=width,
        height=height,
        clearance=draw(body.clearance),
        wheel_radius=draw(body.wheel_radius),
        front_axle=along(jitter(body.axles[0], 0.006)),
        rear_axle=along(jitter(body.axles[1], 0.008)),
        nose_height=height * jitter(body.nose),
        cowl_height=height * jitter(body.cowl, 0.006),
        belt_height=height * jitter(body.belt, 0.008),
        tail_height=height * jitter(body.tail, 0.01),
        cowl=along(body.windscreen[0] + shift),
        header=along(jitter(body.windscreen[1] + shift, 0.01)),
        rear_header=along(jitter(body.rear_window[0] + rear_shift, 0.012)),
        rear_base=along(jitter(body.rear_window[1] + rear_shift, 0.002 if upright else 0.01)),
        tumblehome=draw(body.tumblehome),
        tailgate=body.tailgate,
        doors=2 if single_cab or three_door or panel_van else body.doors,
        panel_van=panel_van,
        corner_radius=draw((0.30, 0.46)) * (0.8 if tall else 1.0),
        nose_bulge=draw((0.05, 0.13)),
        nose_rake=draw((0.02, 0.10)) + (0.10 if name == "van" else 0.0),
        edge_radius=draw((0.06, 0.11)),
        bonnet_power=draw((0.55, 0.9)),
        lamp_width=draw((0.30, 0.40)),
        lamp_height=draw((0.24, 0.36)),
        lamp_wrap=draw((0.02, 0.16)),
        tail_lamp_width=draw((0.17, 0.24)) if upright else draw((0.24, 0.42)),
        tail_lamp_height=draw((0.52, 0.68)) if upright and rng.random() < 0.75 else draw((0.34, 0.46)),
        grille_width=draw((0.32, 0.5)),
        grille_open=bool(rng.random() < 0.85),
        spokes=int(rng.integers(5, 8)),
        flare=draw((0.0, 0.02)) + (0.02 if name in ("suv", "pickup") else 0.0),
        roof_rails=name in ("suv", "estate") and bool(rng.random() < 0.5),
        **_draw_colours(rng, name),
    )


def _draw_colours(rng: np.random.Generator, body_type: str) -> dict[str, Any]:
    """Colours of a car, as keyword arguments of `CarDesign`."""
    index = int(rng.choice(len(_PAINTS), p=np.array([row[1] for row in _PAINTS])))
    name, _, hue, saturation, value = _PAINTS[index]
    paint = colorsys.hsv_to_rgb(rng.uniform(*hue) / 360.0 % 1.0, rng.uniform(*saturation), rng.uniform(*value))
    two_tone = rng.random() < 0.06 and body_type in ("hatchback", "suv", "coupe")
    contrast = (0.92, 0.92, 0.92) if rng.random() < 0.5 and name not in ("white", "silver") else (0.08, 0.08, 0.09)
    plastic = rng.random() < (0.45 if body_type in ("suv", "pickup", "van") else 0.08)
    grey = float(rng.uniform(0.16, 0.24))
    rim = float(rng.uniform(0.66, 0.9))
    tint = float(rng.uniform(0.05, 0.11))
    yellow = rng.random() < 0.25
    return {
        "paint_name": name,
        "paint": tuple(float(c) for c in paint),
        "roof_paint": contrast if two_tone else tuple(float(c) for c in paint),
        "bumper": (grey, grey, grey * 1.04) if plastic else tuple(float(c) for c in paint),
        "rim": (rim, rim, rim * 1.02),
        "glass": (tint, tint * 1.25, tint * 1.6),
        "plate": (0.98, 0.80, 0.18) if yellow else (0.95, 0.95, 0.93),
    }
