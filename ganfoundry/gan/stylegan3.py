"""The StyleGAN3 generator (arXiv:2106.12423), configurations T and R, in plain PyTorch; inference only.

It has the outside of :class:`ganfoundry.gan.stylegan2.Generator`. What differs:

- There is no noise: ``noise_names`` is empty.
- The first entry of ``layer_names`` is ``input``: its style vector (4) turns and moves the whole picture.
- Layer outputs reach beyond the image. Features are cut to the image, so that a map of side s shows what an image of
  side s would; they have ``sampling_rate`` samples a side, 16 and more.
- Weights and filters come from a checkpoint. Nothing keeps ``magnitude_ema`` up to date and a new network has empty
  filters, so ``train()`` is refused.

State names are those of NVlabs/stylegan3. Everything is differentiable.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.filling import filled
from ganfoundry.gan.generator import Noise, StyleGenerator, StyleSynthesis
from ganfoundry.gan.stylegan3_config import StyleGAN3Config, layer_geometry, signals
from ganfoundry.gan.stylegan3_layers import SynthesisInput, SynthesisLayer

__all__ = ["Generator", "StyleGAN3Config", "SynthesisNetwork", "config_from_reference", "from_reference"]

_RENAMED = {"img_resolution": "resolution"}
_MAPPING = {"num_layers": "num_mapping_layers", "lr_multiplier": "mapping_lr_multiplier"}
# Settings of the published classes that change training, or speed on a GPU, but not a float32 image.
_WITHOUT_EFFECT = {"num_fp16_res", "magnitude_ema_beta", "w_avg_beta"}


class SynthesisNetwork(StyleSynthesis):
    """StyleGAN3's synthesis network.

    Layers are named ``input``, ``L0_36_512``, ...: index, side with margins, channels.

    Parameters
    ----------
    config : StyleGAN3Config
        Shape.
    """

    config: StyleGAN3Config
    input: SynthesisInput

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__()
        self.config = config
        self.num_ws = config.num_ws
        self.input = SynthesisInput(config.w_dim, signals(config)[0])
        geometry = layer_geometry(config)
        for layer in geometry:
            self.add_module(layer.name, SynthesisLayer(layer, config))
        self.layer_names = ["input", *(layer.name for layer in geometry)]
        self.style_dims = {"input": self.input.in_channels}
        self.style_dims |= {layer.name: layer.source.channels for layer in geometry}
        self.w_index = {name: index for index, name in enumerate(self.layer_names)}
        convolutions = geometry[:-1]
        self.feature_dims = {layer.name: (layer.target.channels, layer.target.sampling_rate) for layer in convolutions}
        self.bandwidths = {layer.name: layer.target.cutoff for layer in convolutions}
        self.noise_names = []

    def _synthesise(
        self, styles: Mapping[str, Tensor], noise: Noise, dtype: torch.dtype, kept: dict[str, Tensor] | None
    ) -> Tensor:
        x = self.input(styles["input"]).to(dtype).contiguous(memory_format=torch.channels_last)
        for name in self.layer_names[1:]:
            x = self.get_submodule(name)(x, styles[name])
            if kept is not None and name in self.feature_dims:
                side = self.feature_dims[name][1]
                first = (x.shape[-1] - side) // 2
                kept[name] = x[:, :, first : first + side, first : first + side]
        image: Tensor = x.to(styles["input"].dtype) * self.config.output_scale
        return image


class Generator(StyleGenerator):
    """StyleGAN3's mapping and synthesis networks, for inference.

    Parameters
    ----------
    config : StyleGAN3Config
        Shape. A generator with weights is made by ``load_gan`` or :func:`from_reference`.
    """

    config: StyleGAN3Config
    synthesis: SynthesisNetwork

    def __init__(self, config: StyleGAN3Config) -> None:
        super().__init__(config)
        self.synthesis = SynthesisNetwork(config)
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """Refuse training; ``eval()`` is allowed.

        Raises
        ------
        InputError
            If ``mode`` is true.
        """
        if mode:
            raise InputError("a StyleGAN3 generator can be used but not trained here; train-gan makes StyleGAN2 ones")
        return super().train(False)


def config_from_reference(kwargs: Mapping[str, Any]) -> StyleGAN3Config:
    """Configuration from the arguments of NVlabs/stylegan3's ``networks_stylegan3.Generator``.

    Parameters
    ----------
    kwargs : mapping
        ``z_dim``, ``img_resolution``, ...; those of the synthesis network beside them or under ``synthesis_kwargs``,
        those of the mapping network under ``mapping_kwargs``.

    Raises
    ------
    InputError
        If an argument is missing, unknown or out of range.
    """
    values = {**kwargs, **kwargs.get("synthesis_kwargs", {})}
    mapping = dict(values.pop("mapping_kwargs", {}))
    values.pop("synthesis_kwargs", None)
    named = {_RENAMED.get(name, name): value for name, value in values.items() if name not in _WITHOUT_EFFECT}
    unknown = [f"mapping_kwargs.{name}" for name in mapping if name not in _MAPPING and name not in _WITHOUT_EFFECT]
    unknown += [name for name in named if name not in StyleGAN3Config.__dataclass_fields__]
    if unknown:
        raise InputError(
            f"a StyleGAN3 generator with the settings {', '.join(unknown)} cannot be read: they are unknown"
        )
    named |= {_MAPPING[name]: value for name, value in mapping.items() if name in _MAPPING}
    try:
        plain = {name: _plain(value, str(StyleGAN3Config.__annotations__[name])) for name, value in named.items()}
        return StyleGAN3Config(**plain)
    except (TypeError, ValueError) as error:
        raise InputError(f"the settings of the StyleGAN3 generator are incomplete or wrong: {error}") from error


def _plain(value: Any, kind: str) -> Any:
    """Python's number for one that may be numpy's."""
    if value is None or isinstance(value, str):
        if kind == "float | None" and value is None:
            return None
        raise ValueError(f"{str(value)[:20]!r} is not a number")
    if kind == "bool":
        return bool(value)
    number = float(value)
    if kind != "int":
        return number
    if not number.is_integer():
        raise ValueError(f"{number} is not a whole number")
    return int(number)


def from_reference(
    kwargs: Mapping[str, Any], state: Mapping[str, Tensor], path: Path = Path("the checkpoint")
) -> Generator:
    """Generator from arguments and state dict of NVlabs/stylegan3's ``networks_stylegan3.Generator``.

    Parameters
    ----------
    kwargs : mapping
        As for :func:`config_from_reference`.
    state : mapping of str to torch.Tensor
        ``mapping.fc0.weight``, ``synthesis.input.freqs``, ``synthesis.L0_36_512.up_filter``, ...: parameters and
        buffers; they are copied.
    path : Path
        Where they come from, for messages.

    Returns
    -------
    Generator
        float32, in evaluation mode, without gradients.

    Raises
    ------
    InputError
        If the settings are wrong, or names, shapes or values of the tensors do not fit them.
    """
    return filled(path, Generator, config_from_reference(kwargs), state)
