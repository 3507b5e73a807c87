"""What a Style Interpreter is and how it is trained: the settings that its file and its stage carry."""

from dataclasses import dataclass
from typing import Literal

from ganfoundry.labels.factorised import Mode

Voting = Literal["soft", "majority"]
Head = Literal["shared", "separate"]


@dataclass(frozen=True)
class InterpreterConfig:
    """What an interpreter is; everything needed to rebuild it besides its weights."""

    num_classes: int
    layers: tuple[tuple[str, int], ...]  # (feature map name, channels), in the order of the first layer's columns
    resolution: int
    members: int = 10
    hidden: tuple[int, ...] = (128, 32)  # the paper: (128, 32), or (256, 128) for 32 classes and more
    mode: Mode = "bilinear"
    voting: Voting = "soft"
    num_keypoints: int = 0
    keypoint_head: Head = "shared"  # heat maps beside the logits of one network, or from a second one
    keypoint_sigma: float = 1.6  # pixels, of the Gaussians
    visibility: tuple[float, float] = (8.0, 0.4)  # chance of being visible: sigmoid(slope (peak height - middle))
    image_score: str = "top-tenth"  # of the pixels' uncertainty, see uncertainty.image_score
    filter_rule: str = "most-uncertain"  # which images synthesize drops: these, or as the released code does
    preset: str = "ours"

    @property
    def outputs(self) -> int:
        """Outputs of the first network at a pixel: classes, and heat values where the head is shared."""
        return self.num_classes + (self.num_keypoints if self.keypoint_head == "shared" else 0)

    @property
    def channels(self) -> int:
        """D, feature channels of a pixel."""
        return sum(channels for _, channels in self.layers)

    @property
    def widths(self) -> tuple[int, ...]:
        """Layer widths of the first network, from the D feature channels to its outputs."""
        return (self.channels, *self.hidden, self.outputs)

    @property
    def heat_widths(self) -> tuple[int, ...]:
        """Layer widths of the second network, which makes heat maps only; empty where there is none."""
        separate = self.num_keypoints > 0 and self.keypoint_head == "separate"
        return (self.channels, *self.hidden, self.num_keypoints) if separate else ()


@dataclass(frozen=True)
class Training:
    """How an interpreter is trained.

    `dropout` is the share of hidden units dropped; `prior` how far the logits are moved, after training, from the class
    frequencies that balanced sampling drew (0) to those of the labelled images (1). `sigma` is the standard deviation
    of a keypoint's Gaussian as a share of the image side, `keypoint_share` the share of the pixels drawn around
    keypoints, `heat_weight` the weight of the heat maps' squared error beside the cross-entropy.
    """

    steps: int = 300
    batch_pixels: int = 512  # a member and step
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    dropout: float = 0.2
    balance: float = 0.5
    region_share: float = 0.2
    prior: float = 0.5
    min_pixels: int = 2
    sigma: float = 0.025
    keypoint_share: float = 0.25
    heat_weight: float = 1.0
    seed: int = 0
