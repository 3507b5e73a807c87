import numpy as np
import pytest

from ganfoundry.errors import InputError, RunError
from ganfoundry.metrics import angle_difference
from ganfoundry.views import (
    BINS,
    Candidates,
    PoseEstimates,
    azimuth_bin,
    choose_codes,
    empty_bins,
    make_codes,
    measure_candidates,
)

CONTENTS = 16


def fake_images(azimuth, spread, rng):
    """Images whose first pixels spell a pose: the estimator below reads it back."""
    image = np.zeros((CONTENTS, 2, 2, 3), np.uint8)
    angle = (azimuth + spread * rng.standard_normal(CONTENTS)) % 360
    hundredths = np.round(angle * 100).astype(int)
    image[:, 0, 0, 0], image[:, 0, 0, 1], image[:, 0, 0, 2] = hundredths // 256, hundredths % 256, 40
    return image


def read_pose(images):
    count = len(images)
    ones = np.ones(count)
    return PoseEstimates(
        azimuth=(images[:, 0, 0, 0] * 256.0 + images[:, 0, 0, 1]) / 100,
        elevation=10 * ones,
        distance=8 * ones,
        confidence=0.9 * ones,
        area=images[:, 0, 0, 2] / 100,
        quality=0.8 * ones,
    )


def measured(azimuths, spreads):
    rng = np.random.default_rng(0)
    estimates = measure_candidates(len(azimuths), lambda i: fake_images(azimuths[i], spreads[i], rng), read_pose)
    return Candidates.measure(list(estimates))


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
    assert np.all(np.diff(azimuth_bin(candidates.azimuth[chosen])) >= 0)


def test_measured_statistics_are_those_of_the_estimates():
    candidates = measured([90.0, 0.0], [0.0, 8.0])
    assert candidates.azimuth[0] == pytest.approx(90)
    assert candidates.azimuth_std[0] == pytest.approx(0, abs=1e-5)
    assert 4 < candidates.azimuth_std[1] < 12
    assert candidates.elevation.tolist() == [10, 10]
    assert candidates.flip_share.tolist() == [0, 0]


def test_flips_count_against_a_code():
    flipped = np.array([30.0] * 13 + [210.0] * 3)
    ones = np.ones(16)
    steady = PoseEstimates(np.full(16, 30.0), ones, ones, ones, ones, ones)
    turning = PoseEstimates(flipped, ones, ones, ones, ones, ones)
    candidates = Candidates.measure([steady, turning])
    assert candidates.flip_share.tolist() == [0, 3 / 16]
    assert candidates.azimuth[1] == pytest.approx(30)
    assert candidates.cost()[1] > candidates.cost()[0] + 16


def test_directions_that_cancel_out_are_the_worst_code():
    ones = np.ones(4)
    nowhere = PoseEstimates(np.array([0.0, 180.0, 0.0, 180.0]), ones, ones, ones, ones, ones)
    steady = PoseEstimates(np.full(4, 10.0), ones, ones, ones, ones, ones)
    candidates = Candidates.measure([nowhere, steady])
    assert np.isfinite(candidates.cost()).all()
    assert candidates.azimuth_std[0] == 360
    assert candidates.cost()[0] > candidates.cost()[1] + 300


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
    assert empty_bins(candidates) == [4, 9]
    with pytest.raises(RunError, match=r"4 \(105 to 135 degrees\), 9 \(255 to 285 degrees\).*--num-candidates"):
        choose_codes(candidates, 1)


def test_scattered_candidates_do_not_count():
    candidates = measured(np.tile(30.0 * np.arange(BINS), 2), np.repeat([1.0, 90.0], BINS))
    assert len(choose_codes(candidates, 2, largest_std=20.0)) == BINS
    with pytest.raises(RunError):
        choose_codes(measured(30.0 * np.arange(BINS), np.full(BINS, 300.0)), 1, largest_std=20.0)


def test_codes_say_how_they_were_labelled():
    candidates = measured(np.repeat(30.0 * np.arange(BINS), 2) + np.tile([0, 10], BINS), np.full(2 * BINS, 1.0))
    chosen = choose_codes(candidates, 2)
    assert {code.how for code in make_codes(candidates, chosen, None, False)[0]} == {"proposed"}
    assert {code.how for code in make_codes(candidates, chosen, {}, True)[0]} == {"proposed and confirmed"}
    codes, kept = make_codes(candidates, chosen, {0: 11, 2: -1, 4: 2}, False)
    assert set(kept) == set(chosen) - {chosen[2]}
    assert len(codes) == 2 * BINS - 1
    assert [code.id for code in codes] == list(range(len(codes)))
    assert [code.how for code in codes].count("hand") == 1
    assert [code.how for code in codes].count("proposed and confirmed") == 1
    moved = next(code for code in codes if code.how == "hand")
    assert moved.bin == 11
    assert kept[moved.id] == chosen[0]
    assert abs(angle_difference(moved.azimuth, 0)) < 2


@pytest.mark.parametrize(("bins", "words"), [({99: 0}, "99"), ({0: 12}, "0 to 11"), ({0: -1, 1: -1}, "without a code")])
def test_wrong_bins_files_are_refused(bins, words):
    candidates = measured(np.repeat(30.0 * np.arange(BINS), 2) + np.tile([0, 10], BINS), np.full(2 * BINS, 1.0))
    with pytest.raises(InputError, match=words):
        make_codes(candidates, choose_codes(candidates, 2), bins, True)
