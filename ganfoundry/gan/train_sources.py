"""Where training images come from: a folder, a zip archive, or an HDF5 file or folder of shards.

A source lists its images and hands them out one by one, as the bytes of an image file or as an array. Nothing is
extracted, so names in an archive are only names; an entry is never inflated beyond `MAX_FILE_BYTES`.
"""

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ganfoundry.data.integrity import h5py, open_dataset, open_hdf5
from ganfoundry.data.reader import ShardReader
from ganfoundry.errors import InputError

Content = bytes | NDArray[np.uint8]

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp"}
IMAGE_KEYS = ("image", "images")  # names looked for in an HDF5 file
MAX_FILE_BYTES = 1 << 28  # of one image file, inflated; more is a decompression bomb
MAX_HDF5_BYTES = 1 << 40  # of the images in one file, which are read a chunk at a time


class Source:
    """Images in a fixed order.

    Attributes
    ----------
    kind : str
        "folder", "zip" or "hdf5".
    path : Path
    names : sequence of str
        One for each image: a relative file name or "row 12". Only ever shown.
    other_files : dict
        Suffix -> number of files that are not taken for images.
    digest : str
        Changes when the list of images does; workers compare it, so that they read what was listed.
    """

    kind: ClassVar[str]

    def __init__(self, path: Path, names: Iterable[str], stamps: Iterable[object], others: Iterable[str] = ()) -> None:
        self.path = path
        self.names: Sequence[str] = [printable(name) for name in names]
        self.other_files = dict(sorted(Counter(PurePosixPath(name).suffix.lower() for name in others).items()))
        self.digest = hashlib.sha256(repr((self.names, list(stamps))).encode()).hexdigest()

    def read(self, index: int) -> Content:
        """Return one image: the bytes of an image file, or (H, W, C) uint8 with C from 1 to 4.

        Raises
        ------
        OSError, ValueError, ...
            If it cannot be read; archives raise errors of many kinds.
        """
        raise NotImplementedError


class FolderSource(Source):
    """PNG, JPEG and WebP files below a folder, sorted by name; hidden ones are not looked at."""

    kind = "folder"

    def __init__(self, path: Path) -> None:
        names = sorted(item.relative_to(path).as_posix() for item in path.rglob("*") if item.is_file())
        self._files = [name for name in names if is_image_name(name)]
        sizes = [(path / name).stat().st_size for name in self._files]
        super().__init__(path, self._files, sizes, (name for name in names if not is_image_name(name)))

    def read(self, index: int) -> bytes:
        """Return the bytes of one file."""
        with (self.path / self._files[index]).open("rb") as stream:
            return limited(stream.read(MAX_FILE_BYTES + 1))


class ZipSource(Source):
    """Image files in a zip archive, in folders or not, as NVIDIA's dataset_tool and everybody's file manager write it.

    The class labels of a dataset.json are not used.
    """

    kind = "zip"

    def __init__(self, path: Path) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
            entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"{path} cannot be opened as a zip archive ({error}); make it again") from error
        entries.sort(key=lambda entry: (entry.filename, entry.header_offset))
        self._entries = [entry for entry in entries if is_image_name(entry.filename)]
        super().__init__(
            path,
            (entry.filename for entry in self._entries),
            ((entry.CRC, entry.file_size) for entry in self._entries),
            (entry.filename for entry in entries if not is_image_name(entry.filename)),
        )

    def read(self, index: int) -> bytes:
        """Inflate one entry, up to the limit whatever size it claims."""
        entry = self._entries[index]
        if entry.flag_bits & 1:
            raise ValueError("it is encrypted")
        with self._zip.open(entry) as stream:
            return limited(stream.read(MAX_FILE_BYTES + 1))


class ArraySource(Source):
    """A dataset (N, H, W, C) uint8 of an HDF5 file."""

    kind = "hdf5"

    def __init__(self, path: Path, key: str | None) -> None:
        file = open_hdf5(path)
        found = [name for name in ([key] if key else IMAGE_KEYS) if name in file]
        if not found:
            wanted = repr(key) if key else " or ".join(map(repr, IMAGE_KEYS))
            raise InputError(
                f"{path} has no dataset {wanted}, only {', '.join(map(repr, sorted(file)[:10])) or 'nothing'}; "
                "name the images with --images-key"
            )
        self._dataset = open_dataset(file, found[0], max_bytes=MAX_HDF5_BYTES)
        _check_array(f'"{found[0]}" in {path}', self._dataset.dtype, self._dataset.shape)
        self._block_rows = self._dataset.chunks[0] if self._dataset.chunks else 1
        self._block: tuple[int, NDArray[np.uint8] | None] = (-1, None)
        rows = len(self._dataset)
        super().__init__(path, (f"row {row}" for row in range(rows)), [found[0], rows, path.stat().st_mtime_ns])

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return one row; a chunk of many rows is read once."""
        number, offset = divmod(index, self._block_rows)
        if self._block[0] != number:
            first = number * self._block_rows
            self._block = (number, self._dataset[first : first + self._block_rows])
        block = self._block[1]
        assert block is not None
        row: NDArray[np.uint8] = block[offset]
        return row


class ShardSource(Source):
    """One field of a folder of shards, or of an artifact that has one."""

    kind = "hdf5"

    def __init__(self, path: Path, key: str | None) -> None:
        self._reader, self._field = ShardReader(path), key or IMAGE_KEYS[0]
        if self._field not in self._reader.fields:
            raise InputError(
                f"{path} has no field {self._field!r}, only {', '.join(self._reader.fields)}; "
                "name the images with --images-key"
            )
        dtype, shape = self._reader.fields[self._field]
        _check_array(f'"{self._field}" in {path}', np.dtype(dtype), (len(self._reader), *shape))
        rows = range(len(self._reader))
        super().__init__(path, (f"row {row}" for row in rows), [self._field, len(rows), self._reader.key])

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return one row."""
        row: NDArray[np.uint8] = self._reader.read(self._field, index, index + 1)[0]
        return row


def open_source(path: Path, key: str | None = None) -> Source:
    """Open whatever holds training images.

    Parameters
    ----------
    path : Path
        A folder of images, a zip archive of images, an HDF5 file, a folder of shards, its `index.h5`, or an artifact
        with shards. The content decides, not the name.
    key : str, optional
        Name of the images in an HDF5 file or in shards; by default `image` or `images`.

    Raises
    ------
    InputError
        If it is none of these, or holds no images.
    """
    if path.is_dir():
        folders = [folder for folder in (path, path / "shards") if (folder / "manifest.jsonl").is_file()]
        source: Source = ShardSource(folders[0], key) if folders else FolderSource(path)
    elif not path.is_file():
        raise InputError(f"{path} does not exist; give a folder of images, a zip archive or an HDF5 file")
    elif h5py.is_hdf5(os.fspath(path)):
        is_index = path.name == "index.h5" and (path.parent / "manifest.jsonl").is_file()
        source = ShardSource(path.parent, key) if is_index else ArraySource(path, key)
    elif zipfile.is_zipfile(path):
        source = ZipSource(path)
    else:
        raise InputError(f"{path} is no folder, no zip archive and no HDF5 file; images come in one of these")
    if not source.names:
        raise InputError(f"{path} holds no PNG, JPEG or WebP file; give what holds the training images")
    return source


def is_image_name(name: str) -> bool:
    """Whether a relative name is taken for an image: by its suffix, and not in a hidden or resource-fork folder."""
    parts = PurePosixPath(name.replace("\\", "/")).parts
    hidden = any(part == "__MACOSX" or (part.startswith(".") and part != "..") for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in SUFFIXES


def printable(name: str) -> str:
    """A name from outside as one line of text: control characters and broken bytes are shown as '?'."""
    return "".join(character if character.isprintable() else "?" for character in name)


def limited(data: bytes) -> bytes:
    """Return the bytes of a file, unless there are too many.

    Raises
    ------
    ValueError
        Above `MAX_FILE_BYTES`.
    """
    if len(data) > MAX_FILE_BYTES:
        raise ValueError(f"it is larger than {MAX_FILE_BYTES:,} bytes")
    return data


def _check_array(where: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    if dtype != np.uint8 or len(shape) != 4 or shape[3] > 4 or 0 in shape[1:]:
        raise InputError(f"{where} is {dtype} {shape}, expected uint8 (N, H, W, C) with C from 1 to 4, channels last")
