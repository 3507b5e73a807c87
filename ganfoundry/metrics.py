"""Measures of label maps, keypoints, angles, boxes and scores, in plain numpy."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganfoundry.errors import InputError

Floats = NDArray[np.float64]


def confusion_matrix(
    truth: ArrayLike, prediction: ArrayLike, num_classes: int, ignore: int | None = None
) -> NDArray[np.int64]:
    """Count pixels by true and predicted class.

    Parameters
    ----------
    truth, prediction : int arrays of one shape, ids in [0, num_classes)
    num_classes : int
    ignore : int, optional
        True id of pixels that do not count, such as 255.

    Returns
    -------
    (num_classes, num_classes) int64, rows true, columns predicted

    Raises
    ------
    InputError
        If the shapes differ or an id is no class.
    """
    true, predicted = np.asarray(truth), np.asarray(prediction)
    if true.shape != predicted.shape:
        raise InputError(f"label maps of shapes {true.shape} and {predicted.shape} cannot be compared")
    true, predicted = true.reshape(-1).astype(np.int64), predicted.reshape(-1).astype(np.int64)
    if ignore is not None:
        predicted, true = predicted[true != ignore], true[true != ignore]
    for ids in (true, predicted):
        if len(ids) and (ids.min() < 0 or ids.max() >= num_classes):
            raise InputError(f"ids {ids.min()}..{ids.max()} do not fit {num_classes} classes")
    counts = np.bincount(true * num_classes + predicted, minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def class_iou(confusion: NDArray[np.int64]) -> Floats:
    """Intersection over union of every class, over all pixels together; nan for a class that is nowhere.

    Parameters
    ----------
    confusion : (C, C) int

    Returns
    -------
    (C,) float in [0, 1] or nan
    """
    hit = np.diag(confusion).astype(float)
    union = confusion.sum(0) + confusion.sum(1) - hit
    return np.asarray(np.divide(hit, union, where=union > 0, out=np.full(len(hit), np.nan)))


def mean_iou(
    truth: ArrayLike,
    prediction: ArrayLike,
    num_classes: int,
    *,
    ignore: int | None = None,
    absent: str = "skip",
    skip_background: bool = False,
) -> float:
    """Mean over classes of the global intersection over union.

    Parameters
    ----------
    truth, prediction, num_classes, ignore
        As in :func:`confusion_matrix`; give all images of a set at once.
    absent : "skip" or "zero"
        What a class counts that is in neither: nothing, or 0 as in DatasetGAN's released evaluation.
    skip_background : bool
        Leave class 0 out of the mean.

    Returns
    -------
    float in [0, 1]; nan if no class is left
    """
    if absent not in ("skip", "zero"):
        raise ValueError(f"absent is 'skip' or 'zero', got {absent!r}")
    values = class_iou(confusion_matrix(truth, prediction, num_classes, ignore))[int(skip_background) :]
    if absent == "zero":
        values = np.nan_to_num(values)
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def pixel_accuracy(truth: ArrayLike, prediction: ArrayLike, *, ignore: int | None = None) -> float:
    """Share of pixels with the right class; nan if none counts."""
    true, predicted = np.asarray(truth), np.asarray(prediction)
    if true.shape != predicted.shape:
        raise InputError(f"label maps of shapes {true.shape} and {predicted.shape} cannot be compared")
    counted = np.ones(true.shape, bool) if ignore is None else true != ignore
    return float((true == predicted)[counted].mean()) if counted.any() else float("nan")


def pck(truth: ArrayLike, prediction: ArrayLike, threshold: float, size: ArrayLike, *, hidden: bool = True) -> float:
    """Percentage of correct keypoints, as a share: those nearer to the truth than `threshold` times the object's size.

    Parameters
    ----------
    truth : (n, K, 3) float, pixels and visibility (0 does not count)
    prediction : (n, K, 2 or 3) float, pixels
    threshold : float, share of the size; a distance equal to it counts as correct
    size : (n,) or scalar, pixels, such as the longer side of the object's box
    hidden : bool
        Count hidden keypoints (visibility 1) too.

    Returns
    -------
    float in [0, 1]; nan if no keypoint counts
    """
    true, predicted = np.asarray(truth, float), np.asarray(prediction, float)
    distance = np.linalg.norm(true[..., :2] - predicted[..., :2], axis=-1)
    limit = threshold * np.broadcast_to(np.asarray(size, float), true.shape[:1])
    counted = true[..., 2] > (0 if hidden else 1)
    return float((distance <= limit[:, None])[counted].mean()) if counted.any() else float("nan")


def circular_mean(angles: ArrayLike, axis: int | None = None) -> Any:
    """Mean direction in degrees, in [0, 360); nan where the directions cancel out.

    Parameters
    ----------
    angles : float, degrees
    axis : int, optional
        By default over all.
    """
    resultant = _resultant(angles, axis)
    mean = np.mod(np.degrees(np.angle(resultant)), 360.0)
    return _scalar(np.where(np.abs(resultant) < 1e-12, np.nan, np.where(mean >= 360.0, 0.0, mean)))


def circular_std(angles: ArrayLike, axis: int | None = None) -> Any:
    """Circular standard deviation in degrees, sqrt(-2 ln R) with R the length of the mean unit vector (Mardia, 1972).

    For a small spread it is the ordinary standard deviation; it is infinite where the directions cancel out.
    """
    length = np.minimum(np.abs(_resultant(angles, axis)), 1.0)
    with np.errstate(divide="ignore"):
        return _scalar(np.degrees(np.sqrt(np.maximum(0.0, -2 * np.log(np.where(length < 1e-12, 0.0, length))))))


def angle_difference(a: ArrayLike, b: ArrayLike) -> Any:
    """Signed a - b in degrees, in [-180, 180)."""
    return _scalar(np.mod(np.asarray(a, float) - np.asarray(b, float) + 180.0, 360.0) - 180.0)


def box_iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of every pair of boxes.

    Parameters
    ----------
    a : (n, 4) float, x0, y0, x1, y1 in pixels;  b : (m, 4)

    Returns
    -------
    (n, m) float in [0, 1]; 0 where both boxes are empty
    """
    first, second = np.asarray(a, float).reshape(-1, 4)[:, None], np.asarray(b, float).reshape(-1, 4)[None]
    low, high = np.maximum(first[..., :2], second[..., :2]), np.minimum(first[..., 2:], second[..., 2:])
    common = np.clip(high - low, 0, None).prod(-1)
    union = _area(first) + _area(second) - common
    return np.asarray(np.divide(common, union, where=union > 0, out=np.zeros_like(common)))


def mask_iou(a: ArrayLike, b: ArrayLike) -> Floats:
    """Intersection over union of every pair of masks.

    Parameters
    ----------
    a : (n, H, W) bool;  b : (m, H, W) bool

    Returns
    -------
    (n, m) float in [0, 1]; 0 where both masks are empty
    """
    first, second = (np.asarray(m).astype(bool).reshape(len(np.asarray(m)), -1).astype(float) for m in (a, b))
    common = first @ second.T
    union = first.sum(1)[:, None] + second.sum(1)[None] - common
    return np.asarray(np.divide(common, union, where=union > 0, out=np.zeros_like(common)))


def auroc(positive: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: chance that a positive scores above a negative, ties counting half.

    Parameters
    ----------
    positive : (n,) bool
    scores : (n,) float, higher = more positive

    Returns
    -------
    float in [0, 1]; nan if one of the two kinds is missing
    """
    label, value = np.asarray(positive, bool).reshape(-1), np.asarray(scores, float).reshape(-1)
    positives, negatives = int(label.sum()), int((~label).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    _, group, counts = np.unique(value, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]  # ties share their mean rank
    return float((ranks[label].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def spearman(a: Sequence[float] | Floats, b: Sequence[float] | Floats) -> float:
    """Rank correlation of two sequences, ties sharing their mean rank; nan if one is constant."""
    ranks = []
    for values in (a, b):
        _, group, counts = np.unique(np.asarray(values, float), return_inverse=True, return_counts=True)
        ranks.append((np.cumsum(counts) - (counts - 1) / 2)[group])
    if min(np.ptp(r) for r in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _resultant(angles: ArrayLike, axis: int | None) -> Any:
    return np.exp(1j * np.radians(np.asarray(angles, float))).mean(axis=axis)


def _area(boxes: Floats) -> Floats:
    area: Floats = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None).prod(-1)
    return area


def _scalar(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value
