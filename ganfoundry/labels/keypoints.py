"""Keypoints as heat maps: targets, places and visibility.

DatasetGAN (section 3.2) learns one Gaussian heat map a keypoint with the same per-pixel networks, by the squared error
of the heat value instead of the cross-entropy; at prediction the members' maps are averaged. Its code was never
released and the width of the Gaussian is not known; here it is a share of the image side.

Places have sub-pixel precision: the centre of mass of the heat around the highest pixel. A keypoint that is not visible
has no heat anywhere, so the height of the peak tells whether it is visible.
"""

import colorsys

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
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
    (..., K) float32: visibility * exp(-distance ** 2 / (2 sigma ** 2)); nan where the visibility is nan
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
    """Keypoints as stored (0 outside, 1 hidden, 2 visible) with 1 for the visible ones and 0 for the others.

    An image in which none is marked, not even as hidden, is one whose keypoints nobody has labelled (a photograph with
    masks alone, say): its visibilities are nan, and nothing is learnt from them.
    """
    result = np.array(keypoints, np.float32)
    unknown = (result[..., 2] == 0).all(-1)
    result[..., 2] = result[..., 2] > 1.5
    result[unknown, :, 2] = np.nan
    return result


def calibrate_visibility(
    chances: NDArray[np.float32], visible: NDArray[np.float32], used: tuple[float, float]
) -> tuple[float, float]:
    """Slope and middle of the logistic curve from peak heights to chances of being visible (Platt scaling).

    Parameters
    ----------
    chances : (n, K) float32, predicted under the curve `used`, of images that training did not see
    visible : (n, K) float32, 1 for what is visible, 0 for what is not, nan for what is not labelled
    used : slope and middle

    Returns
    -------
    slope, middle: of the curve sigmoid(slope (height - middle)) with the highest likelihood, targets moved inwards as
    Platt (1999) has it, so that a few perfectly separated examples make no step; `used` where all are of one kind
    """
    known = np.isfinite(visible)
    chance = np.clip(chances.astype(np.float64)[known], 1e-7, 1 - 1e-7)
    height = np.log(chance / (1 - chance)) / used[0] + used[1]
    positive = visible[known] > 0.5
    if positive.all() or not positive.any():
        return used
    target = np.where(positive, (positive.sum() + 1) / (positive.sum() + 2), 1 / ((~positive).sum() + 2))
    slope, shift = 1.0, 0.0
    for _ in range(50):  # Newton's method on a convex function of two numbers
        p = 1 / (1 + np.exp(-np.clip(slope * height + shift, -30, 30)))
        gradient = np.array([((p - target) * height).sum(), (p - target).sum()])
        w = np.maximum(p * (1 - p), 1e-9)
        hessian = np.array([[(w * height**2).sum(), (w * height).sum()], [(w * height).sum(), w.sum()]])
        step = np.linalg.solve(hessian + 1e-6 * np.eye(2), gradient)
        slope, shift = slope - step[0], shift - step[1]
        if np.abs(step).max() < 1e-9:
            break
    if not np.isfinite(slope) or slope <= 1e-3:  # a lower peak is no sign of a visible keypoint: heights say nothing
        return used
    return float(slope), float(-shift / slope)


def object_sizes(masks: NDArray[np.integer]) -> NDArray[np.int64]:
    """Longer side of the box around what is not background: the unit of the share of correct keypoints.

    Parameters
    ----------
    masks : (n, R, R) part ids

    Returns
    -------
    (n,) int64, pixels; R for an image without an object
    """
    sides = []
    for mask in masks > 0:
        spans = [np.flatnonzero(mask.any(axis)) for axis in (0, 1)]
        sides.append(max((int(s[-1] - s[0]) + 1 for s in spans if len(s)), default=mask.shape[0]))
    return np.array(sides)


def draw_keypoints(
    images: NDArray[np.uint8], keypoints: NDArray[np.float32], scale: int = 1, *, threshold: float = 0.5
) -> NDArray[np.uint8]:
    """Dots where keypoints are probably visible, every keypoint in a colour of its own.

    Parameters
    ----------
    images : (n, R * scale, R * scale, 3) uint8, already magnified
    keypoints : (n, K, 3) float, x and y in pixels before magnification, chance of being visible
    scale : int
    threshold : float, from which chance on a keypoint is drawn

    Returns
    -------
    (n, R * scale, R * scale, 3) uint8
    """
    drawn = []
    radius = max(1.0, images.shape[1] / 90)
    for image, points in zip(images, keypoints, strict=True):
        picture = Image.fromarray(image)
        pen = ImageDraw.Draw(picture)
        for index, (x, y, chance) in enumerate(points):
            if chance >= threshold:
                colour = tuple(int(255 * c) for c in colorsys.hsv_to_rgb(index / len(points), 1, 1))
                centre_x, centre_y = x * scale - 0.5, y * scale - 0.5  # Pillow's pixel centres are whole numbers
                box = (centre_x - radius, centre_y - radius, centre_x + radius, centre_y + radius)
                pen.ellipse(box, fill=colour, outline="black")
        drawn.append(np.asarray(picture))
    return np.stack(drawn)
