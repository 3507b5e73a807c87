"""Layers of the StyleGAN3 generator (arXiv:2106.12423).

The leaky ReLU of a band-limited signal makes frequencies that the samples cannot hold. It is therefore applied between
an upsampling and a downsampling, whose filters keep the signal band-limited (section 3.2, config F).
The filters are part of the checkpoint; nothing here designs them.

Separable filters run as depthwise convolutions of k x 1 and 1 x k taps in channels_last layout.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganfoundry.gan.layers import SLOPE, SQRT2, FullyConnectedLayer, gaussian
from ganfoundry.gan.modulation import demodulation
from ganfoundry.gan.stylegan3_config import LayerGeometry, Signal, StyleGAN3Config


def filtered_leaky_relu(
    x: Tensor,
    up_filter: Tensor | None,
    down_filter: Tensor | None,
    *,
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    clamp: float | None = None,
) -> Tensor:
    """Upsample, apply the leaky ReLU with its gain of sqrt(2), clamp, downsample.

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W).
    up_filter : torch.Tensor or None
        (k,) taps with sum 1, applied to rows and columns with gain ``up`` each; None with ``up`` 1: none.
    down_filter : torch.Tensor or None
        (k,), or (k, k) for a filter that is not separable; None with ``down`` 1: none.
    up, down : int
        Factors.
    padding : (int, int)
        Samples before and after each side of the zero-inserted map; negative ones are cropped.
    clamp : float or None
        The result of the leaky ReLU is clamped to +-this.

    Returns
    -------
    torch.Tensor
        (N, C, H', W') with H' = (H up + sum(padding) - (k_up - 1) - (k_down - 1) - 1) // down + 1, dtype of ``x``.
    """
    if up_filter is not None:
        taps = up_filter * (up * math.sqrt(SQRT2))  # the gain of the leaky ReLU passes through it: half per direction
        x = upsample_axis(upsample_axis(x, taps, up, padding, 2), taps, up, padding, 3)
    else:
        x = F.pad(x, (*padding, *padding)) * SQRT2
    x = F.leaky_relu(x, SLOPE, inplace=True)
    if clamp is not None:  # the largest map of the layer; a second one is made only where gradients need the first
        x = x.clamp(-clamp, clamp) if x.requires_grad else x.clamp_(-clamp, clamp)
    if down_filter is None:
        return x
    if down_filter.ndim == 2:
        return _depthwise(x, down_filter, (down, down))
    return _depthwise(_depthwise(x, down_filter[None, :], (1, down)), down_filter[:, None], (down, 1))


def upsample_axis(x: Tensor, taps: Tensor, factor: int, padding: tuple[int, int], axis: int) -> Tensor:
    """Insert ``factor`` - 1 zeros after every sample along an axis (2 or 3), pad or crop, and convolve with ``taps``.

    Zeros that the padding asks for beyond what the transposed convolution spreads are exactly zero in the result too.
    """
    k, channels = len(taps), x.shape[1]
    # The transposed convolution gives (n - 1) factor + k samples, the first one k - 1 before the padded map.
    cut_before, cut_after = k - 1 - padding[0], k - factor - padding[1]
    common = max(min(cut_before, cut_after), 0)
    vertical = axis == 2
    shape = (k, 1) if vertical else (1, k)
    y = F.conv_transpose2d(
        x,
        taps.to(x.dtype).view(1, 1, *shape).expand(channels, 1, *shape),
        stride=(factor, 1) if vertical else (1, factor),
        padding=(common, 0) if vertical else (0, common),
        groups=channels,
    )
    rest = (common - cut_before, common - cut_after)
    if rest == (0, 0):
        return y
    return F.pad(y, (0, 0, *rest) if vertical else rest)


def _depthwise(x: Tensor, kernel: Tensor, stride: tuple[int, int]) -> Tensor:
    """Convolve every channel with a kernel (kh, kw), which is flipped since ``conv2d`` correlates."""
    channels = x.shape[1]
    weight = kernel.flip(0, 1).to(x.dtype).expand(channels, 1, *kernel.shape)
    return F.conv2d(x, weight, stride=stride, groups=channels)


class SynthesisInput(nn.Module):
    """Fourier features in place of a learnt constant, moved and turned by w (sections 3.1 and 3.2, config H).

    A feature is sin(2 pi (f . p + phi)) at the points p of the image plane (image side 1, origin in its centre), mixed
    by a trainable 1x1 convolution. A style vector t = (cos a, sin a, x, y), normalised so that its first two numbers
    have length 1, turns and moves the plane; so does the buffer ``transform`` (3, 3), which a user may set.

    Parameters
    ----------
    w_dim : int
        Size of w.
    signal : Signal
        What is made.
    """

    freqs: Tensor
    phases: Tensor
    transform: Tensor

    def __init__(self, w_dim: int, signal: Signal) -> None:
        super().__init__()
        channels = signal.channels
        self.signal, self.in_channels = signal, 4
        self.weight = nn.Parameter(gaussian(channels, channels))
        self.affine = FullyConnectedLayer(w_dim, 4)
        self.register_buffer("transform", torch.eye(3))
        self.register_buffer("freqs", torch.zeros(channels, 2))
        self.register_buffer("phases", torch.zeros(channels))

    def forward(self, style: Tensor) -> Tensor:
        """Map (N, 4) to (N, C, size, size) in the precision of the weights."""
        signal = self.signal
        t = style / style[:, :2].norm(dim=1, keepdim=True)
        cosine, sine, shift = t[:, 0], t[:, 1], t[:, 2:, None]
        turn = torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)
        # f . (R (A p + b - shift)) + phi, written as frequencies of p and phases.
        linear = turn @ self.transform[:2, :2]
        offset = turn @ (self.transform[:2, 2:] - shift)
        frequencies = self.freqs @ linear
        phases = self.phases[:, None] + self.freqs @ offset
        # A turned or scaled frequency beyond the cutoff fades out until half the sampling rate.
        excess = frequencies.norm(dim=2) - signal.cutoff
        amplitudes = (1 - excess / (signal.sampling_rate / 2 - signal.cutoff)).clamp(0, 1)
        # Sines of a sum: two products of (N, C, size) factors would need no (N, C, size, size) angles, but lose digits.
        places = torch.arange(signal.size, dtype=style.dtype, device=style.device) + 0.5
        places = (places - signal.size / 2) / signal.sampling_rate
        columns, rows = frequencies[:, :, :1] * places, frequencies[:, :, 1:] * places
        angles = columns[:, :, None, :] + rows[:, :, :, None] + phases[..., None]
        waves = torch.sin(angles * (2 * math.pi)) * amplitudes[..., None, None]
        return F.conv2d(waves, (self.weight / math.sqrt(signal.channels))[:, :, None, None])


class SynthesisLayer(nn.Module):
    """Modulated convolution, bias and filtered leaky ReLU; the last layer has neither demodulation nor activation.

    Parameters
    ----------
    geometry : LayerGeometry
        Sizes and factors.
    config : StyleGAN3Config
        The rest.
    """

    magnitude_ema: Tensor
    up_filter: Tensor | None
    down_filter: Tensor | None

    def __init__(self, geometry: LayerGeometry, config: StyleGAN3Config) -> None:
        super().__init__()
        self.geometry, self.conv_clamp = geometry, config.conv_clamp
        self.in_channels, self.out_channels = geometry.source.channels, geometry.target.channels
        self.affine = FullyConnectedLayer(config.w_dim, self.in_channels, bias_init=1.0)
        self.weight = nn.Parameter(gaussian(self.out_channels, self.in_channels, geometry.kernel, geometry.kernel))
        self.bias = nn.Parameter(torch.zeros(self.out_channels))
        self.register_buffer("magnitude_ema", torch.ones([]))
        k = geometry.down_taps
        self.register_buffer("up_filter", torch.zeros(geometry.up_taps) if geometry.up_taps > 1 else None)
        self.register_buffer("down_filter", torch.zeros((k, k) if geometry.radial else k) if k > 1 else None)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map (N, C_in, size, size) and (N, C_in) to (N, C_out, size', size') in the dtype of ``x``."""
        weight, scale, factor = self._modulation(style)
        # The padding of kernel - 1 spreads the map by as much; the resampling crops it again.
        x = F.conv2d(x * scale.to(x.dtype)[:, :, None, None], weight.to(x.dtype), padding=weight.shape[-1] - 1)
        bias = self.bias.to(x.dtype)[None, :, None, None]
        x = x + bias if factor is None else torch.addcmul(bias, x, factor.to(x.dtype)[:, :, None, None])
        geometry = self.geometry
        if geometry.to_rgb:
            return x if self.conv_clamp is None else x.clamp(-self.conv_clamp, self.conv_clamp)
        return filtered_leaky_relu(
            x,
            self.up_filter,
            self.down_filter,
            up=geometry.up,
            down=geometry.down,
            padding=geometry.padding,
            clamp=self.conv_clamp,
        )

    def _modulation(self, style: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weight, factors of the input (N, C_in) and of the output (N, C_out), None for the RGB layer.

        Weight and style are brought to a mean square of 1 first. The published code takes the mean of the styles over
        the whole batch; here it is each sample's own, so that no sample depends on the others. The difference cancels
        in the demodulation up to its epsilon.
        """
        gain = self.magnitude_ema.rsqrt()
        if self.geometry.to_rgb:
            return self.weight, style * (gain / math.sqrt(self.in_channels)), None
        weight = self.weight * self.weight.square().mean(dim=(1, 2, 3), keepdim=True).rsqrt()
        style = style * style.square().mean(dim=1, keepdim=True).rsqrt()
        return weight, style * gain, demodulation(weight, style)
