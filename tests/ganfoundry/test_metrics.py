"""Metrics against naive loops, analytic cases and properties."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry import metrics
from ganfoundry.errors import InputError


def naive_iou(truth: np.ndarray, prediction: np.ndarray, classes: int) -> list[float]:
    result = []
    for c in range(classes):
        both = either = 0
        for t, p in zip(truth.ravel(), prediction.ravel(), strict=True):
            both += t == c and p == c
            either += t == c or p == c
        result.append(both / either if either else math.nan)
    return result


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_class_iou_is_the_naive_count(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    truth, prediction = random.integers(0, classes, (2, 2, 5, 6))
    ours = metrics.class_iou(metrics.confusion_matrix(truth, prediction, classes + 1))
    np.testing.assert_allclose(ours, naive_iou(truth, prediction, classes + 1))
    assert metrics.pixel_accuracy(truth, prediction) == pytest.approx(np.mean(truth == prediction))


def test_mean_iou_options() -> None:
    truth = np.array([[0, 0, 1, 1]])
    prediction = np.array([[0, 1, 1, 1]])
    assert metrics.mean_iou(truth, prediction, 3) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert metrics.mean_iou(truth, prediction, 3, absent="zero") == pytest.approx((1 / 2 + 2 / 3) / 3)
    assert metrics.mean_iou(truth, prediction, 3, skip_background=True) == pytest.approx(2 / 3)
    assert metrics.mean_iou([[0, 255, 1]], [[0, 1, 1]], 2, ignore=255) == 1.0
    with pytest.raises(ValueError, match="absent"):
        metrics.mean_iou(truth, prediction, 3, absent="maybe")


def test_mean_iou_is_global_not_a_mean_over_images() -> None:
    truth = np.array([[[1, 1], [1, 1]], [[0, 0], [0, 1]]])
    prediction = np.array([[[1, 1], [1, 1]], [[0, 0], [0, 0]]])
    assert metrics.mean_iou(truth, prediction, 2) == pytest.approx((3 / 4 + 4 / 5) / 2)


def test_shapes_and_ids_are_checked() -> None:
    with pytest.raises(InputError, match="shapes"):
        metrics.confusion_matrix(np.zeros((2, 2)), np.zeros((2, 3)), 2)
    with pytest.raises(InputError, match="do not fit 2 classes"):
        metrics.confusion_matrix([0, 1], [0, 2], 2)
    with pytest.raises(InputError, match="shapes"):
        metrics.pixel_accuracy([0], [0, 1])
    assert math.isnan(metrics.pixel_accuracy([255], [0], ignore=255))
    assert math.isnan(metrics.mean_iou([255], [0], 2, ignore=255))


def test_pck_counts_by_hand() -> None:
    truth = np.array([[[10, 10, 2], [20, 20, 1], [0, 0, 0]], [[5, 5, 2], [9, 9, 2], [1, 1, 2]]], float)
    prediction = truth[..., :2] + np.array([[[3, 4], [0, 6], [90, 90]], [[0, 0], [8, 6], [0, 5]]])
    # sizes 50 and 100: limits 5 and 10 pixels; distances 5, 6 | 0, 10, 5
    assert metrics.pck(truth, prediction, 0.1, [50, 100]) == pytest.approx(4 / 5)
    assert metrics.pck(truth, prediction, 0.1, [50, 100], hidden=False) == 1.0
    assert metrics.pck(truth, prediction, 0.05, 100.0) == pytest.approx(3 / 5)
    assert math.isnan(metrics.pck(np.zeros((1, 2, 3)), np.zeros((1, 2, 2)), 0.1, 1.0))


def test_circular_statistics_across_zero() -> None:
    assert metrics.circular_mean([350, 10]) == pytest.approx(0.0, abs=1e-9)
    assert metrics.circular_mean([170, 190]) == pytest.approx(180.0)
    assert metrics.circular_std([30.0, 30.0]) == pytest.approx(0.0, abs=1e-5)
    assert math.isnan(metrics.circular_mean([0, 180]))
    assert metrics.circular_std([0, 90, 180, 270]) == math.inf
    np.testing.assert_allclose(metrics.circular_mean([[350, 10], [80, 100]], axis=1), [0, 90], atol=1e-9)
    assert metrics.angle_difference(350, 10) == -20
    assert metrics.angle_difference(180, 0) == -180


def test_circular_std_of_a_wrapped_normal() -> None:
    """A wrapped normal distribution's circular standard deviation is its parameter."""
    for sigma in (2.0, 15.0, 60.0):
        angles = np.random.default_rng(0).normal(100.0, sigma, 200_000)
        assert metrics.circular_std(angles) == pytest.approx(sigma, rel=0.01)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-720, 720), min_size=2, max_size=8), st.floats(-360, 360))
def test_circular_std_does_not_depend_on_where_zero_is(angles: list[float], shift: float) -> None:
    a, b = metrics.circular_std(angles), metrics.circular_std(np.array(angles) + shift)
    assert a == pytest.approx(b, rel=1e-3, abs=1e-4) or min(a, b) > 300


def test_box_and_mask_iou_agree_on_rectangles() -> None:
    random = np.random.default_rng(3)
    boxes = np.sort(random.integers(0, 12, (7, 2, 2)), axis=1).reshape(7, 4)
    masks = np.zeros((7, 12, 12), bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    np.testing.assert_allclose(metrics.box_iou(boxes[:4], boxes), metrics.mask_iou(masks[:4], masks))
    full = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
    np.testing.assert_allclose(np.diag(metrics.box_iou(full, full)), 1.0)
    assert metrics.box_iou(np.empty((0, 4)), boxes).shape == (0, 7)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 4)), min_size=1, max_size=20))
def test_auroc_is_the_share_of_ordered_pairs(rows: list[tuple[bool, int]]) -> None:
    pairs = [(a > b) + (a == b) / 2 for yes, a in rows for no, b in rows if yes and not no]
    expected = sum(pairs) / len(pairs) if pairs else math.nan
    ours = metrics.auroc([yes for yes, _ in rows], [score for _, score in rows])
    assert ours == pytest.approx(expected, nan_ok=True)


def test_spearman() -> None:
    assert metrics.spearman([1, 2, 3], [10, 100, 1000]) == pytest.approx(1.0)
    assert metrics.spearman([1, 2, 3], [3, 2, 1]) == pytest.approx(-1.0)
    assert metrics.spearman([1, 2, 2, 4], [1, 3, 3, 9]) == pytest.approx(1.0)
    assert math.isnan(metrics.spearman([1, 1], [1, 2]))
