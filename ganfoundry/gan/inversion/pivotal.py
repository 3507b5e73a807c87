"""Pivotal tuning (Roich et al. 2021, arXiv:2106.05744): bend the generator until the found w makes the picture.

The w that an optimisation in W found is the pivot and stays fixed; the weights of a copy of the synthesis network are
tuned until it makes the picture there (equation 2). What else the generator makes is to stay: at points between the
pivot and random samples the tuned network is held to the pictures of the original (equations 3 to 5).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ganfoundry.data.seeds import TRAIN, sample_seed
from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.inversion.objective import Objective
from ganfoundry.gan.inversion.wspace import WSpace
from ganfoundry.gan.latents import content_codes


@dataclass(frozen=True)
class Tuning:
    """How a generator is tuned.

    Attributes
    ----------
    steps : int
        Of Adam.
    rate : float
        Its learning rate.
    locality_weight : float
        Of the change at points beside the pivot (lambda_R of equation 5).
    locality_distance : float
        How far these points are from the pivot, in units of the spread of w (alpha of equation 3).
    seed : int
        Of the random samples that give their directions.
    """

    steps: int = 60
    rate: float = 2e-3
    locality_weight: float = 1.0
    locality_distance: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rate <= 0 or self.locality_weight < 0 or self.locality_distance <= 0:
            raise InputError("tuning needs steps >= 1, rate > 0, locality weight >= 0 and locality distance > 0")


def tune_generator(
    generator: StyleGenerator,
    objective: Objective,
    image: Tensor,
    w: Tensor,
    tuning: Tuning | None = None,
    *,
    wspace: WSpace | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> StyleGenerator:
    """Copy of a generator that makes the given pictures at the given w.

    Parameters
    ----------
    generator : StyleGenerator
        Left as it is.
    objective : Objective
        Distance of pictures, for the pivot and for locality.
    image : (N, 3, R, R) float in [-1, 1]
        Usually one picture; several share the copy.
    w : (N, w_dim) or (N, num_ws, w_dim)
        The pivots.
    tuning : Tuning, optional
    wspace : WSpace, optional
        :meth:`WSpace.of` the generator, where it is at hand.
    on_step : callable
        Called after each step.

    Raises
    ------
    RunError
        If the tuning diverges.
    """
    tuning, wspace = tuning or Tuning(), wspace or WSpace.of(generator)
    tuned = copy.deepcopy(generator)
    weights = list(tuned.synthesis.requires_grad_().parameters())
    target = objective.target(image)
    pivots = w if w.ndim == 3 else w[:, None].expand(-1, generator.num_ws, -1)
    beside = neighbours(generator, pivots, wspace, tuning)
    adam = torch.optim.Adam(weights, lr=tuning.rate, betas=(0.9, 0.999))
    for step in range(tuning.steps):
        adam.zero_grad(set_to_none=True)
        if tuning.locality_weight > 0:
            near = beside[step : step + 1]
            with torch.no_grad():
                kept = objective.target(generator.synthesis(near))
            made = tuned.synthesis(torch.cat([pivots, near]))
            loss = objective(made[:-1], target).mean()
            loss = loss + tuning.locality_weight * objective(made[-1:], kept).mean()
        else:
            loss = objective(tuned.synthesis(pivots), target).mean()
        loss.backward()
        adam.step()
        if not torch.isfinite(loss):
            raise RunError(f"the tuning diverged at step {step + 1}; lower its learning rate")
        on_step()
    return tuned.eval().requires_grad_(False)


def neighbours(generator: StyleGenerator, pivots: Tensor, wspace: WSpace, tuning: Tuning) -> Tensor:
    """Points at a fixed distance from the pivots towards random samples, one a step, (steps, num_ws, w_dim).

    Equation 3: w_r = w_p + alpha (w_z - w_p) / |w_z - w_p|; the pivots take turns.
    """
    classes = generator.config.c_dim
    c = torch.eye(classes)[torch.arange(tuning.steps) % classes] if classes else None
    samples = content_codes(generator, [sample_seed(tuning.seed, TRAIN, k) for k in range(tuning.steps)], 1.0, c)
    centre = pivots[torch.arange(tuning.steps) % len(pivots)]
    offset = samples[:, None] - centre
    length = offset.square().sum(dim=-1).mean(dim=-1).sqrt()[:, None, None]
    return centre + tuning.locality_distance * wspace.spread * offset / length.clamp(min=1e-12)
