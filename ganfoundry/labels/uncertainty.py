"""How much an ensemble disagrees: Jensen-Shannon divergence per pixel, one score per image.

For members n = 1..M with class probabilities p_n at a pixel (DatasetGAN, section 3.3),

    JS = H(mean_n p_n) - mean_n H(p_n),        H(p) = -sum_c p_c ln p_c,

in nats, between 0 (all members agree) and ln min(M, C). An image's score is one of

    top-tenth   mean over the most uncertain tenth of its pixels, as DatasetGAN's released code has it
    mean        mean over all pixels, as the paper has it
    interior    top-tenth over the pixels that do not touch another part: where parts meet every ensemble disagrees, in
                good images as in bad ones
    object      mean over the pixels labelled as part of the object, so that a large object counts as a small one
"""

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.labels.interpreter_config import ImageScore

SCORE_KINDS: tuple[ImageScore, ...] = get_args(ImageScore)
TOP = 0.1


def entropy(probabilities: Tensor, dim: int) -> Tensor:
    """Shannon entropy in nats along one axis; zero probabilities count 0."""
    return -torch.xlogy(probabilities, probabilities).sum(dim)


def jensen_shannon(probabilities: Tensor) -> Tensor:
    """Jensen-Shannon divergence of the members' class probabilities at every pixel.

    Parameters
    ----------
    probabilities : (M, N, C, H, W) float, members first, sums to 1 over C

    Returns
    -------
    (N, H, W) float, nats, in [0, ln min(M, C)]
    """
    return divergence(probabilities.mean(0), entropy(probabilities, 2).mean(0), dim=1)


def divergence(mean_probability: Tensor, mean_entropy: Tensor, dim: int) -> Tensor:
    """Jensen-Shannon divergence from its two running means; rounding below 0 is cut off."""
    return (entropy(mean_probability, dim) - mean_entropy).clamp_(min=0)


def image_score(uncertainty: Tensor, kind: ImageScore = "top-tenth", label: Tensor | None = None) -> Tensor:
    """One number an image, larger for images whose labels are less certain.

    Parameters
    ----------
    uncertainty : (n, R, R) float, of every pixel
    kind : see the module
    label : (n, R, R) integer, predicted classes, 0 is the background; needed for "interior" and "object"

    Returns
    -------
    (n,) float

    Raises
    ------
    ValueError
        For an unknown kind, or one that needs labels without them.
    """
    if kind == "mean":
        return uncertainty.flatten(1).mean(1)
    if kind == "top-tenth":
        return _top_mean(uncertainty.flatten(1), torch.ones_like(uncertainty, dtype=torch.bool).flatten(1))
    if kind == "interior" and label is not None:
        return _top_mean(uncertainty.flatten(1), interior(label).flatten(1))
    if kind == "object" and label is not None:
        inside = (label > 0).flatten(1)
        inside |= ~inside.any(1, keepdim=True)  # without an object: the image
        return (uncertainty.flatten(1) * inside).sum(1) / inside.sum(1)
    raise ValueError(f"the score is one of {', '.join(SCORE_KINDS)} (the last two with labels), got {kind!r}")


def interior(label: Tensor, margin: int | None = None) -> Tensor:
    """Pixels farther than a margin from a pixel of another class.

    Parameters
    ----------
    label : (n, R, R) integer
    margin : int, pixels along either axis; by default a sixty-fourth of the side, at least 1

    Returns
    -------
    (n, R, R) bool; all true for an image that has no such pixel, so that it can be scored at all
    """
    margin = max(1, label.shape[-1] // 64) if margin is None else margin
    ids = label[:, None].float()
    highest = F.max_pool2d(ids, 2 * margin + 1, 1, margin)
    lowest = -F.max_pool2d(-ids, 2 * margin + 1, 1, margin)
    inside = (highest == lowest)[:, 0]
    return inside | ~inside.flatten(1).any(1)[:, None, None]


def _top_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of the largest tenth of the counted values of each row (n, P), at least one."""
    count = (counted.sum(1) * TOP).long().clamp(min=1)
    highest = values.masked_fill(~counted, -torch.inf).topk(int(count.max()), dim=1).values
    taken = torch.arange(highest.shape[1]) < count[:, None]
    return highest.masked_fill(~taken, 0).sum(1) / count
