"""Losses and regularisers of StyleGAN2, and the hinge losses of the projected discriminator, as pure functions.

Goodfellow et al. 2014 (the non-saturating loss), Mescheder et al. 2018 (R1, equation 9), Karras et al. 2020
"Analyzing and improving the image quality of StyleGAN" (path length, equation 4; lazy regularisation, appendix B).
Lim and Ye 2017 (arXiv:1705.02894) and Sauer et al. 2021 (arXiv:2111.01007, equation 2): hinge losses.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def generator_loss(fake_logits: Tensor) -> Tensor:
    """Non-saturating logistic loss of the generator: the mean of -log sigmoid(D(G(z))).

    Parameters
    ----------
    fake_logits : (N, 1) float
        What the discriminator says of generated images.
    """
    return F.softplus(-fake_logits).mean()


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Logistic loss of the discriminator: mean of -log sigmoid(D(x)) plus mean of -log(1 - sigmoid(D(G(z)))).

    Parameters
    ----------
    real_logits, fake_logits : (N, 1) float
        What the discriminator says of real and of generated images.
    """
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def hinge_generator_loss(fake_logits: Tensor) -> Tensor:
    """Hinge loss of the generator: minus the logits, summed over heads, averaged over images.

    Parameters
    ----------
    fake_logits : (N, heads) float
        What each head of the discriminator says of generated images.
    """
    return -fake_logits.sum(dim=1).mean()


def hinge_discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Hinge loss of the discriminator: what real logits lack to 1 and fake ones to -1, summed over heads.

    Parameters
    ----------
    real_logits, fake_logits : (N, heads) float
        What each head says of real and of generated images.
    """
    return (F.relu(1 - real_logits) + F.relu(1 + fake_logits)).sum(dim=1).mean()


def r1_penalty(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """Mean squared norm of the discriminator's gradient at real images (Mescheder et al., equation 9, without gamma/2).

    Parameters
    ----------
    real_logits : (N, 1) float
        The discriminator's answer to `real_images`, still attached to its graph.
    real_images : (N, 3, H, W) float
        Images that require a gradient.

    Returns
    -------
    () float
        The gradient's squared L2 norm, averaged over images; differentiable in the discriminator's weights.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


def path_lengths(images: Tensor, ws: Tensor, probe: Tensor) -> Tensor:
    """Length of J_w^T y for each image, y being the probe over the square root of the number of pixels.

    Parameters
    ----------
    images : (N, 3, H, W) float
        The generator's output, still attached to `ws`.
    ws : (N, num_ws, w_dim) float
        The style codes of each layer.
    probe : (N, 3, H, W) float
        Standard normal noise.

    Returns
    -------
    (N,) float
        Root of the squared gradient summed over w_dim and averaged over layers, differentiable in the generator.
    """
    scaled = probe / math.sqrt(images.shape[2] * images.shape[3])
    (gradient,) = torch.autograd.grad((images * scaled).sum(), ws, create_graph=True)
    return gradient.square().sum(dim=2).mean(dim=1).sqrt()


def path_length_penalty(lengths: Tensor, average: Tensor) -> Tensor:
    """Mean squared distance of path lengths (N,) from their running average () (Karras et al. 2020, equation 4)."""
    return (lengths - average).square().mean()


def ema_decay(batch: int, images_seen: int, half_life_kimg: float, rampup: float) -> float:
    """Decay of the generator's moving average for one step of `batch` images.

    After `half_life` images the weights of today count half; the half-life is `half_life_kimg` thousand images, but
    at most the fraction `rampup` of what has been seen, so that the first noise is forgotten soon.

    Parameters
    ----------
    batch, images_seen : int
        Images of this step, and of all steps up to and including it.
    half_life_kimg : float
        Thousands of images, > 0.
    rampup : float
        Fraction of `images_seen`, > 0.

    Returns
    -------
    float
        In [0, 1): `average = decay * average + (1 - decay) * weights`.
    """
    half_life = min(half_life_kimg * 1000.0, images_seen * rampup)
    decay: float = 0.5 ** (batch / max(half_life, 1e-8))
    return decay


def lazy_adam(learning_rate: float, interval: int) -> tuple[float, tuple[float, float]]:
    """Adam's learning rate and betas when a regulariser takes a step of its own every `interval` steps.

    There are then (interval + 1) / interval steps where there was one: with c = interval / (interval + 1) the rate
    becomes c * rate and beta becomes beta**c (Karras et al. 2020, appendix B). Betas are (0.0, 0.99) before.

    Parameters
    ----------
    learning_rate : float
    interval : int
        Steps between two steps of the regulariser; 0 when there is none.
    """
    share = interval / (interval + 1) if interval else 1.0
    return learning_rate * share, (0.0, 0.99**share)
