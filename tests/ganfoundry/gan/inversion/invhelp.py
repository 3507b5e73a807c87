"""A small generator with a discriminator whose pictures depend much on w, and samples of it."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.gan.checkpoints import LoadedGan, load_gan, save_gan
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.latents import content_codes
from ganfoundry.gan.stylegan2 import Generator
from ganfoundry.images import stored_images

CHANNELS = {4: 8, 8: 8, 16: 8}


def write_gan(folder: Path, *, seed: int = 0, discriminator: bool = True, c_dim: int = 0) -> Path:
    """A random generator of 16 px pictures in a folder."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    generator = Generator(
        GeneratorConfig(
            resolution=16, channels=CHANNELS, z_dim=8, w_dim=8, c_dim=c_dim, num_mapping_layers=2,
            mapping_lr_multiplier=1.0,
        )
    )  # fmt: skip
    critic = Discriminator(DiscriminatorConfig(resolution=16, channels=CHANNELS, c_dim=c_dim))
    save_gan(folder, generator, critic if discriminator else None, {"name": "tiny"})
    return folder


def tiny_gan(folder: Path, *, seed: int = 0, discriminator: bool = True, c_dim: int = 0) -> LoadedGan:
    """The same, loaded."""
    return load_gan(write_gan(folder, seed=seed, discriminator=discriminator, c_dim=c_dim))


def samples(gan: LoadedGan, count: int) -> tuple[Tensor, NDArray[np.uint8]]:
    """W (n, 8) that no training draws, and their pictures (n, 16, 16, 3)."""
    w = content_codes(gan.generator, range(1000, 1000 + count), 1.0)
    with torch.no_grad():
        return w, stored_images(gan.generator.synthesis(w))
