"""Where a picture shows what an inverse-graphics network has learnt, and whether: a detector's word, and the mesh's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ganfoundry import weights
from ganfoundry.detect.backends import Detector, open_detector
from ganfoundry.detect.filtering import Decision, FilterRule, decide
from ganfoundry.shape.inverse_graphics import Reading, guessed_cameras
from ganfoundry.shape.inverse_model import InverseModel

_LEAST_IOU = 0.45  # renders of cars that the network has never seen have .5 to .9, other things mostly under .2
_MOST_AREA = 0.9


def detector_of(model: InverseModel) -> str:
    """Name of the shipped detector of the world that a network was trained in; empty if its generator is unknown."""
    made_from = model.description.get("generator_sha256")
    for name in weights.names():
        card = weights.read_card(name)
        detector = f"{weights.world_of(card)}-detector"
        if made_from and card.get("sha256") == made_from and detector in weights.names():
            return detector
    return ""


def detector_for(model: InverseModel) -> Detector | None:
    """The shipped detector of the world that a network was trained in; None if its generator is unknown."""
    name = detector_of(model)
    return open_detector(name, score_threshold=FilterRule().score_threshold) if name else None


def look_for_objects(images: NDArray[np.uint8], detector: Detector) -> list[Decision]:
    """What a detector of the model's class sees in images (N, S, S, 3)."""
    return [decide(instances, FilterRule(min_area=0.0)) for instances in detector.detect(images)]


def outlines(found: Sequence[Decision]) -> NDArray[np.bool_]:
    """Masks (N, S, S) of the objects, empty where none was found; what `InverseModel.read` takes."""
    return np.stack([decision.mask for decision in found])


@torch.inference_mode()
def doubts(model: InverseModel, reading: Reading, found: Sequence[Decision]) -> list[str]:
    """What speaks against each picture, as a part of a sentence; empty where nothing does.

    Parameters
    ----------
    model : InverseModel
    reading : Reading
        Of the images, by this model.
    found : sequence of Decision
        See `look_for_objects`.

    Returns
    -------
    list of str, N
    """
    drawn = model.draw(reading, guessed_cameras(model.network, reading.guess))[:, 3].numpy() > 0.5
    result = []
    for mask, decision in zip(drawn, found, strict=True):
        union = int((mask | decision.mask).sum())
        iou = int((mask & decision.mask).sum()) / max(union, 1)
        if not decision.instances:
            result.append("no such object was found in it")
        elif decision.area > _MOST_AREA:
            result.append("the object fills the picture; leave some room around it")
        elif iou < _LEAST_IOU:
            result.append(f"its mesh and the object found in it overlap by {iou:.2f} only")
        else:
            result.append("")
    return result
