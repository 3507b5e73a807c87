"""Variables of the TensorFlow StyleGAN2 (NVlabs/stylegan2) under stylegan2-ada-pytorch's names.

TensorFlow stores convolutions as (k, k, in, out) and dense layers transposed, the generator's upsampling convolutions
flipped in space, and modulation biases without the 1 that the PyTorch networks store.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.filters import resample_kernel
from ganfoundry.gan.infer import DEFAULT_FILTER, infer_config, infer_discriminator_config

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
_D_LAYERS = {
    "FromRGB": "fromrgb",
    "Conv0": "conv0",
    "Conv1_down": "conv1",
    "Skip": "skip",
    "Conv": "conv",
    "Dense0": "fc",
}
_UNUSED = ("lod",)  # level of detail of the progressive StyleGAN, always 0 here


def generator_parts(
    variables: Mapping[str, Tensor], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Tensor], GeneratorConfig]:
    """State dict and configuration of a pickled generator.

    Parameters
    ----------
    variables : mapping of str to torch.Tensor
        Under TensorFlow names, without the network's scope.
    kwargs : mapping
        The network's static arguments: they hold the filter, the clamp and the mapping's learning-rate multiplier.

    Raises
    ------
    InputError
        If a variable or an argument is not one of a StyleGAN2 generator.
    """
    state = generator_state(variables, _filter(kwargs))
    _expect_leaky_relu(kwargs, "mapping_nonlinearity", "nonlinearity", "act")
    rate, clamp = _number(kwargs, "mapping_lrmul"), _number(kwargs, "conv_clamp")
    return state, infer_config(state, mapping_lr_multiplier=rate or 0.01, conv_clamp=clamp)


def discriminator_parts(
    variables: Mapping[str, Tensor], kwargs: Mapping[str, Any]
) -> tuple[dict[str, Tensor], DiscriminatorConfig]:
    """State dict and configuration of a pickled residual discriminator without labels; as :func:`generator_parts`."""
    state = discriminator_state(variables, _filter(kwargs))
    _expect_leaky_relu(kwargs, "nonlinearity", "act")
    group, clamp = _number(kwargs, "mbstd_group_size"), _number(kwargs, "conv_clamp")
    return state, infer_discriminator_config(state, conv_clamp=clamp, mbstd_group_size=int(group or 4))


def generator_state(
    variables: Mapping[str, Tensor], resample_filter: tuple[float, ...] = DEFAULT_FILTER
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
        if target is None and name not in _UNUSED:
            raise InputError(f"{name[:80]} is not a variable of a TensorFlow StyleGAN2 generator")
        if target is not None:
            native[target] = _converted(name, value, flipped=("Conv0_up", "Skip")).contiguous()
    kernel = resample_kernel(resample_filter)
    for name in [name for name in native if re.fullmatch(r"synthesis\.b\d+\.(conv\d\.bias|skip\.weight)", name)]:
        native[f"{name.rpartition('.')[0]}.resample_filter"] = kernel
        native[f"synthesis.{name.split('.')[1]}.resample_filter"] = kernel
    return native


def discriminator_state(
    variables: Mapping[str, Tensor], resample_filter: tuple[float, ...] = DEFAULT_FILTER
) -> dict[str, Tensor]:
    """Rename and transpose a discriminator's variables; parameters and errors as in :func:`generator_state`."""
    native: dict[str, Tensor] = {}
    for name, value in variables.items():
        output = re.fullmatch(r"Output/(weight|bias)", name)
        match = re.fullmatch(r"(\d{1,5})x\1/(\w+)/(weight|bias)", name)
        if output:
            native[f"b4.out.{output[1]}"] = _converted(name, value).contiguous()
        elif match and match[2] in _D_LAYERS:
            native[f"b{match[1]}.{_D_LAYERS[match[2]]}.{match[3]}"] = _converted(name, value).contiguous()
        elif name not in _UNUSED:
            raise InputError(f"{name[:80]} is not a variable of a TensorFlow StyleGAN2 discriminator")
    kernel = resample_kernel(resample_filter)
    native |= {f"b{match[1]}.resample_filter": kernel for name in native if (match := re.match(r"b(\d+)\.skip", name))}
    for name in [name for name in native if re.search(r"\.(conv\d?|skip|fromrgb)\.weight$", name)]:
        native[f"{name.rpartition('.')[0]}.resample_filter"] = kernel
    return native


def _filter(kwargs: Mapping[str, Any]) -> tuple[float, ...]:
    """Taps of the resampling filter."""
    taps = kwargs.get("resample_kernel")
    if taps is None:
        return DEFAULT_FILTER
    if type(taps) is not list or not 2 <= len(taps) <= 16 or any(type(tap) not in (int, float) for tap in taps):
        raise InputError("the file's resample_kernel is not a list of 2 to 16 numbers")
    try:
        resample_kernel(taps)
    except ValueError as error:
        raise InputError(str(error)) from error
    return tuple(float(tap) for tap in taps)


def _number(kwargs: Mapping[str, Any], name: str) -> float | None:
    """A positive number of the network's arguments, None where they do not say."""
    value = kwargs.get(name)
    if value is not None and not (type(value) in (int, float) and 0 < value < 1e9):
        raise InputError(f"the file says {name} = {str(value)[:20]}, which is not a positive number")
    return value


def _expect_leaky_relu(kwargs: Mapping[str, Any], *names: str) -> None:
    wrong = [f"{name} {str(kwargs[name])[:20]}" for name in names if kwargs.get(name, "lrelu") != "lrelu"]
    if wrong:
        raise InputError(f"{wrong[0]} is not supported, only lrelu")


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


def _converted(name: str, value: Tensor, *, flipped: tuple[str, ...] = ()) -> Tensor:
    """A variable in PyTorch's layout; convolutions of the layers ``flipped`` are turned by 180 degrees."""
    part = name.rpartition("/")[2]
    if part == "mod_bias":
        return value + 1
    if part == "const" and value.ndim == 4 and value.shape[0] == 1:
        return value[0]
    if re.fullmatch(r"noise\d+", part) and value.ndim == 4 and tuple(value.shape[:2]) == (1, 1):
        return value[0, 0]
    if part in ("weight", "mod_weight") and value.ndim == 2:
        return value.t()
    if part == "weight" and value.ndim == 4:
        turned = name.split("/")[-2] in flipped
        return (value.flip(0, 1) if turned else value).permute(3, 2, 0, 1)
    return value  # of another shape, which is reported with its native name
