"""Read the shape of a network off its state dict, under stylegan2-ada-pytorch's names.

Widths, depths and architecture follow from tensor shapes. Three things leave no trace in a state dict: the clamp of
the activations, the mapping network's learning-rate multiplier and the size of minibatch groups; they are parameters
here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig, resolutions
from ganfoundry.gan.filters import resample_kernel

DEFAULT_FILTER = (1.0, 3.0, 3.0, 1.0)
MAX_LATENT = 8192  # published networks have 512; samples of z are drawn by the thousand

Config = TypeVar("Config", GeneratorConfig, DiscriminatorConfig)


def infer_config(
    state: Mapping[str, Tensor],
    *,
    mapping_lr_multiplier: float = 0.01,
    conv_clamp: float | None = None,
) -> GeneratorConfig:
    """Configuration of a generator.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        State dict with ``mapping.*`` and ``synthesis.*``.
    mapping_lr_multiplier, conv_clamp
        What the tensors do not tell.

    Raises
    ------
    InputError
        If a tensor that every generator has is missing or has the wrong number of dimensions.
    """
    channels = _widths(state, r"synthesis\.b(\d{1,5})\.conv1\.weight", "generator")
    top = max(channels)
    depth = _depth(state, "mapping.")
    fc0 = _shape(state, "mapping.fc0.weight", 2)
    last = _shape(state, f"mapping.fc{depth - 1}.weight", 2)
    embedded, c_dim = _shape(state, "mapping.embed.weight", 2) if "mapping.embed.weight" in state else (0, 0)
    w_dim = last[0]
    if max(fc0[1], w_dim) > MAX_LATENT:
        raise InputError(f"latents of {max(fc0[1], w_dim)} numbers are too long; at most {MAX_LATENT} are supported")
    if top > 4 and "synthesis.b4.torgb.weight" not in state:
        architecture = "resnet" if "synthesis.b8.skip.weight" in state else "orig"
    else:
        architecture = "skip"
    values: dict[str, Any] = {
        "resolution": top,
        "channels": channels,
        "z_dim": fc0[1] - embedded,
        "w_dim": w_dim,
        "c_dim": c_dim,
        "num_mapping_layers": depth,
        "mapping_lr_multiplier": mapping_lr_multiplier,
        "mapping_features": fc0[0] if depth > 1 and fc0[0] != w_dim else None,
        "embed_features": embedded if embedded not in (0, w_dim) else None,
        "architecture": architecture,
        "conv_clamp": conv_clamp,
        "resample_filter": _taps(state, f"synthesis.b{8 if top > 4 else 4}.conv{0 if top > 4 else 1}.resample_filter"),
        "use_noise": "synthesis.b4.conv1.noise_strength" in state,
        "img_channels": _shape(state, f"synthesis.b{top}.torgb.weight", 4)[0],
    }
    return _built(GeneratorConfig, values)


def infer_discriminator_config(
    state: Mapping[str, Tensor],
    *,
    mapping_lr_multiplier: float = 0.01,
    conv_clamp: float | None = None,
    mbstd_group_size: int = 4,
) -> DiscriminatorConfig:
    """Configuration of a residual discriminator; parameters and errors as in :func:`infer_config`."""
    width = _shape(state, "b4.conv.weight", 4)
    channels = {4: width[0]}
    if any(key.startswith("b8.") for key in state):
        channels |= _widths(
            {**state, "b4.conv0.weight": state["b4.conv.weight"]}, r"b(\d{1,5})\.conv0\.weight", "discriminator"
        )
    top = max(channels)
    outputs = _shape(state, "b4.out.weight", 2)[0]
    conditional = "mapping.embed.weight" in state
    values: dict[str, Any] = {
        "resolution": top,
        "channels": channels,
        "c_dim": _shape(state, "mapping.embed.weight", 2)[1] if conditional else 0,
        "cmap_dim": outputs if conditional and outputs != channels[4] else None,
        "num_mapping_layers": _depth(state, "mapping.") if conditional else 8,
        "mapping_lr_multiplier": mapping_lr_multiplier,
        "conv_clamp": conv_clamp,
        "resample_filter": _taps(state, f"b{top}.resample_filter"),
        "img_channels": _shape(state, f"b{top}.fromrgb.weight", 4)[1],
        "mbstd_group_size": mbstd_group_size,
        "mbstd_channels": width[1] - width[0],
    }
    return _built(DiscriminatorConfig, values)


def _built(kind: type[Config], values: dict[str, Any]) -> Config:
    try:
        return kind(**values)
    except ValueError as error:
        raise InputError(f"the tensors are not those of a StyleGAN2 network: {error}") from error


def _shape(state: Mapping[str, Tensor], name: str, ndim: int) -> tuple[int, ...]:
    if name not in state:
        raise InputError(f"the tensors are not those of a StyleGAN2 network: {name} is missing")
    shape = tuple(state[name].shape)
    if len(shape) != ndim:
        raise InputError(f"the tensors are not those of a StyleGAN2 network: {name} has shape {shape}")
    return shape


def _widths(state: Mapping[str, Tensor], pattern: str, kind: str) -> dict[int, int]:
    found = {int(match[1]): name for name in state if (match := re.fullmatch(pattern, name))}
    if not found:
        raise InputError(f"the tensors are not those of a StyleGAN2 {kind}: no name like {pattern} in the file")
    try:
        expected = resolutions(max(found))
    except ValueError as error:
        raise InputError(f"the tensors are not those of a StyleGAN2 {kind}: {error}") from error
    missing = [r for r in expected if r not in found]
    if missing:
        raise InputError(f"the {kind} is incomplete: blocks {', '.join(f'b{r}' for r in missing)} are missing")
    return {r: _shape(state, found[r], 4)[0] for r in expected}


def _depth(state: Mapping[str, Tensor], prefix: str) -> int:
    depth = 0
    while f"{prefix}fc{depth}.weight" in state:
        depth += 1
    if depth == 0:
        raise InputError(f"the tensors are not those of a StyleGAN2 network: {prefix}fc0.weight is missing")
    return depth


def _taps(state: Mapping[str, Tensor], name: str) -> tuple[float, ...]:
    kernel = state.get(name)
    if kernel is None or kernel.ndim != 2 or torch.equal(kernel.float(), resample_kernel(DEFAULT_FILTER)):
        return DEFAULT_FILTER
    return tuple(float(value) for value in kernel.double().sum(dim=1))
