"""Jensen-Shannon divergence against a loop and its bounds; image scores."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganfoundry.labels.uncertainty import (
    SCORE_KINDS,
    divergence,
    entropy,
    image_score,
    interior,
    jensen_shannon,
)

torch.set_num_threads(1)


def naive(probabilities: np.ndarray) -> float:
    """Jensen-Shannon divergence of (M, C) at one pixel."""

    def h(p: np.ndarray) -> float:
        return -sum(x * math.log(x) for x in p if x > 0)

    return h(probabilities.mean(0)) - sum(h(p) for p in probabilities) / len(probabilities)


def probabilities(members: int, classes: int, sharpness: float, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(members, 2, classes, 3, 4, generator=random, dtype=torch.float64)
    return logits.softmax(2)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 10), st.integers(1, 8), st.floats(0, 60), st.integers(0, 1000))
def test_bounds_and_naive_oracle(members: int, classes: int, sharpness: float, seed: int) -> None:
    p = probabilities(members, classes, sharpness, seed)
    js = jensen_shannon(p)
    assert js.shape == (2, 3, 4)
    assert js.min() >= 0
    assert js.max() <= math.log(min(members, classes)) + 1e-9
    for n, y, x in ((0, 0, 0), (1, 2, 3)):
        assert float(js[n, y, x]) == pytest.approx(max(0.0, naive(p[:, n, :, y, x].numpy())), abs=1e-9)


def test_zero_for_equal_members_and_largest_for_one_hot_disagreement() -> None:
    p = probabilities(1, 5, 2.0, 0)
    assert jensen_shannon(p.expand(7, -1, -1, -1, -1)).abs().max() < 1e-12
    one_hot = torch.eye(4, dtype=torch.float64).view(4, 1, 4, 1, 1)
    assert float(jensen_shannon(one_hot)) == pytest.approx(math.log(4))


def test_it_is_the_entropy_of_the_mean_probability_not_of_mean_logits() -> None:
    """The published code averaged logits until September 2021; a case in which the two differ."""
    p = torch.tensor([[0.99, 0.01], [0.5, 0.5]], dtype=torch.float64).view(2, 1, 2, 1, 1)
    wrong = p.log().mean(0).softmax(1)
    assert abs(float(jensen_shannon(p)) - float(divergence(wrong, entropy(p, 2).mean(0), 1))) > 0.01


def test_entropy_of_certainty_and_of_ignorance() -> None:
    assert float(entropy(torch.tensor([1.0, 0.0]), 0)) == 0
    assert float(entropy(torch.full((8,), 1 / 8), 0)) == pytest.approx(math.log(8))


def test_image_score_is_the_mean_of_the_top_tenth() -> None:
    values = torch.arange(36.0).view(1, 6, 6)
    assert float(image_score(values)[0]) == pytest.approx((35 + 34 + 33) / 3)
    assert float(image_score(values, "mean")[0]) == pytest.approx(values.mean())
    assert float(image_score(torch.ones(1, 2, 2))[0]) == 1.0  # at least one pixel
    with pytest.raises(ValueError, match="the last two with labels"):
        image_score(values, "interior")
    with pytest.raises(ValueError, match="top-tenth, mean, interior, object"):
        image_score(values, "sum")  # type: ignore[arg-type]


def naive_interior(label: np.ndarray, margin: int) -> np.ndarray:
    side = len(label)
    result = np.zeros(label.shape, bool)
    for y in range(side):
        for x in range(side):
            window = label[max(0, y - margin) : y + margin + 1, max(0, x - margin) : x + margin + 1]
            result[y, x] = (window == label[y, x]).all()
    return result


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 3))
def test_interior_against_a_loop(seed: int, margin: int) -> None:
    label = np.random.default_rng(seed).integers(0, 3, (2, 3, 3)).repeat(5, 1).repeat(5, 2)
    found = interior(torch.from_numpy(label), margin).numpy()
    for one, expected in zip(found, label, strict=True):
        inside = naive_interior(expected, margin)
        np.testing.assert_array_equal(one, inside if inside.any() else np.ones_like(inside))


def test_the_interior_score_does_not_see_boundaries() -> None:
    label = torch.zeros(2, 16, 16, dtype=torch.uint8)
    label[:, :, 8:] = 1
    uncertainty = torch.zeros(2, 16, 16)
    uncertainty[:, :, 7:9] = 1.0  # where the parts meet, in both images
    uncertainty[1, 3:6, 2:5] = 0.5  # inside a part, in the second
    top, inner = image_score(uncertainty), image_score(uncertainty, "interior", label)
    assert float(top[0]) == float(top[1]) == 1.0
    assert (float(inner[0]), float(inner[1])) == (0.0, pytest.approx(9 * 0.5 / int(0.1 * 14 * 16)))


def test_an_image_without_interior_is_scored_as_a_whole() -> None:
    label = (torch.arange(64).view(1, 8, 8) + torch.arange(8)[:, None]) % 2
    uncertainty = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert float(image_score(uncertainty, "interior", label)) == pytest.approx(float(image_score(uncertainty)))


def test_every_score_orders_a_clear_case() -> None:
    label = torch.zeros(2, 8, 8, dtype=torch.long)
    label[0, 2:6, 2:6] = 1
    uncertainty = torch.stack([torch.full((8, 8), 0.1), torch.full((8, 8), 0.4)])
    for kind in SCORE_KINDS:
        low, high = image_score(uncertainty, kind, label)
        assert (float(low), float(high)) == (pytest.approx(0.1), pytest.approx(0.4))


def test_the_object_score_does_not_depend_on_the_objects_size() -> None:
    label = torch.zeros(2, 16, 16, dtype=torch.uint8)
    label[0, 4:8, 4:8] = 1
    label[1, 2:14, 2:14] = 3
    uncertainty = 0.5 * (label > 0)
    assert image_score(uncertainty, "object", label).tolist() == [0.5, 0.5]
    small, large = image_score(uncertainty, "mean")
    assert small < large
