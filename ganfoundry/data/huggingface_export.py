"""An export for the Hugging Face hub: a folder of pictures (``imagefolder``), or parquet files.

    huggingface/train/metadata.jsonl, images/, labels/    readable as it is, for up to some ten thousand images
    parquet/data/train-00000-of-00002.parquet              pictures inside; needs pyarrow (extra "parquet")

Both have a ``README.md`` with the header that the hub reads; ``datasets.load_dataset(FOLDER)`` opens either.
"""

from __future__ import annotations

import importlib.util
import io
import json
from typing import Any

from ganfoundry.data.exporting import Block, ExportSet, PartWriter, Records, Sample, samples
from ganfoundry.data.integrity import WholeFile
from ganfoundry.data.png import encode_png, image_name
from ganfoundry.errors import InputError

HUB_SPLITS = {"train": "train", "val": "validation", "test": "test"}
ROWS_PER_GROUP = 100


def write_folder_block(block: Block, part: PartWriter) -> None:
    """Write the pictures of a block."""
    split = HUB_SPLITS[block.split]
    for sample in samples(block):
        name = image_name(sample.row)
        part.put(f"{split}/images/{name}", encode_png(sample.image))
        part.put(f"{split}/labels/{name}", encode_png(sample.label, block.description.palette))
        part.row({"file_name": f"images/{name}", "label_file_name": f"labels/{name}", **sample.facts()})


def finish_folder(export: ExportSet, records: Records, part: PartWriter) -> dict[str, int]:
    """Write metadata.jsonl of every split."""
    for split in export.splits:
        with part.big(f"{HUB_SPLITS[split]}/metadata.jsonl") as file:
            for record in records(split):
                file.write(json.dumps(record).encode() + b"\n")
    return {}


def require_pyarrow() -> None:
    """Refuse to write parquet without the package that does it.

    Raises
    ------
    InputError
        Saying how to install it.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise InputError(
            'the format parquet needs pyarrow, which is not installed: pip install "ganfoundry[parquet]", or leave it '
            "out of --formats"
        )


def write_parquet_block(block: Block, part: PartWriter) -> None:
    """Write the parquet file of a block, some rows at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(bool(block.description.keypoints))
    name = f"data/{HUB_SPLITS[block.split]}-{block.number:05d}-of-{block.count:05d}.parquet"
    with part.big(name) as file, pq.ParquetWriter(_Sink(file), schema, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for sample in samples(block):
            rows.append(_row(sample, block))
            if len(rows) == ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema))


class _Sink(io.RawIOBase):
    """A whole file as Python's io has it, which is what pyarrow writes to; closing it leaves the whole file open."""

    def __init__(self, file: WholeFile) -> None:
        super().__init__()
        self._file = file

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        return self._file.write(bytes(data))


def _row(sample: Sample, block: Block) -> dict[str, Any]:
    name = image_name(sample.row)
    pictures = {
        "image": {"bytes": encode_png(sample.image), "path": name},
        "label": {"bytes": encode_png(sample.label, block.description.palette), "path": name},
    }
    return pictures | sample.facts() | {"w": sample.w.ravel().tolist()}


def _schema(keypoints: bool) -> Any:
    """Return the columns, with the description that ``datasets`` looks for in the file's metadata."""
    import pyarrow as pa

    picture = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    columns: list[tuple[str, Any, Any]] = [
        ("image", picture, {"_type": "Image"}),
        ("label", picture, {"_type": "Image"}),
        ("row", pa.int64(), _value("int64")),
        ("seed", pa.uint64(), _value("uint64")),
        ("score", pa.float32(), _value("float32")),
        ("keep", pa.bool_(), _value("bool")),
        ("w", pa.list_(pa.float32()), _list(_value("float32"))),
    ]
    if keypoints:
        columns.append(("keypoints", pa.list_(pa.list_(pa.float32())), _list(_list(_value("float32")))))
    features = {name: feature for name, _, feature in columns}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(name, kind) for name, kind, _ in columns], metadata)


def _value(dtype: str) -> dict[str, str]:
    return {"dtype": dtype, "_type": "Value"}


def _list(feature: dict[str, Any]) -> dict[str, Any]:
    return {"feature": feature, "_type": "List"}


def finish_parquet(export: ExportSet, records: Records, part: PartWriter) -> dict[str, int]:
    """Nothing needs all rows."""
    return {}
