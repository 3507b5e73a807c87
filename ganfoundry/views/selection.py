"""Which candidates become viewpoint codes: the most consistent ones of every azimuth bin, for one shape or for several.

In a small generator the early layers hold the outline as well as the camera, so that an object seen from several codes
changes from a van into a pickup. Codes are therefore chosen shape by shape: candidates that show nearly every content
as a van make the codes of the vans, and an object is shown from the codes of one shape only.
"""

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import RunError
from ganfoundry.metrics import angle_difference
from ganfoundry.views.proposal import Candidates

Rows = NDArray[np.int64]

_BORDER = 4.0  # degrees; a mean azimuth nearer than this to the border of its bin makes the bin a guess
_BORDER_COST = 15.0  # so that such candidates are taken last
_APART = 6.0  # degrees between two codes of a bin, unless no other candidate is left
_SHAPE_COST = 40.0  # of a code that never shows the shape it was chosen for


def choose_codes(
    candidates: Candidates,
    per_bin: int,
    *,
    shape: int | None = None,
    elevation: float | None = None,
    largest_std: float = 60.0,
) -> list[int]:
    """Pick the most consistent candidates of every azimuth bin.

    Within a bin, a second code is chosen so that it is also not the same camera again: a candidate closer than 6
    degrees to a chosen one waits until no other is left.

    Parameters
    ----------
    per_bin : int
        Codes wanted in a bin; a bin with fewer candidates gives what it has.
    shape : int, optional
        Only candidates whose commonest shape is this one.
    elevation : float, optional
        Preferred elevation in degrees.
    largest_std : float
        Candidates with a larger circular standard deviation do not count.

    Returns
    -------
    list of int
        Candidate indices, ordered by bin, in a bin by azimuth.

    Raises
    ------
    RunError
        If a bin stays empty.
    """
    usable = _usable(candidates, shape, largest_std)
    bins, cost = candidates.bin, _cost(candidates, shape, elevation)
    empty = sorted(set(range(candidates.bins.count)) - set(bins[usable].tolist()))
    if empty:
        names = ", ".join(candidates.bins.name(k) for k in empty)
        raise RunError(
            f"no consistent viewpoint code among {len(candidates)} candidates for the azimuth bins {names}; "
            "raise --num-candidates or --largest-std, or train the generator longer"
        )
    chosen: list[int] = []
    for k in range(candidates.bins.count):
        pool = np.flatnonzero((bins == k) & usable)
        picks = _pick(pool[np.argsort(cost[pool], kind="stable")], candidates.azimuth, per_bin)
        chosen += sorted(
            picks,
            key=lambda i: angle_difference(candidates.azimuth[i], candidates.bins.first + candidates.bins.width * k),
        )
    return chosen


def choose_shapes(
    candidates: Candidates,
    names: tuple[str, ...],
    count: int,
    per_bin: int,
    *,
    elevation: float | None = None,
    largest_std: float = 60.0,
) -> dict[int, list[int]]:
    """Pick codes for the shapes that can be seen consistently from all around.

    Parameters
    ----------
    names : tuple of str
        Of the shapes, for messages.
    count : int
        Shapes wanted, at most. Those with the smallest mean cost are kept.
    per_bin, elevation, largest_std
        As for `choose_codes`; only shapes with `per_bin` candidates in every bin count.

    Returns
    -------
    {shape: candidate indices}, ordered by shape

    Raises
    ------
    RunError
        If no shape has candidates in all bins; the sentence names the bins that each shape lacks.
    """
    found: dict[int, list[int]] = {}
    lacking = []
    for shape, name in enumerate(names):
        counts = np.bincount(candidates.bin[_usable(candidates, shape, largest_std)], minlength=candidates.bins.count)
        if counts.min() >= per_bin:
            found[shape] = choose_codes(candidates, per_bin, shape=shape, elevation=elevation, largest_std=largest_std)
        else:
            lacking.append(f"{name} in {', '.join(str(k) for k in np.flatnonzero(counts < per_bin))}")
    if not found:
        raise RunError(
            f"no shape has {per_bin} steady viewpoint codes in every azimuth bin; too few for {'; '.join(lacking)}: "
            "raise --num-candidates, lower --codes-per-bin, or give --shapes 0 not to tell shapes apart"
        )
    mean = {shape: float(_cost(candidates, shape, elevation)[rows].mean()) for shape, rows in found.items()}
    kept = sorted(sorted(found, key=lambda shape: mean[shape])[:count])
    return {shape: found[shape] for shape in kept}


def shortlist(candidates: Candidates, per_cell: int, *, shapes: bool, largest_std: float = 60.0) -> Rows:
    """Candidates worth a closer look, sorted: the best of every azimuth bin, of every shape if shapes are told apart.

    Parameters
    ----------
    per_cell : int
        Candidates of each bin (and shape).
    """
    kept: list[int] = []
    for shape in range(candidates.shape.shape[1]) if shapes else (None,):
        usable, cost = _usable(candidates, shape, largest_std), _cost(candidates, shape, None)
        for k in range(candidates.bins.count):
            pool = np.flatnonzero((candidates.bin == k) & usable)
            kept += pool[np.argsort(cost[pool], kind="stable")][:per_cell].tolist()
    return np.unique(np.array(kept, np.int64))


def _usable(candidates: Candidates, shape: int | None, largest_std: float) -> NDArray[np.bool_]:
    steady = (candidates.azimuth_std <= largest_std) & (candidates.bin >= 0)
    return steady if shape is None else steady & (candidates.shape.argmax(1) == shape)


def _cost(candidates: Candidates, shape: int | None, elevation: float | None) -> NDArray[np.float64]:
    near_border = candidates.bins.off_centre(candidates.azimuth) > candidates.bins.width / 2 - _BORDER
    cost = candidates.cost(elevation) + _BORDER_COST * near_border
    return cost if shape is None else cost + _SHAPE_COST * (1 - candidates.shape[:, shape])


def _pick(ranked: Rows, azimuth: NDArray[np.float64], count: int) -> list[int]:
    picks: list[int] = []
    waiting: list[int] = []
    for candidate in ranked.tolist():
        near = any(abs(angle_difference(azimuth[candidate], azimuth[other])) < _APART for other in picks)
        (waiting if near else picks).append(candidate)
    return (picks + waiting)[:count]
