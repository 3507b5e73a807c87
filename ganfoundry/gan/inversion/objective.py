"""What an inversion minimises: how far a generated picture is from the given one.

Pixels at several scales, and the features of the generator's own discriminator: GAN2Shape (arXiv:2011.00844, section
3.2) measures perceptual distance so, without a network trained on other pictures. Features are compared as in LPIPS
(Zhang et al. 2018, arXiv:1801.03924, equation 1): every position's channels scaled to unit length, so that no block
outweighs another. Every function returns one number for each image of the batch, which depends on that image alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.discriminator import Discriminator

PIXEL_WEIGHT = 4.0  # squared differences of pixels are that much smaller than those of features
PERCEPTUAL_WEIGHT = 1.0
BLOCKS = 4
SCALES = 3


def pixel_distance(image: Tensor, target: Tensor, scales: int = SCALES) -> Tensor:
    """Mean squared difference, averaged over the image and its halvings by 2 x 2 means.

    Parameters
    ----------
    image, target : (N, C, H, W) float
    scales : int
        Sizes compared; fewer where a side can no longer be halved.

    Returns
    -------
    (N,) float
    """
    values = []
    for _ in range(scales):
        values.append((image - target).square().mean(dim=(1, 2, 3)))
        if image.shape[-1] % 2:
            break
        image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
    return torch.stack(values).mean(dim=0)


def discriminator_features(discriminator: Discriminator, image: Tensor, blocks: int = BLOCKS) -> list[Tensor]:
    """Outputs (N, C, r, r) of the first blocks of a discriminator, r = R / 2, R / 4, ...; channels of unit length.

    Parameters
    ----------
    discriminator : Discriminator
    image : (N, 3, R, R) float in [-1, 1]
    blocks : int
        How many; fewer where there are fewer.
    """
    x = image.contiguous(memory_format=torch.channels_last)
    features = []
    for name in discriminator.block_names[:blocks]:
        x = discriminator.get_submodule(name)(x)
        features.append(x * (x.square().sum(dim=1, keepdim=True) + 1e-8).rsqrt())
    return features


def feature_distance(features: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Squared difference of feature vectors, averaged over positions and then over blocks, (N,) float in [0, 4]."""
    pairs = zip(features, targets, strict=True)
    return torch.stack([(a - b).square().sum(dim=1).mean(dim=(1, 2)) for a, b in pairs]).mean(dim=0)


def layer_distance(deltas: Tensor, spread: float) -> Tensor:
    """W+'s penalty: squared distance of every layer's w to the common one, averaged over layers (N,).

    Parameters
    ----------
    deltas : (N, num_ws, w_dim)
        What each layer adds to the common w (e4e, arXiv:2102.02766, equation 2, without its progressive schedule).
    spread : float
        Unit of distances, :class:`WSpace`'s.
    """
    return deltas.square().sum(dim=-1).mean(dim=-1) / spread**2


def psnr(image: NDArray[np.uint8], target: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Peak signal-to-noise ratio of each stored image, dB, (N,); infinite for equal ones.

    Parameters
    ----------
    image, target : (N, H, W, 3) uint8
    """
    error = np.square(image.astype(float) - target).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(255.0**2 / error))


@dataclass(frozen=True)
class Target:
    """Pictures to be reached: pixels (N, 3, R, R) and, where there is a discriminator, their features."""

    image: Tensor
    features: Sequence[Tensor] | None


@dataclass(frozen=True)
class Objective:
    """Weighted sum of pixel and feature distance.

    Attributes
    ----------
    discriminator : Discriminator or None
        None: pixels alone.
    pixel_weight, perceptual_weight : float
    """

    discriminator: Discriminator | None
    pixel_weight: float = PIXEL_WEIGHT
    perceptual_weight: float = PERCEPTUAL_WEIGHT

    @classmethod
    def of(
        cls, gan: LoadedGan, pixel_weight: float = PIXEL_WEIGHT, perceptual_weight: float = PERCEPTUAL_WEIGHT
    ) -> Objective:
        """Objective of a generator, with the features of its discriminator if it has one.

        Raises
        ------
        InputError
            If the generator does not make RGB images, the discriminator belongs to another one, or nothing would be
            compared.
        """
        config, discriminator = gan.generator.config, gan.discriminator
        if config.img_channels != 3:
            raise InputError(f"{gan.path} makes images of {config.img_channels} channels; inversion needs RGB, so 3")
        if discriminator is not None and discriminator.config.resolution != config.resolution:
            raise InputError(
                f"the discriminator beside {gan.path} looks at {discriminator.config.resolution} px and the generator "
                f"makes {config.resolution} px; bring the two that were trained together, or the generator alone"
            )
        if pixel_weight <= 0 and (discriminator is None or perceptual_weight <= 0):
            raise InputError("no term of the objective has a weight above 0; raise the pixel weight")
        return cls(discriminator, pixel_weight, perceptual_weight)

    @torch.no_grad()
    def target(self, image: Tensor) -> Target:
        """Prepare pictures (N, 3, R, R) in [-1, 1] to be compared with."""
        return Target(image, self._features(image))

    def perceptual(self, image: Tensor, target: Target) -> Tensor:
        """Feature distance (N,); nan without a discriminator."""
        features = self._features(image)
        if features is None or target.features is None:
            return image.new_full((len(image),), torch.nan)
        return feature_distance(features, target.features)

    def __call__(self, image: Tensor, target: Target) -> Tensor:
        """Distance of pictures (N, 3, R, R) to a target, (N,) float."""
        total = self.pixel_weight * pixel_distance(image, target.image)
        if self.discriminator is not None and self.perceptual_weight > 0:
            total = total + self.perceptual_weight * self.perceptual(image, target)
        return total

    def _features(self, image: Tensor) -> list[Tensor] | None:
        return None if self.discriminator is None else discriminator_features(self.discriminator, image)
