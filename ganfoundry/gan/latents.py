"""Latents by seed: every sample's w and noise follow from its own seed, whatever else is drawn beside it.

The content of an object and its viewpoint are two w vectors fed to different layers (GANverse3D, arXiv:2010.09125
section 3.1: the early layers hold the camera).
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from ganfoundry.gan.generator import StyleGenerator, StyleSynthesis

Seed = int | np.random.SeedSequence

_LATENT, _NOISE = 0, 1  # what a seed is used for; part of the data format, never renumber


def sample_z(z_dim: int, seeds: Sequence[Seed]) -> Tensor:
    """Standard normal latents (N, z_dim) float32, row i drawn from seed i alone."""
    rows = [_random(seed, _LATENT).standard_normal(z_dim, dtype=np.float32) for seed in seeds]
    return torch.from_numpy(np.stack(rows)) if rows else torch.empty(0, z_dim)


@torch.no_grad()
def content_codes(
    generator: StyleGenerator,
    seeds: Sequence[Seed],
    truncation: float,
    c: Tensor | None = None,
) -> Tensor:
    """Truncated w of seeded samples.

    Parameters
    ----------
    generator : StyleGenerator
        Its mapping network and mean w are used.
    seeds : sequence of int or numpy.random.SeedSequence
        One per sample.
    truncation : float
        psi of w_avg + psi (w - w_avg).
    c : torch.Tensor, optional
        (N, c_dim), for conditional generators.

    Returns
    -------
    torch.Tensor
        (N, w_dim) float32 on the generator's device. Computed in double precision, so that a row does not depend on
        how many rows are computed together.
    """
    mapping = copy.deepcopy(generator.mapping).double()
    z = sample_z(generator.config.z_dim, seeds).to(mapping.w_avg.device)
    w = torch.lerp(mapping.w_avg, mapping(z, c), truncation)
    return w.float()


def sample_noise(generator: StyleGenerator, seeds: Sequence[Seed]) -> dict[str, Tensor]:
    """Noise maps of seeded samples, for the ``noise`` argument of the synthesis network.

    Parameters
    ----------
    generator : StyleGenerator
        Decides layers and sizes.
    seeds : sequence of int or numpy.random.SeedSequence
        One per sample. The maps are independent of the latent that :func:`content_codes` draws from the same seed.

    Returns
    -------
    dict of str to torch.Tensor
        {layer: (N, 1, r, r)} float32 of unit variance, on the generator's device.
    """
    synthesis = generator.synthesis
    device = generator.w_avg.device
    sources = [_random(seed, _NOISE) for seed in seeds]
    maps: dict[str, Tensor] = {}
    for name in synthesis.noise_names:
        side = synthesis.feature_dims[name][1]
        drawn = [source.standard_normal((1, side, side), dtype=np.float32) for source in sources]
        maps[name] = torch.from_numpy(np.stack(drawn)).to(device)
    return maps


def compose_styles(
    synthesis: StyleSynthesis,
    w_content: Tensor,
    w_view: Tensor,
    view_layers: Collection[str],
) -> dict[str, Tensor]:
    """Styles of objects seen from viewpoints: the view's w in some layers, the content's in all others.

    Parameters
    ----------
    synthesis : StyleSynthesis
        Network.
    w_content, w_view : torch.Tensor
        (N, w_dim) each; row i of both makes image i. One of them may have a single row, used for all.
    view_layers : collection of str
        Names of ``synthesis.layer_names`` that take the view, e.g. those of the 4 and 8 px blocks.

    Returns
    -------
    dict of str to torch.Tensor
        {layer: (N, C_in)}, for the ``styles`` argument of the synthesis network.

    Raises
    ------
    ValueError
        If a layer is unknown or the numbers of rows do not fit.
    """
    unknown = [name for name in view_layers if name not in synthesis.style_dims]
    if unknown:
        raise ValueError(f"no such layer: {', '.join(unknown)}; there are {', '.join(synthesis.layer_names)}")
    rows = max(len(w_content), len(w_view))
    if {len(w_content), len(w_view)} - {1, rows}:
        raise ValueError(f"as many contents as views, or one of either; got {len(w_content)} and {len(w_view)}")
    content, view = synthesis.styles(w_content), synthesis.styles(w_view)
    return {name: (view if name in view_layers else content)[name].expand(rows, -1) for name in synthesis.layer_names}


def _random(seed: Seed, use: int) -> np.random.Generator:
    """Random generator (Philox, whose stream numpy keeps stable) of one use of a seed."""
    parent = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(int(seed))
    child = np.random.SeedSequence(parent.entropy, spawn_key=(*parent.spawn_key, use))
    return np.random.Generator(np.random.Philox(child))
