"""The StyleGAN2 generator (arXiv:1912.04958) in plain PyTorch, fast on a CPU.

Feature maps may be bfloat16 (``dtype`` or autocast); mapping, styles, demodulation factors, noise and the sum of RGB
images stay in the precision of the weights. Everything is differentiable twice. State names are those of
stylegan2-ada-pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.filters import upsample
from ganfoundry.gan.generator import Noise, StyleGenerator, StyleSynthesis
from ganfoundry.gan.layers import SQRT_HALF
from ganfoundry.gan.modulation import SynthesisBlock, SynthesisLayer, ToRGBLayer

__all__ = ["Discriminator", "DiscriminatorConfig", "Generator", "GeneratorConfig", "SynthesisNetwork"]


class SynthesisNetwork(StyleSynthesis):
    """StyleGAN2's synthesis network.

    Layers are named ``b4.conv1``, ``b4.torgb``, ``b8.conv0``, ...; an RGB layer shares its w with the next block's
    first convolution. Features are the outputs of the convolutions.

    Parameters
    ----------
    config : GeneratorConfig
        Shape.
    """

    config: GeneratorConfig

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.num_ws = config.num_ws
        self.layer_names: list[str] = []
        self.w_index: dict[str, int] = {}
        first = 0
        for r in config.channels:
            block = SynthesisBlock(r, config)
            self.add_module(f"b{r}", block)
            convolutions = [name for name in ("conv0", "conv1") if hasattr(block, name)]
            for index, name in enumerate([*convolutions, *(["torgb"] if hasattr(block, "torgb") else [])]):
                self.layer_names.append(f"b{r}.{name}")
                self.w_index[f"b{r}.{name}"] = first + index
            first += len(convolutions)
        layers = {name: self.get_submodule(name) for name in self.layer_names}
        self.style_dims = {
            name: layer.in_channels for name, layer in layers.items() if isinstance(layer, SynthesisLayer | ToRGBLayer)
        }
        self.feature_dims = {
            name: (layer.out_channels, layer.resolution)
            for name, layer in layers.items()
            if isinstance(layer, SynthesisLayer)
        }
        self.bandwidths = {name: side / 2 for name, (_, side) in self.feature_dims.items()}
        self.noise_names = list(self.feature_dims) if config.use_noise else []

    def block(self, resolution: int) -> SynthesisBlock:
        """The layers of one resolution."""
        found = self.get_submodule(f"b{resolution}")
        assert isinstance(found, SynthesisBlock)
        return found

    def _synthesise(
        self, styles: Mapping[str, Tensor], noise: Noise, dtype: torch.dtype, kept: dict[str, Tensor] | None
    ) -> Tensor:
        batch = styles["b4.conv1"].shape[0]
        image: Tensor | None = None
        x = self.block(4).const.to(dtype).expand(batch, -1, -1, -1).contiguous(memory_format=torch.channels_last)

        def convolve(x: Tensor, name: str, gain: float = 1.0) -> Tensor:
            layer = self.get_submodule(name)
            assert isinstance(layer, SynthesisLayer)
            y: Tensor = layer(x, styles[name], self._noise(name, layer, noise, batch), gain)
            if kept is not None:
                kept[name] = y
            return y

        for r in self.config.channels:
            block = self.block(r)
            if hasattr(block, "skip"):
                shortcut = block.skip(x, gain=SQRT_HALF)
                x = convolve(convolve(x, f"b{r}.conv0"), f"b{r}.conv1", SQRT_HALF) + shortcut
            else:
                x = convolve(x if r == 4 else convolve(x, f"b{r}.conv0"), f"b{r}.conv1")
            if image is not None:
                image = upsample(image, block.resample_filter)
            if hasattr(block, "torgb"):
                rgb = block.torgb(x, styles[f"b{r}.torgb"])
                image = rgb if image is None else image + rgb
        assert image is not None
        return image

    def _noise(self, name: str, layer: SynthesisLayer, noise: Noise, batch: int) -> Tensor | None:
        if not layer.use_noise or noise == "none":
            return None
        if noise == "random":
            stored = layer.noise_const
            return torch.randn(batch, 1, *stored.shape, dtype=stored.dtype, device=stored.device)
        if isinstance(noise, str) or name not in noise:
            return layer.noise_const[None, None]
        given, r = noise[name], layer.resolution
        if tuple(given.shape) not in {(r, r), (1, 1, r, r), (batch, 1, r, r)}:
            raise ValueError(f"noise of {name} must have shape ({batch}, 1, {r}, {r}), got {tuple(given.shape)}")
        return given.to(layer.noise_const.dtype).reshape(-1, 1, r, r)


class Generator(StyleGenerator):
    """StyleGAN2's mapping and synthesis networks.

    Parameters
    ----------
    config : GeneratorConfig
        Shape.
    """

    config: GeneratorConfig
    synthesis: SynthesisNetwork

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        self.synthesis = SynthesisNetwork(config)
