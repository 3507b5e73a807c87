"""How much an ensemble disagrees: Jensen-Shannon divergence per pixel and one score per image.

For members n = 1..M with class probabilities p_n at a pixel (DatasetGAN, section 3.3),

    JS = H(mean_n p_n) - mean_n H(p_n),        H(p) = -sum_c p_c ln p_c,

in nats, between 0 (all members agree) and ln min(M, C). The image score is the mean over the most uncertain tenth of
its pixels, as DatasetGAN's released code has it; the paper averages over all pixels, which is `fraction=1`.
"""

import torch
from torch import Tensor


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


def image_score(uncertainty: Tensor, fraction: float = 0.1) -> Tensor:
    """Mean of the largest `fraction` of an image's values (at least one pixel).

    Parameters
    ----------
    uncertainty : (..., H, W) float
    fraction : float in (0, 1]

    Returns
    -------
    (...) float

    Raises
    ------
    ValueError
        If the fraction is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"the fraction of pixels must be in (0, 1], got {fraction}")
    flat = uncertainty.flatten(-2)
    count = max(1, int(flat.shape[-1] * fraction))
    return flat.topk(count, dim=-1).values.mean(-1)


def most_uncertain(scores: Tensor, fraction: float) -> Tensor:
    """Rows to drop: the `floor(fraction * n)` highest scores, equal scores by the higher row first.

    Parameters
    ----------
    scores : (n,) float
    fraction : float in [0, 1)

    Returns
    -------
    (k,) int64, sorted

    Raises
    ------
    ValueError
        If the fraction is outside [0, 1).
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"the fraction to drop must be in [0, 1), got {fraction}")
    order = torch.sort(scores, stable=True).indices
    return order[len(scores) - int(len(scores) * fraction) :].sort().values
