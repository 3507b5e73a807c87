"""Optimisation of latents: the w, or the w of every layer, whose picture is nearest to a given one.

Adam with the learning rate of StyleGAN2's projector (arXiv:1912.04958, appendix D: a short linear ramp up, a cosine
down), in coordinates in which the generator's w spread evenly (`wspace`). Noise is the generator's stored noise and is
not optimised: it would soak up the picture without the latent saying anything about it.

W+ gives every layer its own w = common w + delta, with a penalty on delta's length (after e4e, arXiv:2102.02766).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.generator import StyleSynthesis
from ganfoundry.gan.inversion.encoder import Encoder
from ganfoundry.gan.inversion.objective import Objective, Target, layer_distance, psnr
from ganfoundry.gan.inversion.wspace import WSpace
from ganfoundry.gan.latent_spaces import Latents, Space, WLatents, WPlusLatents
from ganfoundry.images import network_images, stored_images

Images = NDArray[np.uint8]
SPACES: tuple[Space, ...] = ("W", "W+")


@dataclass(frozen=True)
class Optimisation:
    """How latents are optimised.

    Attributes
    ----------
    space : "W" or "W+"
    steps : int
        Of Adam.
    rate : float
        Highest learning rate, in standard deviations of w along any direction.
    layer_penalty : float
        W+: weight of the mean squared distance of the layers' w to the common one, in units of the spread of w; 0 lets
        them go free, infinity gives W.
    batch : int
        Images at once; memory and rounding depend on it, nothing else.
    """

    space: Space = "W"
    steps: int = 200
    rate: float = 0.2
    layer_penalty: float = 0.5
    batch: int = 8

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise InputError(f"latents are sought in {' or '.join(SPACES)}, not in {self.space!r}")
        if self.steps < 0 or self.batch < 1 or self.rate <= 0 or not self.layer_penalty >= 0:
            raise InputError("an optimisation needs steps >= 0, batch >= 1, rate > 0 and a layer penalty >= 0")


@dataclass(frozen=True)
class Inversions:
    """Latents of N pictures, and how near they come.

    Attributes
    ----------
    space : "W" or "W+"
    w : (N, w_dim) or (N, num_ws, w_dim) float32
    start_w : (N, w_dim) float32
        Where the optimisation began: the encoder's guess, or the mean w.
    images, start_images : (N, R, R, 3) uint8
        Pictures of `w` and `start_w` with stored noise.
    psnr, start_psnr : (N,) float64
        Against the given pictures, dB.
    perceptual : (N,) float64
        Distance of discriminator features; nan without a discriminator.
    distance : (N,) float64
        Of w to the mean w in units of the spread of w: samples have about 1.
    steps : int
    """

    space: Space
    w: Tensor
    start_w: Tensor
    images: Images
    start_images: Images
    psnr: NDArray[np.float64]
    start_psnr: NDArray[np.float64]
    perceptual: NDArray[np.float64]
    distance: NDArray[np.float64]
    steps: int

    @property
    def latents(self) -> Latents:
        """As points of their space, for `ganfoundry.gan.latent_spaces.save_latents`."""
        return WLatents(self.w) if self.space == "W" else WPlusLatents(self.w)


def learning_rate(step: int, steps: int, ramp_up: float = 0.05, ramp_down: float = 0.25) -> float:
    """Share of the highest learning rate at step 0 .. steps - 1 (StyleGAN2's projector, appendix D)."""
    position = (step + 0.5) / steps
    down = min(1.0, (1.0 - position) / ramp_down)
    return (0.5 - 0.5 * math.cos(math.pi * down)) * min(1.0, position / ramp_up)


def invert(
    gan: LoadedGan,
    images: Images,
    space: Space = "W",
    steps: int = Optimisation.steps,
    encoder: Encoder | None = None,
    *,
    options: Optimisation | None = None,
    objective: Objective | None = None,
    wspace: WSpace | None = None,
    on_step: Callable[[int], None] = lambda images: None,
) -> Inversions:
    """Latents of pictures. All of it runs on the CPU, where `load_gan` puts the networks.

    Parameters
    ----------
    gan : LoadedGan
        Generator, and its discriminator for the perceptual term.
    images : (N, R, R, 3) uint8
        Of the generator's size (`ganfoundry.gan.train_convert.square` brings any picture to it).
    space, steps : str, int
        Of the optimisation; 0 steps: the encoder alone.
    encoder : Encoder, optional
        Gives the start; None: the mean w.
    options : Optimisation, optional
        Everything about the optimisation; replaces `space` and `steps`.
    objective : Objective, optional
        By default :meth:`Objective.of` the generator.
    wspace : WSpace, optional
        :meth:`WSpace.of` the generator, where it is at hand.
    on_step : callable
        Called after each step with the number of images that took it.

    Raises
    ------
    InputError
        If the images are of another shape or type, or the encoder belongs to another generator.
    RunError
        If the optimisation diverges.
    """
    options = options or Optimisation(space=space, steps=steps)
    objective = objective or Objective.of(gan)
    wspace = wspace or WSpace.of(gan.generator)
    if encoder is not None:
        encoder.check_generator(gan.sha256)
    _check_images(images, gan.generator.config.resolution)
    synthesis = gan.generator.synthesis
    pieces = []
    for first in range(0, len(images), options.batch):
        batch = network_images(images[first : first + options.batch])
        start = wspace.mean.expand(len(batch), -1).clone() if encoder is None else encoder.predict(batch)
        target = objective.target(batch)
        w = optimise(synthesis, objective, target, start, wspace, options, on_step)
        pieces.append(_measure(synthesis, objective, target, start, w, wspace))
    columns = [list(column) for column in zip(*pieces, strict=True)]
    w, start = torch.cat(columns[0]), torch.cat(columns[1])
    found, began, perceptual, distance = (np.concatenate(column) for column in columns[2:])
    return Inversions(
        options.space, w, start, found, began, psnr(found, images), psnr(began, images), perceptual, distance,
        options.steps,
    )  # fmt: skip


def optimise(
    synthesis: StyleSynthesis,
    objective: Objective,
    target: Target,
    start: Tensor,
    wspace: WSpace,
    options: Optimisation,
    on_step: Callable[[int], None] = lambda images: None,
) -> Tensor:
    """Minimise the objective over one batch of latents.

    Parameters
    ----------
    target : Target
        N pictures.
    start : (N, w_dim)

    Returns
    -------
    (N, w_dim) or, in W+, (N, num_ws, w_dim), detached
    """
    # The losses of the images are summed and Adam works number by number, so no image feels the others.
    u = wspace.to_u(start).requires_grad_()
    offsets = [u.new_zeros(len(u), synthesis.num_ws, u.shape[1]).requires_grad_()] if options.space == "W+" else []
    adam = torch.optim.Adam([u, *offsets], lr=options.rate, betas=(0.9, 0.999))
    for step in range(options.steps):
        for group in adam.param_groups:
            group["lr"] = options.rate * learning_rate(step, options.steps)
        w, penalty = latent(u, offsets, wspace, options.layer_penalty)
        loss = (objective(synthesis(w), target) + penalty).sum()
        gradients = torch.autograd.grad(loss, [u, *offsets])
        for value, gradient in zip([u, *offsets], gradients, strict=True):
            value.grad = gradient
        adam.step()
        on_step(len(u))
    with torch.no_grad():
        w, _ = latent(u, offsets, wspace, options.layer_penalty)
    if not torch.isfinite(w).all():
        raise RunError("the optimisation of latents diverged; lower the learning rate")
    return w


def latent(u: Tensor, offsets: Sequence[Tensor], wspace: WSpace, penalty: float) -> tuple[Tensor, Tensor]:
    """W or W+ of what is optimised, and the penalty (N,) on W+.

    With delta = offset / sqrt(1 + p) the term p |delta|^2 becomes p / (1 + p) |offset|^2: the same objective, equally
    well conditioned for every penalty p from 0 to infinity.
    """
    w = wspace.to_w(u)
    if not offsets:
        return w, w.new_zeros(len(w))
    scaled = offsets[0] @ wspace.root.to(u.dtype)
    share = 1.0 if math.isinf(penalty) else penalty / (1 + penalty)
    return w[:, None] + scaled / math.sqrt(1 + penalty), share * layer_distance(scaled, wspace.spread)


@torch.no_grad()
def _measure(
    synthesis: StyleSynthesis, objective: Objective, target: Target, start: Tensor, w: Tensor, wspace: WSpace
) -> tuple[Tensor, Tensor, Images, Images, NDArray[np.float64], NDArray[np.float64]]:
    """Everything of one batch that :class:`Inversions` lists, in that order, without PSNR."""
    image = synthesis(w)
    perceptual = objective.perceptual(image, target).double().numpy()
    distance = wspace.distance(w).double().numpy()
    return w, start, stored_images(image), stored_images(synthesis(start)), perceptual, distance


def _check_images(images: Images, side: int) -> None:
    if images.dtype != np.uint8 or images.shape[1:] != (side, side, 3) or not len(images):
        raise InputError(
            f"this generator makes {side} px images, so inversion takes uint8 (N, {side}, {side}, 3) with N of at "
            f"least 1; got {images.dtype} {images.shape}"
        )
