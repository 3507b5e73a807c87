"""The icosphere: counts, orientation, symmetry, and texture coordinates that are where the docstring says."""

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.shape.template import sphere_template

LEVELS = [1, 2, 3, 4]


@pytest.mark.parametrize("level", LEVELS)
def test_counts_and_euler_number(level: int) -> None:
    template = sphere_template(level)
    assert len(template.faces) == 20 * 4**level
    assert len(template.vertices) == 10 * 4**level + 2
    assert len(template.vertices) - len(template.edges) + len(template.faces) == 2


@pytest.mark.parametrize("level", LEVELS)
def test_closed_surface_turned_outwards(level: int) -> None:
    template = sphere_template(level)
    corners = template.vertices[template.faces].astype(float)
    volume = np.linalg.det(corners).sum() / 6
    assert (np.linalg.det(corners) > 0).all()
    assert 4 / 3 * np.pi * (1 - 1.2 / 4**level) < volume < 4 / 3 * np.pi
    assert np.allclose(np.linalg.norm(template.vertices, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
def test_each_edge_has_its_two_faces(level: int) -> None:
    template = sphere_template(level)
    for edge, owners in zip(template.edges[::7], template.edge_faces[::7], strict=True):
        assert owners[0] != owners[1]
        for owner in owners:
            assert set(edge) <= set(template.faces[owner])


@pytest.mark.parametrize("level", LEVELS)
def test_mirror_is_an_involution_at_the_mirrored_place(level: int) -> None:
    template = sphere_template(level)
    assert np.array_equal(template.mirror[template.mirror], np.arange(len(template.vertices)))
    assert np.allclose(template.vertices[template.mirror], template.vertices * [-1, 1, 1], atol=1e-6)
    middle = np.abs(template.vertices[:, 0]) < 1e-6
    assert np.array_equal(template.mirror[middle], np.flatnonzero(middle))


@pytest.mark.parametrize("level", LEVELS)
def test_texture_coordinates_are_equirectangular(level: int) -> None:
    template = sphere_template(level)
    assert np.array_equal(template.uv_vertex[template.face_uv], template.faces)
    angle, height = (template.uv[:, 0] - 0.5) * 2 * np.pi, np.pi * template.uv[:, 1]
    place = np.stack([np.sin(height) * np.sin(angle), np.cos(height), np.sin(height) * np.cos(angle)], 1)
    assert np.allclose(place, template.vertices[template.uv_vertex], atol=1e-5)


@pytest.mark.parametrize("level", LEVELS)
def test_no_face_is_smeared_across_the_seam(level: int) -> None:
    """In texture space every face keeps its orientation, and the faces together cover the sphere once."""
    template = sphere_template(level)
    a, b, c = (template.uv[template.face_uv[:, corner]].astype(float) for corner in range(3))
    signed = ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    assert (signed < 0).all()  # v points down, so counter-clockwise faces turn the other way
    assert np.ptp(template.uv[template.face_uv][..., 0], axis=1).max() < 0.35
    # Seen from the poles, triangles cut the corners of the pole's rows: a little less than the whole square.
    assert 1 - 0.6 / 2**level < -signed.sum() <= 1 + 1e-6


def test_front_left_and_top_of_the_texture() -> None:
    template = sphere_template(3)

    def at(place: list[float]) -> np.ndarray:
        vertex = np.flatnonzero(np.isclose(template.vertices, place, atol=1e-6).all(1))
        return template.uv[np.isin(template.uv_vertex, vertex)]

    assert np.allclose(at([0, 0, 1]), [[0.5, 0.5]])
    assert np.allclose(at([1, 0, 0]), [[0.75, 0.5]])
    assert np.allclose(at([-1, 0, 0]), [[0.25, 0.5]])
    assert set(at([0, 0, -1])[:, 0]) == {0.0, 1.0}
    assert len(at([0, 1, 0])) > 2
    assert np.allclose(at([0, 1, 0])[:, 1], 0)


@pytest.mark.parametrize("level", [-1, 0, 7])
def test_levels_out_of_range_are_refused(level: int) -> None:
    with pytest.raises(InputError, match="give 1 to 6"):
        sphere_template(level)
