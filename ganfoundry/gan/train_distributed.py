"""Several single-threaded processes train one network: one all-reduce of one flattened gradient per phase.

On a CPU two processes with one thread each are faster than one process with two threads, whose every small operation
waits for the slower thread. The processes are children of the caller, on this machine, and speak over the loopback.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from ganfoundry.errors import InputError, RunError

LOOPBACK = "lo0" if sys.platform == "darwin" else "lo"
LAUNCH_TIMEOUT = timedelta(hours=12)  # the first process may have images to make before it trains


class DivergedError(RunError):
    """A gradient is not finite; it has not been applied."""


class LostError(RunError):
    """The other processes are gone: what they say explains it better."""


class Group:
    """The processes that train together; a group of one does nothing.

    Parameters
    ----------
    rank, size : int
        This process and the number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    def mean_(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its mean over the processes, in place."""
        if self.size > 1:
            try:
                dist.all_reduce(tensor)
            except RuntimeError as error:
                raise LostError("a training process lost the others; run the same command again to continue") from error
            tensor /= self.size
        return tensor

    def mean_gradients(self, parameters: Sequence[Tensor], phase: str, *, flag: bool = False) -> bool:
        """Average the gradients of the parameters over the processes, as one flat vector.

        Parameters
        ----------
        parameters : sequence of Tensor
            Those without a gradient are left out; they must be the same in every process.
        phase : str
            Named when the gradient is not finite.
        flag : bool
            Travels with the gradient.

        Returns
        -------
        bool
            Whether any process set the flag: all processes agree on it.

        Raises
        ------
        DivergedError
            In every process, if the averaged gradient holds a NaN or an infinity.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients] + [gradients[0].new_tensor([float(flag)])])
        self.mean_(flat)
        if not bool(flat.sum().isfinite()):  # one NaN or infinity shows in the sum, which is one fast pass
            raise DivergedError(f"training diverged: the gradient of the {phase} is not finite")
        if self.size > 1:
            parts = flat[:-1].split([gradient.numel() for gradient in gradients])
            for gradient, part in zip(gradients, parts, strict=True):
                gradient.copy_(part.view_as(gradient))
        return bool(flat[-1] > 0)


@contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; the handlers are put back afterwards."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {number: signal.signal(number, lambda *_: event.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


Work = Callable[..., None]


def run_processes(
    work: Work, arguments: Sequence[Any], size: int, stop: threading.Event, on_progress: Callable[[int], None]
) -> None:
    """Run `work(group, should_stop, report, *arguments)` in `size` processes until all have ended.

    Parameters
    ----------
    work : callable
        A top-level function. `should_stop()` becomes true when `stop` is set or this process has died; `report(n)`
        makes `on_progress(n)` happen here.
    arguments : sequence
        Picklable.
    size : int
    stop : threading.Event
    on_progress : callable

    Raises
    ------
    InputError, RunError
        What a process raised, or that one died; the others are ended first.
    """
    context = multiprocessing.get_context("spawn")
    child_stop, progress, messages = context.Event(), context.Value("q", 0), context.SimpleQueue()
    with tempfile.TemporaryDirectory(prefix="ganfoundry-") as folder, _single_threaded():
        rendezvous = Path(folder) / "rendezvous"
        processes = [
            context.Process(
                target=_process,
                args=(work, arguments, rank, size, rendezvous, os.getpid(), child_stop, progress, messages),
                daemon=True,
            )
            for rank in range(size)
        ]
        for process in processes:
            process.start()
        try:
            while any(process.is_alive() for process in processes):
                multiprocessing.connection.wait([p.sentinel for p in processes if p.is_alive()], timeout=0.5)
                time.sleep(0.05)  # an ending process's sentinel is ready before its exit code is
                if stop.is_set():
                    child_stop.set()
                if progress.value:  # 0: no process has said anything yet
                    on_progress(progress.value)
                _raise_failure(processes, messages)
            _raise_failure(processes, messages)
        finally:
            for process in processes:
                process.terminate()
                process.join()


def _raise_failure(processes: Sequence[BaseProcess], messages: Any) -> None:
    """Raise what a process reported, or that it died."""
    dead = [(rank, p.exitcode) for rank, p in enumerate(processes) if p.exitcode not in (None, 0)]
    if not dead:
        return
    rank, code = min(dead, key=lambda entry: entry[1])  # a signal (negative) explains what the others report
    if code > 0:
        time.sleep(0.1)  # one that failed by itself and one that lost it end together
        reported = []
        while not messages.empty():
            reported.append(messages.get())
        reported.sort(key=lambda message: message[0] == LostError.__name__)
        for kind, text in reported[:1]:
            raise (InputError if kind == InputError.__name__ else RunError)(text)
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    memory = " with a smaller --batch if memory was short" if code == -signal.SIGKILL else ""
    raise RunError(
        f"training process {rank} {how}; run the same command again to continue from the last checkpoint{memory}"
    )


def _process(
    work: Work,
    arguments: Sequence[Any],
    rank: int,
    size: int,
    rendezvous: Path,
    parent: int,
    stop: Any,
    progress: Any,
    messages: Any,
) -> None:
    """Body of one process: join the group, work, report how it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{rendezvous}",
            rank=rank,
            world_size=size,
            timeout=timedelta(minutes=30),
        )
        work(
            Group(rank, size),
            lambda: stop.is_set() or os.getppid() != parent,
            lambda count: setattr(progress, "value", count),
            *arguments,
        )
        dist.destroy_process_group()
    except (InputError, RunError) as error:
        messages.put((type(error).__name__, str(error)))
        sys.exit(error.exit_code)
    except Exception as error:
        messages.put((RunError.__name__, f"training process {rank} failed: {type(error).__name__}: {error}"))
        raise


# ---------------------------------------------------------------- started by torchrun


def launched() -> bool:
    """Whether a launcher such as torchrun has started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def launched_group(device: torch.device) -> Iterator[tuple[Group, torch.device]]:
    """Join the processes of a launcher: over NCCL with a GPU each, over gloo without.

    Yields
    ------
    group : Group
    device : torch.device
        The one of this process.

    Raises
    ------
    RunError
        If the others cannot be reached.
    """
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)
        if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:  # all on this machine
            os.environ.setdefault("GLOO_SOCKET_IFNAME", LOOPBACK)
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LAUNCH_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise RunError(f"the processes of the launcher did not find each other ({error}); start them again") from error
    try:
        yield Group(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()


def from_first(values: Sequence[Any]) -> list[Any]:
    """Give every process of the group what the first one was given."""
    shared = list(values)
    dist.broadcast_object_list(shared, src=0)
    return shared


@contextmanager
def _single_threaded() -> Iterator[None]:
    """Let child processes start with one thread each and on the loopback device; put the environment back.

    glibc is told to keep freed memory: a step frees and takes the same blocks again, and getting fresh pages from the
    kernel for them costs a few per cent of its time.
    """
    wanted = {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": LOOPBACK}
    wanted |= {"MALLOC_MMAP_THRESHOLD_": str(1 << 25), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
