"""Small networks, and the arguments that NVIDIA's files keep beside them."""

from typing import Any

import torch
from torch import Tensor, nn

from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.stylegan2 import Generator
from tests.ganfoundry.gan.picklehelp import (
    EasyDict,
)


def widths(resolution: int, multiplier: int) -> dict[int, int]:
    return {r: max(2, multiplier * 24 // r) for r in (4, 8, 16, 32, 64) if r <= resolution}


def generator_of(resolution: int = 8, depth: int = 2, multiplier: int = 1, c_dim: int = 0, **more: Any) -> Generator:
    config = GeneratorConfig(
        resolution=resolution,
        channels=widths(resolution, multiplier),
        num_mapping_layers=depth,
        c_dim=c_dim,
        **{"z_dim": 4, "w_dim": 6, "conv_clamp": 256.0, "mapping_lr_multiplier": 0.02, **more},
    )
    generator = Generator(config)
    generator.w_avg.normal_()
    return generator


def discriminator_of(generator: Generator, **more: Any) -> Discriminator:
    config = generator.config
    shape = {"resolution": config.resolution, "channels": config.channels, "c_dim": config.c_dim}
    return Discriminator(DiscriminatorConfig(**shape, **more))


def ada_kwargs(config: GeneratorConfig) -> EasyDict:
    """Arguments as stylegan2-ada-pytorch nests them."""
    return EasyDict(
        z_dim=config.z_dim,
        c_dim=config.c_dim,
        w_dim=config.w_dim,
        img_resolution=config.resolution,
        img_channels=3,
        mapping_kwargs=EasyDict(num_layers=config.num_mapping_layers, lr_multiplier=config.mapping_lr_multiplier),
        synthesis_kwargs=EasyDict(channel_base=32768, conv_clamp=config.conv_clamp),
    )


def flat_kwargs(config: GeneratorConfig) -> dict[str, Any]:
    """Arguments as stylegan3 passes them."""
    kwargs = ada_kwargs(config)
    return {**kwargs, **kwargs.pop("synthesis_kwargs"), "fused_modconv_default": "inference_only"}


def equal(state: dict[str, Tensor], network: nn.Module) -> bool:
    expected = network.state_dict()
    same = [torch.equal(state[name], value) and state[name].dtype == value.dtype for name, value in expected.items()]
    return set(state) == set(expected) and all(same)


def same_network(a: nn.Module, b: nn.Module) -> bool:
    return equal(a.state_dict(), b) and a.config == b.config
