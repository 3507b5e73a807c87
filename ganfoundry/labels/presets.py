"""Three ways to build a Style Interpreter: ours, DatasetGAN's paper and its released code.

Paper and code differ from each other. What concerns the interpreter, row by row:

| | paper | released code | ours |
|---|---|---|---|
| feature maps | all AdaIN outputs | second AdaIN's output and raw second convolution of each side | all layers |
| resizing | nearest | bilinear | bilinear |
| pixels | random, every region | all, in epochs | by class, region and keypoint |
| image score | mean over all pixels | mean over the most uncertain tenth | mean over the object |
| divergence | of the mean probability | the same, since September 2021 | the same |
| filter | the most uncertain 10 % | off; with k images, the slice [30 : -k + 30] | the most uncertain 10 % |
| keypoints | heat maps, squared error | none | heat maps, cross-entropy |
| direction of the object | - | - | from viewpoint codes, if there are any |
| vote | - | majority of the members | mean probability |
| second hidden layer below 32 classes | 32 | 32 | 64 |

Two more rows are other commands' options. The paper is quoted with a "ResNet151" behind DeepLab, which does not exist;
the code has ResNet-101: `train-downstream --backbone resnet101`. The paper chooses samples to label by the ensemble's
disagreement and a core-set (`select`), the code at random (`select --method random`).

Paper and code train MLPs of 128 and 32 units (256 and 128 from 32 classes on), linear, ReLU, batch normalisation, with
normal weights of deviation 0.02, by Adam at 1e-3 on 64 pixels a step, until from the fifth epoch on more than 50 steps
in a row bring no lower loss. Classes of fewer than 30 pixels in an image become background.

StyleGAN2 has no AdaIN; the outputs of its layers stand for it. Until September 2021 the released code took the entropy
of the mean *logits* for the first term of the divergence; that was an error, which is not reproduced. Nor is its
`max_label + 1` outputs, which fails where the labelled images lack the last class.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.labels.direction import DirectionHead
from ganfoundry.labels.factorised import Mode
from ganfoundry.labels.feature_source import FeatureSource, layers_of
from ganfoundry.labels.feature_table import FeatureTable
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.interpreter_config import FilterRule, Head, Heat, ImageScore, Training, Voting


@dataclass(frozen=True)
class Preset:
    """Everything that is chosen before an interpreter is trained.

    Attributes
    ----------
    features : "all" layers' outputs, or "second-and-raw", see `feature_source.layers_of`
    keypoints : whether keypoints are learnt where the labels have any
    direction : whether the direction of the object is learnt where there are viewpoint codes
    hidden : widths; None: 128 and `second_width`, from 32 classes on 256 and 128
    others : see `InterpreterConfig` and `Training`
    """

    name: str
    features: str = "all"
    mode: Mode = "bilinear"
    voting: Voting = "soft"
    image_score: ImageScore = "object"
    filter_rule: FilterRule = "most-uncertain"
    filter_fraction: float = 0.1
    keypoints: bool = True
    keypoint_head: Head = "shared"
    heat: Heat = "sigmoid"
    direction: bool = True
    members: int = 10
    hidden: tuple[int, ...] | None = None
    second_width: int = 64
    training: Training = field(default_factory=Training)

    def layers(self, source: FeatureSource) -> list[str]:
        """Names of the feature maps to read."""
        return layers_of(source, self.features)

    def fit(
        self,
        table: FeatureTable,
        labels: NDArray[np.uint8],
        num_classes: int,
        *,
        keypoints: NDArray[np.float32] | None = None,
        weights: NDArray[np.float32] | None = None,
        direction: DirectionHead | None = None,
        advance: Callable[[], Any] | None = None,
    ) -> StyleInterpreter:
        """Train an interpreter; parameters as in `StyleInterpreter.fit`."""
        interpreter = StyleInterpreter.fit(
            table,
            labels,
            num_classes,
            members=self.members,
            hidden=self.hidden or ((256, 128) if num_classes >= 32 else (128, self.second_width)),
            voting=self.voting,
            keypoints=keypoints if self.keypoints else None,
            keypoint_head=self.keypoint_head,
            heat=self.heat,
            weights=weights,
            training=self.training,
            direction=direction,
            advance=advance,
        )
        return interpreter.with_config(
            preset=self.name,
            image_score=self.image_score,
            filter_rule=self.filter_rule,
            filter_fraction=self.filter_fraction,
        )


_PUBLISHED = Training(
    steps=0,
    batch_pixels=64,
    pixels="all",
    balance=0.0,
    region_share=0.0,
    keypoint_share=0.0,
    prior=0.0,
    min_pixels=30,
    specks="background",
    epochs=100,
    patience=50,
    optimiser="adam",
    learning_rate=1e-3,
    weight_decay=0.0,
    initialisation="normal",
    batch_norm=True,
    standardise=False,
    dropout=0.0,
    heat_weight=1.0,
)
PRESETS = {
    "ours": Preset("ours"),
    "paper": Preset(
        "paper",
        mode="nearest",
        voting="majority",
        image_score="mean",
        heat="linear",
        direction=False,
        second_width=32,
        training=replace(_PUBLISHED, pixels="drawn", region_share=0.2),
    ),
    "released-code": Preset(
        "released-code",
        features="second-and-raw",
        voting="majority",
        image_score="top-tenth",
        filter_rule="released-code",
        direction=False,
        filter_fraction=0.0,
        keypoints=False,
        second_width=32,
        training=_PUBLISHED,
    ),
}


def get_preset(name: str) -> Preset:
    """Return a preset by name.

    Raises
    ------
    InputError
        For an unknown name.
    """
    if name not in PRESETS:
        raise InputError(f"there is no preset {name!r}; there are {', '.join(PRESETS)}")
    return PRESETS[name]
