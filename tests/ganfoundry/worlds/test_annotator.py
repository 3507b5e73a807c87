import hashlib
import json
import shutil

import numpy as np
import pytest
import torch

from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, sample_integer
from ganfoundry.errors import InputError
from ganfoundry.metrics import angle_difference, mean_iou
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotation, Annotator
from ganfoundry.worlds.annotator_data import annotator_config, render_samples
from ganfoundry.worlds.annotator_net import AnnotatorConfig, AnnotatorNet, decode_keypoints
from ganfoundry.worlds.annotator_training import evaluate

UNSEEN = 100


@pytest.fixture(scope="module")
def world():
    return get_world("cars")


@pytest.fixture(scope="module")
def unseen(world):
    torch.set_num_threads(1)
    return render_samples(world, [sample_integer(31337, EVALUATION, index) for index in range(UNSEEN)])


@pytest.fixture(scope="module")
def shipped():
    return Annotator.load(weights.path("cars-annotator"))


@pytest.fixture(scope="module")
def found(shipped, unseen):
    return shipped.annotate(unseen.image)


@pytest.fixture
def untrained(world):
    return Annotator(AnnotatorNet(annotator_config(world, "cars", 64, 11.0)), {"name": "untrained"})


def test_shipped_weights_are_those_of_the_card():
    folder = weights.path("cars-annotator")
    card = json.loads((folder / "card.json").read_text("utf-8"))
    assert hashlib.sha256((folder / "annotator.safetensors").read_bytes()).hexdigest() == card["sha256"]
    weights.verify("cars-annotator")
    assert {"data", "recipe", "command", "figures"} <= set(card)
    assert card["figures"]["azimuth_median_error"] < 3
    assert (folder / "annotator.safetensors").stat().st_size < 4 << 20


def test_shipped_annotator_speaks_the_worlds_language(shipped, world):
    assert shipped.config.parts == world.schema.parts
    assert shipped.config.keypoints == world.schema.keypoints
    assert shipped.config.body_types == world.body_types
    assert shipped.config.keypoint_mirror == tuple(world.schema.flip_permutation().tolist())


def test_shipped_annotator_reads_unseen_renders(found, unseen, world):
    figures = evaluate(found, unseen, world.schema)
    assert figures["azimuth_median_error"] < 3
    assert figures["azimuth_flip_share"] <= 0.03
    assert figures["elevation_mean_error"] < 3
    assert figures["miou_fine"] > 0.6
    assert figures["miou_parts5"] > 0.8
    assert figures["body_type_accuracy"] > 0.8
    assert figures["pck_10"] > 0.95


def test_shipped_annotator_agrees_with_the_mirror_image(shipped, found, unseen):
    mirrored = shipped.annotate(np.ascontiguousarray(unseen.image[:, :, ::-1]))
    assert np.median(np.abs(angle_difference(mirrored.azimuth, -found.azimuth))) < 3
    assert (mirrored.parts[:, :, ::-1] == found.parts).mean() > 0.95
    points = mirrored.keypoints[:, list(shipped.config.keypoint_mirror), :2]
    offset = np.hypot(64 - points[..., 0] - found.keypoints[..., 0], points[..., 1] - found.keypoints[..., 1])
    assert np.median(offset) < 1.5


def test_shipped_annotator_bears_blur_and_noise(shipped, unseen):
    rng = np.random.default_rng(0)
    image = unseen.image.astype(float)
    soft = (image + np.roll(image, 1, 1) + np.roll(image, 1, 2) + np.roll(image, (1, 1), (1, 2))) / 4
    worse = np.clip(soft + rng.normal(0, 8, soft.shape), 0, 255).astype(np.uint8)
    error = np.abs(angle_difference(shipped.annotate(worse).azimuth, unseen.azimuth))
    assert np.median(error) < 5
    assert (error > 90).mean() < 0.05


def test_larger_images_are_brought_to_size(shipped, found, unseen):
    doubled = shipped.annotate(unseen.image[:20].repeat(2, 1).repeat(2, 2))
    assert doubled.parts.shape == (20, 128, 128)
    assert np.median(np.abs(angle_difference(doubled.azimuth, found.azimuth[:20]))) < 3
    assert (doubled.parts[:, ::2, ::2] == found.parts[:20]).mean() > 0.9
    gap = np.linalg.norm(doubled.keypoints[..., :2] / 2 - found.keypoints[:20, :, :2], axis=2)
    assert np.median(gap) < 1


def test_parts_of_larger_images_are_read_better_on_two_grids(shipped, world):
    large = render_samples(world, range(10**9, 10**9 + 12), 128)
    once, twice = shipped.annotate(large.image), shipped.annotate(large.image, two_grids=True)
    count = len(world.schema.parts)
    exact, before, after = large.parts, once.parts, twice.parts
    assert mean_iou(exact, after, count) > mean_iou(exact, before, count) + 0.004
    assert mean_iou(exact, after, count) > 0.75
    np.testing.assert_array_equal(twice.azimuth, once.azimuth)
    small = large.image[:3, ::2, ::2]
    np.testing.assert_array_equal(
        shipped.annotate(small, two_grids=True).parts, shipped.annotate(small).parts
    )  # there is no finer grid


def test_annotation_has_the_documented_shapes_and_ranges(found, unseen, world):
    assert found.parts.shape == unseen.parts.shape
    assert found.parts.dtype == np.uint8
    assert found.keypoints.shape == (UNSEEN, len(world.schema.keypoints), 3)
    assert set(np.unique(found.keypoints[..., 2])) <= {0, 1, 2}
    assert ((found.azimuth >= 0) & (found.azimuth < 360)).all()
    assert ((found.part_confidence > 0) & (found.part_confidence <= 1)).all()
    assert ((found.paint >= 0) & (found.paint <= 1)).all()
    np.testing.assert_allclose(found.body_probabilities.sum(1), 1, rtol=1e-4)
    np.testing.assert_allclose(found.area, (found.parts > 0).mean((1, 2)))


def test_batches_do_not_matter(shipped, unseen, found):
    again = shipped.annotate(unseen.image[:23], batch_size=7)
    np.testing.assert_allclose(again.azimuth, found.azimuth[:23], atol=0.05)
    assert (again.parts == found.parts[:23]).mean() > 0.999


def test_rows_and_concatenate_are_inverse(found):
    parts = [found.rows(np.arange(0, 40)), found.rows(np.arange(40, UNSEEN))]
    whole = Annotation.concatenate(parts)
    for name in Annotation.__annotations__:
        np.testing.assert_array_equal(getattr(whole, name), getattr(found, name))


def test_keypoints_are_found_at_the_peak():
    heat = torch.full((1, 3, 8, 8), -20.0)
    heat[0, 0, 2, 5] = 20
    heat[0, 1, 7, 0] = 20
    heat[0, 2, 3, 3] = heat[0, 2, 3, 4] = 20
    expected = torch.tensor([[[11.0, 5.0], [1.0, 15.0], [8.0, 7.0]]])
    torch.testing.assert_close(decode_keypoints(heat, 16), expected, atol=1e-4, rtol=0)


def test_round_trip_keeps_predictions(untrained, unseen, tmp_path):
    sha256 = untrained.save(tmp_path)
    again = Annotator.load(tmp_path)
    assert again.config == untrained.config
    assert again.card == {"name": "untrained", "sha256": sha256}
    a, b = untrained.annotate(unseen.image[:5]), again.annotate(unseen.image[:5])
    np.testing.assert_allclose(a.azimuth_confidence, b.azimuth_confidence, atol=0.01)
    assert again.save(tmp_path / "twice") == sha256


@pytest.mark.parametrize("damage", ["missing", "bit", "truncated", "no card", "bad card", "other card"])
def test_damaged_weights_are_refused(untrained, tmp_path, damage):
    folder = tmp_path / "annotator"
    untrained.save(folder)
    path, card = folder / "annotator.safetensors", folder / "card.json"
    content = bytearray(path.read_bytes())
    if damage == "missing":
        shutil.rmtree(folder)
    elif damage == "bit":
        content[-5] ^= 8
        path.write_bytes(content)
    elif damage == "truncated":
        path.write_bytes(content[:1000])
    elif damage == "no card":
        card.unlink()
    elif damage == "bad card":
        card.write_text("{")
    else:
        card.write_text("{}")
    with pytest.raises(InputError, match="annotator"):
        Annotator.load(folder)


def test_a_broken_description_is_one_sentence():
    for text in ("", "[]", "{}", '{"world": "cars"}'):
        with pytest.raises(InputError, match="train-annotator"):
            AnnotatorConfig.from_json(text)


@pytest.mark.parametrize("shape", [(2, 64, 64), (2, 64, 32, 3), (2, 64, 64, 4), (0, 64, 64, 3)])
def test_wrong_images_are_refused(untrained, shape):
    with pytest.raises(InputError, match="annotator"):
        untrained.annotate(np.zeros(shape, np.uint8))
    with pytest.raises(InputError, match="float32"):
        untrained.annotate(np.zeros((1, 64, 64, 3), np.float32))
