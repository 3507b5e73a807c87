"""Normals of cubes and spheres, and the mesh builder."""

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.render import LabelledMesh, MeshBuilder, corner_normals
from tests.ganfoundry.render.shapes import cube, sphere


def test_a_cube_keeps_its_edges():
    vertices, faces = cube()
    normals = corner_normals(vertices, faces, crease=40.0)
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    flat = np.cross(b - a, c - a)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    np.testing.assert_allclose(normals, np.repeat(flat[:, None], 3, axis=1), atol=1e-12)
    # Outward: away from the centre.
    assert ((a + b + c) * flat).sum(1).min() > 0


def test_a_cube_without_creases_is_shaded_round():
    vertices, faces = cube()
    normals = corner_normals(vertices, faces, crease=180.0)
    radial = vertices[faces] / np.linalg.norm(vertices[faces], axis=-1, keepdims=True)
    assert (normals * radial).sum(-1).min() > 0.9


def test_a_fine_sphere_has_radial_normals():
    vertices, faces = sphere(2.0, 32, 48)
    normals = corner_normals(vertices, faces)
    radial = vertices[faces] / 2.0
    # At the poles the vertices are doubled, so only their own face counts there.
    away = np.abs(radial[..., 1]) < 0.99
    assert (normals * radial).sum(-1)[away].min() > np.cos(np.radians(3.0))


def test_normals_follow_a_naive_double_loop():
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(12, 3))
    faces = np.array([rng.permutation(12)[:3] for _ in range(20)], dtype=np.int32)
    cosine = np.cos(np.radians(60.0))
    flat = np.cross(vertices[faces[:, 1]] - vertices[faces[:, 0]], vertices[faces[:, 2]] - vertices[faces[:, 0]])
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    normals = corner_normals(vertices, faces, crease=60.0)
    for f in range(20):
        for corner in range(3):
            near = [g for g in range(20) if faces[f, corner] in faces[g] and unit[f] @ unit[g] >= cosine - 1e-12]
            total = flat[near].sum(0)
            np.testing.assert_allclose(normals[f, corner], total / np.linalg.norm(total), atol=1e-10)


def test_vertex_normals_bounds_and_parts():
    vertices, faces = cube()
    parts = np.arange(12, dtype=np.uint8) % 6
    mesh = LabelledMesh(vertices, faces, parts, parts, corner_normals(vertices, faces))
    np.testing.assert_allclose(np.linalg.norm(mesh.vertex_normals, axis=1), 1.0)
    assert (mesh.vertex_normals * vertices).sum(1).min() > 0.8
    np.testing.assert_allclose(mesh.bounds, [[-0.5] * 3, [0.5] * 3])
    assert len(mesh.part(3).faces) == 2
    assert mesh.part(3).vertices is mesh.vertices


def test_builder_joins_patches_and_drops_flat_faces():
    builder = MeshBuilder()
    builder.add([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2], [0, 1, 1]], 4, 5)
    builder.add_quads([[0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 1, 1]], [[0, 1, 2, 3]], [7], [8])
    mesh = builder.build(offset=(0.0, 0.0, 2.0))
    assert mesh.faces.tolist() == [[0, 1, 2], [3, 4, 5], [3, 5, 6]]
    assert mesh.face_parts.tolist() == [4, 7, 7]
    assert mesh.face_materials.tolist() == [5, 8, 8]
    assert mesh.vertices[:, 2].tolist() == [2, 2, 2, 3, 3, 3, 3]
    assert mesh.corner_normals[:, :, 2].tolist() == [[1.0] * 3] * 3


def test_builder_refuses_a_missing_vertex():
    with pytest.raises(InputError, match=r"outside 0\.\.2"):
        MeshBuilder().add(np.zeros((3, 3)), [[0, 1, 3]], 1, 1)
