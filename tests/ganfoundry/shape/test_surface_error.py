"""Surface distances: closed forms on spheres, invariances, recovered similarities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ganfoundry.errors import InputError
from ganfoundry.shape.surface_error import (
    SurfaceError,
    align_surfaces,
    best_similarity,
    diagonal_of,
    outer_surface,
    sample_surface,
    surface_error,
)
from ganfoundry.shape.template import sphere_template

SPHERE = sphere_template(3)
LOPSIDED = (
    SPHERE.vertices * (1 + 0.3 * SPHERE.vertices[:, :1]) * [0.5, 0.4, 1.0] + 0.2 * SPHERE.vertices[:, [1, 2, 0]] ** 2
)


def compare(predicted: tuple[np.ndarray, np.ndarray], true: tuple[np.ndarray, np.ndarray]) -> SurfaceError:
    rng = np.random.default_rng(0)
    return surface_error(
        sample_surface(*predicted, 10_000, rng), sample_surface(*true, 10_000, rng), diagonal_of(*true)
    )


def test_samples_lie_on_the_surface_and_are_spread_by_area() -> None:
    points, normals, faces, weights = sample_surface(SPHERE.vertices, SPHERE.faces, 4000, np.random.default_rng(0))
    corners = SPHERE.vertices[SPHERE.faces[faces]]
    assert np.allclose((corners * weights[..., None]).sum(1), points, atol=1e-6)
    assert ((weights >= 0) & (weights <= 1)).all()
    radius = np.linalg.norm(points, axis=1)
    assert ((radius > 0.97) & (radius <= 1 + 1e-6)).all()
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert ((points * normals).sum(1) > 0.9).all()
    assert np.abs(points.mean(0)).max() < 0.03
    # Archimedes: the heights of points on a sphere are uniform.
    assert np.abs(np.histogram(points[:, 1], 5, (-1, 1))[0] / 4000 - 0.2).max() < 0.03


def test_a_larger_sphere_is_as_far_as_its_radius_says() -> None:
    error = compare((SPHERE.vertices * 1.1, SPHERE.faces), (SPHERE.vertices, SPHERE.faces))
    assert error.chamfer == pytest.approx(0.1 / (2 * 3**0.5), rel=0.05)
    assert error.f_score == 0.0  # 0.1 is farther than 2 % of the diagonal, 0.069
    assert error.normal_consistency > 0.99


def test_the_same_surface_has_no_error() -> None:
    error = compare((SPHERE.vertices, SPHERE.faces), (SPHERE.vertices, SPHERE.faces))
    assert error.f_score == 1.0
    assert error.chamfer < 0.01


def test_unused_vertices_do_not_change_the_scale() -> None:
    stray = np.concatenate([SPHERE.vertices, [[100.0, 0, 0]]])
    assert diagonal_of(stray, SPHERE.faces) == pytest.approx(2 * 3**0.5, rel=1e-3)


def test_the_outer_surface_leaves_out_what_is_inside_and_nothing_else() -> None:
    # a ball with a smaller one within, and a smaller one beside it
    vertices = np.concatenate([SPHERE.vertices, SPHERE.vertices * 0.8, SPHERE.vertices * 0.5 + [2.0, 0, 0]])
    count = len(SPHERE.vertices)
    faces = np.concatenate([SPHERE.faces, SPHERE.faces + count, SPHERE.faces + 2 * count])
    found = outer_surface(vertices, faces, 3000, np.random.default_rng(0))
    body = found.faces // len(SPHERE.faces)
    assert len(body) == 3000
    assert (body == 1).sum() == 0
    assert (body == 2).mean() == pytest.approx(0.2, abs=0.03)  # areas 4 pi and pi
    assert np.abs(found.points[body == 0].mean(0)).max() < 0.05  # no side is preferred


@given(scale=st.sampled_from([0.01, 1.0, 300.0]))
def test_the_outer_surface_does_not_depend_on_the_unit(scale: float) -> None:
    rng = np.random.default_rng(0)
    found = outer_surface(LOPSIDED * scale + 5 * scale, SPHERE.faces, 500, rng)
    same = outer_surface(LOPSIDED + 5, SPHERE.faces, 500, np.random.default_rng(0))
    assert (found.faces == same.faces).mean() > 0.99


@given(
    scale=st.floats(0.1, 10),
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    shift=st.tuples(*[st.floats(-5, 5)] * 3),
)
def test_umeyama_recovers_any_similarity(scale: float, angles: tuple[float, ...], shift: tuple[float, ...]) -> None:
    rotation = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    target = scale * LOPSIDED @ rotation.T + shift
    found = best_similarity(LOPSIDED, target)
    assert found.scale == pytest.approx(scale, rel=1e-6)
    assert np.allclose(found.rotation, rotation, atol=1e-6)
    assert np.allclose(found(LOPSIDED), target, atol=1e-6 * (1 + scale))


def test_umeyama_never_mirrors() -> None:
    found = best_similarity(LOPSIDED, LOPSIDED * [-1, 1, 1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)


@settings(max_examples=5, deadline=None)
@given(scale=st.floats(0.5, 2), yaw=st.floats(-20, 20), shift=st.tuples(*[st.floats(-0.3, 0.3)] * 3))
def test_surfaces_are_aligned_without_correspondences(scale: float, yaw: float, shift: tuple[float, ...]) -> None:
    rotation = Rotation.from_euler("y", yaw, degrees=True).as_matrix()
    rng = np.random.default_rng(0)
    sources, targets = [], []
    for stretch in (0.9, 1.0, 1.15):
        vertices = LOPSIDED * [1, 1, stretch]
        sources.append(sample_surface(vertices, SPHERE.faces, 1500, rng).points)
        targets.append(sample_surface(scale * vertices @ rotation.T + shift, SPHERE.faces, 1500, rng).points)
    found = align_surfaces(sources, targets, iterations=100)
    assert found.scale == pytest.approx(scale, rel=0.02)
    assert np.abs(Rotation.from_matrix(found.rotation.T @ rotation).as_rotvec(degrees=True)).max() < 2.0
    assert np.abs(found.translation - shift).max() < 0.03 * scale


def test_bad_input_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no surface"):
        sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), 10, rng)
    with pytest.raises(InputError, match="no surface"):
        sample_surface(np.full((3, 3), np.nan), np.array([[0, 1, 2]]), 10, rng)
    with pytest.raises(InputError, match="coincide"):
        best_similarity(np.ones((5, 3)), np.ones((5, 3)))
    with pytest.raises(InputError, match="pairs"):
        best_similarity(np.ones((2, 3)), np.ones((2, 3)))
    with pytest.raises(InputError, match="pairs"):
        align_surfaces([], [])
