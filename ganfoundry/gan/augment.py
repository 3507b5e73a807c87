"""Differentiable augmentation of real and generated images (Zhao et al. 2020), for data sets that are small.

The discriminator sees only augmented images, the generator gets its gradient through them. Renders of a world are
plentiful and need none; mirrored reals (`mirror`) are another matter: a mirrored car is a car.

Always applied, or each with a probability that follows how sure the discriminator is of real images (`steer`: adaptive
discriminator augmentation, Karras et al. 2020, arXiv:2006.06676, section 3).
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ganfoundry.errors import InputError

Policy = tuple[str, ...]


def parse_policy(text: str) -> Policy:
    """Split "colour,translation,cutout" into its names; "" and "none" are the empty policy.

    Raises
    ------
    InputError
        If a name is not one of `AUGMENTATIONS`.
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip() and name.strip() != "none")
    for name in names:
        if name not in AUGMENTATIONS:
            raise InputError(f"unknown augmentation {name!r}; use a list of {', '.join(AUGMENTATIONS)}, or none")
    return names


def augment(images: Tensor, policy: Policy, uniforms: Tensor, gates: Tensor | None = None) -> Tensor:
    """Apply each augmentation of the policy in turn.

    Parameters
    ----------
    images : (N, 3, H, W) float in [-1, 1]
    policy : tuple of str
        See `parse_policy`; an empty one returns the images themselves.
    uniforms : (N, NUM_UNIFORMS) float in [0, 1)
        All that is random: three numbers for the colours, two for the translation, two for the cutout of each image.
    gates : (N, len(policy)) bool, optional
        Which augmentations each image gets; None: all.
    """
    for index, name in enumerate(policy):
        changed = AUGMENTATIONS[name](images, uniforms)
        images = changed if gates is None else torch.where(gates[:, index, None, None, None], changed, images)
    return images


def steer(probability: Tensor, real_sign: Tensor, target: float, images: int) -> Tensor:
    """Move the probability of augmentations by a fixed rate towards where r_t meets its target.

    Parameters
    ----------
    probability : () float in [0, 1]
    real_sign : () float in [-1, 1]
        r_t = E[sign(D(real))] (arXiv:2006.06676, equation 1): 1 when the discriminator is sure of every real image.
    target : float
        0.6 in the paper. Above it the discriminator overfits, and the probability rises.
    images : int
        Real images shown since the last call; 500,000 of them take the probability from 0 to 1.
    """
    return (probability + (real_sign - target).sign() * (images / STEER_IMAGES)).clamp(0.0, 1.0)


def mirror(images: Tensor, flags: Tensor) -> Tensor:
    """Mirror the images (N, C, H, W) whose flag (N,) bool is set, left to right."""
    return torch.where(flags[:, None, None, None], images.flip(3), images)


def colour(images: Tensor, uniforms: Tensor) -> Tensor:
    """Shift brightness by [-0.5, 0.5), scale saturation by [0, 2) and contrast by [0.5, 1.5)."""
    brightness, saturation, contrast = uniforms[:, 0:3].to(images.dtype).T[:, :, None, None, None].unbind()
    images = images + (brightness - 0.5)
    grey = images.mean(dim=1, keepdim=True)
    images = (images - grey) * (2 * saturation) + grey
    average = images.mean(dim=(1, 2, 3), keepdim=True)
    return (images - average) * (contrast + 0.5) + average


def translation(images: Tensor, uniforms: Tensor) -> Tensor:
    """Move each image by up to an eighth of its side along both axes; what comes in is grey (0)."""
    _, channels, height, width = images.shape
    reach = (height + 4) // 8
    shift = (uniforms[:, 3:5] * (2 * reach + 1)).long() - reach
    padded = F.pad(images, (reach, reach, reach, reach))
    rows = torch.arange(height, device=images.device) + reach + shift[:, :1]
    columns = torch.arange(width, device=images.device) + reach + shift[:, 1:]
    moved = padded.gather(2, rows[:, None, :, None].expand(-1, channels, -1, padded.shape[3]))
    return moved.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def cutout(images: Tensor, uniforms: Tensor) -> Tensor:
    """Grey out a square of half the side around a random centre of each image."""
    height, width = images.shape[2:]
    centre = uniforms[:, 5:7]
    rows = (torch.arange(height, device=images.device) + 0.5 - centre[:, :1] * height).abs() < height / 4
    columns = (torch.arange(width, device=images.device) + 0.5 - centre[:, 1:] * width).abs() < width / 4
    return images.masked_fill(rows[:, None, :, None] & columns[:, None, None, :], 0.0)


NUM_UNIFORMS = 7
STEER_IMAGES = 500_000
AUGMENTATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "colour": colour,
    "translation": translation,
    "cutout": cutout,
}
