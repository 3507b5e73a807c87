"""Jobs of a benchmark, one (row, seed) each: what they leave behind, and the results collected from that.

A job leaves a file when it is done; arrays that several jobs need are cached. The collected results are a JSON file
and a page in benchmarks/results.
"""

import io
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.gan.train_data import write_atomically

RESULTS = Path("benchmarks/results")


class Job(Protocol):
    """One row with one seed."""

    @property
    def row(self) -> str:
        """Name of the row."""

    @property
    def seed(self) -> int:
        """Seed of all that is drawn."""

    def result(self) -> dict[str, Any] | None:
        """What the finished job left behind."""


class Row(Protocol):
    """What is measured, once for each seed."""

    @property
    def title(self) -> str:
        """Its name in the table."""


RowT = TypeVar("RowT", bound=Row)
JobT = TypeVar("JobT", bound=Job)


def jobs_of(names: Iterable[str], rows: Mapping[str, RowT], jobs: Callable[[RowT], Iterable[JobT]]) -> list[JobT]:
    """Jobs of some of the rows, in the order of the names.

    Raises
    ------
    InputError
        If there is no row of that name.
    """
    found: list[JobT] = []
    for name in names:
        if name not in rows:
            raise InputError(f"there is no row {name!r}; the rows are {', '.join(rows)}")
        found += jobs(rows[name])
    return found


def progress(job: Job) -> Callable[[str], None]:
    """What prints how far a job is, every twenty seconds at most."""
    last = time.monotonic()

    def note(text: str) -> None:
        nonlocal last
        if time.monotonic() - last > 20:
            last = time.monotonic()
            print(f"  {job.row} seed {job.seed}: {text}", file=sys.stderr, flush=True)

    return note


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


def cached(path: Path, make: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Arrays of a file, made and written if it is not there."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        np.savez(stream, **make())  # type: ignore[arg-type]
        write_atomically(path, stream.getbuffer())
    with np.load(path) as file:
        return dict(file)


def finished(rows: Iterable[str], jobs: Iterable[Job], benchmark: str) -> dict[str, list[dict[str, Any]]]:
    """Results of the finished jobs by row, rows without any left out.

    Raises
    ------
    InputError
        If there is none.
    """
    found: dict[str, list[dict[str, Any]]] = {row: [] for row in rows}
    for job in jobs:
        result = job.result()
        if result is not None:
            found[job.row].append(result)
    if not any(found.values()):
        raise InputError(f"no job of these settings is done; run python -m benchmarks.{benchmark} first")
    return {row: results for row, results in found.items() if results}


def collect(
    benchmark: str,
    settings: Any,
    rows: Mapping[str, Row],
    results: Mapping[str, Sequence[Mapping[str, Any]]],
    options: Iterable[str] = (),
) -> dict[str, Any]:
    """Join results: settings, machine, command, and the seeds and figures of every row.

    Parameters
    ----------
    benchmark : str
        Its module in benchmarks.
    settings : dataclass instance
        Sizes; those that are not the default are options of the command.
    rows : mapping
        All rows.
    results : mapping
        Of :func:`finished`.
    options : iterable of str
        More options of the command.
    """
    defaults = type(settings)()
    given = [f"--{name} {value}" for name, value in asdict(settings).items() if value != getattr(defaults, name)]
    return {
        "settings": asdict(settings),
        "machine": f"{platform.machine()}, CPU, one thread a job",
        "command": " ".join([f"python -m benchmarks.{benchmark}", *given, *options]),
        "rows": {
            name: {
                "title": rows[name].title,
                "seeds": [result["identity"]["seed"] for result in found],
                "figures": _figures([result["figures"] for result in found]),
            }
            for name, found in results.items()
        },
    }


def _figures(results: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Values of every figure that all results have, in their order."""
    names = [name for name in results[0] if all(name in result for result in results)]
    return {name: [result[name] for result in results] for name in names}


def save(benchmark: str, table: Mapping[str, Any], page: str) -> None:
    """Write the collected results and their page."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_atomically(RESULTS / f"{benchmark}.json", (json.dumps(table, indent=1) + "\n").encode())
    write_atomically(RESULTS / f"{benchmark}.md", page.encode())


def load(benchmark: str) -> dict[str, Any]:
    """The committed results.

    Raises
    ------
    InputError
        If there are none, or they cannot be read.
    """
    path = RESULTS / f"{benchmark}.json"
    try:
        table: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return table
    except (OSError, ValueError) as error:
        raise InputError(f"there are no results in {path} ({error}); run python -m benchmarks.{benchmark}") from None
