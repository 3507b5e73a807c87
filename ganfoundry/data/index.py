"""``index.h5``: all shards as one file of virtual datasets, for people and tools that read with plain HDF5.

It is derived from the manifest, can be made again at any time, and is never trusted: HDF5 reads a virtual dataset whose
source is missing as zeros and follows its sources anywhere, so our own reader goes to the shards instead.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ganfoundry.data.integrity import h5py, write_whole
from ganfoundry.data.manifest import Record, shard_path
from ganfoundry.errors import InputError


def write_index(folder: str | os.PathLike[str], records: Mapping[int, Record]) -> None:
    """Write ``index.h5`` whole.

    Parameters
    ----------
    folder : path
        The shards' folder.
    records : mapping
        All of the manifest, shard number -> record.
    """
    write_whole(Path(folder) / "index.h5", encode_index(records))


def encode_index(records: Mapping[int, Record]) -> bytes:
    """Return the bytes of the index; the same records give the same bytes."""
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
        return bytes(file.id.get_file_image())


def check_index(folder: str | os.PathLike[str], records: Mapping[int, Record]) -> None:
    """Compare ``index.h5`` with the manifest, byte by byte; a folder without one passes.

    It is not opened: HDF5 has no checksum on the list of sources, and a damaged one ends the process.

    Raises
    ------
    InputError
        If it is not what :func:`write_index` writes of these records.
    """
    path = Path(folder) / "index.h5"
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
    if found != encode_index(records):
        raise InputError(
            f"{path} does not match manifest.jsonl, or another version of HDF5 wrote it; delete it, "
            "running the stage that made it again with --verify writes a new one"
        )
