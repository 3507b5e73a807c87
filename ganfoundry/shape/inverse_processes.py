"""Several processes train one inverse-graphics network; see `ganfoundry.gan.train_distributed`.

Each takes its share of every step's objects, and the gradients are averaged. All hold the same parameters and the first
writes the files, so a checkpoint does not tell how many there were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from ganfoundry.gan.train_distributed import Group, run_processes, stop_on_signals
from ganfoundry.shape.inverse_training import InverseTrainer, train

Make = Callable[[Group], InverseTrainer]
Show = Callable[[InverseTrainer], Mapping[str, float]]


def train_in_processes(
    make: Make,
    folder: Path,
    processes: int,
    *,
    checkpoint_steps: int = 500,
    on_progress: Callable[[int], None] = lambda _: None,
    show: Show | None = None,
) -> InverseTrainer:
    """Take all remaining steps in processes of one thread each.

    Parameters
    ----------
    make : callable
        Makes the trainer of a process from its place in the group; picklable.
    folder : Path
        As for `train`.
    processes : int
        1: this one.
    checkpoint_steps : int
    on_progress : callable
        Called here with the number of steps taken so far.
    show : callable or None
        As for `train`; picklable, called in the first process.

    Returns
    -------
    InverseTrainer
        As of the last checkpoint.

    Raises
    ------
    InputError
        If the data do not suffice, or a step's objects cannot be shared evenly.
    RunError
        If training diverged or a process died; the last checkpoint is there.
    KeyboardInterrupt
        After SIGINT or SIGTERM; a checkpoint has been written.
    """
    with stop_on_signals() as stop:
        if processes > 1:
            run_processes(_work, (make, show, folder, checkpoint_steps), processes, stop, on_progress)
        else:
            _work(Group(), stop.is_set, on_progress, make, show, folder, checkpoint_steps)
        if stop.is_set():
            raise KeyboardInterrupt
    trainer = make(Group())
    trainer.load(folder)
    return trainer


def _work(
    group: Group,
    should_stop: Callable[[], bool],
    report: Callable[[int], None],
    make: Make,
    show: Show | None,
    folder: Path,
    checkpoint_steps: int,
) -> None:
    torch.set_num_threads(1)  # the bytes of the result do not depend on the number of cores
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        report(done)

    train(make(group), folder, checkpoint_steps=checkpoint_steps, advance=advance, show=show, should_stop=should_stop)
