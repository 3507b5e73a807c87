"""Hair and brows: shells that grow from grids of points on the skin."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ganfoundry.worlds.face_data import BROW_SHAPE, SCALP_CENTRE, SCALP_POLAR, SCALP_SHAPE
from ganfoundry.worlds.face_design import FaceDesign

Array = npt.NDArray[np.float64]
Faces = npt.NDArray[np.int32]

BROW_COLUMNS = 15
_COLUMNS, _ROWS, _INNER = 97, 20, 4
_LEAVE = 96.0  # polar angle at which falling hair leaves the skull
_RADIUS = 0.095  # m, of the skull, to turn polar angles into lengths
_AZIMUTHS = (0.0, 20.0, 38.0, 48.0, 56.0, 64.0, 74.0, 88.0, 100.0, 112.0, 130.0, 180.0)
_CLOSING = 0.0015  # m that the rim of short hair and of brows dips below the skin


def hair_shell(design: FaceDesign, scalp: Array) -> tuple[Array, Faces, Array]:
    """Vertices (V, 3), triangles (F, 3) and colours (V, 3) of the hair; empty for bald heads.

    A shell over the skull whose columns run from the crown to the hairline; hair that falls leaves the skull above the
    ears and hangs down, and has an inner side.

    Parameters
    ----------
    design : FaceDesign
    scalp : ndarray, (rows, columns, 3)
        Points of the skin at the grid of `face_source.scalp_rays`, metres.
    """
    if design.hair_style == "bald":
        return np.zeros((0, 3)), np.zeros((0, 3), dtype=np.int32), np.zeros((0, 3))
    azimuth = np.linspace(-180.0, 180.0, _COLUMNS)
    falls = not math.isnan(design.hair_drop)
    length = _lengths(design, np.abs(azimuth))
    share = np.linspace(0.0, 1.0, _ROWS)[:, None] ** 0.9
    outer = _points(design, scalp, azimuth, share * length, 0.0, share)
    if falls:
        # Back up on the inner side, into the hair.
        back = np.linspace(1.0, 0.45, _INNER)[:, None]
        inner = _points(design, scalp, azimuth, back * length, 0.009, back)
    else:
        inner = _points(design, scalp, azimuth, length[None], np.inf, np.ones((1, 1)))
    points = np.concatenate([outer, inner])
    colours = _strands(design, azimuth, np.concatenate([share, back if falls else np.ones((1, 1))]))
    return points.reshape(-1, 3), _grid_faces(*points.shape[:2]), colours.reshape(-1, 3)


def _lengths(design: FaceDesign, azimuth: Array) -> Array:
    """Length of every column from the crown along the skull to the hairline, or beyond the skull to the tips, (C,)."""
    front, temple = design.hairline
    polar = np.array([front, front, temple, temple + 7, temple + 22, 107, 106, 97, 97, 114, 122, 126], dtype=np.float64)
    length = np.radians(polar) * _RADIUS
    if not math.isnan(design.hair_drop):
        leave = math.radians(_LEAVE) * _RADIUS
        bottom = leave + 0.020 - design.hair_drop  # the skull is left about 20 mm above the eyes
        length[4:] = bottom
        length[3] = 0.45 * length[2] + 0.55 * leave
        length[4] = 0.45 * leave + 0.55 * bottom
    return np.interp(azimuth, _AZIMUTHS, length)


def _points(design: FaceDesign, scalp: Array, azimuth: Array, length: Array, depth: float, share: Array) -> Array:
    """Points at lengths (R, C) from the crown, `depth` metres below the hair's surface, never below the skin's."""
    polar = np.minimum(np.degrees(length / _RADIUS), _LEAVE if not math.isnan(design.hair_drop) else SCALP_POLAR)
    beyond = np.maximum(length - np.radians(polar) * _RADIUS, 0.0)
    rows, columns = SCALP_SHAPE
    skin = _sample(scalp, polar / SCALP_POLAR * (rows - 1), (azimuth[None] + 180.0) / 360.0 * (columns - 1))
    out = _unit(skin - np.array(SCALP_CENTRE))
    thick = np.maximum(_thickness(design, azimuth, polar, share) - depth, -_CLOSING)
    points = skin + out * thick[..., None]
    points[..., 1] -= beyond
    if not math.isnan(design.hair_drop):
        # Falling hair swings out a little and comes in at the tips.
        fallen = beyond / max(float(beyond.max()), 1e-6)
        points[..., [0, 2]] *= (1.0 + 0.10 * np.sin(np.pi * fallen) - 0.10 * fallen**3)[..., None]
    return points


def _thickness(design: FaceDesign, azimuth: Array, polar: Array, share: Array) -> Array:
    """Thickness of the hair, (R, C): more on the crown than at the sides, thin towards a hairline, with locks."""
    top, side = design.hair_thickness
    blend = np.clip((polar - 30.0) / 60.0, 0.0, 1.0)
    thick = top + (side - top) * blend * blend * (3.0 - 2.0 * blend)
    turn, down, phase = np.radians(np.abs(azimuth))[None], np.radians(polar), design.hair_locks
    if design.hair_style == "curly":
        locks = np.sin(9.0 * turn + phase[0] + np.sin(7.0 * down)) * np.sin(10.0 * down + phase[1])
    else:
        locks = 0.6 * np.sin(5.0 * turn + phase[0] + down) + 0.4 * np.sin(11.0 * turn + phase[1] + 2.0 * down)
    thick = thick * (1.0 + design.hair_rough * locks * np.minimum(1.0, down))
    loss = 0.35 if design.hair_style in ("fringe", "curly") else 0.7
    ends = np.clip((share - 0.75) / 0.25, 0.0, 1.0) ** 2
    if not math.isnan(design.hair_drop):
        ends = ends * np.clip((60.0 - np.abs(azimuth))[None] / 20.0, 0.0, 1.0)
    return np.asarray(thick * (1.0 - loss * ends))


def _strands(design: FaceDesign, azimuth: Array, share: Array) -> Array:
    """Colours of the hair, (R, C, 3): strands from the crown, darker at the roots."""
    turn, phase = np.radians(np.abs(azimuth))[None], design.hair_locks
    wave = np.sin(17.0 * turn + phase[2] + 2.0 * share) + 0.7 * np.sin(29.0 * turn + phase[3] - 3.0 * share)
    tone = (1.0 + 0.09 * wave) * (0.85 + 0.15 * share)
    return np.asarray(np.clip(np.array(design.hair) * tone[..., None], 0.02, 0.95))


def brow_shells(design: FaceDesign, brows: Array, normals: Array) -> tuple[Array, Faces, Array, Array]:
    """Vertices, triangles, colours and normals of both brows: strips that taper outwards, shaded like the skin below.

    Parameters
    ----------
    design : FaceDesign
    brows, normals : ndarray, (2, rows, columns, 3)
        Points and unit normals of the skin at the grids of `face_source.brow_rays`.
    """
    rows, columns = BROW_SHAPE
    along = np.linspace(0.0, 1.0, BROW_COLUMNS)[None]
    across = np.array([-1.0, -0.6, 0.0, 0.6, 1.0])[:, None]
    half, arch, slope = (value / 0.025 * (rows - 1) for value in design.brow)
    width = half * (1.0 - 0.62 * along**2.2) * np.minimum(1.0, 0.75 + along * 2.5)
    centre = 0.46 * (rows - 1) + arch * np.sin(np.pi * np.clip(along / 1.25, 0.0, 1.0)) * 1.3 + slope * along
    row, column = centre + across * width, np.broadcast_to(0.115 + 0.80 * along, (5, BROW_COLUMNS)) * (columns - 1)
    lift = np.array([-_CLOSING, 0.0016, 0.0022, 0.0016, -_CLOSING])[:, None, None]
    pieces, faces, smooth = [], [], []
    for side in range(2):
        skin, out = _sample(brows[side], row, column), _sample(normals[side], row, column)
        grid = _grid_faces(5, BROW_COLUMNS)
        faces.append((grid if side == 1 else grid[:, ::-1]) + 5 * BROW_COLUMNS * side)
        pieces.append((skin + lift * out).reshape(-1, 3))
        smooth.append(out.reshape(-1, 3))
    points = np.concatenate(pieces)
    colours = np.broadcast_to(np.array(design.brow_colour), points.shape)
    return points, np.concatenate(faces).astype(np.int32), colours, _unit(np.concatenate(smooth))


def _unit(vectors: Array) -> Array:
    """Vectors of length 1."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))


def _sample(grid: Array, row: Array, column: Array) -> Array:
    """Bilinear interpolation of a grid (R, C, 3) at fractional rows and columns that broadcast."""
    row, column = np.broadcast_arrays(
        np.clip(row, 0.0, grid.shape[0] - 1.001), np.clip(column, 0.0, grid.shape[1] - 1.001)
    )
    r, c = row.astype(np.int64), column.astype(np.int64)
    fr, fc = (row - r)[..., None], (column - c)[..., None]
    upper = grid[r, c] * (1.0 - fc) + grid[r, c + 1] * fc
    lower = grid[r + 1, c] * (1.0 - fc) + grid[r + 1, c + 1] * fc
    return np.asarray(upper * (1.0 - fr) + lower * fr)


def _grid_faces(rows: int, columns: int) -> Faces:
    """Triangles of a grid of points, row by row; outward for a shell whose rows go down and whose columns turn left."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]
    return np.stack([np.stack([a, c, b], -1), np.stack([a, d, c], -1)]).reshape(-1, 3).astype(np.int32)
