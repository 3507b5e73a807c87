"""A glTF 2.0 document with its binary buffer: what is added by and by becomes one .glb file.

Specification: https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.pictures import png_bytes

_MAGIC, _JSON, _BINARY = 0x46546C67, 0x4E4F534A, 0x004E4942
VERTICES, INDICES = 34962, 34963  # targets of buffer views
_LINEAR, _MIPMAPPED, _REPEAT, _CLAMP = 9729, 9987, 10497, 33071
_TYPES = {np.dtype(np.float32): 5126, np.dtype(np.uint16): 5123, np.dtype(np.uint32): 5125}
_SHAPES = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4"}


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

    def accessor(self, values: npt.NDArray[Any], target: int | None = None, *, bounds: bool = False) -> int:
        """Append an array (n,) or (n, 2 to 4) of float32, uint16 or uint32; index of the accessor."""
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
        view = self.view(png_bytes(image, optimize=False))
        source = self.add("images", {"bufferView": view, "mimeType": "image/png"})
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
