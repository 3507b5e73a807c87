"""How close two sets of images are, in the space of some features: Frechet distance, precision and recall.

Frechet distance: Heusel et al. 2017 (arXiv:1706.08500, eq. 6), after Dowson and Landau 1982. One number for a whole
set; it falls with the number of samples, so only figures of equally many samples compare, and what the same number of
real images reaches is its floor. Precision and recall: Kynkaanniemi et al. 2019 (arXiv:1904.06991, eq. 1-2): how much
of what is generated looks real, and how much of what is real can be generated.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganfoundry.errors import InputError

Floats = NDArray[np.float64]
_BLOCK = 1024  # rows of a distance matrix that are in memory at a time


class PrecisionRecall(NamedTuple):
    """Shares in [0, 1]."""

    precision: float
    recall: float


def frechet_distance(features_a: ArrayLike, features_b: ArrayLike) -> float:
    """Squared Frechet (2-Wasserstein) distance of the Gaussians that fit two sets of features.

    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a^(1/2) S_b S_a^(1/2))^(1/2)), in float64. The trace of the last root is the sum
    of the singular values of F_a F_b^T for any factors S = F^T F, so triangular factors of the centred samples are
    enough: no root of a covariance is taken, whose rounding would add up over hundreds of dimensions, and fewer samples
    than dimensions are no special case.

    Parameters
    ----------
    features_a, features_b : (n, D), (m, D) float, n and m at least 2

    Returns
    -------
    float, >= 0, in squared units of the features

    Raises
    ------
    InputError
        If the sets do not have the same D, hold fewer than two rows, or values that are not finite.
    """
    a, b = _checked(features_a, features_b, least=2)
    mean_a, mean_b = a.mean(0), b.mean(0)
    factor_a, factor_b = _factor(a - mean_a), _factor(b - mean_b)
    overlap = np.linalg.svd(factor_a @ factor_b.T, compute_uv=False).sum()
    distance = ((mean_a - mean_b) ** 2).sum() + (factor_a**2).sum() + (factor_b**2).sum() - 2 * overlap
    return max(float(distance), 0.0)


def _factor(centred: Floats) -> Floats:
    """F with F^T F the sample covariance, (min(n, D), D)."""
    root: Floats = np.linalg.qr(centred, mode="r") / np.sqrt(len(centred) - 1)
    return root


def precision_recall(real: ArrayLike, fake: ArrayLike, k: int = 3) -> PrecisionRecall:
    """Improved precision and recall: shares of each set that lie in the other's manifold.

    A set's manifold is the union of a ball around each of its points that reaches to the point's k-th nearest
    neighbour in the set, border included.

    Parameters
    ----------
    real, fake : (n, D), (m, D) float, more than k rows each
    k : int, at least 1

    Returns
    -------
    PrecisionRecall
        Precision: share of `fake` in the manifold of `real`; recall: share of `real` in the manifold of `fake`.

    Raises
    ------
    InputError
        If the sets do not have the same D, hold k rows or fewer, or values that are not finite.
    """
    if k < 1:
        raise InputError(f"the manifold takes the k-th nearest neighbour, k at least 1; got {k}")
    a, b = _checked(real, fake, least=k + 1)
    centre = a.mean(0)  # squared distances are differences of large numbers unless the origin is near
    a, b = a - centre, b - centre
    scale = max((a**2).sum(1).max(), (b**2).sum(1).max())
    tolerance = 1e-12 * scale  # rounding of a squared distance: a point is inside its own ball of radius 0
    radius_a, radius_b = _squared_radii(a, k) + tolerance, _squared_radii(b, k) + tolerance
    in_a, in_b = np.zeros(len(b), bool), np.zeros(len(a), bool)
    for first in range(0, len(a), _BLOCK):
        rows = slice(first, first + _BLOCK)
        distance = _squared_distances(a[rows], b)
        in_a |= (distance <= radius_a[rows, None]).any(0)
        in_b[rows] = (distance <= radius_b).any(1)
    return PrecisionRecall(float(in_a.mean()), float(in_b.mean()))


def _squared_radii(points: Floats, k: int) -> Floats:
    """Squared distance of every point to its k-th nearest other one, (n,)."""
    radii = np.empty(len(points))
    for first in range(0, len(points), _BLOCK):
        distance = _squared_distances(points[first : first + _BLOCK], points)
        radii[first : first + len(distance)] = np.partition(distance, k, axis=1)[:, k]  # at 0 is the point itself
    return radii


def _squared_distances(a: Floats, b: Floats) -> Floats:
    # float64: in float32 the rounding of this form reaches the distances of near neighbours.
    squared: Floats = np.maximum((a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * (a @ b.T), 0)
    return squared


def _checked(first: ArrayLike, second: ArrayLike, least: int) -> tuple[Floats, Floats]:
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"two sets of features (n, D) with one D are compared; these are {a.shape} and {b.shape}")
    if min(len(a), len(b)) < least:
        raise InputError(f"sets of {len(a)} and {len(b)} features are too small to compare; give at least {least}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("some features are not finite; look at the images they come from")
    return a, b
