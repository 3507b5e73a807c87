"""Which rows of a synthesised set are dropped, and why.

Every rule turns the images' uncertainty scores into a verdict a row; a row that is dropped carries its reason.

    most-uncertain   the given share with the highest scores, or all above a threshold
    released-code    DatasetGAN's released code: of the images sorted by score the slice [30 : -k + 30] is kept. So the
                     30 most certain images go too, and k - 30 of the most uncertain; for k <= 30 nothing is kept
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganfoundry.errors import InputError
from ganfoundry.labels.interpreter_config import FilterRule

_RELEASED_OFFSET = 30


@dataclass(frozen=True)
class Selection:
    """Which rows of a synthesised set are kept.

    Attributes
    ----------
    rows : int, all rows
    dropped : sorted row numbers
    scores : score of each dropped row
    reasons : why each dropped row was dropped
    settings : what was asked for, as it stands in selection.json
    """

    rows: int
    dropped: tuple[int, ...]
    scores: tuple[float, ...]
    reasons: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> NDArray[np.int64]:
        """Row numbers that are kept, ascending."""
        mask = np.ones(self.rows, bool)
        mask[list(self.dropped)] = False
        return np.flatnonzero(mask)

    @property
    def threshold(self) -> float | None:
        """Lowest score dropped; None when nothing was."""
        return min(self.scores, default=None)

    def save(self, path: str | Path) -> None:
        """Write selection.json: the settings, how many were dropped for which reason, and every dropped row."""
        dropped = [
            {"row": row, "score": round(score, 6), "reason": reason}
            for row, score, reason in zip(self.dropped, self.scores, self.reasons, strict=True)
        ]
        table = {
            "rows": self.rows,
            "kept": self.rows - len(self.dropped),
            **self.settings,
            "threshold": self.threshold,
            "reasons": dict(Counter(self.reasons)),
            "dropped": dropped,
        }
        Path(path).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def select(
    scores: ArrayLike, *, fraction: float = 0.1, threshold: float | None = None, rule: FilterRule = "most-uncertain"
) -> Selection:
    """Decide on every row.

    Parameters
    ----------
    scores : (n,) float, uncertainty of each image
    fraction : float in [0, 1)
        Share to drop; the "k" of the released rule is this share of all rows. 0 keeps all under either rule.
    threshold : float, optional
        Drop every row whose score is above it instead.
    rule : see the module

    Raises
    ------
    InputError
        If the fraction is outside [0, 1), a threshold goes with the released rule, or nothing would be kept.
    """
    values = np.asarray(scores, np.float64)
    if not 0 <= fraction < 1:
        raise InputError(f"the fraction to drop must be in [0, 1), got {fraction}")
    if rule == "released-code":
        if threshold is not None:
            raise InputError("released-code drops a fraction; leave the threshold out, or take most-uncertain")
        reasons = _released(values, int(len(values) * fraction)) if fraction > 0 else {}
    elif threshold is not None:
        reasons = {int(row): f"score above {threshold:g}" for row in np.flatnonzero(values > threshold)}
    else:
        reasons = {row: f"among the most uncertain {100 * fraction:g} %" for row in most_uncertain(values, fraction)}
    if len(reasons) == len(values):
        raise InputError(
            f"the filter would drop all {len(values)} images, whose scores are {values.min():.4g} to "
            f"{values.max():.4g}: raise the threshold, or drop a fraction"
        )
    dropped = tuple(sorted(reasons))
    settings = {"rule": rule, "fraction": None if threshold is not None else fraction}
    return Selection(
        len(values), dropped, tuple(values[list(dropped)].tolist()), tuple(reasons[row] for row in dropped), settings
    )


def most_uncertain(scores: ArrayLike, fraction: float) -> list[int]:
    """Rows of the `floor(fraction * n)` highest scores, ascending; of equal scores the higher rows."""
    values = np.asarray(scores, np.float64)
    order = np.argsort(values, kind="stable")
    return sorted(order[len(values) - int(len(values) * fraction) :].tolist())


def _released(scores: NDArray[np.float64], k: int) -> dict[int, str]:
    """Reasons of the rows that `sorted[30 : -k + 30]` leaves out."""
    order = np.argsort(scores, kind="stable").tolist()
    stop = -k + _RELEASED_OFFSET
    kept = set(order[_RELEASED_OFFSET:stop])
    if not kept:
        raise InputError(
            f"the rule released-code keeps [{_RELEASED_OFFSET} : {stop}] of {len(order)} sorted images, which is "
            f"nothing: it needs more than {_RELEASED_OFFSET} images to drop and some to keep; make more images, drop a "
            "larger fraction, or take the rule most-uncertain"
        )
    first = order.index(next(row for row in order if row in kept))
    return {
        row: "among the 30 most certain (rule released-code)"
        if place < first
        else f"among the {k - _RELEASED_OFFSET} most uncertain (rule released-code)"
        for place, row in enumerate(order)
        if row not in kept
    }
