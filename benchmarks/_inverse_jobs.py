"""Jobs of the inverse-graphics benchmark: one (row, seed) each, with a file of its own when it is done.

Three rounds: the renders, then the trainings, then what stands on a trained network or needs none. An interrupted
training goes on from its last checkpoint.
"""

import hashlib
import json
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _inverse_data as data
from benchmarks import _jobs
from benchmarks._inverse_rows import ROWS, Row, Settings, described, measure, train_row
from benchmarks._inverse_views import Sources
from benchmarks._schedule import Call, in_rounds, run_tasks
from ganfoundry.errors import InputError
from ganfoundry.shape.inverse_model import TABLE, WEIGHTS, InverseModel

OUTPUT = Path("outputs/benchmarks/inverse_graphics")
SEEDS = 3
MEASURING = 2  # version of how networks read and are measured: results of another one are measured again
SEEDLESS = ("mean-volume", "truth")  # methods in which nothing is drawn


@dataclass(frozen=True)
class Job:
    """One row with one seed; `trained` is a network in place of the default row's own."""

    row: str
    seed: int
    settings: Settings
    sources: Sources
    trained: Path | None = None

    @property
    def path(self) -> Path:
        """File of the result; runs of other sizes, and of given networks, have other folders."""
        sizes = "-".join(str(value) for value in asdict(self.settings).values())
        if self.trained is not None:
            sizes += f"-{_digest(self.trained)[:10]}"
        return OUTPUT / sizes / f"{self.row}-seed{self.seed}.json"

    @property
    def network(self) -> Path:
        """Folder of the network that the row is about."""
        if ROWS[self.row].method == "mean-shape":
            return Job("default", self.seed, self.settings, self.sources, self.trained).network
        if self.row == "default" and self.trained is not None:
            return self.trained
        known = json.dumps(self.identity, sort_keys=True)  # another recipe or set: another network
        return self.path.with_name(f"{self.path.stem}-{hashlib.sha256(known.encode()).hexdigest()[:10]}")

    @property
    def identity(self) -> dict[str, Any]:
        """What the result follows from; one of something else is not this job's."""
        about = described(ROWS[self.row], self.seed, self.settings, self.sources)
        return about if self.trained is None else {**about, "network": _digest(self.trained), "recipe": None}

    @property
    def measured(self) -> dict[str, Any]:
        """What the figures follow from: the network, and how it is measured."""
        return {**self.identity, "measuring": MEASURING}

    def result(self) -> dict[str, Any] | None:
        """The result, if it is there and whole."""
        return _jobs.read_result(self.path, self.measured)


def _digest(folder: Path) -> str:
    """Of a network's weights and its description.

    Raises
    ------
    InputError
        If there is none.
    """
    try:
        content = (folder / WEIGHTS).read_bytes() + (folder / TABLE).read_bytes()
    except OSError as error:
        raise InputError(f"{folder} holds no network: {error}; give a folder of train-inverse-graphics") from None
    return hashlib.sha256(content).hexdigest()


def jobs_of(
    rows: Iterable[str], seeds: Sequence[int], settings: Settings, sources: Sources, trained: Path | None = None
) -> list[Job]:
    """Jobs of some rows.

    Raises
    ------
    InputError
        If there is no row of that name.
    """

    def of(row: Row) -> list[Job]:
        once = row.method in SEEDLESS
        return [Job(row.name, seed, settings, sources, trained) for seed in (seeds[:1] if once else seeds)]

    return _jobs.jobs_of(rows, ROWS, of)


def run_jobs(jobs: Sequence[Job], processes: int) -> None:
    """Do what is not done yet."""
    pending = [job for job in jobs if job.result() is None]
    print(f"{len(jobs) - len(pending)} of {len(jobs)} jobs are done", file=sys.stderr, flush=True)
    if not pending:
        return
    trainings: dict[Path, Job] = {}
    for job in pending:
        own = Job("default", job.seed, job.settings, job.sources, job.trained) if _borrows(job) else job
        if ROWS[own.row].method == "train" and own.network != own.trained:
            trainings[own.network] = own
    first = renders(pending[0].settings)
    second: list[Call] = [(train_job, (job,)) for job in trainings.values()]
    third: list[Call] = [(measure_job, (job,)) for job in pending]
    run_tasks(in_rounds([("rendering", first), ("training", second), ("measuring", third)]), processes)


def renders(settings: Settings) -> list[Call]:
    """The parts of the sets of renders."""
    calls: list[Call] = [(data.unseen_foreign, (settings.outer,))]
    for rows in data.blocks(settings.cars, data.ROWS_PER_PART):
        calls += [(data.pool_part, (rows, settings.views)), (data.solids_part, (data.POOL_SEED, rows))]
    for rows in data.blocks(settings.test, data.ROWS_PER_PART):
        calls += [(data.unseen_part, (rows,)), (data.solids_part, (data.TEST_SEED, rows))]
    return calls


def _borrows(job: Job) -> bool:
    return ROWS[job.row].method == "mean-shape"


def train_job(job: Job) -> None:
    """Train a row's network, if it is not there."""
    try:
        InverseModel.load(job.network)
    except InputError:
        train_row(ROWS[job.row], job.seed, job.settings, job.sources, job.network, _jobs.progress(job))


def measure_job(job: Job) -> None:
    """Measure a row and write the result."""
    began, row = time.process_time(), ROWS[job.row]
    model = InverseModel.load(job.network) if row.method in ("train", "mean-shape") else None
    figures = measure(row, job.seed, job.settings, job.sources, model)
    job.path.parent.mkdir(parents=True, exist_ok=True)
    _jobs.write_result(job.path, job.measured, figures, time.process_time() - began)
