"""Training of the Style Interpreter: all members at once, every member on pixels of its own.

Parts are learnt by the cross-entropy, keypoints by the squared error of their heat or by the cross-entropy of a sigmoid
with it, both from the same pixels. An image counts by its weight. With a patience, as published, a member stops when
its loss stops falling; the others go on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.errors import InputError, RunError
from ganfoundry.labels.direction import DIRECTION
from ganfoundry.labels.feature_table import FeatureTable
from ganfoundry.labels.interpreter_config import InterpreterConfig, Training
from ganfoundry.labels.keypoints import heat_targets
from ganfoundry.labels.member_networks import MemberNetworks, Parameters
from ganfoundry.labels.training_pixels import IGNORED, PixelSampler

WARM_EPOCHS = 4  # before patience counts


@dataclass(frozen=True)
class Targets:
    """What is known of the labelled images.

    Attributes
    ----------
    labels : (n, R, R) uint8 class ids, 255 = not labelled
    keypoints : (n, K, 3) float32 or None: x, y in pixels, visibility 0..1 or nan = not labelled
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
            seen = np.nan_to_num(keypoints[..., 2], nan=0.0)
            if not np.isfinite(keypoints[..., :2]).all() or seen.min() < 0 or seen.max() > 1:
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
    """Train an ensemble.

    Returns
    -------
    Parameters of the first network, and of the second, which has no layers unless the keypoints' head is separate;
    both read raw features

    Raises
    ------
    RunError
        If the training diverges.
    """
    random = torch.Generator().manual_seed(training.seed)
    sampler = _sampler(targets, config, training)
    silent = _direction_channels(config)
    networks = [
        MemberNetworks(widths, config.members, training, random, silent)
        for widths in (config.widths, config.heat_widths)
        if widths
    ]
    parameters = [p for network in networks for p in network.parameters()]
    steps = training.num_steps(len(sampler.used))
    optimiser, schedule = _optimiser(parameters, training, steps)
    losses = _Losses(sampler, targets, config, training)
    stopping = _Stopping(networks, config.members, training, len(sampler.used))
    for pixels in _batches(sampler, config.members, training, steps, random):
        rows = table.gather(pixels)
        outputs = torch.cat([network(rows, random) for network in networks], -1)
        loss = losses(outputs, pixels)
        optimiser.zero_grad()
        loss.sum().backward()  # the members share no parameter
        optimiser.step()
        if schedule is not None:
            schedule.step()
        if advance is not None:
            advance()
        if stopping.done(loss.detach()):
            break
    stopping.restore()
    if not all(torch.isfinite(p).all() for p in parameters):
        raise RunError("the interpreter's training diverged: lower the learning rate")
    first, *second = [network.folded(table.mean, table.deviation) for network in networks]
    first[1][-1][:, : config.num_classes] += training.prior * torch.from_numpy(sampler.prior_shift(losses.drawn))
    return first, second[0] if second else ([], [])


def _direction_channels(config: InterpreterConfig) -> slice | None:
    """Where the direction stands in a feature vector: last, if it is there."""
    if not config.layers or config.layers[-1][0] != DIRECTION:
        return None
    return slice(config.channels - config.layers[-1][1], config.channels)


def _sampler(targets: Targets, config: InterpreterConfig, training: Training) -> PixelSampler:
    return PixelSampler(
        targets.labels,
        config.num_classes,
        balance=training.balance,
        region_share=training.region_share,
        min_pixels=training.min_pixels,
        specks=training.specks,
        keypoints=targets.keypoints,
        keypoint_share=training.keypoint_share,
        sigma=training.sigma * config.resolution,
    )


def _optimiser(
    parameters: list[Tensor], training: Training, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.CosineAnnealingLR | None]:
    if training.optimiser == "adam":
        return torch.optim.Adam(parameters, training.learning_rate, fused=True), None
    optimiser = torch.optim.AdamW(parameters, training.learning_rate, weight_decay=training.weight_decay, fused=True)
    return optimiser, torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)


def _batches(
    sampler: PixelSampler, members: int, training: Training, steps: int, random: torch.Generator
) -> Iterator[Tensor]:
    """Pixels (members, B) of every step."""
    size = training.batch_pixels
    if training.pixels == "all":
        used = torch.from_numpy(sampler.used)
        for step in range(steps):
            at = step % training.steps_per_epoch(len(used))
            if at == 0:
                order = torch.stack([torch.randperm(len(used), generator=random).int() for _ in range(members)])
            yield used[order[:, at * size : (at + 1) * size].long()]
        return
    pixel_random = np.random.Generator(np.random.Philox(training.seed))
    for _ in range(steps):
        pixels = torch.from_numpy(sampler.draw(members * size, pixel_random))
        yield pixels[torch.randperm(len(pixels), generator=random)].view(members, -1)


class _Losses:
    """Loss of the parts and of the heat, by image weight; counts the classes drawn."""

    def __init__(self, sampler: PixelSampler, targets: Targets, config: InterpreterConfig, training: Training) -> None:
        self.config, self.training = config, training
        self.labels = torch.from_numpy(sampler.labels.astype(np.int64))
        self.weights = torch.from_numpy(targets.weights / targets.weights.mean())
        self.keypoints = None if targets.keypoints is None else torch.from_numpy(targets.keypoints).float()
        self.drawn = np.zeros(config.num_classes, np.int64)

    def __call__(self, outputs: Tensor, pixels: Tensor) -> Tensor:
        """Loss of every member, (members,)."""
        classes, side = self.config.num_classes, self.config.resolution
        target, image = self.labels[pixels], pixels // side**2
        weight = self.weights[image]
        self.drawn += np.bincount(target.flatten().numpy(), minlength=IGNORED + 1)[:classes]
        logits = outputs[..., :classes].flatten(0, 1)
        entropy = F.cross_entropy(logits, target.flatten(), reduction="none", ignore_index=IGNORED).view_as(weight)
        loss = (entropy * weight).mean(1)
        if self.keypoints is None:
            return loss
        row, column = pixels // side % side, pixels % side
        heat = heat_targets(self.keypoints, image, row, column, self.training.sigma * side)
        found, known = outputs[..., classes:], ~heat.isnan()
        heat = heat.nan_to_num()
        if self.config.heat == "sigmoid":
            error = F.binary_cross_entropy_with_logits(found, heat, reduction="none")
        else:
            error = (found - heat).square()
        return loss + self.training.heat_weight * ((error * known).sum(-1) * weight).mean(1)


class _Stopping:
    """When each member is done, by DatasetGAN's rule, and what it was then.

    From the fifth epoch on, a member stops when more than `patience` steps in a row did not lower its best loss of one
    batch. The members share their steps, so a member that is done is set back at the end.
    """

    def __init__(self, networks: list[MemberNetworks], members: int, training: Training, num_pixels: int) -> None:
        self.networks, self.patience = networks, training.patience
        self.warm = WARM_EPOCHS * training.steps_per_epoch(num_pixels)
        self.step = 0
        self.best = torch.full((members,), torch.inf)
        self.waited = torch.zeros(members, dtype=torch.int64)
        self.stopped: dict[int, list[Tensor]] = {}

    def done(self, loss: Tensor) -> bool:
        """Whether every member has stopped after this step."""
        self.step += 1
        if self.patience == 0 or self.step <= self.warm:
            return False
        better = loss < self.best
        self.best = torch.where(better, loss, self.best)
        self.waited = torch.where(better, 0, self.waited + 1)
        for member in torch.nonzero(self.waited > self.patience)[:, 0].tolist():
            if member not in self.stopped:
                self.stopped[member] = [t[member].detach().clone() for n in self.networks for t in n.state()]
        return len(self.stopped) == len(self.best)

    @torch.no_grad()
    def restore(self) -> None:
        """Set every member back to the step at which it stopped."""
        state = [t for network in self.networks for t in network.state()]
        for member, kept in self.stopped.items():
            for tensor, value in zip(state, kept, strict=True):
                tensor[member] = value
