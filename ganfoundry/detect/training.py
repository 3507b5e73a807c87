"""Training of the small Mask R-CNN on scenes of a world, whose instance masks are exact.

Every step draws its batch, its augmentation and torchvision's region sampling from a seed of its own, so that a run
continued from its checkpoint takes exactly the steps that an uninterrupted one takes.
"""

import io
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from ganfoundry.data.seeds import TRAIN, sample_integer, sample_rng
from ganfoundry.detect.mask_rcnn import DetectorConfig, build_detector
from ganfoundry.errors import InputError, RunError

if TYPE_CHECKING:
    from torchvision.models.detection import MaskRCNN

    from ganfoundry.worlds import World

MIN_SHARE = 0.0015  # of the image: an object of which less is visible is not a target (6 pixels of a 64 px image)
WARMUP_STEPS = 100


@dataclass(frozen=True)
class Scenes:
    """Images with exact instance ids.

    Attributes
    ----------
    image : (N, R, R, 3) uint8
    instances : (N, R, R) uint8
        0 background, 1..n the objects.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.image)


def render_scenes(world: "World", root_seed: int, stream: int, first: int, stop: int, resolution: int) -> Scenes:
    """Render scenes first..stop - 1: three in ten are one object as a generator frames it, the others hold 0 to 5.

    Parameters
    ----------
    world : World
    root_seed, stream : int
        Scene i comes from `sample_seed(root_seed, stream, i)`, whatever the range it is rendered in.
    resolution : int
    """
    samples = []
    for index in range(first, stop):
        rng = sample_rng(root_seed, stream, index)
        seed = sample_integer(root_seed, stream, index)
        if rng.random() < 0.3:
            samples.append(world.render(seed, resolution))
        else:
            count = int(rng.choice(6, p=[0.10, 0.28, 0.28, 0.17, 0.11, 0.06]))
            samples.append(world.render_scene(seed, resolution, num_objects=count))
    return Scenes(np.stack([sample.image for sample in samples]), np.stack([sample.instances for sample in samples]))


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


def targets_of(instances: Tensor, min_share: float = MIN_SHARE) -> dict[str, Tensor]:
    """Boxes, labels and masks of one instance map (H, W), as torchvision takes them.

    Returns
    -------
    dict
        "boxes" (n, 4) float32 x1, y1, x2, y2 of the pixels' outer edges, "labels" (n,) int64 ones, "masks" (n, H, W)
        uint8. Objects below `min_share` of the image are left out.
    """
    ids, counts = instances[instances > 0].unique(return_counts=True)
    ids = ids[counts >= min_share * instances.numel()]
    masks = instances[None] == ids[:, None, None]
    boxes = torch.zeros(len(ids), 4)
    for row, mask in enumerate(masks):
        y, x = mask.nonzero(as_tuple=True)
        boxes[row] = torch.stack([x.min(), y.min(), x.max() + 1, y.max() + 1])
    return {"boxes": boxes, "labels": torch.ones(len(ids), dtype=torch.int64), "masks": masks.to(torch.uint8)}


def augment(
    image: NDArray[np.uint8], instances: NDArray[np.uint8], rng: np.random.Generator, side: int
) -> tuple[Tensor, Tensor]:
    """Crop, flip, coarsen and disturb a scene until it may pass for a generated view.

    Parameters
    ----------
    image : (R, R, 3) uint8
    instances : (R, R) uint8
    side : int
        Side of the result. The image loses detail (a generated view has 64 px and is soft), the ids do not.

    Returns
    -------
    image : (3, side, side) float32 in [0, 1]
    instances : (side, side) uint8
    """
    if rng.random() < 0.5:
        image, instances = image[:, ::-1], instances[:, ::-1]
    if rng.random() < 0.4:
        image, instances = _crop(image, instances, rng)
    detail = int(rng.choice([side // 2, side * 3 // 4, side], p=[0.6, 0.1, 0.3]))
    x = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    x = functional.interpolate(x, size=(detail, detail), mode="bilinear", antialias=True, align_corners=False)[0]
    ids = torch.from_numpy(np.ascontiguousarray(instances))[None, None].float()
    if rng.random() < 0.4:
        ground = functional.interpolate(ids, size=(detail, detail), mode="nearest-exact")[0] == 0
        x = _soil(x, ground, rng)
    x = _disturb(x, rng)
    x = functional.interpolate(x[None], size=(side, side), mode="bilinear", align_corners=False)[0]
    ids = functional.interpolate(ids, size=(side, side), mode="nearest-exact")[0, 0]
    return x.clamp(0, 1), ids.to(torch.uint8)


def _crop(
    image: NDArray[np.uint8], instances: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Cut out a square window: objects become larger and are cut at the border."""
    size = len(image)
    window = int(size * rng.uniform(0.6, 1.0))
    y, x = rng.integers(0, size - window + 1, 2)
    return image[y : y + window, x : x + window], instances[y : y + window, x : x + window]


def _soil(x: Tensor, ground: Tensor, rng: np.random.Generator) -> Tensor:
    """Add cloudy colours and perhaps a horizon to the background of (3, H, W), as generators that are not done do."""
    size = x.shape[1:]
    cells = int(rng.integers(2, 12))
    clouds = torch.from_numpy(rng.standard_normal((1, 3, cells, cells)).astype(np.float32))
    clouds = functional.interpolate(clouds, size=size, mode="bicubic", align_corners=False)[0]
    clouds = clouds * float(rng.uniform(0, 0.1))
    if rng.random() < 0.4:
        rows = torch.arange(size[0])[:, None] < int(rng.integers(0, size[0]))
        shade = torch.from_numpy(rng.normal(0, 0.2, (3, 1, 1)).astype(np.float32))
        clouds = clouds + rows * shade
    return x + clouds * ground


def _disturb(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Vary colours, blur, add noise and JPEG blocks: (3, H, W) in [0, 1], each with its own chance."""
    gain = torch.tensor(rng.uniform(0.8, 1.2, (3, 1, 1)) * rng.uniform(0.7, 1.25), dtype=torch.float32)
    x = x * gain + float(rng.uniform(-0.08, 0.08))
    grey = x.mean(0, keepdim=True)
    x = grey + (x - grey) * float(rng.uniform(0.5, 1.4))
    if rng.random() < 0.5:
        x = blur(x, float(rng.uniform(0.2, 1.1)))
    if rng.random() < 0.5:
        noise = rng.standard_normal((3, *x.shape[1:]), np.float32) * rng.uniform(0, 0.05)
        x = x + torch.from_numpy(noise.astype(np.float32))
    if rng.random() < 0.2:
        x = _jpeg(x.clamp(0, 1), int(rng.integers(30, 90)))
    return x


def blur(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (3, H, W), sigma in pixels, edges repeated."""
    radius = math.ceil(2.5 * sigma)
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-0.5 * (offset / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
    x = functional.pad(x[None], (radius,) * 4, mode="replicate")
    x = functional.conv2d(x, kernel, groups=3)
    return functional.conv2d(x, kernel.transpose(2, 3), groups=3)[0]


def _jpeg(x: Tensor, quality: int) -> Tensor:
    stream = io.BytesIO()
    pixels = (x * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(stream))).permute(2, 0, 1).float() / 255


def draw_batch(
    scenes: Scenes, seed: int, step: int, batch_size: int, side: int
) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Augmented images and targets of one step, a function of (seed, step) alone."""
    rng = sample_rng(seed, TRAIN, step)
    images, targets = [], []
    for index in rng.integers(0, len(scenes), batch_size):
        image, ids = augment(scenes.image[index], scenes.instances[index], rng, side)
        images.append(image)
        targets.append(targets_of(ids))
    return images, targets


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
