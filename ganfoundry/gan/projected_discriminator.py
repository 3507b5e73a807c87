"""The projected discriminator (Sauer et al. 2021, arXiv:2111.01007): small heads on frozen ImageNet features.

The features of four depths are mixed by fixed random convolutions, across channels (1x1) and across scales (3x3, from
the deepest up), so that no head can rely on a few of them (section 3.2). One head of spectrally normalised convolutions
a scale gives one logit; the losses are hinge losses, summed over scales.

Differences from the published code: EfficientNet-Lite0 sees images of 128 px (or their own size, if larger) instead of
224; heads have a quarter to half of the channels, and group normalisation instead of batch normalisation, so that a
logit does not depend on the other images or on the number of processes; they learn at a fiftieth of the generator's
rate (`train_state.HEAD_RATE`): at the same rate the scores of 32 px renders were beyond 10 within 500 images.

An experiment: it has been tried for two thousand images of 32 px only. With `--augment colour,translation,cutout`,
which the paper always uses, the scores then stayed near the hinge's margin, so that both networks go on learning; at a
tenth of the rate and without augmentations they left it. Either way the images were blobs of saturated colours still.
That it trains a good generator here has not been shown; StyleGAN2's discriminator made every generator that ships.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from ganfoundry.gan.imagenet import MEAN, STD, load_efficientnet
from ganfoundry.gan.layers import compute_dtype

FEATURE_SIDE = 128  # pixels; smaller images are enlarged
# Last block and channels of EfficientNet-Lite0 at strides 4, 8, 16, 32.
LEVELS = ((2, 24), (4, 40), (10, 112), (15, 320))
WIDTHS = (32, 64, 128, 256)  # channels after mixing, at the same strides
HEAD_WIDTH = 128
LAST_SIDE = 4


class ProjectedDiscriminator(nn.Module):
    """Image to one realness logit a scale.

    Parameters
    ----------
    resolution : int
        Side of the images in pixels, a power of two.

    Raises
    ------
    InputError
        If the optional packages with the ImageNet network are not installed.
    """

    def __init__(self, resolution: int) -> None:
        super().__init__()
        self.resolution = resolution
        side = max(resolution, FEATURE_SIDE)
        # In a tuple it is no submodule: the pretrained weights are neither trained nor saved.
        self._backbone = (load_efficientnet(side).to(memory_format=torch.channels_last),)
        self.side = side
        for index, (_, channels) in enumerate(LEVELS):
            self.register_buffer(f"mix_channels{index}", random_convolution(channels, WIDTHS[index], 1))
            if index + 1 < len(LEVELS):
                self.register_buffer(f"mix_scales{index}", random_convolution(WIDTHS[index + 1], WIDTHS[index], 3))
        self.heads = nn.ModuleList(_head(width, side // (4 << index)) for index, width in enumerate(WIDTHS))

    def forward(self, image: Tensor, c: None = None, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return logits (N, 4), high for real images, of images (N, 3, R, R) in [-1, 1].

        Parameters
        ----------
        image : torch.Tensor
        c : None
            There is no conditional form.
        dtype : torch.dtype, optional
            Type of the feature maps; None: autocast's where it is on, else that of the weights.
        """
        dtype = compute_dtype(self, image.device, dtype)
        with torch.autocast(image.device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            maps = self.project(image)
            logits = [head(x).float() for head, x in zip(self.heads, maps, strict=True)]
        return torch.cat([logit.mean(dim=(2, 3)) for logit in logits], dim=1)

    def project(self, image: Tensor) -> list[Tensor]:
        """Mixed feature maps (N, WIDTHS[i], side / stride, side / stride) at strides 4, 8, 16, 32."""
        mixed: list[Tensor] = []
        deeper: Tensor | None = None
        for index, feature in reversed(list(enumerate(self.features(image)))):
            x = F.conv2d(feature, self.get_buffer(f"mix_channels{index}"))
            if deeper is not None:
                spread = F.conv2d(deeper, self.get_buffer(f"mix_scales{index}"), padding=1)
                x = x + F.interpolate(spread, scale_factor=2, mode="bilinear", align_corners=False)
            mixed.append(x)
            deeper = x
        return mixed[::-1]

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of the frozen network at strides 4, 8, 16, 32."""
        net = self._backbone[0]
        if image.shape[2] != self.side:
            image = F.interpolate(image, size=(self.side, self.side), mode="bilinear", align_corners=False)
        x = ((image + 1) / 2 - MEAN) / STD
        x = net._swish(net._bn0(net._conv_stem(x.contiguous(memory_format=torch.channels_last))))
        found, last = [], [block for block, _ in LEVELS]
        for index, block in enumerate(net._blocks):
            x = block(x)
            if index in last:
                found.append(x)
        return found

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> ProjectedDiscriminator:
        """Move the frozen network, too, when the module moves to another device."""
        self._backbone[0]._apply(function)
        super()._apply(function, recurse)  # type: ignore[no-untyped-call]
        return self


def random_convolution(inputs: int, outputs: int, size: int) -> Tensor:
    """Weights (outputs, inputs, size, size) of a fixed random convolution that keeps the variance (He et al. 2015)."""
    scale: float = (inputs * size * size) ** 0.5
    return torch.randn(outputs, inputs, size, size) / scale


def _head(width: int, side: int) -> nn.Sequential:
    """Halve the side down to 4 px, then one 4x4 convolution to a logit."""
    layers: list[nn.Module] = []
    while side > LAST_SIDE:
        narrower = min(2 * width, HEAD_WIDTH)
        layers.append(spectral_norm(nn.Conv2d(width, narrower, 4, stride=2, padding=1)))
        layers += [nn.GroupNorm(narrower // 16, narrower), nn.LeakyReLU(0.2, inplace=True)]
        width, side = narrower, side // 2
    return nn.Sequential(*layers, spectral_norm(nn.Conv2d(width, 1, LAST_SIDE)))
