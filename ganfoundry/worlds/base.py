"""What a world offers: samples with exact ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ganfoundry.labels.schema import PartSchema
from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh
from ganfoundry.worlds.shading import DirectionalLight, Light


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and everything that is known about it (conventions: docs/conventions.md).

    All maps hold what lies exactly at the pixel centres; only `image` is averaged over the pixels.

    Attributes
    ----------
    image : ndarray, uint8 (R, R, 3)
        RGB.
    parts : ndarray, uint8 (R, R)
        Fine part ids of the world's schema, 0 is background.
    instances : ndarray, uint8 (R, R)
        0 is background, i + 1 is object i.
    keypoints : ndarray, float32 (n_objects, K, 3)
        x, y in pixels and visibility: 0 outside the image, 1 hidden, 2 visible.
    depth : ndarray, float32 (R, R)
        Metres along the viewing axis, 0 on the background.
    normals : ndarray, float32 (R, R, 3)
        Unit, in the frame of the object they belong to, facing the camera's side; 0 on the background.
    albedo : ndarray, float32 (R, R, 3)
        Unshaded colours, RGB in 0..1, 0 on the background.
    light : Light or DirectionalLight
        The light of the image. Faces have a `DirectionalLight`, with which albedo and normals give the image.
    camera : Camera
        The camera of the image.
    attributes : list of dict
        One an object: body type, colours, pose.
    mesh : LabelledMesh
        All objects in world coordinates.
    """

    image: npt.NDArray[np.uint8]
    parts: npt.NDArray[np.uint8]
    instances: npt.NDArray[np.uint8]
    keypoints: npt.NDArray[np.float32]
    depth: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    albedo: npt.NDArray[np.float32]
    light: Light | DirectionalLight
    camera: Camera
    attributes: list[dict[str, Any]]
    mesh: LabelledMesh

    def boxes(self) -> npt.NDArray[np.float32]:
        """Boxes around the visible pixels, (n_objects, 4): left, top, right, bottom edges in pixels."""
        rows = []
        for index in range(len(self.attributes)):
            ys, xs = np.nonzero(self.instances == index + 1)
            rows.append([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        return np.array(rows, dtype=np.float32).reshape(-1, 4)


class World(Protocol):
    """A class of objects that can be rendered with exact labels."""

    @property
    def schema(self) -> PartSchema:
        """Parts and keypoints."""
        ...

    @property
    def body_types(self) -> tuple[str, ...]:
        """Kinds of objects within the class."""
        ...

    @property
    def body_type_name(self) -> str:
        """What such a kind is called: "body type", "hair style"."""
        ...

    @property
    def azimuths(self) -> tuple[float, float]:
        """Range of azimuths that the objects are seen from, degrees; (0, 360) is all around."""
        ...

    def render(self, seed: int, resolution: int = 64, *, camera: Camera | None = None, supersample: int = 2) -> Sample:
        """One object in the middle of the image."""
        ...

    def render_scene(self, seed: int, resolution: int = 128, *, num_objects: int | None = None) -> Sample:
        """Any number of objects, also none."""
        ...

    def mesh(self, seed: int) -> LabelledMesh:
        """The object of a seed in its own frame."""
        ...
