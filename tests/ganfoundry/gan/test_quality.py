"""Frechet distance against closed forms and scipy's general root; precision and recall against loops."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from ganfoundry.errors import InputError
from ganfoundry.gan.quality import frechet_distance, precision_recall

Floats = NDArray[np.float64]


def whitened(rng: np.random.Generator, n: int, d: int) -> Floats:
    """Samples with mean exactly 0 and covariance exactly 1."""
    x = rng.standard_normal((n, d))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T)).T)


def naive_precision_recall(real: Floats, fake: Floats, k: int) -> tuple[float, float]:
    def radius(i: int, manifold: Floats) -> float:
        others = sorted(np.linalg.norm(manifold[i] - other) for j, other in enumerate(manifold) if j != i)
        return float(others[k - 1])

    def inside(points: Floats, manifold: Floats) -> float:
        radii = [radius(i, manifold) for i in range(len(manifold))]
        pairs = [(point, list(zip(manifold, radii, strict=True))) for point in points]
        return sum(any(np.linalg.norm(point - c) <= r for c, r in balls) for point, balls in pairs) / len(points)

    return inside(fake, real), inside(real, fake)


def test_a_shift_costs_its_square() -> None:
    a = whitened(np.random.default_rng(0), 200, 6)
    shift = np.arange(6.0)
    assert frechet_distance(a, a + shift) == pytest.approx((shift**2).sum(), rel=1e-10)


def test_scales_cost_the_squared_difference_of_standard_deviations() -> None:
    a = whitened(np.random.default_rng(1), 300, 5)
    scale_a, scale_b = np.array([1.0, 2, 3, 4, 5]), np.array([2.0, 2, 1, 0.5, 0])
    expected = ((scale_a - scale_b) ** 2).sum()
    assert frechet_distance(a * scale_a, a * scale_b) == pytest.approx(expected, rel=1e-10)


def test_covariances_that_do_not_commute_agree_with_the_general_root() -> None:
    rng = np.random.default_rng(2)
    a, b = (rng.standard_normal((60, 7)) @ rng.standard_normal((7, 7)) for _ in range(2))
    covariance_a, covariance_b = np.cov(a.T), np.cov(b.T)
    root = sqrtm(covariance_a @ covariance_b).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(covariance_a + covariance_b - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(500, 8), (20, 64), (2, 300)])
def test_equal_sets_are_at_distance_zero(n: int, d: int) -> None:
    a = np.random.default_rng(3).standard_normal((n, d)) * np.logspace(0, 3, d) + 100
    variance = np.trace(np.cov(a.T))
    assert frechet_distance(a, a) <= 1e-12 * variance
    assert frechet_distance(a, a[::-1].copy()) <= 1e-12 * variance


def test_sets_in_orthogonal_subspaces_cost_all_their_variance() -> None:
    rng = np.random.default_rng(4)
    a, b = np.zeros((10, 40)), np.zeros((10, 40))
    a[:, :20], b[:, 20:] = rng.standard_normal((2, 10, 20))
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 30), st.integers(1, 12))
def test_distance_is_symmetric_and_ignores_rotations(seed: int, n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((n, d)), rng.standard_normal((m, d)) * 2 + 1
    rotation = np.linalg.qr(rng.standard_normal((d, d)))[0]
    distance = frechet_distance(a, b)
    assert distance >= 0
    assert frechet_distance(b, a) == pytest.approx(distance, rel=1e-9, abs=1e-9)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(distance, rel=1e-9, abs=1e-9)


def test_float32_features_are_computed_in_float64() -> None:
    a = whitened(np.random.default_rng(5), 100, 4).astype(np.float32) + np.float32(1000)
    assert frechet_distance(a, a + np.float32(0.5)) == pytest.approx(1.0, rel=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(5, 25), st.integers(5, 25), st.integers(1, 4))
def test_precision_and_recall_agree_with_loops(seed: int, n: int, m: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    real, fake = rng.standard_normal((n, 3)), rng.standard_normal((m, 3)) * 0.7 + 0.5
    assert precision_recall(real, fake, k) == pytest.approx(naive_precision_recall(real, fake, k), abs=1e-12)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    real, fake = rng.standard_normal((50, 4)), rng.standard_normal((41, 4)) + 0.4
    whole = precision_recall(real, fake)
    monkeypatch.setattr("ganfoundry.gan.quality._BLOCK", 7)
    assert precision_recall(real, fake) == whole


def test_equal_sets_are_all_inside_each_other() -> None:
    points = np.random.default_rng(7).standard_normal((60, 5)).astype(np.float32) + 1000
    assert precision_recall(points, points) == (1.0, 1.0)


@pytest.mark.parametrize(("n", "d"), [(3, 301), (3, 1000), (7, 528), (50, 5)])
def test_a_copy_is_inside_a_ball_of_radius_0_whatever_the_rounding(n: int, d: int) -> None:
    points = np.random.default_rng(7).standard_normal((n, d)) + 3
    real, fake = np.tile(points, (4, 1)), np.repeat(points, 5, axis=0)
    assert precision_recall(real, fake) == (1.0, 1.0)
    assert precision_recall(real, fake[:-1]) == (1.0, 1.0)


def test_sets_far_apart_share_nothing() -> None:
    points = np.random.default_rng(8).standard_normal((40, 5))
    assert precision_recall(points, points + 100) == (0.0, 0.0)


def test_a_generator_of_half_the_modes_is_precise_and_forgets() -> None:
    rng = np.random.default_rng(9)
    modes = np.repeat([[0.0, 0.0], [50.0, 0.0]], 100, axis=0)
    real = modes + rng.standard_normal((200, 2))
    fake = rng.standard_normal((200, 2)) * 0.5
    precision, recall = precision_recall(real, fake)
    assert precision > 0.85
    assert 0.2 < recall < 0.5
    assert precision_recall(fake, real) == (recall, precision)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4)), r"one D .*\(5, 3\) and \(5, 4\)"),
        (np.zeros(5), np.zeros(5), "one D"),
        (np.zeros((1, 3)), np.zeros((5, 3)), "too small"),
        (np.full((5, 3), np.nan), np.zeros((5, 3)), "not finite"),
    ],
)
def test_unusable_features_are_refused(a: Floats, b: Floats, words: str) -> None:
    for measure in (frechet_distance, precision_recall):
        with pytest.raises(InputError, match=words):
            measure(a, b)
    with pytest.raises(InputError, match="at least 1"):
        precision_recall(np.zeros((5, 3)), np.zeros((5, 3)), k=0)
