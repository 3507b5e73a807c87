"""Coarse labels as fine ones."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt


def refine(coarse: NDArray[np.uint8], near: NDArray[np.uint8], merge: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fine part ids for a label map of a coarser level, guided by fine labels of the same image.

    A pixel takes the fine part of the nearest pixel of `near` whose part belongs to its class, its own first of all;
    where `near` has no part of the class, the first part that merges into it.

    Parameters
    ----------
    coarse : (R, R) uint8 class ids of the level
    near : (R, R) uint8 fine part ids
    merge : (parts,) uint8
        Fine id -> class id, `PartSchema.merge(level)`.

    Returns
    -------
    (R, R) uint8, for which ``merge[result] == coarse``
    """
    result = np.zeros_like(coarse)
    known = merge[near]
    for label in np.unique(coarse):
        here = coarse == label
        if (known == label).any():
            rows, columns = distance_transform_edt(known != label, return_distances=False, return_indices=True)
            result[here] = near[rows[here], columns[here]]
        else:
            result[here] = np.argmax(merge == label)
    return result
