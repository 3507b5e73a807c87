"""Networks from state dicts: every name, shape and value is checked before a network is believed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan import rosinality
from ganfoundry.gan.config import GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.generator import StyleGenerator

Network = TypeVar("Network", bound=StyleGenerator | Discriminator)


def filled(path: Path, kind: type[Network], config: Any, state: Mapping[str, Tensor], *, copy: bool = True) -> Network:
    """Network in evaluation mode with the tensors of a state dict, in float32.

    Parameters
    ----------
    path : Path
        The file, for messages.
    kind : type
        Generator (of StyleGAN2 or 3) or Discriminator.
    config : GeneratorConfig, StyleGAN3Config or DiscriminatorConfig
        Its shape.
    state : mapping of str to torch.Tensor
        Its tensors; ``mapping.w_avg`` may be missing and is zero then.
    copy : bool
        Whether they are copied: converted states may share memory between names.

    Raises
    ------
    InputError
        If a tensor is missing, unknown, of another shape, not of real numbers or not finite.
    """
    try:
        with torch.device("meta"):  # no memory is spent on a size that the file only claims
            network = kind(config)
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:  # sizes that no tensor can have
        raise InputError(f"{path} does not hold a usable network ({error}); get the file again") from error
    expected = network.state_dict()
    problems = find_problems(expected, state)
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise InputError(f"{path} does not hold a whole network: {'; '.join(problems[:3])}{more}; get the file again")
    values = {name: state.get(name, torch.zeros(()).expand(like.shape)) for name, like in expected.items()}
    own = {name: value.to(torch.float32, copy=copy).contiguous() for name, value in values.items()}
    network.load_state_dict(own, assign=True)
    network.eval().requires_grad_(False)
    return network


def find_problems(expected: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> list[str]:
    """Sentences about what differs between the tensors of a network and those of a file."""
    found = [f"{name} is missing" for name in expected if name not in state and name != "mapping.w_avg"]
    found += [f"{name} is not part of one" for name in state if name not in expected]
    for name, value in state.items():
        if name in expected and value.shape != expected[name].shape:
            found.append(f"{name} is {tuple(value.shape)} instead of {tuple(expected[name].shape)}")
        elif not value.is_floating_point():
            found.append(f"{name} holds {value.dtype}")
        elif not torch.isfinite(value.float()).all():
            found.append(f"{name} holds values that are not finite")
    return found


def estimate_average(generator: StyleGenerator) -> str:
    """Fill in the mean w of a generator whose file has none; returns a note about it."""
    config = generator.config
    if config.c_dim:
        return "the file has no mean w: truncation pulls towards zero"
    generator.w_avg.copy_(rosinality.average_from_samples(generator.mapping, config.z_dim))
    return "the file has no mean w: taken from 4,096 samples"


def describe(generator: StyleGenerator) -> str:
    """One line about a generator: kind, resolution, latents, parameters."""
    config = generator.config
    count = sum(value.numel() for value in generator.parameters())
    condition = f", {config.c_dim} classes" if config.c_dim else ""
    if isinstance(config, GeneratorConfig):
        kind = f"StyleGAN2 ({config.architecture})"
    else:
        kind = f"StyleGAN3 ({config.conv_kernel}x{config.conv_kernel} convolutions, {config.num_layers} layers)"
    return (
        f"{kind}, {config.resolution} px, z {config.z_dim}, w {config.w_dim}{condition}, "
        f"{generator.num_ws} layers of w, {count / 1e6:.2f} M parameters"
    )
