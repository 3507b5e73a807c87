"""Designs of faces and what is built from them: identity, hair, brows, paint, look."""

import math
from dataclasses import replace

import numpy as np
import pytest

from ganfoundry.worlds.face import build_face, face_attributes, head_vertices
from ganfoundry.worlds.face_data import EXPRESSIONS, load_head
from ganfoundry.worlds.face_design import DETAIL_LIMIT, EXPRESSION_NAMES, HAIR_STYLES, sample_design
from ganfoundry.worlds.face_hair import _grid_faces, _sample
from ganfoundry.worlds.face_look import DISTANCE, MAX_FACES, sample_light, sample_scene
from ganfoundry.worlds.face_paint import beard_mask, skin_colours
from ganfoundry.worlds.face_parts import FACE_SCHEMA, KEYPOINTS, Part
from ganfoundry.worlds.look import stream

HEAD = load_head()
NUM_DETAILS = len(HEAD.details)


def design(seed, style=None):
    return sample_design(stream(seed, 0), stream(seed, 4), NUM_DETAILS, style)


@pytest.fixture(scope="module")
def designs():
    return [design(seed) for seed in range(300)]


def test_designs_stay_in_their_ranges(designs):
    for row in designs:
        assert row.ancestry.sum() == pytest.approx(1.0)
        assert 0.0 <= row.male <= 1.0
        assert 0.0 <= row.age <= 1.0
        assert np.abs(row.details).max() <= DETAIL_LIMIT
        assert set(row.actions) <= set(EXPRESSIONS)
        assert all(0.0 <= strength <= 1.0 for strength in row.actions.values())
        for colour in (row.skin, row.hair, row.brow_colour, row.lips, row.iris):
            assert all(0.03 <= c <= 0.95 for c in colour)
        assert row.beard == 0.0 or row.male > 0.6
        assert math.isnan(row.hair_drop) == (HAIR_STYLES[row.hair_style].drop is None)


def test_designs_vary(designs):
    assert {row.expression for row in designs} == set(EXPRESSION_NAMES)
    styles = {style: sum(row.hair_style == style for row in designs) for style in HAIR_STYLES}
    assert min(styles.values()) > 10
    assert 0.3 < np.mean([row.male > 0.5 for row in designs]) < 0.7
    assert np.mean([row.beard > 0 for row in designs]) > 0.12
    # Asymmetric expressions occur, but seldom.
    uneven = [row.actions["eyeBlinkLeft"] != row.actions["eyeBlinkRight"] for row in designs]
    uneven = [u or row.actions.get("mouthSmileLeft", 0) != row.actions.get("mouthSmileRight", 0)
              for u, row in zip(uneven, designs, strict=True)]  # fmt: skip
    assert 0.05 < np.mean(uneven) < 0.35


def test_the_skin_follows_the_ancestry(designs):
    light = np.array([np.mean(row.skin) for row in designs])
    african = np.array([row.ancestry[0] for row in designs])
    assert np.corrcoef(light, african)[0, 1] < -0.7


def test_identities_differ_by_millimetres(designs):
    heads = np.stack([head_vertices(HEAD, replace(row, actions={})) for row in designs[:60]])
    front = (HEAD.template[:, 2] > 0.0) & (HEAD.template[:, 1] > -0.1)
    spread = np.linalg.norm(heads.std(0), axis=1)[front]
    assert 0.001 < np.median(spread) < 0.008
    eyes = heads[:, HEAD.eyes.ravel()].mean(1)
    assert np.abs(eyes).max() < 1e-3


def test_an_action_moves_the_vertices_by_its_strength():
    row = design(0)
    calm = head_vertices(HEAD, replace(row, actions={}))
    half = head_vertices(HEAD, replace(row, actions={"jawOpen": 0.5}))
    np.testing.assert_allclose(half - calm, 0.5 * HEAD.expressions[EXPRESSIONS.index("jawOpen")], atol=1e-7)


def test_the_eyes_look_where_the_gaze_goes():
    row = replace(design(3), actions={})
    for gaze in ((0.0, 0.0), (20.0, 0.0), (0.0, 12.0)):
        mesh = build_face(replace(row, gaze=gaze)).mesh
        pupil = mesh.corner_normals[mesh.face_parts == Part.PUPIL].reshape(-1, 3).mean(0)
        expected = [math.sin(math.radians(gaze[0])), math.sin(math.radians(gaze[1])), 1.0]
        np.testing.assert_allclose(pupil[:2] / pupil[2], np.array(expected[:2]), atol=0.03)


def test_corner_normals_are_unit_and_face_outward():
    mesh = build_face(design(5, "short")).mesh
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    solid = np.linalg.norm(across, axis=1) > 1e-12  # the hair's crown is a point
    np.testing.assert_allclose(np.linalg.norm(mesh.corner_normals[solid], axis=-1), 1.0, atol=1e-6)
    agree = (across * mesh.corner_normals.mean(1)).sum(1) > 0
    for part in (Part.SKIN, Part.HAIR, Part.IRIS, Part.EYE_WHITE, Part.BROW, Part.EAR):
        assert agree[mesh.face_parts == part].mean() > 0.9, part
    # Outward for what surrounds the origin.
    middle = (a + b + c) / 3
    for part in (Part.SKIN, Part.HAIR):
        rows = mesh.face_parts == part
        assert ((middle * across).sum(1)[rows] > 0).mean() > 0.75, part


def test_hair_lies_outside_the_skull_and_falls_as_far_as_it_should():
    for style, row in HAIR_STYLES.items():
        mesh = build_face(design(8, style)).mesh
        hair = mesh.vertices[np.unique(mesh.faces[mesh.face_parts == Part.HAIR])]
        if style == "bald":
            assert len(hair) == 0
            continue
        skin = mesh.vertices[np.unique(mesh.faces[mesh.face_parts == Part.SKIN])]
        assert hair[:, 1].max() > skin[:, 1].max() - 0.002
        lowest = hair[:, 1].min() - 0.022  # from the eyes, not from the origin
        if row.drop:
            assert row.drop[0] - 0.02 < lowest < row.drop[1] + 0.02
        else:
            assert lowest > -0.09


def test_thick_brows_are_thicker_and_lie_above_the_eyes():
    row = replace(design(2), actions={})
    areas = []
    for half in (0.002, 0.004):
        face = build_face(replace(row, brow=(half, 0.003, -0.004)))
        mesh = face.mesh
        brow = mesh.vertices[np.unique(mesh.faces[mesh.face_parts == Part.BROW])]
        eyes = mesh.vertices[np.unique(mesh.faces[mesh.face_parts == Part.IRIS])]
        assert brow[:, 1].min() > eyes[:, 1].mean()
        np.testing.assert_allclose(brow[:, 0].max(), -brow[:, 0].min(), atol=1e-3)
        areas.append(np.ptp(brow[brow[:, 0] > 0.03, 1]))
    assert areas[1] > areas[0]


def test_colours_are_painted_where_they_belong():
    row = replace(
        design(1), beard=1.0, skin=(0.9, 0.7, 0.6), lips=(0.7, 0.1, 0.1), brow_colour=(0.1, 0.1, 0.1), blush=0
    )
    colours = skin_colours(HEAD, row)
    lips = HEAD.lips > 0.9
    np.testing.assert_allclose(colours[lips], np.broadcast_to(row.lips, (lips.sum(), 3)), atol=0.1)
    forehead = (HEAD.template[:, 1] > 0.05) & (HEAD.template[:, 2] > -0.02)
    np.testing.assert_allclose(colours[forehead].mean(0), row.skin, atol=0.06)
    mask = beard_mask(HEAD)
    assert mask[HEAD.landmarks[-1]] > 0.7  # chin
    assert mask[HEAD.landmarks[-4]] < 0.1  # tip of the nose
    assert colours[HEAD.landmarks[-1]].mean() < 0.3
    shaved = skin_colours(HEAD, replace(row, beard=0.0))
    assert shaved[HEAD.landmarks[-1]].mean() > 0.6


def test_keypoints_and_attributes_have_their_places():
    face = build_face(design(6))
    assert face.keypoints.shape == (len(KEYPOINTS), 3)
    assert face.colours.shape == (len(face.mesh.faces), 3, 3)
    for name in ("eye_outer_left", "brow_inner_left", "brow_outer_left", "ear_lobe_left"):
        left = face.keypoints[KEYPOINTS.index(name)]
        right = face.keypoints[KEYPOINTS.index(name.replace("left", "right"))]
        np.testing.assert_allclose(right, left * [-1, 1, 1], atol=5e-3)
        assert left[0] > 0.005
    order = FACE_SCHEMA.flip_permutation()
    assert [KEYPOINTS[k] for k in order[:2]] == ["eye_outer_right", "eye_outer_left"]
    about = face_attributes(face)
    assert about["body_type"] == face.design.hair_style
    assert about["paint_rgb"] == face.design.skin


def test_grids_are_sampled_bilinearly():
    grid = np.arange(12.0).reshape(3, 4, 1) * np.ones(3)
    found = _sample(grid, np.array([[0.0], [1.5]]), np.array([[0.0, 2.25]]))
    np.testing.assert_allclose(found[..., 0], [[0.0, 2.25], [6.0, 8.25]], atol=1e-2)
    assert len(_grid_faces(3, 4)) == 12


def test_lights_never_saturate_and_scenes_keep_faces_apart():
    for seed in range(50):
        light = sample_light(stream(seed, 1))
        assert light.direction[2] > 0
        assert 0.95 * (light.ambient + light.diffuse) <= 1.0
        camera, places = sample_scene(stream(seed, 3), 64, MAX_FACES if seed % 2 else None)
        spots = np.array([place[0] for place in places])
        for k in range(1, len(spots)):
            assert np.linalg.norm(spots[:k] - spots[k], axis=1).min() > 0.17
        if seed % 2:
            assert camera.distance > 3 * DISTANCE
