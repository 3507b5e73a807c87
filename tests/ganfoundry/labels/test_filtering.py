"""What is dropped and why: the rules, ties, the released code's slice with its trap, what is written."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.labels.filtering import most_uncertain, select
from ganfoundry.labels.labelset import kept_rows

SCORES = st.lists(st.integers(0, 5).map(lambda n: n / 4), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(SCORES, st.floats(0, 0.99))
def test_a_fraction_drops_the_top_and_nothing_else(scores: list[float], fraction: float) -> None:
    selection = select(scores, fraction=fraction)
    assert len(selection.dropped) == int(len(scores) * fraction)
    assert list(selection.dropped) == sorted(set(selection.dropped))
    assert [scores[row] for row in selection.dropped] == list(selection.scores)
    kept = [scores[row] for row in selection.kept]
    assert not selection.dropped or min(selection.scores) >= max(kept)


def test_ties_drop_the_later_row() -> None:
    assert most_uncertain(np.ones(10), 0.2) == [8, 9]
    assert most_uncertain(np.ones(10), 0.0) == []


@settings(max_examples=60, deadline=None)
@given(SCORES, st.floats(-0.1, 1.5))
def test_a_threshold_drops_what_is_above_it(scores: list[float], threshold: float) -> None:
    above = [row for row, score in enumerate(scores) if score > threshold]
    if len(above) == len(scores):
        with pytest.raises(InputError, match=r"would drop all \d+ images, whose scores are"):
            select(scores, threshold=threshold)
        return
    selection = select(scores, threshold=threshold)
    assert list(selection.dropped) == above
    assert set(selection.reasons) <= {f"score above {threshold:g}"}


@pytest.mark.parametrize(("count", "fraction"), [(1000, 0.1), (400, 0.2), (90, 0.5), (62, 0.5)])
def test_the_released_rule_is_the_released_slice(count: int, fraction: float) -> None:
    scores = np.random.default_rng(count).permutation(count) / count
    k = int(count * fraction)
    kept = sorted(np.argsort(scores, kind="stable")[30 : -k + 30].tolist())  # the published line
    selection = select(scores, fraction=fraction, rule="released-code")
    assert selection.kept.tolist() == kept
    assert len(kept) == count - k
    certain = [row for row, why in zip(selection.dropped, selection.reasons, strict=True) if "most certain" in why]
    assert sorted(certain) == sorted(np.argsort(scores)[:30].tolist())
    assert len(selection.dropped) - len(certain) == k - 30


@pytest.mark.parametrize(("count", "fraction"), [(300, 0.1), (299, 0.1), (20, 0.5), (100, 0.001)])
def test_the_released_rule_would_keep_nothing_of_few_images(count: int, fraction: float) -> None:
    k = int(count * fraction)
    assert np.arange(count)[30 : -k + 30].size == 0  # the trap
    with pytest.raises(InputError, match=r"released-code keeps \[30 : \d+\] of .* is nothing") as caught:
        select(np.arange(count), fraction=fraction, rule="released-code")
    assert caught.value.exit_code == 2


def test_no_filter_keeps_all_under_either_rule() -> None:
    for rule in ("most-uncertain", "released-code"):
        assert select(np.arange(50), fraction=0.0, rule=rule).kept.tolist() == list(range(50))  # type: ignore[arg-type]


def test_contradictions_are_refused() -> None:
    with pytest.raises(InputError, match="leave the threshold out"):
        select([0.0, 1.0], threshold=0.5, rule="released-code")
    with pytest.raises(InputError, match=r"must be in \[0, 1\)"):
        select([0.0, 1.0], fraction=1.0)


def test_what_is_written(tmp_path: Path) -> None:
    selection = select([0.1, 0.9, 0.2, 0.7], fraction=0.5)
    selection.save(tmp_path / "selection.json")
    table = json.loads((tmp_path / "selection.json").read_text("utf-8"))
    assert (table["rows"], table["kept"], table["threshold"]) == (4, 2, 0.7)
    assert (table["rule"], table["fraction"]) == ("most-uncertain", 0.5)
    assert table["reasons"] == {"among the most uncertain 50 %": 2}
    assert table["dropped"][0] == {"row": 1, "score": 0.9, "reason": "among the most uncertain 50 %"}
    assert kept_rows(tmp_path).tolist() == [0, 2]
    assert select([0.1, 0.2], fraction=0.0).threshold is None
