"""What is done to a batch of examples, the same for every method that is compared: mirror, small affine, colours."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ganfoundry.downstream.examples import Examples
from ganfoundry.images import network_images

SCALE = 0.15  # most by which an image is magnified or reduced, as a share
SHIFT = 0.06  # most by which it moves, as a share of its side
ANGLE = 6.0  # most by which it turns, degrees


@dataclass(frozen=True)
class Batch:
    """Examples as tensors.

    Attributes
    ----------
    image : (N, 3, R, R) float32 in [-1, 1], channels last
    label : (N, R, R) int64
    keypoints : (N, K, 3) float32 (x, y in pixels, weight), or None
    """

    image: Tensor
    label: Tensor
    keypoints: Tensor | None


def to_batch(examples: Examples) -> Batch:
    """Turn stored arrays into network tensors."""
    keypoints = None if examples.keypoints is None else torch.from_numpy(np.array(examples.keypoints, np.float32))
    return Batch(network_images(examples.image), torch.from_numpy(np.array(examples.label, np.int64)), keypoints)


def draw_affine(count: int, mirror: bool, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random maps from places in the new image to places in the old one, u' = M u + t, coordinates in [-1, 1].

    Returns
    -------
    matrix : (count, 2, 3) float32, [M | t]
    mirrored : (count,) bool
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    mirrored = torch.rand(count, generator=generator) < (0.5 if mirror else 0.0)
    scale, angle = torch.exp(uniform(SCALE)), torch.deg2rad(uniform(ANGLE))
    cos, sin = scale * angle.cos(), scale * angle.sin()
    sign = torch.where(mirrored, -1.0, 1.0)
    shift = 2 * SHIFT
    rows = [sign * cos, -sign * sin, uniform(shift), sin, cos, uniform(shift)]
    return torch.stack(rows, 1).view(count, 2, 3), mirrored


def apply_affine(batch: Batch, matrix: Tensor, mirrored: Tensor, keypoint_mirror: Tensor | None) -> Batch:
    """Resample images and labels and move the keypoints; what lies outside repeats the border.

    Parameters
    ----------
    matrix, mirrored : of `draw_affine`
    keypoint_mirror : (K,) int64
        `keypoints[k]` of a mirrored image is `keypoints[keypoint_mirror[k]]` of the image
        (`PartSchema.flip_permutation`); needed if the batch has keypoints.
    """
    side = batch.image.shape[-1]
    lattice = functional.affine_grid(matrix, list(batch.image.shape), align_corners=False)
    image = functional.grid_sample(batch.image, lattice, "bilinear", "border", align_corners=False)
    label = functional.grid_sample(batch.label[:, None].float(), lattice, "nearest", "border", align_corners=False)
    keypoints = batch.keypoints
    if keypoints is not None and keypoint_mirror is not None:
        keypoints = torch.where(mirrored[:, None, None], keypoints[:, keypoint_mirror], keypoints)
        old = keypoints[..., :2] * (2 / side) - 1
        new = torch.linalg.solve(matrix[:, None, :, :2], (old - matrix[:, None, :, 2])[..., None])[..., 0]
        inside = (new.abs() <= 1).all(-1)
        keypoints = torch.cat([(new + 1) * (side / 2), (keypoints[..., 2] * inside)[..., None]], -1)
    return Batch(image.contiguous(memory_format=torch.channels_last), label[:, 0].long(), keypoints)


def recolour(image: Tensor, generator: torch.Generator) -> Tensor:
    """Vary brightness, contrast, white balance and saturation of (N, 3, R, R) and add a little noise."""
    count = len(image)

    def normal(*shape: int) -> Tensor:
        return torch.randn(count, *shape, generator=generator)

    gain = torch.exp(0.12 * normal(1, 1, 1) + 0.05 * normal(3, 1, 1))
    offset = 0.10 * normal(1, 1, 1) + 0.03 * normal(3, 1, 1)
    grey = image.mean(1, keepdim=True)
    saturation = torch.exp(0.25 * normal(1, 1, 1))
    noise = normal(*image.shape[1:]) * torch.rand(count, 1, 1, 1, generator=generator) * 0.05
    return ((grey + (image - grey) * saturation) * gain + offset + noise).clamp(-1, 1)


def augment(batch: Batch, keypoint_mirror: Tensor | None, generator: torch.Generator, *, mirror: bool = True) -> Batch:
    """All of the above, drawn from one generator."""
    matrix, mirrored = draw_affine(len(batch.image), mirror, generator)
    moved = apply_affine(batch, matrix, mirrored, keypoint_mirror)
    return Batch(recolour(moved.image, generator), moved.label, moved.keypoints)
