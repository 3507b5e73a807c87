"""Solid voxels against spheres, boxes and naive rays."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.shape.template import sphere_template
from ganfoundry.shape.voxels import common_cube, solid_voxels, voxel_iou

CUBE = np.array([[-1.0, -1, -1], [1, 1, 1]])
BOX = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], float)
BOX_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1], [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4],
     [1, 5, 7], [1, 7, 3]]
)  # fmt: skip


def centres(resolution: int) -> np.ndarray:
    line = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    return np.stack(np.meshgrid(line, line, line, indexing="ij"), -1)


def test_a_sphere_has_the_voxels_inside_its_radius() -> None:
    template = sphere_template(4)
    found = solid_voxels(template.vertices * 0.8, template.faces, CUBE, 48)
    radius = np.linalg.norm(centres(48), axis=-1)
    assert found[radius < 0.79].all()
    assert not found[radius > 0.81].any()


@given(
    size=st.tuples(*[st.floats(0.2, 0.9)] * 3),
    shift=st.tuples(*[st.floats(-0.1, 0.1)] * 3),
)
def test_boxes_in_x_y_z_order(size: tuple[float, ...], shift: tuple[float, ...]) -> None:
    half, middle = np.array(size), np.array(shift)
    found = solid_voxels(BOX * half + middle, BOX_FACES, CUBE, 20)
    distance = np.abs(centres(20) - middle) - half
    assert found[(distance < -1e-6).all(-1)].all()
    assert not found[(distance > 1e-6).any(-1)].any()


def test_open_and_doubled_meshes_count_as_solid() -> None:
    whole = solid_voxels(BOX * 0.6, BOX_FACES, CUBE, 16)
    doubled = solid_voxels(np.concatenate([BOX * 0.6, BOX * 0.3]), np.concatenate([BOX_FACES, BOX_FACES + 8]), CUBE, 16)
    assert np.array_equal(whole, doubled)
    without_lid = solid_voxels(BOX * 0.6, BOX_FACES[2:], CUBE, 16)
    assert not without_lid.any()  # seen along x nothing blocks one side: the box is no solid


def test_agrees_with_naive_rays_on_a_bumpy_mesh() -> None:
    template = sphere_template(1)
    bumps = 1 + 0.2 * np.random.default_rng(0).standard_normal(len(template.vertices))
    vertices = template.vertices * bumps[:, None] * 0.5
    found = solid_voxels(vertices, template.faces, CUBE, 8)
    triangles = vertices[template.faces].astype(float)
    for index in np.ndindex(8, 8, 8):
        point = centres(8)[index]
        blocked = (
            [
                any(_hit(point, sign * np.eye(3)[axis], triangle) for triangle in triangles)
                for axis in range(3)
                for sign in (-1, 1)
            ]
            if found[index] or np.linalg.norm(point) < 0.35
            else [False]
        )
        assert all(blocked) == found[index]


def _hit(origin: np.ndarray, direction: np.ndarray, triangle: np.ndarray) -> bool:
    """Moeller-Trumbore."""
    a, b, c = triangle
    normal = np.cross(direction, c - a)
    determinant = (b - a) @ normal
    if abs(determinant) < 1e-12:
        return False
    u = (origin - a) @ normal / determinant
    q = np.cross(origin - a, b - a)
    v, t = direction @ q / determinant, (c - a) @ q / determinant
    return bool(u >= 0 and v >= 0 and u + v <= 1 and t >= 0)


def test_iou() -> None:
    a, b = np.zeros((2, 4, 4, 4), bool)
    assert voxel_iou(a, b) == 1.0
    a[:2] = True
    b[1:3] = True
    assert voxel_iou(a, b) == pytest.approx(1 / 3)
    assert voxel_iou(a, a) == 1.0
    assert voxel_iou(a, ~a) == 0.0


def test_common_cube_holds_all_meshes() -> None:
    cube = common_cube(BOX, BOX * 2 + 1.0, margin=0.1)
    assert np.allclose(cube.mean(0), 1.0)
    assert np.allclose(np.ptp(cube, axis=0), 4 * 1.2)


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="not finite"):
        solid_voxels(BOX * np.nan, BOX_FACES, CUBE)
    with pytest.raises(InputError, match="cube"):
        solid_voxels(BOX, BOX_FACES, np.array([[0, 0, 0], [1, 2, 3]]))


def test_a_cabin_without_a_floor_is_solid_down_to_the_body_that_it_stands_on() -> None:
    """Cars of the world are made so; just above the missing floor the winding number is about one half."""
    floorless = [face for face in BOX_FACES.tolist() if not set(face) <= set(_at_y(-1))]
    body, cabin = BOX * [0.4, 0.2, 0.6] - [0, 0.2, 0], BOX * [0.4, 0.2, 0.6] + [0, 0.25, 0]
    vertices, faces = np.concatenate([body, cabin]), np.concatenate([BOX_FACES, np.array(floorless) + 8])
    found = solid_voxels(vertices, faces, CUBE, 40)
    place = centres(40)
    inside = (np.abs(place[..., [0, 2]]) < [0.4, 0.6]).all(-1) & (place[..., 1] > -0.4) & (place[..., 1] < 0.45)
    gap = np.abs(place[..., 1] - 0.025) < 0.025
    assert np.array_equal(found & ~gap, inside & ~gap)
    assert not solid_voxels(cabin, np.array(floorless), CUBE, 40).any()  # alone it stands on nothing
    assert winding_numbers(np.array([[0.0, 0.075, 0.0]]), vertices[faces]) < 0.65


def _at_y(sign: int) -> list[int]:
    return [index for index, corner in enumerate(BOX) if corner[1] == sign]


@given(seed=st.integers(0, 50))
@settings(max_examples=4, deadline=None)
def test_a_closed_mesh_holds_what_its_winding_number_says_and_only_hollows_more(seed: int) -> None:
    template = sphere_template(2)
    rng = np.random.default_rng(seed)
    bumps = 1 + 0.15 * np.sin(template.vertices * rng.uniform(1, 4, 3) + rng.uniform(0, 6, 3)).sum(1)
    vertices = template.vertices * bumps[:, None] * 0.6
    found = solid_voxels(vertices, template.faces, CUBE, 14)
    inside = winding_numbers(centres(14).reshape(-1, 3), vertices[template.faces]).reshape(14, 14, 14) > 0.5
    assert not (inside & ~found).any()
    assert voxel_iou(found, inside) > 0.97


def winding_numbers(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Solid angle of all triangles over 4 pi (van Oosterom and Strackee 1983)."""
    a, b, c = (triangles[None, :, k] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
    volume = (a * np.cross(b, c)).sum(-1)
    base = la * lb * lc + (a * b).sum(-1) * lc + (b * c).sum(-1) * la + (c * a).sum(-1) * lb
    return np.arctan2(volume, base).sum(1) / (2 * np.pi)
