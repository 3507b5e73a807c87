"""Wheels in a glTF document: nodes with their pivots at the hubs, and animations that spin and steer them.

    hub_front_left     where the hub is; turns about Y to steer (front wheels)
      wheel_front_left the wheel's mesh, shared by all four; turns about X to roll, forwards (+Z) for growing angles

The animation `spin` is one turn of all wheels in a second; `steer` turns the front hubs to the left and to the right.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.shape.gltf import INDICES, VERTICES, GlbBuilder
from ganfoundry.shape.wheels import Colour, Rig, wheel_pieces

_TURN_SECONDS = 1.0
_STEER_SECONDS, _STEER_DEGREES = 4.0, 28.0
_MATERIALS: dict[str, dict[str, float]] = {
    "tyre": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
    "rim": {"metallicFactor": 0.0, "roughnessFactor": 0.45},
}


def add_rig(builder: GlbBuilder, rig: Rig) -> list[int]:
    """Add wheels to a document; the rows of their outermost nodes."""
    mesh = builder.add("meshes", {"name": "wheel", "primitives": _primitives(builder, rig)})
    hubs, wheels, steering = [], [], []
    for name, place in rig.wheels.hubs.items():
        extras = {"radius": float(np.float32(rig.wheels.radius))}
        wheels.append(builder.add("nodes", {"name": f"wheel_{name}", "mesh": mesh, "extras": extras}))
        hub = {"name": f"hub_{name}", "translation": [float(np.float32(v)) for v in place], "children": [wheels[-1]]}
        hubs.append(builder.add("nodes", hub))
        if name.startswith("front"):
            steering.append(hubs[-1])
    _animate(builder, "spin", wheels, [0, 90, 180, 270, 360], _TURN_SECONDS, axis=0)
    d = _STEER_DEGREES
    _animate(builder, "steer", steering, [0, d, 0, -d, 0], _STEER_SECONDS, axis=1)
    return hubs


def _primitives(builder: GlbBuilder, rig: Rig) -> list[dict[str, Any]]:
    primitives = []
    for kind, piece in wheel_pieces(rig.wheels.radius, rig.wheels.width).items():
        base = {"baseColorFactor": [*linear(rig.colours[kind]), 1.0], **_MATERIALS[kind]}
        material = {"name": kind, "pbrMetallicRoughness": base, "extras": {"part": rig.part}}
        attributes = {
            "POSITION": builder.accessor(piece.vertices, VERTICES, bounds=True),
            "NORMAL": builder.accessor(piece.normals, VERTICES),
            "_PART": builder.accessor(np.full(len(piece.vertices), rig.part, np.float32), VERTICES),
        }
        indices = builder.accessor(piece.faces.reshape(-1).astype(np.uint16), INDICES)
        primitives.append(
            {"attributes": attributes, "indices": indices, "material": builder.add("materials", material)}
        )
    return primitives


def _animate(builder: GlbBuilder, name: str, nodes: list[int], degrees: list[float], seconds: float, axis: int) -> None:
    """Turn nodes about an axis of theirs, through angles that are evenly spaced in time."""
    half = np.radians(degrees) / 2
    turns: npt.NDArray[np.float32] = np.zeros((len(half), 4), np.float32)  # quaternions x, y, z, w
    turns[:, axis], turns[:, 3] = np.sin(half), np.cos(half)
    times = np.linspace(0, seconds, len(half), dtype=np.float32)
    sampler = {"input": builder.accessor(times, bounds=True), "output": builder.accessor(turns)}
    channels = [{"sampler": 0, "target": {"node": node, "path": "rotation"}} for node in nodes]
    builder.add("animations", {"name": name, "samplers": [sampler], "channels": channels})


def linear(colour: Colour) -> list[float]:
    """A colour of a picture (sRGB) in the linear units of glTF's factors."""
    c = np.clip(colour, 0, 1)
    return [float(v) for v in np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4).round(6)]
