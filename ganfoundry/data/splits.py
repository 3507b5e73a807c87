"""Training, validation and test rows: by sample, so that rows which show the same object never part."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError

SPLITS = ("train", "val", "test")
"""Names; a row's split is stored as the index."""


def assign_splits(
    groups: npt.NDArray[Any], val_fraction: float, test_fraction: float, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Return the split of every row, an index into :data:`SPLITS`.

    The groups are put in the order of a hash of (seed, group); the first become the validation set, the next the test
    set.  So the fractions are met to one group, a row's place does not depend on the order of the rows, and the
    training and validation rows of a split without test rows contain those of one with.

    Parameters
    ----------
    groups : ndarray of integers (n,)
        Rows of the same number belong together.
    val_fraction, test_fraction : float
        Shares of the groups, >= 0, together below 1.
    seed : int
        Another seed gives another split.

    Returns
    -------
    ndarray, uint8 (n,)

    Raises
    ------
    InputError
        If the fractions leave no training rows, or one that was asked for gets no row.
    """
    if not (val_fraction >= 0 and test_fraction >= 0 and val_fraction + test_fraction < 1):
        raise InputError(
            f"val_fraction {val_fraction:g} and test_fraction {test_fraction:g} must be 0 or more and leave something "
            "to train on: lower them"
        )
    distinct, member = np.unique(groups, return_inverse=True)
    order = np.argsort(mix(distinct.astype(np.uint64), seed), kind="stable")
    val, test = (round(fraction * len(distinct)) for fraction in (val_fraction, test_fraction))
    for name, fraction, count in (("val", val_fraction, val), ("test", test_fraction, test)):
        if fraction > 0 and count == 0:
            raise InputError(
                f"{name}_fraction {fraction:g} of {len(distinct)} samples is none: raise it or set it to 0"
            )
    if val + test >= len(distinct):
        raise InputError(f"nothing of {len(distinct)} samples is left to train on: lower the fractions")
    split = np.zeros(len(distinct), np.uint8)
    split[order[:val]] = 1
    split[order[val : val + test]] = 2
    return split[member]


def mix(numbers: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of (seed, number), one to one for each seed.

    Two rounds of the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
    generators"), the seed added between them.
    """
    mask = (1 << 64) - 1
    return _finalise(_finalise(numbers) + np.uint64((seed * 0x9E3779B97F4A7C15) & mask))


def _finalise(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
