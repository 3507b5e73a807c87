"""Shards as a ``torch.utils.data.Dataset``.

A loader asks for a whole batch at once (``__getitems__``), so that each shard is visited once a batch and neighbouring
rows are read together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ganfoundry.data.reader import ShardReader
from ganfoundry.errors import InputError

Sample = dict[str, torch.Tensor]


class ShardDataset(Dataset[Any]):
    """Samples of a folder of shards, as they are stored: images ``uint8 (H, W, 3)``, label maps ``uint8 (H, W)``.

    Works with any number of loader workers, started by fork or spawn: files are opened by the process that reads.

    Parameters
    ----------
    folder : path
        A finished folder of shards.
    fields : iterable of str, optional
        Fields to read, default all.  Ask only for what is used: what is not asked for is not read.
    rows : sequence of int, optional
        Rows of the folder that make up the data set, in this order; default all of them.
    where : str, optional
        Name of a boolean field, for instance ``"keep"``: rows where it is false are left out.
    transform : callable, optional
        Called with the sample, a dict of tensors, in the worker; its result is what the loader collates.  To be sent to
        spawned workers it must be a top-level function or a picklable object.

    Raises
    ------
    InputError
        If the folder or a field does not exist; when reading, if a shard is missing or damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        fields: Iterable[str] | None = None,
        *,
        rows: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
        where: str | None = None,
        transform: Callable[[Sample], Any] | None = None,
    ) -> None:
        self.reader = ShardReader(folder)
        self.fields = tuple(self.reader.fields if fields is None else fields)
        self.transform = transform
        unknown = [name for name in self.fields if name not in self.reader.fields]
        if unknown:
            raise InputError(f'{folder} has no field "{unknown[0]}"; it has {", ".join(self.reader.fields)}')
        self.rows = np.arange(len(self.reader)) if rows is None else np.asarray(rows, np.int64)
        if where is not None:
            self.rows = self.rows[self.reader.read(where).astype(bool)[self.rows]]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a batch, in the order asked for."""
        columns = self.batch(indices)
        samples = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return samples if self.transform is None else [self.transform(sample) for sample in samples]

    def batch(self, indices: Sequence[int]) -> Sample:
        """Return a batch as it lies in the file, each field one tensor (len(indices), ...), without the transform."""
        arrays = self.reader.rows(self.rows[np.asarray(indices, np.int64)], self.fields)
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
