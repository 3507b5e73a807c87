"""Train a StyleGAN2 on a file of images: the loop around the steps, what it logs, shows and saves.

`train` runs until it has shown `kimg` thousand images, or for `minutes`, in `processes` processes, and continues from
the newest checkpoint in its folder:

- `checkpoints/step-*.safetensors`: the last few states, to continue from;
- `snapshots/kimg-*/`: the averaged generator and the discriminator, for `load_gan`;
- `samples/kimg-*-psi*.png`: the same latents each time, at psi 1 and 0.7;
- `log.jsonl`: losses, scores and speed.
"""

import dataclasses
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan, save_gan
from ganfoundry.gan.stylegan2 import Generator
from ganfoundry.gan.train_config import TrainingConfig
from ganfoundry.gan.train_data import BatchOrder, file_sha256, open_images, write_atomically
from ganfoundry.gan.train_distributed import Group, run_processes, stop_on_signals
from ganfoundry.gan.train_state import TrainingState, checkpoints, is_checkpoint, set_average_w
from ganfoundry.gan.train_step import Stats, process_rows, real_batch, training_step
from ganfoundry.pictures import Pixels, grid, png_bytes

GRID_COLUMNS, GRID_ROWS = 12, 8
PSIS = (1.0, 0.7)


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
    arguments = (config, images, out, start, str(device))
    with stop_on_signals() as stop:
        if config.processes > 1 and device.type == "cpu":
            run_processes(work, arguments, config.processes, stop, on_progress)
        else:
            work(Group(), stop.is_set, on_progress, *arguments)
        if stop.is_set():
            raise KeyboardInterrupt
    state = TrainingState(config, device)
    state.load(checkpoints(out / "checkpoints")[-1])
    return state


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


def work(
    group: Group,
    should_stop: Callable[[], bool],
    report: Callable[[int], None],
    config: TrainingConfig,
    images: Path,
    out: Path,
    start: str | Path | None,
    device: str,
) -> None:
    """Train in one process of a group; the first one writes the files."""
    state = TrainingState(config, torch.device(device))
    written = checkpoints(out / "checkpoints")
    if written:
        state.load(written[-1])
    elif start is not None:
        begin(state, start)
    pixels = open_images(images, config.resolution, config.batch)
    order = BatchOrder(len(pixels), config.batch, config.seed)
    rows = process_rows(config.batch, group.rank, group.size)
    recorder = Recorder(state, out) if group.rank == 0 else None
    began = time.monotonic()
    stopped = False
    while state.images < config.kimg * 1000 and not stopped:
        late = bool(config.minutes) and time.monotonic() - began > config.minutes * 60
        reals = real_batch(config, pixels, order, rows, state.step).to(state.device)
        stats, stopped = training_step(state, reals, group, stop=recorder is not None and (late or should_stop()))
        if recorder is not None:
            recorder.after_step(stats)
            report(state.images)
    if recorder is not None:
        recorder.finish()


def begin(state: TrainingState, start: str | Path) -> None:
    """Take over weights: those and the counters of a training checkpoint, or those of a generator, grown if need be."""
    if is_checkpoint(Path(start)):
        state.load(Path(start), same_run=False)
    else:
        state.begin_from(load_gan(start))


class Recorder:
    """Writes the log, samples, snapshots and checkpoints of a run when each is due."""

    def __init__(self, state: TrainingState, out: Path) -> None:
        self.state, self.out, self.config = state, out, state.config
        self.log = out / "log.jsonl"
        self._forget_lost_steps()
        self.stats: dict[str, list[torch.Tensor]] = {}
        self.checkpoint_at = self.tick = time.monotonic()
        self.tick_images = state.images
        self.sampled = state.images // self._sample_images

    @property
    def _sample_images(self) -> int:
        return max(1, int(self.config.sample_kimg * 1000))

    def after_step(self, stats: Stats) -> None:
        """Take note of a step, and write what is due."""
        for name, value in stats.items():
            self.stats.setdefault(name, []).append(value)
        if self.state.step % self.config.log_steps == 0:
            self._log()
        if self.state.images // self._sample_images > self.sampled:
            self.sampled = self.state.images // self._sample_images
            self._sample()
        if time.monotonic() - self.checkpoint_at > self.config.checkpoint_minutes * 60:
            self._checkpoint()

    def finish(self) -> None:
        """Write the last checkpoint."""
        self._log()
        self._checkpoint()

    def _log(self) -> None:
        if not self.stats:
            return
        now, images = time.monotonic(), self.state.images
        self.state.seconds += now - self.tick
        line = {"step": self.state.step, "images": images, "seconds": round(self.state.seconds, 1)}
        speed = {"images_per_second": round((images - self.tick_images) / max(now - self.tick, 1e-9), 2)}
        means = {name: round(float(torch.stack(values).mean()), 5) for name, values in self.stats.items()}
        with self.log.open("a") as stream:
            stream.write(json.dumps(line | speed | means) + "\n")
        self.stats, self.tick, self.tick_images = {}, now, images

    def _sample(self) -> None:
        set_average_w(self.state.average)
        name = f"kimg-{self.state.images // 1000:06d}"
        (self.out / "samples").mkdir(exist_ok=True)
        for psi in PSIS:
            picture = sample_grid(self.state.average, psi)
            write_atomically(self.out / "samples" / f"{name}-psi{psi:.1f}.png", png_bytes(picture))
        card = {"images": self.state.images, "step": self.state.step}
        save_gan(self.out / "snapshots" / name, self.state.average, self.state.discriminator, card, half=True)

    def _checkpoint(self) -> None:
        set_average_w(self.state.average)
        self.state.save(self.out / "checkpoints")
        self.checkpoint_at = time.monotonic()

    def _forget_lost_steps(self) -> None:
        """Cut the log's lines that an interrupted run wrote after its last checkpoint."""
        if self.log.exists():
            lines = self.log.read_text().splitlines(keepends=True)
            kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= self.state.step]
            write_atomically(self.log, "".join(kept).encode())


def write_gan(
    folder: Path,
    state: TrainingState,
    data: Mapping[str, Any],
    command: str,
    start: str | Path | None = None,
) -> None:
    """Write the trained generator (its moving average) and discriminator in float16, and the card that tells how.

    Parameters
    ----------
    folder : Path
    state : TrainingState
    data : mapping
        What the images were, for the card.
    command : str
        What makes it again.
    start : str or Path, optional
        What the run began from; the card tells its sha256 and, of a generator, the images that it had seen already.
    """
    set_average_w(state.average)
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
    if start is not None:
        card["start"] = _origin(start)
    save_gan(folder, state.average, state.discriminator, card, half=True)


def _origin(start: str | Path) -> dict[str, Any]:
    if is_checkpoint(Path(start)):
        return {"name": Path(start).name, "sha256": file_sha256(Path(start))}
    gan = load_gan(start)
    before = gan.card.get("images", 0) + gan.card.get("start", {}).get("images", 0)
    return {"name": Path(start).name, "sha256": gan.sha256, "images": before}


def hardware(device: torch.device, processes: int) -> str:
    """One line on what a run was computed with."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    description = Path("/proc/cpuinfo")
    if description.exists():
        names = [line.split(":", 1)[1].strip() for line in description.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {processes} process{'es' if processes > 1 else ''} of one thread"


@torch.no_grad()
def sample_grid(generator: Generator, psi: float, seed: int = 0) -> Pixels:
    """Draw a grid of fixed latents, (H, W, 3) uint8, with stored noise."""
    count, device = GRID_COLUMNS * GRID_ROWS, generator.w_avg.device
    z = torch.randn(count, generator.config.z_dim, generator=torch.Generator().manual_seed(seed)).to(device)
    images = torch.cat([generator(part, truncation=psi, noise="const") for part in z.split(16)])
    stored = ((images.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return grid(stored.permute(0, 2, 3, 1).cpu().numpy(), GRID_COLUMNS)
