"""Building blocks shared by generator and discriminator, with the equalised learning rate of arXiv:1710.10196.

Parameters are stored near unit scale and multiplied by a fixed gain at run time. The leaky ReLU has slope 0.2 and is
followed by a gain of sqrt(2); since it is positively homogeneous the gain is folded into what precedes it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganfoundry.gan.filters import downsampling_conv2d, resample_kernel, upsample

SLOPE = 0.2
SQRT2 = math.sqrt(2.0)
SQRT_HALF = math.sqrt(0.5)


def compute_dtype(module: nn.Module, device: torch.device, dtype: torch.dtype | None) -> torch.dtype:
    """Type of the feature maps: the one asked for, else autocast's where autocast is on, else that of the weights."""
    if dtype is not None:
        return dtype
    if torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return next(module.parameters()).dtype


def gaussian(*shape: int, scale: float = 1.0) -> Tensor:
    """Normal numbers of a standard deviation, for initial weights; none are drawn for networks without memory (meta).

    (Drawing on the meta device would load torch's decompositions, seconds of imports.)
    """
    values = torch.empty(*shape)
    return values if values.is_meta else values.normal_(std=scale)


def normalise_second_moment(x: Tensor, eps: float = 1e-8) -> Tensor:
    """Scale every row of ``x`` (N, D) to a mean square of 1."""
    return x * (x.square().mean(dim=1, keepdim=True) + eps).rsqrt()


class FullyConnectedLayer(nn.Module):
    """Affine map x (N, D_in) -> (N, D_out) with weight gain lr / sqrt(D_in), optionally with a leaky ReLU.

    Parameters
    ----------
    in_features, out_features : int
        D_in and D_out.
    activate : bool
        Whether the leaky ReLU and its gain follow.
    lr_multiplier : float
        Factor of weights and biases at run time.
    bias_init : float
        Initial value of the bias at run time.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        activate: bool = False,
        lr_multiplier: float = 1.0,
        bias_init: float = 0.0,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(gaussian(out_features, in_features, scale=1.0 / lr_multiplier))
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, D_in) to (N, D_out)."""
        gain = SQRT2 if self.activate else 1.0
        y = torch.addmm(self.bias, x, self.weight.t(), beta=self.bias_gain * gain, alpha=self.weight_gain * gain)
        return F.leaky_relu(y, SLOPE) if self.activate else y


class MappingNetwork(nn.Module):
    """z and condition to w: normalise both, concatenate, ``num_layers`` layers (arXiv:1812.04948 section 2).

    Parameters
    ----------
    z_dim, c_dim, w_dim : int
        Sizes; ``z_dim`` 0 maps the condition alone (the discriminator's use).
    num_layers : int
        Depth.
    lr_multiplier : float
        Factor of weights and biases at run time.
    features, embed_features : int or None
        Width of the hidden layers and of the embedded condition; None: ``w_dim``.
    keep_average : bool
        Whether there is a buffer ``w_avg`` (w_dim,) for the mean w.
    """

    w_avg: Tensor

    def __init__(
        self,
        z_dim: int,
        c_dim: int,
        w_dim: int,
        *,
        num_layers: int,
        lr_multiplier: float = 0.01,
        features: int | None = None,
        embed_features: int | None = None,
        keep_average: bool = False,
    ) -> None:
        super().__init__()
        self.z_dim, self.c_dim, self.w_dim = z_dim, c_dim, w_dim
        self.num_layers = num_layers
        embedded = 0
        if c_dim > 0:
            embedded = embed_features or w_dim
            self.embed = FullyConnectedLayer(c_dim, embedded)
        widths = [z_dim + embedded] + [features or w_dim] * (num_layers - 1) + [w_dim]
        for index in range(num_layers):
            layer = FullyConnectedLayer(widths[index], widths[index + 1], activate=True, lr_multiplier=lr_multiplier)
            self.add_module(f"fc{index}", layer)
        if keep_average:
            self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor | None, c: Tensor | None = None) -> Tensor:
        """One w (N, w_dim) per row of ``z`` (N, z_dim) and ``c`` (N, c_dim), in the precision of the weights.

        Raises
        ------
        ValueError
            If a network with a condition gets none, or shapes differ from (N, z_dim) and (N, c_dim).
        """
        given = c if z is None else z
        if given is None:
            raise ValueError("give z, or c to a network that maps the condition alone")
        with torch.autocast(given.device.type, enabled=False):
            parts = []
            if self.z_dim > 0:
                parts.append(normalise_second_moment(self._checked(z, self.z_dim, "z")))
            if self.c_dim > 0:
                parts.append(normalise_second_moment(self.embed(self._checked(c, self.c_dim, "c"))))
            x = torch.cat(parts, dim=1)
            for index in range(self.num_layers):
                x = self.get_submodule(f"fc{index}")(x)
            return x

    def _checked(self, value: Tensor | None, size: int, name: str) -> Tensor:
        if value is None:
            raise ValueError(f"this network needs {name} of shape (N, {size})")
        if value.ndim != 2 or value.shape[1] != size:
            raise ValueError(f"{name} must have shape (N, {size}), got {tuple(value.shape)}")
        return value.to(next(self.parameters()).dtype)


class Conv2dLayer(nn.Module):
    """Convolution without modulation, optionally resampling by two and with a leaky ReLU.

    Parameters
    ----------
    in_channels, out_channels : int
        Channels.
    kernel_size : int
        1 or 3.
    activate : bool
        Whether bias, leaky ReLU and sqrt(2) follow; without it there is no bias.
    up, down : bool
        Double or halve the resolution (``up`` for 1x1 kernels only).
    conv_clamp : float or None
        Clamp of the result.
    resample_filter : sequence of float
        Taps of the separable filter.
    """

    resample_filter: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        activate: bool = True,
        up: bool = False,
        down: bool = False,
        conv_clamp: float | None = None,
        resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0),
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(gaussian(out_channels, in_channels, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activate else None
        self.register_buffer("resample_filter", resample_kernel(resample_filter))
        self.weight_gain = 1.0 / math.sqrt(in_channels * kernel_size**2)
        self.activate, self.up, self.down, self.conv_clamp = activate, up, down, conv_clamp

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        """Map (N, C_in, H, W) to (N, C_out, H', W') in the dtype of ``x``, times ``gain``."""
        total = gain * SQRT2 if self.activate else gain
        weight = (self.weight * (self.weight_gain * total)).to(x.dtype)
        bias = None if self.bias is None else (self.bias * total).to(x.dtype)
        if self.down:
            x = downsampling_conv2d(x, weight, self.resample_filter, bias)
        else:
            x = F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        if self.up:
            x = upsample(x, self.resample_filter)
        if self.activate:
            x = F.leaky_relu(x, SLOPE, inplace=True)
        return x if self.conv_clamp is None else x.clamp(-self.conv_clamp * gain, self.conv_clamp * gain)
