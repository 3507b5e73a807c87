"""Training of the small Mask R-CNN on scenes of a world, whose instance masks are exact.

Every step draws its batch, its augmentation and torchvision's region sampling from a seed of its own, so that a run
continued from its checkpoint takes exactly the steps that an uninterrupted one takes.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ganfoundry.data.seeds import TRAIN, sample_integer
from ganfoundry.detect.mask_rcnn import DetectorConfig, build_detector
from ganfoundry.detect.scenes import Scenes, draw_batch
from ganfoundry.errors import InputError, RunError

if TYPE_CHECKING:
    from torchvision.models.detection import MaskRCNN

WARMUP_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class DetectorTraining:
    """Recipe of a training run.

    Attributes
    ----------
    steps : int
        Steps of the whole run.
    batch_size : int
    learning_rate, weight_decay : float
        Of AdamW; the rate rises for 100 steps and falls to 0 along a cosine.
    minutes : float
        Wall-clock budget over all continuations, 0: none. The rate falls with whichever of steps and minutes is nearer
        to its end, so that a budget, too, ends in a trained network.
    seed : int
    precision : str
        "bf16" or "fp32", of the backbone's convolutions.
    architecture : DetectorConfig
    """

    steps: int = 4000
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    minutes: float = 0.0
    seed: int = 0
    precision: str = "bf16"
    architecture: DetectorConfig = field(default_factory=DetectorConfig)


class DetectorTrainer:
    """Network, optimiser and position of a run.

    Parameters
    ----------
    config : DetectorTraining
        The seed decides the initial weights.
    """

    def __init__(self, config: DetectorTraining) -> None:
        self.config = config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.net: MaskRCNN = build_detector(config.architecture)
        self.net.backbone.precision = torch.bfloat16 if config.precision == "bf16" else torch.float32
        self.adam = torch.optim.AdamW(self.net.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        self.step = 0
        self.seconds = 0.0

    def progress(self) -> float:
        """Share of the run that is done, in [0, 1]."""
        spent = self.seconds / (60 * self.config.minutes) if self.config.minutes else 0.0
        return min(1.0, max(self.step / self.config.steps, spent))

    def learning_rate(self) -> float:
        """Rate of the next step: linear warm-up, then half a cosine."""
        warmup = min(1.0, (self.step + 1) / WARMUP_STEPS)
        return self.config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * self.progress()))

    def train_step(self, scenes: Scenes) -> dict[str, float]:
        """Take one step and return its losses.

        Raises
        ------
        RunError
            If the loss is not finite.
        """
        began = time.perf_counter()
        for group in self.adam.param_groups:
            group["lr"] = self.learning_rate()
        side = self.config.architecture.side
        images, targets = draw_batch(scenes, self.config.seed, self.step, self.config.batch_size, side)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(sample_integer(self.config.seed, TRAIN, self.step))  # torchvision samples regions
            losses = self.net.train()(images, targets)
        total = torch.stack(list(losses.values())).sum()
        if not torch.isfinite(total):
            raise RunError(f"the detector's loss is not finite at step {self.step}; try a smaller learning rate")
        self.adam.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.adam.step()
        self.step += 1
        self.seconds += time.perf_counter() - began
        return {name: value.item() for name, value in losses.items()} | {"loss": total.item()}

    def save_checkpoint(self, path: Path) -> None:
        """Write everything that the next step depends on, atomically."""
        tensors = {f"net.{name}": value.contiguous() for name, value in self.net.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            for moment, value in self.adam.state[parameter].items():
                tensors[f"adam.{name}.{moment}"] = value.contiguous()
        state = {"step": str(self.step), "seconds": repr(self.seconds), "recipe": _recipe(self.config)}
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        temporary.write_bytes(save(tensors, metadata=state))
        os.replace(temporary, path)

    def load_checkpoint(self, path: Path) -> None:
        """Take over a state that `save_checkpoint` wrote.

        Raises
        ------
        InputError
            If the file is damaged or belongs to a run with another recipe.
        """
        try:
            with safe_open(path, framework="pt") as stream:
                state = stream.metadata() or {}
                tensors: Mapping[str, Tensor] = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise InputError(f"the checkpoint {path} is damaged ({error}); delete it to start over") from error
        if state.get("recipe") != _recipe(self.config):
            raise InputError(f"the checkpoint {path} belongs to a run with another recipe; delete it to start over")
        self.net.load_state_dict({k.removeprefix("net."): v for k, v in tensors.items() if k.startswith("net.")})
        for name, parameter in self.net.named_parameters():
            moments = ("exp_avg", "exp_avg_sq", "step")
            if f"adam.{name}.step" in tensors:
                self.adam.state[parameter] = {moment: tensors[f"adam.{name}.{moment}"].clone() for moment in moments}
        self.step, self.seconds = int(state["step"]), float(state["seconds"])


def _recipe(config: DetectorTraining) -> str:
    return json.dumps(asdict(config), sort_keys=True)


def train_detector(
    config: DetectorTraining,
    scenes: Scenes,
    checkpoint: Path,
    *,
    on_step: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
    checkpoint_seconds: float = 60.0,
) -> DetectorTrainer:
    """Train until the steps or the minutes are spent, continuing from a checkpoint if there is one.

    Parameters
    ----------
    config : DetectorTraining
    scenes : Scenes
    checkpoint : Path
        Written about every `checkpoint_seconds` and at the end; an interrupted run loses the steps since the last one.
    on_step : callable
        Called with the number of steps done and the losses of the last one.

    Raises
    ------
    InputError
        If there are no scenes, or the checkpoint is damaged or of another recipe.
    RunError
        If the loss is not finite.
    """
    if len(scenes) == 0:
        raise InputError("train-detector was given no scenes; ask for at least one with --scenes")
    trainer = DetectorTrainer(config)
    if checkpoint.is_file():
        trainer.load_checkpoint(checkpoint)
    saved = time.perf_counter()
    while trainer.progress() < 1.0:
        losses = trainer.train_step(scenes)
        on_step(trainer.step, losses)
        if time.perf_counter() - saved >= checkpoint_seconds:
            trainer.save_checkpoint(checkpoint)
            saved = time.perf_counter()
    trainer.save_checkpoint(checkpoint)
    return trainer
