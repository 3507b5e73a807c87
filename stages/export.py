"""export: write a labelled set in other people's formats, with a card, for use without this project.

Formats: hdf5 (one file, dataset.h5), coco (masks and keypoints), webdataset (tar files), huggingface (imagefolder),
parquet (needs pyarrow), png (plain folders). README.md is the data set card, gallery.png shows samples,
statistics.json and croissant.json describe the set for machines, checksums.json holds the sha256 of every file. Rows
that the selection dropped are left out unless asked for. The new export takes the place of an earlier one when it is
whole, not before.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Export, LabelledSet, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from ganfoundry.data.exporting import ExportSet
    from ganfoundry.data.staging import Staging

FORMATS = ("hdf5", "coco", "webdataset", "huggingface", "parquet", "png")
TOP = (
    *("dataset.h5", *FORMATS[1:]),
    *("README.md", "gallery.png", "statistics.json", "croissant.json", "checksums.json"),
)
"""Everything that an export may have at its top."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the export."""

    formats: tuple[str, ...] = param(("hdf5", "coco"), "Formats to write, separated by commas.", choices=FORMATS)
    license: str = param("unspecified", "Licence of the data set, as it stands in every format and on the card.")
    dataset_name: str = param("", "Name of the data set; by default the schema's name and the number of images.")
    val_fraction: float = param(0.0, "Share of the samples for validation.", min=0.0, max=0.9)
    test_fraction: float = param(0.0, "Share of the samples for testing.", min=0.0, max=0.9)
    split_seed: int = param(0, "Another seed gives other validation and test samples.", min=0)
    include_dropped: bool = param(False, "Write the rows that the selection dropped, too (keep is false for them).")
    uncertainty_maps: bool = param(False, "Write the uncertainty of every pixel into the HDF5 file.")
    rows_per_file: int = param(1000, "Images in one tar or parquet file.", min=1)


def run(config: Config, labelled_set: LabelledSet, out: Writer[Export], ctx: Context) -> None:
    """Write every format; an interrupted export goes on with the first block of rows that is not whole.

    Rows that show one object (of the same `object`, or of the same seed) go to the same split.
    """
    from ganfoundry.data.huggingface_export import require_pyarrow
    from ganfoundry.data.staging import Staging

    if not config.formats:
        raise UserError(f"nothing to write: name at least one of --formats {','.join(FORMATS)}.")
    if "parquet" in config.formats:
        require_pyarrow()
    export, total = _export_set(config, labelled_set, out.fingerprint)
    staging = Staging(out.path, "" if ctx.verify else out.fingerprint, TOP)
    out.figure("images", len(export.rows))
    out.figure("left_out", total - len(export.rows))
    out.figure("classes", len(export.description.classes))
    records = []
    for name in FORMATS:
        if name == "hdf5" and name in config.formats:
            records.append(_write_hdf5(config, export, staging, ctx))
            out.figure("hdf5_mb", round((staging.folder / "dataset.h5").stat().st_size / 1e6, 1))
        elif name in config.formats:
            figures, found = _write_blocks(name, export, staging, ctx, config.rows_per_file)
            records += found
            for figure, value in figures.items():
                out.figure(figure, value)
    _describe(config, labelled_set, export, staging, ctx, records)
    staging.commit()


def _export_set(config: Config, labelled_set: LabelledSet, fingerprint: str) -> "tuple[ExportSet, int]":
    """Return what is to be exported, and the number of rows of the labelled set."""
    import numpy as np

    from ganfoundry.data.description import SetDescription
    from ganfoundry.data.exporting import ExportSet, set_fields
    from ganfoundry.data.reader import ShardReader
    from ganfoundry.data.splits import assign_splits
    from ganfoundry.labels.labelset import kept_rows

    folder = labelled_set.path
    description = SetDescription.load(folder / "labels.json")
    reader = ShardReader(folder / "shards")
    set_fields(reader, description)
    kept = kept_rows(folder)
    if len(kept) and kept[-1] >= len(reader):
        raise UserError(f"selection.json in {folder} keeps row {kept[-1]} of {len(reader)}: run synthesize again.")
    rows = np.arange(len(reader)) if config.include_dropped else kept
    if not len(rows):
        raise UserError(f"{folder} has no row that is kept: lower its filter_fraction or use --include-dropped.")
    groups = reader.read("object" if "object" in reader.fields else "seed")[rows]
    record = labelled_set.record
    made = ExportSet(
        shards=folder / "shards",
        description=description,
        rows=rows,
        keep=np.isin(rows, kept),
        split=assign_splits(groups, config.val_fraction, config.test_fraction, config.split_seed),
        name=config.dataset_name or f"{description.recipe.get('schema', 'labelled')}-{len(rows)}",
        license=config.license,
        provenance={
            name: record[name] for name in ("fingerprint", "stage", "config", "inputs", "seed") if name in record
        },
        fingerprint=fingerprint,
    )
    return made, len(reader)


def _write_hdf5(config: Config, export: "ExportSet", staging: "Staging", ctx: Context) -> str:
    """Write dataset.h5 unless it is whole; return the name of its record."""
    from ganfoundry.data.exporting import PartWriter, is_recorded
    from ganfoundry.data.hdf5_export import pack_hdf5

    record = "hdf5-finish"
    if not is_recorded(staging.parts, record):
        with ctx.progress("writing dataset.h5", len(export.rows)) as bar:
            path, maps = staging.folder / "dataset.h5", config.uncertainty_maps
            pack_hdf5(path, export, uncertainty_maps=maps, progress=bar.advance)
        with PartWriter(staging.folder, staging.parts, record) as part:
            part.adopt("dataset.h5")
    return record


def _write_blocks(
    name: str, export: "ExportSet", staging: "Staging", ctx: Context, rows_per_file: int
) -> "tuple[dict[str, int], list[str]]":
    """Write the blocks of a format that are not whole, then what needs all rows; return figures and records."""
    from ganfoundry.data.exporting import PartWriter, is_recorded, make_blocks, row_records
    from ganfoundry.data.formats import FORMATS as WRITERS
    from ganfoundry.data.formats import ROWS_PER_BLOCK, export_block

    form = WRITERS[name]
    rows_per_block = rows_per_file if form.one_file else ROWS_PER_BLOCK
    blocks = make_blocks(export, name, staging.folder / name, staging.parts, rows_per_block)
    pending = [block for block in blocks if not is_recorded(staging.parts, block.record)]
    if pending:
        for _ in ctx.executor.map(export_block, pending, f"writing {name}"):
            pass

    def records(split: str) -> "Iterator[dict[str, Any]]":
        return row_records(staging.parts, (block for block in blocks if block.split == split))

    finish = f"{name}-finish"
    if not is_recorded(staging.parts, finish):
        with PartWriter(staging.folder / name, staging.parts, finish) as part:
            part.row(form.finish(export, records, part))
    figures = json.loads((staging.parts / f"{finish}.rows").read_text("utf-8"))
    return figures, [*(block.record for block in blocks), finish]


def _describe(
    config: Config, labelled_set: LabelledSet, export: "ExportSet", staging: "Staging", ctx: Context, records: list[str]
) -> None:
    """Write the card, the gallery, the statistics, the metadata, and the checksums of everything."""
    from ganfoundry.data.description_files import describe

    selection = json.loads((labelled_set.path / "selection.json").read_text("utf-8"))
    reasons = Counter(str(entry.get("reason", "not recorded")) for entry in selection["dropped"])
    with ctx.progress("counting classes", len(export.rows)) as bar:
        describe(
            export,
            staging.folder,
            staging.parts,
            [name for name in FORMATS if name in config.formats],
            records,
            selection["rows"],
            [{"reason": reason, "images": count} for reason, count in reasons.items()],
            progress=bar.advance,
        )


command = stage_command(
    "export",
    Config,
    run,
    version=2,
    keeps_earlier=True,
    example='python cli.py export --run demo --formats hdf5,coco,webdataset --val-fraction 0.1 --license "CC0-1.0"',
)
