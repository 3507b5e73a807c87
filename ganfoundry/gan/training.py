"""Train a StyleGAN2 on a file of images: the loop around the steps, what it logs, shows and saves.

`train` runs until it has shown `kimg` thousand images, or for `minutes`, in `processes` processes, and continues from
the newest checkpoint in its folder:

- `checkpoints/step-*.safetensors`: the last few states, to continue from;
- `snapshots/kimg-*/`: the averaged generator and the discriminator, for `load_gan`;
- `samples/kimg-*-psi*.png`: the same latents each time, at psi 1 and 0.7;
- `log.jsonl`: losses, scores, speed, and the Frechet distance of the snapshots where it is asked for;
- `report.html`: all of it on one page.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan, save_gan
from ganfoundry.gan.train_config import GROUP_SIZE, TrainingConfig
from ganfoundry.gan.train_data import BatchOrder, file_sha256, open_images
from ganfoundry.gan.train_distributed import (
    Group,
    from_first,
    launched,
    launched_group,
    run_processes,
    stop_on_signals,
)
from ganfoundry.gan.train_failures import failures_explained
from ganfoundry.gan.train_log import Snapshot, best_snapshot, read_log
from ganfoundry.gan.train_recorder import Recorder
from ganfoundry.gan.train_report import hardware
from ganfoundry.gan.train_state import TrainingState, checkpoints, is_checkpoint, set_average_w
from ganfoundry.gan.train_step import process_rows, real_batch, training_step


@dataclasses.dataclass(frozen=True)
class Job:
    """What every process of a run works on; as for `train`. Picklable."""

    config: TrainingConfig
    images: Path
    out: Path
    start: str | Path | None
    device: str


def train(
    config: TrainingConfig,
    images: Path,
    out: Path,
    *,
    start: str | Path | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> TrainingState:
    """Train, or continue to train, a generator and a discriminator.

    Parameters
    ----------
    config : TrainingConfig
    images : Path
        A .npy file, uint8 (N, resolution, resolution, 3); see `ganfoundry.gan.train_data`.
    out : Path
        Folder for checkpoints, snapshots, samples and the log; made if it does not exist.
    start : str or Path, optional
        What to begin from: a checkpoint of another run with the same architecture, whose counters go on, or a
        generator with its discriminator (anything that `load_gan` reads) of the same or a lower resolution. Once
        `out` holds a checkpoint of its own, that one is continued.
    on_progress : callable
        Called with the number of images shown so far.

    Returns
    -------
    TrainingState
        As of the last checkpoint, which was written at the end.

    Raises
    ------
    InputError
        If the images or the checkpoint do not fit the recipe.
    RunError
        If training diverged or a process died; the last checkpoint is there.
    KeyboardInterrupt
        After SIGINT or SIGTERM; a checkpoint has been written.
    """
    open_images(images, config.resolution, config.batch)
    out.mkdir(parents=True, exist_ok=True)
    device = choose_device(config.device)
    job = Job(config, images, out, start, str(device))
    with stop_on_signals() as stop:
        if launched():
            with launched_group(device) as (group, device):
                from_first([images.resolve(), out.resolve(), start])
                work(group, stop.is_set, on_progress, dataclasses.replace(job, device=str(device)))
        elif config.processes > 1 and device.type == "cpu":
            run_processes(work, (job,), config.processes, stop, on_progress)
        else:
            work(Group(), stop.is_set, on_progress, job)
        if stop.is_set():
            raise KeyboardInterrupt
    state = TrainingState(config, device)
    state.load(checkpoints(out / "checkpoints")[-1])
    return state


def follow(config: TrainingConfig) -> None:
    """Train along, as a process that torchrun started beside the one that calls `train`, and write nothing.

    Raises
    ------
    InputError, RunError, KeyboardInterrupt
        As `train` does.
    """
    with stop_on_signals() as stop, launched_group(choose_device(config.device)) as (group, device):
        images, out, start = from_first([None, None, None])
        work(group, stop.is_set, lambda _: None, Job(config, images, out, start, str(device)))
        if stop.is_set():
            raise KeyboardInterrupt


def continues_at(out: Path, start: str | Path | None = None) -> int:
    """Images shown where a run continues: its newest checkpoint, or the checkpoint it starts from; 0 elsewhere."""
    path = (checkpoints(out / "checkpoints") or [Path(start or "")])[-1]
    if not is_checkpoint(path):
        return 0
    try:
        with safe_open(path, framework="pt") as stream:
            return int((stream.metadata() or {}).get("images", 0))
    except (SafetensorError, OSError):
        return 0  # a damaged one: loading it says so


def choose_device(name: str) -> torch.device:
    """Return the device named "cpu" or "cuda"; "auto" is CUDA where there is one.

    Raises
    ------
    InputError
        If CUDA is asked for and absent, or the name is another.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name not in ("cpu", "cuda"):
        raise InputError(f"device {name!r} is not known; use auto, cpu or cuda")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device cuda was asked for, but torch finds none; use --device cpu")
    return torch.device(name)


def work(group: Group, should_stop: Callable[[], bool], report: Callable[[int], None], job: Job) -> None:
    """Train in one process of a group, and say what to do where that fails; the first one writes the files."""
    with failures_explained(job.config, job.out):
        _train(group, should_stop, report, job)


def _train(group: Group, should_stop: Callable[[], bool], report: Callable[[int], None], job: Job) -> None:
    config = job.config
    if config.batch % (GROUP_SIZE * group.size):
        raise InputError(f"train-gan: {config.batch} images a step are no multiple of {GROUP_SIZE * group.size}")
    state = TrainingState(config, torch.device(job.device))
    written = checkpoints(job.out / "checkpoints")
    if written:
        state.load(written[-1])
    elif job.start is not None:
        begin(state, job.start)
    pixels = open_images(job.images, config.resolution, config.batch)
    order = BatchOrder(len(pixels), config.batch, config.seed)
    rows = process_rows(config.batch, group.rank, group.size)
    recorder = Recorder(state, job.out, pixels) if group.rank == 0 else None
    began = time.monotonic()
    stopped = False
    while state.images < config.kimg * 1000 and not stopped:
        late = bool(config.minutes) and time.monotonic() - began > config.minutes * 60
        reals = real_batch(config, pixels, order, rows, state.step).to(state.device)
        over = recorder is not None and bool(late or should_stop() or recorder.ending)
        stats, stopped = training_step(state, reals, group, stop=over)
        if recorder is not None:
            recorder.after_step(stats)
            report(state.images)
    if recorder is not None:
        recorder.finish(interrupted=should_stop())


def begin(state: TrainingState, start: str | Path) -> None:
    """Take over weights: those and the counters of a training checkpoint, or those of a generator, grown if need be."""
    if is_checkpoint(Path(start)):
        state.load(Path(start), same_run=False)
    else:
        state.begin_from(load_gan(start))


def write_gan(
    folder: Path,
    state: TrainingState,
    data: Mapping[str, Any],
    command: str,
    start: str | Path | None = None,
) -> Snapshot | None:
    """Write the trained generator (its moving average) and discriminator in float16, and the card that tells how.

    Where the Frechet distance was measured, the best snapshot is written instead of the last state; the card names it.

    Parameters
    ----------
    folder : Path
        Of the run.
    state : TrainingState
    data : mapping
        What the images were, for the card.
    command : str
        What makes it again.
    start : str or Path, optional
        What the run began from; the card tells its sha256 and, of a generator, the images that it had seen already.

    Returns
    -------
    Snapshot or None
        What was written, if it was a snapshot.
    """
    card = {
        "data": dict(data),
        "recipe": dataclasses.asdict(state.config),
        "command": command,
        "images": state.images,
        "steps": state.step,
        "hours": round(state.seconds / 3600, 3),
        "hardware": hardware(state.device, state.config.processes),
        "torch": torch.__version__,
    }
    if state.config.world:
        card["world"] = state.config.world
    if start is not None:
        card["start"] = _origin(start)
    best = best_snapshot(read_log(folder)) if state.config.fd_samples else None
    if best is None:
        set_average_w(state.average)
        save_gan(folder, state.average, state.exported_discriminator, card, half=True)
        return None
    gan = load_gan(folder / "snapshots" / best.name)
    card |= {"images": best.images, "steps": best.step, "snapshot": dataclasses.asdict(best)}
    save_gan(folder, gan.generator, gan.discriminator, card, half=True)
    return best


def _origin(start: str | Path) -> dict[str, Any]:
    if is_checkpoint(Path(start)):
        return {"name": Path(start).name, "sha256": file_sha256(Path(start))}
    gan = load_gan(start)
    before = gan.card.get("images", 0) + gan.card.get("start", {}).get("images", 0)
    return {"name": Path(start).name, "sha256": gan.sha256, "images": before}
