"""Where a generator's w lie: their mean and spread, and coordinates in which they spread evenly.

The axes of W differ much in variance, so that a step of one length means little along one and ruins the picture along
another. The search works in coordinates u with w = mean + u S, S the symmetric square root of the covariance of w:
there the samples have unit variance in every direction (Zhu et al. 2020, arXiv:2012.09036, section 4, does the same
with principal axes; the symmetric root needs no choice of signs).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganfoundry.data.seeds import TRAIN, sample_seed
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.latents import content_codes

SAMPLES = 4096
SMALLEST_VARIANCE = 1e-4  # of the largest along an axis; w may fill fewer dimensions than it has


@dataclass(frozen=True)
class WSpace:
    """Distribution of a generator's w.

    Attributes
    ----------
    mean : (w_dim,) float32
        Mean of w.
    spread : float
        Root mean square distance of w to the mean: the unit of distances in W.
    root : (w_dim, w_dim) float32
        Symmetric square root of the covariance.
    """

    mean: Tensor
    spread: float
    root: Tensor

    @classmethod
    def of(cls, generator: StyleGenerator) -> WSpace:
        """Measure a generator by 4,096 samples of fixed seeds; the classes of a conditional one take turns."""
        classes = generator.config.c_dim
        c = torch.eye(classes)[torch.arange(SAMPLES) % classes] if classes else None
        w = content_codes(generator, [sample_seed(0, TRAIN, index) for index in range(SAMPLES)], 1.0, c).double()
        mean = w.mean(dim=0)
        variance, axes = torch.linalg.eigh((w - mean).T @ (w - mean) / len(w))
        scale = variance.clamp(min=float(variance[-1]) * SMALLEST_VARIANCE).sqrt()
        return cls(mean.float(), float(variance.clamp(min=0).sum().sqrt()), ((axes * scale) @ axes.T).float())

    def to_w(self, u: Tensor) -> Tensor:
        """W (..., w_dim) of even coordinates (..., w_dim)."""
        return self.mean.to(u.dtype) + u @ self.root.to(u.dtype)

    def to_u(self, w: Tensor) -> Tensor:
        """Even coordinates (..., w_dim) of w (..., w_dim); the inverse of :meth:`to_w`."""
        offset = (w - self.mean).double()
        u: Tensor = torch.linalg.solve(self.root.double(), offset.unsqueeze(-1))
        return u.squeeze(-1).to(w.dtype)

    def distance(self, w: Tensor) -> Tensor:
        """Distance to the mean w in units of the spread, (N,): 1 is as far as samples are.

        Parameters
        ----------
        w : (N, w_dim) or (N, num_ws, w_dim)
            Of W+, the root mean square over its layers.
        """
        squares = (w - self.mean).square().sum(dim=-1)
        return (squares if w.ndim == 2 else squares.mean(dim=1)).sqrt() / self.spread
