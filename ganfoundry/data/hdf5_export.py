"""An export as one HDF5 file, for people who want a file and no folder.  Layout: ``docs/exports.md``.

Every axis has a name and, where it has coordinates, a dimension scale: rows, pixel centres, keypoint names.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.data.exporting import ExportSet, check_labels, set_fields
from ganfoundry.data.guarded import GuardedFile
from ganfoundry.data.integrity import explain_write, h5py, sync_directory
from ganfoundry.data.reader import ShardReader
from ganfoundry.data.splits import SPLITS
from ganfoundry.errors import InputError, RunError

SCHEMA_VERSION = 2
ROWS_AT_ONCE = 64
AXES = {
    "image": ("row", "y", "x", "channel"),
    "label": ("row", "y", "x"),
    "uncertainty": ("row", "y", "x"),
    "keypoints": ("row", "keypoint", "coordinate"),
    "keypoint_spread": ("row", "keypoint"),
    "w": ("row", "latent"),
}
"""Names of the axes of each dataset; all others have rows only."""


def pack_hdf5(
    path: str | os.PathLike[str],
    export: ExportSet,
    *,
    uncertainty_maps: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write an export into one file, whole or not at all; the same rows give the same bytes.

    All datasets carry fletcher32; label maps are deflated, images have a chunk each.

    Parameters
    ----------
    path : path
        The file to write; replaced if it exists.
    export : ExportSet
    uncertainty_maps : bool
        Whether to write the uncertainty of every pixel, too.
    progress : callable, optional
        Called with the number of rows written since the last call.

    Raises
    ------
    InputError
        If a shard is damaged, a field is missing, or a label map holds an id that is no class.
    RunError
        If the file cannot be written.
    """
    path = Path(path)
    reader = ShardReader(export.shards)
    names = set_fields(reader, export.description)
    names += tuple(name for name in ("keypoint_spread",) if name in reader.fields)
    names += ("uncertainty",) if uncertainty_maps else ()
    partial = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
    written = 0
    try:
        with open(partial, "x+b", buffering=0) as raw:
            guard = GuardedFile(raw)
            with h5py.File(guard, "w", libver=("v110", "v110")) as file:
                _write_attributes(file, export)
                _write_columns(file, export)
                _write_rows(file, guard, reader, export, names, progress)
                _write_axes(file, export)
            written = guard.end
            guard.check()
            os.fsync(raw.fileno())
        os.replace(partial, path)
        sync_directory(path.parent)
    except OSError as error:
        raise RunError(explain_write(path, written, error)) from error
    finally:
        partial.unlink(missing_ok=True)


def _write_columns(file: h5py.File, export: ExportSet) -> None:
    """Write what is not in the shards: row, keep, split."""
    columns = {"row": export.rows.astype("<i8"), "keep": export.keep, "split": export.split}
    for name, values in columns.items():
        file.create_dataset(name, data=values, fletcher32=True, chunks=(min(4096, len(values)),), track_times=False)
    file["split"].attrs["names"] = json.dumps(SPLITS)


def _write_rows(
    file: h5py.File,
    guard: GuardedFile,
    reader: ShardReader,
    export: ExportSet,
    names: Sequence[str],
    progress: Callable[[int], None] | None,
) -> None:
    for name in names:
        _create(file, name, reader, len(export.rows))
    for start in range(0, len(export.rows), ROWS_AT_ONCE):
        part = export.rows[start : start + ROWS_AT_ONCE]
        block = reader.rows(part, names)
        check_labels(block["label"], part, len(export.description.classes))
        for name, values in block.items():
            file[name][start : start + len(part)] = values
        guard.check()
        if progress:
            progress(len(part))


def _create(file: h5py.File, name: str, reader: ShardReader, count: int) -> None:
    if name not in reader.fields:
        raise InputError(f'{reader.folder} has no field "{name}"; make the labelled set again')
    dtype, row = reader.fields[name]
    image_like = name in ("image", "label", "uncertainty")
    file.create_dataset(
        name,
        (count, *row),
        dtype,
        chunks=(1 if image_like else min(16 if row else 4096, count), *row),
        compression=4 if name == "label" else None,
        fletcher32=True,
        track_times=False,
    )


def _write_axes(file: h5py.File, export: ExportSet) -> None:
    """Name every axis and attach its coordinates: row numbers, pixel centres, names of the keypoints."""
    height, width = file["label"].shape[1:]
    scales: dict[str, npt.NDArray[Any]] = {
        "y": np.arange(height, dtype=np.float32) + np.float32(0.5),
        "x": np.arange(width, dtype=np.float32) + np.float32(0.5),
        "channel": _text(["red", "green", "blue"]),
        "coordinate": _text(["x", "y", "visibility"]),
    }
    if export.description.keypoints:
        scales["keypoint"] = _text(export.description.keypoints)
    else:
        del scales["coordinate"]
    for name, values in scales.items():
        file.create_dataset(name, data=values, track_times=False)
        file[name].make_scale(name)
    file["row"].make_scale("row")
    for name, dataset in sorted(file.items()):
        if name in (*scales, "row"):
            continue
        for axis, label in enumerate(AXES.get(name, ("row",))[: dataset.ndim]):
            dataset.dims[axis].label = label
            if label in file:
                dataset.dims[axis].attach_scale(file[label])


def _text(words: Sequence[str]) -> npt.NDArray[Any]:
    """Return words as UTF-8 of one fixed length, which any HDF5 reader understands."""
    encoded = [word.encode() for word in words]
    return np.array(encoded, h5py.string_dtype("utf-8", max(map(len, encoded))))


def _write_attributes(file: h5py.File, export: ExportSet) -> None:
    description = export.description
    attributes: Mapping[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": export.name,
        "license": export.license,
        "classes": json.dumps(description.classes),
        "palette": np.array(description.palette, np.uint8),
        "keypoint_names": json.dumps(description.keypoints),
        "level": description.level,
        "generator_sha256": description.generator_sha256,
        "interpreter_sha256": description.interpreter_sha256,
        "recipe": json.dumps(description.recipe, sort_keys=True),
        "provenance": json.dumps(export.provenance, sort_keys=True),
        "fingerprint": export.fingerprint,
    }
    for name, value in attributes.items():
        file.attrs[name] = value
