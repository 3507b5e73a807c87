"""Stored images (N, H, W, 3) uint8 as network images (N, 3, H, W) float32 in [-1, 1], and back."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def network_images(stored: NDArray[np.uint8]) -> Tensor:
    """Stored images (N, H, W, 3) uint8 as network images (N, 3, H, W) float32 in [-1, 1], channels last in memory."""
    pixels = np.require(stored, requirements=["C", "W"])  # torch refuses read-only memory, such as that of mapped files
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def stored_images(images: Tensor) -> NDArray[np.uint8]:
    """Network images (N, 3, H, W), clamped to [-1, 1] and rounded, as stored images (N, H, W, 3) uint8."""
    stored = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(stored.permute(0, 2, 3, 1).cpu().numpy())
