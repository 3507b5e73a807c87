"""What the benchmarks of the label factory share: the shipped generator, its labels, an interpreter, a judge."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import _labels_data as data
from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, sample_integer
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.interpreter import StyleInterpreter, Training
from ganfoundry.labels.keypoints import visible_only
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.synthesis import images_and_features
from ganfoundry.worlds.annotator import Annotator

GENERATOR, LABELS, LEVEL = "cars-64", "annotations/cars/labels", "parts12"


def generator() -> LoadedGan:
    """The generator that ships."""
    return load_gan(GENERATOR)


def labels(gan: LoadedGan) -> LabelSet:
    """Its 16 labelled samples."""
    return LabelSet.load(LABELS, gan.sha256)


def fit(
    gan: LoadedGan, label_set: LabelSet, *, members: int = 10, steps: int = 300, keypoints: bool = True, seed: int = 0
) -> StyleInterpreter:
    """Interpreter of the labels and of the viewpoint codes' directions, with the settings of train-interpreter."""
    synthesis = gan.generator.synthesis
    features = images_and_features(synthesis, torch.from_numpy(label_set.w), list(synthesis.feature_dims))[1]
    known = label_set.keypoints if keypoints else None
    return StyleInterpreter.fit(
        features,
        label_set.at_level(LEVEL),
        len(label_set.schema.names(LEVEL)),
        members=members,
        keypoints=None if known is None else visible_only(known),
        training=Training(steps=steps, seed=seed),
        direction=data.direction(seed),
    )


def unseen(gan: LoadedGan, count: int, *, root: int = 0, truncation: float = 0.7) -> Tensor:
    """Style codes (count, w_dim) of samples that no label belongs to."""
    seeds = [sample_integer(root, EVALUATION, index) for index in range(count)]
    return content_codes(gan.generator, seeds, truncation)


@dataclass(frozen=True)
class Judge:
    """The annotator network as the labeller whose labels count as the truth.

    The interpreter learns from labels of this network, so its error against it is its error against whoever labelled.
    Where the network contradicts itself on the mirrored image, its label is no truth.
    """

    network: Annotator
    merge: NDArray[np.uint8]  # fine part -> class

    @classmethod
    def load(cls, label_set: LabelSet) -> "Judge":
        """The annotator that ships, at the level of the benchmarks."""
        return cls(Annotator.load(weights.path("cars-annotator")), label_set.schema.merge(LEVEL))

    def labels(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Classes (n, R, R) of images (n, R, R, 3)."""
        return self.merge[self.network.annotate(images).parts]

    def trusted(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Classes, and where the network says the same of the mirrored image."""
        straight = self.labels(images)
        mirrored = self.labels(np.ascontiguousarray(images[:, :, ::-1]))[:, :, ::-1]
        return straight, straight == mirrored


def seeds_text(values: Sequence[float], digits: int = 3) -> str:
    """Mean and standard deviation over seeds."""
    array = np.asarray(values, float)
    return f"{array.mean():.{digits}f} +- {array.std(ddof=1) if len(array) > 1 else 0:.{digits}f}"
