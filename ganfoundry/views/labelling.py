"""Part labels and keypoints of multi-view images, read off the feature maps that the images came from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.gan.generator import StyleSynthesis
from ganfoundry.gan.latents import compose_styles
from ganfoundry.labels.interpreter import StyleInterpreter

BATCH = 8


@dataclass(frozen=True)
class ViewLabels:
    """Labels of n multi-view images.

    Attributes
    ----------
    label : (n, R, R) uint8 class ids
    certainty : (n, R, R) float32, 0..1
        1 - JS / ln(members): 1 where the ensemble agrees.
    keypoints : (n, K, 3) float32, x, y in pixels and the chance of being visible; None without keypoints
    """

    label: NDArray[np.uint8]
    certainty: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None


@torch.inference_mode()
def label_pairs(
    synthesis: StyleSynthesis,
    interpreter: StyleInterpreter,
    w_content: Tensor,
    w_view: Tensor,
    layers: Sequence[str],
    *,
    noise: Mapping[str, Tensor] | None = None,
    batch: int = BATCH,
) -> ViewLabels:
    """Labels of (content, view) pairs; the images are those of `ganfoundry.views.synthesis.render_pairs`.

    Parameters
    ----------
    synthesis : StyleSynthesis
    interpreter : StyleInterpreter
        Trained on this generator's feature maps.
    w_content, w_view : (n, w_dim)
    layers : names of the layers that take the view latent
    noise : {layer: (n, 1, r, r)}, optional
    batch : int
        Images at a time; only memory and the last bit of rounding depend on it.
    """
    maps = interpreter.reads
    ceiling = float(np.log(max(interpreter.config.members, 2)))
    parts: list[tuple[NDArray[np.float32], ...]] = []
    labels = []
    for start in range(0, len(w_content), batch):
        rows = slice(start, start + batch)
        styles = compose_styles(synthesis, w_content[rows], w_view[rows], layers)
        chosen = "const" if noise is None else {name: value[rows] for name, value in noise.items()}
        _, features = synthesis(styles=styles, noise=chosen, features=maps)
        found = interpreter.predict({name: feature.float() for name, feature in features.items()})
        certainty = (1 - found.uncertainty / ceiling).clamp(0, 1)
        labels.append(found.label.numpy())
        parts.append((certainty.numpy(), *(() if found.keypoints is None else (found.keypoints.numpy(),))))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return ViewLabels(np.concatenate(labels), columns[0], columns[1] if len(columns) > 1 else None)
