from dataclasses import dataclass

import numpy as np
import pytest
import torch

from ganfoundry.data.seeds import WORLD
from ganfoundry.detect.scenes import render_scenes


@dataclass(frozen=True)
class Disc:
    image: np.ndarray
    instances: np.ndarray


class DiscWorld:
    """Plain discs on a plain ground: the simplest world with exact masks."""

    def render(self, seed, resolution=64, **_):
        return self._draw(np.random.default_rng(seed), resolution, [(0.5, 0.5, 0.3)])

    def render_scene(self, seed, resolution=128, *, num_objects=None):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(0, 4)) if num_objects is None else num_objects
        discs = [(*rng.uniform(0.15, 0.85, 2), rng.uniform(0.08, 0.25)) for _ in range(count)]
        return self._draw(rng, resolution, discs)

    def _draw(self, rng, resolution, discs):
        y, x = (np.mgrid[:resolution, :resolution] + 0.5) / resolution
        image = np.full((resolution, resolution, 3), rng.integers(150, 250, 3))
        ids = np.zeros((resolution, resolution), np.uint8)
        for number, (cx, cy, radius) in enumerate(discs, 1):
            inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
            image[inside], ids[inside] = rng.integers(0, 100, 3), number
        return Disc(image.astype(np.uint8), ids)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def disc_world():
    return DiscWorld()


@pytest.fixture
def scenes(disc_world):
    return render_scenes(disc_world, 0, WORLD, 0, 8, 64)
