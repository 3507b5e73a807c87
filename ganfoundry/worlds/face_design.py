"""Designs of faces: identity, expression, colours and hair of one person."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Colour = tuple[float, float, float]

DETAIL_LIMIT = 2.0
"""Largest coefficient of a principal component of the features, standard deviations."""


@dataclass(frozen=True)
class HairStyle:
    """Ranges of a hair style; lengths are metres, angles degrees.

    Attributes
    ----------
    weight : pair of float
        How often women and men wear it.
    front, temple : range
        Polar angle of the hairline over the forehead and over the temples; more is lower.
    top, side : range
        Thickness on the crown and at the sides.
    rough : range
        Size of locks that stand out, relative to the thickness.
    drop : range, optional
        Height to which the hair falls, relative to the eyes; None for hair that ends at the hairline.
    """

    weight: tuple[float, float]
    front: tuple[float, float]
    temple: tuple[float, float]
    top: tuple[float, float]
    side: tuple[float, float]
    rough: tuple[float, float]
    drop: tuple[float, float] | None = None


HAIR_STYLES: Mapping[str, HairStyle] = {
    "bald": HairStyle((0.01, 0.15), (60, 60), (60, 60), (0, 0), (0, 0), (0, 0)),
    "cropped": HairStyle((0.10, 0.27), (62, 72), (64, 76), (0.004, 0.008), (0.003, 0.005), (0.0, 0.1)),
    "short": HairStyle((0.14, 0.30), (66, 74), (70, 79), (0.016, 0.034), (0.007, 0.014), (0.15, 0.35)),
    "fringe": HairStyle((0.17, 0.10), (79, 86), (80, 87), (0.012, 0.024), (0.008, 0.016), (0.1, 0.25)),
    "curly": HairStyle((0.14, 0.09), (66, 75), (69, 79), (0.028, 0.050), (0.022, 0.038), (0.35, 0.6)),
    "bob": HairStyle((0.22, 0.04), (65, 74), (70, 80), (0.014, 0.028), (0.018, 0.028), (0.1, 0.25), (-0.105, -0.05)),
    "long": HairStyle((0.22, 0.05), (65, 74), (70, 80), (0.012, 0.026), (0.014, 0.026), (0.1, 0.25), (-0.19, -0.17)),
}  # fmt: skip

# darkest and lightest skin of each of face_data.ANCESTRIES
_SKINS = (
    ((0.30, 0.185, 0.125), (0.60, 0.40, 0.28)),
    ((0.78, 0.59, 0.44), (0.94, 0.785, 0.64)),
    ((0.84, 0.62, 0.50), (0.95, 0.79, 0.695)),
)
_HAIR_COLOURS: Mapping[str, tuple[Colour, float, float]] = {
    # colour, weight with dark skin, weight with light skin
    "black": ((0.075, 0.065, 0.065), 0.72, 0.22),
    "dark_brown": ((0.20, 0.125, 0.085), 0.20, 0.26),
    "brown": ((0.38, 0.23, 0.13), 0.05, 0.20),
    "blond": ((0.82, 0.64, 0.36), 0.02, 0.20),
    "red": ((0.62, 0.25, 0.10), 0.01, 0.12),
}
_GREY = (0.70, 0.69, 0.68)
_IRISES: Mapping[str, tuple[Colour, float, float]] = {
    "brown": ((0.28, 0.15, 0.07), 0.95, 0.42),
    "blue": ((0.22, 0.45, 0.72), 0.01, 0.32),
    "green": ((0.28, 0.47, 0.24), 0.02, 0.16),
    "grey": ((0.42, 0.48, 0.52), 0.02, 0.10),
}
EXPRESSION_NAMES = ("neutral", "smile", "laugh", "surprise", "frown", "pout")
_EXPRESSION_WEIGHTS = (0.34, 0.27, 0.16, 0.09, 0.09, 0.05)


@dataclass(frozen=True, eq=False)
class FaceDesign:
    """One face. Colours are RGB in 0..1, lengths metres, angles degrees.

    Attributes
    ----------
    ancestry : ndarray, (3,)
        Shares of `face_data.ANCESTRIES`.
    male, age : float
        From 0 (female; young) to 1 (male; old).
    details : ndarray
        Coefficients of the principal components of the features.
    expression : str
        One of `EXPRESSION_NAMES`; `actions` are the facial actions that show it, by name, in 0..1.
    gaze : pair of float
        Turn of the eyes to the left and up.
    hair_style : str
        One of `HAIR_STYLES`, with `hairline` (front, temple), `hair_thickness` (top, side), `hair_rough`, `hair_drop`
        (NaN where hair ends at the hairline) and the phases `hair_locks` (4,) of its locks.
    beard : float
        0 none, to 0.5 stubble, 1 a full beard.
    brow : tuple of float
        Thickness, arch and slope of the brows: half height, rise of the middle and of the outer end.
    """

    ancestry: Array
    male: float
    age: float
    details: Array
    expression: str
    actions: Mapping[str, float]
    gaze: tuple[float, float]
    hair_style: str
    hairline: tuple[float, float]
    hair_thickness: tuple[float, float]
    hair_rough: float
    hair_drop: float
    hair_locks: Array
    beard: float
    brow: tuple[float, float, float]
    skin: Colour
    hair_name: str
    hair: Colour
    brow_colour: Colour
    lips: Colour
    iris_name: str
    iris: Colour
    blush: float
    eyeshadow: float
    mottle: Array


def sample_design(
    rng: np.random.Generator, hair_rng: np.random.Generator, num_details: int, hair_style: str | None = None
) -> FaceDesign:
    """Draw a face.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of identity, expression and colours.
    hair_rng : numpy.random.Generator
        Source of the hair's shape, so that the same person can wear another style.
    num_details : int
        Principal components of the features.
    hair_style : str, optional
        Fixes the hair style.
    """
    ancestry = rng.dirichlet([0.42, 0.45, 0.5])
    male = float(np.clip(rng.normal(0.12 if rng.random() < 0.5 else 0.88, 0.12), 0.0, 1.0))
    age = float(rng.beta(1.1, 1.6))
    details = np.clip(rng.normal(size=num_details), -DETAIL_LIMIT, DETAIL_LIMIT)
    expression, actions = _draw_expression(rng)
    colours = _draw_colours(rng, ancestry, male, age)
    beard = float(rng.choice([0.0, rng.uniform(0.2, 0.5), rng.uniform(0.75, 1.0)], p=[0.5, 0.25, 0.25]))
    return FaceDesign(
        ancestry=ancestry,
        male=male,
        age=age,
        details=details,
        expression=expression,
        actions=actions,
        gaze=(float(rng.normal(0.0, 7.0)), float(rng.normal(0.0, 3.5))),
        beard=beard if male > 0.6 else 0.0,
        brow=(
            float(rng.uniform(0.0020, 0.0034) + 0.0010 * male),
            float(rng.uniform(0.001, 0.0045)),
            float(rng.normal(-0.0048, 0.0016)),
        ),
        blush=float(rng.uniform(0.0, 1.0)),
        eyeshadow=float(rng.uniform(0.3, 1.0)) if male < 0.4 and rng.random() < 0.45 else 0.0,
        mottle=rng.normal(size=(6, 5)),
        **colours,
        **_draw_hair(hair_rng, male, hair_style),
    )


def _draw_expression(rng: np.random.Generator) -> tuple[str, dict[str, float]]:
    """An expression and its facial actions; one side is sometimes weaker."""
    name = EXPRESSION_NAMES[int(rng.choice(len(EXPRESSION_NAMES), p=_EXPRESSION_WEIGHTS))]
    much = float(rng.uniform(0.45, 1.0))
    sided: dict[str, float] = {"eyeBlink": float(rng.uniform(0.0, 0.22)) if rng.random() < 0.6 else 0.0}
    middle: dict[str, float] = {}
    if name == "smile":
        sided |= {"mouthSmile": 0.85 * much, "cheekSquint": 0.5 * much, "eyeSquint": 0.3 * much}
    elif name == "laugh":
        sided |= {"mouthSmile": 0.9 * much, "mouthUpperUp": 0.45 * much, "mouthLowerDown": 0.35 * much}
        sided |= {"cheekSquint": 0.6 * much, "eyeSquint": 0.3 * much}
        middle["jawOpen"] = float(rng.uniform(0.12, 0.4)) * much
    elif name == "surprise":
        sided |= {"eyeWide": 0.8 * much, "browOuterUp": 0.8 * much, "eyeBlink": 0.0}
        middle |= {"browInnerUp": 0.8 * much, "jawOpen": float(rng.uniform(0.2, 0.55)) * much}
    elif name == "frown":
        sided |= {"browDown": 0.9 * much, "mouthFrown": 0.9 * much, "noseSneer": 0.25 * much, "eyeSquint": 0.3 * much}
    elif name == "pout":
        middle |= {"mouthPucker": 0.8 * much, "browInnerUp": 0.3 * much}
    elif rng.random() < 0.25:
        middle["jawOpen"] = float(rng.uniform(0.06, 0.2))
    weaker = float(rng.uniform(0.65, 1.0)) if rng.random() < 0.25 else 1.0
    left, right = (1.0, weaker) if rng.random() < 0.5 else (weaker, 1.0)
    for action, strength in sided.items():
        middle[f"{action}Left"], middle[f"{action}Right"] = strength * left, strength * right
    return name, middle


def _draw_colours(rng: np.random.Generator, ancestry: Array, male: float, age: float) -> dict[str, Any]:
    """Colours of a face, as keyword arguments of `FaceDesign`."""
    skins = np.array(_SKINS)
    skin = ancestry @ (skins[:, 0] + (skins[:, 1] - skins[:, 0]) * rng.random((3, 1)))
    skin = np.clip(skin * (1.0 + rng.normal(0.0, 0.03) + rng.normal(0.0, 0.013, 3)), 0.05, 0.95)
    light = float(np.clip((skin.mean() - 0.35) / 0.35, 0.0, 1.0)) * float(1.0 - 0.75 * ancestry[1])
    hair_name, hair = _pick(rng, _HAIR_COLOURS, light)
    iris_name, iris = _pick(rng, _IRISES, light)
    hair = np.clip(hair * rng.uniform(0.85, 1.15), 0.04, 0.9)
    brow = np.clip(hair * (0.55 if hair.mean() > 0.35 else 0.8), 0.05, 0.6)
    if rng.random() < 2.2 * (age - 0.5):
        hair_name, hair = "grey", np.array(_GREY) * rng.uniform(0.65, 1.2)
        brow = 0.6 * hair
    lips = skin * np.array([0.97, 0.68, 0.67]) * rng.uniform(0.82, 1.0)
    if male < 0.45 and rng.random() < 0.6:
        painted = np.array(
            colorsys.hsv_to_rgb(rng.uniform(-0.06, 0.02) % 1.0, rng.uniform(0.5, 0.85), 0.4 + 0.45 * light)
        )
        lips += rng.uniform(0.5, 0.95) * (painted - lips)

    def plain(colour: Array) -> Colour:
        return tuple(float(c) for c in np.clip(colour, 0.03, 0.95))  # type: ignore[return-value]

    return {
        "skin": plain(skin), "hair_name": hair_name, "hair": plain(hair), "brow_colour": plain(brow),
        "lips": plain(lips), "iris_name": iris_name, "iris": plain(iris),
    }  # fmt: skip


def _pick(
    rng: np.random.Generator, table: Mapping[str, tuple[Colour, float, float]], light: float
) -> tuple[str, Array]:
    """Draw a named colour; the weights lie between those of dark and of light skin."""
    weights = np.array([dark + (fair - dark) * light for _, dark, fair in table.values()])
    name = list(table)[int(rng.choice(len(table), p=weights / weights.sum()))]
    return name, np.array(table[name][0])


def _draw_hair(rng: np.random.Generator, male: float, style: str | None) -> dict[str, Any]:
    """Hair, as keyword arguments of `FaceDesign`."""
    names = list(HAIR_STYLES)
    weights = np.array([row.weight[0] + (row.weight[1] - row.weight[0]) * male for row in HAIR_STYLES.values()])
    drawn = names[int(rng.choice(len(names), p=weights / weights.sum()))]
    name = drawn if style is None else style
    row = HAIR_STYLES[name]
    part = rng.random(6)

    def between(limits: tuple[float, float], share: float) -> float:
        return float(limits[0] + (limits[1] - limits[0]) * share)

    return {
        "hair_style": name,
        "hairline": (between(row.front, part[0]), between(row.temple, part[1])),
        "hair_thickness": (between(row.top, part[2]), between(row.side, part[3])),
        "hair_rough": between(row.rough, part[4]),
        "hair_drop": between(row.drop, part[5]) if row.drop else float("nan"),
        "hair_locks": rng.uniform(0.0, 2.0 * np.pi, 4),
    }
