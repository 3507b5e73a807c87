"""Jensen-Shannon divergence against a loop, its bounds, and the choice of what to drop."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganfoundry.labels.uncertainty import divergence, entropy, image_score, jensen_shannon, most_uncertain

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
    values = torch.arange(40.0).view(1, 5, 8)
    assert float(image_score(values)) == pytest.approx((39 + 38 + 37 + 36) / 4)
    assert float(image_score(values, 1.0)) == pytest.approx(values.mean())
    assert float(image_score(torch.ones(1, 2, 2), 0.01)) == 1.0
    for wrong in (0.0, 1.1):
        with pytest.raises(ValueError, match="fraction"):
            image_score(values, wrong)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.floats(0, 0.99))
def test_most_uncertain_drops_the_top_and_nothing_else(scores: list[int], fraction: float) -> None:
    dropped = most_uncertain(torch.tensor(scores, dtype=torch.float32), fraction).tolist()
    assert len(dropped) == int(len(scores) * fraction)
    assert dropped == sorted(set(dropped))
    kept = [s for row, s in enumerate(scores) if row not in dropped]
    assert not dropped or not kept or min(scores[row] for row in dropped) >= max(kept)


def test_ties_drop_the_later_row() -> None:
    assert most_uncertain(torch.ones(10), 0.2).tolist() == [8, 9]
    assert most_uncertain(torch.ones(10), 0.0).tolist() == []
    with pytest.raises(ValueError, match="fraction"):
        most_uncertain(torch.ones(10), 1.0)
