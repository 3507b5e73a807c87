import numpy as np
import pytest
import torch

from ganfoundry.data.seeds import EVALUATION, WORLD
from ganfoundry.detect.scenes import augment, blur, draw_batch, render_scenes, targets_of


def test_scene_i_does_not_depend_on_the_range(disc_world, scenes):
    again = render_scenes(disc_world, 0, WORLD, 3, 5, 64)
    assert np.array_equal(again.image, scenes.image[3:5])
    assert np.array_equal(again.instances, scenes.instances[3:5])
    assert not np.array_equal(render_scenes(disc_world, 0, EVALUATION, 0, 8, 64).image, scenes.image)


def test_targets_of_a_map():
    ids = torch.zeros(20, 30, dtype=torch.uint8)
    ids[2:6, 3:13] = 2
    ids[0, 0] = 1  # one pixel of 600 counts, if the least share is below 1 / 600
    targets = targets_of(ids, min_share=1 / 600)
    assert targets["boxes"].tolist() == [[0, 0, 1, 1], [3, 2, 13, 6]]
    assert targets["masks"].sum((1, 2)).tolist() == [1, 40]
    assert targets["labels"].tolist() == [1, 1]
    assert targets_of(ids, min_share=0.01)["boxes"].tolist() == [[3, 2, 13, 6]]
    assert targets_of(torch.zeros_like(ids))["boxes"].shape == (0, 4)


def test_augmentation_keeps_image_and_ids_together():
    # The object is the bright half: after any crop, flip and blur, brightness still tells the ids.
    image = np.full((64, 64, 3), 30, np.uint8)
    image[:, 40:] = 225
    ids = np.zeros((64, 64), np.uint8)
    ids[:, 40:] = 1
    for seed in range(40):
        x, labels = augment(image, ids, np.random.default_rng(seed), 48)
        assert x.shape == (3, 48, 48)
        assert labels.shape == (48, 48)
        assert 0 <= x.min() <= x.max() <= 1
        inside, grey = labels == 1, x.mean(0)
        if inside.any() and not inside.all():
            middle = (grey[inside].mean() + grey[~inside].mean()) / 2
            assert ((grey > middle) == inside).float().mean() > 0.95, seed


def test_blur_keeps_constants_and_the_sum():
    assert torch.allclose(blur(torch.full((3, 9, 9), 0.3), 1.1), torch.tensor(0.3))
    impulse = torch.zeros(3, 15, 15)
    impulse[:, 7, 7] = 1
    spread = blur(impulse, 1.0)
    assert torch.allclose(spread.sum((1, 2)), torch.ones(3))
    assert spread[0, 7, 7].item() == pytest.approx(1 / (2 * np.pi), rel=0.02)


def test_batches_are_functions_of_seed_and_step(scenes):
    (a, ta), (b, tb) = (draw_batch(scenes, 3, 7, 2, 64) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert all(torch.equal(x["masks"], y["masks"]) for x, y in zip(ta, tb, strict=True))
    assert not torch.equal(draw_batch(scenes, 3, 8, 2, 64)[0][0], a[0])
