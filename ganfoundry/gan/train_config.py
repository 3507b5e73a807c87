"""Recipe of a training run: every option, checked before anything is computed."""

import math
from dataclasses import dataclass
from pathlib import Path

from ganfoundry import weights
from ganfoundry.errors import InputError
from ganfoundry.gan.augment import parse_policy
from ganfoundry.gan.config import not_finite

GROUP_SIZE = 4  # images that the discriminator's minibatch standard deviation compares
UPDATES = ("alternating", "simultaneous")
DISCRIMINATORS = ("stylegan2", "projected")
# Options that a checkpoint's tensors depend on: never to be changed.
ARCHITECTURE = {
    "resolution",
    "z_dim",
    "w_dim",
    "mapping_layers",
    "noise",
    "generator_channels",
    "discriminator_channels",
    "discriminator",
}
# Options that may differ between a run and its continuation: they decide when it ends and how it is computed.
FREE_OPTIONS = {"kimg", "minutes", "processes", "device", "checkpoint_minutes", "sample_kimg", "log_steps"}
FREE_OPTIONS |= {"fd_samples", "fd_features", "world", "patience_kimg", "tensorboard"}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Recipe of one training run; the defaults are for 64 px on two CPU cores.

    Raises
    ------
    InputError
        If a value is out of range; the sentence names it.
    """

    resolution: int = 64
    z_dim: int = 64
    w_dim: int = 128
    mapping_layers: int = 4
    generator_channels: str = "128,128,96,64,32"  # at 4, 8, 16, ... px
    discriminator_channels: str = "128,128,96,64,32"
    kimg: float = 600.0  # thousands of images shown to the discriminator
    minutes: float = 0.0  # of this call; 0: no limit
    batch: int = 16  # of all processes together
    learning_rate: float = 0.0025
    r1_gamma: float = 0.1
    r1_interval: int = 16
    r1_precision: str = "fp32"  # of its second derivatives; bf16 is faster and a few per cent too small
    path_weight: float = 0.0  # 2 in StyleGAN2; 0: off
    path_interval: int = 8
    path_decay: float = 0.01
    style_mixing: float = 0.9
    noise: bool = True  # of StyleGAN2's layers
    mirror: bool = True
    augment: str = "none"
    augment_target: float = 0.0  # share of real logits above zero, minus those below, that the strength is steered to
    discriminator: str = "stylegan2"  # "projected": heads on frozen ImageNet features, hinge losses, no R1
    update: str = "alternating"  # "simultaneous": both networks learn from one batch of generated images
    ema_kimg: float = 5.0
    ema_rampup: float = 0.05
    precision: str = "bf16"
    seed: int = 0
    processes: int = 1
    device: str = "auto"
    checkpoint_minutes: float = 5.0
    sample_kimg: float = 20.0
    log_steps: int = 50
    fd_samples: int = 0  # of the Frechet distance at each grid of samples; 0: none
    fd_features: str = "annotator"  # of the network that ships for `world`, or "imagenet"
    world: str = ""  # of the images; empty: none that is known
    patience_kimg: float = 0.0  # without a lower Frechet distance; 0: no early stop
    tensorboard: bool = False

    def __post_init__(self) -> None:
        parse_policy(self.augment)
        _require(not not_finite(self), f"not finite: {', '.join(not_finite(self))}")
        sides = math.log2(self.resolution) if self.resolution > 0 else 0.5
        _require(sides.is_integer() and sides >= 3, f"resolution {self.resolution} is not a power of two from 8 up")
        for name in ("generator_channels", "discriminator_channels"):
            channel_map(getattr(self, name), self.resolution, name)
        for name in ("kimg", "learning_rate", "ema_kimg", "ema_rampup", "checkpoint_minutes", "sample_kimg"):
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}, it must be above 0")
        for name in ("minutes", "r1_gamma", "r1_interval", "path_weight", "seed"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}, it must not be negative")
        for name in ("z_dim", "w_dim", "mapping_layers", "batch", "path_interval", "processes", "log_steps"):
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}, it must be at least 1")
        _require(0 <= self.style_mixing <= 1, f"style_mixing is {self.style_mixing}, it must lie in [0, 1]")
        _require(self.fd_samples != 1 and self.fd_samples >= 0, f"fd_samples is {self.fd_samples}, use 0 or 2 and more")
        _require(self.fd_features in ("annotator", "imagenet"), f"fd_features is {self.fd_features!r}")
        if self.fd_samples and self.fd_features == "annotator":
            annotator_of(self.world)
        _require(self.patience_kimg >= 0, f"patience_kimg is {self.patience_kimg}, it must not be negative")
        _require(not self.patience_kimg or self.fd_samples > 0, "patience_kimg needs fd_samples above 0")
        _require(self.r1_precision in ("bf16", "fp32"), f"r1_precision is {self.r1_precision!r}, use bf16 or fp32")
        _require(0 <= self.augment_target < 1, f"augment_target is {self.augment_target}, it must lie in [0, 1)")
        _require(
            not self.augment_target or bool(parse_policy(self.augment)),
            "augment_target steers how often --augment is applied; name augmentations, e.g. colour,translation,cutout",
        )
        _require(
            self.discriminator in DISCRIMINATORS,
            f"discriminator is {self.discriminator!r}, use {' or '.join(DISCRIMINATORS)}",
        )
        _require(self.update in UPDATES, f"update is {self.update!r}, use {' or '.join(UPDATES)}")
        _require(self.precision in ("bf16", "fp32"), f"precision is {self.precision!r}, use bf16 or fp32")
        unit = GROUP_SIZE * self.processes
        _require(
            self.batch % unit == 0,
            f"batch {self.batch} is not a multiple of {unit} ({GROUP_SIZE} images of one standard deviation group for "
            f"each of {self.processes} processes)",
        )

    @property
    def penalised(self) -> bool:
        """Whether the discriminator's gradient at real images is penalised (R1); a projected one's never is."""
        return self.discriminator == "stylegan2" and self.r1_gamma > 0 and self.r1_interval > 0


def annotator_of(world: str) -> Path:
    """Folder of the annotator whose features the Frechet distance of a world's images is taken in.

    Raises
    ------
    InputError
        If none ships for that world.
    """
    if not world:
        raise InputError(
            "train-gan: these images belong to no world that a network of ours knows; measure their Frechet distance "
            "with --fd-features imagenet, or not at all (--fd-samples 0)"
        )
    return weights.network_of(world, "annotator", "measure with --fd-features imagenet, or --fd-samples 0")


def _require(condition: bool, complaint: str) -> None:
    if not condition:
        raise InputError(f"train-gan: {complaint}")


def channel_map(text: str, resolution: int, name: str) -> dict[int, int]:
    """Parse "128,128,96,64,32", the channels at 4, 8, 16, ... px, into {4: 128, 8: 128, ...}.

    Raises
    ------
    InputError
        If it is not one positive number per resolution.
    """
    sides = [4 << level for level in range(int(math.log2(resolution)) - 1)]
    words = [word.strip() for word in text.split(",")]
    if len(words) != len(sides) or not all(word.isdigit() and int(word) > 0 for word in words):
        raise InputError(f"{name} is {text!r}; give {len(sides)} numbers of channels, for {sides} px, with commas")
    return dict(zip(sides, map(int, words), strict=True))
