"""Labelled pixels as training rows, read from feature maps at their own resolutions.

A sampled pixel's feature vector is gathered from every map with at most four taps (bilinear) or one (nearest), the same
numbers as in the resized tensor. Only the rows of one batch ever exist.

Pixels are drawn so that small parts are seen: part of a batch visits every labelled region (a connected piece of one
class in one image) in turn, as the paper asks for "at least one pixel per region"; the rest picks classes with
probability proportional to count ** (1 - balance), then a pixel of that class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels.factorised import Mode, resize_matrix

IGNORED = 255


@dataclass(frozen=True)
class FeatureTable:
    """Feature maps of a few images, channels last, ready for gathering pixels."""

    maps: Mapping[str, Tensor]  # name -> (n, r, r, C) float32
    resolution: int
    mode: Mode

    @classmethod
    def build(cls, features: Mapping[str, Tensor], resolution: int, mode: Mode) -> "FeatureTable":
        """From {name: (n, C, r, r)}, in the order given."""
        return cls({k: f.permute(0, 2, 3, 1).contiguous().float() for k, f in features.items()}, resolution, mode)

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation (>= 1e-4) of every channel over images and positions, each (D,)."""
        flat = [feature.flatten(0, 2) for feature in self.maps.values()]
        mean = torch.cat([f.mean(0) for f in flat])
        return mean, torch.cat([f.std(0, correction=0) for f in flat]).clamp(min=1e-4)

    def standardised(self, mean: Tensor, deviation: Tensor) -> "FeatureTable":
        """Return the same maps with (x - mean) / deviation per channel; resizing commutes with it."""
        sizes = [feature.shape[-1] for feature in self.maps.values()]
        parts = zip(self.maps.items(), mean.split(sizes), deviation.split(sizes), strict=True)
        return FeatureTable({k: (f - m) / s for (k, f), m, s in parts}, self.resolution, self.mode)

    def gather(self, pixels: Tensor) -> Tensor:
        """Feature vectors of pixels.

        Parameters
        ----------
        pixels : (...) int64, flat index (image * R + row) * R + column

        Returns
        -------
        (..., D) float32, maps in order: what the concatenated tensor holds at these pixels
        """
        image, row, column = (
            pixels // self.resolution**2,
            pixels // self.resolution % self.resolution,
            pixels % self.resolution,
        )
        return torch.cat([self._taps(feature, image, row, column) for feature in self.maps.values()], -1)

    def _taps(self, feature: Tensor, image: Tensor, row: Tensor, column: Tensor) -> Tensor:
        side = feature.shape[1]
        flat = feature.view(-1, feature.shape[-1])
        if side == self.resolution:
            return flat[(image * side + row) * side + column]
        index, weight = _axis_taps(side, self.resolution, self.mode)
        total: Tensor | None = None
        for a in range(index.shape[1]):
            for b in range(index.shape[1]):
                value = flat[(image * side + index[row, a]) * side + index[column, b]]
                scaled = value.mul_((weight[row, a] * weight[column, b])[..., None])
                total = scaled if total is None else total.add_(scaled)
        assert total is not None
        return total


def _axis_taps(source: int, target: int, mode: Mode) -> tuple[Tensor, Tensor]:
    """Return the one or two source positions of each output position, (target, taps) int64, and their weights."""
    weight, index = resize_matrix(source, target, mode).topk(1 if mode == "nearest" or source == 1 else 2, dim=1)
    return index, weight


class PixelSampler:
    """Draws training pixels from label maps.

    Parameters
    ----------
    labels : (n, R, R) uint8 class ids; `IGNORED` (255) is never drawn
    num_classes : int
    balance : float in [0, 1]
        0 draws pixels evenly, 1 draws classes evenly.
    region_share : float in [0, 1]
        Share of a batch that walks through the regions.
    min_pixels : int
        A class with fewer pixels than this in an image is ignored there, as a slip of the pen.
    keypoints : (n, K, 3) float32, optional
        x, y in pixels and visibility 0..1.
    keypoint_share : float in [0, 1]
        Share of a batch that lies around visible keypoints, normally distributed with twice `sigma`.
    sigma : float, pixels

    Raises
    ------
    InputError
        If the labels hold an id that is no class, or nothing that can be drawn.
    """

    def __init__(
        self,
        labels: NDArray[np.uint8],
        num_classes: int,
        *,
        balance: float,
        region_share: float,
        min_pixels: int,
        keypoints: NDArray[np.float32] | None = None,
        keypoint_share: float = 0.0,
        sigma: float = 1.0,
    ) -> None:
        self.labels = _without_specks(labels, num_classes, min_pixels).reshape(-1)
        used = np.flatnonzero(self.labels != IGNORED)
        if len(used) == 0:
            raise InputError("the label maps hold no labelled pixel")
        self.num_classes, self.region_share = num_classes, region_share
        self.counts = np.bincount(self.labels[used], minlength=num_classes)
        self.by_class = [np.flatnonzero(self.labels == c) for c in range(num_classes)]
        weight = np.where(self.counts > 0, self.counts.astype(float) ** (1 - balance), 0.0)
        self.class_weight = weight / weight.sum()
        self.side, self.sigma = labels.shape[-1], sigma
        self.points = _visible_points(keypoints)
        self.keypoint_share = keypoint_share if len(self.points) else 0.0
        self.regions = _regions(self.labels.reshape(labels.shape), num_classes)

    def draw(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Flat pixel indices, (count,) int64; calls with a fresh generator of the same seed give the same pixels."""
        around = self._around(int(count * self.keypoint_share), random)
        count -= len(around)
        visits = int(count * self.region_share)
        classes = random.choice(self.num_classes, size=count - visits, p=self.class_weight)
        even = random.random(count - visits)
        pool = np.array([len(p) for p in self.by_class])
        position = (even * pool[classes]).astype(np.int64)
        starts = np.concatenate([[0], np.cumsum(pool)[:-1]])
        balanced = np.concatenate(self.by_class)[starts[classes] + position]
        return np.concatenate([around, self._visit(visits, random), balanced])

    def _around(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Pixels near visible keypoints, every keypoint as often as any other."""
        if count == 0:
            return np.empty(0, np.int64)
        image, x, y = self.points[random.integers(len(self.points), size=count)].T
        shift = 2 * self.sigma * random.standard_normal((2, count))
        column, row = (np.clip(v + d, 0, self.side - 1).astype(np.int64) for v, d in zip((x, y), shift, strict=True))
        return (image.astype(np.int64) * self.side + row) * self.side + column

    def _visit(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """One pixel of each of `count` regions; no region twice before every other was visited."""
        rounds = -(-count // len(self.regions)) if count else 0
        order = np.concatenate([random.permutation(len(self.regions)) for _ in range(rounds)] or [np.empty(0, int)])
        chosen = [self.regions[k] for k in order[:count]]
        sizes = np.array([len(region) for region in chosen])
        position = (random.random(count) * sizes).astype(np.int64)
        return np.array([region[p] for region, p in zip(chosen, position, strict=True)], np.int64)

    def prior_shift(self, drawn: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return what to add to the logits so that they fit the images' class frequencies instead of the drawn ones.

        Parameters
        ----------
        drawn : (classes,) int, how often training drew each class

        Returns
        -------
        (classes,) float32: ln(natural frequency) - ln(drawn frequency), 0 for a class without pixels
        """
        natural = self.counts / self.counts.sum()
        frequency = drawn / max(1, drawn.sum())
        seen = (self.counts > 0) & (drawn > 0)
        shift = np.log(natural, where=seen, out=np.zeros(len(seen))) - np.log(
            frequency, where=seen, out=np.zeros(len(seen))
        )
        return shift.astype(np.float32)


def _visible_points(keypoints: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Image, x, y of the visible keypoints, (points, 3)."""
    if keypoints is None:
        return np.empty((0, 3))
    image, point = np.nonzero(keypoints[..., 2] > 0)
    return np.column_stack([image, keypoints[image, point, :2]]).astype(float)


def _without_specks(labels: NDArray[np.uint8], num_classes: int, min_pixels: int) -> NDArray[np.uint8]:
    cleaned = labels.copy()
    for index, label in enumerate(labels):
        ids, counts = np.unique(label, return_counts=True)
        wrong = ids[(ids >= num_classes) & (ids != IGNORED)]
        if len(wrong):
            raise InputError(f"label map {index} holds class id {wrong[0]}, but there are only {num_classes} classes")
        cleaned[index][np.isin(label, ids[counts < min_pixels])] = IGNORED
    return cleaned


def _regions(labels: NDArray[np.uint8], num_classes: int) -> Sequence[NDArray[np.int64]]:
    """Flat pixel indices of every connected piece (8 neighbours) of one class in one image."""
    found = []
    for index, label in enumerate(labels):
        for part in np.unique(label[label != IGNORED]):
            pieces, count = ndimage.label(label == part, np.ones((3, 3)))
            flat = np.flatnonzero(pieces)
            order = np.argsort(pieces.reshape(-1)[flat], kind="stable")
            cuts = np.cumsum(np.bincount(pieces.reshape(-1)[flat], minlength=count + 1)[1:])[:-1]
            found += [piece + index * label.size for piece in np.split(flat[order], cuts)]
    return found
