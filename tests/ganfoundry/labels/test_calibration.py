"""Reliability, temperature and the judgement of scores on cases whose answer is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.labels.calibration import (
    at_temperature,
    fit_temperature,
    image_errors,
    judge_score,
    negative_log_likelihood,
    reliability,
)

RNG = np.random.default_rng(0)


def drawn(count: int, classes: int = 4, sharpness: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and labels drawn from them: calibrated by construction."""
    logits = sharpness * RNG.normal(size=(count, classes))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (RNG.random(count)[:, None] > p.cumsum(1)).sum(1)
    return p, np.minimum(labels, classes - 1)


def test_calibrated_probabilities_have_no_error_and_temperature_one() -> None:
    p, labels = drawn(40_000)
    curve = reliability(p, labels)
    assert curve.error < 0.01
    assert curve.count.sum() == 40_000
    assert fit_temperature(p, labels) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_wrong_temperature_is_found_and_undone(temperature: float) -> None:
    p, labels = drawn(20_000)
    distorted = at_temperature(p, temperature)
    found = fit_temperature(distorted, labels)
    assert found == pytest.approx(1 / temperature, rel=0.05)
    assert reliability(at_temperature(distorted, found), labels).error < reliability(distorted, labels).error / 3
    assert negative_log_likelihood(at_temperature(distorted, found), labels) < negative_log_likelihood(
        distorted, labels
    )


def test_overconfidence_is_the_gap() -> None:
    p = np.tile([0.95, 0.05], (1000, 1))
    labels = (np.arange(1000) % 10 < 3).astype(int)  # right in seven of ten
    curve = reliability(p, labels, bins=10)
    assert curve.error == pytest.approx(0.25)
    assert curve.accuracy[9] == pytest.approx(0.7)
    assert np.isnan(curve.accuracy[:9]).all()


@settings(max_examples=25, deadline=None)
@given(st.floats(0.5, 3.0), st.integers(0, 100))
def test_a_temperature_keeps_labels_and_sums(temperature: float, seed: int) -> None:
    p = np.random.default_rng(seed).dirichlet(np.full(5, 4.0), 20)
    q = at_temperature(p, temperature)
    np.testing.assert_allclose(q.sum(1), 1)
    np.testing.assert_array_equal(q.argmax(1), p.argmax(1))
    np.testing.assert_allclose(at_temperature(q, 1 / temperature), p, atol=1e-6)


def test_judgement_of_a_perfect_a_useless_and_a_reversed_score() -> None:
    errors = RNG.random(500)
    perfect, reversed_ = judge_score(errors, errors), judge_score(-errors, errors)
    assert (perfect.auroc, perfect.rank) == (1.0, pytest.approx(1.0))
    assert perfect.error_kept == pytest.approx(perfect.error_best)
    assert perfect.error_best < perfect.error_all == pytest.approx(errors.mean())
    assert (reversed_.auroc, reversed_.rank) == (0.0, pytest.approx(-1.0))
    assert reversed_.error_kept > reversed_.error_all
    useless = judge_score(RNG.random(500), errors)
    assert 0.35 < useless.auroc < 0.65
    assert np.sort(errors)[:450].mean() == pytest.approx(perfect.error_best)


def test_image_errors_count_the_object_only() -> None:
    truth = np.zeros((2, 4, 4), int)
    truth[0, :2] = 1
    labels = truth.copy()
    labels[0, 0, 0] = 2  # one of eight
    labels[0, 3, 3] = 1  # a ninth pixel, wrongly part of the object
    np.testing.assert_allclose(image_errors(truth, labels), [2 / 9, 0.0])
    counted = np.ones((2, 4, 4), bool)
    counted[0, 3] = False
    np.testing.assert_allclose(image_errors(truth, labels, counted), [1 / 8, 0.0])
