"""FIR resampling as StyleGAN2 does it (arXiv:1912.04958 appendix B): zero insertion or decimation by two and a filter.

Every filter is applied as a true convolution (the kernel is flipped before ``conv2d``, which correlates). The usual
filter [1, 3, 3, 1] is symmetric and would hide a flipped kernel; the functions are exact for any filter of two taps or
more. Zeros lie outside the image, so the border differs from bilinear interpolation.

A depthwise convolution in channels_last layout was the fastest exact form on CPU of those tried (separable passes,
sums of slices, the filter folded into the weights as a 6x6 transposed kernel or as four phase kernels).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx


def resample_kernel(taps: Sequence[float]) -> Tensor:
    """Two-dimensional FIR kernel of a separable filter.

    Parameters
    ----------
    taps : sequence of float
        One-dimensional filter of at least two taps with a non-zero sum, e.g. ``(1, 3, 3, 1)``.

    Returns
    -------
    torch.Tensor
        (k, k) float32, the outer product of the taps, summing to 1.

    Raises
    ------
    ValueError
        If there are fewer than two taps, or their sum is zero or not finite.
    """
    line = [float(tap) for tap in taps]
    total = sum(line)
    if len(line) < 2 or not math.isfinite(total) or abs(total) < 1e-12:
        raise ValueError(f"a resample filter needs two taps or more with a non-zero, finite sum, got {list(taps)}")
    return torch.tensor([[a / total * (b / total) for b in line] for a in line], dtype=torch.float32)


def fir(x: Tensor, kernel: Tensor, padding: tuple[int, int], *, gain: float = 1.0) -> Tensor:
    """Convolve every channel with one kernel.

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W).
    kernel : torch.Tensor
        (k, k), not flipped.
    padding : tuple of int
        Zeros before and after, the same for rows and columns.
    gain : float
        Factor of the result.

    Returns
    -------
    torch.Tensor
        (N, C, H + p0 + p1 - k + 1, W + p0 + p1 - k + 1), dtype of ``x``.
    """
    y: Tensor = _Fir.apply(x, kernel * gain, *padding)
    return y


class _Fir(torch.autograd.Function):
    """The convolution, and its gradient as the same convolution with the kernel turned round.

    The kernel is constant. PyTorch's own gradient of a depthwise convolution takes up to twice the time of this one,
    and its second derivative, which R1 needs, goes channel by channel.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, kernel: Tensor, before: int, after: int) -> Tensor:
        """Convolve; `before` and `after` are the padding."""
        ctx.save_for_backward(kernel)
        ctx.padding = before, after  # type: ignore[attr-defined]
        if before != after:
            x = F.pad(x, (before, after, before, after))
        channels = x.shape[1]
        weight = kernel.flip(0, 1).to(x.dtype).expand(channels, 1, *kernel.shape)
        return F.conv2d(x, weight, padding=before if before == after else 0, groups=channels)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Differentiable itself, to any order."""
        (kernel,) = ctx.saved_tensors
        before, after = (kernel.shape[-1] - 1 - side for side in ctx.padding)
        return _Fir.apply(gradients[0], kernel.flip(0, 1), before, after), None, None, None


def upsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Double the resolution: zeros inserted after every sample, then the filter with gain 4.

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W).
    kernel : torch.Tensor
        (k, k), sum 1.

    Returns
    -------
    torch.Tensor
        (N, C, 2 H, 2 W). Padding ((k + 1) // 2, (k - 2) // 2) of the zero-inserted image.
    """
    taps, channels = kernel.shape[-1], x.shape[1]
    # A transposed convolution spreads each sample over k outputs: 2 H - 2 + k of them, of which 2 H are kept.
    before = taps - 1 - (taps + 1) // 2
    after = taps - 2 - before
    weight = (kernel * 4).to(x.dtype).expand(channels, 1, *kernel.shape)
    y = F.conv_transpose2d(x, weight, stride=2, padding=before, groups=channels)
    return y if before == after else F.pad(y, (0, before - after, 0, before - after))


def downsample(x: Tensor, kernel: Tensor) -> Tensor:
    """Halve the resolution: the filter, then every second sample.

    Parameters
    ----------
    x : torch.Tensor
        (N, C, H, W), H and W even.
    kernel : torch.Tensor
        (k, k), sum 1.

    Returns
    -------
    torch.Tensor
        (N, C, H / 2, W / 2). Padding ((k - 1) // 2, (k - 2) // 2).
    """
    taps = kernel.shape[-1]
    x = fir(x, kernel, ((taps - 1) // 2, (taps - 2) // 2))
    # Pooling over single pixels picks every second one. The gradient of a strided depthwise convolution is several
    # times slower in bfloat16 on CPU, and that of a strided slice costs two more passes.
    return F.avg_pool2d(x, kernel_size=1, stride=2)


def upsampling_conv2d(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
    """Double the resolution with a transposed 3x3 convolution of stride 2 followed by the filter with gain 4.

    Parameters
    ----------
    x : torch.Tensor
        (N, C_in, H, W).
    weight : torch.Tensor
        (C_out, C_in, 3, 3); not flipped, so that it acts as a true convolution.
    kernel : torch.Tensor
        (k, k), sum 1.

    Returns
    -------
    torch.Tensor
        (N, C_out, 2 H, 2 W).
    """
    size, taps = weight.shape[-1], kernel.shape[-1]
    y = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    before = size // 2 + (taps + 1) // 2 - (size - 1)
    after = size // 2 + (taps - 2) // 2 - (size - 2)
    return fir(y, kernel, (before, after), gain=4.0)


def downsampling_conv2d(x: Tensor, weight: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    """Halve the resolution with the filter followed by a 3x3 convolution of stride 2, or a 1x1 one after decimation.

    Parameters
    ----------
    x : torch.Tensor
        (N, C_in, H, W), H and W even.
    weight : torch.Tensor
        (C_out, C_in, s, s) with s = 1 or 3, correlated as ``conv2d`` does.
    kernel : torch.Tensor
        (k, k), sum 1.
    bias : torch.Tensor, optional
        (C_out,).

    Returns
    -------
    torch.Tensor
        (N, C_out, H / 2, W / 2).
    """
    size, taps = weight.shape[-1], kernel.shape[-1]
    if size == 1:
        return F.conv2d(downsample(x, kernel), weight, bias)
    x = fir(x, kernel, (size // 2 + (taps - 1) // 2, size // 2 + (taps - 2) // 2))
    return F.conv2d(x, weight, bias, stride=2)
