"""Variables of the TensorFlow StyleGAN2 (NVlabs/stylegan2) under stylegan2-ada-pytorch's names.

TensorFlow stores convolutions as (k, k, in, out) and dense layers transposed, the upsampling convolutions flipped in
space, and modulation biases without the 1 that the PyTorch networks store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.filters import resample_kernel

_FIXED = {
    "dlatent_avg": "mapping.w_avg",
    "mapping/LabelEmbed/weight": "mapping.embed.weight",
    "mapping/LabelEmbed/bias": "mapping.embed.bias",
    "synthesis/4x4/Const/const": "synthesis.b4.const",
}
_LAYERS = {"Conv": "conv1", "Conv0_up": "conv0", "Conv1": "conv1", "ToRGB": "torgb", "Skip": "skip"}
_PARTS = {
    "weight": "weight",
    "bias": "bias",
    "noise_strength": "noise_strength",
    "mod_weight": "affine.weight",
    "mod_bias": "affine.bias",
}


def generator_state(
    variables: Mapping[str, Tensor], resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
) -> dict[str, Tensor]:
    """Rename, transpose and flip a generator's variables.

    Parameters
    ----------
    variables : mapping of str to torch.Tensor
        Under TensorFlow names, without the network's scope.
    resample_filter : tuple of float
        Taps; TensorFlow keeps them in the network's arguments, not in a variable.

    Returns
    -------
    dict of str to torch.Tensor
        Contiguous.

    Raises
    ------
    InputError
        If a name is not one of such a generator.
    """
    native: dict[str, Tensor] = {}
    for name, value in variables.items():
        target = _name(name)
        if target is None:
            raise InputError(f"{name} is not a variable of a TensorFlow StyleGAN2 generator; give the network Gs")
        native[target] = _converted(name, value).contiguous()
    kernel = resample_kernel(resample_filter)
    for name in [name for name in native if re.fullmatch(r"synthesis\.b\d+\.(conv\d\.bias|skip\.weight)", name)]:
        native[f"{name.rpartition('.')[0]}.resample_filter"] = kernel
        native[f"synthesis.{name.split('.')[1]}.resample_filter"] = kernel
    return native


def _name(name: str) -> str | None:
    if name in _FIXED:
        return _FIXED[name]
    if match := re.fullmatch(r"mapping/Dense(\d{1,2})/(weight|bias)", name):
        return f"mapping.fc{match[1]}.{match[2]}"
    if match := re.fullmatch(r"synthesis/noise(\d{1,2})", name):
        index = int(match[1])
        return f"synthesis.b{4 << (index + 1) // 2}.conv{(index + 1) % 2}.noise_const"
    match = re.fullmatch(r"synthesis/(\d{1,5})x\1/(\w+)/(\w+)", name)
    if match and match[2] in _LAYERS and match[3] in _PARTS:
        return f"synthesis.b{match[1]}.{_LAYERS[match[2]]}.{_PARTS[match[3]]}"
    return None


def _converted(name: str, value: Tensor) -> Tensor:
    part = name.rpartition("/")[2]
    if part == "mod_bias":
        return value + 1
    if part == "const" or re.fullmatch(r"noise\d+", part):
        return value.reshape(value.shape[1 if part == "const" else 2 :])
    if part == "mod_weight" or (part == "weight" and value.ndim == 2):
        return value.t()
    if part == "weight":
        flipped = re.search(r"/(Conv0_up|Skip)/", name) is not None
        return (value.flip(0, 1) if flipped else value).permute(3, 2, 0, 1)
    return torch.as_tensor(value)
