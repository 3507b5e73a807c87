"""Places of a mesh that no view shows, such as a car's underside, and what is painted there.

Nothing in training says what belongs there, so a network paints anything. What is shown nearest to a place is a better
guess, and a part that the user names once for all objects a better one still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from ganfoundry.images import network_images
from ganfoundry.render.renderer import render
from ganfoundry.shape.uv import mirrored_texture, unproject

if TYPE_CHECKING:
    from ganfoundry.shape.camera_table import CameraTable
    from ganfoundry.shape.multiview import MultiView
    from ganfoundry.shape.networks import InverseGraphicsNetwork

LEAST_SHARE = 0.02  # of the views that show a place, lest it counts as hidden
_VIEWS = 320
_BATCH = 32
_CERTAIN = 10.0  # logit of a named part


@torch.no_grad()
def shown_share(
    network: InverseGraphicsNetwork, table: CameraTable, data: MultiView, *, views: int = _VIEWS, seed: int = 0
) -> Tensor:
    """How many of the views show each texel, as a share of them; a texel and its mirror image share the larger.

    Parameters
    ----------
    network : InverseGraphicsNetwork
    table : CameraTable
        Cameras of the codes.
    data : MultiView
    views : int
        Views to look at, drawn from `data`.
    seed : int

    Returns
    -------
    Tensor, (H, W) in 0..1
    """
    rows = np.random.default_rng(seed).permutation(len(data))[:views]
    total = torch.zeros(network.config.texture)
    for start in range(0, len(rows), _BATCH):
        some = rows[start : start + _BATCH]
        images, cameras = network_images(data.images[some]), table(torch.from_numpy(data.codes[some]))
        vertices = network.shape(network.encode(images)).vertices
        depth = render(vertices, network.topology, cameras, data.size, silhouette="soft").depth
        _, seen = unproject(images, vertices, network.faces, cameras, depth, network.texels)
        total += (seen[:, 0] > 0).sum(0)
    share = total / len(rows)
    if network.config.symmetric_texture:
        share = torch.maximum(share, mirrored_texture(share[None, None])[0, 0])
    return share


def painted_from(shown: Tensor, points: Tensor) -> Tensor:
    """The texel whose paint each texel takes: itself where it is shown, else the nearest that is.

    Parameters
    ----------
    shown : Tensor, bool (H, W)
    points : Tensor, (H, W, 3)
        Where the texels lie on the surface.

    Returns
    -------
    Tensor, int64 (H, W), row * W + column; each its own if none is shown
    """
    own = own_numbers(shown)
    known = shown.flatten().nonzero()[:, 0].numpy()
    if not len(known):
        return own
    places = points.detach().reshape(-1, 3).numpy()
    nearest = torch.from_numpy(known[cKDTree(places[known]).query(places)[1]]).view(shown.shape)
    return torch.where(shown, own, nearest)


def own_numbers(texels: Tensor) -> Tensor:
    """Number of each texel, int64 (H, W): row * W + column."""
    return torch.arange(texels.numel(), device=texels.device).view(texels.shape)


def paint_hidden(colours: Tensor, parts: Tensor, source: Tensor, part: int | None) -> tuple[Tensor, Tensor]:
    """Colours and part logits with the hidden texels painted anew.

    Parameters
    ----------
    colours : Tensor, (N, 3, H, W)
    parts : Tensor, (N, P, H, W)
        Logits.
    source : Tensor, int64 (H, W)
        See `painted_from`; a texel that is not its own source is hidden.
    part : int or None
        Class, a row of `parts`, that hidden texels are of; their colour is the mean of what is shown of that class on
        the same object. None: part and colour of the source.

    Returns
    -------
    colours, parts
    """
    hidden = source != own_numbers(source)
    borrowed = [values.flatten(2)[:, :, source.flatten()].view_as(values) for values in (colours, parts)]
    if part is None:
        return borrowed[0], borrowed[1]
    certain = parts.new_full((1, parts.shape[1], 1, 1), -_CERTAIN)
    certain[:, part] = _CERTAIN
    where = ((parts.argmax(1) == part) & ~hidden)[:, None].to(colours.dtype)
    count = where.sum((2, 3), keepdim=True)
    mean = (colours * where).sum((2, 3), keepdim=True) / count.clamp(min=1)
    paint = torch.where(count > 0, mean, borrowed[0])  # nothing of the class is shown: as if no part had been named
    return torch.where(hidden, paint, colours), torch.where(hidden, certain, parts)
