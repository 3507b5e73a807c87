"""One training loop for every method that is compared.

A method is an objective: what a step computes its loss of. All else is the same for all of them: AdamW with a one-cycle
rate, a fixed number of steps whatever the number of images, a running mean of the weights, and the last weights as the
result, so that no test image has a say. A step draws from a seed of its own; an interrupted training that continues
from its checkpoint takes the steps that an uninterrupted one takes.
"""

import copy
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from ganfoundry.data.seeds import TRAIN, sample_integer
from ganfoundry.downstream.augmentation import Batch, augment, to_batch
from ganfoundry.downstream.examples import ExampleSource
from ganfoundry.downstream.networks import KeypointNet, KeypointOutput
from ganfoundry.errors import InputError, RunError
from ganfoundry.worlds.annotator_training import keypoint_targets, one_cycle, part_weights, update_mean

WEIGHED = 500  # label maps that the weights of the classes are read from


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    steps, batch_size : int
    peak_rate : float
        Highest learning rate of the one-cycle schedule.
    backbone_rate : float
        Share of that rate for the backbone: 1 for one that starts from nothing, 0 to freeze it.
    weight_decay : float
        Of AdamW.
    average : float
        Decay of the running mean of the weights, which is what training leaves.
    seed : int
        Step t draws its batch and its augmentation from (seed, TRAIN, t).
    precision : "bf16" or "fp32", of the convolutions
    checkpoint_every : int
        Steps between checkpoints.
    """

    steps: int = 700
    batch_size: int = 16
    peak_rate: float = 1e-2
    backbone_rate: float = 1.0
    weight_decay: float = 1e-3
    average: float = 0.99
    seed: int = 0
    precision: str = "bf16"
    checkpoint_every: int = 200


Objective = Callable[[nn.Module, nn.Module, int, torch.Generator], Mapping[str, Tensor]]
"""(network, running mean, step, generator) -> terms of the loss, which are added."""


def task_losses(
    output: Tensor | KeypointOutput, batch: Batch, class_weights: Tensor | None = None
) -> dict[str, Tensor]:
    """Terms of a labelled batch: cross-entropy of the parts, or of heat maps and visibility.

    A keypoint's target is a Gaussian that sums to 1; its cross-entropy counts with the keypoint's weight.

    Parameters
    ----------
    class_weights : (C,) float32, optional
        Of the parts' cross-entropy.
    """
    if isinstance(output, Tensor):
        return {"parts": functional.cross_entropy(output, batch.label, class_weights)}
    assert batch.keypoints is not None
    weight = batch.keypoints[..., 2]
    target = keypoint_targets(batch.keypoints[..., :2], output.heatmaps.shape[-1], batch.image.shape[-1])
    heat = -(target * output.heatmaps.flatten(2).log_softmax(2).view_as(target)).sum((2, 3))
    return {
        "keypoints": (heat * weight).sum() / weight.sum().clamp(min=1),
        "visibility": 0.5 * functional.binary_cross_entropy_with_logits(output.visibility, weight),
    }


def rarity_weights(source: ExampleSource, num_classes: int) -> Tensor:
    """Cross-entropy weights (num_classes,) by the frequencies in some of the source's own label maps."""
    rows = np.linspace(0, len(source) - 1, min(len(source), WEIGHED)).astype(np.int64)
    return part_weights(source.rows(rows).label, num_classes)


@dataclass(frozen=True)
class Supervised:
    """Objective of labelled images: draw some, augment them, compare.

    Attributes
    ----------
    source : ExampleSource
    recipe : Recipe
    keypoint_mirror : (K,) int64 or None
        Order of the keypoints after mirroring.
    class_weights : (C,) float32 or None
        Of the parts' cross-entropy, see `rarity_weights`.

    Raises
    ------
    InputError
        If there is no image, or the images have no keypoints and the network learns them.
    """

    source: ExampleSource
    recipe: Recipe
    keypoint_mirror: Tensor | None = None
    class_weights: Tensor | None = None

    def __post_init__(self) -> None:
        if len(self.source) == 0:
            raise InputError("there is no labelled image to train on; give a set with at least one")

    def batch(self, generator: torch.Generator) -> Batch:
        """An augmented batch."""
        rows = torch.randint(len(self.source), (self.recipe.batch_size,), generator=generator)
        return augment(to_batch(self.source.rows(rows.numpy())), self.keypoint_mirror, generator)

    def __call__(self, net: nn.Module, mean: nn.Module, step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Terms of one step."""
        if isinstance(net, KeypointNet) and not self.source.has_keypoints:
            raise InputError("the labelled images have no keypoints to learn; train for parts only, or label them")
        batch = self.batch(generator)
        return task_losses(net(batch.image), batch, self.class_weights)


def fit(
    net: nn.Module,
    objective: Objective,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    key: str = "",
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> None:
    """Train in place; the network is left with the running mean of its weights, in evaluation mode.

    Parameters
    ----------
    net : Module
        Its `backbone` has a learning rate of its own.
    objective : Objective
    recipe : Recipe
    checkpoint : Path, optional
        A .safetensors file, replaced every `recipe.checkpoint_every` steps; training continues from it.
    key : str
        What the checkpoint must be of, besides the recipe: whatever else the training follows from.
    on_step : callable(step, terms), optional
        Called after every step (1 .. recipe.steps) with the terms of the loss and "total".

    Raises
    ------
    InputError
        If the checkpoint is damaged or belongs to another training.
    RunError
        If the loss is no longer a number.
    """
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    run = _Run(net, recipe, key)
    if checkpoint is not None and checkpoint.exists():
        run.restore(checkpoint)
    for step in range(run.step, recipe.steps):
        seed = sample_integer(recipe.seed, TRAIN, step)
        generator = torch.Generator().manual_seed(seed)
        with (
            torch.random.fork_rng(devices=[]),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=recipe.precision == "bf16"),
        ):
            torch.manual_seed(seed)  # of the dropout in the atrous pooling
            terms = objective(net, run.mean, step, generator)
        total = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(total):
            raise RunError(f"the loss is not a number at step {step + 1}; lower the learning rate")
        run.update(total)
        if on_step is not None:
            on_step(step + 1, {k: float(v.detach()) for k, v in terms.items()} | {"total": float(total.detach())})
        if checkpoint is not None and (run.step % recipe.checkpoint_every == 0 or run.step == recipe.steps):
            run.store(checkpoint)
    net.load_state_dict(run.mean.state_dict())
    net.eval()


class _Run:
    """Optimiser, running mean and position of a training."""

    def __init__(self, net: nn.Module, recipe: Recipe, key: str) -> None:
        self.net, self.recipe, self.step = net, recipe, 0
        self.key = f"{recipe!r} {key}"
        self.mean = copy.deepcopy(net).requires_grad_(False)
        backbone = list(getattr(net, "backbone", nn.Module()).parameters())
        known = {id(parameter) for parameter in backbone}
        rest = [parameter for parameter in net.parameters() if id(parameter) not in known]
        groups = [{"params": rest, "share": 1.0}]
        if recipe.backbone_rate > 0:
            groups.append({"params": backbone, "share": recipe.backbone_rate})
        else:
            for parameter in backbone:
                parameter.requires_grad_(False)
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.peak_rate, weight_decay=recipe.weight_decay, fused=True)

    def update(self, total: Tensor) -> None:
        """Take one step of the optimiser."""
        rate = one_cycle(self.step, self.recipe.steps, self.recipe.peak_rate)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["share"]
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimiser.step()
        decay = min(self.recipe.average, (1 + self.step) / (10 + self.step))
        update_mean(self.mean.state_dict(), self.net.state_dict(), decay)
        self.step += 1

    def store(self, path: Path) -> None:
        """Write everything that the next step depends on, whole or not at all."""
        tensors = {f"net.{name}": value.contiguous() for name, value in self.net.state_dict().items()}
        tensors |= {f"mean.{name}": value.contiguous() for name, value in self.mean.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            for moment, value in self.optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{moment}.{name}"] = value.contiguous()
        temporary = path.with_suffix(".partial")
        try:
            save_file(tensors, temporary, {"key": self.key, "step": str(self.step)})
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            temporary.unlink(missing_ok=True)
            raise RunError(f"cannot write the checkpoint {path} ({error}); free some space and run again") from error

    def restore(self, path: Path) -> None:
        """Take over what `store` wrote."""
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a whole checkpoint; delete it to train from the start") from error
        if header.get("key") != self.key:
            raise InputError(f"{path} belongs to another training; delete it or choose another folder")
        for prefix, module in (("net.", self.net), ("mean.", self.mean)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        for name, parameter in self.net.named_parameters():
            if f"adam.step.{name}" in tensors:
                state: dict[str, Tensor] = {"step": tensors[f"adam.step.{name}"]}
                for moment in ("exp_avg", "exp_avg_sq"):  # laid out as the parameter is: the fused optimiser needs it
                    state[moment] = torch.empty_like(parameter.detach()).copy_(tensors[f"adam.{moment}.{name}"])
                self.optimiser.state[parameter] = state
        self.step = int(header["step"])
