"""Textured meshes with parts and keypoints as binary glTF 2.0 files (.glb).

One primitive and one material a part, so that a program can find the glass or hide the wheels; keypoints are empty
nodes with names; `_PART` holds the part's number at every vertex. glTF's frame is docs/conventions.md's: right-handed,
+Y up, +Z the front, metres; texture coordinates start in the upper left corner.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError
from ganfoundry.gan.train_data import write_atomically
from ganfoundry.pictures import png_bytes

Finish = Literal["matt", "glass", "lamp", "rubber"]

_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
_VERTICES, _INDICES = 34962, 34963  # targets of buffer views
_LINEAR, _MIPMAPPED, _REPEAT, _CLAMP = 9729, 9987, 10497, 33071
_TYPES = {np.dtype(np.float32): 5126, np.dtype(np.uint16): 5123, np.dtype(np.uint32): 5125}
_SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3"}

_FINISHES: dict[str, dict[str, Any]] = {
    "matt": {"roughnessFactor": 0.8},
    "glass": {"roughnessFactor": 0.1, "baseColorFactor": [1.0, 1.0, 1.0, 0.45]},
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


class GlbBuilder:
    """Collects a glTF document and its binary buffer."""

    def __init__(self, extras: Mapping[str, Any] | None = None) -> None:
        asset: dict[str, Any] = {"version": "2.0", "generator": "ganfoundry"}
        if extras:
            asset["extras"] = dict(extras)
        self.document: dict[str, Any] = {"asset": asset, "scene": 0, "scenes": [{"nodes": [0]}]}
        self._binary = bytearray()

    def add(self, kind: str, entry: dict[str, Any]) -> int:
        """Append to one of the document's lists; the entry's index."""
        entries = self.document.setdefault(kind, [])
        entries.append(entry)
        return len(entries) - 1

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes to the buffer, aligned to four; index of the buffer view."""
        self._binary += b"\0" * (-len(self._binary) % 4)
        entry: dict[str, Any] = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(data)}
        if target is not None:
            entry["target"] = target
        self._binary += data
        return self.add("bufferViews", entry)

    def accessor(self, values: npt.NDArray[Any], target: int, *, bounds: bool = False) -> int:
        """Append an array (n,) or (n, 2 or 3) of float32, uint16 or uint32; index of the accessor."""
        columns = 1 if values.ndim == 1 else values.shape[1]
        entry: dict[str, Any] = {
            "bufferView": self.view(np.ascontiguousarray(values).tobytes(), target),
            "componentType": _TYPES[values.dtype],
            "count": len(values),
            "type": _SHAPES[columns],
        }
        if bounds:  # exactly the stored float32 numbers
            low, high = values.min(0), values.max(0)
            entry |= {"min": np.atleast_1d(low).tolist(), "max": np.atleast_1d(high).tolist()}
        return self.add("accessors", entry)

    def texture(self, image: npt.NDArray[np.uint8]) -> int:
        """Append a PNG that repeats in u; index of the texture."""
        source = self.add("images", {"bufferView": self.view(png_bytes(image)), "mimeType": "image/png"})
        sampler = {"magFilter": _LINEAR, "minFilter": _MIPMAPPED, "wrapS": _REPEAT, "wrapT": _CLAMP}
        return self.add("textures", {"source": source, "sampler": self.add("samplers", sampler)})

    def to_bytes(self) -> bytes:
        """The whole file."""
        self._binary += b"\0" * (-len(self._binary) % 4)
        self.document["buffers"] = [{"byteLength": len(self._binary)}]
        text = json.dumps(self.document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        chunks = struct.pack("<II", len(text), _JSON) + text
        chunks += struct.pack("<II", len(self._binary), _BINARY) + bytes(self._binary)
        return struct.pack("<III", _MAGIC, 2, 12 + len(chunks)) + chunks


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
        builder.add("nodes", {"name": f"kp:{label}", "translation": [float(np.float32(v)) for v in place]})
        for label, place in asset.keypoints.items()
    ]
    if children:
        root["children"] = children
    return builder.to_bytes()


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
    pairs = np.stack([asset.faces[chosen].ravel(), asset.face_uv[chosen].ravel()], 1)
    corners, index = np.unique(pairs, axis=0, return_inverse=True)
    wide = len(corners) > 65_535
    vertices = np.asarray(asset.vertices, np.float32)[corners[:, 0]]
    attributes = {
        "POSITION": builder.accessor(vertices, _VERTICES, bounds=True),
        "NORMAL": builder.accessor(normals[corners[:, 0]], _VERTICES),
        "TEXCOORD_0": builder.accessor(np.asarray(asset.uv, np.float32)[corners[:, 1]], _VERTICES),
        "_PART": builder.accessor(np.full(len(corners), part, np.float32), _VERTICES),
    }
    indices = builder.accessor(index.reshape(-1).astype(np.uint32 if wide else np.uint16), _INDICES)
    name = asset.part_names[part]
    material = builder.add("materials", _material(name, part, asset.finishes.get(name, "matt"), texture))
    return {"attributes": attributes, "indices": indices, "material": material}


def _material(name: str, part: int, finish: Finish, texture: int) -> dict[str, Any]:
    base: dict[str, Any] = {"baseColorTexture": {"index": texture}, "metallicFactor": 0.0, **_FINISHES[finish]}
    material: dict[str, Any] = {"name": name, "pbrMetallicRoughness": base, "extras": {"part": part}}
    if finish == "glass":
        material["alphaMode"] = "BLEND"
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
