"""What describes an export: README.md, gallery.png, statistics.json, croissant.json, checksums.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ganfoundry.data.card import CONTENTS, data_card, hub_header
from ganfoundry.data.checksums import write_checksums
from ganfoundry.data.croissant import croissant
from ganfoundry.data.exporting import ExportSet, PartWriter, file_records
from ganfoundry.data.gallery import draw_rows
from ganfoundry.data.reader import ShardReader
from ganfoundry.data.statistics import summarise
from ganfoundry.pictures import png_bytes

OWN_CARD = ("huggingface", "parquet")
"""Formats whose folder has a card of its own, with the header that the hub reads."""


def describe(
    export: ExportSet,
    folder: Path,
    parts: Path,
    formats: Sequence[str],
    records: Sequence[str],
    total: int,
    dropped: Sequence[Mapping[str, Any]],
    *,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write them, once every format is whole.

    Parameters
    ----------
    export : ExportSet
    folder : Path
        Where the formats lie.
    parts : Path
        Where their records lie.
    formats, records : sequences of str
        Names of the formats, and of their records.
    total : int
        Rows of the labelled set.
    dropped : sequence of mapping
        ``reason`` and ``images`` of what the selection dropped.
    progress : callable, optional
        Called with the number of rows counted since the last call.
    """
    keep = np.zeros(total, bool)
    keep[export.rows[export.keep]] = True
    reader = ShardReader(export.shards)
    statistics = summarise(reader, export.description, keep, progress)
    splits = {split: export.count(split) for split in export.splits}
    table = {"name": export.name, "splits": splits, **statistics.to_dict(), "reasons": list(dropped)}
    picture = png_bytes(
        draw_rows(reader, export.description, export.rows[export.keep] if export.keep.any() else export.rows)
    )
    present = [name for name in CONTENTS if name in formats or name.endswith((".png", ".json"))]
    present = [*(["dataset.h5"] if "hdf5" in formats else []), *present]
    card = data_card(export, statistics, dropped, present)
    for name in OWN_CARD:
        if name in formats:
            with PartWriter(folder / name, parts, f"{name}-card") as part:
                part.put("README.md", (hub_header(export, name) + card).encode())
                part.put("gallery.png", picture)
            records = [*records, f"{name}-card"]
    folders = [name for name in formats if name != "hdf5"]
    hdf5 = [entry[1:] for entry in _files(parts, records) if entry[0] == "dataset.h5"]
    metadata = croissant(export, (statistics.height, statistics.width), folders, hdf5[0] if hdf5 else None)
    with PartWriter(folder, parts, "describe") as part:
        part.put("README.md", card.encode())
        part.put("gallery.png", picture)
        part.put("statistics.json", _json(table))
        part.put("croissant.json", _json(metadata))
    write_checksums(folder, export.fingerprint, _files(parts, [*records, "describe"]))


def _files(parts: Path, records: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Return name, size and sha256 of every file."""
    for record in records:
        form = record.split("-")[0]
        prefix = "" if form in ("hdf5", "describe") else f"{form}/"
        for name, size, digest in file_records(parts, record):
            yield prefix + name, size, digest


def _json(table: Mapping[str, Any]) -> bytes:
    return (json.dumps(table, indent=1, ensure_ascii=False) + "\n").encode()
