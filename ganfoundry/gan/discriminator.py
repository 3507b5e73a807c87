"""The residual StyleGAN2 discriminator (arXiv:1912.04958 section 4.2), with projection on a condition."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ganfoundry.gan.config import DiscriminatorConfig
from ganfoundry.gan.filters import resample_kernel
from ganfoundry.gan.layers import SQRT_HALF, Conv2dLayer, FullyConnectedLayer, MappingNetwork, compute_dtype


def minibatch_stddev(x: Tensor, group_size: int, num_channels: int, eps: float = 1e-8) -> Tensor:
    """Append the standard deviation over groups of images as constant maps (arXiv:1710.10196 section 3).

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W).
    group_size : int
        Images per group; N must be divisible by min(group_size, N). Group g holds images g, g + N / group_size, ...
    num_channels : int
        Maps appended; C must be divisible by it.

    Returns
    -------
    torch.Tensor
        (N, C + num_channels, H, W).

    Raises
    ------
    ValueError
        If the batch cannot be divided into groups.
    """
    n, c, h, w = x.shape
    group = min(group_size, n)
    if n % group:
        raise ValueError(f"a batch of {n} images cannot be divided into groups of {group}")
    y = x.reshape(group, n // group, num_channels, c // num_channels, h, w)
    variance = (y - y.mean(dim=0)).square().mean(dim=0)  # several times faster than var, which cannot use vectors here
    deviation = (variance + eps).sqrt().mean(dim=(2, 3, 4))
    return torch.cat([x, deviation.repeat(group, 1)[:, :, None, None].expand(-1, -1, h, w)], dim=1)


class DiscriminatorBlock(nn.Module):
    """Two convolutions and a 1x1 shortcut, halving the resolution; the first block also reads the image."""

    def __init__(self, config: DiscriminatorConfig, resolution: int) -> None:
        super().__init__()
        width, narrower = config.channels[resolution], config.channels[resolution // 2]
        clamp, taps = config.conv_clamp, config.resample_filter
        self.register_buffer("resample_filter", resample_kernel(taps))
        self.fromrgb: Conv2dLayer | None = None
        if resolution == config.resolution:
            self.fromrgb = Conv2dLayer(config.img_channels, width, 1, conv_clamp=clamp, resample_filter=taps)
        self.conv0 = Conv2dLayer(width, width, 3, conv_clamp=clamp, resample_filter=taps)
        self.conv1 = Conv2dLayer(width, narrower, 3, down=True, conv_clamp=clamp, resample_filter=taps)
        self.skip = Conv2dLayer(width, narrower, 1, activate=False, down=True, resample_filter=taps)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, r, r), or the image in the first block, to (N, C', r / 2, r / 2)."""
        if self.fromrgb is not None:
            x = self.fromrgb(x)
        y: Tensor = self.conv1(self.conv0(x), gain=SQRT_HALF) + self.skip(x, gain=SQRT_HALF)
        return y


class DiscriminatorEpilogue(nn.Module):
    """Minibatch deviation, a convolution and two fully connected layers at 4 px, in the precision of the weights."""

    def __init__(self, config: DiscriminatorConfig, outputs: int) -> None:
        super().__init__()
        width = config.channels[4]
        self.group_size, self.num_channels = config.mbstd_group_size, config.mbstd_channels
        self.conv = Conv2dLayer(
            width + self.num_channels,
            width,
            3,
            conv_clamp=config.conv_clamp,
            resample_filter=config.resample_filter,
        )
        self.fc = FullyConnectedLayer(width * 16, width, activate=True)
        self.out = FullyConnectedLayer(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, 4, 4) to (N, outputs)."""
        x = x.to(self.fc.weight.dtype)
        if self.num_channels > 0:
            x = minibatch_stddev(x, self.group_size, self.num_channels)
        y: Tensor = self.out(self.fc(self.conv(x).flatten(1)))
        return y


class Discriminator(nn.Module):
    """Image (and condition) to a realness logit.

    Parameters
    ----------
    config : DiscriminatorConfig
        Shape. State names are those of stylegan2-ada-pytorch (``b64.conv0.weight``, ``b4.fc.weight``, ...).
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.config = config
        self.cmap_dim = (config.cmap_dim or config.channels[4]) if config.c_dim > 0 else 0
        self.block_names = [f"b{r}" for r in sorted(config.channels, reverse=True) if r > 4]
        for name in self.block_names:
            self.add_module(name, DiscriminatorBlock(config, int(name[1:])))
        if self.cmap_dim:
            self.mapping = MappingNetwork(
                0,
                config.c_dim,
                self.cmap_dim,
                num_layers=config.num_mapping_layers,
                lr_multiplier=config.mapping_lr_multiplier,
            )
        self.b4 = DiscriminatorEpilogue(config, self.cmap_dim or 1)

    def forward(self, image: Tensor, c: Tensor | None = None, *, dtype: torch.dtype | None = None) -> Tensor:
        """Return logits (N, 1), high for real images.

        Parameters
        ----------
        image : torch.Tensor
            (N, img_channels, R, R) in [-1, 1].
        c : torch.Tensor, optional
            (N, c_dim), for conditional networks.
        dtype : torch.dtype, optional
            Type of the feature maps down to 4 px; None: autocast's where it is on, else that of the weights.

        Raises
        ------
        ValueError
            If the image or the condition has another shape, or N cannot be divided into groups.
        """
        expected = (self.config.img_channels, self.config.resolution, self.config.resolution)
        if tuple(image.shape[1:]) != expected:
            raise ValueError(f"image must have shape (N, {', '.join(map(str, expected))}), got {tuple(image.shape)}")
        dtype = compute_dtype(self, image.device, dtype)
        with torch.autocast(image.device.type, enabled=False):
            x = image.to(dtype).contiguous(memory_format=torch.channels_last)
            for name in self.block_names:
                x = self.get_submodule(name)(x)
            logits: Tensor = self.b4(x)
            if self.cmap_dim:
                logits = (logits * self.mapping(None, c)).sum(dim=1, keepdim=True) / math.sqrt(self.cmap_dim)
            return logits
