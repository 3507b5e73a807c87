"""AnnotatorNet: a small U-Net whose outputs are parts, keypoints, camera angles, body type and paint of one image."""

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ganfoundry.errors import InputError
from ganfoundry.records import record_of_json

_FORMAT = "ganfoundry annotator 1"
ELEVATION_SCALE = 45.0
"""Degrees of elevation that the network writes as 1."""


@dataclass(frozen=True)
class AnnotatorConfig:
    """What an annotator predicts, and its size.

    Attributes
    ----------
    world : str
        Name of the world whose renders it was trained on.
    parts, keypoints, body_types : tuple of str
        Names; the index is the id. Part 0 is the background.
    keypoint_mirror : tuple of int
        Order of the keypoints after a left-right mirror of the image (`PartSchema.flip_permutation`).
    mean_distance : float
        Mean camera distance of the training renders in metres; the network predicts log(distance / mean_distance).
    channels : five ints
        Channels at 64, 32, 16, 8 and 4 px.
    resolution : int
        Images are brought to this size; part maps come back at the images' own size.
    """

    world: str
    parts: tuple[str, ...]
    keypoints: tuple[str, ...]
    body_types: tuple[str, ...]
    keypoint_mirror: tuple[int, ...]
    mean_distance: float = 1.0
    channels: tuple[int, ...] = (16, 32, 64, 96, 128)
    resolution: int = 64

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            If the text is not such a description.
        """
        try:
            return record_of_json(cls, text, _FORMAT)
        except ValueError as error:
            raise InputError("the annotator's description cannot be read; train one with train-annotator") from error

    def to_json(self) -> str:
        """One line of JSON, stored in the header of the weights."""
        return json.dumps({"format": _FORMAT, **asdict(self)})


class AnnotatorOutput(NamedTuple):
    """Raw predictions of a batch, float32.

    Attributes
    ----------
    parts : (N, P, R, R)
        Logits of the fine parts.
    heatmaps : (N, K, R / 2, R / 2)
        Logits of each keypoint's position.
    visibility : (N, K, 3)
        Logits of COCO's 0 (outside), 1 (hidden), 2 (visible).
    direction : (N, 2)
        (sin, cos) of the azimuth; its length is the confidence, near 0 where front and back look alike.
    elevation, distance : (N,)
        Elevation / 45 degrees, log(distance / mean distance).
    body : (N, B)
        Logits of the body types.
    paint : (N, 3)
        Paint colour, RGB in [0, 1] (not clamped).
    """

    parts: Tensor
    heatmaps: Tensor
    visibility: Tensor
    direction: Tensor
    elevation: Tensor
    distance: Tensor
    body: Tensor
    paint: Tensor


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class AnnotatorNet(nn.Module):
    """U-Net with four halvings: parts at full size, keypoints at half size, all else from the 4 px bottleneck."""

    def __init__(self, config: AnnotatorConfig) -> None:
        super().__init__()
        self.config = config
        c = config.channels
        self.stem = _convolution(3, c[0])
        self.down = nn.ModuleList(nn.Sequential(_convolution(a, b, 2), _convolution(b, b)) for a, b in pairwise(c))
        self.up8 = _convolution(c[4] + c[3], 64)
        self.up16 = _convolution(64 + c[2], 48)
        self.up32 = _convolution(48 + c[1], 32)
        self.up64 = _convolution(32 + c[0], 24)
        self.part_head = nn.Conv2d(24, len(config.parts), 1)
        self.keypoint_head = nn.Conv2d(32, len(config.keypoints), 1)
        side = config.resolution // 16
        self.global_widths = (2, 1, 1, 3, len(config.body_types), 3 * len(config.keypoints))
        self.global_head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(c[4] * side * side, 192),
            nn.ReLU(inplace=True),
            nn.Linear(192, sum(self.global_widths)),
        )

    def forward(self, images: Tensor) -> AnnotatorOutput:
        """Predict from images (N, 3, R, R) in [-1, 1]."""
        skips = [self.stem(images)]
        for block in self.down:
            skips.append(block(skips[-1]))
        bottom = skips[-1]
        features = self.up8(_join(bottom, skips[3]))
        features = self.up16(_join(features, skips[2]))
        half = self.up32(_join(features, skips[1]))
        full = self.up64(_join(half, skips[0]))
        values = self.global_head(bottom).float()
        direction, elevation, distance, paint, body, visibility = values.split(self.global_widths, 1)
        return AnnotatorOutput(
            parts=self.part_head(full).float(),
            heatmaps=self.keypoint_head(half).float(),
            visibility=visibility.reshape(len(images), -1, 3),
            direction=direction,
            elevation=elevation[:, 0],
            distance=distance[:, 0],
            body=body,
            paint=paint,
        )


def _join(small: Tensor, skip: Tensor) -> Tensor:
    return torch.cat([functional.interpolate(small, scale_factor=2.0), skip], 1)


def resized(maps: Tensor, side: int) -> Tensor:
    """Maps (N, C, R, R) at another side, without aliasing."""
    before = maps.shape[-1]
    if before == side:
        return maps
    return functional.interpolate(
        maps, size=(side, side), mode="bilinear", antialias=before > side, align_corners=False
    )


def decode_keypoints(heatmaps: Tensor, resolution: int, radius: int = 2) -> Tensor:
    """Positions of keypoints from their heat maps: the centre of mass of the softmax around its maximum.

    Parameters
    ----------
    heatmaps : (N, K, h, h) logits
    resolution : int
        Side of the image in pixels; cell (i, j) of a map has its centre at ((j + 0.5), (i + 0.5)) * resolution / h.
    radius : int
        Cells on each side of the maximum that take part.

    Returns
    -------
    (N, K, 2) float32, x and y in pixels
    """
    side = heatmaps.shape[-1]
    flat = heatmaps.flatten(2)
    peak = flat.argmax(2, keepdim=True)
    cells = torch.arange(side * side, device=heatmaps.device)
    row, column = cells // side, cells % side
    near = ((row - peak // side).abs() <= radius) & ((column - peak % side).abs() <= radius)
    weight = flat.masked_fill(~near, -torch.inf).softmax(2)
    x = (weight * (column + 0.5)).sum(2)
    y = (weight * (row + 0.5)).sum(2)
    return torch.stack([x, y], 2) * (resolution / side)
