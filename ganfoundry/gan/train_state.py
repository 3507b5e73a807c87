"""State of a training run, and its checkpoints.

A checkpoint holds everything that the next step depends on: networks, moving average, Adam's moments and the step
number. There is no random state to save, since every draw is a function of (seed, step).
"""

import copy
import dataclasses
import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.growing import grow
from ganfoundry.gan.layers import Conv2dLayer
from ganfoundry.gan.losses import lazy_adam
from ganfoundry.gan.stylegan2 import Generator
from ganfoundry.gan.train_config import ARCHITECTURE, FREE_OPTIONS, GROUP_SIZE, TrainingConfig, channel_map
from ganfoundry.gan.train_data import write_atomically

FORMAT = "ganfoundry-training-1"
KEPT_CHECKPOINTS = 3
W_AVERAGE_SAMPLES = 10_000
HEAD_RATE = 0.02
"""Learning rate of projected heads over that of the generator: at the same rate they leave the hinge's margin within
some hundred images (Sauer et al. train them at 0.0002, with batches of 64)."""
DEFAULTS = dataclasses.asdict(TrainingConfig())
_BLOCK = re.compile(r"(?:^|\.)b(\d+)\.")


class TrainingState:
    """Networks, optimisers and counters of a run.

    Parameters
    ----------
    config : TrainingConfig
        The seed decides the initial weights.
    device : torch.device
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.generator = Generator(generator_config(config)).to(device)
            self.discriminator = make_discriminator(config).to(device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self.generator_adam = self._adam(self.generator, config.path_interval if config.path_weight else 0)
        self.discriminator_adam = self._adam(self.discriminator, config.r1_interval if config.penalised else 0)
        if config.discriminator == "projected":
            self.discriminator_adam.param_groups[0]["lr"] *= HEAD_RATE
        self.path_length = torch.zeros((), device=device)
        self.augment_p = torch.ones((), device=device)
        self.real_sign = torch.zeros((), device=device)  # summed since augment_p last moved
        self._reset_augmentation()
        self.step = 0
        self.images = 0  # real images shown so far
        self.seconds = 0.0  # spent so far, by the clock on the wall

    def _reset_augmentation(self) -> None:
        """Begin without augmentations where they adapt, with all of them where they do not."""
        self.augment_p.fill_(0.0 if self.config.augment_target else 1.0)
        self.real_sign.zero_()

    def _adam(self, network: nn.Module, interval: int) -> torch.optim.Adam:
        rate, betas = lazy_adam(self.config.learning_rate, interval)
        return torch.optim.Adam(network.parameters(), rate, betas, eps=1e-8, fused=True)

    @property
    def exported_discriminator(self) -> Discriminator | None:
        """The discriminator where it can be written beside the generator; projected heads live in checkpoints only."""
        return self.discriminator if isinstance(self.discriminator, Discriminator) else None

    def tensors(self) -> dict[str, Tensor]:
        """Name every tensor of the state; the tensors are the live ones."""
        found: dict[str, Tensor] = dict(self._scalars())
        for name, network in self._networks().items():
            found |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        for name, (network, adam) in self._optimisers().items():
            for key, parameter in network.named_parameters():
                found |= {f"{name}.{key}.{moment}": value for moment, value in adam.state[parameter].items()}
        return found

    def load_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state written by `tensors`."""
        for name, scalar in self._scalars().items():
            if name in tensors:  # checkpoints that are older than a scalar keep its initial value
                scalar.copy_(tensors[name])
        for name, network in self._networks().items():
            network.load_state_dict(_below(tensors, name))
        for name, (network, adam) in self._optimisers().items():
            moments = _below(tensors, name)
            for key, parameter in network.named_parameters():
                adam.state[parameter] = {
                    moment: value.to(self.device, copy=True) for moment, value in _below(moments, key).items()
                }

    def _scalars(self) -> dict[str, Tensor]:
        return {"path_length": self.path_length, "augment_p": self.augment_p, "real_sign": self.real_sign}

    def _networks(self) -> dict[str, nn.Module]:
        return {"generator": self.generator, "average": self.average, "discriminator": self.discriminator}

    def _optimisers(self) -> dict[str, tuple[nn.Module, torch.optim.Adam]]:
        return {
            "adam_generator": (self.generator, self.generator_adam),
            "adam_discriminator": (self.discriminator, self.discriminator_adam),
        }

    # ---------------------------------------------------------------- checkpoints

    def save(self, folder: Path) -> Path:
        """Write `step-<step>.safetensors` whole or not at all, and remove all but the last few checkpoints.

        Raises
        ------
        RunError
            If it cannot be written; the earlier checkpoints are still there.
        """
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step-{self.step:08d}.safetensors"
        config = json.dumps(dataclasses.asdict(self.config))
        counters = {"step": str(self.step), "images": str(self.images), "seconds": repr(self.seconds)}
        metadata = {"format": FORMAT, "config": config, **counters}
        write_atomically(path, save({key: value.cpu().clone() for key, value in self.tensors().items()}, metadata))
        torn = list(folder.glob("step-*.tmp-*"))  # what a killed process left
        for old in [*checkpoints(folder)[:-KEPT_CHECKPOINTS], *torn]:
            old.unlink()
        return path

    def begin_from(self, gan: LoadedGan) -> list[str]:
        """Take over the weights of a finished generator and discriminator; optimisers and counters begin anew.

        A generator of a lower resolution is grown: blocks that it lacks keep their initial weights, and their colours
        start at zero, so that the first images are its own, enlarged; its discriminator begins with the judgement of
        the smaller one, of the images halved (`grow`). A recipe without noise leaves the source's behind.

        Parameters
        ----------
        gan : LoadedGan
            Needs a discriminator, and the same widths at the resolutions that both have.

        Returns
        -------
        list of str
            Parameters that the source lacks.

        Raises
        ------
        InputError
            If it is no StyleGAN2, has no discriminator, a higher resolution or other widths, or new blocks are too
            narrow; the sentence says which.
        """
        if not isinstance(gan.generator, Generator):
            raise InputError(f"{gan.path} is a {gan.description.split()[0]}; training needs a StyleGAN2")
        sources: list[tuple[nn.Module, nn.Module]] = [(self.generator, gan.generator), (self.average, gan.generator)]
        if self.exported_discriminator is not None:
            if gan.discriminator is None:
                raise InputError(f"{gan.path} has no discriminator; training begins from both networks")
            sources.append((self.discriminator, gan.discriminator))
        new: list[str] = []
        for network, source in sources:
            new += _take_over(network, source, gan.path, above=gan.generator.config.resolution)
        if new and isinstance(self.discriminator, Discriminator) and gan.discriminator is not None:
            side = gan.discriminator.config.resolution
            first = gan.discriminator.get_submodule(f"b{side}.fromrgb")
            assert isinstance(first, Conv2dLayer)
            grow(self.discriminator, first, side)
        return sorted(set(new))

    def load(self, path: Path, *, same_run: bool = True) -> None:
        """Continue from a checkpoint.

        Parameters
        ----------
        path : Path
        same_run : bool
            Whether the whole recipe must be the same, or only the architecture: a new run from old weights.

        Raises
        ------
        InputError
            If the file is no checkpoint, or of a run with another recipe; the sentence names the options.
        """
        metadata, tensors = _read(path)
        # An option that is younger than the checkpoint had its default's value.
        before, now = {**DEFAULTS, **json.loads(metadata["config"])}, dataclasses.asdict(self.config)
        fixed = now.keys() - FREE_OPTIONS if same_run else ARCHITECTURE
        changed = [
            f"{key} {before.get(key)!r}, now {now[key]!r}"
            for key in now
            if key in fixed and before.get(key) != now[key]
        ]
        if changed:
            raise InputError(
                f"{path} was trained with other options ({'; '.join(changed)}); use the same, or start anew"
            )
        self.load_tensors(tensors)
        if bool(before["augment_target"]) != bool(now["augment_target"]):
            self._reset_augmentation()
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        self.images = int(metadata.get("images", self.step * before["batch"]))


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of a folder, oldest first."""
    return sorted(folder.glob("step-*.safetensors"))


def is_checkpoint(path: Path) -> bool:
    """Whether a file is a training checkpoint, by its header; False for anything else and for no file."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt") as stream:
            return bool((stream.metadata() or {}).get("format") == FORMAT)
    except (SafetensorError, OSError):
        return path.name.startswith("step-")  # a damaged one: loading it says so


def generator_config(config: TrainingConfig) -> GeneratorConfig:
    """Architecture of the generator that a recipe trains."""
    return GeneratorConfig(
        resolution=config.resolution,
        channels=channel_map(config.generator_channels, config.resolution, "generator_channels"),
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        num_mapping_layers=config.mapping_layers,
        mapping_lr_multiplier=0.01,
        use_noise=config.noise,
    )


def discriminator_config(config: TrainingConfig) -> DiscriminatorConfig:
    """Architecture of the discriminator that a recipe trains."""
    return DiscriminatorConfig(
        resolution=config.resolution,
        channels=channel_map(config.discriminator_channels, config.resolution, "discriminator_channels"),
        mbstd_group_size=GROUP_SIZE,
    )


def make_discriminator(config: TrainingConfig) -> nn.Module:
    """Discriminator that a recipe trains, with initial weights.

    Raises
    ------
    InputError
        If it is a projected one and its optional packages are not installed.
    """
    if config.discriminator == "projected":
        from ganfoundry.gan.projected_discriminator import ProjectedDiscriminator

        return ProjectedDiscriminator(config.resolution)
    return Discriminator(discriminator_config(config))


@torch.no_grad()
def _take_over(network: nn.Module, source: nn.Module, path: Path, *, above: int) -> list[str]:
    """Copy a source's weights; returns the names of those it lacks, which may only stand in blocks above a side."""
    target, given = network.state_dict(), source.state_dict()
    new = [name for name in target if name not in given]
    grown = {name for name in new if (block := _BLOCK.search(name)) and int(block[1]) > above}
    # fromrgb stands in the discriminator's highest block alone: growing leaves the source's behind.
    lost = [name for name in given if name not in target and not (grown and ".fromrgb." in name)]
    if not any(".noise_" in name for name in target):
        lost = [name for name in lost if ".noise_" not in name]
    other = [name for name in target if name in given and target[name].shape != given[name].shape]
    wrong = sorted({*other, *lost, *(set(new) - grown)})
    if wrong:
        raise InputError(
            f"{path} has another architecture ({', '.join(wrong[:3])}, {len(wrong)} tensors in all); give the same "
            "channels, z-dim, w-dim and mapping-layers, and the same or a higher resolution"
        )
    for name, value in target.items():
        if name in given:
            value.copy_(given[name])
        elif ".torgb." in name and "affine" not in name:
            value.zero_()
    return new


@torch.no_grad()
def set_average_w(generator: Generator, seed: int = 0) -> None:
    """Set the centre of truncation, `w_avg`, to the mean of mapping(z) over 10,000 z."""
    device = generator.w_avg.device
    z = torch.randn(W_AVERAGE_SAMPLES, generator.config.z_dim, generator=torch.Generator().manual_seed(seed))
    generator.w_avg.copy_(generator.mapping(z.to(device)).mean(dim=0))


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) + 1 :]: value for key, value in tensors.items() if key.startswith(prefix + ".")}


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise InputError(f"{path} is not a training checkpoint; give a step-*.safetensors of train-gan")
            return metadata, {key: stream.get_tensor(key) for key in stream.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as a checkpoint ({error}); choose an earlier one") from error
