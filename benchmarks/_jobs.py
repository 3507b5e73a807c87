"""Jobs of a benchmark: each with a result file of its own when it is done, run in rounds by processes of one thread."""

import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ganfoundry.gan.train_data import write_atomically

Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function that writes what it makes, and its arguments; both can be pickled."""


def read_result(path: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """A job's result, if it is there, whole, and of this identity."""
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found if found["identity"] == json.loads(json.dumps(identity)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_result(path: Path, identity: Mapping[str, Any], figures: Mapping[str, float], cpu_seconds: float) -> None:
    """Write a job's result whole or not at all."""
    table = {
        "identity": identity,
        "figures": {name: round(value, 5) for name, value in figures.items()},
        "cpu_seconds": round(cpu_seconds, 1),
    }
    write_atomically(path, (json.dumps(table, indent=1) + "\n").encode())


def run_rounds(rounds: Sequence[tuple[str, Sequence[Call]]], processes: int) -> None:
    """Do all tasks of a round before those of the next; tasks of one round are independent of each other."""
    with _workers(processes) as run:
        for label, tasks in rounds:
            for done, _ in enumerate(run(_call, tasks), 1):
                print(f"{label}: {done} of {len(tasks)}", file=sys.stderr, flush=True)


def _call(task: Call) -> None:
    """Call a function for what it writes."""
    function, arguments = task
    function(*arguments)


def _single_thread() -> None:
    torch.set_num_threads(1)


@contextlib.contextmanager
def _workers(processes: int) -> Iterator[Any]:
    """A map over tasks in so many processes; in this one, if one is enough."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if processes == 1:
        yield map
        return
    with multiprocessing.get_context("spawn").Pool(processes, _single_thread) as pool:
        yield pool.imap_unordered
