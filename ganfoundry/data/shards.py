"""Writing rows as checksummed HDF5 shards: what is acknowledged is never lost.

A shard is built in memory and written by ordinary calls, so HDF5 never holds a half-written file open: kill -9 and a
full disk leave whole shards and nothing else.  ``('v110', 'v110')`` plus fletcher32 puts a checksum on all metadata and
all data.  There is no compression: it gains little on images and costs reading speed.  Every row is a pure function of
the configuration and its row number; a run that is interrupted and continued, by any number of workers, ends with the
same bytes.

    folder/config.json      rows, rows per shard, key of the configuration
    folder/manifest.jsonl   one line a shard: number, first row, rows, bytes, sha256, fields, key, code version
    folder/shard-00000.h5   ...
    folder/index.h5         virtual datasets over all shards: derived, never trusted
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import secrets
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.data.index import write_index
from ganfoundry.data.integrity import MAX_CHUNK_BYTES, h5py, lock_folder, sha256_file, write_whole
from ganfoundry.data.manifest import (
    FORMAT,
    Plan,
    Record,
    ShardTask,
    append_record,
    code_version,
    load_plan,
    load_records,
    parse_field,
    save_plan,
    save_records,
    shard_path,
)
from ganfoundry.data.reader import ShardReader
from ganfoundry.errors import InputError, RunError

__all__ = ["ShardFolder", "ShardReader", "ShardTask", "encode_shard", "write_shard"]

ROWS_PER_CHUNK = 16
"""Rows in a chunk of vectors and scalars; rows of two and more dimensions (images) have a chunk each."""


def write_shard(
    folder: str | os.PathLike[str],
    index: int,
    arrays: Mapping[str, npt.NDArray[Any]],
    first_row: int,
) -> dict[str, Any]:
    """Write one shard whole; safe to call from any process, and twice.

    Parameters
    ----------
    folder : path
        The shards' folder.
    index : int
        Shard number.
    arrays : mapping
        Field name -> array (rows, ...) of bool, integers or floats; all with the same number of rows.
    first_row : int
        Row number, in the whole data set, of the first row.

    Returns
    -------
    dict
        The receipt, JSON-ready: ``shard``, ``first``, ``rows``, ``bytes``, ``sha256``, ``fields``.

    Raises
    ------
    ValueError, TypeError
        If the arrays do not fit together or are of a kind that shards do not store.
    RunError
        If the file cannot be written (disk full); nothing is left behind.
    """
    fields = {name: parse_field(name, array.dtype.str, array.shape[1:]) for name, array in sorted(arrays.items())}
    image = encode_shard(arrays, first_row)
    temporary = f".tmp-{os.getpid()}-{index:05d}-{secrets.token_hex(4)}"
    write_whole(shard_path(folder, index), image, temporary=temporary)
    rows = len(next(iter(arrays.values())))
    record = Record(index, first_row, rows, len(image), hashlib.sha256(image).hexdigest(), fields)
    receipt = dataclasses.asdict(record)
    del receipt["key"], receipt["code"]
    return receipt


def encode_shard(arrays: Mapping[str, npt.NDArray[Any]], first_row: int) -> bytes:
    """Return the bytes of a shard; the same arrays give the same bytes.

    Parameters and errors are those of :func:`write_shard`.
    """
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"a shard needs fields with the same number of rows >= 1, got {sorted(lengths)}")
    size = sum(array.nbytes for array in arrays.values())
    # block_size is the step in which the memory grows.
    options = {"driver": "core", "backing_store": False, "block_size": max(1 << 16, min(size, 1 << 26))}
    with h5py.File("shard", "w", libver=("v110", "v110"), **options) as file:
        file.attrs["format"] = FORMAT
        file.attrs["first"] = first_row
        for name, array in sorted(arrays.items()):
            dtype, row = parse_field(name, array.dtype.str, array.shape[1:])
            chunks = (1 if len(row) > 1 else min(ROWS_PER_CHUNK, len(array)), *row)
            if math.prod(chunks) * array.dtype.itemsize > MAX_CHUNK_BYTES:
                raise ValueError(f'a row of "{name}" has more than {MAX_CHUNK_BYTES:,} bytes')
            file.create_dataset(
                name,
                data=np.ascontiguousarray(array, dtype),
                chunks=chunks,
                fletcher32=True,
                track_times=False,
            )
        file.flush()
        return bytes(file.id.get_file_image())


class ShardFolder:
    """The driver's side: knows which shards are done, keeps the manifest, keeps a second writer out.

    Usage::

        with ShardFolder(folder, rows, rows_per_shard, key) as shards:
            for _, receipt in executor.map(render_rows, shards.pending(), "Rendering"):
                shards.acknowledge(receipt)
            shards.finish()

    Parameters
    ----------
    folder : path
        Made if absent; temporary files of killed runs in it are deleted.
    rows, rows_per_shard : int
        Size of the data set and its division; the last shard may be shorter.
    key : str
        Fingerprint of everything the rows depend on.

    Raises
    ------
    InputError
        If the folder holds shards of another key or division, or another writer is at work in it.
    RunError
        If the folder cannot be made or written to.
    """

    def __init__(self, folder: str | os.PathLike[str], rows: int, rows_per_shard: int, key: str) -> None:
        self.folder = Path(folder)
        self.plan = Plan(int(rows), int(rows_per_shard), key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = lock_folder(self.folder)
        except OSError as error:
            raise RunError(
                f"cannot write into {folder}: {error.strerror}; check its permissions or choose another output folder"
            ) from error
        self._release = weakref.finalize(self, os.close, descriptor)
        try:
            self._enter_folder()
        except BaseException:
            self._release()
            raise

    def _enter_folder(self) -> None:
        found = load_plan(self.folder)
        if found is None:
            save_plan(self.folder, self.plan)
        elif found != self.plan:
            raise InputError(
                f"{self.folder} holds shards of another configuration ({found.rows} rows in shards of "
                f"{found.rows_per_shard}, key {found.key[:12]}); delete it or choose another output folder"
            )
        for left_over in self.folder.glob(".tmp-*"):
            left_over.unlink(missing_ok=True)
        self._records = load_records(self.folder, self.plan, repair=True)

    def __enter__(self) -> ShardFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def pending(self, verify: bool = False) -> list[ShardTask]:
        """Return the shards still to be made, in order.

        Parameters
        ----------
        verify : bool
            False compares the size of each file with the manifest, True its sha256: a damaged shard becomes pending.
        """
        return [task for task in self.plan if not self._is_done(task.index, verify)]

    def _is_done(self, index: int, verify: bool) -> bool:
        record = self._records.get(index)
        path = shard_path(self.folder, index)
        try:
            whole = record is not None and path.stat().st_size == record.bytes
            return whole and (not verify or sha256_file(path) == record.sha256)  # type: ignore[union-attr]
        except OSError:
            return False

    def acknowledge(self, receipt: Mapping[str, Any]) -> None:
        """Enter a shard's receipt in the manifest; when this returns, the shard survives kill -9.

        Raises
        ------
        RunError
            If the receipt is not for a shard of this folder, or the manifest cannot be written.
        """
        record = dataclasses.replace(Record.parse(receipt), key=self.plan.key, code=code_version())
        task = self.plan[record.shard]
        if (record.first, record.rows) != (task.first, len(task.rows)):
            raise RunError(
                f"shard {record.shard} was written with rows {record.first} to {record.first + record.rows} "
                f"instead of {task.first} to {task.stop}"
            )
        append_record(self.folder, record)
        self._records[record.shard] = record

    def finish(self) -> None:
        """Check that every row is there, put the manifest in order, write ``index.h5`` and release the folder.

        Raises
        ------
        RunError
            If shards are missing or disagree about their fields.
        """
        missing = [task.index for task in self.pending()]
        if missing:
            names = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
            raise RunError(
                f"{len(missing)} of {len(self.plan)} shards in {self.folder} are missing ({names}); "
                "run the same command again to make them"
            )
        odd = [index for index, record in self._records.items() if record.fields != self._records[0].fields]
        if odd:
            raise RunError(f"{shard_path(self.folder, odd[0])} has other fields or row shapes than shard 0")
        save_records(self.folder, self._records)
        write_index(self.folder, self._records)
        self.close()

    def close(self) -> None:
        """Release the folder for other writers; may be called twice."""
        self._release()
