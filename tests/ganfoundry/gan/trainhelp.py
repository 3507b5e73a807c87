"""A tiny recipe and a tiny data set for the tests of the trainer."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganfoundry.gan.train_config import TrainingConfig
from ganfoundry.gan.train_state import TrainingState

TINY: dict[str, Any] = {
    "resolution": 16,
    "generator_channels": "8,8,8",
    "discriminator_channels": "8,8,8",
    "z_dim": 8,
    "w_dim": 8,
    "mapping_layers": 2,
    "batch": 8,
    "precision": "fp32",
    "log_steps": 2,
    "sample_kimg": 1.0,
    "kimg": 0.08,
}


def tiny(**options: Any) -> TrainingConfig:
    """A recipe of ten steps of eight 16 px images."""
    return TrainingConfig(**{**TINY, **options})


def tiny_images(path: Path, count: int = 40, seed: int = 0) -> Path:
    """Squares of random colours on black, (count, 16, 16, 3) uint8."""
    rng = np.random.default_rng(seed)
    images = np.zeros((count, 16, 16, 3), np.uint8)
    images[:, 4:12, 4:12] = rng.integers(100, 256, (count, 1, 1, 3))
    np.save(path, images)
    return path


def distance(first: TrainingState, second: TrainingState) -> float:
    """Largest difference between two states' tensors."""
    one, two = first.tensors(), second.tensors()
    assert one.keys() == two.keys()
    return max(float((one[key].float() - two[key].float()).abs().max()) for key in one)


def state_on(config: TrainingConfig) -> TrainingState:
    """A fresh state on the CPU."""
    return TrainingState(config, torch.device("cpu"))
