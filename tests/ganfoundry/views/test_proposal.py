import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.metrics import angle_difference
from ganfoundry.views import ALL_AROUND, Candidates, choose_codes, make_codes, measure_candidates
from ganfoundry.views.proposal import CANDIDATES_AT_A_TIME
from tests.ganfoundry.views.posehelp import CONTENTS, fake_images, measured, pose, read_pose

BINS = ALL_AROUND.count


def test_measured_statistics_are_those_of_the_estimates():
    candidates = measured([90.0, 0.0], [0.0, 8.0])
    assert candidates.azimuth[0] == pytest.approx(90)
    assert candidates.azimuth_std[0] == pytest.approx(0, abs=1e-5)
    assert 4 < candidates.azimuth_std[1] < 12
    assert candidates.elevation.tolist() == [10, 10]
    assert candidates.flip_share.tolist() == [0, 0]


@pytest.mark.parametrize("count", [1, CANDIDATES_AT_A_TIME, CANDIDATES_AT_A_TIME + 3])
def test_every_candidate_is_judged_on_its_own_images(count):
    asked = []

    def render(rows):
        asked.extend(rows.tolist())
        return np.stack([fake_images(10.0 * row, 0.0, np.random.default_rng(0)) for row in rows])

    found = [estimate for part in measure_candidates(count, render, read_pose) for estimate in part]
    assert asked == list(range(count))
    assert [estimate.azimuth.shape for estimate in found] == [(CONTENTS,)] * count
    assert [estimate.azimuth[0] for estimate in found] == [pytest.approx(10.0 * row % 360) for row in range(count)]


def test_flips_count_against_a_code():
    flipped = np.array([30.0] * 13 + [210.0] * 3)
    candidates = Candidates.measure([pose(np.full(16, 30.0)), pose(flipped)])
    assert candidates.flip_share.tolist() == [0, 3 / 16]
    assert candidates.azimuth[1] == pytest.approx(30)
    assert candidates.cost()[1] > candidates.cost()[0] + 16


def test_directions_that_cancel_out_are_the_worst_code():
    candidates = Candidates.measure([pose(np.array([0.0, 180.0, 0.0, 180.0])), pose(np.full(4, 10.0))])
    assert np.isfinite(candidates.cost()).all()
    assert candidates.azimuth_std[0] == 360
    assert candidates.cost()[0] > candidates.cost()[1] + 300


def test_a_code_that_bleaches_all_objects_costs_more():
    paint = np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    kept, white = pose(np.full(2, 30.0), colour=paint), pose(np.full(2, 30.0), colour=np.ones((2, 3)))
    candidates = Candidates.measure([kept, white, kept])
    assert candidates.colour_error[[0, 2]].tolist() == [0, 0]
    assert candidates.colour_error[1] == pytest.approx(np.linalg.norm([0.2, 0.9, 0.9]))
    assert candidates.cost()[1] > candidates.cost()[0] + 60


def test_codes_say_how_they_were_labelled():
    candidates = measured(np.repeat(30.0 * np.arange(BINS), 2) + np.tile([0, 10], BINS), np.full(2 * BINS, 1.0))
    chosen = {"": choose_codes(candidates, 2)}
    assert {code.how for code in make_codes(candidates, chosen, None, False)[0]} == {"proposed"}
    assert {code.how for code in make_codes(candidates, chosen, {}, True)[0]} == {"proposed and confirmed"}
    codes, kept = make_codes(candidates, chosen, {0: 11, 2: -1, 4: 2}, False)
    assert set(kept) == set(chosen[""]) - {chosen[""][2]}
    assert len(codes) == 2 * BINS - 1
    assert [code.id for code in codes] == list(range(len(codes)))
    assert [code.how for code in codes].count("hand") == 1
    assert [code.how for code in codes].count("proposed and confirmed") == 1
    moved = next(code for code in codes if code.how == "hand")
    assert moved.bin == 11
    assert kept[moved.id] == chosen[""][0]
    assert abs(angle_difference(moved.azimuth, 0)) < 2


def test_a_dropped_code_takes_its_counterparts_with_it():
    candidates = measured(np.tile(30.0 * np.arange(BINS), 4) + np.repeat([0, 1, 2, 3], BINS), np.full(4 * BINS, 0.1))
    rows = [sorted(range(first * BINS, (first + 2) * BINS), key=lambda i: (i % BINS, i)) for first in (0, 2)]
    codes, kept = make_codes(candidates, {"van": rows[0], "coupe": rows[1]}, {5: -1, 2 * BINS + 8: -1, 6: 2}, True)
    assert len(codes) == 2 * (2 * BINS - 2)
    assert [code.shape for code in codes] == ["van"] * 22 + ["coupe"] * 22
    assert [code.id for code in codes] == list(range(44))
    assert not set(kept) & {rows[0][5], rows[1][5], rows[0][8], rows[1][8]}
    moved = next(code for code in codes if code.how == "hand")
    assert (moved.shape, moved.bin, kept[moved.id]) == ("van", 2, rows[0][6])
    with pytest.raises(InputError, match=r"bins \[3\] of van without a code"):
        make_codes(candidates, {"van": rows[0], "coupe": rows[1]}, {6: -1, 2 * BINS + 7: -1}, True)


@pytest.mark.parametrize(("bins", "words"), [({99: 0}, "99"), ({0: 12}, "0 to 11"), ({0: -1, 1: -1}, "without a code")])
def test_wrong_bins_files_are_refused(bins, words):
    candidates = measured(np.repeat(30.0 * np.arange(BINS), 2) + np.tile([0, 10], BINS), np.full(2 * BINS, 1.0))
    with pytest.raises(InputError, match=words):
        make_codes(candidates, {"": choose_codes(candidates, 2)}, bins, True)
