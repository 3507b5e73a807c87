"""State dicts of rosinality/stylegan2-pytorch under stylegan2-ada-pytorch's names.

Both networks compute the same function; names and shapes differ. rosinality multiplies convolution weights by
1 / sqrt(fan_in), which demodulation cancels, and stores FIR kernels for upsampling with their gain of 4.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.filters import resample_kernel

_LAYER = {
    "conv.weight": "weight",
    "conv.modulation.weight": "affine.weight",
    "conv.modulation.bias": "affine.bias",
    "noise.weight": "noise_strength",
    "activate.bias": "bias",
    "bias": "bias",
}


def is_rosinality(state: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of rosinality's generator."""
    return "input.input" in state and "conv1.conv.weight" in state


def generator_state(state: Mapping[str, Tensor], latent_avg: Tensor | None = None) -> dict[str, Tensor]:
    """Rename and reshape a generator's tensors.

    Parameters
    ----------
    state : mapping of str to torch.Tensor
        ``g_ema`` of a checkpoint.
    latent_avg : torch.Tensor, optional
        Centre of truncation, (w_dim,) or (1, w_dim); without it ``mapping.w_avg`` is left out.

    Returns
    -------
    dict of str to torch.Tensor
        Views of the given tensors where possible.

    Raises
    ------
    InputError
        If a name is not one of such a generator.
    """
    native: dict[str, Tensor] = {}
    for name, value in state.items():
        target = _generator_name(name)
        if target is None:
            raise InputError(f"{name} is not a tensor of a stylegan2-pytorch generator; give its g_ema state")
        native[target] = _reshaped(target, value)
    default = resample_kernel((1, 3, 3, 1))
    for name in [name for name in native if re.fullmatch(r"synthesis\.b\d+\.conv\d\.bias", name)]:
        layer = name.rpartition(".")[0]
        native.setdefault(f"{layer}.resample_filter", default)
        native.setdefault(f"{layer.rpartition('.')[0]}.resample_filter", default)
    if latent_avg is not None:
        native["mapping.w_avg"] = latent_avg.reshape(-1)
    return native


def discriminator_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename a discriminator's tensors (``d`` of a checkpoint).

    Raises
    ------
    InputError
        If a name is not one of such a discriminator.
    """
    blocks = [int(match[1]) for name in state if (match := re.fullmatch(r"convs\.(\d{1,2})\.conv1\.0\.weight", name))]
    if not blocks:
        raise InputError("the tensors are not those of a stylegan2-pytorch discriminator: no convs.1.conv1.0.weight")
    top = 4 << max(blocks)
    native = {"b4.conv.resample_filter": resample_kernel((1, 3, 3, 1))}
    for name, value in state.items():
        target = _discriminator_name(name, top)
        if target is None:
            raise InputError(f"{name} is not a tensor of a stylegan2-pytorch discriminator")
        native[target] = value
    for r in [4 << i for i in range(1, max(blocks) + 1)]:
        kernel = native.get(f"b{r}.conv1.resample_filter", native["b4.conv.resample_filter"])
        for module in ("", "conv0.", "conv1.", "skip.", *(["fromrgb."] if r == top else [])):
            native.setdefault(f"b{r}.{module}resample_filter", kernel)
    return native


def _generator_name(name: str) -> str | None:
    """Native name of a generator's tensor."""
    if match := re.fullmatch(r"style\.(\d{1,2})\.(weight|bias)", name):
        return f"mapping.fc{int(match[1]) - 1}.{match[2]}"
    if name == "input.input":
        return "synthesis.b4.const"
    if match := re.fullmatch(r"noises\.noise_(\d{1,2})", name):
        index = int(match[1])
        return f"synthesis.{_convolution(index)}.noise_const"
    if match := re.fullmatch(r"convs\.(\d{1,2})\.conv\.blur\.kernel", name):
        return f"synthesis.{_convolution(int(match[1]) + 1)}.resample_filter"
    if match := re.fullmatch(r"to_rgbs\.(\d{1,2})\.upsample\.kernel", name):
        return f"synthesis.b{8 << int(match[1])}.resample_filter"
    if match := re.fullmatch(r"(conv1|convs\.(\d{1,2})|to_rgb1|to_rgbs\.(\d{1,2}))\.(.+)", name):
        if match[4] not in _LAYER:
            return None
        if match[1].startswith("to_rgb"):
            layer = f"b{4 if match[3] is None else 8 << int(match[3])}.torgb"
        else:
            layer = _convolution(0 if match[2] is None else int(match[2]) + 1)
        return f"synthesis.{layer}.{_LAYER[match[4]]}"
    return None


def _convolution(index: int) -> str:
    """Name of the index-th convolution: b4.conv1, b8.conv0, b8.conv1, b16.conv0, ..."""
    return f"b{4 << (index + 1) // 2}.conv{(index + 1) % 2}"


def _reshaped(target: str, value: Tensor) -> Tensor:
    if target.endswith("resample_filter"):
        return value / 4
    if target.endswith("noise_strength"):
        return value.reshape(())
    if target.endswith("noise_const"):
        return value.reshape(value.shape[-2:])
    if target.endswith("torgb.bias"):
        return value.reshape(-1)
    if target == "synthesis.b4.const" or re.search(r"(conv\d|torgb)\.weight$", target):
        return value[0] if value.ndim and value.shape[0] == 1 else value
    return value


def _discriminator_name(name: str, top: int) -> str | None:
    """Native name of a discriminator's tensor."""
    fixed = {
        "convs.0.0.weight": f"b{top}.fromrgb.weight",
        "convs.0.1.bias": f"b{top}.fromrgb.bias",
        "final_conv.0.weight": "b4.conv.weight",
        "final_conv.1.bias": "b4.conv.bias",
        "final_linear.0.weight": "b4.fc.weight",
        "final_linear.0.bias": "b4.fc.bias",
        "final_linear.1.weight": "b4.out.weight",
        "final_linear.1.bias": "b4.out.bias",
    }
    parts = {
        "conv1.0.weight": "conv0.weight",
        "conv1.1.bias": "conv0.bias",
        "conv2.0.kernel": "conv1.resample_filter",
        "conv2.1.weight": "conv1.weight",
        "conv2.2.bias": "conv1.bias",
        "skip.0.kernel": "skip.resample_filter",
        "skip.1.weight": "skip.weight",
    }
    if name in fixed:
        return fixed[name]
    match = re.fullmatch(r"convs\.(\d{1,2})\.(.+)", name)
    if match and match[2] in parts:
        return f"b{top >> int(match[1]) - 1}.{parts[match[2]]}"
    return None


def average_from_samples(mapping: torch.nn.Module, z_dim: int, count: int = 4096) -> Tensor:
    """Mean w (w_dim,) of ``count`` seeded z, for files without a centre of truncation."""
    z = torch.randn(count, z_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean: Tensor = mapping(z).mean(dim=0)
    return mean
