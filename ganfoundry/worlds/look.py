"""Distributions of everything around a car: camera, light, background; and the random streams of a sample."""

from __future__ import annotations

import numpy as np

from ganfoundry.errors import InputError
from ganfoundry.render.camera import Camera
from ganfoundry.worlds.shading import Background, Light

FOV = 26.0
"""Field of view of every random camera, degrees."""
DISTANCE = (11.0, 11.25)
"""Range of the random cameras' distances, metres: narrow, so that one view code is one camera."""
ELEVATION = (0.0, 30.0)
"""Range of the random cameras' elevations, degrees."""


def stream(seed: int, key: int) -> np.random.Generator:
    """Random numbers of one purpose (`key`) of one sample."""
    if seed < 0:
        raise InputError(f"seed {seed} is negative; seeds count from 0")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,)))


def sample_camera(rng: np.random.Generator, resolution: int) -> Camera:
    """Random camera: azimuth all around, elevation and distance in their ranges, the object in the middle."""
    azimuth, elevation, distance = rng.uniform(0.0, 360.0), rng.uniform(*ELEVATION), rng.uniform(*DISTANCE)
    return Camera(float(azimuth), float(elevation), float(distance), FOV, resolution=resolution)


def sample_light(rng: np.random.Generator) -> Light:
    """Random sun direction and sky; never so weak that parts of the car sink into black."""
    turn, rise = rng.uniform(0.0, 2.0 * np.pi), np.radians(rng.uniform(28.0, 75.0))
    sun = (float(np.cos(rise) * np.sin(turn)), float(np.sin(rise)), float(np.cos(rise) * np.cos(turn)))
    ambient = float(rng.uniform(0.62, 0.76))
    sky = np.array([0.62, 0.78, 0.98]) * rng.uniform(0.85, 1.0)
    horizon = np.array([0.92, 0.94, 0.97]) * rng.uniform(0.85, 1.0)
    ground = np.array([0.30, 0.29, 0.28]) * rng.uniform(0.7, 1.2)
    triples = [tuple(float(c) for c in colour) for colour in (sky, horizon, ground)]
    return Light(sun, float(rng.uniform(0.38, 0.56)), ambient, triples[0], triples[1], triples[2])  # type: ignore[arg-type]


def sample_background(rng: np.random.Generator) -> Background:
    """Random background: mostly plain or a gradient, sometimes ground and sky, sometimes soft noise."""
    kind = ("plain", "gradient", "horizon", "noise")[int(rng.choice(4, p=[0.45, 0.33, 0.14, 0.08]))]
    level = rng.uniform(0.55, 0.92, 2)
    tint = 1.0 + rng.uniform(-0.06, 0.06, (2, 3))
    top, bottom = np.clip(level[:, None] * tint, 0.0, 1.0)
    if kind == "horizon":
        top = np.array([0.70, 0.82, 0.95]) * rng.uniform(0.85, 1.03)
        bottom = np.clip(rng.uniform(0.45, 0.68) * (1.0 + rng.uniform(-0.06, 0.06, 3)), 0.0, 1.0)
    noise = rng.normal(0.0, 0.045 if kind == "noise" else 0.0, (9, 9))
    as_tuple = [tuple(float(c) for c in colour) for colour in (top, bottom)]
    return Background(kind, as_tuple[0], as_tuple[1], noise)  # type: ignore[arg-type]
