"""``index.h5``: all shards as one file of virtual datasets, for people and tools that read with plain HDF5.

It is derived from the manifest, can be made again at any time, and is never trusted: HDF5 reads a virtual dataset whose
source is missing as zeros and follows its sources anywhere, so our own reader goes to the shards instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ganfoundry.data.integrity import check_dataset, h5py, open_hdf5, write_whole
from ganfoundry.data.manifest import Record, shard_path
from ganfoundry.errors import InputError


def write_index(folder: str | os.PathLike[str], records: Mapping[int, Record]) -> None:
    """Write ``index.h5`` whole; the same shards give the same bytes.

    Parameters
    ----------
    folder : path
        The shards' folder.
    records : mapping
        All of the manifest, shard number -> record.
    """
    total = sum(record.rows for record in records.values())
    with h5py.File("index", "w", driver="core", backing_store=False, libver=("v110", "v110")) as file:
        for name, (dtype, row) in sorted(records[0].fields.items()):
            space = h5py.h5s.create_simple((total, *row))
            plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            plist.set_obj_track_times(False)
            for index in sorted(records):
                record = records[index]
                space.select_hyperslab((record.first, *(0,) * len(row)), (record.rows, *row))
                source = shard_path("", index).name.encode()
                plist.set_virtual(space, source, name.encode(), h5py.h5s.create_simple((record.rows, *row)))
            space.select_all()
            kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
            h5py.h5d.create(file.id, name.encode(), kind, space, plist)
        file.flush()
        image = file.id.get_file_image()
    write_whole(Path(folder) / "index.h5", image)


def check_index(folder: str | os.PathLike[str], records: Mapping[int, Record]) -> None:
    """Compare ``index.h5`` with the manifest; a folder without one passes.

    Raises
    ------
    InputError
        If it names other files, datasets or rows than the manifest's shards.
    """
    path = Path(folder) / "index.h5"
    if not path.exists():
        return
    try:
        with open_hdf5(path) as file:
            for name, (dtype, row) in records[0].fields.items():
                if type(file.get(name, getlink=True)) is not h5py.HardLink:
                    raise InputError(f'"{name}" is missing or a link')
                _check_field(file[name], name, dtype, row, records)
            if set(file) != set(records[0].fields):
                raise InputError("it has datasets which the shards have not")
    except (InputError, OSError, RuntimeError, KeyError, ValueError) as error:
        raise InputError(
            f"{path} does not match manifest.jsonl ({error}); delete it, "
            "running the stage that made it again with --verify writes a new one"
        ) from None


def _check_field(
    dataset: h5py.Dataset, name: str, dtype: str, row: tuple[int, ...], records: Mapping[int, Record]
) -> None:
    check_dataset(dataset, virtual=True)
    total = sum(record.rows for record in records.values())
    if not dataset.is_virtual or dataset.shape != (total, *row) or dataset.dtype != np.dtype(dtype):
        raise InputError(f'"{name}" is not the virtual dataset of the shards')
    sources = dataset.virtual_sources()
    if len(sources) != len(records):
        raise InputError(f'"{name}" has {len(sources)} sources for {len(records)} shards')
    for source, index in zip(sources, sorted(records), strict=True):
        record = records[index]
        low, high = source.vspace.get_select_bounds()
        expected = ((record.first, *(0,) * len(row)), (record.first + record.rows - 1, *(n - 1 for n in row)))
        if (source.file_name, source.dset_name) != (shard_path("", index).name, name) or (low, high) != expected:
            raise InputError(f'"{name}" takes rows {low[0]} to {high[0]} from {source.file_name!r}')
