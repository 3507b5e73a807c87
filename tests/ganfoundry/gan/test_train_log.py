"""What is read from the log of a run: the best snapshot, the end of patience, hopeless scores."""

from pathlib import Path
from typing import Any

import pytest

from ganfoundry.gan.train_log import (
    append_line,
    best_snapshot,
    forget_lines_after,
    hopeless,
    out_of_patience,
    read_log,
)


def measured(*distances: float) -> list[dict[str, Any]]:
    """A line a distance, 20,000 images apart."""
    return [
        {"step": index, "images": index * 20_000, "fd": fd, "snapshot": f"kimg-{index * 20:06d}"}
        for index, fd in enumerate(distances, 1)
    ]


def scores(real: float, fake: float, kimg: int, first: int = 0) -> list[dict[str, Any]]:
    """A line each thousand images."""
    return [
        {"step": index, "images": index * 1000, "real_score": real, "fake_score": fake}
        for index in range(first, first + kimg + 1)
    ]


def test_lines_are_read_back_and_a_torn_one_is_not(tmp_path: Path) -> None:
    assert read_log(tmp_path) == []
    for step in (1, 2, 3):
        append_line(tmp_path, {"step": step, "images": step * 8})
    with (tmp_path / "log.jsonl").open("a") as stream:
        stream.write('{"step": 4, "ima')
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3]
    forget_lines_after(tmp_path, 2)
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1, "images": 8}\n{"step": 2, "images": 16}\n'


def test_best_snapshot_is_the_earliest_of_the_lowest() -> None:
    assert best_snapshot([{"step": 1, "images": 8}]) is None
    best = best_snapshot(measured(9.0, 4.0, 5.0, 4.0))
    assert best is not None
    assert (best.name, best.images, best.fd) == ("kimg-000040", 40_000, 4.0)
    again = [*measured(9.0, 4.0, 5.0), {**measured(9.0, 8.0)[1], "step": 9}]  # kimg-000040 was written again
    assert (best_snapshot(again) or best).name == "kimg-000060"


@pytest.mark.parametrize(
    ("distances", "patience", "ends"),
    [
        ((9.0, 4.0, 5.0), 20.0, True),
        ((9.0, 4.0, 5.0), 21.0, False),
        ((9.0, 4.0, 5.0, 3.9), 20.0, False),
        ((9.0, 4.0, 5.0), 0.0, False),
        ((), 20.0, False),
    ],
)
def test_patience(distances: tuple[float, ...], patience: float, ends: bool) -> None:
    why = out_of_patience(measured(*distances), patience)
    assert bool(why) == ends
    assert not ends or why == "no lower Frechet distance than 4, of kimg-000040, in 20,000 images"


def test_scores_must_be_hopeless_for_long() -> None:
    healthy = scores(1.5, -1.5, 100)
    assert hopeless([]) == hopeless(healthy) == ""
    assert "collapsed" in hopeless([*healthy, *scores(0.2, 0.201, 60, 101)])
    assert hopeless([*healthy, *scores(0.2, 0.201, 40, 101)]) == ""
    assert hopeless(scores(0.2, 0.201, 49)) == ""
    assert "won" in hopeless([*healthy, *scores(90.0, -80.0, 60, 101)])
    assert hopeless([*scores(0.2, 0.201, 60), *scores(0.2, 0.4, 1, 61)]) == ""
