"""Where tasks run: here, one after the other, or on other processes.

A task is a small picklable description (paths, seeds, a row range); the function that does it writes its own result
to disk and returns a receipt. So no array crosses a process, and a killed worker costs at most its task.
"""

import contextlib
import importlib.util
import logging
import os
import re
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from pipeline.errors import RunError, UserError

if TYPE_CHECKING:
    import distributed

_ADDRESS = re.compile(r"(tcp|tls)://\S+:\d+")
Task = TypeVar("Task")
Result = TypeVar("Result")

ALLOWED_FAILURES = 2
"""Worker deaths that a task may be present at before it is taken out and tried alone."""
CONNECT_SECONDS = 30.0  # to reach a scheduler elsewhere
START_SECONDS = 300.0  # to reach our own, on a machine that may be busy
CLOSE_SECONDS = 30.0
RESULT_SECONDS = 30.0  # for a finished task's result, which is small, to come over
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
DASK_SETTINGS: dict[str, Any] = {
    "distributed.scheduler.allowed-failures": ALLOWED_FAILURES,
    "distributed.scheduler.worker-saturation": 1.0,  # a worker holds the task it is doing and no other
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.scheduler.worker-ttl": None,  # a busy worker is not a dead one; the death of a process is noticed
    "distributed.deploy.lost-worker-timeout": "1 hour",  # its nanny starts another; do not start a third
    "distributed.comm.timeouts.connect": "5 minutes",  # processes start slowly on a machine that is busy
    "distributed.comm.timeouts.tcp": "5 minutes",
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    "distributed.admin.tick.limit": "1h",
    # Their looking at themselves, 50 times a second by default, took a fifth of the workers' time.
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.profile.enabled": False,
    "logging.distributed": "critical",
}


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


class DaskExecutor:
    """Runs tasks on dask workers: processes of this machine, one thread each, or those of a scheduler elsewhere.

    A worker that dies is replaced and its task is done again. A task that was running whenever a worker died is tried
    alone at the end; if workers die of it still, it is given up, all other tasks having been done, and the map raises.

    Parameters
    ----------
    workers
        Processes to start here; not used with a scheduler.
    scheduler
        Address of a running scheduler, such as tcp://host:8786.
    """

    def __init__(self, workers: int, scheduler: str | None = None) -> None:
        self.workers, self.scheduler = workers, scheduler
        self._cluster: distributed.LocalCluster | None = None
        self._client: distributed.Client | None = None
        self._settings: Any = None  # undoes dask.config.set

    def map(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], label: str
    ) -> Iterator[tuple[int, Result]]:
        """Yield (position, result) as tasks complete.

        Raises
        ------
        RunError
            Tasks were given up because workers died of them, or the scheduler was lost.
        UserError
            The scheduler cannot be reached or has no workers.
        Exception
            Whatever a task raised.
        """
        if not tasks:
            return
        client = self._connect()
        suspects = yield from _round(client, function, tasks, range(len(tasks)), label)
        failed = []
        for position in sorted(suspects):
            failed += yield from _round(client, function, tasks, [position], label)
        if failed:
            names = ", ".join(str(tasks[position]) for position in failed[:4]) + (", ..." if len(failed) > 4 else "")
            raise RunError(
                f"{label}: {len(failed)} of {len(tasks)} tasks killed every worker that tried them ({names}); the rest "
                f"is done. Perhaps memory ran out: run the same command again with fewer --workers."
            )

    def close(self) -> None:
        """Stop the client, then the cluster if it is ours."""
        client, self._client = self._client, None
        cluster, self._cluster = self._cluster, None
        if client is not None:
            with contextlib.suppress(TimeoutError):
                client.close(timeout=CLOSE_SECONDS)
        if cluster is not None:
            with contextlib.suppress(TimeoutError):
                cluster.close(timeout=CLOSE_SECONDS)
        if self._settings is not None:
            self._settings.__exit__(None, None, None)
            self._settings = None

    def _connect(self) -> "distributed.Client":
        if self._client is None:
            import dask
            import distributed  # noqa: F401  its defaults first, so that the settings are the last word

            environment = {"distributed.nanny.pre-spawn-environ": dict(ONE_THREAD)}
            self._settings = dask.config.set(DASK_SETTINGS | environment)
            with _for_children():
                if self.scheduler is None:
                    self._cluster = _local_cluster(self.workers)
                self._client = _client(self._cluster, self.scheduler)
        return self._client


def make_executor(workers: int = 1, scheduler: str | None = None) -> Executor:
    """Executor for `workers` processes here, or for the dask scheduler at an address such as tcp://host:8786.

    Raises
    ------
    UserError
        dask is asked for and not installed, or the address is none.
    """
    if workers == 1 and scheduler is None:
        return SerialExecutor()
    if scheduler is not None and not _ADDRESS.fullmatch(scheduler):
        raise UserError(f'--scheduler "{scheduler}" is no address: give it as tcp://HOST:PORT, or tls://HOST:PORT.')
    if importlib.util.find_spec("distributed") is None:
        option = "--workers" if scheduler is None else "--scheduler"
        raise UserError(f'{option} needs dask, which is not installed: pip install "dask[distributed]".')
    return DaskExecutor(workers, scheduler)


def _round(
    client: "distributed.Client",
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    positions: Sequence[int],
    label: str,
) -> Generator[tuple[int, Result], None, list[int]]:
    """Yield (position, result) of the tasks at some positions; return those that were taken out for killing workers."""
    import distributed

    futures = {client.submit(function, tasks[position], pure=False): position for position in positions}
    killed = []
    try:
        completed = distributed.as_completed(list(futures), loop=client.loop)
        for future in completed:
            position = futures.pop(future)
            try:
                result = future.result(timeout=RESULT_SECONDS)
            except TimeoutError:
                if future.status == "error":  # the task's own
                    raise
                # It died with its worker. dask mostly makes it again, but may also wait for ever.
                again = client.submit(function, tasks[position], pure=False)
                futures[again] = position
                completed.add(again)
            except distributed.KilledWorker:
                killed.append(position)
            except CancelledError:
                raise RunError(f"{label}: the dask scheduler was lost; run the same command again to go on.") from None
            else:
                yield position, result
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(futures))
    return killed


def _local_cluster(workers: int) -> "distributed.LocalCluster":
    import distributed

    try:
        return distributed.LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # with None dask listens on port 8787 of every interface
            scheduler_kwargs={"dashboard": False},
            worker_dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL + 1,
        )
    except (OSError, RuntimeError) as error:
        raise RunError(f"{workers} worker processes could not be started ({error}): use fewer --workers.") from error


def _client(cluster: "distributed.LocalCluster | None", scheduler: str | None) -> "distributed.Client":
    import distributed

    limit = CONNECT_SECONDS if cluster is None else START_SECONDS
    logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # a lost scheduler is one sentence of ours
    try:
        client = distributed.Client(cluster or scheduler, timeout=limit, set_as_default=False)
    except (OSError, ValueError) as error:
        message = f"no dask scheduler answers at {scheduler} ({error}); start one or correct --scheduler."
        raise UserError(message) from None
    try:
        client.wait_for_workers(1, timeout=limit)
    except TimeoutError:
        client.close()
        raise UserError(f"the scheduler at {scheduler} has no workers; start some with `dask worker`.") from None
    return client


@contextlib.contextmanager
def _for_children() -> Iterator[None]:
    """Environment and signal mask that worker processes inherit, now and when one is replaced.

    Numerical libraries use one thread, whatever the user's own setting is. SIGINT is blocked: the terminal sends
    Ctrl-C to every process of the group, but only this one answers, and ends the others.
    """
    resource_tracker.ensure_running()  # were it started later, it would unblock SIGINT in the thread that starts it
    before = dict(os.environ)  # all of it: starting a nanny sets some more
    os.environ.update(ONE_THREAD)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
