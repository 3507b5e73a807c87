"""What worlds have in common: an object is built from a seed's design, then drawn in the light of the seed's look."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Generic, TypeVar

import numpy as np

from ganfoundry.errors import InputError
from ganfoundry.labels.schema import PartSchema
from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.drawing import Placed, Thing
from ganfoundry.worlds.look import stream

DESIGN, LOOK, CAMERA, SCENE, HAIR = range(5)
"""Purposes of a sample's random streams; part of what a seed means, never renumber."""

D = TypeVar("D")
T = TypeVar("T", bound=Thing)


class DesignedWorld(ABC, Generic[D, T]):
    """Renders seeds; a subclass says how an object is designed, built, framed and drawn.

    Attributes
    ----------
    schema, body_types, body_type_name, azimuths
        As in `World`.
    """

    schema: PartSchema
    body_types: tuple[str, ...]
    body_type_name: str
    azimuths: tuple[float, float]

    @abstractmethod
    def _design(self, seed: int, body_type: str | None) -> D:
        """Draw the design of a seed."""

    @abstractmethod
    def _build(self, design: D) -> T:
        """Make the object."""

    @abstractmethod
    def _camera(self, rng: np.random.Generator, resolution: int) -> Camera:
        """Draw the camera of a single object."""

    @abstractmethod
    def _scene(
        self, rng: np.random.Generator, resolution: int, num_objects: int | None
    ) -> tuple[list[Placed[T]], Camera]:
        """Draw the objects of a scene and its camera."""

    @abstractmethod
    def _draw(self, placed: list[Placed[T]], camera: Camera, look: np.random.Generator, supersample: int) -> Sample:
        """Draw light and background, and render."""

    def design(self, seed: int, body_type: str | None = None) -> D:
        """The design of a seed, optionally with one of `body_types` instead of its own.

        Raises
        ------
        InputError
            If there is no such body type.
        """
        if body_type is not None and body_type not in self.body_types:
            name, known = self.body_type_name, ", ".join(self.body_types)
            raise InputError(f"no {name} {body_type!r}; choose one of: {known}")
        return self._design(seed, body_type)

    def mesh(self, seed: int) -> LabelledMesh:
        """The object of a seed in its own frame, metres."""
        return self._build(self.design(seed)).mesh

    def render(
        self,
        seed: int,
        resolution: int = 64,
        *,
        camera: Camera | None = None,
        supersample: int = 2,
        body_type: str | None = None,
    ) -> Sample:
        """Render the object of a seed.

        Object, light and background depend on the seed alone; another camera shows the same object in the same light.

        Parameters
        ----------
        seed : int
            From 0.
        resolution : int
            Image side in pixels.
        camera : Camera, optional
            By default a random one; a given one is brought to `resolution`.
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
        thing = self._build(self.design(seed, body_type))
        drawn = self._camera(stream(seed, CAMERA), resolution)
        view = drawn if camera is None else replace(camera, resolution=resolution)
        return self._draw([Placed(thing)], view, stream(seed, LOOK), supersample)

    def render_scene(
        self, seed: int, resolution: int = 128, *, num_objects: int | None = None, supersample: int = 2
    ) -> Sample:
        """Render a scene with any number of objects at various sizes and places.

        Parameters
        ----------
        seed : int
            From 0.
        resolution : int
            Image side in pixels.
        num_objects : int, optional
            Objects to place, from 0; drawn when left out.
        supersample : int
            As in `render`.

        Raises
        ------
        InputError
            If a number is out of range.
        """
        _check_sizes(resolution, supersample)
        placed, camera = self._scene(stream(seed, SCENE), resolution, num_objects)
        return self._draw(placed, camera, stream(seed, LOOK), supersample)


def _check_sizes(resolution: int, supersample: int) -> None:
    """Refuse images without pixels or samples."""
    if resolution < 1 or supersample < 1:
        raise InputError(f"cannot render {resolution} px with {supersample} samples a side; give positive numbers")
