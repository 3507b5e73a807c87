"""Heat maps against loops, sub-pixel places, visibility, and keypoints learnt beside parts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels.interpreter import StyleInterpreter, Training
from ganfoundry.labels.interpreter_config import Head, Heat
from ganfoundry.labels.keypoints import (
    calibrate_visibility,
    draw_keypoints,
    heat_targets,
    object_sizes,
    peak_places,
    visible_only,
)
from ganfoundry.metrics import auroc

torch.set_num_threads(1)
SIDE = 32


def heat_map(points: Tensor, sigma: float, side: int = SIDE) -> Tensor:
    """Gaussians of keypoints (K, 3) as maps (K, side, side)."""
    row, column = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    image = torch.zeros_like(row)
    return heat_targets(points[None], image, row, column, sigma).permute(2, 0, 1)


def test_heat_targets_are_those_of_a_loop() -> None:
    random = torch.Generator().manual_seed(0)
    keypoints = torch.rand(2, 3, 3, generator=random) * torch.tensor([SIDE, SIDE, 1])
    image, row, column = torch.tensor([0, 1, 1]), torch.tensor([3, 30, 4]), torch.tensor([8, 2, 9])
    found = heat_targets(keypoints, image, row, column, 1.7)
    for pixel in range(3):
        for k in range(3):
            x, y, visibility = keypoints[image[pixel], k].tolist()
            square = (int(column[pixel]) + 0.5 - x) ** 2 + (int(row[pixel]) + 0.5 - y) ** 2
            assert float(found[pixel, k]) == pytest.approx(visibility * np.exp(-square / (2 * 1.7**2)), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(x=st.floats(6, SIDE - 6), y=st.floats(6, SIDE - 6), sigma=st.floats(1.2, 2.4), height=st.floats(0.1, 1.0))
def test_places_are_found_between_the_pixels(x: float, y: float, sigma: float, height: float) -> None:
    found = peak_places(height * heat_map(torch.tensor([[x, y, 1.0]]), sigma), sigma)[0]
    assert abs(float(found[0]) - x) < 0.2
    assert abs(float(found[1]) - y) < 0.2
    assert 0.75 * height < float(found[2]) <= height + 1e-6


def test_a_far_weaker_bump_does_not_pull() -> None:
    heat = heat_map(torch.tensor([[8.5, 8.5, 1.0]]), 1.5) + 0.8 * heat_map(torch.tensor([[25.5, 24.5, 1.0]]), 1.5)
    assert torch.allclose(peak_places(heat, 1.5)[0, :2], torch.tensor([8.5, 8.5]), atol=0.01)


def test_heat_without_a_positive_value_has_a_place_too() -> None:
    assert torch.equal(peak_places(torch.full((1, 4, 4), -1.0), 1.0)[0], torch.tensor([0.5, 0.5, -1.0]))


def test_visible_only() -> None:
    stored = np.array([[[1, 2, 0], [3, 4, 1], [5, 6, 2]]], np.float32)
    assert visible_only(stored)[0, :, 2].tolist() == [0, 0, 1]
    assert stored[0, 2, 2] == 2
    stored[..., 2] = 0  # nobody has labelled this image's keypoints
    assert np.isnan(visible_only(stored)[0, :, 2]).all()


def test_calibration_finds_the_curve_that_made_the_answers() -> None:
    random = np.random.default_rng(0)
    height = random.uniform(0, 1, (200, 20)).astype(np.float32)
    visible = (random.uniform(size=height.shape) < 1 / (1 + np.exp(-12 * (height - 0.6)))).astype(np.float32)
    used = (8.0, 0.4)
    chances = (1 / (1 + np.exp(-used[0] * (height - used[1])))).astype(np.float32)
    slope, middle = calibrate_visibility(chances, visible, used)
    assert slope == pytest.approx(12, rel=0.1)
    assert middle == pytest.approx(0.6, abs=0.02)
    assert calibrate_visibility(chances, np.ones_like(visible), used) == used  # all of one kind: nothing to fit
    assert calibrate_visibility(chances, 1 - visible, used) == used  # upside down: heights say nothing
    step = (height > 0.5).astype(np.float32)
    assert np.isfinite(calibrate_visibility(chances, step, used)).all()  # perfectly separated
    unknown = np.concatenate([visible, np.full_like(visible, np.nan)])
    assert calibrate_visibility(np.tile(chances, (2, 1)), unknown, used) == (slope, middle)


def test_object_sizes() -> None:
    masks = np.zeros((2, 10, 10), np.uint8)
    masks[0, 2:5, 1:8] = 3
    assert object_sizes(masks).tolist() == [7, 10]


def test_drawn_keypoints_are_where_they_belong() -> None:
    points = np.array([[[2.5, 1.5, 0.9], [6.5, 6.5, 0.1]]], np.float32)
    drawn = draw_keypoints(np.zeros((1, 64, 64, 3), np.uint8), points, 8)[0]
    y, x = np.nonzero(drawn.max(2) > 128)
    assert abs(x.mean() + 0.5 - 2.5 * 8) < 0.6
    assert abs(y.mean() + 0.5 - 1.5 * 8) < 0.6


def moving_square(images: int, seed: int) -> tuple[dict[str, Tensor], np.ndarray, np.ndarray]:
    """Squares with a keypoint at a corner (hidden in a third of the images), and features that tell both."""
    random = np.random.default_rng(seed)
    labels = np.zeros((images, 16, 16), np.uint8)
    keypoints = np.zeros((images, 2, 3), np.float32)
    features = 0.1 * torch.from_numpy(random.standard_normal((images, 6, 16, 16)).astype(np.float32))
    row, column = np.mgrid[:16, :16]
    for index in range(images):
        y, x = random.integers(3, 9, 2)
        labels[index, y : y + 4, x : x + 4] = 1
        keypoints[index] = [[x, y, index % 3 > 0], [x + 4, y + 4, 1]]
        features[index, 0] += torch.from_numpy(labels[index].astype(np.float32))
        for k in range(2):
            far = np.hypot(column + 0.5 - keypoints[index, k, 0], row + 0.5 - keypoints[index, k, 1])
            near = np.exp(-far / 2) * keypoints[index, k, 2]
            features[index, 1 + k] += 4 * torch.from_numpy(near.astype(np.float32))
    return {"map": features}, labels, keypoints


@pytest.mark.parametrize(("head", "heat"), [("shared", "sigmoid"), ("separate", "sigmoid"), ("shared", "linear")])
def test_keypoints_are_learnt_beside_parts(tmp_path: Path, head: Head, heat: Heat) -> None:
    features, labels, keypoints = moving_square(6, 0)
    training = Training(steps=120, batch_pixels=64, sigma=0.08, keypoint_share=0.4)
    interpreter = StyleInterpreter.fit(
        features,
        labels,
        2,
        members=2,
        hidden=(24, 12),
        keypoints=keypoints,
        keypoint_head=head,
        heat=heat,
        training=training,
    )
    unseen, truth, places = moving_square(9, 1)
    found = interpreter.predict(unseen)
    assert (found.label.numpy() == truth).mean() > 0.98
    assert found.keypoints is not None
    assert found.keypoints.shape == (9, 2, 3)
    distance = np.linalg.norm(found.keypoints.numpy()[..., :2] - places[..., :2], axis=-1)
    assert np.median(distance[places[..., 2] > 0]) < 1.0
    assert auroc(places[..., 2] > 0, found.keypoints[..., 2].numpy()) > 0.9
    interpreter.save(tmp_path / "i.safetensors")
    again = StyleInterpreter.load(tmp_path / "i.safetensors")
    assert again.config == interpreter.config
    loaded = again.predict(unseen).keypoints
    assert loaded is not None
    torch.testing.assert_close(loaded, found.keypoints, rtol=0, atol=1e-4)  # weights lie otherwise in memory: rounding


def test_images_of_no_weight_teach_nothing() -> None:
    features, labels, keypoints = moving_square(4, 0)
    # Pixels are drawn evenly, so that they are the same whatever the last image's labels say.
    even = Training(steps=4, batch_pixels=32, balance=0, region_share=0, keypoint_share=0, prior=0)

    def fit(y: np.ndarray, points: np.ndarray, weights: np.ndarray | None) -> Tensor:
        return StyleInterpreter.fit(
            features, y, 2, members=1, hidden=(8,), keypoints=points, weights=weights, training=even
        ).weights[0]

    other = keypoints.copy()
    other[3] = 1
    weights = np.array([1, 1, 1, 0], np.float32)
    assert torch.equal(fit(labels, keypoints, weights), fit(labels, other, weights))
    assert not torch.equal(fit(labels, keypoints, None), fit(labels, other, None))
    assert torch.equal(fit(labels, keypoints, weights), fit(labels, keypoints, 2 * weights))  # only the ratio counts


def test_of_images_without_labelled_keypoints_only_the_parts_are_learnt() -> None:
    features, labels, keypoints = moving_square(4, 0)
    even = Training(steps=4, batch_pixels=32, balance=0, region_share=0, keypoint_share=0.3, prior=0)

    def fit(y: np.ndarray, points: np.ndarray) -> Tensor:
        return StyleInterpreter.fit(features, y, 2, members=1, hidden=(8,), keypoints=points, training=even).weights[0]

    masks_only, elsewhere, hidden = keypoints.copy(), keypoints.copy(), keypoints.copy()
    masks_only[3, :, 2] = elsewhere[3, :, 2] = np.nan
    elsewhere[3, :, :2] = 5
    hidden[3, :, 2] = 0
    learnt = fit(labels, masks_only)
    assert torch.isfinite(learnt).all()
    assert torch.equal(learnt, fit(labels, elsewhere))
    assert not torch.equal(learnt, fit(labels, hidden)), "there, the heat is known to be 0"
    other = labels.copy()
    other[3] = 1 - other[3]
    assert not torch.equal(learnt, fit(other, masks_only))


def test_bad_keypoints_and_weights_are_refused() -> None:
    features, labels, keypoints = moving_square(3, 0)
    for wrong, sentence in (
        ({"keypoints": keypoints[:2]}, r"keypoints must be \(3, K, 3\)"),
        ({"keypoints": keypoints * np.array([1, 1, 2], np.float32)}, "visibility from 0 to 1"),
        ({"keypoints": np.full_like(keypoints, np.nan)}, "must be finite"),
        ({"weights": np.ones(2, np.float32)}, "weights must be 3 numbers"),
        ({"weights": np.zeros(3, np.float32)}, "not all 0"),
        ({"weights": np.array([1, -1, 1], np.float32)}, "from 0 on"),
    ):
        with pytest.raises(InputError, match=sentence):
            StyleInterpreter.fit(features, labels, 2, members=1, training=Training(steps=1), **wrong)
