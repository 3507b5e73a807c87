"""Annotator: parts, keypoints, camera angles, body type and paint from one image.

Its network, a small U-Net, was trained on renders of a world, whose labels are exact. It stands in for a person where
many generated images have to be looked at: it proposes part labels, reads the azimuth of a viewpoint code, and scores
how well formed a sample is. Its own error on renders it never saw is on the card that ships with the weights.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor
from torch.nn import functional

from ganfoundry.errors import InputError
from ganfoundry.images import network_images
from ganfoundry.worlds.annotator_net import (
    ELEVATION_SCALE,
    AnnotatorConfig,
    AnnotatorNet,
    AnnotatorOutput,
    decode_keypoints,
    resized,
)

WEIGHTS_FILE = "annotator.safetensors"


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
        x = network_images(images)
        output = self._read(x)
        logits = resized(output.parts, side)
        shift = round(side / self.config.resolution / 2) if two_grids else 0
        if shift and side > self.config.resolution:
            moved = functional.pad(x, (0, shift, 0, shift), mode="replicate")[:, :, shift:, shift:]
            seen = functional.pad(resized(self._read(moved).parts, side), (shift, 0, shift, 0), mode="replicate")
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
            resized(images, self.config.resolution).contiguous(memory_format=torch.channels_last)
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
