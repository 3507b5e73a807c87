"""Drawing of placed objects: all maps of an image, for any world, and the image itself, for cars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh
from ganfoundry.render.zbuffer import Fragments, occluder_depth, rasterise
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.car import Car, car_attributes
from ganfoundry.worlds.car_parts import KEYPOINTS
from ganfoundry.worlds.shading import Background, DirectionalLight, Footprint, Light, draw_background, shade

Array = npt.NDArray[np.float64]

_EMPTY_GROUND = -0.75
"""Height of the ground where there is no car, metres; the target of the camera is at 0."""


class Thing(Protocol):
    """An object that can be placed: its mesh and its keypoints (K, 3) in its own frame, metres."""

    @property
    def mesh(self) -> LabelledMesh: ...  # noqa: D102
    @property
    def keypoints(self) -> Array: ...  # noqa: D102


T = TypeVar("T", bound=Thing)


@dataclass(frozen=True, eq=False)
class Placed(Generic[T]):
    """An object in the world: its centre at `position` (3,), metres, turned by `yaw` degrees (azimuth of its front)."""

    thing: T
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0

    @property
    def rotation(self) -> Array:
        """Object-to-world rotation, (3, 3)."""
        c, s = math.cos(math.radians(self.yaw)), math.sin(math.radians(self.yaw))
        return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])

    def to_world(self, points: Array) -> Array:
        """World coordinates of object-frame points (..., 3)."""
        return np.asarray(points @ self.rotation.T + np.array(self.position))

    def view(self, camera: Camera) -> dict[str, float]:
        """Azimuth, elevation (degrees) and distance (metres) from which a camera sees the object, in its frame."""
        offset = camera.position - np.array(self.position)
        distance = float(np.linalg.norm(offset))
        return {
            "azimuth": (math.degrees(math.atan2(offset[0], offset[2])) - self.yaw) % 360.0,
            "elevation": math.degrees(math.asin(min(max(offset[1] / distance, -1.0), 1.0))),
            "distance": distance,
            "yaw": self.yaw,
        }


def car_ground(placed: Placed[Car]) -> float:
    """World height of the ground below a car, metres."""
    return placed.thing.ground + placed.position[1]


def car_footprint(placed: Placed[Car]) -> Footprint:
    """The rectangle that a car shades."""
    half = np.abs(placed.thing.mesh.vertices).max(0)
    width, length, height = 0.5 * placed.thing.design.width, float(half[2]), 2.0 * float(half[1])
    return Footprint(placed.position[0], placed.position[2], width, length, math.radians(placed.yaw), height)


@dataclass(frozen=True, eq=False)
class Assembly:
    """All objects of an image as one mesh in world coordinates.

    `owner` (F,) is the object of every face, `object_normals` (F, 3, 3) are the corner normals in the objects' frames.
    """

    mesh: LabelledMesh
    owner: npt.NDArray[np.int64]
    object_normals: Array


def assemble(placed: Sequence[Placed[Any]]) -> Assembly:
    """Join the meshes of placed objects."""
    meshes = [p.thing.mesh for p in placed]
    if not meshes:
        none = np.zeros(0, dtype=np.uint8)
        empty = LabelledMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32), none, none, np.zeros((0, 3, 3)))
        return Assembly(empty, np.zeros(0, dtype=np.int64), empty.corner_normals)
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    object_normals = np.concatenate([m.corner_normals for m in meshes])
    mesh = LabelledMesh(
        np.concatenate([p.to_world(p.thing.mesh.vertices) for p in placed]),
        np.concatenate([m.faces + np.int32(start) for m, start in zip(meshes, starts, strict=True)]),
        np.concatenate([m.face_parts for m in meshes]),
        np.concatenate([m.face_materials for m in meshes]),
        np.concatenate([m.corner_normals @ p.rotation.T for m, p in zip(meshes, placed, strict=True)]),
    )
    return Assembly(mesh, np.repeat(np.arange(len(meshes)), [len(m.faces) for m in meshes]), object_normals)


def keypoint_rows(
    points: Array, mesh: LabelledMesh, camera: Camera, tolerance: float = 0.07
) -> npt.NDArray[np.float32]:
    """Project keypoints (K, 3) and test them against the mesh: x, y, visibility, float32 (K, 3).

    A keypoint is hidden when a surface over exactly its image point is nearer than it by more than `tolerance` metres.
    """
    pixels, depth = camera.project(points)
    nearest = occluder_depth(pixels, mesh.vertices, mesh.faces, camera)
    inside = np.all((pixels >= 0.0) & (pixels < camera.resolution), axis=1) & (depth > 0.0)
    visibility = np.where(inside, np.where(nearest < depth - tolerance, 1.0, 2.0), 0.0)
    return np.concatenate([np.nan_to_num(pixels), visibility[:, None]], axis=1).astype(np.float32)


def to_image(fine: Array, supersample: int) -> npt.NDArray[np.uint8]:
    """Average blocks of supersample x supersample samples and store as uint8."""
    size = fine.shape[0] // supersample
    mean = fine.reshape(size, supersample, size, supersample, 3).mean((1, 3))
    return np.asarray(np.clip(mean, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def observe(
    image: npt.NDArray[np.uint8],
    placed: Sequence[Placed[Any]],
    assembly: Assembly,
    camera: Camera,
    *,
    colours: Array,
    light: Light | DirectionalLight,
    attributes: Sequence[dict[str, Any]],
    num_keypoints: int,
    tolerance: float = 0.07,
) -> Sample:
    """Everything that is known about an image of placed objects.

    Objects without a visible pixel are left out of instances, keypoints and attributes (their mesh stays).

    Parameters
    ----------
    image : ndarray, uint8 (R, R, 3)
        The picture, made by the world.
    placed : sequence of Placed
        Objects, in the order of their instance ids; `assembly` is made of them.
    camera : Camera
        Its resolution is that of the sample.
    colours : ndarray, float64 (F, 3, 3)
        Unshaded colour of every corner of every face, RGB in 0..1.
    light
        The light of the picture.
    attributes : sequence of dict
        One an object; the view is added.
    num_keypoints : int
        K.
    tolerance : float
        As in `keypoint_rows`.
    """
    mesh = assembly.mesh
    centre = rasterise(mesh.vertices, mesh.faces, camera)
    hit = centre.face >= 0
    owner = _at(centre, assembly.owner + 1)
    visible = [index for index in range(len(placed)) if np.any(owner == index + 1)]
    renumber = np.zeros(len(placed) + 1, dtype=np.uint8)
    renumber[[index + 1 for index in visible]] = np.arange(1, len(visible) + 1)
    rows = [keypoint_rows(placed[i].to_world(placed[i].thing.keypoints), mesh, camera, tolerance) for i in visible]
    normals = interpolate(centre, assembly.object_normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return Sample(
        image=image,
        parts=_at(centre, mesh.face_parts).astype(np.uint8),
        instances=renumber[owner],
        keypoints=np.stack(rows) if rows else np.zeros((0, num_keypoints, 3), dtype=np.float32),
        depth=centre.depth.astype(np.float32),
        normals=_spread(hit, normals),
        albedo=_spread(hit, interpolate(centre, colours)),
        light=light,
        camera=camera,
        attributes=[attributes[i] | placed[i].view(camera) for i in visible],
        mesh=mesh,
    )


def draw(placed: list[Placed[Car]], camera: Camera, light: Light, background: Background, supersample: int) -> Sample:
    """Render placed cars and everything that is known about them, see `observe`.

    Parameters
    ----------
    placed : list of Placed
        Cars on one ground, in the order of their instance ids.
    camera : Camera
        Its resolution is that of the sample.
    light, background
        Light and what is behind the cars.
    supersample : int
        Samples a pixel side that the image is averaged over.
    """
    assembly = assemble(placed)
    mesh = assembly.mesh
    ground = car_ground(placed[0]) if placed else _EMPTY_GROUND
    fine = replace(camera, resolution=camera.resolution * supersample)
    canvas = draw_background(fine, background, light, ground, [car_footprint(p) for p in placed])
    colours = np.zeros((0, 3, 3))
    if placed:
        materials = np.concatenate([p.thing.materials for p in placed])
        rows = mesh.face_materials + assembly.owner * len(placed[0].thing.materials)
        grounds = np.array([car_ground(p) for p in placed])[assembly.owner]
        shade(canvas, rasterise(mesh.vertices, mesh.faces, fine), mesh, fine, materials, light, rows, grounds)
        colours = np.repeat(materials[rows, None, :3], 3, axis=1)
    about = [car_attributes(p.thing) | {"background": background.kind} for p in placed]
    return observe(
        to_image(canvas, supersample), placed, assembly, camera,
        colours=colours, light=light, attributes=about, num_keypoints=len(KEYPOINTS),
    )  # fmt: skip


def interpolate(fragments: Fragments, corners: Array) -> Array:
    """Values (n, C) at the n covered pixel centres, row by row, of values (F, 3, C) at the corners of the faces."""
    hit = fragments.face >= 0
    values: Array = np.einsum("nc,ncd->nd", fragments.barycentric[hit], corners[fragments.face[hit]])
    return values


def _at(fragments: Fragments, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Value of the face at every pixel centre, 0 on the background."""
    out = np.zeros(fragments.face.shape, dtype=np.int64)
    hit = fragments.face >= 0
    out[hit] = values[fragments.face[hit]]
    return out


def _spread(hit: npt.NDArray[np.bool_], values: Array) -> npt.NDArray[np.float32]:
    """Values (n, 3) of the covered pixels as a map, float32 (R, R, 3), 0 on the background."""
    out = np.zeros((*hit.shape, 3), dtype=np.float32)
    out[hit] = values
    return out
