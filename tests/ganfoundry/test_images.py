"""Stored and network images: every value comes back, what is out of range is clamped, memory may be read-only."""

import numpy as np
import torch

from ganfoundry.images import network_images, stored_images


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
