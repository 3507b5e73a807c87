"""Stored and network images: every value comes back, what is out of range is clamped, memory may be read-only."""

import numpy as np
import torch

from ganfoundry.images import halved_images, halved_labels, network_images, stored_images


def test_every_stored_value_comes_back():
    stored = np.arange(2 * 8 * 16 * 3, dtype=np.int64).reshape(2, 8, 16, 3).astype(np.uint8)
    images = network_images(stored)
    assert images.shape == (2, 3, 8, 16)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (-1, 1)
    assert images[1, 2, 3, 4] == stored[1, 3, 4, 2] / 127.5 - 1
    again = stored_images(images)
    assert np.array_equal(again, stored)
    assert again.flags.c_contiguous


def test_what_is_out_of_range_is_clamped_and_the_rest_rounded():
    values = torch.tensor([-3.0, 3.0, -1 + 0.6 / 127.5, 1 / 255])
    assert stored_images(values.expand(1, 3, 1, 4))[0, 0, :, 0].tolist() == [0, 255, 1, 128]
    assert stored_images(torch.zeros(1, 3, 1, 1, dtype=torch.bfloat16)).dtype == np.uint8


def test_read_only_and_turned_arrays_are_taken(tmp_path):
    stored = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), np.uint8)
    np.save(tmp_path / "images.npy", stored)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert torch.equal(network_images(mapped), network_images(stored))
    assert torch.equal(network_images(stored[:, :, ::-1]), network_images(stored).flip(3))


def test_halved_images_are_rounded_means():
    stored = np.random.default_rng(0).integers(0, 256, (1500, 2, 4, 3), np.uint8)
    found = halved_images(stored)
    assert found.dtype == np.uint8
    for column in range(2):
        mean = stored[:, :, 2 * column : 2 * column + 2].reshape(1500, 4, 3).mean(1)
        assert np.abs(found[:, 0, column] - mean).max() <= 0.5
    full = np.full((1, 2, 2, 3), 255, np.uint8)
    assert (halved_images(full) == 255).all()


def test_halved_labels_without_weights_are_the_majority():
    labels = np.array([[[3, 3, 0, 255], [1, 3, 255, 255], [2, 1, 255, 255], [1, 2, 255, 255]]], np.uint8)
    found, weights = halved_labels(labels)
    assert found.tolist() == [[[3, 0], [1, 255]]]
    assert weights.tolist() == [[[0.75, 0.25], [0.5, 0.0]]]
    assert halved_labels(labels, ignored=1)[0].tolist() == [[[3, 255], [2, 255]]]
