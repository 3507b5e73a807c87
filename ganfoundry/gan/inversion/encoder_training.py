"""Training of the encoder: the generator draws a picture, the encoder is to tell its w.

Every step draws its samples from a seed of its own, so an interrupted training that continues from its checkpoint takes
exactly the steps that an uninterrupted one takes. Pictures that a user brings are softer or noisier than samples;
half of the samples are blurred or made noisy for that reason.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ganfoundry.data.seeds import TRAIN, sample_integer
from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.inversion.encoder import FORMAT, Encoder, EncoderConfig, EncoderNet
from ganfoundry.gan.inversion.objective import pixel_distance
from ganfoundry.gan.inversion.wspace import WSpace
from ganfoundry.gan.train_data import write_atomically
from ganfoundry.worlds.annotator_training import one_cycle, update_mean

CHECKPOINT = "training.safetensors"


@dataclass(frozen=True)
class EncoderRecipe:
    """How an encoder is trained.

    Attributes
    ----------
    steps, batch : int
    peak_rate : float
        Highest learning rate of the one-cycle schedule.
    pixel_weight : float
        Of the distance between the picture and what the generator makes of the guess, on `pixel_rows` of the batch;
        the distance in W has weight 1.
    pixel_rows : int
    seed : int
    average : float
        Decay of the running mean of the weights, which is what is kept.
    checkpoint_every : int
        Steps between checkpoints.
    """

    steps: int = 800
    batch: int = 32
    peak_rate: float = 3e-3
    pixel_weight: float = 5.0
    pixel_rows: int = 8
    seed: int = 0
    average: float = 0.99
    checkpoint_every: int = 100


def cache_name(gan: LoadedGan, recipe: EncoderRecipe) -> str:
    """Name of the folder that keeps the encoder of a generator and a recipe."""
    text = json.dumps([FORMAT, gan.sha256, asdict(recipe)])
    return f"encoder-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def train_encoder(
    gan: LoadedGan,
    recipe: EncoderRecipe,
    *,
    folder: Path | None = None,
    wspace: WSpace | None = None,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
) -> Encoder:
    """Train an encoder for a generator.

    Parameters
    ----------
    folder : Path, optional
        Where the checkpoint and, in the end, the encoder are written; training continues from the checkpoint there.
    wspace : WSpace, optional
        :meth:`WSpace.of` the generator, where it is at hand.
    on_step : callable(step, loss)
        Called after every step, 1 .. recipe.steps.

    Raises
    ------
    RunError
        If the loss is no longer a number.
    """
    generator, wspace = gan.generator, wspace or WSpace.of(gan.generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        net = EncoderNet(EncoderConfig.of(generator.config.resolution, generator.config.w_dim)).train()
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean = copy.deepcopy(net.state_dict())
    adam = torch.optim.AdamW(net.parameters(), lr=recipe.peak_rate, weight_decay=1e-4)
    checkpoint = None if folder is None else Checkpoint(folder / CHECKPOINT, gan.sha256, recipe)
    first = checkpoint.restore(net, mean, adam) if checkpoint else 0
    for step in range(first, recipe.steps):
        random = torch.Generator().manual_seed(sample_integer(recipe.seed, TRAIN, step))
        w, image = draw(generator, recipe.batch, random)
        loss = encoder_loss(net, generator, wspace, w, image, recipe, random)
        for group in adam.param_groups:
            group["lr"] = one_cycle(step, recipe.steps, recipe.peak_rate)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        update_mean(mean, net.state_dict(), min(recipe.average, (1 + step) / (10 + step)))
        if not torch.isfinite(loss):
            raise RunError(f"the encoder's loss is not a number at step {step + 1}; lower its learning rate")
        on_step(step + 1, float(loss.detach()))
        if checkpoint and (step + 1) % recipe.checkpoint_every == 0:
            checkpoint.store(net, mean, adam, step + 1)
    net.load_state_dict(mean)
    encoder = Encoder(net, wspace, gan.sha256, {"recipe": asdict(recipe), "generator": gan.description})
    if folder is not None and checkpoint is not None:
        encoder.save(folder)
        checkpoint.path.unlink(missing_ok=True)
    return encoder


@torch.no_grad()
def draw(generator: StyleGenerator, count: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Samples: w (N, w_dim) and their pictures (N, 3, R, R) in [-1, 1], half of them blurred or noisy."""
    config = generator.config
    z = torch.randn(count, config.z_dim, generator=random)
    c = F.one_hot(torch.randint(config.c_dim, (count,), generator=random), config.c_dim) if config.c_dim else None
    w = generator.mapping(z, None if c is None else c.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = generator.synthesis(w).float().clamp(-1, 1)
    amount = 0.1 * torch.rand(count, 1, 1, 1, generator=random)
    noise = amount * torch.randn(image.shape, generator=random)
    kind = torch.randint(4, (count, 1, 1, 1), generator=random)
    soft = F.avg_pool2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    image = torch.where(kind == 0, soft, torch.where(kind == 1, image + noise, image))
    return w, image.clamp(-1, 1)


def encoder_loss(
    net: EncoderNet,
    generator: StyleGenerator,
    wspace: WSpace,
    w: Tensor,
    image: Tensor,
    recipe: EncoderRecipe,
    random: torch.Generator,
) -> Tensor:
    """Squared distance of the guess to w in units of the spread, and of its picture to the given one."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        guess = wspace.to_w(net(image))
        loss = (guess.float() - w).square().sum(dim=1).mean() / wspace.spread**2
        rows = torch.randperm(len(w), generator=random)[: recipe.pixel_rows]
        if recipe.pixel_weight > 0 and len(rows):
            again = generator.synthesis(guess[rows].float()).float()
            loss = loss + recipe.pixel_weight * pixel_distance(again, image[rows]).mean()
    return loss


@dataclass(frozen=True)
class Checkpoint:
    """State of a training in one file that belongs to a generator and a recipe."""

    path: Path
    generator_sha256: str
    recipe: EncoderRecipe

    @property
    def _key(self) -> str:
        return json.dumps([self.generator_sha256, asdict(self.recipe)])

    def store(self, net: EncoderNet, mean: dict[str, Tensor], adam: torch.optim.Optimizer, step: int) -> None:
        """Write network, running mean, moments and the number of steps taken."""
        tensors = {f"net.{name}": value.contiguous() for name, value in net.state_dict().items()}
        tensors |= {f"mean.{name}": value.contiguous() for name, value in mean.items()}
        for name, parameter in net.named_parameters():
            tensors |= {f"adam.{key}.{name}": value.contiguous() for key, value in adam.state[parameter].items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, save(tensors, {"key": self._key, "step": str(step)}))

    def restore(self, net: EncoderNet, mean: dict[str, Tensor], adam: torch.optim.Optimizer) -> int:
        """Take over a stored state; returns the number of steps taken, 0 without a file.

        Raises
        ------
        InputError
            If the file is damaged or of another training.
        """
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, framework="pt") as stream:
                header = stream.metadata() or {}
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{self.path} is not a whole checkpoint; remove it to train from the start") from error
        if header.get("key") != self._key:
            raise InputError(f"{self.path} belongs to another generator or recipe; remove it to train from the start")
        net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
        mean.update({name[5:]: value for name, value in tensors.items() if name.startswith("mean.")})
        for name, parameter in net.named_parameters():
            keys = ("step", "exp_avg", "exp_avg_sq")
            adam.state[parameter] = {key: tensors[f"adam.{key}.{name}"] for key in keys}
        return int(header["step"])
