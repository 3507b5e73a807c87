import numpy as np
import pytest
import torch
from scipy import ndimage

from ganfoundry.downstream.augmentation import Batch, apply_affine, augment, draw_affine, recolour, to_batch
from tests.ganfoundry.downstream.toys import MIRROR, SIDE, toy_examples


def dots(places):
    """Images whose label has one 3 x 3 dot around each keypoint: 1, 2."""
    label = torch.zeros(len(places), SIDE, SIDE, dtype=torch.int64)
    for row, points in enumerate(places):
        for index, (x, y) in enumerate(points):
            label[row, int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2] = index + 1
    keypoints = torch.cat([torch.tensor(places).float(), torch.ones(len(places), 2, 1)], 2)
    return Batch(label[:, None].float().expand(-1, 3, -1, -1) - 1, label, keypoints)


def test_identity_changes_nothing():
    batch = to_batch(toy_examples(3))
    still = torch.eye(2, 3).expand(3, 2, 3)
    same = apply_affine(batch, still, torch.zeros(3, dtype=torch.bool), MIRROR)
    assert torch.allclose(same.image, batch.image, atol=1e-5)
    assert torch.equal(same.label, batch.label)
    assert torch.allclose(same.keypoints, batch.keypoints, atol=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_keypoints_stay_on_what_they_mark(seed):
    batch = dots([[(9.5, 12.5), (20.5, 18.5)]] * 6)
    matrix, mirrored = draw_affine(6, True, torch.Generator().manual_seed(seed))
    moved = apply_affine(batch, matrix, mirrored, MIRROR)
    for row in range(6):
        for index in range(2):
            # Mirrored, the keypoint with this number marks what was the other one.
            mark = 2 - index if mirrored[row] else index + 1
            y, x = ndimage.center_of_mass(moved.label[row].numpy() == mark)
            assert np.allclose(moved.keypoints[row, index, :2], (x + 0.5, y + 0.5), atol=0.75)


def test_a_keypoint_that_leaves_the_image_no_longer_counts():
    batch = dots([[(4.5, 16.5), (20.5, 18.5)]])
    shifted = torch.tensor([[[1.0, 0, 0.5], [0, 1, 0]]])  # content moves left by a quarter of the image
    moved = apply_affine(batch, shifted, torch.tensor([False]), MIRROR)
    assert moved.keypoints[0, :, 2].tolist() == [0, 1]
    assert moved.keypoints[0, 1, :2].tolist() == pytest.approx([12.5, 18.5], abs=1e-3)


def test_half_of_the_images_are_mirrored_if_asked_for():
    generator = torch.Generator().manual_seed(0)
    assert 0.4 < draw_affine(400, True, generator)[1].float().mean() < 0.6
    assert not draw_affine(50, False, generator)[1].any()


def test_colours_stay_in_range_and_follow_the_generator():
    image = to_batch(toy_examples(4)).image
    first, again = (recolour(image, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.min() >= -1
    assert first.max() <= 1
    assert not torch.allclose(first, image, atol=0.01)


def test_augment_without_keypoints():
    batch = to_batch(toy_examples(2))
    found = augment(Batch(batch.image, batch.label, None), None, torch.Generator().manual_seed(0))
    assert found.keypoints is None
    assert set(found.label.unique().tolist()) <= {0, 1, 2}
