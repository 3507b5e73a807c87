"""What benchmarks share: jobs of rows, results joined, saved and read again, progress."""

from dataclasses import dataclass

import pytest

from benchmarks import _jobs
from ganfoundry.errors import InputError


@dataclass(frozen=True)
class Row:
    title: str


@dataclass(frozen=True)
class Job:
    row: str
    seed: int
    figures: dict | None = None

    def result(self):
        return None if self.figures is None else {"identity": {"seed": self.seed}, "figures": self.figures}


@dataclass(frozen=True)
class Sizes:
    steps: int = 100
    images: int = 10


ROWS = {"a": Row("first"), "b": Row("second"), "c": Row("third")}


def test_jobs_of_rows_in_the_order_of_the_names():
    found = _jobs.jobs_of(["b", "a"], ROWS, lambda row: [Job(row.title, seed) for seed in range(2)])
    assert [(job.row, job.seed) for job in found] == [("second", 0), ("second", 1), ("first", 0), ("first", 1)]
    with pytest.raises(InputError, match="no row 'd'; the rows are a, b, c"):
        _jobs.jobs_of(["a", "d"], ROWS, lambda row: [])


def test_joined_results_have_what_all_seeds_have_in_the_order_of_the_rows():
    jobs = [Job("b", 1, {"x": 3.0}), Job("a", 0, {"x": 1.0, "y": 9.0}), Job("a", 1), Job("a", 2, {"x": 2.0})]
    results = _jobs.finished(ROWS, jobs, "toys")
    table = _jobs.collect("toys", Sizes(images=20), ROWS, results, ["--model FOLDER"])
    assert table["command"] == "python -m benchmarks.toys --images 20 --model FOLDER"
    assert table["settings"] == {"steps": 100, "images": 20}
    assert list(table["rows"].items()) == [
        ("a", {"title": "first", "seeds": [0, 2], "figures": {"x": [1.0, 2.0]}}),
        ("b", {"title": "second", "seeds": [1], "figures": {"x": [3.0]}}),
    ]
    with pytest.raises(InputError, match="no job of these settings is done"):
        _jobs.finished(ROWS, [Job("a", 0)], "toys")


def test_saved_and_read_again(monkeypatch, tmp_path):
    monkeypatch.setattr(_jobs, "RESULTS", tmp_path / "new" / "results")
    with pytest.raises(InputError, match="there are no results"):
        _jobs.load("toys")
    _jobs.save("toys", {"rows": {}}, "a page")
    assert _jobs.load("toys") == {"rows": {}}
    assert (_jobs.RESULTS / "toys.md").read_text() == "a page"
    (_jobs.RESULTS / "toys.json").write_text('{"rows"')
    with pytest.raises(InputError, match=r"toys\.json .*run python -m benchmarks.toys"):
        _jobs.load("toys")


def test_progress_is_printed_every_twenty_seconds(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(_jobs.time, "monotonic", lambda: now[0])
    note = _jobs.progress(Job("a", 3))
    for now[0] in (1.0, 20.5, 30.0, 41.0):
        note(f"at {now[0]}")
    assert capsys.readouterr().err == "  a seed 3: at 20.5\n  a seed 3: at 41.0\n"
