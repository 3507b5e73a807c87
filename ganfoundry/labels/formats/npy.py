"""NPY: one array of class ids a picture, as DatasetGAN's own masks are stored (see `index_maps`)."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.labels.formats.base import AnnotatedImage, OnBroken, checked_size, refuse
from ganfoundry.labels.formats.index_maps import IdMap, maps_of, read_maps, write_maps


def is_mine(path: Path) -> bool:
    """Whether it is an NPY file or a folder with some."""
    files = maps_of(path, ".npy")
    return bool(files) and files[0].suffix.lower() == ".npy"


def read(path: Path, classes: Sequence[str] | None = None, on_broken: OnBroken = refuse) -> Iterator[AnnotatedImage]:
    """Read NPY files; `classes` name the ids where no file does; an error names the file."""
    return read_maps(path, ".npy", _load, classes, on_broken)


def _load(file: Path) -> IdMap:
    try:
        # Mapped, so that a header that promises more than the file has is refused before anything is allocated.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, MemoryError) as error:
        raise InputError(f"cannot read {file}: {str(error)[:120]}; save it again with numpy.save") from None
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "uibf":
        raise InputError(f"{file} does not hold class ids (H, W); save one array of whole numbers with numpy.save")
    height, width = array.shape
    checked_size(height, width, str(file))
    values = np.asarray(array)
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.floor(values)).all()):
        raise InputError(f"{file} holds numbers that are no class ids; save whole numbers")
    return np.clip(values.astype(np.float64), -1, 1 << 16).astype(np.int64)  # clipped ids are refused by the caller


def write(folder: Path, images: Iterable[AnnotatedImage], classes: Sequence[str], keypoints: Sequence[str]) -> None:
    """Write a folder of NPY files, uint8 (H, W)."""

    def save(path: Path, label: NDArray[np.uint8]) -> None:
        np.save(path, label)

    write_maps(folder, images, classes, keypoints, save, ".npy")
