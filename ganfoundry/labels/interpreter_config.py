"""What a Style Interpreter is and how it is trained: the settings that its file and its stage carry."""

from dataclasses import dataclass
from typing import Literal

from ganfoundry.labels.factorised import Mode

Voting = Literal["soft", "majority"]
Head = Literal["shared", "separate"]
Heat = Literal["linear", "sigmoid"]  # outputs are heat values, learnt by squared error; or logits, by cross-entropy
ImageScore = Literal["top-tenth", "mean", "interior", "object"]
FilterRule = Literal["most-uncertain", "released-code"]


@dataclass(frozen=True)
class InterpreterConfig:
    """What an interpreter is; everything needed to rebuild it besides its weights."""

    num_classes: int
    layers: tuple[tuple[str, int], ...]  # (feature map name, channels), in the order of the first layer's columns
    resolution: int
    members: int = 10
    hidden: tuple[int, ...] = (128, 64)  # published: (128, 32), or (256, 128) for 32 classes and more
    mode: Mode = "bilinear"
    voting: Voting = "soft"
    num_keypoints: int = 0
    keypoint_head: Head = "shared"  # heat maps beside the logits of one network, or from a second one
    heat: Heat = "sigmoid"
    keypoint_sigma: float = 1.6  # pixels, of the Gaussians
    visibility: tuple[float, float] = (8.0, 0.4)  # chance of being visible: sigmoid(slope (peak height - middle))
    image_score: ImageScore = "top-tenth"  # of the pixels' uncertainty, see uncertainty.image_score
    filter_rule: FilterRule = "most-uncertain"  # which images synthesize drops: these, or as the released code does
    filter_fraction: float = 0.1  # how many
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

    Attributes
    ----------
    steps : optimiser steps; with a `patience`, at most so many, 0 = no limit but the epochs
    batch_pixels : pixels a member and step
    pixels : "drawn" by class, region and keypoint (the next four), or "all", shuffled, epoch by epoch
    balance : 0 draws pixels evenly, 1 draws classes evenly
    region_share : share of the pixels that walk through the labelled regions
    keypoint_share : share of the pixels around visible keypoints
    prior : how far the logits are moved, after training, from the class frequencies that were drawn (0) to those of the
        labelled images (1)
    min_pixels, specks : a class with fewer pixels in an image is "ignored" there, or becomes "background"
    epochs : passes over the pixels, at most, where there is a patience
    patience : steps without a lower loss after which a member is done, from the fifth epoch on; 0: all steps are made
    optimiser : "adamw" with a cosine schedule, or "adam" at a constant rate
    initialisation : "he", or "normal" with deviation 0.02 as published
    batch_norm : a batch normalisation after every ReLU
    standardise : channels have mean 0 and deviation 1 in training
    dropout : share of hidden units dropped
    sigma : deviation of a keypoint's Gaussian, as a share of the image side
    heat_weight : of the heat maps' loss, summed over keypoints, beside the parts' cross-entropy
    """

    steps: int = 300
    batch_pixels: int = 512
    pixels: Literal["drawn", "all"] = "drawn"
    balance: float = 0.5
    region_share: float = 0.2
    keypoint_share: float = 0.25
    prior: float = 0.5
    min_pixels: int = 2
    specks: Literal["ignored", "background"] = "ignored"
    epochs: int = 100
    patience: int = 0
    optimiser: Literal["adamw", "adam"] = "adamw"
    learning_rate: float = 1e-2
    weight_decay: float = 1e-2
    initialisation: Literal["he", "normal"] = "he"
    batch_norm: bool = False
    standardise: bool = True
    dropout: float = 0.2
    sigma: float = 0.025
    heat_weight: float = 0.3
    seed: int = 0

    def num_steps(self, num_pixels: int) -> int:
        """Optimiser steps, at most, for so many labelled pixels."""
        if self.patience == 0 and self.pixels == "drawn":
            return max(1, self.steps)
        longest = self.epochs * self.steps_per_epoch(num_pixels)
        return min(self.steps or longest, longest)

    def steps_per_epoch(self, num_pixels: int) -> int:
        """Batches in one pass over the pixels; the last one may be smaller."""
        return -(-num_pixels // self.batch_pixels)
