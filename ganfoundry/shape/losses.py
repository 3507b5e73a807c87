"""What an inverse-graphics network minimises, image by image.

Every function returns one number for each image, which depends on that image alone; images and masks are those of
`ganfoundry.render.renderer.Rendering`, so colours come multiplied by the mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.render.cameras import Cameras

_SMALL = 1e-6
_LEAST_MASK = 0.05  # colours are divided by the mask
_FACING_SLOPE = 10.0  # of the logistic curve over the cosine to the viewing ray


def silhouette_loss(mask: Tensor, target: Tensor) -> Tensor:
    """1 - IoU of soft masks: overlap sum(m t), union sum(m + t - m t) (GANverse3D's L_IOU).

    Parameters
    ----------
    mask, target : Tensor, (N, S, S), 0..1

    Returns
    -------
    Tensor, (N,), 0..1
    """
    overlap = (mask * target).sum((1, 2))
    union = (mask + target - mask * target).sum((1, 2))
    return 1 - overlap / union.clamp(min=_SMALL)


def colour_loss(image: Tensor, mask: Tensor, target: Tensor, target_mask: Tensor) -> Tensor:
    """Mean absolute difference of colours where the mesh and the object overlap (GANverse3D's L_col).

    What the mesh leaves uncovered is the silhouette's business. The overlap itself takes no gradient: a mesh could
    otherwise lower the difference by uncovering what it paints wrong, and would shrink.

    Parameters
    ----------
    image : Tensor, (N, 3, S, S), colours in [-1, 1] times the mask
    mask : Tensor, (N, S, S)
    target : Tensor, (N, 3, S, S) in [-1, 1]
    target_mask : Tensor, (N, S, S)

    Returns
    -------
    Tensor, (N,), 0..1: half the difference, a share of the range
    """
    overlap = (mask * target_mask).detach()
    painted = image / mask.clamp(min=_LEAST_MASK)[:, None]
    difference = ((painted - target).abs() * overlap[:, None]).sum((1, 2, 3)) / 6
    return difference / overlap.sum((1, 2)).clamp(min=1.0)


def part_loss(logits: Tensor, mask: Tensor, labels: Tensor, certainty: Tensor | None = None) -> Tensor:
    """Cross-entropy of the part labels where both the mesh and the label say that there is an object.

    Parameters
    ----------
    logits : Tensor, (N, P - 1, S, S)
        Of the parts 1..P - 1, times the mask.
    mask : Tensor, (N, S, S)
    labels : Tensor, int64 (N, S, S)
        0 is background, 255 not known; neither counts.
    certainty : Tensor, (N, S, S), 0..1, or None
        Weight of each pixel.

    Returns
    -------
    Tensor, (N,), nats; 0 for an image where nothing counts
    """
    counts = (labels > 0) & (labels < 255) & (mask > 0.5)
    weight = counts.to(mask.dtype) if certainty is None else counts * certainty
    own = logits / mask.clamp(min=0.5)[:, None]
    entropy = F.cross_entropy(own, torch.where(counts, labels - 1, 0), reduction="none")
    return (entropy * weight).sum((1, 2)) / weight.sum((1, 2)).clamp(min=1.0)


def keypoint_loss(
    points: Tensor, cameras: Cameras, targets: Tensor, size: int, *, facing: Tensor | None = None, outlier: float = 0.0
) -> Tensor:
    """Squared distance of projected keypoints in image sides, weighted (DatasetGAN's 3D keypoints: L2).

    Parameters
    ----------
    points : Tensor, (N, K, 3) metres
    cameras : Cameras
    targets : Tensor, (N, K, 3)
        x, y in pixels, weight.
    size : int
        Image side in pixels.
    facing : Tensor, (N, K), 0..1, or None
        Further weights, which take no gradient; see `facing_share`.
    outlier : float
        Image sides. Squares e^2 become e^2 / (1 + (e / outlier)^2) (Geman and McClure 1985): a label that is much
        farther away, such as that of the left wheel on the right one, pulls hardly at all. 0: plain squares.

    Returns
    -------
    Tensor, (N,)
    """
    projected = cameras.project(points, size)[..., :2]
    squared = ((projected - targets[..., :2]) / size).square().sum(2)
    if outlier:
        squared = squared / (1 + squared / outlier**2)
    weight = targets[..., 2] if facing is None else targets[..., 2] * facing
    return (squared * weight).sum(1) / weight.sum(1).clamp(min=1.0)


@torch.no_grad()
def facing_share(weights: Tensor, vertices: Tensor, normals: Tensor, cameras: Cameras) -> Tensor:
    """How far keypoints lie on the side that a camera sees: 0.5 where that is not known yet.

    Parameters
    ----------
    weights : Tensor, (N, K, V)
        Distributions over the vertices. The mean normal is short where a distribution is wide.
    vertices, normals : Tensor, (N, V, 3)
    cameras : Cameras

    Returns
    -------
    Tensor, (N, K), 0..1
    """
    points, normal = weights @ vertices, weights @ normals
    ray = F.normalize(cameras.position[:, None] - points, dim=-1)
    return torch.sigmoid(_FACING_SLOPE * (normal * ray).sum(-1))


def pull_loss(points: Tensor, mask: Tensor, target: Tensor, distance: Tensor, *, samples: int = 64) -> Tensor:
    """Distances between the projected mesh and the object's mask, both ways: it pulls where nothing overlaps yet.

    Parameters
    ----------
    points : Tensor, (N, V, 2)
        Projected vertices, image sides, (0, 0) the upper left corner.
    mask : Tensor, (N, S, S)
        Of the mesh; what it covers already does not pull.
    target : Tensor, (N, S, S)
    distance : Tensor, (N, S, S)
        Of every pixel to the object, image sides; see `ganfoundry.shape.multiview.distances_outside`.
    samples : int
        Uncovered pixels looked at, spread evenly over the object.

    Returns
    -------
    Tensor, (N,), image sides
    """
    size = target.shape[-1]
    stray = F.grid_sample(distance[:, None], points[:, None] * 2 - 1, align_corners=False, padding_mode="border")[
        :, 0, 0
    ].mean(1)
    # Pixels of the object that are not covered, taken at even steps of the cumulated uncovered share.
    with torch.no_grad():
        missing = (target * (1 - mask)).flatten(1).clamp(min=0)
        total = missing.sum(1, keepdim=True)
        steps = (torch.arange(samples, device=points.device) + 0.5) / samples
        index = torch.searchsorted(missing.cumsum(1), (steps * total).contiguous()).clamp(max=size * size - 1)
        place = torch.stack([index % size + 0.5, index // size + 0.5], 2) / size
        share = total[:, 0] / target.sum((1, 2)).clamp(min=1.0)
    nearest = torch.cdist(place, points).amin(2).mean(1)
    return stray + nearest * share
