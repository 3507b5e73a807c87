"""Do the labels of two views of one object agree? Pixels are carried from one view to the other through the mesh.

A pixel's centre is unprojected by its depth and camera, projected into the other view, and compared there with the
pixel that it falls into, if nothing lies in front of it.

Labels that were drawn from one mesh agree by construction; what is lost is at the borders between parts, where a
pixel's centre is carried to a place beside another centre. Labels of pictures (a 2D interpreter's) are carried by the
same mesh, whose errors count against them: compare with `exact labels through the read mesh` of
`benchmarks.label_consistency`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.metrics import class_iou, confusion_matrix
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.labelled_3d import DEPTH_SLACK


@dataclass(frozen=True, eq=False)
class Carried:
    """Pixels of one view that another view shows too.

    Attributes
    ----------
    source, target : ndarray, int64 (M,)
        Flat pixel indices: the pixel, and the one of the other view that it falls into.
    """

    source: NDArray[np.int64]
    target: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.source)


def surface_points(depth: Tensor, cameras: Cameras) -> Tensor:
    """Points of the object frame (N, S, S, 3) at the pixel centres of depth maps (N, S, S).

    Where the depth is 0 it is the camera's place.
    """
    size = depth.shape[-1]
    centre = (torch.arange(size, dtype=depth.dtype) + 0.5) / size
    plane = torch.stack(torch.meshgrid(centre, centre, indexing="xy"), -1)
    offset = (plane - cameras.centre[:, None, None]) / cameras.focal[:, None, None, None]
    local = torch.cat([offset, torch.ones_like(offset[..., :1])], -1) * depth[..., None]
    turned: Tensor = local.flatten(1, 2).bmm(cameras.rotation).unflatten(1, (size, size))
    return turned + cameras.position[:, None, None]


def cameras_of_matrices(intrinsics: NDArray[np.float32], extrinsics: NDArray[np.float32], size: int) -> Cameras:
    """Cameras of the matrices (N, 3, 3) and (N, 3, 4) that `ganfoundry.shape.labelled_3d` writes."""
    inner, outer = torch.from_numpy(intrinsics), torch.from_numpy(extrinsics)
    rotation = outer[:, :, :3]
    position = -(rotation.transpose(1, 2) @ outer[:, :, 3:])[..., 0]
    return Cameras(rotation, position, inner[:, 0, 0] / size, inner[:, :2, 2] / size)


def carry(depth: Tensor, cameras: Cameras, source: int, target: int) -> Carried:
    """Pixels of view `source` that view `target` shows too.

    Parameters
    ----------
    depth : Tensor, (N, S, S)
        Of one object from N cameras, metres, 0 on the background.
    cameras : Cameras
    source, target : int
    """
    size = depth.shape[-1]
    points = surface_points(depth[source : source + 1], cameras[source : source + 1]).flatten(1, 2)
    camera = cameras[target : target + 1]
    projected = camera.project(points, size)[0]
    pixel = projected[:, :2].floor().long()
    inside = (depth[source].flatten() > 0) & ((pixel >= 0) & (pixel < size)).all(-1) & (projected[:, 2] > 0)
    index = pixel[:, 1].clamp(0, size - 1) * size + pixel[:, 0].clamp(0, size - 1)
    surface = depth[target].flatten()[index]
    slack = DEPTH_SLACK * float(camera.position.norm())
    shown = inside & (surface > 0) & ((projected[:, 2] - surface).abs() <= slack)
    return Carried(shown.nonzero()[:, 0].numpy(), index[shown].numpy())


def pair_confusion(
    carried: Carried, source: NDArray[np.uint8], target: NDArray[np.uint8], classes: int, *, objects_only: bool = True
) -> NDArray[np.int64]:
    """Count carried labels (rows) against the labels they meet (columns), (classes, classes).

    Parameters
    ----------
    carried : Carried
    source, target : (S, S) uint8
        Labels of both views.
    classes : int
    objects_only : bool
        Leave out pixels that either side calls background (0): where the mesh is larger than the object in the picture,
        they say nothing about parts.
    """
    a, b = source.reshape(-1)[carried.source], target.reshape(-1)[carried.target]
    if objects_only:
        both = (a > 0) & (b > 0)
        a, b = a[both], b[both]
    return confusion_matrix(a, b, classes)


def view_confusion(
    depth: Tensor,
    cameras: Cameras,
    source: NDArray[np.uint8],
    target: NDArray[np.uint8] | None = None,
    *,
    classes: int,
    pairs: Iterable[tuple[int, int]] | None = None,
    objects_only: bool = True,
) -> NDArray[np.int64]:
    """`pair_confusion` summed over ordered pairs of an object's views (default: all).

    Parameters
    ----------
    depth : Tensor, (N, S, S)
    cameras : Cameras
        N cameras.
    source : (N, S, S) uint8
        Labels that are carried.
    target : (N, S, S) uint8, optional
        Labels that they are compared with; default the same.
    classes, pairs, objects_only
    """
    target = source if target is None else target
    total = np.zeros((classes, classes), np.int64)
    for a, b in permutations(range(len(depth)), 2) if pairs is None else pairs:
        total += pair_confusion(carry(depth, cameras, a, b), source[a], target[b], classes, objects_only=objects_only)
    return total


def mean_part_iou(confusion: NDArray[np.int64]) -> float:
    """Mean IoU over the parts that occur, without the background; nan if there are none."""
    values = class_iou(confusion)[1:]
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")
