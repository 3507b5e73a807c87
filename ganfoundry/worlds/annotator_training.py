"""Training and evaluation of AnnotatorNet on renders of a world.

Every step draws its batch and its augmentation from a seed of its own, so that an interrupted run that continues from
its checkpoint takes exactly the steps that an uninterrupted one takes.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from ganfoundry.data.seeds import TRAIN, sample_integer
from ganfoundry.errors import InputError, RunError
from ganfoundry.labels.schema import PartSchema
from ganfoundry.metrics import angle_difference, mean_iou, pck
from ganfoundry.worlds.annotator import Annotation
from ganfoundry.worlds.annotator_data import Batch, Renders, augment, to_batch
from ganfoundry.worlds.annotator_net import ELEVATION_SCALE, AnnotatorNet, AnnotatorOutput


def part_weights(parts: NDArray[np.uint8], classes: int) -> Tensor:
    """Cross-entropy weights of the parts, (classes,): rarer parts count more, by the power 0.3 of their frequency."""
    share = np.bincount(parts.ravel(), minlength=classes) / parts.size
    weight = (np.median(share) / np.maximum(share, 1e-6)) ** 0.3
    return torch.from_numpy(np.clip(weight, 0.4, 3.0).astype(np.float32))


def keypoint_targets(points: Tensor, side: int, resolution: int, sigma: float = 0.8) -> Tensor:
    """Gaussian bumps that sum to 1, (N, K, side, side), for keypoints (N, K, 2) in pixels; sigma in cells."""
    cells = torch.arange(side) + 0.5
    position = points * (side / resolution)
    x = torch.exp(-0.5 * ((cells - position[..., :1]) / sigma) ** 2)
    y = torch.exp(-0.5 * ((cells - position[..., 1:2]) / sigma) ** 2)
    bump = y[..., :, None] * x[..., None, :]
    return bump / bump.sum((2, 3), keepdim=True).clamp(min=1e-8)


def annotator_losses(output: AnnotatorOutput, batch: Batch, weights: Tensor, mean_distance: float) -> dict[str, Tensor]:
    """Weighted terms of the loss; their sum is minimised.

    The pose term is the squared error of (sin, cos), so that a network in doubt between two azimuths predicts a short
    vector between them, whose length is its confidence.
    """
    radians = torch.deg2rad(batch.azimuth)
    direction = torch.stack([radians.sin(), radians.cos()], 1)
    side = output.heatmaps.shape[-1]
    target = keypoint_targets(batch.keypoints[..., :2], side, batch.image.shape[-1])
    present = (batch.keypoints[..., 2] > 0).float() * 0.4 + (batch.keypoints[..., 2] > 1).float() * 0.6
    heat = -(target * output.heatmaps.flatten(2).log_softmax(2).view_as(target)).sum((2, 3))
    visibility = batch.keypoints[..., 2].long()
    log_distance = (batch.distance / mean_distance).log()
    return {
        "parts": functional.cross_entropy(output.parts, batch.parts, weights),
        "direction": 2 * functional.mse_loss(output.direction, direction),
        "elevation": 2 * functional.mse_loss(output.elevation, batch.elevation / ELEVATION_SCALE),
        "distance": 2 * functional.mse_loss(output.distance, log_distance),
        "keypoints": 0.1 * (heat * present).sum() / present.sum().clamp(min=1),
        "visibility": 0.2 * functional.cross_entropy(output.visibility.flatten(0, 1), visibility.flatten()),
        "body": 0.1 * functional.cross_entropy(output.body, batch.body),
        "paint": functional.mse_loss(output.paint, batch.paint),
    }


@dataclass(frozen=True)
class Recipe:
    """How an annotator is trained.

    Attributes
    ----------
    steps, batch_size : int
    peak_rate : float
        Highest learning rate of the one-cycle schedule.
    weight_decay : float
        Of AdamW.
    seed : int
        Batches and augmentation; step t draws from (seed, TRAIN, t).
    average : float
        Decay of the running mean of the weights, which is what training leaves in the network.
    checkpoint_every : int
        Steps between checkpoints.
    """

    steps: int
    batch_size: int = 32
    peak_rate: float = 4e-3
    weight_decay: float = 1e-3
    seed: int = 0
    average: float = 0.995
    checkpoint_every: int = 100


def one_cycle(step: int, steps: int, peak: float, warm_up: float = 0.2) -> float:
    """Learning rate of step 0 .. steps - 1: a cosine from peak / 25 up to the peak, and one down to peak / 10,000.

    Smith and Topin, "Super-convergence" (2018), without the momentum cycle.
    """
    position = (step + 0.5) / steps
    if position < warm_up:
        low, fraction = peak / 25, position / warm_up
    else:
        low, fraction = peak / 1e4, (1 - position) / (1 - warm_up)
    return float(low + (peak - low) * 0.5 * (1 - np.cos(np.pi * fraction)))


def fit(
    net: AnnotatorNet,
    data: Renders,
    recipe: Recipe,
    *,
    checkpoint: Path | None = None,
    on_step: Callable[[int, Mapping[str, float]], None] | None = None,
) -> None:
    """Train in place, continuing from the checkpoint if there is one of this recipe and data.

    Parameters
    ----------
    checkpoint : Path, optional
        A .safetensors file: weights, AdamW moments and position, replaced every `recipe.checkpoint_every` steps.
    on_step : callable(step, losses), optional
        Called after every step (1 .. recipe.steps) with the loss terms and "total".

    Raises
    ------
    InputError
        If the checkpoint belongs to another run.
    RunError
        If the loss is no longer a number.
    """
    net.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.AdamW(net.parameters(), lr=recipe.peak_rate, weight_decay=recipe.weight_decay)
    mean = {name: value.detach().clone() for name, value in net.state_dict().items()}
    first = _restore(checkpoint, net, mean, optimiser, recipe, len(data)) if checkpoint and checkpoint.exists() else 0
    weights = part_weights(data.parts, len(net.config.parts))
    keypoint_mirror = torch.tensor(net.config.keypoint_mirror)
    for step in range(first, recipe.steps):
        generator = torch.Generator().manual_seed(sample_integer(recipe.seed, TRAIN, step))
        rows = torch.randint(len(data), (recipe.batch_size,), generator=generator)
        batch = augment(to_batch(data.rows(rows.numpy())), keypoint_mirror, generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = net(batch.image.contiguous(memory_format=torch.channels_last))
        losses = annotator_losses(output, batch, weights, net.config.mean_distance)
        total = torch.stack(list(losses.values())).sum()
        for group in optimiser.param_groups:
            group["lr"] = one_cycle(step, recipe.steps, recipe.peak_rate)
        optimiser.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        update_mean(mean, net.state_dict(), min(recipe.average, (1 + step) / (10 + step)))
        if not torch.isfinite(total):
            raise RunError(f"the annotator's loss is not a number at step {step + 1}; lower the learning rate")
        if on_step is not None:
            on_step(
                step + 1,
                {name: float(term.detach()) for name, term in losses.items()} | {"total": float(total.detach())},
            )
        if checkpoint is not None and ((step + 1) % recipe.checkpoint_every == 0 or step + 1 == recipe.steps):
            _store(checkpoint, net, mean, optimiser, recipe, len(data), step + 1)
    net.load_state_dict(mean)
    net.eval()


@torch.no_grad()
def update_mean(mean: dict[str, Tensor], state: Mapping[str, Tensor], decay: float) -> None:
    """Move a running mean of weights and batch statistics towards the present ones; counters are copied."""
    for name, value in state.items():
        mean[name].copy_(torch.lerp(value, mean[name], decay) if value.is_floating_point() else value)


def _store(
    path: Path,
    net: AnnotatorNet,
    mean: Mapping[str, Tensor],
    optimiser: torch.optim.AdamW,
    recipe: Recipe,
    samples: int,
    step: int,
) -> None:
    tensors = {f"net.{name}": value.contiguous() for name, value in net.state_dict().items()}
    tensors |= {f"mean.{name}": value.contiguous() for name, value in mean.items()}
    for name, parameter in net.named_parameters():
        for key, value in optimiser.state[parameter].items():
            tensors[f"optimiser.{key}.{name}"] = value.contiguous()
    temporary = path.with_suffix(".partial")
    save_file(tensors, temporary, {"recipe": repr(recipe), "samples": str(samples), "step": str(step)})
    os.replace(temporary, path)


def _restore(
    path: Path,
    net: AnnotatorNet,
    mean: dict[str, Tensor],
    optimiser: torch.optim.AdamW,
    recipe: Recipe,
    samples: int,
) -> int:
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is not a whole checkpoint; delete it to train from the start") from error
    if header.get("recipe") != repr(recipe) or header.get("samples") != str(samples):
        raise InputError(f"{path} belongs to a run with other options; delete it or choose another folder")
    net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
    mean.update({name[5:]: value for name, value in tensors.items() if name.startswith("mean.")})
    for name, parameter in net.named_parameters():
        optimiser.state[parameter] = {
            key: tensors[f"optimiser.{key}.{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
        }
    return int(header["step"])


def evaluate(found: Annotation, exact: Renders, schema: PartSchema) -> dict[str, float]:
    """Errors of annotations against exact labels.

    Returns
    -------
    dict
        "miou_fine" and "miou_LEVEL" for each coarser level (the background is a class, as in DatasetGAN), azimuth,
        elevation (degrees) and distance (share) errors, "azimuth_flip_share" (off by more than 90 degrees),
        "body_type_accuracy", "paint_error" (mean absolute RGB in [0, 1]), "pck_5" and "pck_10" (visible keypoints
        within 5 and 10 % of the image's side), "visibility_accuracy".
    """
    figures = {"images": float(len(exact))}
    for level in ("fine", *schema.levels):
        table = schema.merge(level)
        figures[f"miou_{level}"] = mean_iou(table[exact.parts], table[found.parts], len(schema.names(level)))
    azimuth = np.abs(angle_difference(found.azimuth, exact.azimuth))
    elevation = np.abs(found.elevation - exact.elevation)
    distance = np.abs(found.distance / exact.distance - 1)
    side = exact.image.shape[1]
    return figures | {
        "azimuth_median_error": float(np.median(azimuth)),
        "azimuth_mean_error": float(azimuth.mean()),
        "azimuth_flip_share": float((azimuth > 90).mean()),
        "elevation_mean_error": float(elevation.mean()),
        "distance_median_error": float(np.median(distance)),
        "body_type_accuracy": float((found.body_type == exact.body).mean()),
        "paint_error": float(np.abs(found.paint - exact.paint).mean()),
        "pck_5": pck(exact.keypoints, found.keypoints, 0.05, side, hidden=False),
        "pck_10": pck(exact.keypoints, found.keypoints, 0.10, side, hidden=False),
        "visibility_accuracy": float((found.keypoints[..., 2] == exact.keypoints[..., 2]).mean()),
    }
