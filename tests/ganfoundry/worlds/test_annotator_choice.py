import itertools

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.worlds.annotator import Annotation
from ganfoundry.worlds.annotator_choice import choose_balanced, form_quality, k_medoids


def annotation(azimuth, quality, seed=0):
    rng = np.random.default_rng(seed)
    count = len(azimuth)
    return Annotation(
        parts=np.zeros((count, 4, 4), np.uint8),
        part_confidence=np.asarray(quality, np.float32),
        keypoints=np.zeros((count, 2, 3), np.float32),
        azimuth=np.asarray(azimuth, np.float32),
        azimuth_confidence=np.asarray(quality, np.float32),
        elevation=rng.uniform(0, 30, count).astype(np.float32),
        distance=np.full(count, 11, np.float32),
        body_type=np.zeros(count, np.int64),
        body_probabilities=np.tile(np.float32([0.9, 0.1]), (count, 1)),
        paint=rng.uniform(0, 1, (count, 3)).astype(np.float32),
    )


def cost(features, medoids):
    distance = np.linalg.norm(features[:, None] - features[list(medoids)][None], axis=2)
    return distance.min(1).sum()


def test_k_medoids_is_near_the_best_of_all_subsets():
    features = np.random.default_rng(0).standard_normal((14, 3))
    best = min(cost(features, subset) for subset in itertools.combinations(range(14), 3))
    assert cost(features, k_medoids(features, 3)) <= 1.05 * best


def test_k_medoids_finds_planted_clusters():
    rng = np.random.default_rng(1)
    centres = 20 * rng.standard_normal((5, 4))
    features = (centres[:, None] + rng.standard_normal((5, 10, 4))).reshape(50, 4)
    chosen = k_medoids(features, 5)
    assert sorted(index // 10 for index in chosen) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(chosen, k_medoids(features, 5))


def test_k_medoids_with_equal_rows_and_with_all_rows():
    assert len(set(k_medoids(np.zeros((6, 2)), 3).tolist())) == 3
    assert k_medoids(np.random.default_rng(0).standard_normal((5, 2)), 5).tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(InputError, match="cannot choose 6 of 5"):
        k_medoids(np.zeros((5, 2)), 6)


def test_balanced_choice_covers_all_sides_with_good_samples():
    rng = np.random.default_rng(0)
    azimuth, quality = rng.uniform(0, 360, 400), rng.uniform(0, 1, 400)
    found = annotation(azimuth, quality)
    chosen = choose_balanced(found, 16)
    assert len(set(chosen.tolist())) == 16
    assert set((azimuth[chosen] // 30).astype(int).tolist()) == set(range(12))
    assert form_quality(found)[chosen].min() > np.median(form_quality(found))


def test_balanced_choice_fills_up_when_sides_are_missing():
    found = annotation(np.linspace(0, 20, 30), np.linspace(0.1, 1, 30))
    chosen = choose_balanced(found, 16)
    assert len(set(chosen.tolist())) == 16
    assert choose_balanced(found, 30).tolist() == list(range(30))
    with pytest.raises(InputError, match="--num-candidates"):
        choose_balanced(found, 31)


def test_sectors_are_parts_of_the_range_that_the_class_is_seen_from():
    rng = np.random.default_rng(0)
    azimuth = rng.uniform(-60, 60, 400)
    found = annotation(azimuth % 360, np.ones(400))
    chosen = choose_balanced(found, 12, azimuths=(-60.0, 60.0))
    assert sorted(((azimuth[chosen] + 60) // 10).astype(int).tolist()) == list(range(12))
    outside = annotation([299, 290, 61, 90, 0, 10], np.ones(6))
    assert set(choose_balanced(outside, 4, azimuths=(-60.0, 60.0)).tolist()) & {0, 1}
    assert set(choose_balanced(outside, 4, azimuths=(-60.0, 60.0)).tolist()) & {2, 3}
