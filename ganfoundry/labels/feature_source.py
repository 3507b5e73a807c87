"""Where feature maps come from: a StyleGAN of this library, or any torch module with named submodules.

The interpreter needs images and the feature maps behind them, by name. The synthesis networks of
:mod:`ganfoundry.gan` give both; :class:`HookedNetwork` makes the same of any module by forward hooks (a diffusion
model's decoder, another project's generator).

A name that ends in ``:raw`` is a StyleGAN2 convolution before noise, bias and activation, which DatasetGAN's released
code reads beside the layer's output. It is computed back from the output, since the leaky ReLU loses nothing.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ganfoundry.errors import InputError
from ganfoundry.gan.layers import SLOPE, SQRT2, SQRT_HALF
from ganfoundry.gan.modulation import SynthesisLayer

RAW = ":raw"


class FeatureSource(Protocol):
    """What makes images and their feature maps of latents: ``StyleSynthesis`` and :class:`HookedNetwork`."""

    feature_dims: dict[str, tuple[int, int]]  # name -> channels, side

    def __call__(self, w: Tensor, *, noise: Any = "const", features: Sequence[str] | None = None) -> Any:
        """Images (N, 3, R, R) in [-1, 1], with `features` also {name: (N, C, r, r)}."""


class HookedNetwork(nn.Module):
    """Any module that maps latents to images, as a source of feature maps.

    Parameters
    ----------
    network : torch.nn.Module
        Called with the latents (N, ...) alone; gives images (N, 3, R, R) in [-1, 1], R square. It must give the same
        image for the same latent: set it to evaluation mode, fix its noise.
    layers : names of submodules (as in ``network.named_modules()``) whose output is a map (N, C, r, r)
    example : (1, ...) latents, to find out channels and sides

    Raises
    ------
    InputError
        If a name is unknown, or a submodule's output is no square feature map, or is made more than once a call.
    """

    def __init__(self, network: nn.Module, layers: Sequence[str], example: Tensor) -> None:
        super().__init__()
        self.network = network
        known = dict(network.named_modules())
        unknown = [name for name in layers if not name or name not in known]
        if unknown:
            raise InputError(f"the network has no submodule {unknown[0]!r}; there are {', '.join(filter(None, known))}")
        with torch.inference_mode():
            _, maps = self._run(example, layers)
        self.feature_dims = {name: (maps[name].shape[1], maps[name].shape[-1]) for name in layers}

    def forward(self, w: Tensor, *, noise: Any = "const", features: Sequence[str] | None = None) -> Any:
        """Images of latents, with `features` also the maps by name; `noise` is the network's own affair."""
        del noise
        image, maps = self._run(w, features or ())
        return image if features is None else (image, maps)

    def _run(self, w: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        found: dict[str, Tensor] = {}

        def keep(name: str, output: Any) -> None:
            if not isinstance(output, Tensor) or output.ndim != 4 or output.shape[-1] != output.shape[-2]:
                raise InputError(f"{name} gives no square feature map (N, C, r, r); name another submodule")
            if name in found:
                raise InputError(f"{name} is called more than once for an image; name a submodule that is called once")
            found[name] = output

        with ExitStack() as stack:
            for name in layers:
                module = self.network.get_submodule(name)
                hook = module.register_forward_hook(lambda _m, _i, output, name=name: keep(name, output))
                stack.callback(hook.remove)
            image = self.network(w)
        missing = [name for name in layers if name not in found]
        if missing:
            raise InputError(f"{missing[0]} is not called when the network makes an image; name another submodule")
        return image, {name: found[name] for name in layers}


def images_and_maps(source: FeatureSource, w: Tensor, layers: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
    """Images of latents with stored noise, and feature maps by name, where ``:raw`` names are allowed.

    Raises
    ------
    InputError
        If a raw map is asked of something that is no StyleGAN2 convolution.
    """
    outputs = list(dict.fromkeys(name.removesuffix(RAW) for name in layers))
    image, maps = source(w, noise="const", features=outputs)
    return image, {
        name: _raw(source, name.removesuffix(RAW), maps) if name.endswith(RAW) else maps[name] for name in layers
    }


def layers_of(source: FeatureSource, rule: str) -> list[str]:
    """Names of the feature maps that a preset reads.

    Parameters
    ----------
    source : FeatureSource
    rule : "all" (every layer's output, the paper's "all AdaIN outputs") or "second-and-raw"
        The released code's: of every resolution the output of its second convolution and that convolution before noise
        and activation. For networks without such pairs every layer is read.
    """
    names = list(source.feature_dims)
    second = [name for name in names if name.endswith(".conv1")]
    if rule == "all" or not second or not isinstance(_layer(source, second[0]), SynthesisLayer):
        return names
    return [name for conv in second for name in (conv, conv + RAW)]


def _layer(source: FeatureSource, name: str) -> nn.Module | None:
    return dict(source.named_modules()).get(name) if isinstance(source, nn.Module) else None


def _raw(source: FeatureSource, name: str, maps: Mapping[str, Tensor]) -> Tensor:
    """The convolution behind a layer's output y = lrelu(gain sqrt(2) (conv + noise + bias)), exact but for a clamp."""
    layer = _layer(source, name)
    if not isinstance(layer, SynthesisLayer):
        raise InputError(f"{name}{RAW} is only known for StyleGAN2's convolutions; name the layer without {RAW}")
    y = maps[name].float()
    residual = getattr(getattr(source, "config", None), "architecture", "") == "resnet" and name.endswith("conv1")
    gain = SQRT2 * (SQRT_HALF if residual and name != "b4.conv1" else 1.0)
    before = torch.where(y < 0, y / SLOPE, y) / gain - layer.bias[:, None, None]
    return before - layer.noise_const * layer.noise_strength if layer.use_noise else before
