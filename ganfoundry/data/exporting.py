"""What every format of an export shares: rows in blocks, files recorded as they are written, resume by block.

A block is some rows of one split.  Writing one is a pure function of the block, done by any worker; its files come
first, its two records (``<format>-<index>.rows`` and ``.files``, JSON lines) last, so a block with records is whole.
What a format needs of all rows (COCO's annotations) is then put together from the records, line by line: memory does
not grow with the number of images.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.data.description import SetDescription
from ganfoundry.data.integrity import WholeFile, sha256_file, write_whole
from ganfoundry.data.reader import ShardReader
from ganfoundry.data.splits import SPLITS
from ganfoundry.errors import InputError

Records = Callable[[str], Iterator[dict[str, Any]]]
"""Split -> what its blocks left with :meth:`PartWriter.row`, in order."""
ROWS_AT_ONCE = 64
FIELDS = ("image", "label", "score", "w", "seed")
"""Fields that every labelled set has; ``keypoints`` come with an interpreter that knows some."""


@dataclass(frozen=True)
class ExportSet:
    """Rows to export and what is known of all of them.

    Attributes
    ----------
    shards : Path
        Folder of the labelled set's shards.
    description : SetDescription
    rows : ndarray of int64
        Row numbers, ascending.
    keep : ndarray of bool, as long as rows
        False for a row that the selection dropped.
    split : ndarray of uint8, as long as rows
        Index into ``SPLITS``.
    name, license : str
        Name of the data set and of its licence.
    provenance : mapping
        Where the labelled set comes from: stage, config, inputs, fingerprint.
    fingerprint : str
        Identity of the export.
    """

    shards: Path
    description: SetDescription
    rows: npt.NDArray[np.int64]
    keep: npt.NDArray[np.bool_]
    split: npt.NDArray[np.uint8]
    name: str
    license: str
    provenance: Mapping[str, Any]
    fingerprint: str = ""

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that have rows."""
        return tuple(name for index, name in enumerate(SPLITS) if (self.split == index).any())

    def count(self, split: str) -> int:
        """Number of rows of a split."""
        return int((self.split == SPLITS.index(split)).sum())


@dataclass(frozen=True)
class Block:
    """Some rows of one split, to be written by a worker in one format; picklable.

    Attributes
    ----------
    shards, folder, parts : str
        Where the rows come from; where the files go; where the records go.
    description : SetDescription
    format : str
    index : int
        Number of the block.
    split : str
    number, count : int
        Number of the block among the ``count`` blocks of its split.
    rows : ndarray of int64
    keep : ndarray of bool
    """

    shards: str
    folder: str
    parts: str
    description: SetDescription
    format: str
    index: int
    split: str
    number: int
    count: int
    rows: npt.NDArray[np.int64]
    keep: npt.NDArray[np.bool_]

    @property
    def record(self) -> str:
        """Name of its records, without the ending."""
        return f"{self.format}-{self.index:06d}"


def make_blocks(export: ExportSet, name: str, folder: Path, parts: Path, rows_per_block: int) -> list[Block]:
    """Divide the rows of each split into blocks of at most ``rows_per_block``."""
    blocks: list[Block] = []
    for split in export.splits:
        chosen = np.flatnonzero(export.split == SPLITS.index(split))
        count = -(-len(chosen) // rows_per_block)
        for number in range(count):
            at = chosen[number * rows_per_block : (number + 1) * rows_per_block]
            where = str(export.shards), str(folder), str(parts)
            rows, keep = export.rows[at], export.keep[at]
            blocks.append(Block(*where, export.description, name, len(blocks), split, number, count, rows, keep))
    return blocks


@dataclass(frozen=True)
class Sample:
    """One row.

    Attributes
    ----------
    row : int
        Row in the labelled set.
    image : ndarray, uint8 (H, W, 3)
    label : ndarray, uint8 (H, W)
    keypoints : ndarray, float32 (K, 3), or None
        x, y in pixels of the label map, the centre of the first pixel at 0.5; visibility 0 to 1.
    score : float
        Uncertainty of the image.
    w : ndarray, float32 (w_dim,) or (layers, w_dim)
    seed : int
    keep : bool
    """

    row: int
    image: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    keypoints: npt.NDArray[np.float32] | None
    score: float
    w: npt.NDArray[np.float32]
    seed: int
    keep: bool

    def facts(self) -> dict[str, Any]:
        """What formats with one record an image say of it besides pictures, JSON-ready."""
        found: dict[str, Any] = {"row": self.row, "seed": self.seed, "score": round(self.score, 6), "keep": self.keep}
        if self.keypoints is not None:
            found["keypoints"] = rounded(self.keypoints)
        return found


def rounded(keypoints: npt.NDArray[np.floating[Any]]) -> list[list[float]]:
    """Keypoints (K, 3) as lists; hundredths of a pixel, thousandths of visibility."""
    return [[round(float(x), 2), round(float(y), 2), round(float(v), 3)] for x, y, v in keypoints]


def samples(block: Block) -> Iterator[Sample]:
    """Read the rows of a block, a few at a time.

    Raises
    ------
    InputError
        If a shard is damaged, lacks a field, or a label map holds an id that is no class.
    """
    reader = open_reader(block.shards, _identity(block.shards))
    names = set_fields(reader, block.description)
    for start in range(0, len(block.rows), ROWS_AT_ONCE):
        rows = block.rows[start : start + ROWS_AT_ONCE]
        columns = reader.rows(rows, names)
        check_labels(columns["label"], rows, len(block.description.classes))
        for i, row in enumerate(rows.tolist()):
            yield Sample(
                row,
                columns["image"][i],
                columns["label"][i],
                columns["keypoints"][i] if "keypoints" in columns else None,
                float(columns["score"][i]),
                columns["w"][i],
                int(columns["seed"][i]),
                bool(block.keep[start + i]),
            )


@functools.lru_cache(maxsize=2)
def open_reader(shards: str, identity: tuple[int, int]) -> ShardReader:
    """Reader of a folder, kept by the process; ``identity`` tells a folder from one made anew at its place."""
    return ShardReader(shards)


def _identity(shards: str) -> tuple[int, int]:
    status = os.stat(Path(shards) / "manifest.jsonl")
    return status.st_ino, status.st_mtime_ns


def set_fields(reader: ShardReader, description: SetDescription) -> tuple[str, ...]:
    """Names of the fields to export.

    Raises
    ------
    InputError
        If one is missing, or the keypoints do not have the names' number.
    """
    for name in FIELDS:
        if name not in reader.fields:
            raise InputError(f'{reader.folder} has no field "{name}", so it is no labelled set')
    if "keypoints" not in reader.fields:
        return FIELDS
    shape = reader.fields["keypoints"][1]
    if shape != (len(description.keypoints), 3):
        raise InputError(
            f"{reader.folder} holds keypoints of shape {shape}, but labels.json names {len(description.keypoints)}; "
            "make the labelled set again"
        )
    return (*FIELDS, "keypoints")


def check_labels(labels: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], num_classes: int) -> None:
    """Refuse label maps (N, H, W) with an id that is no class.

    Raises
    ------
    InputError
        Naming the row and the id.
    """
    highest = labels.reshape(len(labels), -1).max(axis=1)
    for row in np.flatnonzero(highest >= num_classes)[:1]:
        raise InputError(
            f"the label map of row {rows[row]} holds the class {highest[row]}, but labels.json names only "
            f"{num_classes} classes; make the labelled set again"
        )


class PartWriter:
    """Writes the files of a block, or those that finish a format, and records them.

    A context manager: the records appear when it is left without an exception.

    Parameters
    ----------
    folder : path
        Folder of the format; made if absent.
    parts : path
        Folder of the records.
    record : str
        Name of the records, without the ending.
    """

    def __init__(self, folder: str | os.PathLike[str], parts: str | os.PathLike[str], record: str) -> None:
        self.folder = Path(folder)
        self._parts, self._record = Path(parts), record
        self._stack = ExitStack()

    def __enter__(self) -> PartWriter:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rows = self._stack.enter_context(WholeFile(self._parts / f"{self._record}.rows"))
        # Left last, hence renamed last: it is what tells that the block is whole.
        self._files = WholeFile(self._parts / f"{self._record}.files").__enter__()
        return self

    def put(self, name: str, data: bytes) -> None:
        """Write one small file, its name relative to the folder."""
        path = self.folder / name
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, data, sync=False)
        self._note(name, len(data), hashlib.sha256(data).hexdigest())

    def big(self, name: str) -> _BigFile:
        """Open one file that is written piece by piece."""
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        return _BigFile(self, name)

    def adopt(self, name: str) -> None:
        """Record a file that was written by other means."""
        path = self.folder / name
        self._note(name, path.stat().st_size, sha256_file(path))

    def row(self, record: Mapping[str, Any]) -> None:
        """Leave a record for the end of the format."""
        self._rows.write(json.dumps(record).encode() + b"\n")

    def _note(self, name: str, size: int, digest: str) -> None:
        self._files.write(json.dumps([name, size, digest]).encode() + b"\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._stack.__exit__(kind, error, trace)
        except BaseException as failure:
            self._files.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._files.__exit__(kind, error, trace)


class _BigFile(WholeFile):
    def __init__(self, part: PartWriter, name: str) -> None:
        super().__init__(part.folder / name)
        self._part, self._name = part, name

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is None:
            self._part._note(self._name, self.size, self.sha256)


def is_recorded(parts: Path, record: str) -> bool:
    """Whether a block, or the end of a format, is whole."""
    return (parts / f"{record}.files").exists()


def row_records(parts: Path, blocks: Iterable[Block]) -> Iterator[dict[str, Any]]:
    """What the blocks left with :meth:`PartWriter.row`, in order."""
    for block in blocks:
        with open(parts / f"{block.record}.rows", "rb") as file:
            for line in file:
                yield json.loads(line)


def file_records(parts: Path, record: str) -> Iterator[tuple[str, int, str]]:
    """Name relative to the format's folder, size and sha256 of the files of a block or of the end of a format."""
    with open(parts / f"{record}.files", "rb") as file:
        for line in file:
            name, size, digest = json.loads(line)
            yield name, size, digest
