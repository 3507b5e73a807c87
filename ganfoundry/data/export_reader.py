"""``dataset.h5`` of an export, read like a folder of shards: lazily, in any process, without trusting it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.data.description import SetDescription
from ganfoundry.data.integrity import h5py, open_dataset, open_hdf5
from ganfoundry.data.manifest import Fields
from ganfoundry.data.row_reader import RowReader
from ganfoundry.errors import InputError

MAX_BYTES = 1 << 42
"""Largest uncompressed size of a field: it is read in pieces."""
COLUMNS = (
    "image",
    "label",
    "keypoints",
    "keypoint_spread",
    "score",
    "w",
    "seed",
    "row",
    "keep",
    "split",
    "uncertainty",
)


class ExportReader(RowReader):
    """Rows of an export's HDF5 file; the file is opened by the process that reads, so it may be sent to workers.

    Parameters
    ----------
    path : path
        ``dataset.h5``.

    Attributes
    ----------
    path : Path
    description : SetDescription
        Classes, colours, keypoints, sources.
    splits : tuple of str
        Names; the field ``split`` holds the index.

    Raises
    ------
    InputError
        If the file is missing, damaged, or no export.
    """

    _OWN = ("_opened",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self.path = Path(path)
        file = self._file()
        try:
            table = {name: json.loads(file.attrs[name]) for name in ("classes", "keypoint_names", "recipe")}
            table |= {name: str(file.attrs[name]) for name in ("level", "generator_sha256", "interpreter_sha256")}
            palette = np.asarray(file.attrs["palette"]).tolist()
            named = {"keypoints": table["keypoint_names"], "palette": palette}
            self.description = SetDescription.parse({**table, **named, **table["recipe"]})
            self.splits = tuple(map(str, json.loads(file["split"].attrs["names"])))
            found = {name: open_dataset(file, name, max_bytes=MAX_BYTES) for name in COLUMNS if name in file}
            self._fields: Fields = {name: (data.dtype.str, data.shape[1:]) for name, data in found.items()}
            lengths = {data.shape[0] for data in found.values()}
            if len(lengths) != 1 or not {"image", "label"} <= set(found):
                raise ValueError("it lacks image or label, or its fields have different lengths")
            (self._rows,) = lengths
        except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError, IndexError) as error:
            raise InputError(f"{path} is damaged, or no export of this version ({error}); export again") from None

    def _reset(self) -> None:
        super()._reset()
        self._opened: h5py.File | None = None

    def read(self, name: str) -> npt.NDArray[Any]:
        """Return all rows of one field.

        Raises
        ------
        InputError
            If there is no such field, or it is damaged.
        """
        return self.rows(np.arange(self._rows), [name])[name]

    def rows(self, indices: Any, names: Iterable[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return the given rows of the given fields (default all), each (len(indices), *row shape), in that order.

        Raises
        ------
        InputError
            If there is no such field, or it is damaged.
        IndexError
            If the rows are not all there.
        """
        wanted = self._wanted(indices)
        order = np.argsort(wanted, kind="stable")
        breaks = np.flatnonzero(np.diff(wanted[order]) != 1) + 1
        runs = [run for run in np.split(order, breaks) if len(run)]
        result = {}
        for name in self._fields if names is None else names:
            dtype, shape = self._field(name)
            out = np.empty((len(wanted), *shape), dtype)
            for run in runs:
                out[run] = self._read(name, int(wanted[run[0]]), len(run))
            result[name] = out
        return result

    def _read(self, name: str, start: int, count: int) -> npt.NDArray[Any]:
        self._reset_after_fork()
        with self._lock:
            try:
                values: npt.NDArray[Any] = self._file()[name][start : start + count]
            except (OSError, RuntimeError, KeyError) as error:
                raise InputError(
                    f'{self.path} is damaged ("{name}" from row {start} on: {error}); export again'
                ) from None
        return values

    def _file(self) -> h5py.File:
        if self._opened is None:
            self._opened = open_hdf5(self.path)
        return self._opened
