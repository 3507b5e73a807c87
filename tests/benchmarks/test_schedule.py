"""Tasks that need one another: order, processes, errors. What real processes call are functions of libraries."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks._schedule import Task, in_rounds, names, run_tasks
from ganfoundry.errors import RunError


def nothing() -> None:
    """Stand for what prepares a process."""


def test_in_order_but_after_what_is_needed():
    made: list[str] = []
    tasks = [
        Task("b", made.append, ("b",), ("c", "d")),
        Task("a", made.append, ("a",)),
        Task("c", made.append, ("c",), ("d",)),
        Task("d", made.append, ("d",)),
        Task("a", made.append, ("again",)),
    ]
    run_tasks(tasks, 1, lambda: made.append("prepared"))
    assert made == ["prepared", "a", "d", "c", "b"]
    assert names(tasks[:2]) == ("b", "a")


def test_real_processes_wait_for_each_other(tmp_path, capfd):
    chain = [Path(tmp_path, "a"), Path(tmp_path, "a", "b"), Path(tmp_path, "a", "b", "c")]
    tasks = [Task(str(p), os.mkdir, (p,), tuple(map(str, chain[:i]))) for i, p in enumerate(chain)]
    free = [Task(f"free {i}", Path.touch, (tmp_path / f"free{i}",)) for i in range(3)]
    run_tasks([*reversed(tasks), *free], 2, nothing)
    assert chain[-1].is_dir()
    assert len(list(tmp_path.glob("free*"))) == 3
    assert "6 of 6: " in capfd.readouterr().err


def test_the_first_error_ends_it_and_what_is_done_stays(tmp_path):
    tasks = [Task("made", Path.touch, (tmp_path / "made",)), Task("fails", shutil.rmtree, (tmp_path / "none",))]
    with pytest.raises(FileNotFoundError):
        run_tasks([*tasks, Task("after", Path.touch, (tmp_path / "after",), ("fails",))], 2, nothing)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_a_killed_process_is_one_sentence():
    with pytest.raises(RunError, match="run again"):
        run_tasks([Task("dies", os._exit, (9,))], 2, nothing)


def test_rounds_wait_for_the_round_before_empty_ones_too():
    rounds = [("a", [(nothing, ())] * 2), ("b", []), ("c", [(nothing, ())])]
    tasks = in_rounds(rounds)
    assert [(task.name, task.needs) for task in tasks] == [("a 1", ()), ("a 2", ()), ("c 1", ("a 1", "a 2"))]
