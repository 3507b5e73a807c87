"""Training of the Style Interpreter: all members as one batched network, a few thousand pixels a step.

Channels are standardised during training, and the standardisation is folded into the first layer afterwards, which
changes nothing but rounding. A step draws pixels of its own for every member; parts are learnt by the cross-entropy,
keypoints by the squared error of their heat, both from the same pixels.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels.interpreter_config import InterpreterConfig, Training
from ganfoundry.labels.keypoints import heat_targets
from ganfoundry.labels.training_pixels import IGNORED, FeatureTable, PixelSampler

Parameters = tuple[list[Tensor], list[Tensor]]  # (members, out, in) weights and (members, out) biases, layer by layer


def fold_standardisation(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Move (x - mean) / deviation into a linear layer: W' = W / deviation, b' = b - W' mean.

    Parameters
    ----------
    weight : (members, out, D);  bias : (members, out);  mean, deviation : (D,)
    """
    folded = weight.double() / deviation.double()
    return folded.float(), (bias.double() - folded @ mean.double()).float()


def initial_parameters(widths: Sequence[int], members: int, generator: torch.Generator) -> Parameters:
    """He-normal weights per member and zero biases; the last layer starts small, undecided."""
    weights = []
    for fan_in, fan_out in itertools.pairwise(widths):
        scale = (2 / fan_in) ** 0.5 * (0.1 if len(weights) == len(widths) - 2 else 1)
        weights.append(torch.randn(members, fan_out, fan_in, generator=generator) * scale)
    return weights, [torch.zeros(members, width) for width in widths[1:]]


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


@dataclass(frozen=True)
class Targets:
    """What is known of the labelled images.

    Attributes
    ----------
    labels : (n, R, R) uint8 class ids, 255 = not labelled
    keypoints : (n, K, 3) float32 or None: x, y in pixels, visibility 0..1
    weights : (n,) float32: how much an image counts
    """

    labels: NDArray[np.uint8]
    keypoints: NDArray[np.float32] | None
    weights: NDArray[np.float32]

    @classmethod
    def checked(
        cls, labels: NDArray[np.uint8], keypoints: NDArray[np.float32] | None, weights: NDArray[np.float32] | None
    ) -> "Targets":
        """Targets of the same number of images.

        Raises
        ------
        InputError
            If keypoints or weights are of another number of images, or are no numbers.
        """
        if keypoints is not None:
            if keypoints.ndim != 3 or keypoints.shape[::2] != (len(labels), 3):
                raise InputError(f"keypoints must be ({len(labels)}, K, 3), one row an image; got {keypoints.shape}")
            if not np.isfinite(keypoints).all() or keypoints[..., 2].min() < 0 or keypoints[..., 2].max() > 1:
                raise InputError("keypoints must be finite, with a visibility from 0 to 1")
        weights = np.ones(len(labels), np.float32) if weights is None else np.asarray(weights, np.float32)
        if weights.shape != (len(labels),) or not np.isfinite(weights).all() or weights.min() < 0 or weights.max() <= 0:
            raise InputError(f"weights must be {len(labels)} numbers from 0 on, one an image, not all 0")
        return cls(labels, keypoints, weights)


def train(
    table: FeatureTable,
    targets: Targets,
    config: InterpreterConfig,
    training: Training,
    advance: Callable[[], Any] | None,
) -> tuple[Parameters, Parameters]:
    """AdamW with a cosine schedule; every member sees pixels of its own.

    Returns
    -------
    Parameters of the first network and of the second, which has no layers unless the head is separate; both read
    standardised features.
    """
    random = torch.Generator().manual_seed(training.seed)
    pixel_random = np.random.Generator(np.random.Philox(training.seed))
    sampler = PixelSampler(
        targets.labels,
        config.num_classes,
        balance=training.balance,
        region_share=training.region_share,
        min_pixels=training.min_pixels,
        keypoints=targets.keypoints,
        keypoint_share=training.keypoint_share,
        sigma=training.sigma * config.resolution,
    )
    first = initial_parameters(config.widths, config.members, random)
    second = initial_parameters(config.heat_widths, config.members, random) if config.heat_widths else ([], [])
    parameters = [p.requires_grad_() for p in (*first[0], *first[1], *second[0], *second[1])]
    optimiser = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    losses = _Losses(sampler, targets, config, training)
    for _ in range(training.steps):
        pixels = torch.from_numpy(sampler.draw(config.members * training.batch_pixels, pixel_random))
        pixels = pixels[torch.randperm(len(pixels), generator=random)].view(config.members, -1)
        rows = table.gather(pixels)
        outputs = ensemble_logits(rows, *first, training.dropout, random)
        if second[0]:
            outputs = torch.cat([outputs, ensemble_logits(rows, *second, training.dropout, random)], -1)
        loss = losses(outputs, pixels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if advance is not None:
            advance()
    bias = first[1][-1].detach()
    bias[:, : config.num_classes] += training.prior * torch.from_numpy(sampler.prior_shift(losses.drawn))
    return _detached(first), _detached(second)


class _Losses:
    """Cross-entropy of the parts and squared error of the heat, per image weight; counts the classes drawn."""

    def __init__(self, sampler: PixelSampler, targets: Targets, config: InterpreterConfig, training: Training) -> None:
        self.config, self.training = config, training
        self.labels = torch.from_numpy(sampler.labels.astype(np.int64))
        self.weights = torch.from_numpy(targets.weights / targets.weights.mean())
        self.keypoints = None if targets.keypoints is None else torch.from_numpy(targets.keypoints).float()
        self.drawn = np.zeros(config.num_classes, np.int64)

    def __call__(self, outputs: Tensor, pixels: Tensor) -> Tensor:
        classes, side = self.config.num_classes, self.config.resolution
        target, image = self.labels[pixels], pixels // side**2
        weight = self.weights[image]
        self.drawn += np.bincount(target.flatten().numpy(), minlength=IGNORED + 1)[:classes]
        logits = outputs[..., :classes].flatten(0, 1)
        entropy = F.cross_entropy(logits, target.flatten(), reduction="none", ignore_index=IGNORED).view_as(weight)
        loss = (entropy * weight).mean(1)
        if self.keypoints is not None:
            row, column = pixels // side % side, pixels % side
            heat = heat_targets(self.keypoints, image, row, column, self.training.sigma * side)
            error = (outputs[..., classes:] - heat).square().sum(-1)
            loss = loss + self.training.heat_weight * (error * weight).mean(1)
        return loss.sum()  # over the members, which share no parameter


def _detached(parameters: Parameters) -> Parameters:
    return [w.detach() for w in parameters[0]], [b.detach() for b in parameters[1]]
