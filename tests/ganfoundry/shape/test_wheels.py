"""Wheel meshes and opened bodies: closed, facing outwards, where they are said to be."""

from collections import Counter

import numpy as np
import pytest

from ganfoundry.shape.assets import rigged
from ganfoundry.shape.rigging import Wheels
from ganfoundry.shape.template import sphere_template
from ganfoundry.shape.uv import texel_map
from ganfoundry.shape.wheels import Body, halve, halve_around, open_body, wheel_pieces
from tests.ganfoundry.shape.carhelp import AXLES, HUB, WHEEL, boxy, painted, surface, toy_asset

WHEELS = Wheels(front=0.55, rear=-0.5, height=-0.14, outer=0.38, radius=0.15, width=0.1)


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    return float((a * np.cross(b, c)).sum() / 6)


def assert_closed(vertices: np.ndarray, faces: np.ndarray) -> None:
    """Every edge lies between two faces, which run along it in opposite directions; by place, not by index."""
    _, place = np.unique(np.round(vertices, 6), axis=0, return_inverse=True)
    corners = place.reshape(-1)[faces]
    corners = corners[(corners != np.roll(corners, 1, 1)).all(1)]  # without faces that are points or lines
    sides = Counter((int(f[i]), int(f[i - 2])) for f in corners for i in range(3))
    assert all(count == 1 for count in sides.values())
    assert all((b, a) in sides for a, b in sides)


def body() -> Body:
    asset = toy_asset()
    return Body(asset.vertices, asset.faces, asset.uv, asset.face_uv, asset.face_parts)


def test_a_wheel_is_a_closed_surface_of_its_radius_and_width() -> None:
    pieces = wheel_pieces(0.3, 0.2)
    assert set(pieces) == {"tyre", "rim"}
    tyre, rim = pieces["tyre"], pieces["rim"]
    vertices = np.concatenate([tyre.vertices, rim.vertices])
    faces = np.concatenate([tyre.faces, rim.faces + len(tyre.vertices)])
    assert_closed(vertices, faces)
    assert np.hypot(vertices[:, 1], vertices[:, 2]).max() == pytest.approx(0.3, abs=1e-6)
    assert np.abs(vertices[:, 0]).max() == pytest.approx(0.1, abs=1e-6)
    assert 0.6 < volume(vertices.astype(float), faces) / (np.pi * 0.3**2 * 0.2) < 1
    for piece in pieces.values():
        corners = piece.vertices[piece.faces].astype(float)
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        assert ((normal[:, None] * piece.normals[piece.faces]).sum(2) > 0).all()
        assert np.abs(np.linalg.norm(piece.normals, axis=1) - 1).max() < 1e-5
    assert len(faces) < 800


def test_halved_faces_cover_the_same_surface_without_cracks() -> None:
    template, rng = sphere_template(3), np.random.default_rng(0)
    before = body()
    after = halve_around(before, rng.random(len(before.faces)) < 0.3)
    assert len(before.faces) < len(after.faces) < 4 * len(before.faces)
    assert_closed(np.asarray(after.vertices), after.faces)
    assert volume(after.vertices, after.faces) == pytest.approx(volume(before.vertices, before.faces))
    areas = {}
    for name, mesh in (("before", before), ("after", after)):  # in texture space, by part
        a, b, c = (mesh.uv[mesh.face_uv[:, corner]].astype(float) for corner in range(3))
        area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])
        areas[name] = np.bincount(mesh.face_parts, area)
    assert areas["after"] == pytest.approx(areas["before"], rel=1e-5)
    sphere = Body(template.vertices, template.faces, template.uv, template.face_uv, np.zeros(1280, int))
    whole = halve(sphere, np.ones((1280, 3), bool))
    assert len(whole.faces) == 4 * 1280
    assert len(whole.vertices) == 642 + 1920


def test_an_opened_body_is_closed_clears_the_ground_and_leaves_room_for_the_wheels() -> None:
    before = body()
    after = open_body(before, WHEELS, WHEEL)
    assert_closed(np.asarray(after.vertices), after.faces)
    ground = WHEELS.height - WHEELS.radius
    assert after.vertices[:, 1].min() == pytest.approx(ground + 0.5 * WHEELS.radius, abs=0.2 * WHEELS.radius)
    for axle in (WHEELS.front, WHEELS.rear):
        distance = np.hypot(after.vertices[:, 1] - WHEELS.height, after.vertices[:, 2] - axle)
        outside = np.abs(after.vertices[:, 0]) > WHEELS.outer - WHEELS.width
        assert not (outside & (distance < 0.95 * WHEELS.radius)).any()
    wells = after.face_parts == WHEEL
    assert wells.sum() > (before.face_parts == WHEEL).sum()
    far = np.abs(after.vertices[:, 1]) > 0.1
    assert {tuple(row) for row in np.asarray(before.vertices)[before.vertices[:, 1] > 0.2]} <= {
        tuple(row) for row in after.vertices[far].astype(np.float32)
    }  # the roof is as it was
    assert len(after.faces) < 5000


def test_painted_wheels_become_wheels_at_their_places() -> None:
    vertices = boxy()
    wheel = painted(vertices) == WHEEL
    points = surface(vertices)[wheel]
    face = texel_map(3, 64, 128).face.numpy()
    corners = vertices[sphere_template(3).faces].astype(float)
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    areas = (areas / np.bincount(face.ravel(), minlength=len(areas)).clip(1))[face[wheel]]
    asset = rigged(toy_asset(), points, areas, toy_asset().texture[wheel])
    assert asset.extras["wheels"] == "rigged"
    assert asset.rig is not None
    wheels = asset.rig.wheels
    assert abs(wheels.front - AXLES[0]) < 0.03
    assert abs(wheels.rear - AXLES[1]) < 0.03
    assert abs(wheels.height - HUB) < 0.06
    assert max(asset.rig.colours["tyre"]) <= 0.16
    assert min(asset.rig.colours["rim"]) >= 0.45
    plain = toy_asset()
    assert rigged(plain, points[:0], areas[:0], plain.texture[:0, 0]).rig is None
    assert "not rigged: " in rigged(plain, points[:0], areas[:0], plain.texture[:0, 0]).extras["wheels"]
