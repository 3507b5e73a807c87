"""Keypoints as heat maps: targets, places and visibility.

DatasetGAN (section 3.2) learns one Gaussian heat map a keypoint with the same per-pixel networks, by the squared error
of the heat value instead of the cross-entropy; at prediction the members' maps are averaged. Its code was never
released and the width of the Gaussian is not known; here it is a share of the image side.

Places have sub-pixel precision: the centre of mass of the heat around the highest pixel. A keypoint that is not visible
has no heat anywhere, so the height of the peak tells whether it is visible.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

WINDOW = 2.0  # radius of the window around a peak, in standard deviations of the Gaussian


def heat_targets(keypoints: Tensor, image: Tensor, row: Tensor, column: Tensor, sigma: float) -> Tensor:
    """Heat values at pixels.

    Parameters
    ----------
    keypoints : (n, K, 3) float32, x and y in pixels (the first pixel's centre is at 0.5) and visibility 0..1
    image, row, column : (...) int64, the pixels
    sigma : float, pixels

    Returns
    -------
    (..., K) float32: visibility * exp(-distance ** 2 / (2 sigma ** 2))
    """
    points = keypoints[image]
    dx = points[..., 0] - (column[..., None] + 0.5)
    dy = points[..., 1] - (row[..., None] + 0.5)
    return points[..., 2] * torch.exp(-(dx.square() + dy.square()) / (2 * sigma**2))


def peak_places(heat: Tensor, sigma: float) -> Tensor:
    """Highest point of every heat map and its height.

    Parameters
    ----------
    heat : (K, R, R) float32
    sigma : float, pixels, of the Gaussians learnt

    Returns
    -------
    (K, 3) float32: x, y in pixels (centre of mass of the positive heat within `WINDOW` sigma of the highest pixel), and
    the height of the highest pixel
    """
    side = heat.shape[-1]
    height, flat = heat.flatten(1).max(1)
    centre = torch.arange(side) + 0.5
    limit = max(1.0, WINDOW * sigma)
    near_y = ((centre - 0.5) - (flat // side)[:, None]).abs() <= limit
    near_x = ((centre - 0.5) - (flat % side)[:, None]).abs() <= limit
    mass = heat.clamp(min=0) * near_y[:, :, None] * near_x[:, None, :]
    total = mass.sum((1, 2))
    x = torch.where(total > 0, (mass.sum(1) * centre).sum(1) / total, flat % side + 0.5)
    y = torch.where(total > 0, (mass.sum(2) * centre).sum(1) / total, flat // side + 0.5)
    return torch.stack([x, y, height], 1)


def visible_only(keypoints: NDArray[np.float32]) -> NDArray[np.float32]:
    """Keypoints as stored (0 outside, 1 hidden, 2 visible) with 1 for the visible ones and 0 for the others."""
    result = np.array(keypoints, np.float32)
    result[..., 2] = result[..., 2] > 1.5
    return result
