"""The formats of an export: what a worker writes of a block of rows, and what is written once all blocks are there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ganfoundry.data import coco_export, huggingface_export, png_export, webdataset_export
from ganfoundry.data.exporting import Block, ExportSet, PartWriter, Records

ROWS_PER_BLOCK = 128


@dataclass(frozen=True)
class Format:
    """A format made of blocks.

    Attributes
    ----------
    write : block, part writer -> None
        Writes the files of a block; runs in a worker.
    finish : export, records of a split's blocks, part writer -> figures
        Writes what needs all rows; runs in the driver.
    one_file : bool
        Whether a block is one file: its number of rows is then the user's choice.
    """

    write: Callable[[Block, PartWriter], None]
    finish: Callable[[ExportSet, Records, PartWriter], dict[str, int]]
    one_file: bool = False


FORMATS = {
    "coco": Format(coco_export.write_block, coco_export.finish),
    "webdataset": Format(webdataset_export.write_block, webdataset_export.finish, one_file=True),
    "huggingface": Format(huggingface_export.write_folder_block, huggingface_export.finish_folder),
    "parquet": Format(huggingface_export.write_parquet_block, huggingface_export.finish_parquet, one_file=True),
    "png": Format(png_export.write_block, png_export.finish),
}
"""HDF5, one file for all rows, is :func:`ganfoundry.data.hdf5_export.pack_hdf5`."""


def export_block(block: Block) -> int:
    """Write one block in its format; return its number.  A picklable top-level function for workers."""
    with PartWriter(block.folder, block.parts, block.record) as part:
        FORMATS[block.format].write(block, part)
    return block.index
