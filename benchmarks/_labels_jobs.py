"""Jobs of the label benchmark: one (row, seed) each, with a file of its own when it is done; what is done is skipped.

Three rounds: the interpreters and renders that rows need, then the parts of the labelled sets, then the trainings. The
tasks of a round are independent of each other and run on as many processes of one thread as asked for.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks import _labels_data as data
from benchmarks._jobs import Call, read_result, run_rounds, write_result
from benchmarks._labels_rows import POOL, ROWS, UNLABELLED, Row, Settings, measure, train_row, uncertainty_figures
from ganfoundry.downstream import Recipe
from ganfoundry.downstream.model import save_net
from ganfoundry.downstream.networks import Task
from ganfoundry.errors import InputError
from ganfoundry.gan.imagenet import load_efficientnet

OUTPUT = Path("outputs/benchmarks/labels")
SYNTHETIC = ("gan", "uncertainty")  # methods with an interpreter


@dataclass(frozen=True)
class Job:
    """One row with one seed."""

    row: str
    seed: int
    settings: Settings

    @property
    def path(self) -> Path:
        """File of the result; runs of other sizes have other folders."""
        sizes = "-".join(str(value) for value in asdict(self.settings).values())
        return OUTPUT / sizes / f"{self.row}-seed{self.seed}.json"

    @property
    def identity(self) -> dict[str, Any]:
        """What the result follows from; one of something else is not this job's."""
        row = ROWS[self.row]
        made_of = row.set_key(self.seed).folder.name if row.method in SYNTHETIC else ""
        about = {"row": asdict(row), "seed": self.seed, "settings": asdict(self.settings)}
        return {**about, "interpreter": made_of, "recipe": asdict(Recipe())}

    def network(self, task: Task) -> Path:
        """File of a trained network."""
        return self.path.with_name(f"{self.path.stem}-{task}.safetensors")

    def result(self) -> dict[str, Any] | None:
        """The result, if it is there and whole."""
        return read_result(self.path, self.identity)


def jobs_of(rows: Iterable[str], seeds: int | None, settings: Settings) -> list[Job]:
    """Jobs of some rows; `seeds` in place of each row's own number of seeds.

    Raises
    ------
    InputError
        If there is no row of that name.
    """
    jobs = []
    for name in rows:
        if name not in ROWS:
            raise InputError(f"there is no row {name!r}; the rows are {', '.join(ROWS)}")
        jobs += [Job(name, seed, settings) for seed in range(seeds or ROWS[name].seeds)]
    return jobs


def run_jobs(jobs: Sequence[Job], processes: int) -> None:
    """Do what is not done yet."""
    pending = [job for job in jobs if job.result() is None and _possible(ROWS[job.row])]
    print(f"{len(jobs) - len(pending)} of {len(jobs)} jobs are done or cannot be done", file=sys.stderr, flush=True)
    if not pending:
        return
    sets = sorted(
        {(ROWS[j.row].set_key(j.seed), ROWS[j.row].images_of(j.settings)) for j in pending if _synthetic(j)}, key=str
    )
    most = {key: max(count for other, count in sets if other == key) for key, _ in sets}
    settings = pending[0].settings
    keys = {ROWS[job.row].set_key(job.seed) for job in pending if ROWS[job.row].method in SYNTHETIC}
    first: list[Call] = [(data.interpreter, (key,)) for key in sorted(keys, key=str)]
    first += [(data.render_part, (data.POOL_SEED, rows)) for rows in _render_rows(pending)]
    first += [(data.render_part, (data.TEST_SEED, rows)) for rows in data.parts_of(settings.test)]
    first += [(data.outer, (settings.outer,))]
    largest = max(most.values(), default=0)
    first += [(data.sample_part, (rows,)) for rows in data.parts_of(largest)]
    second: list[Call] = [
        (data.label_part, (key, rows)) for key, count in most.items() for rows in data.parts_of(count)
    ]
    third: list[Call] = [(run_job, (job,)) for job in pending]
    run_rounds([("preparing", first), ("labelling", second), ("training", third)], processes)


def run_job(job: Job) -> None:
    """Train and measure, and write the result."""
    began, last = time.process_time(), [time.monotonic()]

    def note(text: str) -> None:
        if time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            print(f"  {job.row} seed {job.seed}: {text}", file=sys.stderr, flush=True)

    job.path.parent.mkdir(parents=True, exist_ok=True)
    row = ROWS[job.row]
    figures: dict[str, float] = {}
    for task in row.tasks:
        net = train_row(row, job.seed, job.settings, task, note)
        figures |= measure(net, job.settings)
        save_net(job.network(task), net)
    if row.method == "uncertainty":
        figures = uncertainty_figures(row, job.seed, job.settings)
    write_result(job.path, job.identity, figures, time.process_time() - began)


def _synthetic(job: Job) -> bool:
    return ROWS[job.row].method == "gan"


def _render_rows(jobs: Sequence[Job]) -> list[range]:
    """Parts of the pool of renders that some jobs read."""
    methods = {ROWS[job.row].method for job in jobs}
    if methods & {"mean-teacher", "self-trained"}:
        return data.parts_of(UNLABELLED)
    return data.parts_of(POOL) if methods - set(SYNTHETIC) else []


def _possible(row: Row) -> bool:
    """Whether what a row needs is installed; says so if not."""
    if row.method == "imagenet":
        try:
            load_efficientnet(64)
        except InputError as error:
            print(f"{row.name} is skipped: {error}", file=sys.stderr)
            return False
    return True
