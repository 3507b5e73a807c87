"""Drawing of placed cars: the image and all its maps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh
from ganfoundry.render.zbuffer import Fragments, occluder_depth, rasterise
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.car import Car, car_attributes
from ganfoundry.worlds.car_parts import KEYPOINTS
from ganfoundry.worlds.shading import Background, Footprint, Light, draw_background, shade

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Placed:
    """A car in the world: its centre at `position` (3,), metres, turned by `yaw` degrees (azimuth of its front)."""

    car: Car
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

    @property
    def ground(self) -> float:
        """World height of the ground below the car, metres."""
        return self.car.ground + self.position[1]

    @property
    def footprint(self) -> Footprint:
        """The rectangle that the car shades."""
        half = np.abs(self.car.mesh.vertices).max(0)
        width, length, height = 0.5 * self.car.design.width, float(half[2]), 2.0 * float(half[1])
        return Footprint(self.position[0], self.position[2], width, length, math.radians(self.yaw), height)

    def view(self, camera: Camera) -> dict[str, float]:
        """Azimuth, elevation (degrees) and distance (metres) from which a camera sees the car, in the car's frame."""
        offset = camera.position - np.array(self.position)
        distance = float(np.linalg.norm(offset))
        return {
            "azimuth": (math.degrees(math.atan2(offset[0], offset[2])) - self.yaw) % 360.0,
            "elevation": math.degrees(math.asin(min(max(offset[1] / distance, -1.0), 1.0))),
            "distance": distance,
            "yaw": self.yaw,
        }


@dataclass(frozen=True, eq=False)
class Assembly:
    """All objects of an image as one mesh in world coordinates.

    `owner` (F,) is the object of every face, `object_normals` (F, 3, 3) are the corner normals in the objects' frames.
    """

    mesh: LabelledMesh
    owner: npt.NDArray[np.int64]
    object_normals: Array


def assemble(placed: list[Placed]) -> Assembly:
    """Join the meshes of placed cars."""
    meshes = [p.car.mesh for p in placed]
    if not meshes:
        none = np.zeros(0, dtype=np.uint8)
        empty = LabelledMesh(np.zeros((0, 3)), np.zeros((0, 3), np.int32), none, none, np.zeros((0, 3, 3)))
        return Assembly(empty, np.zeros(0, dtype=np.int64), empty.corner_normals)
    starts = np.cumsum([0] + [len(m.vertices) for m in meshes[:-1]])
    object_normals = np.concatenate([m.corner_normals for m in meshes])
    mesh = LabelledMesh(
        np.concatenate([p.to_world(p.car.mesh.vertices) for p in placed]),
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


def draw(
    placed: list[Placed], camera: Camera, light: Light, background: Background, ground: float, supersample: int
) -> Sample:
    """Render placed cars and everything that is known about them.

    Objects without a visible pixel are left out of instances, keypoints and attributes (their mesh stays).

    Parameters
    ----------
    placed : list of Placed
        Objects, in the order of their instance ids.
    camera : Camera
        Its resolution is that of the sample.
    light, background
        Light and what is behind the objects.
    ground : float
        Height of the ground plane, metres.
    supersample : int
        Samples a pixel side that the image is averaged over.
    """
    assembly = assemble(placed)
    mesh = assembly.mesh
    fine = replace(camera, resolution=camera.resolution * supersample)
    canvas = draw_background(fine, background, light, ground, [p.footprint for p in placed])
    if placed:
        _shade_all(canvas, placed, assembly, fine, light)

    centre = rasterise(mesh.vertices, mesh.faces, camera)
    hit = centre.face >= 0
    owner = _at(centre, assembly.owner + 1)
    visible = [index for index in range(len(placed)) if np.any(owner == index + 1)]
    renumber = np.zeros(len(placed) + 1, dtype=np.uint8)
    renumber[[index + 1 for index in visible]] = np.arange(1, len(visible) + 1)
    rows = [keypoint_rows(placed[i].to_world(placed[i].car.keypoints), mesh, camera) for i in visible]
    return Sample(
        image=to_image(canvas, supersample),
        parts=_at(centre, mesh.face_parts).astype(np.uint8),
        instances=renumber[owner],
        keypoints=np.stack(rows) if rows else np.zeros((0, len(KEYPOINTS), 3), dtype=np.float32),
        depth=centre.depth.astype(np.float32),
        normals=_normals(centre, assembly.object_normals, hit),
        camera=camera,
        attributes=[
            car_attributes(placed[i].car) | placed[i].view(camera) | {"background": background.kind} for i in visible
        ],
        mesh=mesh,
    )


def _shade_all(canvas: Array, placed: list[Placed], assembly: Assembly, camera: Camera, light: Light) -> None:
    """Shade all objects, each with its own materials and ground."""
    materials = np.concatenate([p.car.materials for p in placed])
    rows = assembly.mesh.face_materials + assembly.owner * len(placed[0].car.materials)
    grounds = np.array([p.ground for p in placed])[assembly.owner]
    mesh = assembly.mesh
    shade(canvas, rasterise(mesh.vertices, mesh.faces, camera), mesh, camera, materials, light, rows, grounds)


def _at(fragments: Fragments, values: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    """Value of the face at every pixel centre, 0 on the background."""
    out = np.zeros(fragments.face.shape, dtype=np.int64)
    hit = fragments.face >= 0
    out[hit] = values[fragments.face[hit]]
    return out


def _normals(fragments: Fragments, corners: Array, hit: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Interpolated unit normals, float32 (R, R, 3), 0 on the background."""
    out = np.zeros((*hit.shape, 3))
    normals = np.einsum("nc,ncd->nd", fragments.barycentric[hit], corners[fragments.face[hit]])
    out[hit] = normals / np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return out.astype(np.float32)
