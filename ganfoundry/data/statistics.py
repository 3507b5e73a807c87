"""Numbers that describe a labelled set: classes, keypoints, uncertainty. Read in blocks, whatever the size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ganfoundry.data.coco import VISIBLE
from ganfoundry.data.description import SetDescription
from ganfoundry.errors import InputError

ROWS_AT_ONCE = 256
BINS = 12


class Rows(Protocol):
    """A reader of rows: :class:`ShardReader` or :class:`ExportReader`."""

    @property
    def fields(self) -> Mapping[str, tuple[str, tuple[int, ...]]]:
        """Name -> (dtype string, shape of one row)."""
        ...

    def __len__(self) -> int: ...

    def rows(self, indices: Any, names: Iterable[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return the given rows of the given fields."""
        ...


@dataclass(frozen=True)
class ClassCount:
    """Share of all pixels that a class has, and the number of images it occurs in."""

    id: int
    name: str
    pixel_share: float
    images: int


@dataclass(frozen=True)
class KeypointCount:
    """Number of images in which a keypoint is visible (visibility at least 0.5), and its mean visibility."""

    name: str
    visible_images: int
    mean_visibility: float


@dataclass(frozen=True)
class Histogram:
    """Uncertainty of the images: edges of the bins, and how many kept and dropped images lie in each."""

    edges: tuple[float, ...]
    kept: tuple[int, ...]
    dropped: tuple[int, ...]


@dataclass(frozen=True)
class SetStatistics:
    """Statistics of a labelled set; classes and keypoints are counted over the kept images.

    Attributes
    ----------
    images, dropped : int
        Kept images, and those that the selection dropped.
    height, width : int
        Pixels.
    classes : tuple of ClassCount
    keypoints : tuple of KeypointCount
    uncertainty : Histogram
    """

    images: int
    dropped: int
    height: int
    width: int
    classes: tuple[ClassCount, ...]
    keypoints: tuple[KeypointCount, ...]
    uncertainty: Histogram

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def summarise(
    reader: Rows,
    description: SetDescription,
    keep: npt.NDArray[np.bool_],
    progress: Callable[[int], None] | None = None,
) -> SetStatistics:
    """Count the classes, keypoints and uncertainties of a labelled set.

    Parameters
    ----------
    reader : Rows
        With the fields label and score, and perhaps keypoints.
    description : SetDescription
    keep : ndarray of bool, as long as the reader
        False for a row that the selection dropped.
    progress : callable, optional
        Called with the number of kept rows read since the last call.

    Raises
    ------
    InputError
        If a field is missing or damaged, or a label map holds an id that is no class.
    """
    classes, kept = len(description.classes), np.flatnonzero(keep)
    names = ["label", *(["keypoints"] if "keypoints" in reader.fields and description.keypoints else [])]
    pixels, images = np.zeros(256, np.int64), np.zeros(256, np.int64)
    seen, visibility = np.zeros(len(description.keypoints)), np.zeros(len(description.keypoints))
    for start in range(0, len(kept), ROWS_AT_ONCE):
        block = reader.rows(kept[start : start + ROWS_AT_ONCE], names)
        counts = class_counts(block["label"])
        pixels += counts.sum(0)
        images += (counts > 0).sum(0)
        if "keypoints" in block:
            seen += (block["keypoints"][..., 2] >= VISIBLE).sum(0)
            visibility += block["keypoints"][..., 2].sum(0, dtype=np.float64)
        if progress:
            progress(len(block["label"]))
    if pixels[classes:].any():
        raise InputError(f"label maps hold the class {np.flatnonzero(pixels)[-1]}, but only {classes} are named")
    shares = pixels / max(pixels.sum(), 1)
    height, width = reader.fields["label"][1]
    return SetStatistics(
        len(kept),
        len(keep) - len(kept),
        height,
        width,
        tuple(
            ClassCount(index, name, round(float(shares[index]), 6), int(images[index]))
            for index, name in enumerate(description.classes)
        ),
        tuple(
            KeypointCount(name, int(seen[index]), round(float(visibility[index]) / max(len(kept), 1), 4))
            for index, name in enumerate(description.keypoints if "keypoints" in names else ())
        ),
        _histogram(reader.rows(np.arange(len(keep)), ["score"])["score"], keep),
    )


def class_counts(labels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return the number of pixels of every id in every label map (N, H, W): (N, 256)."""
    flat = labels.reshape(len(labels), -1).astype(np.int64) + 256 * np.arange(len(labels))[:, None]
    return np.bincount(flat.ravel(), minlength=256 * len(labels)).reshape(len(labels), 256)


def _histogram(scores: npt.NDArray[np.float32], keep: npt.NDArray[np.bool_]) -> Histogram:
    finite = scores[np.isfinite(scores)]
    top = float(finite.max()) if len(finite) else 1.0
    edges = np.linspace(0, top if top > 0 else 1.0, BINS + 1)
    kept, dropped = (np.histogram(np.clip(scores[chosen], 0, edges[-1]), edges)[0].tolist() for chosen in (keep, ~keep))
    return Histogram(tuple(round(edge, 6) for edge in edges.tolist()), tuple(kept), tuple(dropped))
