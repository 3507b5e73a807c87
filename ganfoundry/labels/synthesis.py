"""Labelled samples of a generator: style codes in; images, labels and their uncertainty out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.gan.generator import StyleSynthesis
from ganfoundry.labels.interpreter import StyleInterpreter

BATCH = 8
Fit = Callable[[Mapping[str, Tensor], NDArray[np.uint8], NDArray[np.int64]], StyleInterpreter]


@dataclass(frozen=True)
class LabelledSamples:
    """Generated images with labels.

    Attributes
    ----------
    image : (n, R, R, 3) uint8
    label : (n, R, R) uint8 class ids
    uncertainty : (n, R, R) float32, Jensen-Shannon divergence of the ensemble in nats
    score : (n,) float32, mean of the most uncertain tenth of an image's pixels
    keypoints : (n, K, 3) float32, x, y in pixels and the chance of being visible; None without keypoints
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    score: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None = None


def label_samples(
    synthesis: StyleSynthesis,
    interpreter: StyleInterpreter,
    w: Tensor,
    *,
    batch: int = BATCH,
    dtype: torch.dtype = torch.float32,
) -> LabelledSamples:
    """Make and label the images of style codes.

    Parameters
    ----------
    synthesis : StyleSynthesis
    interpreter : StyleInterpreter, trained on this generator's feature maps
    w : (n, w_dim) float32, after truncation
    batch : int
        Samples at a time; only memory and rounding depend on it.
    dtype : torch.float32 or torch.bfloat16, of the interpreter's products
    """
    layers = [name for name, _ in interpreter.config.layers]
    parts = []
    for rows in w.split(batch):
        image, features = images_and_features(synthesis, rows, layers, batch=batch)
        prediction = interpreter.predict(features, dtype=dtype)
        found = [prediction.label, prediction.uncertainty, prediction.score]
        if prediction.keypoints is not None:
            found.append(prediction.keypoints)
        parts.append((image, *(t.numpy() for t in found)))
    return LabelledSamples(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@torch.inference_mode()
def images_and_features(
    synthesis: StyleSynthesis, w: Tensor, layers: Sequence[str], *, batch: int = BATCH
) -> tuple[NDArray[np.uint8], dict[str, Tensor]]:
    """Images of style codes with stored noise, and the feature maps they come from.

    Parameters
    ----------
    synthesis : StyleSynthesis
    w : (n, w_dim) float32
    layers : names of convolutions, such as "b8.conv1"

    Returns
    -------
    (n, R, R, 3) uint8 images, and {name: (n, C, r, r) float32} in the order of `layers`
    """
    images, maps = [], []
    for rows in w.split(batch):
        image, features = synthesis(rows, noise="const", features=list(layers))
        images.append(to_uint8(image))
        maps.append(features)
    joined = {name: torch.cat([m[name] for m in maps]).float() for name in layers}
    return np.concatenate(images), joined


def to_uint8(image: Tensor) -> NDArray[np.uint8]:
    """Network images (n, 3, R, R) in [-1, 1] as stored images (n, R, R, 3) uint8."""
    stored = ((image.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return np.ascontiguousarray(stored.permute(0, 2, 3, 1).numpy())


def held_out_labels(
    features: Mapping[str, Tensor], labels: NDArray[np.uint8], folds: Sequence[NDArray[np.int64]], fit: Fit
) -> NDArray[np.uint8]:
    """Labels of every image by an interpreter that did not see it (k-fold cross-validation).

    Parameters
    ----------
    features : {name: (n, C, r, r)}
    labels : (n, R, R) uint8
    folds : index arrays that together hold each image once
    fit : function (features, labels, row numbers of these images) -> StyleInterpreter

    Returns
    -------
    (n, R, R) uint8
    """
    result = np.empty_like(labels)
    for held_out in folds:
        others = np.setdiff1d(np.arange(len(labels)), held_out)
        interpreter = fit({name: f[others] for name, f in features.items()}, labels[others], others)
        result[held_out] = interpreter.predict({name: f[held_out] for name, f in features.items()}).label.numpy()
    return result


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch use one thread inside: then the bytes of a result do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
