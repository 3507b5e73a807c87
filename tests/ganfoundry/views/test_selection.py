import numpy as np
import pytest

from ganfoundry.errors import RunError
from ganfoundry.views import ALL_AROUND, Candidates, choose_codes, choose_shapes, shortlist
from tests.ganfoundry.views.posehelp import measured, pose

BINS = ALL_AROUND.count

NAMES = ("van", "coupe", "pickup")


def test_known_codes_are_found():
    rng = np.random.default_rng(1)
    azimuths = rng.uniform(0, 360, 300)
    spreads = np.full(300, 40.0)
    planted = [int(np.argmin(np.abs((azimuths - 30 * k + 180) % 360 - 180))) for k in range(BINS)]
    spreads[planted] = 1.0
    candidates = measured(azimuths, spreads)
    assert choose_codes(candidates, 1) == planted
    chosen = choose_codes(candidates, 2)
    assert len(chosen) == 2 * BINS
    assert set(planted) <= set(chosen)
    assert np.all(np.diff(ALL_AROUND.of(candidates.azimuth[chosen])) >= 0)
    assert set(planted) <= set(shortlist(candidates, 1, shapes=False).tolist())


def test_a_second_code_of_a_bin_is_another_camera():
    azimuths = np.concatenate([30.0 * np.arange(BINS), 30.0 * np.arange(BINS) + 1, 30.0 * np.arange(BINS) + 10])
    spreads = np.concatenate([np.full(BINS, 0.1), np.full(BINS, 0.5), np.full(BINS, 3.0)])
    candidates = measured(azimuths, spreads)
    assert set(choose_codes(candidates, 2)) == set(range(BINS)) | set(range(2 * BINS, 3 * BINS))


def test_preferred_elevation():
    base = measured(np.repeat(30.0 * np.arange(BINS), 2), np.full(2 * BINS, 1.0))
    elevation = np.tile([0.0, 30.0], BINS)
    candidates = Candidates(**{**base.__dict__, "elevation": elevation})
    assert all(i % 2 == 1 for i in choose_codes(candidates, 1, elevation=30.0))
    assert all(i % 2 == 0 for i in choose_codes(candidates, 1, elevation=0.0))


def test_empty_bins_are_named():
    azimuths = 30.0 * np.delete(np.arange(BINS), [4, 9])
    candidates = measured(azimuths, np.full(10, 1.0))
    with pytest.raises(RunError, match=r"4 \(105 to 135 degrees\), 9 \(255 to 285 degrees\).*--num-candidates"):
        choose_codes(candidates, 1)


def test_scattered_candidates_do_not_count():
    candidates = measured(np.tile(30.0 * np.arange(BINS), 2), np.repeat([1.0, 90.0], BINS))
    assert len(choose_codes(candidates, 2, largest_std=20.0)) == BINS
    with pytest.raises(RunError):
        choose_codes(measured(30.0 * np.arange(BINS), np.full(BINS, 300.0)), 1, largest_std=20.0)


def shaped(rows):
    """Candidates from (azimuth, shape, its probability)."""
    estimates = []
    for azimuth, shape, probability in rows:
        table = np.full((4, len(NAMES)), (1 - probability) / (len(NAMES) - 1))
        table[:, shape] = probability
        estimates.append(pose(np.full(4, azimuth), shape=table))
    return Candidates.measure(estimates)


def round_trip(shape, probability, count=BINS):
    return [(30.0 * k, shape, probability) for k in range(count)]


def test_every_shape_gets_the_codes_that_show_it_best():
    candidates = shaped(round_trip(0, 0.6) + round_trip(1, 0.8) + round_trip(0, 0.9) + round_trip(2, 0.9, 7))
    found = choose_shapes(candidates, NAMES, 4, 1)
    assert found == {0: list(range(2 * BINS, 3 * BINS)), 1: list(range(BINS, 2 * BINS))}  # pickups lack five bins
    assert list(choose_shapes(candidates, NAMES, 1, 1)) == [0]
    assert list(choose_shapes(candidates, NAMES, 4, 2)) == [0]  # one coupe a bin is not enough
    assert choose_codes(candidates, 1, shape=1) == found[1]


def test_shapes_without_all_bins_are_named():
    with pytest.raises(RunError, match=r"van in 6, 7, 8, 9, 10, 11; coupe in 0, 1.*--shapes 0"):
        choose_shapes(shaped(round_trip(0, 0.9, 6)), NAMES[:2], 2, 1)


def test_shortlist_keeps_the_best_of_every_bin_and_shape():
    candidates = shaped(round_trip(0, 0.6) + round_trip(1, 0.8) + round_trip(0, 0.9) + round_trip(2, 0.5, 7))
    assert shortlist(candidates, 1, shapes=True).tolist() == list(range(BINS, 3 * BINS + 7))
    assert shortlist(candidates, 9, shapes=True).tolist() == list(range(3 * BINS + 7))
    assert len(shortlist(candidates, 2, shapes=False)) == 2 * BINS
