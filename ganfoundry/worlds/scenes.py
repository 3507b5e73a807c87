"""Scenes with any number of cars, to train and to test what has to count and to cut out cars."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError
from ganfoundry.render.camera import Camera
from ganfoundry.render.zbuffer import rasterise
from ganfoundry.worlds.car import Car, build_car
from ganfoundry.worlds.car_design import sample_design
from ganfoundry.worlds.drawing import Placed, assemble
from ganfoundry.worlds.look import FOV, sample_camera

Array = npt.NDArray[np.float64]

KINDS = ("empty", "centred", "tiny", "cut", "several")
PROBABILITIES = (0.08, 0.46, 0.10, 0.10, 0.26)
"""How often each kind of scene is drawn: at least 40 % show one car in the middle, like `render`."""
MAX_OBJECTS = 20
_PROBE = 64
_MIN_PIXELS = 6
_ATTEMPTS = 12


@dataclass(frozen=True, eq=False)
class Scene:
    """Cars and the camera; `kind` is one of `KINDS`."""

    kind: str
    placed: list[Placed[Car]]
    camera: Camera


def sample_scene(rng: np.random.Generator, resolution: int, num_objects: int | None = None) -> Scene:
    """Draw a scene.

    - empty: no car.
    - centred: one car as `CarWorld.render` frames it.
    - tiny: one car far away anywhere in the image, its mask mostly below 10 % of the image.
    - cut: one car that the border cuts.
    - several: 2 to 4 (or `num_objects`) cars on one ground, at different distances, hiding parts of each other.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of all choices.
    resolution : int
        Image side in pixels.
    num_objects : int, optional
        Fixes the number of cars.

    Raises
    ------
    InputError
        If `num_objects` is negative or above `MAX_OBJECTS`.
    """
    if num_objects is not None and not 0 <= num_objects <= MAX_OBJECTS:
        raise InputError(f"a scene cannot have {num_objects} cars; choose 0 to {MAX_OBJECTS}")
    allowed = np.array(PROBABILITIES)
    if num_objects is not None:
        allowed = allowed * np.array([num_objects == 0, *[num_objects == 1] * 3, num_objects > 1])
    kind = KINDS[int(rng.choice(len(KINDS), p=allowed / allowed.sum()))]
    camera = sample_camera(rng, resolution)
    if kind == "empty":
        return Scene(kind, [], camera)
    if kind == "several":
        return _several(rng, resolution, int(rng.integers(2, 5)) if num_objects is None else num_objects)
    car = build_car(sample_design(rng))
    if kind == "tiny":
        far = replace(camera, distance=camera.distance * float(rng.uniform(1.8, 4.5)))
        camera = aim(far, *(float(v) for v in rng.uniform(-0.7, 0.7, 2)))
    elif kind == "cut":
        camera = _cutting_camera(rng, camera, car)
    return Scene(kind, [Placed(car)], camera)


def aim(camera: Camera, u: float, v: float) -> Camera:
    """Shift a camera sideways so that its old target appears at (u, v): -1 to 1 from left to right, top to bottom."""
    reach = camera.distance * math.tan(math.radians(0.5 * camera.fov))
    right, down, _ = camera.rotation
    target = np.array(camera.target) - reach * (u * right + v * down)
    return replace(camera, target=(float(target[0]), float(target[1]), float(target[2])))


def _cutting_camera(rng: np.random.Generator, camera: Camera, car: Car) -> Camera:
    """A camera whose image border cuts the car: between 25 and 75 % of its box stay inside."""
    camera = replace(camera, distance=camera.distance * float(rng.uniform(0.75, 1.4)))
    pixels, _ = camera.project(car.mesh.vertices)
    low, high = pixels.min(0) / camera.resolution * 2.0 - 1.0, pixels.max(0) / camera.resolution * 2.0 - 1.0
    inside = float(rng.uniform(0.25, 0.75))
    axis = int(rng.random() < 0.25)
    side = 1.0 if rng.random() < 0.5 else -1.0
    extent = float(high[axis] - low[axis])
    place = [float(value) for value in rng.uniform(-0.25, 0.25, 2)]
    # Put the edge of the box at the border, then push it out by the share that is to be cut off.
    edge = float(high[axis]) if side > 0 else float(low[axis])
    place[axis] = side - edge + side * (1.0 - inside) * extent
    return aim(camera, place[0], place[1])


def _several(rng: np.random.Generator, resolution: int, count: int) -> Scene:
    """Several cars on one ground; tries again while one of them is hidden."""
    cars = [build_car(sample_design(rng)) for _ in range(count)]
    scene = _place(rng, resolution, cars)
    for _ in range(_ATTEMPTS):
        if _all_visible(scene):
            break
        scene = _place(rng, resolution, cars)
    return scene


def _place(rng: np.random.Generator, resolution: int, cars: list[Car]) -> Scene:
    """Stand cars on the plane y = 0 in front of a camera without letting them overlap."""
    elevation, distance = float(rng.uniform(3.0, 17.0)), float(rng.uniform(12.0, 19.0))
    camera = Camera(0.0, elevation, distance, FOV, (0.0, 0.75, 0.0), resolution)
    _, height, depth = camera.position
    reach = math.tan(math.radians(0.5 * FOV))
    placed: list[Placed[Car]] = []
    for car in cars:
        spread = 1.0
        while True:
            away = depth + float(rng.uniform(-0.30, 0.9)) * distance * spread
            side = float(rng.uniform(-0.92, 0.92)) * reach * max(math.hypot(away, height), 1.0)
            candidate = Placed(car, (side, -car.ground, float(depth - away)), float(rng.uniform(0.0, 360.0)))
            if away > 7.0 and not any(_overlap(candidate, other) for other in placed):
                placed.append(candidate)
                break
            # Every refusal widens the field, so a place is always found.
            spread *= 1.05
    return Scene("several", placed, camera)


def _corners(placed: Placed[Car]) -> Array:
    """Corners of a car's place on the ground, (4, 2) as x, z, with a margin of 0.15 m."""
    half = np.abs(placed.thing.mesh.vertices).max(0) + 0.15
    box = np.array(
        [[half[0], 0.0, half[2]], [-half[0], 0.0, half[2]], [-half[0], 0.0, -half[2]], [half[0], 0.0, -half[2]]]
    )
    return placed.to_world(box)[:, [0, 2]]


def _overlap(first: Placed[Car], second: Placed[Car]) -> bool:
    """Whether the places of two cars overlap (separating axes)."""
    a, b = _corners(first), _corners(second)
    for box in (a, b):
        for axis in (box[1] - box[0], box[2] - box[1]):
            on_a, on_b = a @ axis, b @ axis
            if on_a.max() < on_b.min() or on_b.max() < on_a.min():
                return False
    return True


def _all_visible(scene: Scene) -> bool:
    """Whether every car shows at least a few pixels."""
    assembly = assemble(scene.placed)
    probe = replace(scene.camera, resolution=_PROBE)
    face = rasterise(assembly.mesh.vertices, assembly.mesh.faces, probe).face
    seen = np.bincount(assembly.owner[face[face >= 0]], minlength=len(scene.placed))
    return bool(seen.min() >= _MIN_PIXELS)
