"""Which pixels of the labelled images a training step sees.

Pixels are drawn so that small parts are seen: part of a batch visits every labelled region (a connected piece of one
class in one image) in turn, as the paper asks for "at least one pixel per region"; part lies around the keypoints; the
rest picks classes with probability proportional to count ** (1 - balance), then a pixel of that class.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganfoundry.errors import InputError

IGNORED = 255


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
        A class with fewer pixels than this in an image is a slip of the pen there.
    specks : "ignored" or "background"
        What becomes of such pixels.
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
        specks: str = "ignored",
        keypoints: NDArray[np.float32] | None = None,
        keypoint_share: float = 0.0,
        sigma: float = 1.0,
    ) -> None:
        self.labels = _without_specks(labels, num_classes, min_pixels, specks).reshape(-1)
        self.used = np.flatnonzero(self.labels != IGNORED)
        if len(self.used) == 0:
            raise InputError(f"no class has {min_pixels} labelled pixels in an image: label more, or lower min_pixels")
        self.num_classes, self.region_share = num_classes, region_share
        self.counts = np.bincount(self.labels[self.used], minlength=num_classes)
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
        pixels: NDArray[np.int64] = (image.astype(np.int64) * self.side + row) * self.side + column
        return pixels

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
        wanted = np.log(natural, where=seen, out=np.zeros(len(seen)))
        found = np.log(frequency, where=seen, out=np.zeros(len(seen)))
        shift: NDArray[np.float32] = (wanted - found).astype(np.float32)
        return shift


def _visible_points(keypoints: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """Image, x, y of the visible keypoints, (points, 3)."""
    if keypoints is None:
        return np.empty((0, 3))
    image, point = np.nonzero(keypoints[..., 2] > 0)
    return np.column_stack([image, keypoints[image, point, :2]]).astype(float)


def _without_specks(labels: NDArray[np.uint8], num_classes: int, min_pixels: int, specks: str) -> NDArray[np.uint8]:
    cleaned = labels.copy()
    for index, label in enumerate(labels):
        ids, counts = np.unique(label, return_counts=True)
        wrong = ids[(ids >= num_classes) & (ids != IGNORED)]
        if len(wrong):
            raise InputError(f"label map {index} holds class id {wrong[0]}, but there are only {num_classes} classes")
        small = ids[(counts < min_pixels) & (ids != IGNORED)]
        cleaned[index][np.isin(label, small)] = 0 if specks == "background" else IGNORED
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
