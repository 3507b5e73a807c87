"""What a training run writes as it goes: log, samples, snapshots, Frechet distances, checkpoints and its report."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ganfoundry.errors import RunError
from ganfoundry.gan.checkpoints import save_gan
from ganfoundry.gan.quality import frechet_distance
from ganfoundry.gan.quality_features import AnnotatorFeatures, FeatureExtractor, ImageNetFeatures
from ganfoundry.gan.stylegan2 import Generator
from ganfoundry.gan.train_board import Board
from ganfoundry.gan.train_config import TrainingConfig, annotator_of
from ganfoundry.gan.train_data import Images, write_atomically
from ganfoundry.gan.train_log import append_line, forget_lines_after, hopeless, out_of_patience, read_log
from ganfoundry.gan.train_report import write_report
from ganfoundry.gan.train_state import TrainingState, set_average_w
from ganfoundry.gan.train_step import Stats
from ganfoundry.images import stored_images
from ganfoundry.pictures import Pixels, grid, png_bytes, spread

GRID_COLUMNS, GRID_ROWS = 12, 8
PSIS = (1.0, 0.7)
SAMPLE_BATCH = 16
FD_SEED = 1  # of the latents whose images are measured; other ones than those of the grids


class Recorder:
    """Writes the files of a run when each is due; only the first process of a group has one.

    Parameters
    ----------
    state : TrainingState
    out : Path
        Folder of the run. Lines of its log that come after the state's step are cut.
    pixels : (N, R, R, 3) uint8
        Training images: what the Frechet distance compares with, and the report's examples.

    Attributes
    ----------
    ending : str
        Why the run should end before its time; empty as long as it should not.
    """

    def __init__(self, state: TrainingState, out: Path, pixels: Images) -> None:
        self.state, self.out, self.config, self.pixels = state, out, state.config, pixels
        forget_lines_after(out, state.step)
        self.ending = out_of_patience(read_log(out), self.config.patience_kimg)
        self.board = Board(out / "track", state.images) if self.config.tensorboard else None
        self.distance: FrechetCurve | None = None  # made when it is first needed: it takes features of real images
        self.stats: dict[str, list[torch.Tensor]] = {}
        self.checkpoint_at = self.tick = time.monotonic()
        self.paused = 0.0  # seconds since the last line that were not spent on training
        self.tick_images = state.images
        self.sampled = state.images // self._sample_images
        self.fresh = False  # whether there were steps since the last samples

    @property
    def _sample_images(self) -> int:
        return max(1, int(self.config.sample_kimg * 1000))

    def after_step(self, stats: Stats) -> None:
        """Take note of a step, and write what is due.

        Raises
        ------
        RunError
            If the discriminator has collapsed, or won, for long.
        """
        self.fresh = True
        for name, value in stats.items():
            self.stats.setdefault(name, []).append(value)
        if self.state.step % self.config.log_steps == 0:
            self._log()
        if self.state.images // self._sample_images > self.sampled:
            self.sampled = self.state.images // self._sample_images
            self._sample()
        if time.monotonic() - self.checkpoint_at > self.config.checkpoint_minutes * 60:
            self._checkpoint()

    def finish(self, *, interrupted: bool = False) -> None:
        """Write the last samples, unless the run was interrupted, the last checkpoint and the report."""
        self._log()
        if self.fresh and not interrupted:
            self._sample()
        self._checkpoint()
        self._report()
        if self.board is not None:
            self.board.close()

    # ---------------------------------------------------------------- log

    def _log(self) -> None:
        if not self.stats:
            return
        now, images = time.monotonic(), self.state.images
        self.state.seconds += now - self.tick
        training = max(now - self.tick - self.paused, 1e-9)
        speed = {"images_per_second": round((images - self.tick_images) / training, 2)}
        means = {name: round(float(torch.stack(values).mean()), 5) for name, values in self.stats.items()}
        self._write_line(speed | means)
        self.stats, self.tick, self.paused, self.tick_images = {}, now, 0.0, images
        trouble = hopeless(read_log(self.out)) if self.state.step % (20 * self.config.log_steps) == 0 else ""
        if trouble:
            self._report()
            raise RunError(
                f"training gets nowhere: {trouble}, for 50,000 images; begin anew from an earlier snapshot in "
                f"{self.out / 'snapshots'} (--start) with a lower learning rate, a higher r1-gamma or more images"
            )

    def _write_line(self, values: dict[str, float], **words: str) -> None:
        counters = {"step": self.state.step, "images": self.state.images, "seconds": round(self.state.seconds, 1)}
        append_line(self.out, counters | values | words)
        if self.board is not None:
            self.board.scalars(self.state.images, values)

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """Keep the time of what is inside out of the images per second."""
        began = time.monotonic()
        yield
        self.paused += time.monotonic() - began

    # ---------------------------------------------------------------- samples

    def _sample(self) -> None:
        with self._pause():
            self.fresh = False
            set_average_w(self.state.average)
            name = self._sample_name()
            (self.out / "samples").mkdir(exist_ok=True)
            for psi in PSIS:
                picture = sample_grid(self.state.average, psi)
                write_atomically(self.out / "samples" / f"{name}-psi{psi:.1f}.png", png_bytes(picture))
                if self.board is not None:
                    self.board.picture(self.state.images, f"samples/psi{psi:.1f}", picture)
            card = {"world": self.config.world, "images": self.state.images, "step": self.state.step}
            save_gan(
                self.out / "snapshots" / name, self.state.average, self.state.exported_discriminator, card, half=True
            )
            if self.config.fd_samples:
                self._measure(name)
            self._report()

    def _sample_name(self) -> str:
        thousands, rest = divmod(self.state.images, 1000)
        return f"kimg-{thousands:06d}" + (f".{rest:03d}" if self.config.sample_kimg % 1 else "")

    def _measure(self, name: str) -> None:
        if self.distance is None:
            self.distance = FrechetCurve(self.pixels, self.config)
        self._write_line({"fd": round(self.distance(self.state.average), 4)}, snapshot=name)
        self.ending = out_of_patience(read_log(self.out), self.config.patience_kimg)

    def _checkpoint(self) -> None:
        with self._pause():
            set_average_w(self.state.average)
            self.state.save(self.out / "checkpoints")
            self.checkpoint_at = time.monotonic()

    def _report(self) -> None:
        write_report(self.out, self.state, self.pixels)


class FrechetCurve:
    """Frechet distance between samples of a generator and as many training images; always the same ones.

    Parameters
    ----------
    pixels : (N, R, R, 3) uint8
    config : TrainingConfig
        `fd_samples` are compared, and as many training images if there are; in `fd_features`.
    """

    def __init__(self, pixels: Images, config: TrainingConfig) -> None:
        self.count = config.fd_samples
        real = np.asarray(pixels[spread(np.arange(len(pixels)), self.count)])
        self.extractor: FeatureExtractor = (
            ImageNetFeatures()
            if config.fd_features == "imagenet"
            else AnnotatorFeatures(real, annotator_of(config.world))
        )
        self.real = self.extractor(real)

    def __call__(self, generator: Generator) -> float:
        """Distance of the samples at psi 1."""
        blocks = range(0, self.count, 512)  # images of one block are in memory
        z = latents(generator, self.count, FD_SEED)
        fake = [self.extractor(sample_images(generator, z[first : first + 512], 1.0)) for first in blocks]
        return frechet_distance(self.real, np.concatenate(fake))


def latents(generator: Generator, count: int, seed: int) -> torch.Tensor:
    """Latents (count, z_dim), the same for the same seed."""
    return torch.randn(count, generator.config.z_dim, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def sample_images(generator: Generator, z: torch.Tensor, psi: float) -> Images:
    """Images (n, R, R, 3) uint8 of latents (n, z_dim), with stored noise."""
    parts = [
        generator(part.to(generator.w_avg.device), truncation=psi, noise="const") for part in z.split(SAMPLE_BATCH)
    ]
    return stored_images(torch.cat(parts))


def sample_grid(generator: Generator, psi: float, seed: int = 0) -> Pixels:
    """Draw a grid of fixed latents, (H, W, 3) uint8, with stored noise."""
    return grid(sample_images(generator, latents(generator, GRID_COLUMNS * GRID_ROWS, seed), psi), GRID_COLUMNS)
