"""What to label next: the weighted core-set against a loop, outliers, what is taken, the file that is written."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.gan.stylegan2 import Generator, GeneratorConfig
from ganfoundry.labels.active import (
    Candidates,
    Survey,
    choose,
    core_set,
    feature_space,
    survey,
    typicality,
    uncertainty_weights,
)
from ganfoundry.labels.synthesis import images_and_features

RNG = np.random.default_rng(0)


def naive_next(space: np.ndarray, weights: np.ndarray, taken: list[int], free: list[int]) -> int:
    """The next row of the core-set, by loops."""
    gain = {row: weights[row] * min(float(np.linalg.norm(space[row] - space[t])) for t in taken) for row in free}
    best = max(gain.values())
    return next(row for row in free if gain[row] >= best - 1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 3), st.integers(1, 5))
def test_the_core_set_is_the_greedy_one(seed: int, taken_count: int, count: int) -> None:
    random = np.random.default_rng(seed)
    space, weights = random.normal(size=(14, 3)), random.random(14) + 0.1
    taken = random.choice(14, taken_count, replace=False).tolist()
    allowed = sorted(random.choice(14, 12, replace=False).tolist())
    chosen = core_set(space, weights, count, taken, allowed)
    assert len(set(chosen)) == count
    assert not set(chosen) & set(taken)
    assert set(chosen) <= set(allowed)
    known = list(taken)
    for row in chosen:
        free = [r for r in allowed if r not in known]
        assert row == naive_next(space, weights, known, free)
        known.append(row)


def test_without_weights_four_clusters_get_one_each() -> None:
    centres = np.array([[0, 0], [0, 9], [9, 0], [9, 9]], float)
    space = np.repeat(centres, 10, 0) + 0.1 * RNG.normal(size=(40, 2))
    chosen = core_set(space, np.ones(40), 4)
    assert sorted(row // 10 for row in chosen) == [0, 1, 2, 3]


def test_the_first_choice_is_near_the_middle_and_heavy() -> None:
    space = RNG.normal(size=(100, 2))
    weights = RNG.random(100)
    (first,) = core_set(space, weights, 1)
    near = np.argsort(np.linalg.norm(space - space.mean(0), axis=1))[:10]
    assert first in near
    assert weights[first] == weights[near].max()


def test_uncertain_ones_are_preferred_and_freaks_are_not() -> None:
    space = RNG.normal(size=(200, 4))
    space[7] *= 40
    ordinary = typicality(space)
    assert ordinary.max() == 1.0
    assert ordinary[7] < 0.1
    assert (ordinary == 1).mean() >= 0.5
    pooled = np.zeros((200, 6), np.float32)
    pooled[:, :4] = space
    images = np.zeros((200, 2, 2, 3), np.uint8)
    score = np.where(np.arange(200) < 100, 0.9, 0.1).astype(np.float32)
    without = choose("core-set", Survey(images, pooled), 20)
    uncertain = choose("core-set", Survey(images, pooled, score), 20)
    assert sum(row < 100 for row in uncertain) > sum(row < 100 for row in without)


def test_weights_follow_the_order_only() -> None:
    weights = uncertainty_weights([0.1, 5.0, 0.2])
    assert weights.tolist() == [0.5, 1.0, 0.75]
    assert uncertainty_weights([3.0]).tolist() == [0.5]


def test_feature_space_keeps_distances_of_standardised_features() -> None:
    pooled = RNG.normal(size=(12, 5)) * [1, 10, 0.1, 3, 0]
    space = feature_space(pooled)
    scaled = pooled / np.maximum(pooled.std(0), 1e-6)
    for a, b in ((0, 1), (3, 11)):
        assert np.linalg.norm(space[a] - space[b]) == pytest.approx(np.linalg.norm(scaled[a] - scaled[b]))


@pytest.mark.parametrize("method", ["core-set", "medoids", "random"])
def test_every_method_keeps_to_what_is_allowed(method: str) -> None:
    found = Survey(np.zeros((30, 2, 2, 3), np.uint8), RNG.normal(size=(30, 8)).astype(np.float32))
    allowed = list(range(5, 25))
    for count in (1, 7, 18):
        rows = choose(method, found, count, taken=[5, 6], allowed=allowed)  # type: ignore[arg-type]
        assert len(set(rows)) == count
        assert set(rows) <= set(range(7, 25))
    with pytest.raises(InputError, match="cannot choose 19 of 18 samples; raise --num-candidates"):
        choose(method, found, 19, taken=[5, 6], allowed=allowed)  # type: ignore[arg-type]


def test_random_follows_the_generator() -> None:
    found = Survey(np.zeros((30, 2, 2, 3), np.uint8), np.zeros((30, 8), np.float32))
    first, again, other = (choose("random", found, 5, random=np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other


def test_a_survey_pools_the_feature_maps() -> None:
    torch.manual_seed(0)
    synthesis = Generator(GeneratorConfig(resolution=8, channels={4: 6, 8: 4}, z_dim=4, w_dim=4)).eval().synthesis
    w = torch.randn(11, 4)
    seen: list[int] = []
    found = survey(synthesis, None, w, seen.append)
    images, maps = images_and_features(synthesis, w, list(synthesis.feature_dims))
    np.testing.assert_array_equal(found.images, images)
    expected = torch.cat([m.mean((2, 3)) for m in maps.values()], 1).numpy()
    np.testing.assert_allclose(found.pooled, expected, atol=1e-5)
    assert (sum(seen), found.score) == (11, None)


def test_candidates_round_trip_and_refusals(tmp_path: Path) -> None:
    found = Candidates("a" * 64, 0, 0.7, 40, (3, 39), (11, 12), (0.5, 0.25), "core-set", (1,))
    found.save(tmp_path / "candidates.json")
    assert Candidates.load(tmp_path) == Candidates.load(tmp_path / "candidates.json", "a" * 64) == found
    with pytest.raises(InputError, match=r"belong to the generator aaaaaaaaaaaa\.\.\., not to bbbb"):
        Candidates.load(tmp_path, "b" * 64)
    table = json.loads((tmp_path / "candidates.json").read_text())
    for change in ({"numbers": [40]}, {"format": "x"}, {"more": 1}):
        (tmp_path / "candidates.json").write_text(json.dumps(table | change))
        with pytest.raises(InputError, match=r"cannot read the candidates .* run select again"):
            Candidates.load(tmp_path)
    with pytest.raises(InputError, match="cannot read the candidates"):
        Candidates.load(tmp_path / "nowhere")
