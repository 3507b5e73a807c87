"""The cars world: parametric cars with exact parts, keypoints, depth, normals, pose and mesh."""

from __future__ import annotations

import numpy as np

from ganfoundry.render.camera import Camera
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.car import Car, build_car
from ganfoundry.worlds.car_design import BODY_TYPES, CarDesign, sample_design
from ganfoundry.worlds.car_parts import CAR_SCHEMA
from ganfoundry.worlds.designed import DESIGN, DesignedWorld
from ganfoundry.worlds.drawing import Placed, draw
from ganfoundry.worlds.look import sample_background, sample_camera, sample_light, stream
from ganfoundry.worlds.scenes import sample_scene


class CarWorld(DesignedWorld[CarDesign, Car]):
    """Cars of seven body types; `car_design` and `look` hold the distributions, `scenes` those of many cars.

    With `body_type`, `design` and `render` give another car than the seed's own.
    """

    schema = CAR_SCHEMA
    body_types = tuple(BODY_TYPES)
    body_type_name = "body type"
    azimuths = (0.0, 360.0)

    def _design(self, seed: int, body_type: str | None) -> CarDesign:
        return sample_design(stream(seed, DESIGN), body_type)

    def _build(self, design: CarDesign) -> Car:
        return build_car(design)

    def _camera(self, rng: np.random.Generator, resolution: int) -> Camera:
        return sample_camera(rng, resolution)

    def _scene(
        self, rng: np.random.Generator, resolution: int, num_objects: int | None
    ) -> tuple[list[Placed[Car]], Camera]:
        scene = sample_scene(rng, resolution, num_objects)
        return scene.placed, scene.camera

    def _draw(self, placed: list[Placed[Car]], camera: Camera, look: np.random.Generator, supersample: int) -> Sample:
        return draw(placed, camera, sample_light(look), sample_background(look), supersample)
