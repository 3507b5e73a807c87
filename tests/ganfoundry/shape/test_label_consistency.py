"""Pixels carried between views, against a loop over the pixels, and labels that agree or were made to disagree."""

import numpy as np
import pytest
import torch

from ganfoundry.render.cameras import Cameras
from ganfoundry.shape import label_consistency, labelled_3d
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.label_consistency import carry, mean_part_iou, pair_confusion, view_confusion
from ganfoundry.shape.labelled_3d import DEPTH_SLACK, LabelledViews
from tests.ganfoundry.shape.labelledtoys import PARTS, ball, untrained

SIZE = 40
PARAMETERS = np.array([[0.0, 10, 0, 0, 0], [40, 0, 0.05, 0.03, 0], [180, -10, 0, 0, 0]])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InverseModel:
    return untrained(tmp_path_factory.mktemp("network"), size=SIZE, level=3)


@pytest.fixture(scope="module")
def cameras(model: InverseModel) -> Cameras:
    return labelled_3d.cameras_from(model, PARAMETERS)


@pytest.fixture(scope="module")
def views(model: InverseModel, cameras: Cameras) -> LabelledViews:
    return labelled_3d.label_views(model, ball(3), cameras)


def test_carried_pixels_are_those_of_a_loop(cameras: Cameras, views: LabelledViews) -> None:
    depth = torch.from_numpy(views.depth)
    inner, outer = labelled_3d.intrinsics_of(cameras, SIZE), labelled_3d.extrinsics_of(cameras)
    slack = DEPTH_SLACK * float(cameras.position[1].norm())
    expected = {}
    for y, x in np.argwhere(views.depth[0] > 0):
        local = views.depth[0, y, x] * np.linalg.solve(inner[0].astype(float), [x + 0.5, y + 0.5, 1.0])
        point = outer[0, :, :3].T.astype(float) @ (local - outer[0, :, 3])
        there = outer[1, :, :3].astype(float) @ point + outer[1, :, 3]
        column, row = np.floor((inner[1].astype(float) @ there)[:2] / there[2]).astype(int)
        hit = 0 <= row < SIZE and 0 <= column < SIZE and views.depth[1, row, column] > 0
        if hit and abs(there[2] - views.depth[1, row, column]) <= slack:
            expected[int(y * SIZE + x)] = int(row * SIZE + column)
    found = carry(depth, cameras, 0, 1)
    assert len(found) == pytest.approx(len(expected), abs=2)  # rounding decides at borders of pixels
    agree = [expected.get(int(a)) == b for a, b in zip(found.source, found.target, strict=True)]
    assert np.mean(agree) > 0.99
    assert len(found) > 200


def test_a_view_is_carried_onto_itself(cameras: Cameras, views: LabelledViews) -> None:
    found = carry(torch.from_numpy(views.depth), cameras, 1, 1)
    assert np.array_equal(found.source, found.target)
    assert len(found) == (views.label[1] > 0).sum()


def test_opposite_sides_share_only_the_rim(cameras: Cameras, views: LabelledViews) -> None:
    depth = torch.from_numpy(views.depth)
    assert len(carry(depth, cameras, 0, 2)) < 0.2 * len(carry(depth, cameras, 0, 1))


def test_labels_of_one_surface_agree_but_for_borders(cameras: Cameras, views: LabelledViews) -> None:
    depth, classes = torch.from_numpy(views.depth), len(PARTS)
    confusion = view_confusion(depth, cameras, views.label, classes=classes)
    assert mean_part_iou(confusion) > 0.85
    coarse = np.minimum(views.label, 1)  # one part: no borders
    assert mean_part_iou(view_confusion(depth, cameras, coarse, classes=classes)) == 1.0


def test_planted_disagreement_is_found(cameras: Cameras, views: LabelledViews) -> None:
    depth, classes = torch.from_numpy(views.depth), len(PARTS)
    wrong = views.label.copy()
    wrong[1] = np.array([0, 2, 1, 3])[wrong[1]]
    pairs = [(0, 1), (1, 0)]
    before = view_confusion(depth, cameras, views.label, classes=classes, pairs=pairs)
    after = view_confusion(depth, cameras, wrong, classes=classes, pairs=pairs)
    assert before.sum() == after.sum()
    swapped = pair_confusion(carry(depth, cameras, 0, 1), views.label[0], wrong[1], classes)
    assert swapped[1, 1] <= 0.1 * swapped[1, 2]
    assert mean_part_iou(after) < 0.5 < mean_part_iou(before)


def test_background_counts_only_when_asked(cameras: Cameras, views: LabelledViews) -> None:
    depth, classes = torch.from_numpy(views.depth), len(PARTS)
    smaller = views.label.copy()
    smaller[:, : SIZE // 2] = 0
    strict = view_confusion(depth, cameras, views.label, smaller, classes=classes, objects_only=False)
    lenient = view_confusion(depth, cameras, views.label, smaller, classes=classes)
    assert strict[1:, 0].sum() > 0
    assert lenient[1:, 0].sum() == 0
    assert np.array_equal(strict[1:, 1:], lenient[1:, 1:])


def test_nothing_to_compare_is_no_number() -> None:
    assert np.isnan(mean_part_iou(np.zeros((3, 3), np.int64)))


def test_cameras_come_back_from_their_matrices(cameras: Cameras) -> None:
    inner, outer = labelled_3d.intrinsics_of(cameras, SIZE), labelled_3d.extrinsics_of(cameras)
    back = label_consistency.cameras_of_matrices(inner, outer, SIZE)
    points = torch.randn(20, 3) * 0.5
    assert torch.allclose(back.project(points, SIZE), cameras.project(points, SIZE), atol=1e-3)
