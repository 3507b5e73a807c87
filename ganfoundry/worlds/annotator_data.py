"""Renders as training data of the annotator, and what is done to them so that it also understands generated images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from ganfoundry.images import network_images
from ganfoundry.worlds.annotator_net import AnnotatorConfig
from ganfoundry.worlds.base import World


@dataclass(frozen=True)
class Renders:
    """Renders with exact labels, as arrays or as tensors of one batch.

    Attributes
    ----------
    image : (N, R, R, 3) uint8
    parts : (N, R, R) uint8
        Fine part ids.
    keypoints : (N, K, 3) float32
        x, y in pixels, visibility.
    azimuth, elevation, distance : (N,) float32
        Degrees, degrees, metres.
    body : (N,) int64
    paint : (N, 3) float32
        RGB in [0, 1].
    """

    image: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    azimuth: NDArray[np.float32]
    elevation: NDArray[np.float32]
    distance: NDArray[np.float32]
    body: NDArray[np.int64]
    paint: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.image)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Fields by name."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def rows(self, index: NDArray[np.int64] | slice) -> Self:
        """Pick rows."""
        return type(self)(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True)
class Batch:
    """One training batch, tensors.

    Attributes
    ----------
    image : (N, 3, R, R) float32 in [-1, 1]
    parts : (N, R, R) int64
    keypoints : (N, K, 3) float32
    azimuth, elevation, distance : (N,) float32, degrees, degrees, metres
    body : (N,) int64
    paint : (N, 3) float32
    """

    image: Tensor
    parts: Tensor
    keypoints: Tensor
    azimuth: Tensor
    elevation: Tensor
    distance: Tensor
    body: Tensor
    paint: Tensor


def to_batch(renders: Renders) -> Batch:
    """Turn stored arrays into network tensors."""
    rest = {f.name: torch.from_numpy(getattr(renders, f.name).copy()) for f in fields(Renders)[1:]}
    rest["parts"] = rest["parts"].long()
    return Batch(image=network_images(renders.image).contiguous(), **rest)


def mirror(batch: Batch, rows: Tensor, keypoint_mirror: Tensor) -> Batch:
    """Flip the chosen images left to right, with everything that this means.

    The azimuth changes its sign; a left keypoint becomes the right one. Parts have no side.

    Parameters
    ----------
    rows : (N,) bool
        Which images to flip.
    keypoint_mirror : (K,) int64
        `keypoints[k]` of the flipped image is `keypoints[keypoint_mirror[k]]` of the image, reflected.
    """
    side = batch.image.shape[3]
    points = batch.keypoints[:, keypoint_mirror].clone()
    points[..., 0] = side - points[..., 0]
    pixels = rows[:, None, None]
    return replace(
        batch,
        image=torch.where(pixels[..., None], batch.image.flip(3), batch.image),
        parts=torch.where(pixels, batch.parts.flip(2), batch.parts),
        keypoints=torch.where(pixels, points, batch.keypoints),
        azimuth=torch.where(rows, -batch.azimuth, batch.azimuth),
    )


def warp(batch: Batch, scale: Tensor, shift: Tensor, wobble: Tensor) -> Batch:
    """Magnify, move and bend images; generated objects are framed and shaped less exactly than renders.

    Parameters
    ----------
    scale : (N,)
        Magnification about the image centre.
    shift : (N, 2)
        Pixels by which the content moves (x, y), before magnification.
    wobble : (N, 2, m, m)
        Pixels by which the sampling positions move, on a coarse grid that is interpolated smoothly.
    """
    side = batch.image.shape[3]
    bend = functional.interpolate(wobble, size=(side, side), mode="bilinear", align_corners=False)
    centre = torch.arange(side) + 0.5 - side / 2
    y, x = torch.meshgrid(centre, centre, indexing="ij")
    source = torch.stack([x, y])[None] / scale[:, None, None, None] - shift[:, :, None, None] + bend
    grid = source.permute(0, 2, 3, 1) * (2 / side)
    image = functional.grid_sample(batch.image, grid, mode="bilinear", padding_mode="border", align_corners=False)
    parts = functional.grid_sample(
        batch.parts[:, None].float(), grid, mode="nearest", padding_mode="border", align_corners=False
    )
    points = batch.keypoints.clone()
    place = (points[..., :2] - side / 2 + shift[:, None]) * scale[:, None, None]
    # One step of the fixed-point iteration that inverts p -> p / scale - shift + bend(p): the bend is small and smooth.
    local = functional.grid_sample(bend, place[:, None] * (2 / side), padding_mode="border", align_corners=False)
    points[..., :2] = place - local[:, :, 0].transpose(1, 2) * scale[:, None, None] + side / 2
    inside = ((points[..., :2] >= 0) & (points[..., :2] < side)).all(2)
    points[..., 2] = torch.where(inside, points[..., 2], 0.0)
    return replace(batch, image=image, parts=parts[:, 0].long(), keypoints=points, distance=batch.distance / scale)


def recolour(batch: Batch, gain: Tensor, offset: Tensor) -> Batch:
    """Multiply and shift the channels of images in [-1, 1]; the paint colour follows.

    Parameters
    ----------
    gain, offset : (N, 3)
    """
    image = (batch.image * gain[:, :, None, None] + offset[:, :, None, None]).clamp(-1, 1)
    paint = (((batch.paint * 2 - 1) * gain + offset + 1) / 2).clamp(0, 1)
    return replace(batch, image=image, paint=paint)


def smear(image: Tensor, amount: Tensor, noise: Tensor) -> Tensor:
    """Blur by a spatially varying amount and add noise: the look of a generator that has not quite learnt.

    Parameters
    ----------
    image : (N, 3, R, R)
    amount : (N, 1, m, m) in [0, 1]
        0 keeps the image, 1 takes its 5 x 5 mean; a coarse grid, interpolated.
    noise : (N, 3, R, R)
    """
    soft = functional.avg_pool2d(functional.pad(image, (2, 2, 2, 2), mode="replicate"), 5, 1)
    weight = functional.interpolate(amount, size=image.shape[2:], mode="bilinear", align_corners=False)
    return torch.lerp(image, soft, weight) + noise


def augment(batch: Batch, keypoint_mirror: Tensor, generator: torch.Generator) -> Batch:
    """Apply all of the above with random strengths."""
    n = len(batch.image)

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return torch.rand(n, *shape, generator=generator) * (high - low) + low

    def normal(*shape: int) -> Tensor:
        return torch.randn(n, *shape, generator=generator)

    batch = mirror(batch, uniform() < 0.5, keypoint_mirror)
    bend = normal(2, 6, 6) * uniform(1, 1, 1, high=1.6) * (uniform() < 0.6)[:, None, None, None]
    batch = warp(batch, uniform(low=0.92, high=1.09), uniform(2, low=-2.5, high=2.5), bend)
    gain = uniform(1, low=0.75, high=1.25) * uniform(3, low=0.9, high=1.1)
    batch = recolour(batch, gain, normal(1) * 0.12 + normal(3) * 0.04)
    strength = uniform(1, 1, 1) * (uniform() < 0.6)[:, None, None, None]
    noise = normal(*batch.image.shape[1:]) * uniform(1, 1, 1, high=0.08)
    return replace(batch, image=smear(batch.image, strength * uniform(1, 5, 5), noise))


def render_samples(world: World, seeds: Iterable[int], resolution: int = 64) -> Renders:
    """Render the single objects of some seeds with their labels."""
    types = {name: index for index, name in enumerate(world.body_types)}
    samples = [world.render(seed, resolution) for seed in seeds]
    about = [sample.attributes[0] for sample in samples]
    return Renders(
        image=np.stack([sample.image for sample in samples]),
        parts=np.stack([sample.parts for sample in samples]),
        keypoints=np.stack([sample.keypoints[0] for sample in samples]),
        azimuth=np.array([sample.camera.azimuth for sample in samples], np.float32),
        elevation=np.array([sample.camera.elevation for sample in samples], np.float32),
        distance=np.array([sample.camera.distance for sample in samples], np.float32),
        body=np.array([types[item["body_type"]] for item in about], np.int64),
        paint=np.array([item["paint_rgb"] for item in about], np.float32),
    )


def annotator_config(world: World, name: str, resolution: int, mean_distance: float) -> AnnotatorConfig:
    """Describe an annotator for renders of a world; `name` is the world's, the distance is the cameras' in metres."""
    schema = world.schema
    return AnnotatorConfig(
        world=name,
        parts=schema.parts,
        keypoints=schema.keypoints,
        body_types=world.body_types,
        keypoint_mirror=tuple(int(k) for k in schema.flip_permutation()),
        mean_distance=mean_distance,
        resolution=resolution,
    )
