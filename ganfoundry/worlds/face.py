"""A face: the mesh, keypoints and colours that a design becomes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.render.mesh import LabelledMesh
from ganfoundry.worlds.face_data import EXPRESSIONS, REGIONS, SIDED_LANDMARKS, HeadData, load_head
from ganfoundry.worlds.face_design import FaceDesign
from ganfoundry.worlds.face_hair import BROW_COLUMNS, Faces, brow_shells, hair_shell
from ganfoundry.worlds.face_paint import beard_mask, corner_colours
from ganfoundry.worlds.face_parts import Part

Array = npt.NDArray[np.float64]

CENTRE = (0.0, -0.022, -0.055)
"""Origin of the object frame relative to the point midway between the eyes, metres: about the middle of the face."""
_SIDED = 2 * len(SIDED_LANDMARKS)
_REGION_PARTS = {
    "skin": Part.SKIN, "neck": Part.NECK, "ear": Part.EAR, "nose": Part.NOSE, "upper_lip": Part.UPPER_LIP,
    "lower_lip": Part.LOWER_LIP, "mouth": Part.INNER_MOUTH, "teeth": Part.TEETH, "tongue": Part.INNER_MOUTH,
}  # fmt: skip
_EYE_RINGS = (0.0, 6.0, 11.0, 11.0, 19.0, 27.0, 27.0, 31.0, 45.0, 60.0, 75.0, 95.0)
"""Angles from the gaze in degrees; pupil and iris are a little larger than life, so that 64 px show them."""
_EYE_SPOKES = 24


@dataclass(frozen=True, eq=False)
class Face:
    """A built face in its own frame: mesh, keypoints (K, 3) in metres, corner colours (F, 3, 3) and the design."""

    design: FaceDesign
    mesh: LabelledMesh
    keypoints: Array
    colours: Array


def build_face(design: FaceDesign) -> Face:
    """Build the mesh, the keypoints and the colours of a design."""
    head = load_head()
    vertices = head_vertices(head, design)
    normals = _vertex_normals(vertices, head.faces)
    beard = 0.004 * max(design.beard - 0.4, 0.0) * beard_mask(head)
    vertices = vertices + beard[:, None] * normals
    scalp = np.einsum("rck,rckd->rcd", head.scalp_weights, vertices[head.faces[head.scalp_faces]])
    brows, brow_normals = (
        np.einsum("srck,srckd->srcd", head.brow_weights, values[head.faces[head.brow_faces]])
        for values in (vertices, normals)
    )
    parts = np.array([_REGION_PARTS[name] for name in REGIONS], dtype=np.uint8)[head.regions]
    join = _Joiner()
    join.add(vertices, head.faces, parts, corner_colours(head, design), _vertex_normals(vertices, head.faces))
    for side, rows in enumerate(head.eyes):
        join.add_eye(vertices[rows], design, side)
    points, faces, colours, smooth = brow_shells(design, brows, brow_normals)
    join.add(points, faces, np.full(len(faces), Part.BROW, dtype=np.uint8), colours[faces], smooth)
    ends = points.reshape(2, -1, BROW_COLUMNS, 3)[:, 2][:, [-1, 0]]  # of the middle line: outer, inner
    points, faces, colours = hair_shell(design, scalp)
    if len(faces):
        join.add(points, faces, np.full(len(faces), Part.HAIR, dtype=np.uint8), colours[faces])
    marks = vertices[head.landmarks]
    keypoints = np.concatenate([marks[:_SIDED], ends.transpose(1, 0, 2).reshape(-1, 3), marks[_SIDED:]])
    mesh, corners = join.build()
    return Face(design, mesh, keypoints - np.array(CENTRE), corners)


def head_vertices(head: HeadData, design: FaceDesign) -> Array:
    """Vertices of the head of a design, (V, 3), metres from the point midway between the eyes."""
    out = head.template.astype(np.float64) + head.details_mean
    for (a, share), (s, sex), (g, age) in product(
        enumerate(design.ancestry),
        enumerate((1.0 - design.male, design.male)),
        enumerate((1.0 - design.age, design.age)),
    ):
        out += share * sex * age * head.ancestry[a, s, g]
    out += np.tensordot(design.details, head.details, 1)
    for name, strength in design.actions.items():
        out += strength * head.expressions[EXPRESSIONS.index(name)]
    return out


def face_attributes(face: Face) -> dict[str, Any]:
    """What is known about a face besides its pixels; `paint_rgb` is the skin's colour."""
    design = face.design
    return {
        "body_type": design.hair_style,
        "paint_rgb": design.skin,
        "male": design.male,
        "age": design.age,
        "ancestry": tuple(float(share) for share in design.ancestry),
        "expression": design.expression,
        "hair_name": design.hair_name,
        "hair_rgb": design.hair,
        "iris_name": design.iris_name,
        "iris_rgb": design.iris,
        "lips_rgb": design.lips,
        "beard": design.beard,
        "gaze": design.gaze,
    }


class _Joiner:
    """Collects smooth pieces with colours and makes one mesh of them."""

    def __init__(self) -> None:
        self._pieces: list[tuple[Array, Faces, npt.NDArray[np.uint8], Array, Array]] = []
        self._count = 0

    def add(
        self, vertices: Array, faces: Faces, parts: npt.NDArray[np.uint8], colours: Array, normals: Array | None = None
    ) -> None:
        """Add a piece: vertices (V, 3), triangles (F, 3), part ids (F,), corner colours (F, 3, 3), normals (V, 3)."""
        smooth = _vertex_normals(vertices, faces) if normals is None else normals
        self._pieces.append((vertices, faces + np.int32(self._count), parts, colours, smooth[faces]))
        self._count += len(vertices)

    def add_eye(self, ball: Array, design: FaceDesign, side: int) -> None:
        """Add an eyeball, left (0) or right (1), where the vertices (n, 3) of the head data's eyeball are."""
        centre = ball.mean(0)
        radius = float(np.linalg.norm(ball - centre, axis=1).mean())
        turn, rise = np.radians(design.gaze[0]), np.radians(design.gaze[1])
        forward = np.array([math.sin(turn) * math.cos(rise), math.sin(rise), math.cos(turn) * math.cos(rise)])
        left = np.array([math.cos(turn), 0.0, -math.sin(turn)])
        frame = np.stack([left, np.cross(forward, left), forward])
        angle = np.radians(_EYE_RINGS)[:, None]
        spoke = np.linspace(0.0, 2.0 * np.pi, _EYE_SPOKES, endpoint=False)[None] * (1.0 if side == 0 else -1.0)
        local = np.stack([np.sin(angle) * np.cos(spoke), np.sin(angle) * np.sin(spoke), np.cos(angle) + 0 * spoke], -1)
        normals = local.reshape(-1, 3) @ frame
        faces, ring = _ring_faces(len(_EYE_RINGS), _EYE_SPOKES)
        parts = np.array([Part.PUPIL] * 2 + [0] + [Part.IRIS] * 2 + [0] + [Part.EYE_WHITE] * 5, dtype=np.uint8)[ring]
        iris, white = np.array(design.iris), np.array([0.93, 0.925, 0.91])
        tones = np.stack([np.full(3, 0.03)] * 3 + [iris * 0.9, np.minimum(iris * 1.35, 0.9), iris * 0.45] + [white] * 6)
        colours = np.repeat(tones, _EYE_SPOKES, axis=0)[faces]
        solid = parts > 0
        faces = faces if side == 0 else faces[:, ::-1]
        self.add(centre + radius * normals, faces[solid], parts[solid], colours[solid], normals)

    def build(self) -> tuple[LabelledMesh, Array]:
        """The mesh in the object frame, and the colours of its corners."""
        vertices, faces, parts, colours, normals = (
            np.concatenate(column) for column in zip(*self._pieces, strict=True)
        )
        mesh = LabelledMesh(vertices - np.array(CENTRE), faces, parts, np.zeros_like(parts), normals)
        return mesh, colours


def _ring_faces(rings: int, spokes: int) -> tuple[Faces, npt.NDArray[np.int64]]:
    """Triangles between rings of points around a pole, outward, and the ring that each lies below."""
    index = np.arange(rings * spokes).reshape(rings, spokes)
    turned = np.roll(index, -1, axis=1)
    a, b, c, d = index[:-1], turned[:-1], turned[1:], index[1:]
    faces = np.stack([np.stack([a, d, c], -1), np.stack([a, c, b], -1)])
    ring = np.broadcast_to(np.arange(rings - 1)[None, :, None], faces.shape[:3])
    return faces.reshape(-1, 3).astype(np.int32), ring.ravel()


def _vertex_normals(vertices: Array, faces: Faces) -> Array:
    """Unit normals of smooth vertices, (V, 3): area-weighted means of the triangles' normals; 0 without triangles."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    across = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    flat = faces.ravel()
    total = np.stack([np.bincount(flat, across[:, k], len(vertices)) for k in range(3)], axis=1)
    lengths = np.linalg.norm(total, axis=1, keepdims=True)
    return np.asarray(total / np.where(lengths > 0.0, lengths, 1.0))
