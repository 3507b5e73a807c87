"""A labelled set as one HDF5 file, for people who want a file and no folder.

The file is written through :class:`GuardedFile`, because HDF5 does not survive a full disk: a failed write leaves its
cache unflushable and the process dies of it at exit.
"""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ganfoundry.data.integrity import explain_write, h5py, open_dataset, open_hdf5, sync_directory
from ganfoundry.data.reader import ShardReader
from ganfoundry.errors import InputError, RunError

SCHEMA_VERSION = 1
FIELDS = ("image", "label", "score", "w", "seed")
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class SetDescription:
    """What ``labels.json`` says of a labelled set.

    Attributes
    ----------
    classes : tuple of str
        Class names; the index is the id in the label maps, 0 the background.
    palette : tuple of (int, int, int)
        One RGB colour (0-255) a class.
    level : str
        Level of the part schema the classes belong to.
    generator_sha256, interpreter_sha256 : str
        Of the weights that made the images and the labels.
    """

    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    level: str
    generator_sha256: str
    interpreter_sha256: str

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SetDescription:
        """Read ``labels.json``.

        Raises
        ------
        InputError
            If it is missing, unreadable or incomplete.
        """
        try:
            table = json.loads(Path(path).read_text(encoding="utf-8"))
            classes = tuple(map(str, table["classes"]))
            palette = tuple(tuple(int(value) for value in colour) for colour in table["palette"])
            if not 1 <= len(classes) <= 256 or len(set(classes)) != len(classes):
                raise ValueError("classes are 1 to 256 different names")
            if len(palette) != len(classes) or not all(len(c) == 3 and 0 <= min(c) <= max(c) <= 255 for c in palette):
                raise ValueError("palette has one [r, g, b] of 0 to 255 for each class")
            colours = cast(tuple[tuple[int, int, int], ...], palette)
            sources = str(table["generator_sha256"]), str(table["interpreter_sha256"])
            return cls(classes, colours, str(table.get("level", "")), *sources)
        except FileNotFoundError:
            raise InputError(f"{path} is missing; make the labelled set again") from None
        except KeyError as error:
            raise InputError(f"{path} lacks {error}; make the labelled set again") from None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise InputError(f"{path} is damaged ({error}); make the labelled set again") from None


def pack_hdf5(
    path: str | os.PathLike[str],
    reader: ShardReader,
    rows: npt.NDArray[np.int64],
    keep: npt.NDArray[np.bool_],
    description: SetDescription,
    attributes: Mapping[str, str],
    *,
    uncertainty_maps: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write rows of a labelled set into one file, whole or not at all.

    Layout in ``docs/formats.md``.  All datasets carry fletcher32; label maps are deflated, images have a chunk each.

    Parameters
    ----------
    path : path
        The file to write; replaced if it exists.
    reader : ShardReader
        Shards with the fields image, label, score, w and seed (and uncertainty).
    rows : ndarray
        Row numbers in ascending order, at least one.
    keep : ndarray of bool, as long as rows
        False for a row that the selection dropped.
    description : SetDescription
        Classes, colours and sources.
    attributes : mapping
        Further attributes of the file (licence, provenance, fingerprint), as text.
    uncertainty_maps : bool
        Whether to write the uncertainty of every pixel, too.
    progress : callable, optional
        Called with the number of rows written since the last call.

    Raises
    ------
    InputError
        If a shard is damaged, or a label map holds an id that is no class.
    RunError
        If the file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
    names = (*FIELDS, "uncertainty") if uncertainty_maps else FIELDS
    try:
        with open(partial, "x+b", buffering=0) as raw:
            guard = GuardedFile(raw)
            with h5py.File(guard, "w", libver=("v110", "v110")) as file:
                _write_attributes(file, description, attributes)
                for name, values in (("row", rows.astype("<i8")), ("keep", keep)):
                    file.create_dataset(name, data=values, fletcher32=True, chunks=(min(4096, len(rows)),))
                _write_rows(file, guard, reader, rows, names, len(description.classes), progress)
            guard.check()
            os.fsync(raw.fileno())
        os.replace(partial, path)
        sync_directory(path.parent)
    except OSError as error:
        raise RunError(explain_write(path, guard.end, error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _write_rows(
    file: h5py.File,
    guard: GuardedFile,
    reader: ShardReader,
    rows: npt.NDArray[np.int64],
    names: Sequence[str],
    num_classes: int,
    progress: Callable[[int], None] | None,
) -> None:
    for name in names:
        _create(file, name, reader, len(rows))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[start : start + ROWS_AT_ONCE]
        block = reader.rows(part, names)
        check_labels(block["label"], part, num_classes)
        for name, values in block.items():
            file[name][start : start + len(part)] = values
        guard.check()
        if progress:
            progress(len(part))


def check_labels(labels: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], num_classes: int) -> None:
    """Refuse label maps (N, H, W) with an id that is no class.

    Raises
    ------
    InputError
        Naming the row and the id.
    """
    highest = labels.reshape(len(labels), -1).max(axis=1)
    for row in np.flatnonzero(highest >= num_classes)[:1]:
        raise InputError(
            f"the label map of row {rows[row]} holds the class {highest[row]}, but labels.json names only "
            f"{num_classes} classes; make the labelled set again"
        )


def _create(file: h5py.File, name: str, reader: ShardReader, count: int) -> None:
    if name not in reader.fields:
        raise InputError(f'{reader.folder} has no field "{name}", so it is no labelled set')
    dtype, row = reader.fields[name]
    file.create_dataset(
        name,
        (count, *row),
        dtype,
        chunks=(1 if len(row) > 1 else min(16 if row else 4096, count), *row),
        compression=4 if name == "label" else None,
        fletcher32=True,
        track_times=False,
    )


def _write_attributes(file: h5py.File, description: SetDescription, attributes: Mapping[str, str]) -> None:
    file.attrs["schema_version"] = SCHEMA_VERSION
    file.attrs["classes"] = json.dumps(description.classes)
    file.attrs["palette"] = np.array(description.palette, np.uint8)
    file.attrs["level"] = description.level
    file.attrs["generator_sha256"] = description.generator_sha256
    file.attrs["interpreter_sha256"] = description.interpreter_sha256
    for name, value in attributes.items():
        file.attrs[name] = value


class GuardedFile(io.RawIOBase):
    """A file for HDF5 to write to that never fails: the first error is kept for :meth:`check`, later bytes are dropped.

    Parameters
    ----------
    file : io.FileIO
        Open for reading and writing, unbuffered.
    """

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self.file = file
        self.error: OSError | None = None
        self.end = 0

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, data: Any) -> int:
        """Write all of the data, or keep the error."""
        view = memoryview(data).cast("B")
        size = len(view)
        self.end = max(self.end, self.file.tell() + size)
        try:
            while self.error is None and view:
                view = view[self.file.write(view) :]
        except OSError as error:
            self.error = error
        if view:
            self.file.seek(len(view), os.SEEK_CUR)
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, or keep the error."""
        size = self.file.tell() if size is None else size
        try:
            if self.error is None:
                self.file.truncate(size)
        except OSError as error:
            self.error = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Read; bytes that were never written are zeros."""
        view = memoryview(buffer).cast("B")
        count = self.file.readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the end counts dropped bytes as written."""
        if whence == os.SEEK_END:
            return self.file.seek(max(self.end, self.file.seek(0, os.SEEK_END)) + offset)
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self.file.tell()

    def flush(self) -> None:
        """Nothing is buffered."""


def is_whole(path: str | os.PathLike[str], fingerprint: str) -> bool:
    """Tell whether a file is an export with that fingerprint; a damaged or foreign one is not."""
    try:
        with open_hdf5(path) as file:
            found = file.attrs.get("fingerprint") == fingerprint
            return found and all(open_dataset(file, name) is not None for name in FIELDS)
    except (InputError, OSError, RuntimeError, KeyError, ValueError):
        return False
