"""Smooth changes of a mesh: what is learnt goes through (I + s L)^-1 before it moves the vertices.

Nicolet et al. 2021 (Large Steps in Inverse Rendering of Geometry, equation 10 and section 3.3): a picture's gradient is
large at the few vertices of the outline and 0 next to them. Steps along it tear the mesh; regularisers strong enough to
hold it together also flatten it. A step on u in x = (I + s L)^-1 u moves the neighbourhood along instead, and leaves
every shape reachable.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu
from torch import Tensor

from ganfoundry.shape.template import sphere_template

_SIZE = 642  # vertices of level 3, for which strengths are given: with twice the vertices the same width takes twice s


@lru_cache(maxsize=4)
def smoothing_matrix(level: int, strength: float) -> Tensor:
    """Inverse of I + s L on the icosphere of a level, L its Laplacian (degrees minus neighbours).

    Parameters
    ----------
    level : int
    strength : float
        s at level 3; scaled with the number of vertices, so that it means the same width on the sphere. 0: identity.

    Returns
    -------
    Tensor, float32 (V, V)
        Symmetric; rows sum to 1, so a shift of all vertices stays what it is.
    """
    template = sphere_template(level)
    count = len(template.vertices)
    start, end = template.edges.T
    ones = np.ones(len(start))
    neighbours = sparse.coo_matrix((ones, (start, end)), (count, count))
    neighbours = neighbours + neighbours.T
    degrees = sparse.diags(np.asarray(neighbours.sum(1)).ravel())
    system = sparse.identity(count) + strength * count / _SIZE * (degrees - neighbours)
    inverse = splu(system.tocsc()).solve(np.eye(count))
    return torch.from_numpy(((inverse + inverse.T) / 2).astype(np.float32))
