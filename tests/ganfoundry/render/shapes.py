"""Meshes with known geometry."""

import numpy as np


def sphere(radius: float, rings: int, segments: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices and outward faces of a latitude-longitude sphere."""
    polar = np.linspace(0.0, np.pi, rings + 1)[:, None]
    turn = np.linspace(0.0, 2.0 * np.pi, segments, endpoint=False)[None]
    x, y, z = np.sin(polar) * np.sin(turn), np.cos(polar) + 0.0 * turn, np.sin(polar) * np.cos(turn)
    vertices = radius * np.stack([x, y, z], axis=-1).reshape(-1, 3)
    index = np.arange((rings + 1) * segments).reshape(rings + 1, segments)
    after = np.roll(index, -1, axis=1)
    quads = np.stack([index[:-1], index[1:], after[1:], after[:-1]], axis=-1).reshape(-1, 4)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    solid = np.linalg.norm(np.cross(b - a, c - a), axis=1) > 1e-12
    return vertices, faces[solid].astype(np.int32)


def cube() -> tuple[np.ndarray, np.ndarray]:
    """Unit cube around the origin, 8 vertices, 12 outward faces."""
    vertices = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
