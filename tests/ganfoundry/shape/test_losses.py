"""Losses against loops and closed forms."""

import math

import pytest
import torch
from torch import Tensor

from ganfoundry.render.cameras import Cameras
from ganfoundry.shape import losses


@pytest.fixture
def random() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_silhouette_loss_of_hard_masks_is_one_minus_iou(random: torch.Generator) -> None:
    a, b = torch.rand(2, 3, 8, 8, generator=random).round()
    for i in range(3):
        overlap, union = ((a[i] > 0) & (b[i] > 0)).sum(), ((a[i] > 0) | (b[i] > 0)).sum()
        assert float(losses.silhouette_loss(a, b)[i]) == pytest.approx(1 - float(overlap / union))
    assert losses.silhouette_loss(a, a).abs().max() < 1e-6
    assert float(losses.silhouette_loss(torch.zeros(1, 2, 2), torch.ones(1, 2, 2))) == 1


def test_colour_loss_is_the_loop_inside_the_object(random: torch.Generator) -> None:
    image, target = torch.rand(2, 2, 3, 6, 6, generator=random) * 2 - 1
    mask, target_mask = torch.rand(2, 6, 6, generator=random), torch.rand(2, 6, 6, generator=random).round()
    found = losses.colour_loss(image, mask, target, target_mask)
    for n in range(2):
        total, count = 0.0, 0.0
        for i in range(6):
            for j in range(6):
                if target_mask[n, i, j]:
                    shown = image[n, :, i, j] / max(float(mask[n, i, j]), 0.05)
                    total += float((shown - target[n, :, i, j]).abs().mean() * mask[n, i, j]) / 2
                    count += float(mask[n, i, j])
        assert float(found[n]) == pytest.approx(total / count, rel=1e-5)


def test_uncovered_pixels_cost_no_colour_and_nothing_is_won_by_uncovering() -> None:
    target, inside = torch.rand(1, 3, 4, 4), torch.ones(1, 4, 4)
    assert float(losses.colour_loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4), target, inside)) == 0
    mask = torch.full((1, 4, 4), 0.7, requires_grad=True)
    painted = torch.rand(1, 3, 4, 4)
    losses.colour_loss(painted * mask[:, None], mask, target, inside).sum().backward()  # type: ignore[no-untyped-call]
    assert mask.grad is not None
    assert mask.grad.abs().max() < 1e-6  # the same colours under a smaller mask are no better


def test_part_loss_counts_certain_pixels_of_known_parts_only() -> None:
    logits = torch.tensor([2.0, 0.0, -1.0])
    maps = logits.view(1, 3, 1, 1).expand(1, 3, 2, 2)
    labels = torch.tensor([[[1, 0], [255, 3]]])
    expected = -torch.log_softmax(logits, 0)
    mask = torch.ones(1, 2, 2)
    assert float(losses.part_loss(maps, mask, labels)) == pytest.approx(float((expected[0] + expected[2]) / 2))
    certainty = torch.tensor([[[1.0, 1.0], [1.0, 0.5]]])
    weighted = (expected[0] + 0.5 * expected[2]) / 1.5
    assert float(losses.part_loss(maps, mask, labels, certainty)) == pytest.approx(float(weighted))
    assert float(losses.part_loss(maps, mask * 0.4, labels)) == 0
    half = losses.part_loss(maps * 0.8, mask * 0.8, labels)  # logits come multiplied by the mask
    assert float(half) == pytest.approx(float((expected[0] + expected[2]) / 2))


def test_keypoint_loss_in_image_sides() -> None:
    cameras = Cameras.from_angles([0.0, 90.0], 0.0, 4.0)
    points = torch.tensor([[[0.0, 0, 0], [0.1, 0.2, 0]]]).expand(2, 2, 3)
    targets = cameras.project(points, 64)
    targets[..., 2] = 1.0
    assert losses.keypoint_loss(points, cameras, targets, 64).abs().max() < 1e-10
    targets[0, 0, 0] += 16.0
    targets[0, 1] = torch.tensor([1000.0, 0.0, 0.0])  # weight 0
    assert float(losses.keypoint_loss(points, cameras, targets, 64)[0]) == pytest.approx(1 / 16)
    targets[..., 2] = 0.0
    assert not losses.keypoint_loss(points, cameras, targets, 64).any()


def test_keypoints_far_from_their_labels_pull_hardly_at_all() -> None:
    cameras = Cameras.from_angles([0.0], 0.0, 4.0)
    points = torch.zeros(1, 2, 3, requires_grad=True)
    targets = cameras.project(torch.zeros(1, 2, 3), 64)
    targets[..., 2] = 1.0
    targets[0, 0, 0] += 0.05 * 64
    targets[0, 1, 0] += 0.5 * 64
    found = losses.keypoint_loss(points, cameras, targets, 64, outlier=0.1)
    expected = (0.05**2 / (1 + 0.25) + 0.5**2 / (1 + 25)) / 2
    assert float(found.detach()) == pytest.approx(expected, rel=1e-4)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert points.grad is not None
    near, far = points.grad[0].norm(dim=1)
    assert float(far) < 0.1 * float(near)


def test_keypoints_on_the_far_side_do_not_count() -> None:
    """Front, back and middle of a sphere, and a keypoint that may be anywhere, from the front."""
    from ganfoundry.shape.template import sphere_template

    vertices = torch.from_numpy(sphere_template(2).vertices)
    weights = torch.zeros(1, 4, len(vertices))
    for row, direction in enumerate(([0, 0, 1.0], [0, 0, -1.0], [1.0, 0, 0])):
        weights[0, row, (vertices @ torch.tensor(direction)).argmax()] = 1
    weights[0, 3] = 1 / len(vertices)
    cameras = Cameras.from_angles([0.0], 0.0, 100.0)
    share = losses.facing_share(weights, vertices[None], vertices[None], cameras)[0]
    assert float(share[0]) > 0.99
    assert float(share[1]) < 0.01
    assert float(share[2]) == pytest.approx(0.5, abs=0.05)
    assert float(share[3]) == pytest.approx(0.5, abs=0.01)
    points, targets = torch.zeros(1, 4, 3), torch.ones(1, 4, 3)
    seen = losses.keypoint_loss(points, cameras, targets, 64, facing=torch.tensor([[1.0, 0, 0, 0]]))
    only = losses.keypoint_loss(points[:, :1], cameras, targets[:, :1], 64)
    assert float(seen) == pytest.approx(float(only))


def _pull(x: float) -> tuple[Tensor, Tensor]:
    """A mesh of four points around x, an object in the middle of the left half."""
    from ganfoundry.shape.multiview import distances_outside

    target = torch.zeros(1, 16, 16)
    target[0, 6:10, 2:6] = 1
    points = torch.tensor([[[x, 0.4], [x, 0.6], [x + 0.1, 0.4], [x + 0.1, 0.6]]], requires_grad=True)
    distance = torch.from_numpy(distances_outside((target > 0).numpy()))
    return losses.pull_loss(points, torch.zeros(1, 16, 16), target, distance), points


def test_pull_moves_a_distant_mesh_towards_the_object() -> None:
    far, points = _pull(0.8)
    far.sum().backward()  # type: ignore[no-untyped-call]
    assert points.grad is not None
    assert (points.grad[0, :2, 0] > 0).all()  # a step against the gradient goes left
    values = [float(_pull(x)[0].detach()) for x in (0.8, 0.6, 0.4, 0.2)]
    assert values == sorted(values, reverse=True)


def test_a_mesh_that_covers_the_object_is_not_pulled() -> None:
    target = torch.zeros(1, 8, 8)
    target[0, 2:6, 2:6] = 1
    points = torch.full((1, 3, 2), 0.5)
    assert float(losses.pull_loss(points, target, target, torch.zeros(1, 8, 8))) == pytest.approx(0, abs=1e-6)
    assert math.isfinite(float(losses.pull_loss(points, target, target * 0, torch.zeros(1, 8, 8))))
