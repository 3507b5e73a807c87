"""One network in place of the ensemble: labels, keypoints and uncertainty at a tenth of the cost.

A student of the interpreter's own form (factorised first layer, per-pixel MLP) learns from unlabelled generated samples
what the ensemble says there: its mean class probabilities (Kullback-Leibler divergence; Hinton et al. 2015), its mean
heat maps (cross-entropy) and, as one more output, its Jensen-Shannon divergence. So the uncertainty survives although
there are no members left to disagree. Labels cost nothing here: the generator makes as many samples as one likes.

A student has no members, so it cannot say how far apart they place a keypoint.
"""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels import uncertainty as js
from ganfoundry.labels.feature_table import FeatureTable
from ganfoundry.labels.interpreter import Prediction, StyleInterpreter
from ganfoundry.labels.interpreter_config import InterpreterConfig
from ganfoundry.labels.member_networks import fold_affine
from ganfoundry.labels.tally import Tally
from ganfoundry.metrics import mean_iou, spearman

PRESET = "distilled"
_TABLE_BYTES = 256 << 20  # of the pixels that the student learns from
_LARGEST = 60_000.0  # below the largest half-precision number


@dataclass(frozen=True)
class Distillation:
    """How a student is trained."""

    images: int = 256  # unlabelled samples
    pixels: int = 512  # of each, half of them where the ensemble is uncertain
    steps: int = 2000
    batch_pixels: int = 2048
    learning_rate: float = 4e-3
    weight_decay: float = 1e-4
    hidden: tuple[int, ...] = (64, 32)
    seed: int = 0


class DistilledHead:
    """A student; labels images like a StyleInterpreter.

    Parameters
    ----------
    network : StyleInterpreter
        One member, whose last heat map is the uncertainty as a share of the largest divergence.
    """

    def __init__(self, network: StyleInterpreter) -> None:
        self.network = network

    @property
    def config(self) -> InterpreterConfig:
        """The network's; it has one keypoint more than the teacher's."""
        return self.network.config

    @property
    def reads(self) -> list[str]:
        """Names of the generator's feature maps that labels are made of."""
        return self.network.reads

    @torch.inference_mode()
    def predict(
        self, features: Mapping[str, Tensor], *, dtype: torch.dtype = torch.float32, probabilities: bool = False
    ) -> Prediction:
        """Label images from their feature maps; parameters and errors as in `StyleInterpreter.predict`."""
        tallies = list(self.network.tallies(features, dtype=dtype))
        shares = torch.stack([tally.shares() for tally in tallies])
        label = shares.max(1).indices.to(torch.uint8)
        uncertainty = torch.stack([tally.heat[-1] for tally in tallies]) * _ceiling(self.config)
        score = js.image_score(uncertainty, self.config.image_score, label)
        found = Prediction(label, uncertainty, score, shares if probabilities else None)
        if self.config.num_keypoints == 1:
            return found
        return replace(found, keypoints=torch.stack([tally.keypoints()[0][:-1] for tally in tallies]))

    def save(self, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Write weights and configuration to one safetensors file; the same head gives the same bytes."""
        self.network.save(path, metadata)

    @classmethod
    def load(cls, path: str | Path) -> "DistilledHead":
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, damaged or something else.
        """
        network = StyleInterpreter.load(path)
        if network.config.preset != PRESET:
            raise InputError(f"{path} is an ensemble, not a distilled head; delete it and synthesize again")
        return cls(network)


def _ceiling(config: InterpreterConfig) -> float:
    """Bound of the divergence in nats, whatever the number of members."""
    return math.log(max(2, config.num_classes))


def distil(
    teacher: StyleInterpreter,
    samples: Iterable[Mapping[str, Tensor]],
    settings: Distillation | None = None,
    advance: Callable[[int], Any] | None = None,
) -> DistilledHead:
    """Train a student on what the teacher says about unlabelled samples.

    Parameters
    ----------
    teacher : StyleInterpreter
    samples : feature maps {name: (b, C, r, r)} of generated images, in batches; `settings.images` of them are read
    settings : Distillation
    advance : called with 1 after every image and every step (a progress bar of `images + steps`)
    """
    settings = settings or Distillation()
    random = torch.Generator().manual_seed(settings.seed)
    rows, targets = _pixels(teacher, samples, settings, random, advance or (lambda _: None))
    config = replace(
        teacher.config,
        members=1,
        hidden=settings.hidden,
        voting="soft",
        num_keypoints=teacher.config.num_keypoints + 1,
        keypoint_head="shared",
        heat="sigmoid",
        preset=PRESET,
    )
    weights, biases = _train(rows, targets, config, settings, random, advance or (lambda _: None))
    return DistilledHead(StyleInterpreter(config, weights, biases, direction=teacher.direction))


def _pixels(
    teacher: StyleInterpreter,
    samples: Iterable[Mapping[str, Tensor]],
    settings: Distillation,
    random: torch.Generator,
    advance: Callable[[int], Any],
) -> tuple[Tensor, Tensor]:
    """Feature vectors (n, D) float16 of pixels and what the teacher says there, (n, classes + keypoints + 1)."""
    config, side = teacher.config, teacher.config.resolution
    budget = _TABLE_BYTES // (2 * config.channels * settings.images)
    count = max(1, min(settings.pixels, side**2, budget))
    rows, targets = [], []
    for features in map(teacher.extended, samples):
        for image, tally in enumerate(teacher.tallies(features)):
            one = {name: features[name][image : image + 1] for name, _ in config.layers}
            table = FeatureTable.build([one], 1, side, config.mode, dtype=torch.float32, standardise=False)
            said = _said(tally).flatten(1)
            chosen = _choose(said[-1], count, random)
            rows.append(table.gather(chosen).clamp_(-_LARGEST, _LARGEST).half())
            targets.append(said[:, chosen].T)
            advance(1)
        if len(rows) >= settings.images:
            break
    return torch.cat(rows), torch.cat(targets)


def _said(tally: Tally) -> Tensor:
    """Probabilities, heat and uncertainty of one image, (classes + keypoints + 1, R, R)."""
    members = tally.config.members
    return torch.cat([tally.probability / members, tally.heat / members, tally.uncertainty()[None]])


def _choose(uncertainty: Tensor, count: int, random: torch.Generator) -> Tensor:
    """Pixels to learn from, (count,) int64: half evenly, half by the root of the uncertainty."""
    even = torch.randint(len(uncertainty), (count - count // 2,), generator=random)
    weight = uncertainty.clamp(min=1e-6).sqrt()
    return torch.cat([even, weight.multinomial(max(1, count // 2), replacement=True, generator=random)])


def _train(
    rows: Tensor,
    targets: Tensor,
    config: InterpreterConfig,
    settings: Distillation,
    random: torch.Generator,
    advance: Callable[[int], Any],
) -> tuple[list[Tensor], list[Tensor]]:
    """AdamW with a cosine schedule on standardised features; the standardisation is folded in afterwards."""
    mean = rows.float().mean(0)
    deviation = rows.float().std(0, correction=0).clamp(min=1e-4)
    layers = [torch.nn.Linear(*pair) for pair in itertools.pairwise(config.widths)]
    for layer in layers:
        torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=random)
        torch.nn.init.zeros_(layer.bias)
    parameters = [p for layer in layers for p in layer.parameters()]
    optimiser = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    for _ in range(settings.steps):
        batch = torch.randint(len(rows), (settings.batch_pixels,), generator=random)
        value = (rows[batch].float() - mean) / deviation
        for index, layer in enumerate(layers):
            value = layer(value.relu() if index else value)
        loss = _loss(value, targets[batch], config)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        advance(1)
    weights, biases = ([getattr(layer, kind).detach()[None] for layer in layers] for kind in ("weight", "bias"))
    weights[0], biases[0] = fold_affine(weights[0], biases[0], 1 / deviation, -mean / deviation)
    return weights, biases


def _loss(outputs: Tensor, said: Tensor, config: InterpreterConfig) -> Tensor:
    """Kullback-Leibler divergence of the probabilities and cross-entropy of heat and uncertainty, up to a constant."""
    classes = config.num_classes
    parts = -(said[:, :classes] * outputs[:, :classes].log_softmax(1)).sum(1)
    heat = said[:, classes:].clone()
    heat[:, -1] /= _ceiling(config)
    others = F.binary_cross_entropy_with_logits(outputs[:, classes:], heat.clamp_(0, 1), reduction="none").sum(1)
    return (parts + others).mean()


@dataclass(frozen=True)
class Agreement:
    """How well a student repeats its teacher on samples that it did not learn from.

    Attributes
    ----------
    miou : mean intersection over union of the labels
    pixel_rank, image_rank : Spearman's correlation of the uncertainty of the pixels, and of the images' scores
    keypoint_distance : mean distance in pixels of the keypoints that the teacher calls visible; nan without any
    """

    miou: float
    pixel_rank: float
    image_rank: float
    keypoint_distance: float


def agreement(head: DistilledHead, teacher: StyleInterpreter, features: Mapping[str, Tensor]) -> Agreement:
    """Compare student and teacher on feature maps {name: (n, C, r, r)}."""
    ours, theirs = head.predict(features), teacher.predict(features)
    distance = float("nan")
    if ours.keypoints is not None and theirs.keypoints is not None:
        visible = theirs.keypoints[..., 2] > 0.5
        gaps = (ours.keypoints - theirs.keypoints)[..., :2].norm(dim=-1)
        distance = float(gaps[visible].mean())
    return Agreement(
        mean_iou(theirs.label.numpy(), ours.label.numpy(), teacher.config.num_classes),
        spearman(theirs.uncertainty.flatten().numpy(), ours.uncertainty.flatten().numpy()),
        spearman(theirs.score.numpy(), ours.score.numpy()),
        distance,
    )
