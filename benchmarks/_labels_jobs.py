"""Jobs of the label benchmark: one (row, seed) each, with a file of its own when it is done; what is done is skipped.

Rows that the targets need come first, seed by seed; what a job needs (renders, interpreters, parts of a labelled set,
features) is made just before it and is shared with the jobs after it.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import _jobs
from benchmarks import _labels_data as data
from benchmarks import _labels_rows as rows
from benchmarks._labels_rows import ROWS, Row, Settings, measure, train_row, uncertainty_figures
from benchmarks._schedule import Task, names, run_tasks
from ganfoundry.downstream import Recipe
from ganfoundry.downstream.model import save_net
from ganfoundry.downstream.networks import Task as NetTask
from ganfoundry.errors import InputError
from ganfoundry.gan.imagenet import load_efficientnet

OUTPUT = Path("outputs/benchmarks/labels")
SYNTHETIC = (*rows.GAN, "uncertainty")  # methods with an interpreter


def use_folder(folder: Path) -> None:
    """Keep results and caches in this folder in place of outputs/."""
    global OUTPUT
    OUTPUT, data.CACHE = folder / "benchmarks" / "labels", folder / "cache" / "labels"


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
        made_of = data.labeller(row.gan) if row.method == "labeller" else made_of
        about = {"row": row.described(), "seed": self.seed, "settings": asdict(self.settings)}
        how = {"recipe": asdict(Recipe()), "network": asdict(rows.network(row, "parts")), "version": data.VERSION}
        return {**about, "interpreter": made_of, **how}

    def network(self, task: NetTask) -> Path:
        """File of a trained network."""
        return self.path.with_name(f"{self.path.stem}-{task}.safetensors")

    def result(self) -> dict[str, Any] | None:
        """The result, if it is there and whole."""
        return _jobs.read_result(self.path, self.identity)


def jobs_of(names: Iterable[str], seeds: int | None, settings: Settings) -> list[Job]:
    """Jobs of some rows, the targets' first, then seed by seed; `seeds` in place of each row's own number of seeds.

    Raises
    ------
    InputError
        If there is no row of that name.
    """

    def of(row: Row) -> list[Job]:
        return [Job(row.name, seed, settings) for seed in range(seeds or row.seeds)]

    order = list(ROWS)
    chosen = _jobs.jobs_of(names, ROWS, of)
    return sorted(chosen, key=lambda job: (not ROWS[job.row].target, job.seed, order.index(job.row)))


def run_jobs(jobs: Sequence[Job], processes: int) -> None:
    """Do what is not done yet."""
    possible = {row: _possible(ROWS[row]) for row in sorted({job.row for job in jobs})}
    pending = [job for job in jobs if job.result() is None and possible[job.row]]
    print(f"{len(jobs) - len(pending)} of {len(jobs)} jobs are done or cannot be done", file=sys.stderr, flush=True)
    tasks: list[Task] = []
    for job in pending:
        needed = needs(job)
        tasks += [*needed, Task(f"{job.row}, seed {job.seed}", run_job, (job,), names(needed))]
    run_tasks(tasks, processes, partial(use_folder, OUTPUT.parents[1]))


def needs(job: Job) -> list[Task]:
    """Files that a job reads, as tasks that make those that are not there."""
    row, settings = ROWS[job.row], job.settings
    found: list[Task] = []
    if row.method in SYNTHETIC:
        key = row.set_key(job.seed)
        name = f"interpreter {key.folder.name}"
        found.append(Task(name, data.interpreter, (key,)))
        if row.method == "uncertainty":
            return found
        for part in data.parts_of(row.images_of(settings)):
            span = f"{part.start} to {part.stop}"
            found.append(_sample_task(part, key.truncation, key.gan))
            of = f"of {key.folder.name}, psi {key.truncation}"
            found.append(Task(f"labels {span} {of}", data.label_part, (key, part), (name,)))
    elif row.method == "labeller":
        for part in data.parts_of(row.images_of(settings)):
            span = f"{part.start} to {part.stop}"
            images = _sample_task(part, data.TRUNCATION, row.gan)
            name = f"labeller of {row.gan}, {span}"
            found += [images, Task(name, data.labeller_part, (part, row.gan), (images.name,))]
    else:
        more = row.method in ("mean-teacher", "self-trained")
        found += _render_tasks("renders", data.POOL_SEED, rows.UNLABELLED if more else rows.POOL)
    if row.method == "self-trained":
        found.append(Task(f"features, seed {job.seed}", rows.self_trained, (job.seed, settings), names(found)))
    found += _render_tasks("test renders", data.TEST_SEED, settings.test)
    return [*found, Task("cars made by others", data.outer, (settings.outer,))]


def _sample_task(part: range, truncation: float, gan: str) -> Task:
    name = f"images of {gan} {part.start} to {part.stop}, psi {truncation}"
    return Task(name, data.sample_part, (part, truncation, gan))


def _render_tasks(kind: str, root: int, count: int) -> list[Task]:
    return [
        Task(f"{kind} {part.start} to {part.stop}", data.render_part, (root, part)) for part in data.parts_of(count)
    ]


def run_job(job: Job) -> None:
    """Train and measure, and write the result."""
    began, note = time.process_time(), _jobs.progress(job)
    job.path.parent.mkdir(parents=True, exist_ok=True)
    row = ROWS[job.row]
    figures: dict[str, float] = {}
    for task in row.tasks:
        net = train_row(row, job.seed, job.settings, task, note)
        figures |= measure(net, job.settings)
        save_net(job.network(task), net)
    if row.method == "uncertainty":
        figures = uncertainty_figures(row, job.seed, job.settings)
    _jobs.write_result(job.path, job.identity, figures, time.process_time() - began)


def _possible(row: Row) -> bool:
    """Whether what a row needs is installed; says so if not."""
    if row.method in rows.PRETRAINED:
        try:
            load_efficientnet(64)
        except InputError as error:
            print(f"{row.name} is skipped: {error}", file=sys.stderr)
            return False
    return True
