"""Reading a folder of shards: lazily, in any process, without trusting it."""

from __future__ import annotations

import collections
import itertools
import operator
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.data.index import check_index
from ganfoundry.data.integrity import h5py, open_dataset, open_hdf5, sha256_file
from ganfoundry.data.manifest import load_plan, load_records, shard_path
from ganfoundry.data.row_reader import RowReader
from ganfoundry.errors import InputError

Array = npt.NDArray[Any]
_Column = tuple[h5py.h5d.DatasetID, h5py.h5s.SpaceID, int]  # and the rows of a chunk


class ShardReader(RowReader):
    """Rows of a finished folder of shards.

    Nothing but two small text files is read until the first row is asked for; files are opened in the process that
    reads, so a reader may be sent to workers by pickling or by fork.

    Parameters
    ----------
    folder : path
        A folder that a :class:`ganfoundry.data.shards.ShardFolder` finished.
    max_open : int
        Shards kept open at a time.

    Attributes
    ----------
    folder : Path
    key : str
        Fingerprint of the configuration that made the rows.

    Raises
    ------
    InputError
        If the folder is not one of shards, is unfinished, or its shards disagree about their fields.
    """

    _OWN = ("_open", "_hashed")

    def __init__(self, folder: str | os.PathLike[str], *, max_open: int = 16) -> None:
        super().__init__(folder)
        self.folder = Path(folder)
        self.max_open = max_open
        plan = load_plan(folder)
        if plan is None:
            raise InputError(f"{folder} holds no shards (it has no config.json); give a folder made by a stage")
        self.key = plan.key
        self._rows, self._rows_per_shard = plan.rows, plan.rows_per_shard
        self._records = load_records(folder, plan)
        missing = len(plan) - len(self._records)
        if missing:
            raise InputError(
                f"{folder} is unfinished: {missing} of {len(plan)} shards are not there; "
                "run the stage that makes it again to continue it"
            )
        self._fields = self._records[0].fields
        for record in self._records.values():
            if record.fields != self._fields:
                raise InputError(
                    f"{shard_path(folder, record.shard)} has other fields than the first shard; make the folder again"
                )

    def _reset(self) -> None:
        super()._reset()
        self._open: collections.OrderedDict[int, dict[str, _Column]] = collections.OrderedDict()
        self._hashed: set[int] = set()  # shards whose sha256 this process has compared

    def read(self, name: str, start: int = 0, stop: int | None = None) -> Array:
        """Return rows ``start`` to ``stop`` of one field, (stop - start, *row shape).

        Raises
        ------
        InputError
            If there is no such field, or a shard is missing or damaged.
        IndexError
            If the rows are not all there.
        """
        start, stop, _ = slice(start, stop).indices(self._rows) if stop is None else (start, stop, 1)
        if not 0 <= start <= stop <= self._rows:
            raise IndexError(f"rows {start} to {stop} of {self._rows} in {self.folder}")
        dtype, shape = self._field(name)
        out = np.empty((stop - start, *shape), dtype)
        at = start
        while at < stop:
            shard, offset = divmod(at, self._rows_per_shard)
            count = min(stop - at, self._records[shard].rows - offset)
            self._fill(shard, name, offset, out[at - start : at - start + count])
            at += count
        return out

    def rows(self, indices: Sequence[int] | Array, names: Iterable[str] | None = None) -> dict[str, Array]:
        """Return the given rows of the given fields (default all), each (len(indices), *row shape), in that order.

        Shards are visited one after the other and neighbouring rows are read at once, whatever the order asked for.

        Raises
        ------
        InputError, IndexError
            As :meth:`read`.
        """
        wanted = self._wanted(indices)
        order = np.argsort(wanted, kind="stable")
        runs = _runs(wanted[order], self._rows_per_shard)
        result = {}
        for name in self._fields if names is None else names:
            dtype, shape = self._field(name)
            out = np.empty((len(wanted), *shape), dtype)
            for begin, end in runs:
                shard, offset = divmod(int(wanted[order[begin]]), self._rows_per_shard)
                self._fill(shard, name, offset, out[begin:end])
            result[name] = out if _is_sorted(order) else out[np.argsort(order)]
        return result

    def row(self, index: int) -> dict[str, Array]:
        """Return one row of every field; negative numbers count from the end."""
        index = operator.index(index)
        index += self._rows if index < 0 else 0
        return {name: values[0] for name, values in self.rows([index]).items()}

    def verify(self) -> None:
        """Read every byte of every shard and compare its sha256 with the manifest, then check ``index.h5`` if present.

        Raises
        ------
        InputError
            Naming the first shard that is missing or damaged.
        """
        for shard in self._records:
            self._check_hash(shard)
        check_index(self.folder, self._records)

    def close(self) -> None:
        """Close all files; the next read opens them again."""
        self._reset()

    def _fill(self, shard: int, name: str, offset: int, out: Array) -> None:
        """Read rows from ``offset`` on into ``out``, below h5py's indexing: it costs more than the reading itself."""
        self._reset_after_fork()
        with self._lock:
            dataset, space, chunk_rows = self._dataset(shard, name)
            space.select_hyperslab((offset, *(0,) * (out.ndim - 1)), out.shape)
            try:
                dataset.read(h5py.h5s.create_simple(out.shape), space, out)
            except (OSError, RuntimeError) as error:
                row = self._records[shard].first + offset
                raise self._damaged(shard, f'"{name}" from row {row} on: {error}') from None
            if shard not in self._hashed and _has_zero_chunk(out, offset, chunk_rows):
                self._check_hash(shard)

    def _dataset(self, shard: int, name: str) -> _Column:
        opened = self._open.get(shard)
        if opened is None:
            opened = self._open[shard] = self._open_shard(shard)
            while len(self._open) > self.max_open:
                self._open.popitem(last=False)
        else:
            self._open.move_to_end(shard)
        return opened[name]

    def _open_shard(self, shard: int) -> dict[str, _Column]:
        path = self._check_size(shard)
        record = self._records[shard]
        datasets: dict[str, _Column] = {}
        try:
            file = open_hdf5(path)
            for name, (dtype, shape) in self._fields.items():
                dataset = open_dataset(file, name)
                if dataset.shape != (record.rows, *shape) or dataset.dtype != np.dtype(dtype):
                    raise InputError(f'"{name}" is {dataset.dtype} {dataset.shape}, the manifest says otherwise')
                if dataset.chunks is None or not dataset.fletcher32:
                    raise InputError(f'"{name}" is stored without checksums')
                datasets[name] = dataset.id, dataset.id.get_space(), dataset.chunks[0]
        except InputError as error:
            raise self._damaged(shard, str(error)) from None
        return datasets

    def _check_size(self, shard: int) -> Path:
        path = shard_path(self.folder, shard)
        try:
            size = path.stat().st_size
        except OSError:
            raise InputError(f"shard {path} is missing; {_ADVICE}") from None
        if size != self._records[shard].bytes:
            raise self._damaged(shard, f"it has {size:,} bytes instead of {self._records[shard].bytes:,}")
        return path

    def _check_hash(self, shard: int) -> None:
        if sha256_file(self._check_size(shard)) != self._records[shard].sha256:
            raise self._damaged(shard, "its sha256 is not the manifest's")
        self._hashed.add(shard)

    def _damaged(self, shard: int, why: str) -> InputError:
        return InputError(f"shard {shard_path(self.folder, shard)} is damaged ({why}); {_ADVICE}")


_ADVICE = "run the stage that made it again with --verify, which rewrites exactly that shard"


def _runs(rows: Array, rows_per_shard: int) -> list[tuple[int, int]]:
    """Split sorted row numbers into stretches of neighbours inside one shard, as (begin, end) positions."""
    if not len(rows):
        return []
    breaks = (np.diff(rows) != 1) | (rows[1:] % rows_per_shard == 0)
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), len(rows)]
    return list(itertools.pairwise(edges))


def _is_sorted(order: Array) -> bool:
    return bool((order[1:] > order[:-1]).all())


def _has_zero_chunk(rows: Array, offset: int, chunk_rows: int) -> bool:
    """Tell whether all that was read of some chunk is zero bytes.

    The fletcher32 of zeros is zero, so a chunk that was wiped together with its checksum passes HDF5's test.
    """
    peaks = rows.view(np.uint8).reshape(len(rows), -1).max(axis=1) if rows.ndim > 1 else rows != 0
    if chunk_rows > 1:
        first = -offset % chunk_rows
        starts = [0, *range(first, len(rows), chunk_rows)] if first else list(range(0, len(rows), chunk_rows))
        peaks = np.maximum.reduceat(peaks, starts)
    return not peaks.all()
