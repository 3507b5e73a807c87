"""Images of objects from viewpoint codes: the early layers take the view latent, all others the content latent."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.gan.generator import StyleSynthesis
from ganfoundry.gan.latents import compose_styles
from ganfoundry.images import stored_images


@torch.inference_mode()
def render_pairs(
    synthesis: StyleSynthesis,
    w_content: Tensor,
    w_view: Tensor,
    layers: Sequence[str],
    *,
    noise: Mapping[str, Tensor] | None = None,
    batch_size: int = 32,
) -> NDArray[np.uint8]:
    """Images of (content, view) pairs.

    Parameters
    ----------
    synthesis : StyleSynthesis
    w_content, w_view : (n, w_dim)
        Truncated latents; row i of both make image i.
    layers : names of the layers that take the view latent
    noise : {layer: (n, 1, r, r)}, optional
        Noise of every image; by default the generator's stored maps.
    batch_size : int
        Images at a time; only memory and the last bit of rounding depend on it.

    Returns
    -------
    (n, R, R, 3) uint8
    """
    images = []
    for start in range(0, len(w_content), batch_size):
        rows = slice(start, start + batch_size)
        styles = compose_styles(synthesis, w_content[rows], w_view[rows], layers)
        maps = "const" if noise is None else {name: value[rows] for name, value in noise.items()}
        images.append(stored_images(synthesis(styles=styles, noise=maps)))
    return np.concatenate(images)


def render_objects(
    synthesis: StyleSynthesis,
    w_content: Tensor,
    w_view: Tensor,
    layers: Sequence[str],
    *,
    noise: Mapping[str, Tensor] | None = None,
) -> NDArray[np.uint8]:
    """Images of objects, each from views of its own, (contents, views, R, R, 3) uint8.

    Parameters
    ----------
    w_content : (contents, w_dim)
    w_view : (contents, views, w_dim)
    noise : {layer: (contents, 1, r, r)}, optional
        One noise an object, whatever the view.
    """
    contents, views = w_view.shape[:2]
    spread = None if noise is None else {name: value.repeat_interleave(views, 0) for name, value in noise.items()}
    images = render_pairs(synthesis, w_content.repeat_interleave(views, 0), w_view.flatten(0, 1), layers, noise=spread)
    return images.reshape(contents, views, *images.shape[1:])


def render_grid(
    synthesis: StyleSynthesis, w_content: Tensor, w_view: Tensor, layers: Sequence[str]
) -> NDArray[np.uint8]:
    """Images of every content (contents, w_dim) from every view (views, w_dim), (contents, views, R, R, 3) uint8."""
    return render_objects(synthesis, w_content, w_view.expand(len(w_content), -1, -1), layers)
