"""Wheels as meshes of their own: a simple wheel turned on a lathe, and the body opened where it stands.

The wheel is low in polygons and the same from both sides, so that one mesh serves all four. The body is a closed
surface with the wheels moulded in; around each hub it is refined and pushed in behind the wheel, and what hangs below
the sills is lifted off the ground.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ganfoundry.shape.rigging import Wheels

Points = npt.NDArray[np.floating]
Indices = npt.NDArray[np.integer]

SPOKES = 5
_SEGMENTS = 4 * SPOKES
# From the middle of the cap to the middle of the tread: x over the width, radius over the wheel's, what lies between a
# point and the next. The other side is its mirror image.
_PROFILE = (
    (0.42, 0.0, "rim"),
    (0.42, 0.15, "rim"),
    (0.37, 0.20, "spokes"),
    (0.32, 0.58, "rim"),
    (0.45, 0.64, "rim"),
    (0.46, 0.69, "tyre"),
    (0.50, 0.80, "tyre"),
    (0.46, 0.95, "tyre"),
    (0.34, 1.0, "tyre"),
    (0.0, 1.0, ""),
)
_WELL = 1.1  # radius of the opening over the wheel's
_CLEARANCE = 0.5  # of a radius: height of the sills above the ground
_EDGE = 0.4  # of a radius: longest edge of the refined body
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class Piece:
    """What a wheel is made of, one material: vertices (V, 3) about the hub, normals (V, 3), faces (F, 3)."""

    vertices: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int64]


def wheel_pieces(radius: float, width: float) -> dict[str, Piece]:
    """A wheel about the X axis, its centre at 0.

    Parameters
    ----------
    radius, width : float

    Returns
    -------
    dict
        "tyre" (with the dark gaps between the spokes) and "rim".
    """
    unit = _unit_wheel(width / radius)
    return {kind: replace(piece, vertices=piece.vertices * np.float32(radius)) for kind, piece in unit.items()}


@lru_cache(maxsize=8)
def _unit_wheel(width: float) -> dict[str, Piece]:
    """A wheel of radius 1."""
    strips: dict[str, list[Piece]] = {"tyre": [], "rim": []}
    profile = [(x * width, r) for x, r, _ in _PROFILE]
    gaps = np.isin(np.arange(_SEGMENTS) % 4, (2, 3))
    everywhere = np.ones(_SEGMENTS, bool)
    for index, (_, _, kind) in enumerate(_PROFILE[:-1]):
        first, second = profile[index], profile[index + 1]
        if kind == "spokes":
            strips["rim"].append(_strip(first, second, ~gaps))
            strips["tyre"].append(_strip(first, second, gaps))
        else:
            strips[kind].append(_strip(first, second, everywhere))
    return {
        kind: _joined([side for strip in found for side in (strip, _other_side(strip))])
        for kind, found in strips.items()
    }


def _strip(first: tuple[float, float], second: tuple[float, float], drawn: npt.NDArray[np.bool_]) -> Piece:
    """The surface between two rings (x, radius), in the segments that are drawn; its normals point outwards."""
    turn = 2 * np.pi * np.arange(_SEGMENTS) / _SEGMENTS
    circle = np.stack([np.zeros_like(turn), np.cos(turn), np.sin(turn)], 1)
    across = np.array([second[0] - first[0], second[1] - first[1]])
    slope = np.array([across[1], -across[0]]) / np.linalg.norm(across)  # of the normal: along x, along the radius
    vertices = np.concatenate([circle * r + [x, 0, 0] for x, r in (first, second)])
    normals = np.tile(circle * slope[1] + [slope[0], 0, 0], (2, 1))
    here, there = np.arange(_SEGMENTS)[drawn], (np.arange(_SEGMENTS)[drawn] + 1) % _SEGMENTS
    faces = np.stack([here, here + _SEGMENTS, there + _SEGMENTS], 1)
    if first[1] > 0:
        faces = np.concatenate([faces, np.stack([here, there + _SEGMENTS, there], 1)])
    return _compact(vertices, normals, faces)


def _compact(vertices: Points, normals: Points, faces: Indices) -> Piece:
    used, index = np.unique(faces, return_inverse=True)
    return Piece(vertices[used].astype(np.float32), normals[used].astype(np.float32), index.reshape(-1, 3))


def _other_side(piece: Piece) -> Piece:
    """The mirror image in the plane x = 0."""
    flip = np.array([-1, 1, 1], np.float32)
    return Piece(piece.vertices * flip, piece.normals * flip, piece.faces[:, ::-1])


def _joined(pieces: list[Piece]) -> Piece:
    starts = np.cumsum([0, *(len(piece.vertices) for piece in pieces[:-1])])
    return Piece(
        np.concatenate([piece.vertices for piece in pieces]),
        np.concatenate([piece.normals for piece in pieces]),
        np.concatenate([piece.faces + start for piece, start in zip(pieces, starts, strict=True)]),
    )


Colour = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Rig:
    """Wheels that turn.

    Attributes
    ----------
    wheels : Wheels
    colours : mapping
        "tyre" and "rim" -> RGB in 0..1, as in a picture (sRGB).
    part : int
        Part number of wheels.
    """

    wheels: Wheels
    colours: Mapping[str, Colour]
    part: int


@dataclass(frozen=True, eq=False)
class Body:
    """A painted mesh; see `ganfoundry.shape.glb.Asset`."""

    vertices: Points
    faces: Indices
    uv: Points
    face_uv: Indices
    face_parts: Indices


def open_body(body: Body, wheels: Wheels, wheel_part: int) -> Body:
    """Make room for wheels: wells pushed in behind them, the underside lifted off the ground.

    Parameters
    ----------
    body : Body
    wheels : Wheels
    wheel_part : int
        The part that the wells become.

    Returns
    -------
    Body
        With more vertices and faces; a closed surface stays closed.
    """
    reach, wall = _WELL * wheels.radius, wheels.outer - 1.1 * wheels.width
    for _ in range(_ROUNDS):
        near = _near(body.vertices, wheels, wall, reach * 1.2)
        body, split = _refined(body, near, _EDGE * wheels.radius)
        if not split:
            break
    vertices = np.array(body.vertices, float)
    ground = wheels.height - wheels.radius
    vertices[:, 1] = np.maximum(vertices[:, 1], ground + _CLEARANCE * wheels.radius)
    inside = np.zeros(len(vertices), bool)
    for axle in (wheels.front, wheels.rear):
        away = vertices[:, 1:] - [wheels.height, axle]
        distance = np.linalg.norm(away, axis=1)
        outside = np.abs(vertices[:, 0]) > wall
        rim = outside & (np.abs(distance - reach) < 0.45 * _EDGE * wheels.radius)  # a clean border of the opening
        vertices[rim, 1:] = [wheels.height, axle] + away[rim] * (reach / distance[rim])[:, None]
        within = outside & ~rim & (distance < reach)
        vertices[within, 0] = np.sign(vertices[within, 0]) * wall
        inside |= within
    wells = inside[body.faces].any(1)
    return replace(body, vertices=vertices, face_parts=np.where(wells, wheel_part, body.face_parts))


def _near(vertices: Points, wheels: Wheels, inner: float, reach: float) -> npt.NDArray[np.bool_]:
    near = np.zeros(len(vertices), bool)
    for axle in (wheels.front, wheels.rear):
        near |= np.hypot(vertices[:, 1] - wheels.height, vertices[:, 2] - axle) < reach
    return near & (np.abs(vertices[:, 0]) > inner)


# Triangles of a face by which of its sides 01, 12, 20 are split (1, 2, 4, added); 3, 4, 5 are the sides' middles.
_PATTERNS: dict[int, tuple[tuple[int, int, int], ...]] = {
    1: ((0, 3, 2), (3, 1, 2)),
    2: ((0, 1, 4), (0, 4, 2)),
    3: ((3, 1, 4), (0, 3, 4), (0, 4, 2)),
    4: ((0, 1, 5), (5, 1, 2)),
    5: ((0, 3, 5), (3, 1, 2), (3, 2, 5)),
    6: ((4, 2, 5), (0, 1, 4), (0, 4, 5)),
    7: ((0, 3, 5), (3, 1, 4), (5, 4, 2), (3, 4, 5)),
}


def _refined(body: Body, near: npt.NDArray[np.bool_], longest: float) -> tuple[Body, int]:
    """Halve the edges that touch `near` vertices and are longer than allowed; and how many sides that were."""
    close = near[body.faces]
    split = close | np.roll(close, -1, 1)
    ends = body.vertices[_sides(body.faces)[split]]
    split[split] = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1) > longest
    return halve(body, split), int(split.sum())


def halve_around(body: Body, chosen: npt.NDArray[np.bool_]) -> Body:
    """Halve all edges of the chosen faces (F,)."""
    keys = _sides(body.faces) @ [len(body.vertices), 1]
    return halve(body, np.isin(keys, keys[chosen]))


def halve(body: Body, split: npt.NDArray[np.bool_]) -> Body:
    """Halve sides 01, 12, 20 of faces, (F, 3) bool, the same on both faces of an edge: there will be no cracks."""
    touched, part = split.any(1), np.asarray(body.face_parts)
    corners, vertices = _with_middles(np.asarray(body.vertices, float), body.faces[touched], split[touched])
    uv_corners, uv = _with_middles(np.asarray(body.uv, float), body.face_uv[touched], split[touched])
    pattern, parts = split[touched] @ [1, 2, 4], part[touched]
    faces, face_uv, face_parts = [body.faces[~touched]], [body.face_uv[~touched]], [part[~touched]]
    for code, triangles in _PATTERNS.items():
        rows = np.flatnonzero(pattern == code)
        for triangle in triangles:
            faces.append(corners[rows][:, triangle])
            face_uv.append(uv_corners[rows][:, triangle])
            face_parts.append(parts[rows])
    return Body(vertices, np.concatenate(faces), uv, np.concatenate(face_uv), np.concatenate(face_parts))


def _with_middles(values: Points, faces: Indices, split: npt.NDArray[np.bool_]) -> tuple[Indices, Points]:
    """Rows of the faces' corners and of the split sides' middles (F, 6), and the values with the middles' appended."""
    keys, index = np.unique(_sides(faces)[split] @ [len(values), 1], return_inverse=True)
    middles = np.full(faces.shape, -1)
    middles[split] = len(values) + index
    first, second = keys // len(values), keys % len(values)
    return np.concatenate([faces, middles], 1), np.concatenate([values, (values[first] + values[second]) / 2])


def _sides(faces: Indices) -> Indices:
    """Ends of the sides of faces, (F, 3, 2), the smaller one first."""
    following = np.roll(faces, -1, 1)
    return np.stack([np.minimum(faces, following), np.maximum(faces, following)], 2)
