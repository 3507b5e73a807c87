"""Tasks that need one another, on a few processes of one thread: what is ready and stands first begins first."""

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import torch

from ganfoundry.errors import RunError


@dataclass(frozen=True)
class Task:
    """A call for what it writes.

    Attributes
    ----------
    name : of its own; a name that several tasks give is done once
    function, arguments : picklable
    needs : names of tasks that must be done before
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()


def run_tasks(tasks: Iterable[Task], processes: int, prepare: Callable[[], None] | None = None) -> None:
    """Do all tasks, in their order as far as they need not wait for each other; the first error ends it.

    Parameters
    ----------
    prepare : picklable, called once in every process before its first task; None: nothing

    Raises
    ------
    RunError
        If a process was killed; what other tasks have written stays.
    """
    given: dict[str, Task] = {}
    for task in tasks:
        given.setdefault(task.name, task)
    waiting, count, done = list(given.values()), len(given), set[str]()

    def finished(name: str) -> None:
        done.add(name)
        print(f"{len(done)} of {count}: {name}", file=sys.stderr, flush=True)

    if processes == 1:
        _start(prepare)
        while waiting:
            ready = _next(waiting, done)
            assert ready is not None, "tasks wait for each other"
            ready.function(*ready.arguments)
            finished(ready.name)
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that are started now
    running: dict[Future[Any], str] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, _start, (prepare,)) as pool:
        try:
            while waiting or running:
                while len(running) < processes and (ready := _next(waiting, done)) is not None:
                    running[pool.submit(ready.function, *ready.arguments)] = ready.name
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    future.result()
                    finished(running.pop(future))
        except BrokenProcessPool:
            raise RunError("a process was killed, perhaps for want of memory; run again to go on") from None
        finally:
            pool.shutdown(cancel_futures=True)


def _next(waiting: list[Task], done: set[str]) -> Task | None:
    """Take the first task out whose needs are done."""
    for index, task in enumerate(waiting):
        if done.issuperset(task.needs):
            return waiting.pop(index)
    return None


def _start(prepare: Callable[[], None] | None) -> None:
    torch.set_num_threads(1)
    if prepare is not None:
        prepare()


Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function that writes what it makes, and its arguments; both can be pickled."""


def in_rounds(rounds: Sequence[tuple[str, Sequence[Call]]]) -> list[Task]:
    """Tasks of several rounds, each of which needs all of the round before."""
    tasks: list[Task] = []
    needs: tuple[str, ...] = ()
    for label, calls in rounds:
        made = [Task(f"{label} {number}", *call, needs) for number, call in enumerate(calls, 1)]
        tasks, needs = [*tasks, *made], names(made) or needs
    return tasks


def names(tasks: Sequence[Task]) -> tuple[str, ...]:
    """Names of tasks, for what needs them."""
    return tuple(task.name for task in tasks)
