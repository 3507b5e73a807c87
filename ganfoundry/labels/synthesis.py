"""Labelled samples of a generator: style codes in; images, labels and their uncertainty out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.images import stored_images
from ganfoundry.labels.direction import DIRECTION, DirectionHead, with_direction
from ganfoundry.labels.factorised import Mode
from ganfoundry.labels.feature_source import FeatureSource, images_and_maps
from ganfoundry.labels.feature_table import FeatureTable
from ganfoundry.labels.interpreter import Prediction, StyleInterpreter

if TYPE_CHECKING:
    from ganfoundry.labels.distillation import DistilledHead

BATCH = 8
_PREDICTED = ("label", "uncertainty", "score", "keypoints", "keypoint_spread")
Fit = Callable[[FeatureTable, NDArray[np.int64]], StyleInterpreter]


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
    keypoint_spread : (n, K) float32, pixels, how far apart the members place a keypoint; None without keypoints, and of
        a distilled head, which has no members
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    uncertainty: NDArray[np.float32]
    score: NDArray[np.float32]
    keypoints: NDArray[np.float32] | None = None
    keypoint_spread: NDArray[np.float32] | None = None


def label_samples(
    synthesis: FeatureSource,
    interpreter: "StyleInterpreter | DistilledHead",
    w: Tensor,
    *,
    batch: int = BATCH,
    dtype: torch.dtype = torch.float32,
) -> LabelledSamples:
    """Make and label the images of style codes.

    Parameters
    ----------
    synthesis : FeatureSource
    interpreter : StyleInterpreter trained on this generator's feature maps, or the head distilled from it
    w : (n, w_dim) float32, after truncation
    batch : int
        Samples at a time; only memory and rounding depend on it.
    dtype : torch.float32 or torch.bfloat16, of the interpreter's products
    """
    layers = interpreter.reads
    parts: list[dict[str, NDArray[Any]]] = []
    for rows in w.split(batch):
        image, features = images_and_features(synthesis, rows, layers, batch=batch)
        prediction = interpreter.predict(features, dtype=dtype)
        found = {name: getattr(prediction, name) for name in _PREDICTED}
        parts.append({"image": image} | {name: value.numpy() for name, value in found.items() if value is not None})
    return LabelledSamples(**{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})


@torch.inference_mode()
def images_and_features(
    synthesis: FeatureSource, w: Tensor, layers: Sequence[str], *, batch: int = BATCH
) -> tuple[NDArray[np.uint8], dict[str, Tensor]]:
    """Images of style codes with stored noise, and the feature maps they come from.

    Parameters
    ----------
    synthesis : FeatureSource
    w : (n, w_dim) float32
    layers : names of convolutions, such as "b8.conv1", or "b8.conv1:raw"

    Returns
    -------
    (n, R, R, 3) uint8 images, and {name: (n, C, r, r) float32} in the order of `layers`
    """
    images, maps = [], []
    for rows in w.split(batch):
        image, features = images_and_maps(synthesis, rows, layers)
        images.append(stored_images(image))
        maps.append(features)
    joined = {name: torch.cat([m[name] for m in maps]).float() for name in layers}
    return np.concatenate(images), joined


@torch.inference_mode()
def images_and_table(
    synthesis: FeatureSource,
    w: Tensor,
    layers: Sequence[str],
    *,
    mode: Mode = "bilinear",
    standardise: bool = True,
    direction: DirectionHead | None = None,
) -> tuple[NDArray[np.uint8], FeatureTable]:
    """Images of style codes, and their feature maps as a table for training; one image is made at a time.

    Parameters
    ----------
    synthesis, w, layers : as in :func:`images_and_features`
    mode, standardise : as in :class:`FeatureTable`
    direction : DirectionHead, optional
        Of the interpreter that the table is for.
    """
    images: list[NDArray[np.uint8]] = []
    read = list(dict.fromkeys([*layers, *(direction.names if direction else ())]))

    def maps(rows: Iterable[Tensor]) -> Iterator[dict[str, Tensor]]:
        for row in rows:
            image, features = images_and_maps(synthesis, row, read)
            images.append(stored_images(image))
            yield with_direction(features, layers, direction)

    made = maps(w.split(1))
    first = next(made)
    side = images[0].shape[1]
    table = FeatureTable.build(chain([first], made), len(w), side, mode, standardise=standardise, unscaled=(DIRECTION,))
    return np.concatenate(images), table


def predict_table(interpreter: StyleInterpreter, table: FeatureTable) -> Prediction:
    """Predict the images of a table one by one."""
    return Prediction.joined([interpreter.predict(table.features(index)) for index in range(len(table))])


def held_out_prediction(table: FeatureTable, folds: Sequence[NDArray[np.int64]], fit: Fit) -> Prediction:
    """Predict every image by an interpreter that did not see it (k-fold cross-validation).

    Parameters
    ----------
    table : FeatureTable
    folds : index arrays that together hold each image once
    fit : function (table of the other images, their row numbers) -> StyleInterpreter
    """
    found: dict[int, Prediction] = {}
    for unseen in folds:
        others = np.setdiff1d(np.arange(len(table)), unseen)
        interpreter = fit(table.subset(torch.from_numpy(others)), others)
        for image in unseen.tolist():
            found[image] = interpreter.predict(table.features(image))
    return Prediction.joined([found[image] for image in sorted(found)])


@contextmanager
def single_thread() -> Iterator[None]:
    """Let torch use one thread inside: then the bytes of a result do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
