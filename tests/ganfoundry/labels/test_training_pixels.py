"""Pixels drawn by class, region and keypoint; what becomes of specks."""

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.labels.training_pixels import IGNORED, PixelSampler


def test_every_region_is_drawn_and_small_classes_are_not_lost() -> None:
    labels = np.zeros((2, 20, 20), np.uint8)
    labels[0, 3:5, 3:5] = 1
    labels[0, 12:14, 12:14] = 1
    labels[1, 8, 8] = 2  # one pixel: a slip of the pen
    labels[1, 0, :] = IGNORED
    sampler = PixelSampler(labels, 3, balance=0.5, region_share=0.5, min_pixels=2)
    assert len(sampler.regions) == 4  # two backgrounds, two pieces of class 1
    drawn = sampler.draw(400, np.random.default_rng(0))
    values = sampler.labels[drawn]
    assert set(values) == {0, 1}
    assert 0.2 < (values == 1).mean() < 0.5
    for region in sampler.regions:
        assert np.isin(drawn[:4], region).sum() == 1  # the first walk visits each region once
    even = PixelSampler(labels, 3, balance=0.0, region_share=0.0, min_pixels=1)
    values = even.labels[even.draw(50_000, np.random.default_rng(0))]
    assert (values == 1).mean() == pytest.approx(8 / 780, abs=0.002)
    balanced = PixelSampler(labels, 3, balance=1.0, region_share=0.0, min_pixels=1)
    values = balanced.labels[balanced.draw(9_000, np.random.default_rng(0))]
    assert np.bincount(values) / 9_000 == pytest.approx([1 / 3] * 3, abs=0.02)


def test_specks_are_ignored_or_become_background() -> None:
    labels = np.zeros((1, 8, 8), np.uint8)
    labels[0, 0, :5] = 1
    labels[0, 7, :2] = IGNORED
    ignored = PixelSampler(labels, 2, balance=0, region_share=0, min_pixels=6)
    cleaned = PixelSampler(labels, 2, balance=0, region_share=0, min_pixels=6, specks="background")
    assert (ignored.labels == IGNORED).sum() == 7
    assert (cleaned.labels == IGNORED).sum() == 2  # what was not labelled stays so
    assert not (cleaned.labels == 1).any()
    assert len(cleaned.used) == 62


def test_pixels_around_keypoints() -> None:
    labels = np.zeros((2, 32, 32), np.uint8)
    keypoints = np.zeros((2, 3, 3), np.float32)
    keypoints[0, 1] = 10.5, 20.5, 1
    keypoints[1, 2] = 31.9, 0.1, 1  # in a corner: what would lie outside is moved to the border
    keypoints[1, 0] = 16, 16, 0  # not visible
    sampler = PixelSampler(
        labels, 1, balance=0, region_share=0, min_pixels=1, keypoints=keypoints, keypoint_share=0.5, sigma=1.0
    )
    drawn = sampler.draw(4000, np.random.default_rng(0))[:2000]
    image, row, column = drawn // 1024, drawn // 32 % 32, drawn % 32
    assert (image == 0).mean() == pytest.approx(0.5, abs=0.05)
    first = image == 0
    assert column[first].mean() == pytest.approx(10, abs=0.2)
    assert row[first].mean() == pytest.approx(20, abs=0.2)
    assert column[first].std() == pytest.approx(2, abs=0.2)  # twice sigma
    assert column[~first].min() > 22
    assert row[~first].max() < 9
    keypoints[..., 2] = 0
    none = PixelSampler(labels, 1, balance=0, region_share=0, min_pixels=1, keypoints=keypoints, keypoint_share=0.5)
    assert len(none.draw(100, np.random.default_rng(0))) == 100


def test_prior_shift_undoes_the_balancing() -> None:
    labels = np.zeros((1, 10, 10), np.uint8)
    labels[0, 0] = 1
    sampler = PixelSampler(labels, 3, balance=1.0, region_share=0.0, min_pixels=1)
    shift = sampler.prior_shift(np.array([500, 500, 0]))
    assert shift == pytest.approx([np.log(0.9 / 0.5), np.log(0.1 / 0.5), 0.0])


def test_bad_labels_are_refused() -> None:
    with pytest.raises(InputError, match="holds class id 3, but there are only 3 classes"):
        PixelSampler(np.full((1, 4, 4), 3, np.uint8), 3, balance=0, region_share=0, min_pixels=1)
    with pytest.raises(InputError, match="labelled pixels in an image"):
        PixelSampler(np.full((1, 4, 4), IGNORED, np.uint8), 3, balance=0, region_share=0, min_pixels=1)
