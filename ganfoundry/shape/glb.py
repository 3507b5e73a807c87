"""Textured meshes with parts and keypoints as binary glTF 2.0 files (.glb).

One primitive and one material a part, so that a program can find the glass or hide the wheels; keypoints are empty
nodes with names; `_PART` holds the part's number at every vertex; wheels that were rigged are nodes that turn about
their hubs (glb_rig.py). glTF's frame is docs/conventions.md's: right-handed,
+Y up, +Z the front, metres; texture coordinates start in the upper left corner.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError
from ganfoundry.gan.train_data import write_atomically
from ganfoundry.shape.glb_rig import add_rig
from ganfoundry.shape.gltf import INDICES, VERTICES, GlbBuilder
from ganfoundry.shape.wheels import Rig

Finish = Literal["matt", "glass", "lamp", "rubber"]

_FINISHES: dict[str, dict[str, Any]] = {
    "matt": {"roughnessFactor": 0.8},
    "glass": {"roughnessFactor": 0.1, "baseColorFactor": [1.0, 1.0, 1.0, 0.7]},
    "lamp": {"roughnessFactor": 0.3},
    "rubber": {"roughnessFactor": 1.0, "baseColorFactor": [0.35, 0.35, 0.35, 1.0]},
}

CAR_FINISHES: Mapping[str, Finish] = {
    "windscreen": "glass",
    "rear_window": "glass",
    "side_window": "glass",
    "headlamp": "lamp",
    "tail_lamp": "lamp",
    "wheel": "rubber",
}
"""How the parts of cars look; all others are matt."""


@dataclass(frozen=True, eq=False)
class Asset:
    """A mesh to be written.

    Attributes
    ----------
    vertices : ndarray, float (V, 3)
        Metres.
    faces : ndarray, int (F, 3)
        Counter-clockwise seen from outside.
    uv : ndarray, float (U, 2)
    face_uv : ndarray, int (F, 3)
        Rows of `uv` at the faces' corners.
    texture : ndarray, uint8 (H, W, 3)
    face_parts : ndarray, int (F,)
        Part number of every face; all faces of a part become one primitive.
    part_names : sequence of str
    keypoints : mapping
        Name -> place (3,), metres.
    finishes : mapping
        Part name -> finish; parts that are not in it are matt.
    rig : Rig, optional
        Wheels that are not part of the mesh.
    extras : mapping
        Goes into the file's `asset.extras`: where the mesh came from.
    """

    vertices: npt.NDArray[np.floating]
    faces: npt.NDArray[np.integer]
    uv: npt.NDArray[np.floating]
    face_uv: npt.NDArray[np.integer]
    texture: npt.NDArray[np.uint8]
    face_parts: npt.NDArray[np.integer]
    part_names: Sequence[str]
    keypoints: Mapping[str, Sequence[float]] = field(default_factory=dict)
    finishes: Mapping[str, Finish] = field(default_factory=dict)
    rig: Rig | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not len(self.faces):
            raise InputError("the mesh has no faces; there is nothing to write")
        if not np.isfinite(self.vertices).all():
            raise InputError("the mesh has vertices that are not finite numbers; it cannot be written")
        if len(self.face_parts) != len(self.faces) or len(self.face_uv) != len(self.faces):
            raise InputError(
                f"{len(self.faces)} faces, but parts for {len(self.face_parts)} and texture coordinates for "
                f"{len(self.face_uv)}"
            )
        if int(np.max(self.face_parts)) >= len(self.part_names):
            raise InputError(f"part {int(np.max(self.face_parts))} has no name; there are {len(self.part_names)}")


def glb_bytes(asset: Asset, name: str = "object") -> bytes:
    """An asset as the bytes of a .glb file; the same bytes for the same asset."""
    builder = GlbBuilder(asset.extras)
    texture = builder.texture(asset.texture)
    normals = _vertex_normals(asset.vertices, asset.faces)
    primitives = [
        _primitive(builder, asset, normals, texture, int(part)) for part in np.unique(np.asarray(asset.face_parts))
    ]
    mesh = builder.add("meshes", {"name": name, "primitives": primitives})
    root: dict[str, Any] = {"name": name, "mesh": mesh}
    builder.add("nodes", root)
    children = [
        builder.add(
            "nodes",
            {
                "name": f"kp:{label}",
                "translation": [float(np.float32(v)) for v in place],
                "extras": {"keypoint": label},
            },
        )
        for label, place in asset.keypoints.items()
    ]
    if asset.rig is not None:
        children += add_rig(builder, asset.rig)
    if children:
        root["children"] = children
    return builder.to_bytes()


def base_colour(finish: Finish) -> tuple[float, float, float, float]:
    """Red, green, blue and opacity that a finish multiplies the texture with."""
    red, green, blue, opacity = _FINISHES[finish].get("baseColorFactor", [1.0] * 4)
    return red, green, blue, opacity


def write_glb(path: Path, asset: Asset) -> None:
    """Write an asset whole or not at all.

    Raises
    ------
    RunError
        If the file cannot be written.
    """
    write_atomically(path, glb_bytes(asset, path.stem))


def _primitive(
    builder: GlbBuilder, asset: Asset, normals: npt.NDArray[np.float32], texture: int, part: int
) -> dict[str, Any]:
    """The faces of one part, with vertices of their own: one for each pair of vertex and texture coordinates."""
    chosen = np.asarray(asset.face_parts) == part
    pairs = asset.faces[chosen].ravel() * len(asset.uv) + asset.face_uv[chosen].ravel()
    corners, index = np.unique(pairs, return_inverse=True)
    wide = len(corners) > 65_535
    vertex, uv = corners // len(asset.uv), corners % len(asset.uv)
    vertices = np.asarray(asset.vertices, np.float32)[vertex]
    attributes = {
        "POSITION": builder.accessor(vertices, VERTICES, bounds=True),
        "NORMAL": builder.accessor(normals[vertex], VERTICES),
        "TEXCOORD_0": builder.accessor(np.asarray(asset.uv, np.float32)[uv], VERTICES),
        "_PART": builder.accessor(np.full(len(corners), part, np.float32), VERTICES),
    }
    indices = builder.accessor(index.reshape(-1).astype(np.uint32 if wide else np.uint16), INDICES)
    name = asset.part_names[part]
    material = builder.add("materials", _material(name, part, asset.finishes.get(name, "matt"), texture))
    return {"attributes": attributes, "indices": indices, "material": material}


def _material(name: str, part: int, finish: Finish, texture: int) -> dict[str, Any]:
    base: dict[str, Any] = {"baseColorTexture": {"index": texture}, "metallicFactor": 0.0, **_FINISHES[finish]}
    material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": base, "extras": {"part": part}}
    if finish == "glass":
        material["alphaMode"] = "BLEND"
    else:
        material["doubleSided"] = True  # the inside is what one sees through the glass
    if finish == "lamp":
        material |= {"emissiveFactor": [1.0, 1.0, 1.0], "emissiveTexture": {"index": texture}}
    return material


def _vertex_normals(vertices: npt.NDArray[np.floating], faces: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """Area-weighted mean of the faces' normals, unit length (V, 3); +Y where a vertex has no area around it."""
    points = np.asarray(vertices, np.float64)
    a, b, c = (points[faces[:, corner]] for corner in range(3))
    total = np.zeros_like(points)
    np.add.at(total, np.asarray(faces).ravel(), np.repeat(np.cross(b - a, c - a), 3, 0))
    length = np.linalg.norm(total, axis=1, keepdims=True)
    unit = np.where(length > 1e-20, total / np.maximum(length, 1e-20), [0.0, 1.0, 0.0])
    return np.asarray(unit, np.float32)
