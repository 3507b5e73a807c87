"""A multi-view set in memory: what inverse graphics learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ganfoundry.errors import InputError
from ganfoundry.images import fours, halved_images, halved_labels

IGNORED = 255  # part label of pixels that nothing is known of


@dataclass(frozen=True, eq=False)
class MultiView:
    """Images of objects, each from several viewpoint codes, with masks and perhaps labels.

    Attributes
    ----------
    images : ndarray, uint8 (N, S, S, 3)
    masks : ndarray, bool (N, S, S)
        Where the object is.
    objects : ndarray, int64 (N,)
        Which object each image shows.
    codes : ndarray, int64 (N,)
        Which viewpoint code it was made from: row of `azimuths`.
    azimuths : tuple of float
        Degrees: the middle of every code's azimuth bin.
    parts : ndarray, uint8 (N, S, S), or None
        Part ids; 0 is background, 255 is not known.
    certainty : ndarray, float32 (N, S, S), or None
        Weight of each pixel's part label, 0..1.
    keypoints : ndarray, float32 (N, K, 3), or None
        x, y in pixels and a weight 0..1.
    part_names, keypoint_names : tuple of str
        Part 0 is "background".

    Raises
    ------
    InputError
        If the arrays do not fit together; the sentence says which.
    """

    images: npt.NDArray[np.uint8]
    masks: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    azimuths: tuple[float, ...]
    parts: npt.NDArray[np.uint8] | None = None
    certainty: npt.NDArray[np.float32] | None = None
    keypoints: npt.NDArray[np.float32] | None = None
    part_names: tuple[str, ...] = ("background", "object")
    keypoint_names: tuple[str, ...] = ()
    _rows: dict[int, npt.NDArray[np.int64]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.images)
        if self.images.ndim != 4 or self.images.shape[1] != self.images.shape[2] or self.images.shape[3] != 3:
            raise InputError(f"multi-view images are square and RGB, (N, S, S, 3), not {self.images.shape}")
        for name in ("masks", "objects", "codes", "parts", "certainty", "keypoints"):
            values = getattr(self, name)
            if values is not None and len(values) != n:
                raise InputError(f"{n} images, but {name} for {len(values)}: they belong to different multi-view sets")
        for name in ("masks", "parts", "certainty"):
            values = getattr(self, name)
            if values is not None and values.shape[1:] != self.images.shape[1:3]:
                raise InputError(f"{name} are {values.shape[1:]}, the images {self.images.shape[1:3]}: sizes differ")
        if n and (self.codes.min() < 0 or self.codes.max() >= len(self.azimuths)):
            raise InputError(
                f"images name viewpoint code {int(self.codes.max())}, but there are {len(self.azimuths)}: "
                "the multi-view set was made with other codes; make it again"
            )
        for number in np.unique(self.objects):
            self._rows[int(number)] = np.flatnonzero(self.objects == number)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> int:
        """Side of the images in pixels."""
        return int(self.images.shape[1])

    def usable(self, least: float = 0.02, most: float = 0.95) -> npt.NDArray[np.bool_]:
        """Images whose mask covers a share of the image between two bounds: neither empty nor all of it."""
        share = self.masks.mean((1, 2))
        return np.asarray((share >= least) & (share <= most))

    def take(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> MultiView:
        """Some of the images; objects and codes keep their numbers."""
        chosen: dict[str, Any] = {
            name: None if (values := getattr(self, name)) is None else values[rows]
            for name in ("images", "masks", "objects", "codes", "parts", "certainty", "keypoints")
        }
        return MultiView(
            **chosen, azimuths=self.azimuths, part_names=self.part_names, keypoint_names=self.keypoint_names
        )

    def halved(self) -> MultiView:
        """The same at half the size.

        Of every 2 x 2 pixels: the mean colour; object, where two or more are; the part with the largest sum of
        certainties, of equal ones the first, and a quarter of that sum. Pixels without a part have no vote.

        Raises
        ------
        InputError
            If the side is odd.
        """
        if self.size % 2:
            raise InputError(f"images of {self.size} px cannot be halved")
        parts, certainty = self.parts, self.certainty
        if parts is not None:
            parts, certainty = halved_labels(parts, certainty, ignored=IGNORED)
        keypoints = self.keypoints
        if keypoints is not None:
            keypoints = keypoints * np.array([0.5, 0.5, 1], np.float32)
        return MultiView(
            images=halved_images(self.images),
            masks=fours(self.masks).sum(0) >= 2,
            objects=self.objects,
            codes=self.codes,
            azimuths=self.azimuths,
            parts=parts,
            certainty=certainty,
            keypoints=keypoints,
            part_names=self.part_names,
            keypoint_names=self.keypoint_names,
        )

    def at_most(self, size: int) -> MultiView:
        """Halved for as long as the images do not become smaller than a size."""
        data = self
        while data.size >= 2 * size and data.size % 2 == 0:
            data = data.halved()
        return data

    def split(self, share: float, seed: int = 0) -> tuple[MultiView, MultiView]:
        """Keep a share of the objects apart: (the others, these), each with all images of its objects."""
        numbers = np.array(sorted(self._rows))
        count = round(share * len(numbers))
        held_out = np.random.default_rng(seed).permutation(numbers)[:count]
        apart = np.isin(self.objects, held_out)
        return self.take(~apart), self.take(apart)

    @property
    def code_groups(self) -> tuple[int, ...]:
        """Group of each code: those that one object, or a chain of objects, shows together; body types, mostly.

        A code without images is a group of its own.
        """
        codes, (numbers, objects) = len(self.azimuths), np.unique(self.objects, return_inverse=True)
        nodes = codes + len(numbers)
        links = coo_array((np.ones(len(self)), (self.codes, codes + objects)), shape=(nodes, nodes))
        return tuple(connected_components(links, directed=False)[1][:codes].tolist())

    def draw(self, rng: np.random.Generator, objects: int, views: int) -> npt.NDArray[np.int64]:
        """Rows (objects, views) of a batch: different views of each of some objects.

        Raises
        ------
        InputError
            If no object has as many images.
        """
        able = [number for number, rows in self._rows.items() if len(rows) >= views]
        if not able:
            raise InputError(
                f"no object has {views} usable images; make more views, or filter less strictly "
                f"({len(self)} images of {len(self._rows)} objects are left)"
            )
        chosen = rng.choice(able, objects, replace=len(able) < objects)
        return np.stack([rng.choice(self._rows[int(number)], views, replace=False) for number in chosen])


def distances_outside(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Distance of every pixel to the object, in image sides; 0 on it, (N, S, S).

    Empty masks give 0 everywhere: they pull nothing.
    """
    result = np.zeros(masks.shape, np.float32)
    for index, mask in enumerate(masks):
        if mask.any():
            result[index] = ndimage.distance_transform_edt(~mask) / mask.shape[-1]
    return result


def check_same_set(counts: Sequence[tuple[str, int]]) -> None:
    """Refuse artifacts that do not have as many rows as the multi-view set.

    Raises
    ------
    InputError
        Naming the two that differ.
    """
    (name, rows), *others = counts
    for other, count in others:
        if count != rows:
            raise InputError(f"{name} has {rows} images, {other} {count}: they belong to different sets; make it again")
