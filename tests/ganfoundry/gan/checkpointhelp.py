"""A small generator and discriminator, and a golden file in rosinality's format."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganfoundry.gan import formats
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.stylegan2 import Generator

PT = Path(__file__).parents[2] / "golden" / "ros_32_asym.pt"
CHANNELS = {4: 6, 8: 5}


def networks() -> tuple[Generator, Discriminator]:
    generator = Generator(
        GeneratorConfig(
            resolution=8, channels=CHANNELS, z_dim=4, w_dim=6, conv_clamp=3.0, resample_filter=(1, 2, 4, 1.5)
        )
    )
    generator.w_avg.normal_()
    return generator, Discriminator(DiscriminatorConfig(resolution=8, channels=CHANNELS, mbstd_group_size=2))


def pt_file(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def golden_state() -> dict[str, Tensor]:
    return dict(formats.read_pt(PT)["g_ema"])
