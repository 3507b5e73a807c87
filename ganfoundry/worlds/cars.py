"""The cars world: parametric cars with exact parts, keypoints, depth, normals, pose and mesh."""

from __future__ import annotations

from dataclasses import replace

from ganfoundry.errors import InputError
from ganfoundry.labels.schema import PartSchema
from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.car import build_car
from ganfoundry.worlds.car_design import BODY_TYPES, CarDesign, sample_design
from ganfoundry.worlds.car_parts import CAR_SCHEMA
from ganfoundry.worlds.drawing import Placed, draw
from ganfoundry.worlds.look import sample_background, sample_camera, sample_light, stream
from ganfoundry.worlds.scenes import sample_scene

_DESIGN, _LOOK, _CAMERA, _SCENE = 0, 1, 2, 3


class CarWorld:
    """Cars of seven body types; `car_design` and `look` hold the distributions, `scenes` those of many cars."""

    schema: PartSchema = CAR_SCHEMA
    body_types: tuple[str, ...] = tuple(BODY_TYPES)
    body_type_name = "body type"
    azimuths = (0.0, 360.0)

    def design(self, seed: int, body_type: str | None = None) -> CarDesign:
        """The design of a seed, optionally of a given body type (then another car than the seed's own)."""
        if body_type is not None and body_type not in BODY_TYPES:
            raise InputError(f"no body type {body_type!r}; choose one of: {', '.join(BODY_TYPES)}")
        return sample_design(stream(seed, _DESIGN), body_type)

    def mesh(self, seed: int) -> LabelledMesh:
        """The car of a seed in its own frame, metres."""
        return build_car(self.design(seed)).mesh

    def render(
        self,
        seed: int,
        resolution: int = 64,
        *,
        camera: Camera | None = None,
        supersample: int = 2,
        body_type: str | None = None,
    ) -> Sample:
        """Render the car of a seed.

        Car, paint, light and background depend on the seed alone; another camera shows the same car.

        Parameters
        ----------
        seed : int
            From 0.
        resolution : int
            Image side in pixels.
        camera : Camera, optional
            By default a random one around the car; a given one is brought to `resolution`.
        supersample : int
            Samples a pixel side that the image is averaged over; the maps do not depend on it.
        body_type : str, optional
            One of `body_types` instead of the seed's own.

        Raises
        ------
        InputError
            If the seed is negative, a size is not positive, or there is no such body type.
        """
        _check_sizes(resolution, supersample)
        car = build_car(self.design(seed, body_type))
        drawn = sample_camera(stream(seed, _CAMERA), resolution)
        view = drawn if camera is None else replace(camera, resolution=resolution)
        look = stream(seed, _LOOK)
        light, background = sample_light(look), sample_background(look)
        return draw([Placed(car)], view, light, background, car.ground, supersample)

    def render_scene(
        self, seed: int, resolution: int = 128, *, num_objects: int | None = None, supersample: int = 2
    ) -> Sample:
        """Render a scene with any number of cars; see `scenes.sample_scene` for what there is to see.

        Parameters
        ----------
        seed : int
            From 0.
        resolution : int
            Image side in pixels.
        num_objects : int, optional
            Cars to place, from 0; drawn when left out.
        supersample : int
            As in `render`.

        Raises
        ------
        InputError
            If a number is out of range.
        """
        _check_sizes(resolution, supersample)
        rng = stream(seed, _SCENE)
        scene = sample_scene(rng, resolution, num_objects)
        look = stream(seed, _LOOK)
        light, background = sample_light(look), sample_background(look)
        return draw(scene.placed, scene.camera, light, background, scene.ground, supersample)


def _check_sizes(resolution: int, supersample: int) -> None:
    """Refuse images without pixels or samples."""
    if resolution < 1 or supersample < 1:
        raise InputError(f"cannot render {resolution} px with {supersample} samples a side; give positive numbers")
