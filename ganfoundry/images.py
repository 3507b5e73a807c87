"""Stored images (N, H, W, 3) uint8 as network images (N, 3, H, W) float32 in [-1, 1], and back; both halved."""

from typing import Any

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


def halved_images(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Stored images (N, H, W, 3) at half the size: means of 2 x 2 pixels, rounded; H and W even."""
    pieces = np.array_split(stored, 1 + len(stored) // 1000)  # sums take twice the memory
    sums = [fours(piece.astype(np.uint16)).sum(0, dtype=np.uint16) for piece in pieces]
    return ((np.concatenate(sums) + 2) // 4).astype(np.uint8)


def halved_labels(
    labels: NDArray[np.uint8], weights: NDArray[np.float32] | None = None, *, ignored: int = 255
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Label maps at half the size: of every 2 x 2 pixels the label with the largest weight.

    Parameters
    ----------
    labels : ndarray, uint8 (N, H, W), H and W even
    weights : ndarray, float32 (N, H, W), optional
        How far each label counts; 1 if not given.
    ignored : int
        A label that has no vote: it is left only where there is no other.

    Returns
    -------
    labels : ndarray, uint8 (N, H / 2, W / 2)
        Of labels with equal weights the lowest.
    weights : ndarray, float32
        A quarter of the label's weight there.
    """
    four = fours(labels)
    counted = np.ones_like(four, np.float32) if weights is None else fours(weights)
    best: NDArray[np.uint8] = np.full(four.shape[1:], ignored, np.uint8)
    most: NDArray[np.float32] = np.zeros(four.shape[1:], np.float32)
    for label in np.unique(labels[labels != ignored]):
        chosen = four == label
        votes = np.where(chosen, counted, np.float32(0)).sum(0)
        better = (votes > most) | (chosen.any(0) & (best == ignored))
        best[better], most[better] = label, votes[better]
    return best, most * np.float32(0.25)


def fours(values: NDArray[Any]) -> NDArray[Any]:
    """The four pixels of every 2 x 2, (4, N, H / 2, W / 2, ...)."""
    return np.stack([values[:, row::2, column::2] for row in (0, 1) for column in (0, 1)])
