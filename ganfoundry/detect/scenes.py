"""Scenes of a world with exact instance ids, their augmentation, and the targets that a detector learns from them."""

import io
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from ganfoundry.data.seeds import TRAIN, sample_integer, sample_rng

if TYPE_CHECKING:
    from ganfoundry.worlds import World

MIN_SHARE = 0.0015  # of the image: an object of which less is visible is not a target (6 pixels of a 64 px image)


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
