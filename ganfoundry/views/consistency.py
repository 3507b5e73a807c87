"""How well viewpoint codes hold the camera, and what else follows the view or the content."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganfoundry.metrics import angle_difference, circular_mean, circular_std
from ganfoundry.views.bins import ALL_AROUND, AzimuthBins

Floats = NDArray[np.float64]

_LEAST_SATURATION, _LEAST_VALUE = 0.3, 0.15  # of a colour whose hue means something


@dataclass(frozen=True)
class ViewConsistency:
    """Azimuth of each viewpoint code over contents, all (views,).

    Attributes
    ----------
    azimuth, azimuth_std : degrees
        Circular mean and standard deviation.
    flip_share : 0 to 1
        Images more than 90 degrees from the mean.
    bin : int
        Azimuth bin of the mean; -1 outside all.
    """

    azimuth: Floats
    azimuth_std: Floats
    flip_share: Floats
    bin: NDArray[np.int64]


def view_consistency(azimuth: ArrayLike, bins: AzimuthBins = ALL_AROUND) -> ViewConsistency:
    """Summarise azimuths (contents, views) in degrees."""
    table = np.asarray(azimuth, np.float64)
    mean = np.nan_to_num(np.asarray(circular_mean(table, axis=0)))
    return ViewConsistency(
        azimuth=mean,
        azimuth_std=np.asarray(circular_std(table, axis=0)),
        flip_share=(np.abs(angle_difference(table, mean[None])) > 90).mean(0),
        bin=bins.of(mean),
    )


def variance_shares(values: ArrayLike) -> tuple[float, float]:
    """Shares of the variance that content alone and view alone explain (main effects of a two-way layout).

    Parameters
    ----------
    values : (contents, views) or (contents, views, D)

    Returns
    -------
    (float, float)
        Content's and view's share in [0, 1]; the rest is their interaction. Not a number if all values are equal.
    """
    table = np.asarray(values, np.float64)
    table = table.reshape(*table.shape[:2], -1)
    centre = table.mean((0, 1))
    total = ((table - centre) ** 2).mean((0, 1)).sum()
    if total <= 0:
        return float("nan"), float("nan")
    content = ((table.mean(1) - centre) ** 2).mean(0).sum()
    view = ((table.mean(0) - centre) ** 2).mean(0).sum()
    return float(content / total), float(view / total)


def agreement(classes: ArrayLike) -> tuple[float, float]:
    """How far a class follows the content, and how far the view: mean share of the commonest class of a row, a column.

    Parameters
    ----------
    classes : (contents, views) int

    Returns
    -------
    (float, float)
        1 means that the class is a function of the content (or of the view) alone.
    """
    table = np.asarray(classes)
    return _plurality(table), _plurality(table.T)


def hue_kept(paint: ArrayLike, tolerance: float) -> tuple[float, float]:
    """Share of views whose hue stays near the object's, among objects that have a hue.

    Parameters
    ----------
    paint : (contents, views, 3)
        RGB in [0, 1]. An object's own colour is the median over its views, channel by channel; it has a hue where its
        HSV saturation is above 0.3 and its value above 0.15.
    tolerance : float
        Degrees on the colour circle.

    Returns
    -------
    (float, float)
        Share kept (not a number if no object has a hue), and the share of objects that have one.
    """
    table = np.clip(np.asarray(paint, np.float64), 0, 1)
    own = np.median(table, axis=1, keepdims=True)
    saturation = (own.max(2) - own.min(2)) / np.maximum(own.max(2), 1e-9)
    coloured = ((saturation > _LEAST_SATURATION) & (own.max(2) > _LEAST_VALUE))[:, 0]
    if not coloured.any():
        return float("nan"), 0.0
    gap = np.abs(angle_difference(_hue(table), _hue(own)))[coloured]
    return float((gap <= tolerance).mean()), float(coloured.mean())


def _hue(rgb: Floats) -> Floats:
    """Angle (...) in degrees of colours (..., 3) on the colour circle: red 0, green 120, blue 240; grey: 0."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    chroma = np.maximum(rgb.max(-1) - rgb.min(-1), 1e-9)
    sector = rgb.argmax(-1)
    parts = [(green - blue) / chroma % 6, (blue - red) / chroma + 2, (red - green) / chroma + 4]
    return np.asarray(60 * np.choose(sector, parts))


def _plurality(rows: NDArray[np.integer]) -> float:
    return float(np.mean([np.bincount(row).max() / len(row) for row in rows]))
