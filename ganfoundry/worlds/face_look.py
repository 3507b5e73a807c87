"""Distributions of everything around a face: camera, light, background, and scenes with several faces."""

from __future__ import annotations

import math

import numpy as np

from ganfoundry.errors import InputError
from ganfoundry.render.camera import Camera
from ganfoundry.worlds.shading import Background, DirectionalLight

FOV = 10.0
"""Field of view of every camera, degrees (that of Unsup3d and GAN2Shape)."""
DISTANCE = 1.1
"""Distance of the camera from the middle of the face, metres: the frame is 0.19 m wide there."""
YAW = 60.0
"""Largest azimuth to both sides, degrees."""
PITCH = (-10.0, 14.0)
"""Range of elevations, degrees. There is no roll: crops of faces are aligned by the eyes."""
MAX_FACES = 12
_SPACING = 0.24

Place = tuple[tuple[float, float, float], float]


def sample_camera(rng: np.random.Generator, resolution: int) -> Camera:
    """Random camera in front of a face; azimuth evenly from -YAW to YAW (stored in [0, 360))."""
    azimuth, elevation = rng.uniform(-YAW, YAW), rng.uniform(*PITCH)
    return Camera(float(azimuth % 360.0), float(elevation), DISTANCE, FOV, resolution=resolution)


def sample_light(rng: np.random.Generator) -> DirectionalLight:
    """Random light from the front half; ambient and diffuse together never exceed 1.05, so that nothing saturates."""
    turn, rise = np.radians(rng.uniform(-75.0, 75.0)), np.radians(rng.uniform(-15.0, 60.0))
    direction = (
        float(np.cos(rise) * np.sin(turn)), float(np.sin(rise)), float(np.cos(rise) * np.cos(turn)),
    )  # fmt: skip
    ambient = float(rng.uniform(0.40, 0.62))
    return DirectionalLight(direction, float(rng.uniform(0.92, 1.05)) - ambient, ambient)


def sample_background(rng: np.random.Generator) -> Background:
    """Random background: plain, a gradient, or a soft field."""
    kind = ("plain", "gradient", "noise")[int(rng.choice(3, p=[0.5, 0.4, 0.1]))]
    level = rng.uniform(0.25, 0.95, 2)
    tint = 1.0 + rng.uniform(-0.14, 0.14, (2, 3))
    top, bottom = np.clip(level[:, None] * tint, 0.0, 1.0)
    noise = rng.normal(0.0, 0.05 if kind == "noise" else 0.0, (9, 9))
    colours = [tuple(float(c) for c in colour) for colour in (top, bottom)]
    return Background(kind, colours[0], colours[1], noise)  # type: ignore[arg-type]


def sample_scene(
    rng: np.random.Generator, resolution: int, num_objects: int | None = None
) -> tuple[Camera, list[Place]]:
    """Draw a scene: the camera, and position and yaw of every face.

    Half of the scenes show one face as `sample_camera` frames it; the others none, one that is small and off the
    middle, or two to four (or `num_objects`) side by side.

    Raises
    ------
    InputError
        If `num_objects` is negative or above `MAX_FACES`.
    """
    if num_objects is not None and not 0 <= num_objects <= MAX_FACES:
        raise InputError(f"a scene cannot have {num_objects} faces; choose 0 to {MAX_FACES}")
    allowed = np.array([0.06, 0.5, 0.2, 0.24])
    if num_objects is not None:
        allowed = allowed * [num_objects == 0, num_objects == 1, num_objects == 1, num_objects > 1]
    kind = int(rng.choice(4, p=allowed / allowed.sum()))
    camera = sample_camera(rng, resolution)
    if kind == 0:
        return camera, []
    if kind == 1:
        return camera, [((0.0, 0.0, 0.0), 0.0)]
    count = 1 if kind == 2 else int(rng.integers(2, 5)) if num_objects is None else num_objects
    # A grid of cells as wide as a head, seen from the front by a camera that holds all of it.
    side = math.ceil(math.sqrt(count)) + (kind == 2)
    cells = rng.permutation(side * side)[:count]
    reach = 0.5 * _SPACING * side * float(rng.uniform(0.95, 1.3))
    camera = Camera(
        0.0, float(rng.uniform(*PITCH)), reach / math.tan(math.radians(0.5 * FOV)), FOV, resolution=resolution
    )
    places: list[Place] = []
    for cell in cells:
        x, y = (float(k - 0.5 * (side - 1)) * _SPACING for k in (cell % side, cell // side))
        shift = rng.uniform(-0.03, 0.03, 3)
        position = (x + float(shift[0]), y + float(shift[1]), float(shift[2]))
        places.append((position, float(rng.uniform(-YAW, YAW))))
    return camera, places
