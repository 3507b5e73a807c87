"""Doubts about pictures, by a detector that finds what it is told to."""

from pathlib import Path

import numpy as np
import pytest

from ganfoundry import weights
from ganfoundry.detect.filtering import Instances
from ganfoundry.shape.inverse_graphics import guessed_cameras
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.plausibility import detector_of, doubts, look_for_objects, outlines
from tests.ganfoundry.shape.carhelp import toy_network


class Told:
    """A detector with one mask a picture, or none."""

    def __init__(self, *masks: np.ndarray | None) -> None:
        self.masks = masks

    def detect(self, images: np.ndarray) -> list[Instances]:
        assert len(images) == len(self.masks)
        return [
            Instances(
                np.zeros((0, 64, 64), bool) if mask is None else mask[None],
                np.ones(0 if mask is None else 1, np.float32),
                np.zeros((0 if mask is None else 1, 4), np.float32),
                np.ones(0 if mask is None else 1, np.int64),
            )
            for mask in self.masks
        ]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InverseModel:
    return InverseModel.load(toy_network(tmp_path_factory.mktemp("toy") / "network"))


def test_each_doubt_has_its_sentence(model: InverseModel) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    reading = model.read(images)
    own = model.draw(reading, guessed_cameras(model.network, reading.guess))[:, 3].numpy() > 0.5
    assert 0.02 < own.mean() < 0.8
    corner = np.zeros((64, 64), bool)
    corner[:20, :5] = True
    found = look_for_objects(images, Told(own[0], None, np.ones((64, 64), bool), corner & ~own[3]))
    np.testing.assert_array_equal(outlines(found)[:2], [own[0], np.zeros((64, 64), bool)])
    assert doubts(model, reading, found) == [
        "",
        "no such object was found in it",
        "the object fills the picture; leave some room around it",
        "its mesh and the object found in it overlap by 0.00 only",
    ]


def test_the_detector_is_that_of_the_generators_world(model: InverseModel, tmp_path: Path) -> None:
    assert detector_of(model) == ""
    for name in ("cars", "faces"):
        sha256 = str(weights.read_card(f"{name}-64")["sha256"])
        assert detector_of(InverseModel.load(toy_network(tmp_path / name, sha256=sha256))) == f"{name}-detector"
