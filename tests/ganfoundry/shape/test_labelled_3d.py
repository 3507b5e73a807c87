"""Labels read off a mesh, on a ball whose maps are known in closed form, and on a network that has learnt nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ganfoundry.errors import InputError
from ganfoundry.shape import labelled_3d
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.labelled_3d import HIDDEN, OUTSIDE, VISIBLE, LabelledViews
from tests.ganfoundry.shape.labelledtoys import COLOURS, RADIUS, ball, untrained

LEVEL, SIZE = 3, 48
PARAMETERS = np.array([[0.0, 0, 0, 0, 0], [70, 20, 0.1, 0.05, -0.02], [200, -30, -0.1, 0, 0]])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InverseModel:
    return untrained(tmp_path_factory.mktemp("network"), size=SIZE, level=LEVEL)


@pytest.fixture(scope="module")
def views(model: InverseModel) -> LabelledViews:
    return labelled_3d.label_views(model, ball(LEVEL), labelled_3d.cameras_from(model, PARAMETERS))


def points_of(model: InverseModel, views: LabelledViews) -> np.ndarray:
    """Object points of every pixel, by the matrices that are stored: a naive loop over the pixels."""
    cameras = labelled_3d.cameras_from(model, PARAMETERS)
    inner, outer = labelled_3d.intrinsics_of(cameras, SIZE), labelled_3d.extrinsics_of(cameras)
    points = np.full((len(outer), SIZE, SIZE, 3), np.nan)
    for n, (k, rt) in enumerate(zip(inner.astype(float), outer.astype(float), strict=True)):
        for y, x in np.argwhere(views.depth[n] > 0):
            local = views.depth[n, y, x] * np.linalg.solve(k, [x + 0.5, y + 0.5, 1.0])
            points[n, y, x] = rt[:, :3].T @ (local - rt[:, 3])
    return points


def test_depth_and_cameras_give_points_of_the_ball(model: InverseModel, views: LabelledViews) -> None:
    points = points_of(model, views)
    radii = np.linalg.norm(points, axis=-1)[views.label > 0]
    assert len(radii) > 500
    assert np.abs(radii - RADIUS).max() < 0.008  # flat faces lie inside the ball
    assert ((views.label > 0) == (views.depth > 0)).all()


def test_the_outline_is_the_balls(model: InverseModel, views: LabelledViews) -> None:
    distance = model.network.config.distance  # of the first view
    focal = 0.5 * SIZE / np.tan(np.radians(model.network.config.fov) / 2)
    radius = focal * RADIUS / np.sqrt(distance**2 - RADIUS**2)
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5 - SIZE / 2
    sure = np.abs(np.hypot(x, y) - radius) > 0.5
    assert ((np.hypot(x, y) < radius) == (views.label[0] > 0))[sure].all()


def test_normals_point_away_from_the_middle(model: InverseModel, views: LabelledViews) -> None:
    inside = views.label > 0
    expected = points_of(model, views)[inside] / RADIUS
    assert np.abs(views.normals[inside] - expected).max() < 0.03
    assert not views.normals[~inside].any()


def test_texture_coordinates_and_parts_are_those_of_the_place(model: InverseModel, views: LabelledViews) -> None:
    parts = ball(LEVEL).part_texture.numpy()
    inside = views.label > 0
    x, y, z = (points_of(model, views)[inside] / RADIUS).T
    u, v = (np.arctan2(x, z) / (2 * np.pi) + 0.5) % 1, np.arccos(y.clip(-1, 1)) / np.pi
    found = views.uv[inside]
    away = np.abs(y) < 0.9  # at the poles u means nothing
    around = np.abs(found[:, 0] - u)
    assert np.minimum(around, 1 - around)[away].max() < 0.01
    assert np.abs(found[:, 1] - v).max() < 0.015
    assert ((found >= 0) & (found <= 1)).all()
    assert not views.uv[~inside].any()
    expected = [parts[min(int(32 * b), 31), int(64 * a) % 64] for a, b in found]
    assert views.label[inside].tolist() == expected


def test_the_picture_shows_the_texture_on_white(model: InverseModel, views: LabelledViews) -> None:
    far = F.max_pool2d(torch.from_numpy(views.label).float()[:, None], 3, 1, 1)[:, 0].numpy() == 0
    assert (views.image[far] == 255).all()
    for part in (1, 2, 3):
        alone = -F.max_pool2d(-torch.from_numpy(views.label == part).float()[:, None], 7, 1, 3)[:, 0].numpy() > 0
        assert alone.sum() > 10
        assert np.abs(views.image[alone] - COLOURS[part]).max() <= 1


@pytest.mark.parametrize(
    ("azimuth", "elevation", "shift", "states"),
    [
        (0, 20, 0.0, (VISIBLE, VISIBLE)),
        (180, 20, 0.0, (VISIBLE, HIDDEN)),
        (0, 0, 0.0, (HIDDEN, VISIBLE)),  # the horizon is seven degrees nearer than the top
        (0, -40, 0.0, (HIDDEN, VISIBLE)),
        (180, -40, 0.0, (HIDDEN, HIDDEN)),
        (150, 60, 0.0, (VISIBLE, HIDDEN)),
        (0, 0, 0.7, (OUTSIDE, OUTSIDE)),
    ],
)
def test_keypoints_are_hidden_by_the_ball_itself(
    model: InverseModel, azimuth: float, elevation: float, shift: float, states: tuple[int, int]
) -> None:
    camera = labelled_3d.cameras_from(model, np.array([[azimuth, elevation, 0, shift, 0]]))
    found = labelled_3d.label_views(model, ball(LEVEL), camera)
    assert tuple(found.keypoint_state[0].tolist()) == states


def test_keypoints_below_the_surface_are_seen_through_it_from_their_side_only() -> None:
    vertices = ball(LEVEL).vertices
    inner = torch.tensor([[0.0, 0.0, 0.35]])
    camera = labelled_3d.cameras_of(torch.tensor([[0.0, 0, 0, 0, 0], [180, 0, 0, 0, 0]]), 4.0, 30.0)
    depth = torch.full((2, 8, 8), 3.5)
    assert labelled_3d.keypoint_states(vertices, inner, camera, depth).tolist() == [[VISIBLE], [HIDDEN]]
    nothing = torch.zeros(2, 8, 8)
    assert labelled_3d.keypoint_states(vertices, inner, camera, nothing).tolist() == [[VISIBLE], [VISIBLE]]


def test_keypoints_land_where_the_matrices_put_them(model: InverseModel, views: LabelledViews) -> None:
    cameras = labelled_3d.cameras_from(model, PARAMETERS)
    matrices = labelled_3d.intrinsics_of(cameras, SIZE) @ labelled_3d.extrinsics_of(cameras)
    places = matrices @ np.concatenate([ball(LEVEL).keypoints.numpy(), np.ones((2, 1))], 1).T
    np.testing.assert_allclose(views.keypoints, (places[:, :2] / places[:, 2:]).transpose(0, 2, 1), atol=1e-3)


@given(arrays(np.float32, (1, 3, 4, 8), elements=st.floats(-5, 5, width=32)))
def test_part_maps_are_the_likeliest_part_of_interpolated_logits(logits: np.ndarray) -> None:
    found = labelled_3d.part_texture(torch.from_numpy(logits))[0].numpy()
    assert found.shape == (8, 16)
    for y, x in ((0, 0), (3, 7), (7, 15), (4, 1)):
        top, left = (y + 0.5) / 2 - 0.5, (x + 0.5) / 2 - 0.5
        values = np.zeros(3)
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            i, j = int(np.floor(top)) + row, int(np.floor(left)) + column
            weight = (1 - abs(top - i)) * (1 - abs(left - j))
            values += weight * logits[0, :, np.clip(i, 0, 3), j % 8]
        assert values[found[y, x] - 1] >= values.max() - 1e-4


def test_faces_take_the_part_of_their_middle(model: InverseModel) -> None:
    parts = labelled_3d.parts_of_faces(model, ball(LEVEL))
    middle = ball(LEVEL).vertices.numpy()[model.network.faces.numpy()].mean(1)
    in_front = np.abs(np.arctan2(middle[:, 0], middle[:, 2])) < np.pi / 4 - 0.1
    assert (parts[in_front] == 3).all()
    behind = middle[:, 2] < -0.1
    assert (parts[behind & (middle[:, 1] > 0.02)] == 1).all()
    assert (parts[behind & (middle[:, 1] < -0.02)] == 2).all()


def test_random_cameras_lie_between_those_of_the_codes(model: InverseModel) -> None:
    found = labelled_3d.random_parameters(model, np.random.default_rng(0), 500, (-60, 60))
    table = np.array(model.description["cameras"])
    assert found[:, 0].min() >= -60
    assert found[:, 0].max() <= 60
    assert np.ptp(found[:, 0]) > 100
    for column in (1, 2):
        low, high = np.quantile(table[:, column], [0.05, 0.95])
        assert low <= found[:, column].min() < found[:, column].max() <= high
    assert not found[:, 3:].any()


def test_outline_iou_counts_pixels() -> None:
    ours, theirs = np.zeros((3, 4, 4), bool), np.zeros((3, 4, 4), bool)
    ours[0, :2], theirs[0, 1:3] = True, True  # 4 of 12
    ours[1] = True  # nothing there
    assert labelled_3d.outline_iou(ours, theirs).tolist() == pytest.approx([1 / 3, 0, 0])


def test_rows_are_dropped_with_their_reasons() -> None:
    iou = np.array([0.9, 0.9, 0.5, 0.9, 0.95, 0.65], np.float32)
    own, objects = np.array([0.9, 0.6, 0.8], np.float32), np.array([0, 0, 0, 1, 1, 2], np.int32)
    found = labelled_3d.select_rows(iou, own, objects, 0.8, 0.6)
    assert found.kept.tolist() == [0, 1, 5]
    assert dict(zip(found.dropped, found.reasons, strict=True)) == {
        2: "view's IoU below 0.6",
        3: "object's IoU below 0.8",
        4: "object's IoU below 0.8",
    }
    assert found.scores[0] == pytest.approx(0.5)
    with pytest.raises(InputError, match=r"all 6 rows would be dropped.*0\.90 at most.*lower --min-iou"):
        labelled_3d.select_rows(iou, own, objects, 0.99, 0.6)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"classes": ["background", "object"]}, "knows no parts.*run label-views"),
        ({"generator_sha256": "h" * 64}, "was trained on views of the generator hhhhhhhhhhhh, not of gggggggggggg"),
        ({"size": 64}, "reads images of 64 px, the generator makes 32 px"),
        ({"codes": 11}, "has cameras for 11 viewpoint codes, but there are 12"),
    ],
)
def test_networks_that_do_not_fit_are_refused(tmp_path: Path, table: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        labelled_3d.check_network(untrained(tmp_path, **table), "g" * 64, 32, 12)
    assert error.value.exit_code == 2
    labelled_3d.check_network(untrained(tmp_path), "g" * 64, 32, 12)
