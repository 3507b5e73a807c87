"""StyleGAN2 as the papers describe it, without any thought of speed: what the benchmarks compare with.

The networks hold our weights and give our images; only the arithmetic is arranged otherwise. A modulated convolution
builds one weight per sample and convolves with `groups=batch` (as StyleGAN2's published code does in training), every
resampling inserts zeros, pads, filters and drops in separate passes, feature maps are float32 in torch's default
memory layout.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.gan.discriminator import Discriminator, DiscriminatorBlock, minibatch_stddev
from ganfoundry.gan.layers import Conv2dLayer
from ganfoundry.gan.modulation import SynthesisLayer, ToRGBLayer
from ganfoundry.gan.stylegan2 import SynthesisNetwork


def upfirdn(x: Tensor, kernel: Tensor, *, up: int = 1, down: int = 1, padding: tuple[int, int]) -> Tensor:
    """Insert zeros (up), pad, convolve with the kernel and keep every `down`-th sample of x (N, C, H, W)."""
    n, channels, height, width = x.shape
    if up > 1:
        wide = x.new_zeros(n, channels, height, up, width, up)
        wide[:, :, :, 0, :, 0] = x
        x = wide.reshape(n, channels, height * up, width * up)
    x = F.pad(x, (*padding, *padding))
    weight = (kernel.flip(0, 1) * up**2).expand(channels, 1, -1, -1)
    return F.conv2d(x, weight, groups=channels)[:, :, ::down, ::down]


def upsampled(x: Tensor, kernel: Tensor) -> Tensor:
    """Image of twice the side."""
    taps = len(kernel)
    return upfirdn(x, kernel, up=2, padding=((taps + 1) // 2, (taps - 2) // 2))


def modulated(x: Tensor, weight: Tensor, style: Tensor, kernel: Tensor | None, demodulate: bool) -> Tensor:
    """Modulated convolution with one weight per sample: x (N, I, H, W), weight (O, I, k, k), style (N, I)."""
    n, channels, height, width = x.shape
    own = weight[None] * style[:, None, :, None, None]
    if demodulate:
        own = own * (own.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8).rsqrt()
    size = weight.shape[-1]
    x = x.reshape(1, n * channels, height, width)
    if kernel is None:
        y = F.conv2d(x, own.reshape(-1, channels, size, size), padding=size // 2, groups=n)
        return y.reshape(n, -1, height, width)
    y = F.conv_transpose2d(x, own.transpose(1, 2).reshape(n * channels, -1, size, size), stride=2, groups=n)
    return upfirdn(y.reshape(n, -1, 2 * height + 1, 2 * width + 1), kernel * 4, padding=(1, 1))


class PlainSynthesis(SynthesisNetwork):
    """Synthesis network of the skip architecture, [1, 3, 3, 1] filter, for training: ws and noise in, images out."""

    def forward(  # type: ignore[override]  # a training step asks for no more
        self, ws: Tensor, *, noise: Mapping[str, Tensor], dtype: object = None
    ) -> Tensor:
        """Images (N, 3, R, R) of ws (N, num_ws, w_dim) and noise (N, 1, r, r) by layer; `dtype` is ignored."""
        image: Tensor | None = None
        x = self.block(4).const.expand(len(ws), -1, -1, -1)
        for name, style in self.styles(ws).items():
            layer = self.get_submodule(name)
            if isinstance(layer, ToRGBLayer):
                rgb = modulated(x, layer.weight, style * layer.weight_gain, None, False) + layer.bias[:, None, None]
                kernel = self.get_buffer(f"{name.partition('.')[0]}.resample_filter")
                image = rgb if image is None else upsampled(image, kernel) + rgb
            else:
                assert isinstance(layer, SynthesisLayer)
                x = modulated(x, layer.weight, style, layer.resample_filter if layer.up else None, True)
                x = x + noise[name] * layer.noise_strength
                x = F.leaky_relu(x + layer.bias[:, None, None], 0.2) * math.sqrt(2)
        assert image is not None
        return image


class PlainDiscriminator(Discriminator):
    """Residual discriminator without a condition, [1, 3, 3, 1] filter."""

    def forward(self, image: Tensor, c: Tensor | None = None, *, dtype: object = None) -> Tensor:
        """Logits (N, 1) of images (N, 3, R, R); `c` and `dtype` are ignored."""
        x = image
        for name in self.block_names:
            block = self.get_submodule(name)
            assert isinstance(block, DiscriminatorBlock)
            if block.fromrgb is not None:
                x = convolved(block.fromrgb, x)
            shortcut = convolved(block.skip, x)
            x = (convolved(block.conv1, convolved(block.conv0, x)) + shortcut) * math.sqrt(0.5)
        x = minibatch_stddev(x, self.b4.group_size, self.b4.num_channels)
        logits: Tensor = self.b4.out(self.b4.fc(convolved(self.b4.conv, x).flatten(1)))
        return logits


def convolved(layer: Conv2dLayer, x: Tensor) -> Tensor:
    """A layer of the discriminator: filter where it halves the side, convolution, bias, leaky ReLU."""
    size = layer.weight.shape[-1]
    weight, padding, stride = layer.weight * layer.weight_gain, size // 2, 1
    if layer.down and size == 1:
        x = upfirdn(x, layer.resample_filter, down=2, padding=(1, 1))
    elif layer.down:
        x, padding, stride = upfirdn(x, layer.resample_filter, padding=(2, 2)), 0, 2
    y = F.conv2d(x, weight, padding=padding, stride=stride)
    if layer.bias is None:
        return y
    return F.leaky_relu(y + layer.bias[:, None, None], 0.2) * math.sqrt(2)


class ContiguousDiscriminator(Discriminator):
    """Our discriminator in torch's default memory layout."""

    def forward(self, image: Tensor, c: Tensor | None = None, *, dtype: torch.dtype | None = None) -> Tensor:
        """Logits (N, 1) of images (N, 3, R, R); `c` is ignored."""
        x = image.to(dtype or torch.float32)
        for name in self.block_names:
            x = self.get_submodule(name)(x)
        logits: Tensor = self.b4(x)
        return logits
