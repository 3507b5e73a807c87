"""Layers of the StyleGAN2 generator.

A modulated convolution scales the *activations* by the style before the convolution and by the demodulation factor
after it, instead of building one weight per sample: with w the weight and s the style of a sample,

    conv(x, w s) / |w s| = d conv(s x, w),    d_o = (sum_ik (w_oik s_i)^2 + eps)^(-1/2)

(arXiv:1912.04958 eq. 1-3). One dense convolution serves the whole batch; the factor d, noise and bias take a single
pass over the result.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganfoundry.gan.config import GeneratorConfig
from ganfoundry.gan.filters import resample_kernel, upsampling_conv2d
from ganfoundry.gan.layers import SLOPE, SQRT2, Conv2dLayer, FullyConnectedLayer, gaussian


def demodulation(weight: Tensor, style: Tensor, eps: float = 1e-8) -> Tensor:
    """Factors (sum (w_oik s_ni)^2 + eps)^(-1/2) (N, C_out) of weight (C_out, C_in, k, k) and style (N, C_in)."""
    return (style.square() @ weight.square().sum(dim=(2, 3)).t() + eps).rsqrt()


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    *,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    gain: float = 1.0,
    kernel: Tensor | None = None,
) -> Tensor:
    """Convolution with the weight modulated per sample and demodulated, plus bias and noise, times a gain.

    Parameters
    ----------
    x : torch.Tensor
        (N, C_in, H, W), any floating type; the convolution runs in it.
    weight : torch.Tensor
        (C_out, C_in, 3, 3).
    style : torch.Tensor
        (N, C_in).
    bias : torch.Tensor, optional
        (C_out,), added after demodulation.
    noise : torch.Tensor, optional
        (1, 1, r, r) or (N, 1, r, r), added after demodulation to every channel.
    gain : float
        Factor of the sum.
    kernel : torch.Tensor, optional
        (k, k) resampling filter; given, the resolution is doubled.

    Returns
    -------
    torch.Tensor
        (N, C_out, H, W) or (N, C_out, 2 H, 2 W), dtype of ``x``.
    """
    factor = (demodulation(weight, style) * gain).to(x.dtype)[:, :, None, None]
    x = x * style.to(x.dtype)[:, :, None, None]
    weight = weight.to(x.dtype)
    y = F.conv2d(x, weight, padding=weight.shape[-1] // 2) if kernel is None else upsampling_conv2d(x, weight, kernel)
    if _narrow(y) and (noise is not None or bias is not None):
        return _add_by_product(y * factor, noise, bias, gain)
    shift = None if bias is None else (bias * gain)[None, :, None, None]
    noise = None if noise is None else noise * gain
    if shift is not None and noise is not None and len(noise) == 1:
        # Noise that all samples share joins the bias: one map for the batch, added in the same pass.
        shift, noise = (shift + noise).contiguous(memory_format=torch.channels_last), None
    y = y * factor if shift is None else torch.addcmul(shift.to(x.dtype), y, factor)
    return y if noise is None else y.add_(noise.to(x.dtype))


def _narrow(y: Tensor) -> bool:
    """Whether the channels of a pixel do not fill a vector register, so that broadcasting over them is slow."""
    return y.dtype == torch.bfloat16 and y.shape[1] < 32


def _add_by_product(y: Tensor, noise: Tensor | None, bias: Tensor | None, gain: float) -> Tensor:
    """Add noise (N or 1, 1, H, W) and bias (C,) times a gain to y (N, C, H, W), as one matrix product."""
    n, channels, height, width = y.shape
    one = torch.ones(1, 1, 1, 1, dtype=y.dtype, device=y.device)
    terms = [] if noise is None else [(noise, torch.full_like(y[0, :, 0, 0], gain))]
    terms += [] if bias is None else [(one, (bias * gain).to(y.dtype))]
    pixels = torch.stack([column.to(y.dtype).expand(n, 1, height, width).reshape(-1) for column, _ in terms], 1)
    flat = torch.addmm(y.permute(0, 2, 3, 1).reshape(-1, channels), pixels, torch.stack([row for _, row in terms]))
    return flat.reshape(n, height, width, channels).permute(0, 3, 1, 2)


class SynthesisLayer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU; optionally doubling the resolution first.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels.
    resolution : int
        Side of the result.
    up : bool
        Whether the input has half that side.
    config : GeneratorConfig
        The rest.
    """

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(self, in_channels: int, out_channels: int, resolution: int, up: bool, config: GeneratorConfig) -> None:
        super().__init__()
        self.in_channels, self.out_channels, self.resolution, self.up = in_channels, out_channels, resolution, up
        self.conv_clamp, self.use_noise = config.conv_clamp, config.use_noise
        self.affine = FullyConnectedLayer(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(gaussian(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.register_buffer("resample_filter", resample_kernel(config.resample_filter))
        if config.use_noise:
            self.register_buffer("noise_const", gaussian(resolution, resolution))
            self.noise_strength = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor, style: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        """Map (N, C_in, r', r') to (N, C_out, r, r); ``noise`` is (N or 1, 1, r, r) of unit scale, or None."""
        scaled = noise * self.noise_strength if noise is not None and self.use_noise else None
        kernel = self.resample_filter if self.up else None
        x = modulated_conv2d(x, self.weight, style, bias=self.bias, noise=scaled, gain=gain * SQRT2, kernel=kernel)
        # Not in place on a view (`_add_by_product`): its gradient would come back in another memory layout.
        x = F.leaky_relu(x, SLOPE, inplace=not _narrow(x))
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp * gain, self.conv_clamp * gain)


class ToRGBLayer(nn.Module):
    """Modulated 1x1 convolution to an image, without demodulation or activation.

    The product weight * style is formed per sample here: it is only (N, 3, C), and saves a pass over the features.
    """

    def __init__(self, in_channels: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.in_channels, self.conv_clamp = in_channels, config.conv_clamp
        self.affine = FullyConnectedLayer(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(gaussian(config.img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))
        self.weight_gain = 1.0 / math.sqrt(in_channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map (N, C, r, r) and style (N, C) to (N, img_channels, r, r) in the precision of the weights."""
        n, c, h, w = x.shape
        weight = (self.weight[:, :, 0, 0] * (style * self.weight_gain)[:, None, :]).to(x.dtype)
        rgb = torch.bmm(x.permute(0, 2, 3, 1).reshape(n, h * w, c), weight.transpose(1, 2))
        image = rgb.to(self.bias.dtype) + self.bias
        if self.conv_clamp is not None:
            image = image.clamp(-self.conv_clamp, self.conv_clamp)
        return image.reshape(n, h, w, -1).permute(0, 3, 1, 2)


class SynthesisBlock(nn.Module):
    """Layers of one resolution: ``const`` (4 px) or ``conv0``, then ``conv1``, ``skip`` and ``torgb`` where present."""

    resample_filter: Tensor

    def __init__(self, resolution: int, config: GeneratorConfig) -> None:
        super().__init__()
        width = config.channels[resolution]
        self.register_buffer("resample_filter", resample_kernel(config.resample_filter))
        if resolution == 4:
            self.const = nn.Parameter(gaussian(width, 4, 4))
        else:
            previous = config.channels[resolution // 2]
            self.conv0 = SynthesisLayer(previous, width, resolution, True, config)
            if config.architecture == "resnet":
                taps = config.resample_filter
                self.skip = Conv2dLayer(previous, width, 1, activate=False, up=True, resample_filter=taps)
        self.conv1 = SynthesisLayer(width, width, resolution, False, config)
        if resolution == config.resolution or config.architecture == "skip":
            self.torgb = ToRGBLayer(width, config)
