"""Samples as a ``torch.utils.data.Dataset``: from shards, or from the HDF5 file of an export.

A loader asks for a whole batch at once (``__getitems__``), so that each shard is visited once a batch and neighbouring
rows are read together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from ganfoundry.data.description import SetDescription
from ganfoundry.data.export_reader import ExportReader
from ganfoundry.data.reader import ShardReader
from ganfoundry.errors import InputError

Sample = dict[str, torch.Tensor]


class ShardDataset(Dataset[Any]):
    """Samples as they are stored: images ``uint8 (H, W, 3)``, label maps ``uint8 (H, W)``.

    Works with any number of loader workers, started by fork or spawn: files are opened by the process that reads.

    Parameters
    ----------
    source : path or reader
        A finished folder of shards, or a reader of one or of an export.
    fields : iterable of str, optional
        Fields to read, default all.  Ask only for what is used: what is not asked for is not read.
    rows : sequence of int, optional
        Rows that make up the data set, in this order; default all of them.
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
        source: str | os.PathLike[str] | ShardReader | ExportReader,
        fields: Iterable[str] | None = None,
        *,
        rows: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
        where: str | None = None,
        transform: Callable[[Sample], Any] | None = None,
    ) -> None:
        self.reader = source if isinstance(source, ShardReader | ExportReader) else ShardReader(source)
        self.fields = tuple(self.reader.fields if fields is None else fields)
        self.transform = transform
        unknown = [name for name in self.fields if name not in self.reader.fields]
        if unknown:
            raise InputError(f'{source} has no field "{unknown[0]}"; it has {", ".join(self.reader.fields)}')
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


class LabelledDataset(ShardDataset):
    """Image, label map and, where there are any, keypoints of a labelled set or of its export; the same samples.

    Dropped rows are left out.  A sample is a dict: ``image`` uint8 (H, W, 3), ``label`` uint8 (H, W), ``keypoints``
    float32 (K, 3): x, y in pixels, visibility 0 to 1.  :func:`to_network` as the transform makes them ready to train.

    Parameters
    ----------
    path : path
        The folder of a labelled set or of an export, or ``dataset.h5``.
    split : str, optional
        "train", "val" or "test" of an export that was split; default all rows.
    transform : callable, optional
        As for :class:`ShardDataset`.

    Attributes
    ----------
    description : SetDescription
        Classes, colours, keypoint names, sources.

    Raises
    ------
    InputError
        If the path is neither, or the split is unknown or empty.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        split: str | None = None,
        transform: Callable[[Sample], Any] | None = None,
    ) -> None:
        reader, self.description, rows = _open(Path(path), split)
        names = [name for name in ("image", "label", "keypoints") if name in reader.fields]
        super().__init__(reader, names, rows=rows, transform=transform)


def _open(path: Path, split: str | None) -> tuple[ShardReader | ExportReader, SetDescription, npt.NDArray[np.int64]]:
    """Return reader, description and chosen rows."""
    file = path / "dataset.h5" if path.is_dir() else path
    if file.exists():
        reader = ExportReader(file)
        chosen = reader.read("keep").astype(bool)
        if split is not None:
            if split not in reader.splits:
                raise InputError(f'there is no split "{split}" in {file}; it has {", ".join(reader.splits)}')
            chosen &= reader.read("split") == reader.splits.index(split)
            if not chosen.any():
                raise InputError(f'the split "{split}" of {file} is empty; export with --{split}-fraction above 0')
        return reader, reader.description, np.flatnonzero(chosen)
    if not (path / "shards").is_dir():
        raise InputError(f"{path} is neither a labelled set (shards) nor an export with dataset.h5")
    if split is not None:
        raise InputError(f"{path} has no splits: they are made by export --val-fraction; read dataset.h5 of the export")
    from ganfoundry.labels.labelset import kept_rows

    return ShardReader(path / "shards"), SetDescription.load(path / "labels.json"), kept_rows(path)


def to_network(sample: Sample) -> Sample:
    """Make a stored sample ready to train: image float32 (3, H, W) in [-1, 1], label int64 (H, W); the rest stays."""
    image = sample["image"].permute(2, 0, 1).float().div(127.5).sub(1)
    return {**sample, "image": image, "label": sample["label"].long()}
