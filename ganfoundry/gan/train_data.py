"""Training images: rendered once into one .npy file (or collected, see `train_images`), drawn by step number alone.

The file holds `uint8 (N, R, R, 3)`. Workers open it as a memory map, so it is in memory once however many they are.
Renders go into parts first, each written to a temporary name and renamed: an interrupted rendering continues.
"""

import hashlib
import io
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganfoundry.data.seeds import TRAIN, WORLD, sample_integer, sample_rng
from ganfoundry.errors import InputError, RunError
from ganfoundry.pictures import spread

Images = NDArray[np.uint8]
ROWS_PER_PART = 500
CHECKED_ROWS = 5  # that are rendered again to see whether the world is still the same
EPOCH_INDEX = 1 << 40  # keeps the seeds of epochs apart from the seeds of steps


@dataclass(frozen=True)
class RenderTask:
    """One part of a rendered data set: rows [first, stop) go into `path`. Picklable."""

    world: str
    resolution: int
    seed: int
    first: int
    stop: int
    path: Path


def render_tasks(folder: Path, world: str, resolution: int, count: int, seed: int) -> list[RenderTask]:
    """Parts still to be rendered; empty when `images.npy` or all parts are there.

    Parameters
    ----------
    folder : Path
        Made if it does not exist. Belongs to these four values: other ones are refused.
    world : str
        A name that `ganfoundry.worlds.get_world` knows.
    resolution, count, seed : int
        Side in pixels, number of images, root seed.

    Raises
    ------
    InputError
        If the folder was begun with other values, or with a version of the world that renders other images.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"world": world, "resolution": resolution, "count": count, "seed": seed}
    description = folder / "images.json"
    if description.exists():
        found = json.loads(description.read_text())
        if found != wanted:
            raise InputError(f"{folder} holds other training images ({found}); remove it or choose another folder")
    write_atomically(description, json.dumps(wanted).encode())
    if (folder / "images.npy").exists():
        return []
    tasks = [
        RenderTask(world, resolution, seed, first, min(first + ROWS_PER_PART, count), folder / f"part-{first:07d}.npy")
        for first in range(0, count, ROWS_PER_PART)
    ]
    pending = [task for task in tasks if not task.path.exists()]
    if pending and len(pending) < len(tasks):
        check_world(folder)
    return pending


def check_world(folder: Path) -> None:
    """Render some images of a folder again, spread over it, and compare.

    Raises
    ------
    InputError
        If the world has changed since the folder was rendered.
    """
    from ganfoundry.worlds import get_world

    made = json.loads((folder / "images.json").read_text())
    world = get_world(made["world"])
    for row, stored in _stored_rows(folder):
        seed = sample_integer(made["seed"], WORLD, row)
        if not np.array_equal(world.render(seed, made["resolution"]).image, stored):
            raise InputError(f"{folder} was rendered by another version of the world; remove it to render it again")


def _stored_rows(folder: Path) -> Iterator[tuple[int, Images]]:
    """Some rows of a folder and their images: of the whole file, else the first of some parts."""
    whole = folder / "images.npy"
    if whole.exists():
        images = np.load(whole, mmap_mode="r")
        for row in spread(np.arange(len(images)), CHECKED_ROWS).tolist():
            yield row, images[row]
        return
    parts = sorted(folder.glob("part-*.npy"))
    for index in spread(np.arange(len(parts)), CHECKED_ROWS).tolist():
        with suppress(OSError, ValueError):  # of a damaged part; joining names it
            yield int(parts[index].stem.removeprefix("part-")), np.load(parts[index], mmap_mode="r")[0]


def render_part(task: RenderTask) -> int:
    """Render one part and write it atomically; returns its number of images."""
    from ganfoundry.worlds import get_world

    world = get_world(task.world)
    seeds = [sample_integer(task.seed, WORLD, row) for row in range(task.first, task.stop)]
    write_array(task.path, np.stack([np.asarray(world.render(seed, task.resolution).image) for seed in seeds]))
    return len(seeds)


def assemble_parts(folder: Path) -> Path:
    """Join all parts into `images.npy`, remove them, and return its path; does nothing when it is there.

    Raises
    ------
    RunError
        If a part is missing or damaged.
    """
    target = folder / "images.npy"
    if not target.exists():
        wanted = json.loads((folder / "images.json").read_text())
        side = wanted["resolution"]
        temporary = folder / "images.npy.tmp"
        joined = np.lib.format.open_memmap(temporary, "w+", np.uint8, (wanted["count"], side, side, 3))
        for first in range(0, wanted["count"], ROWS_PER_PART):
            part = folder / f"part-{first:07d}.npy"
            try:
                joined[first : first + ROWS_PER_PART] = np.load(part)
            except (OSError, ValueError) as error:
                part.unlink(missing_ok=True)
                raise RunError(f"{part} is missing or damaged ({error}); run again to render it") from error
        joined.flush()
        os.replace(temporary, target)
    for part in folder.glob("part-*"):  # and what a killed process left
        part.unlink()
    return target


def open_images(path: Path, resolution: int, batch: int) -> Images:
    """Open a training file as a memory map.

    Raises
    ------
    InputError
        If it is not uint8 (N, resolution, resolution, 3) with at least one batch of images.
    """
    try:
        images: Images = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path} is not a file of training images ({error}); render or collect it again") from error
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (resolution, resolution, 3):
        raise InputError(
            f"{path} holds {images.dtype} {images.shape}, expected uint8 (N, {resolution}, {resolution}, 3)"
        )
    if len(images) < batch:
        raise InputError(f"{path} holds {len(images)} images, fewer than one batch of {batch}; give more images")
    return images


class BatchOrder:
    """Which images step s sees: a fresh permutation every epoch, a function of (seed, step) alone."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        self.count, self.batch, self.seed = count, batch, seed
        self._epoch, self._permutation = -1, np.empty(0, np.int64)

    def rows(self, step: int) -> NDArray[np.int64]:
        """Rows (batch,) of a step; a batch may straddle two epochs."""
        positions = range(step * self.batch, (step + 1) * self.batch)
        return np.array([self._permuted(position // self.count)[position % self.count] for position in positions])

    def _permuted(self, epoch: int) -> NDArray[np.int64]:
        if epoch != self._epoch:
            self._epoch = epoch
            self._permutation = sample_rng(self.seed, TRAIN, EPOCH_INDEX + epoch).permutation(self.count)
        return self._permutation


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_array(path: Path, array: Images) -> None:
    """Write a .npy file whole or not at all."""
    stream = io.BytesIO()
    np.save(stream, array)
    write_atomically(path, stream.getbuffer())


def write_atomically(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all: temporary name, fsync, rename.

    Raises
    ------
    RunError
        If the disk is full or the folder cannot be written.
    """
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise RunError(f"cannot write {path} ({error.strerror}); free some space and run again") from error
    finally:
        temporary.unlink(missing_ok=True)
