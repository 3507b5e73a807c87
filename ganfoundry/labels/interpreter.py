"""The Style Interpreter: an ensemble of small per-pixel networks from a generator's feature maps to part labels.

DatasetGAN (Zhang et al., CVPR 2021): a GAN's feature maps already know the parts, so 16 labelled samples teach a
three-layer MLP to label every other sample. Ten of them vote, and where they disagree the label is uncertain.

Here the members are one batched network: parameters have a leading member axis, training is a few thousand pixels a
step, and prediction uses the factorised first layer of :mod:`ganfoundry.labels.factorised`. Channels are standardised
during training and the standardisation is folded into the first layer afterwards, which changes nothing but rounding.

Defaults that differ from the published code, each an option: dropout between the layers, soft voting, class-balanced
pixels instead of all pixels (:mod:`ganfoundry.labels.training_pixels`), no batch normalisation.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels import uncertainty as js
from ganfoundry.labels.factorised import Mode, project_tiles
from ganfoundry.labels.training_pixels import FeatureTable, PixelSampler

Voting = Literal["soft", "majority"]
FORMAT = "ganfoundry-interpreter-1"
_GROUP_UNITS = 256  # hidden units computed at a time: enough for an efficient product, little enough to stay in cache
_TILE_ELEMENTS = 1 << 17  # numbers of one tile of the first layer


@dataclass(frozen=True)
class InterpreterConfig:
    """What an interpreter is; everything needed to rebuild it besides its weights."""

    num_classes: int
    layers: tuple[tuple[str, int], ...]  # (feature map name, channels), in the order of the first layer's columns
    resolution: int
    members: int = 10
    hidden: tuple[int, ...] = (128, 32)  # the paper: (128, 32), or (256, 128) for 32 classes and more
    mode: Mode = "bilinear"
    voting: Voting = "soft"

    @property
    def widths(self) -> tuple[int, ...]:
        """Layer widths from the D feature channels to the classes."""
        return (sum(channels for _, channels in self.layers), *self.hidden, self.num_classes)


@dataclass(frozen=True)
class Training:
    """How an interpreter is trained.

    `dropout` is the share of hidden units dropped; `prior` how far the logits are moved, after training, from the class
    frequencies that balanced sampling drew (0) to those of the labelled images (1).
    """

    steps: int = 300
    batch_pixels: int = 512  # a member and step
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    dropout: float = 0.2
    balance: float = 0.5
    region_share: float = 0.2
    prior: float = 0.5
    min_pixels: int = 2
    seed: int = 0


@dataclass(frozen=True)
class Prediction:
    """Labels of n images with their uncertainty."""

    label: Tensor  # (n, R, R) uint8
    uncertainty: Tensor  # (n, R, R) float32, Jensen-Shannon divergence in nats
    score: Tensor  # (n,) float32, mean of the most uncertain tenth of the pixels
    probabilities: Tensor | None = field(default=None)  # (n, classes, R, R) float32: mean, or shares of the vote


class StyleInterpreter:
    """An ensemble of per-pixel MLPs.

    Parameters
    ----------
    config : InterpreterConfig
    weights : one (members, out, in) float32 tensor per layer
    biases : one (members, out) float32 tensor per layer
    """

    def __init__(self, config: InterpreterConfig, weights: list[Tensor], biases: list[Tensor]) -> None:
        self.config, self.weights, self.biases = config, weights, biases

    @classmethod
    def fit(
        cls,
        features: Mapping[str, Tensor],
        labels: NDArray[np.uint8],
        num_classes: int,
        *,
        members: int = 10,
        hidden: tuple[int, ...] | None = None,
        mode: Mode = "bilinear",
        voting: Voting = "soft",
        training: Training | None = None,
        advance: Callable[[], Any] | None = None,
    ) -> "StyleInterpreter":
        """Train an ensemble on labelled images.

        Parameters
        ----------
        features : {name: (n, C, r, r) float32}, the generator's feature maps
        labels : (n, R, R) uint8 class ids, 255 = not labelled
        num_classes : int
        members, hidden, mode, voting : see `InterpreterConfig`; `hidden` by default as in the paper
        training : Training
        advance : called once after every step (a progress bar)

        Raises
        ------
        InputError
            If labels and features disagree in number, or a label is no class.
        """
        training = training or Training()
        hidden = hidden or ((256, 128) if num_classes >= 32 else (128, 32))
        for name, feature in features.items():
            if len(feature) != len(labels):
                raise InputError(f"{len(labels)} label maps, but feature map {name} holds {len(feature)} images")
        layers = tuple((name, feature.shape[1]) for name, feature in features.items())
        config = InterpreterConfig(num_classes, layers, labels.shape[-1], members, tuple(hidden), mode, voting)
        table = FeatureTable.build(features, config.resolution, mode)
        mean, deviation = table.statistics()
        weights, biases = _train(table.standardised(mean, deviation), labels, config, training, advance)
        weights[0], biases[0] = fold_standardisation(weights[0], biases[0], mean, deviation)
        return cls(config, weights, biases)

    @torch.inference_mode()
    def predict(
        self, features: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32, probabilities: bool = False
    ) -> Prediction:
        """Label images from their feature maps.

        Parameters
        ----------
        features : {name: (n, C, r, r)}; maps that the interpreter does not use are ignored
        dtype : torch.float32 or torch.bfloat16, of the matrix products; probabilities are float32
        probabilities : bool
            Keep the class probabilities.

        Raises
        ------
        InputError
            If a map is missing or has another number of channels.
        """
        maps = [self._feature(features, name, channels) for name, channels in self.config.layers]
        results = [self._predict_one([m[i] for m in maps], dtype) for i in range(len(maps[0]))]
        mean, label, divergence = (torch.stack(parts) for parts in zip(*results, strict=True))
        return Prediction(label, divergence, js.image_score(divergence), mean if probabilities else None)

    def _predict_one(self, maps: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        config = self.config
        shape = (config.num_classes, config.resolution, config.resolution)
        mean, entropy = torch.zeros(shape), torch.zeros(shape[1:])
        votes = torch.zeros(shape) if config.voting == "majority" else None
        for rows, logits in self._logit_tiles(maps, dtype):  # (rows, members of the group, classes, R)
            probability = logits.float().softmax(2)
            mean[:, rows] += probability.sum(1).transpose(0, 1)
            entropy[rows] += js.entropy(probability, 2).sum(1)
            if votes is not None:
                chosen = F.one_hot(probability.argmax(2), config.num_classes).sum(1)
                votes[:, rows] += chosen.permute(2, 0, 1)
        mean /= config.members
        divergence = js.divergence(mean, entropy / config.members, dim=0)
        share = mean if votes is None else votes / config.members
        return share, share.argmax(0).to(torch.uint8), divergence

    def _logit_tiles(self, maps: list[Tensor], dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
        """Logits of one image by groups of members and tiles of rows."""
        config, first = self.config, self.config.hidden[0]
        group = max(1, _GROUP_UNITS // first)
        tile_rows = max(
            4, min(config.resolution, _TILE_ELEMENTS // (min(group, config.members) * first * config.resolution))
        )
        for start in range(0, config.members, group):
            part = slice(start, start + group)
            weight = self.weights[0][part].flatten(0, 1).to(dtype)
            tiles = project_tiles(
                maps, weight, self.biases[0][part].flatten(), config.resolution, mode=config.mode, tile_rows=tile_rows
            )
            for row, tile in tiles:
                value = tile.view(len(tile), -1, first, config.resolution)
                for w, b in zip(self.weights[1:], self.biases[1:], strict=True):
                    value = torch.matmul(w[part].to(dtype), value.relu_()).add_(b[part, :, None].to(dtype))
                yield slice(row, row + len(tile)), value

    def _feature(self, features: Mapping[str, Tensor], name: str, channels: int) -> Tensor:
        if name not in features:
            raise InputError(f"the interpreter reads feature map {name}, which is missing")
        if features[name].shape[1] != channels:
            raise InputError(
                f"feature map {name} has {features[name].shape[1]} channels, the interpreter was trained on {channels}"
            )
        return features[name].detach()

    def save(self, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write weights and configuration to one safetensors file."""
        tensors = {f"layer{i}.weight": w.contiguous() for i, w in enumerate(self.weights)}
        tensors |= {f"layer{i}.bias": b.contiguous() for i, b in enumerate(self.biases)}
        header = {"format": FORMAT, "config": asdict(self.config), **(metadata or {})}
        # One entry only: safetensors writes several in no fixed order, and the file's sha256 is its identity.
        safetensors.torch.save_file(tensors, path, metadata={"interpreter": json.dumps(header)})

    @classmethod
    def load(cls, path: str | Path) -> "StyleInterpreter":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged or something else.
        """
        try:
            with safetensors.safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get("interpreter", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, ValueError, safetensors.SafetensorError) as error:
            raise InputError(f"cannot read the interpreter {path}: {error}; train it again") from error
        if header.get("format") != FORMAT:
            raise InputError(f"{path} is not an interpreter file; train one with train-interpreter")
        settings = header["config"]
        settings["layers"] = tuple((name, channels) for name, channels in settings["layers"])
        config = InterpreterConfig(**settings | {"hidden": tuple(settings["hidden"])})
        depth = range(len(config.hidden) + 1)
        return cls(config, [tensors[f"layer{i}.weight"] for i in depth], [tensors[f"layer{i}.bias"] for i in depth])


def fold_standardisation(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Move (x - mean) / deviation into a linear layer: W' = W / deviation, b' = b - W' mean.

    Parameters
    ----------
    weight : (members, out, D);  bias : (members, out);  mean, deviation : (D,)
    """
    folded = weight.double() / deviation.double()
    return folded.float(), (bias.double() - folded @ mean.double()).float()


def initial_parameters(config: InterpreterConfig, generator: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """He-normal weights per member and zero biases; the last layer starts small, undecided."""
    widths = config.widths
    weights = []
    for fan_in, fan_out in itertools.pairwise(widths):
        scale = (2 / fan_in) ** 0.5 * (0.1 if len(weights) == len(widths) - 2 else 1)
        weights.append(torch.randn(config.members, fan_out, fan_in, generator=generator) * scale)
    return weights, [torch.zeros(config.members, width) for width in widths[1:]]


def ensemble_logits(
    rows: Tensor,
    weights: list[Tensor],
    biases: list[Tensor],
    dropout: float = 0.0,
    random: torch.Generator | None = None,
) -> Tensor:
    """Logits of every member on its own rows of pixels.

    Parameters
    ----------
    rows : (members, B, D)
    dropout : share of hidden units set to 0, the others scaled up

    Returns
    -------
    (members, B, classes)
    """
    value = rows
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if index:
            value = value.relu()
            if dropout > 0:
                value = value * (torch.rand(value.shape, generator=random) >= dropout) / (1 - dropout)
        value = torch.baddbmm(bias[:, None], value, weight.transpose(1, 2))
    return value


def _train(
    table: FeatureTable,
    labels: NDArray[np.uint8],
    config: InterpreterConfig,
    training: Training,
    advance: Callable[[], Any] | None,
) -> tuple[list[Tensor], list[Tensor]]:
    """AdamW with a cosine schedule; every member sees pixels of its own."""
    random = torch.Generator().manual_seed(training.seed)
    pixel_random = np.random.Generator(np.random.Philox(training.seed))
    sampler = PixelSampler(
        labels,
        config.num_classes,
        balance=training.balance,
        region_share=training.region_share,
        min_pixels=training.min_pixels,
    )
    target_of = torch.from_numpy(sampler.labels.astype(np.int64))
    weights, biases = initial_parameters(config, random)
    parameters = [p.requires_grad_() for p in weights + biases]
    optimiser = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    drawn = np.zeros(config.num_classes, np.int64)
    for _ in range(training.steps):
        pixels = torch.from_numpy(sampler.draw(config.members * training.batch_pixels, pixel_random))
        pixels = pixels[torch.randperm(len(pixels), generator=random)].view(config.members, -1)
        target = target_of[pixels]
        drawn += np.bincount(target.flatten().numpy(), minlength=config.num_classes)
        logits = ensemble_logits(table.gather(pixels), weights, biases, training.dropout, random)
        loss = F.cross_entropy(logits.flatten(0, 1), target.flatten()) * config.members  # the members' losses, summed
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if advance is not None:
            advance()
    biases[-1] = biases[-1].detach() + training.prior * torch.from_numpy(sampler.prior_shift(drawn))
    return [w.detach() for w in weights], [b.detach() for b in biases]
