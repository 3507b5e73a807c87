"""AnnotatorNet: parts, keypoints, camera angles, body type and paint from one image.

A small U-Net trained on renders of a world, whose labels are exact. It stands in for a person where many generated
images have to be looked at: it proposes part labels, reads the azimuth of a viewpoint code, and scores how well formed
a sample is. Its own error on renders it never saw is on the card that ships with the weights.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from ganfoundry.errors import InputError

_FORMAT = "ganfoundry annotator 1"
WEIGHTS_FILE = "annotator.safetensors"
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
            table: dict[str, Any] = json.loads(text)
            if table.pop("format") != _FORMAT:
                raise ValueError("another format")
            table = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
            return cls(**table)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
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


def _resized(maps: Tensor, side: int) -> Tensor:
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


@dataclass(frozen=True)
class Annotation:
    """What an annotator says about N images of side R.

    Attributes
    ----------
    parts : (N, R, R) uint8
        Fine part ids.
    part_confidence : (N,) float32
        Mean probability of the chosen part over the object's pixels; 0 without an object.
    keypoints : (N, K, 3) float32
        x, y in pixels, visibility 0, 1, 2.
    azimuth : (N,) float32
        Degrees in [0, 360).
    azimuth_confidence : (N,) float32
        Length of the predicted (sin, cos), about 0 (front or back?) to 1.
    elevation, distance : (N,) float32
        Degrees, metres.
    body_type : (N,) int64
    body_probabilities : (N, B) float32
    paint : (N, 3) float32
        RGB in [0, 1].
    """

    parts: NDArray[np.uint8]
    part_confidence: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    azimuth: NDArray[np.float32]
    azimuth_confidence: NDArray[np.float32]
    elevation: NDArray[np.float32]
    distance: NDArray[np.float32]
    body_type: NDArray[np.int64]
    body_probabilities: NDArray[np.float32]
    paint: NDArray[np.float32]

    @property
    def area(self) -> NDArray[np.float64]:
        """Share of the image that is not background, (N,)."""
        return np.asarray((self.parts > 0).mean(axis=(1, 2)))

    def rows(self, index: NDArray[np.int64]) -> Self:
        """Pick images."""
        return type(self)(**{name: getattr(self, name)[index] for name in type(self).__annotations__})

    @classmethod
    def concatenate(cls, pieces: Sequence[Self]) -> Self:
        """Join annotations along the images."""
        return cls(**{name: np.concatenate([getattr(piece, name) for piece in pieces]) for name in cls.__annotations__})


class Annotator:
    """A trained AnnotatorNet that takes stored images and gives arrays.

    Parameters
    ----------
    net : AnnotatorNet
        Put into evaluation mode.
    card : mapping
        What is known about the weights: data, recipe, figures.
    """

    def __init__(self, net: AnnotatorNet, card: Mapping[str, object] | None = None) -> None:
        self.net = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.config = net.config
        self.card = dict(card or {})

    @torch.inference_mode()
    def annotate(self, images: NDArray[np.uint8], *, batch_size: int = 100, two_grids: bool = False) -> Annotation:
        """Annotate images (N, R, R, 3) uint8 of any side R.

        Parameters
        ----------
        two_grids : bool
            Read the parts of images that are larger than the network's twice, on grids half of its pixels apart, and
            average: their borders are found better, in twice the time. Smaller images are read once.

        Raises
        ------
        InputError
            If the array is not of that shape and type, or empty.
        """
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or images.shape[1] != images.shape[2]:
            raise InputError(
                f"the annotator takes uint8 images (N, R, R, 3); this array is {images.dtype} {images.shape}"
            )
        if len(images) == 0:
            raise InputError("the annotator was given no image")
        return Annotation.concatenate(
            [self._batch(images[start : start + batch_size], two_grids) for start in range(0, len(images), batch_size)]
        )

    def _batch(self, images: NDArray[np.uint8], two_grids: bool) -> Annotation:
        side = images.shape[1]
        x = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1
        output = self._read(x)
        logits = _resized(output.parts, side)
        shift = round(side / self.config.resolution / 2) if two_grids else 0
        if shift and side > self.config.resolution:
            moved = functional.pad(x, (0, shift, 0, shift), mode="replicate")[:, :, shift:, shift:]
            seen = functional.pad(_resized(self._read(moved).parts, side), (shift, 0, shift, 0), mode="replicate")
            logits = (logits + seen[:, :, :side, :side]) / 2
        chance, parts = logits.softmax(1).max(1)
        object_pixels = parts > 0
        confidence = (chance * object_pixels).sum((1, 2)) / object_pixels.sum((1, 2)).clamp(min=1)
        points = decode_keypoints(output.heatmaps, side)
        visibility = output.visibility.argmax(2, keepdim=True).float()
        azimuth = torch.rad2deg(torch.atan2(output.direction[:, 0], output.direction[:, 1])).remainder(360)
        probabilities = output.body.softmax(1)
        return Annotation(
            parts=parts.to(torch.uint8).numpy(),
            part_confidence=confidence.numpy(),
            keypoints=torch.cat([points, visibility], 2).numpy(),
            azimuth=azimuth.numpy(),
            azimuth_confidence=output.direction.norm(dim=1).numpy(),
            elevation=(output.elevation * ELEVATION_SCALE).numpy(),
            distance=(output.distance.exp() * self.config.mean_distance).numpy(),
            body_type=probabilities.argmax(1).numpy(),
            body_probabilities=probabilities.numpy(),
            paint=output.paint.clamp(0, 1).numpy(),
        )

    def _read(self, images: Tensor) -> AnnotatorOutput:
        """Predictions for images (N, 3, R, R) in [-1, 1] of any side, at the network's own."""
        output: AnnotatorOutput = self.net(
            _resized(images, self.config.resolution).contiguous(memory_format=torch.channels_last)
        )
        return output

    def save(self, folder: Path) -> str:
        """Write annotator.safetensors (fp16) and card.json; return the sha256 of the weights."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: (value.half() if value.is_floating_point() else value).contiguous()
            for name, value in self.net.state_dict().items()
        }
        # One key of metadata: safetensors writes several in random order; the same weights are to give the same file.
        payload = save(state, {"annotator": self.config.to_json()})
        sha256 = hashlib.sha256(payload).hexdigest()
        (folder / WEIGHTS_FILE).write_bytes(payload)
        self.card["sha256"] = sha256
        (folder / "card.json").write_text(json.dumps(self.card, indent=1) + "\n", "utf-8")
        return sha256

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read an annotator.

        Raises
        ------
        InputError
            If a file is missing or damaged, or the weights are not those that the card describes.
        """
        try:
            payload = (folder / WEIGHTS_FILE).read_bytes()
            card = json.loads((folder / "card.json").read_text("utf-8"))
            with safe_open(folder / WEIGHTS_FILE, "pt") as file:
                header = file.metadata() or {}
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(f"{folder} holds no readable annotator; train one with train-annotator") from error
        sha256 = hashlib.sha256(payload).hexdigest()
        if not isinstance(card, dict) or card.get("sha256") != sha256:
            raise InputError(
                f"{folder / WEIGHTS_FILE} is damaged or not the one its card describes; restore both files"
            )
        net = AnnotatorNet(AnnotatorConfig.from_json(header.get("annotator", "")))
        try:
            net.load_state_dict(load(payload))
        except (RuntimeError, SafetensorError) as error:
            raise InputError(f"{folder / WEIGHTS_FILE} does not fit its own description; train it again") from error
        return cls(net, card)
