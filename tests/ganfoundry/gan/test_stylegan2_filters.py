"""FIR resampling against zero insertion and explicit loops."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.gan.filters import downsample, downsampling_conv2d, fir, resample_kernel, upsample, upsampling_conv2d

FILTERS = [(1, 3, 3, 1), (1, 2, 4, 1.5), (1, 2, 1), (1, 1), (1, 4, 7, 7, 4, 2)]


def loop_fir(x: NDArray[np.float64], kernel: NDArray[np.float64], before: int, after: int) -> NDArray[np.float64]:
    """out[o] = sum_t kernel[t] padded[o + k - 1 - t], one pixel at a time."""
    x = np.pad(x, ((before, after), (before, after)))
    k = len(kernel)
    out = np.zeros((x.shape[0] - k + 1, x.shape[1] - k + 1))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            for a in range(k):
                for b in range(k):
                    out[i, j] += kernel[a, b] * x[i + k - 1 - a, j + k - 1 - b]
    return out


def zeros_inserted(x: NDArray[np.float64]) -> NDArray[np.float64]:
    wide = np.zeros((2 * x.shape[0], 2 * x.shape[1]))
    wide[::2, ::2] = x
    return wide


def image(height: int = 4, width: int = 6) -> Tensor:
    return torch.randn(1, 2, height, width, dtype=torch.float64)


@pytest.mark.parametrize("taps", FILTERS)
def test_upsample(taps: tuple[float, ...]) -> None:
    x, kernel, k = image(), resample_kernel(taps).double(), len(taps)
    expected = [
        loop_fir(zeros_inserted(channel.numpy()), 4 * kernel.numpy(), (k + 1) // 2, (k - 2) // 2) for channel in x[0]
    ]
    np.testing.assert_allclose(upsample(x, kernel)[0].numpy(), np.stack(expected), atol=1e-12)


@pytest.mark.parametrize("taps", FILTERS)
def test_downsample(taps: tuple[float, ...]) -> None:
    x, kernel, k = image(), resample_kernel(taps).double(), len(taps)
    expected = [loop_fir(c.numpy(), kernel.numpy(), (k - 1) // 2, (k - 2) // 2)[::2, ::2] for c in x[0]]
    np.testing.assert_allclose(downsample(x, kernel)[0].numpy(), np.stack(expected), atol=1e-12)


@pytest.mark.parametrize("taps", FILTERS)
def test_upsampling_convolution_is_convolution_of_the_zero_inserted_image(taps: tuple[float, ...]) -> None:
    x, kernel = image(), resample_kernel(taps).double()
    weight = torch.randn(3, 2, 3, 3, dtype=torch.float64)
    wide = torch.from_numpy(np.stack([zeros_inserted(channel.numpy()) for channel in x[0]]))[None]
    # One row and column more: the last inserted zero is outside the reach of a stride-2 transposed convolution.
    convolved = F.conv2d(F.pad(wide, (2, 1, 2, 1)), weight.flip(2, 3))
    k = len(taps)
    expected = fir(convolved, kernel, ((k + 1) // 2 - 1, (k - 2) // 2), gain=4.0)
    torch.testing.assert_close(upsampling_conv2d(x, weight, kernel), expected, rtol=0, atol=1e-12)
    assert upsampling_conv2d(x, weight, kernel).shape == (1, 3, 8, 12)


@pytest.mark.parametrize("taps", FILTERS)
@pytest.mark.parametrize("size", [1, 3])
def test_downsampling_convolution_keeps_every_second_sample(taps: tuple[float, ...], size: int) -> None:
    x, kernel, k = image(), resample_kernel(taps).double(), len(taps)
    weight, bias = torch.randn(3, 2, size, size, dtype=torch.float64), torch.randn(3, dtype=torch.float64)
    padding = (size // 2 + (k - 1) // 2, size // 2 + (k - 2) // 2)
    expected = F.conv2d(fir(x, kernel, padding), weight, bias)[:, :, ::2, ::2]
    torch.testing.assert_close(downsampling_conv2d(x, weight, kernel, bias), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("padding", [(2, 2), (1, 1), (2, 1)])
def test_gradients_of_the_filter_to_second_order(padding: tuple[int, int]) -> None:
    kernel = resample_kernel((1, 2, 4, 1.5)).double()
    x = image(5, 4).requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: fir(x, kernel, padding, gain=3.0), x)
    assert torch.autograd.gradgradcheck(lambda x: fir(x, kernel, padding, gain=3.0).sin(), x)


def test_a_ramp_stays_a_ramp() -> None:
    ramp = torch.arange(8.0, dtype=torch.float64).expand(1, 1, 8, 8)
    kernel = resample_kernel((1, 3, 3, 1)).double()
    wide, narrow = upsample(ramp, kernel), downsample(ramp, kernel)
    expected = torch.arange(16.0, dtype=torch.float64) / 2 - 0.25
    torch.testing.assert_close(wide[0, 0, 4, 2:-2], expected[2:-2])
    torch.testing.assert_close(narrow[0, 0, 2, 1:-1], torch.tensor([2.5, 4.5], dtype=torch.float64))


@given(st.lists(st.floats(-4, 4), min_size=2, max_size=8))
def test_kernels_sum_to_one_or_are_refused(taps: list[float]) -> None:
    if abs(sum(taps)) < 0.05:
        return
    kernel = resample_kernel(taps)
    assert kernel.shape == (len(taps), len(taps))
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-2)
    torch.testing.assert_close(kernel, kernel.t())


@pytest.mark.parametrize("taps", [(), (1,), (1, -1), (1, float("nan")), (1, float("inf"))])
def test_useless_filters_are_refused(taps: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="resample filter"):
        resample_kernel(taps)
