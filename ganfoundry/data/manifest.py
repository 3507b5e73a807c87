"""What a folder of shards says about itself: ``config.json`` (the plan) and ``manifest.jsonl`` (what is done).

File names are computed from shard numbers, never read from a file.
"""

from __future__ import annotations

import builtins
import dataclasses
import errno
import importlib.metadata
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ganfoundry.data.integrity import ALLOWED_KINDS, MAX_DATASET_BYTES, explain_write, sync_directory, write_whole
from ganfoundry.errors import InputError, RunError

FORMAT = 1
"""Version of the folder's layout; a reader refuses another one."""
FIELD_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAX_TEXT_BYTES = 1 << 28
_MAX_ROWS = 1 << 48


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """Rows ``first`` (inclusive) to ``stop`` (exclusive) of the data set, which make shard ``index``."""

    index: int
    first: int
    stop: int

    @property
    def rows(self) -> range:
        """Row numbers of the shard."""
        return range(self.first, self.stop)


@dataclasses.dataclass(frozen=True)
class Plan:
    """How many rows there are and how they are divided; ``key`` identifies the configuration that makes them."""

    rows: int
    rows_per_shard: int
    key: str

    def __post_init__(self) -> None:
        if not (isinstance(self.key, str) and all(type(n) is int for n in (self.rows, self.rows_per_shard))):
            raise TypeError("rows and rows_per_shard are integers, key is a string")
        if not (1 <= self.rows <= _MAX_ROWS and 1 <= self.rows_per_shard <= _MAX_ROWS):
            raise ValueError(f"rows and rows_per_shard must be >= 1, got {self.rows} and {self.rows_per_shard}")

    def __len__(self) -> int:
        return -(-self.rows // self.rows_per_shard)

    def __getitem__(self, index: int) -> ShardTask:
        if not 0 <= index < len(self):
            raise IndexError(f"shard {index} of {len(self)}")
        first = index * self.rows_per_shard
        return ShardTask(index, first, min(first + self.rows_per_shard, self.rows))

    def __iter__(self) -> Iterator[ShardTask]:
        return (self[index] for index in range(len(self)))


Fields = Mapping[str, tuple[str, tuple[int, ...]]]
"""Name -> (dtype string as in ``numpy.dtype.str``, shape of one row)."""


@dataclasses.dataclass(frozen=True)
class Record:
    """One line of the manifest: a shard that is whole on disk.

    Attributes
    ----------
    shard, first, rows : int
        Number, first row and number of rows.
    bytes : int
        Size of the file.
    sha256 : str
        Of the file's bytes.
    fields : Fields
        Name -> (dtype, row shape).
    key, code : str
        Key of the configuration and version of the code that wrote it.
    """

    shard: int
    first: int
    rows: int
    bytes: int
    sha256: str
    fields: Fields
    key: str = ""
    code: str = ""

    @classmethod
    def parse(cls, table: Mapping[str, Any]) -> Record:
        """Build a record from JSON, checking every type.

        Raises
        ------
        ValueError, TypeError, KeyError
            If anything is missing or of the wrong kind.
        """
        shard, first, rows, size = numbers = [table[name] for name in ("shard", "first", "rows", "bytes")]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError("shard, first, rows and bytes are integers >= 0")
        if not re.fullmatch(r"[0-9a-f]{64}", table["sha256"]):
            raise ValueError("sha256 is 64 hexadecimal digits")
        fields = {name: parse_field(name, *entry) for name, entry in table["fields"].items()}
        for dtype, shape in fields.values():
            if math.prod((rows, *shape)) * np.dtype(dtype).itemsize > MAX_DATASET_BYTES:
                raise ValueError("a field is absurdly large")
        about = str(table.get("key", "")), str(table.get("code", ""))
        return cls(shard, first, rows, size, table["sha256"], fields, *about)

    def line(self) -> builtins.bytes:
        """Return the record as one line of JSON."""
        return (json.dumps(dataclasses.asdict(self), sort_keys=True) + "\n").encode()


def parse_field(name: str, dtype: str, shape: Iterable[int]) -> tuple[str, tuple[int, ...]]:
    """Check and normalise a field's description.

    Raises
    ------
    ValueError, TypeError
        On a name, type or shape the shards do not store.
    """
    shape = tuple(shape)
    if not isinstance(dtype, str):
        raise TypeError(f"the type of a field is a numpy dtype string, got {dtype!r}")
    if not FIELD_NAME.fullmatch(name):
        raise ValueError(f"field names are lower-case identifiers, got {name!r}")
    if np.dtype(dtype).kind not in ALLOWED_KINDS:
        raise ValueError(f'field "{name}" has type {np.dtype(dtype)}: only fixed-size numbers are stored')
    if len(shape) > 7 or not all(type(n) is int and n > 0 for n in shape):
        raise ValueError(f'field "{name}" has rows of shape {shape}')
    return np.dtype(dtype).newbyteorder("<").str, shape


def shard_path(folder: str | os.PathLike[str], index: int) -> Path:
    """Return the path of a shard."""
    return Path(folder) / f"shard-{index:05d}.h5"


def code_version() -> str:
    """Return the version of the package that writes, for the manifest."""
    try:
        return importlib.metadata.version("ganfoundry")
    except importlib.metadata.PackageNotFoundError:
        return "source"


def load_plan(folder: str | os.PathLike[str]) -> Plan | None:
    """Read ``config.json``; None if the folder has none.

    Raises
    ------
    InputError
        If it is unreadable or of another format.
    """
    path = Path(folder) / "config.json"
    raw = _read_text(path)
    if raw is None:
        return None
    try:
        table = json.loads(raw)
        if table["format"] != FORMAT:
            raise InputError(f"{path} has format {table['format']!r}, this version reads {FORMAT}")
        return Plan(table["rows"], table["rows_per_shard"], table["key"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is damaged ({error}); delete the folder {folder} and run its stage again") from None


def save_plan(folder: str | os.PathLike[str], plan: Plan) -> None:
    """Write ``config.json`` whole."""
    table = {"format": FORMAT, **dataclasses.asdict(plan)}
    write_whole(Path(folder) / "config.json", (json.dumps(table, indent=1) + "\n").encode())


def load_records(folder: str | os.PathLike[str], plan: Plan, *, repair: bool = False) -> dict[int, Record]:
    """Read ``manifest.jsonl``; of several lines about a shard the last one counts.

    Parameters
    ----------
    folder : path
        The shards' folder.
    plan : Plan
        Lines that do not fit it are not believed.
    repair : bool
        True (the writer): a torn last line is cut off the file and unreadable lines are skipped, so that their shards
        are made again.  False (a reader): a torn last line is ignored, an unreadable one is an error.

    Raises
    ------
    InputError
        Without repair, if a line is unreadable.
    """
    path = Path(folder) / "manifest.jsonl"
    raw = _read_text(path) or b""
    whole = raw[: raw.rfind(b"\n") + 1]
    if repair and whole != raw:
        os.truncate(path, len(whole))
    records: dict[int, Record] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            record = parse_line(line, plan)
        except ValueError as error:
            if repair:
                continue
            raise InputError(
                f"line {number} of {path} is damaged ({error}); run the stage that made it again with --verify"
            ) from None
        records[record.shard] = record
    return records


def parse_line(line: bytes, plan: Plan) -> Record:
    """Record of one line of the manifest.

    Raises
    ------
    ValueError
        If it is damaged or does not fit the plan.
    """
    try:
        record = Record.parse(json.loads(line))
        task = plan[record.shard]
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if (record.first, record.rows, record.key) != (task.first, len(task.rows), plan.key):
        raise ValueError("it does not fit config.json")
    return record


def append_record(folder: str | os.PathLike[str], record: Record) -> None:
    """Append one line to the manifest and make it durable.

    Raises
    ------
    RunError
        If it cannot be written; the file is cut back to whole lines.
    """
    path = Path(folder) / "manifest.jsonl"
    line = record.line()
    try:
        with open(path, "ab", buffering=0) as file:
            end = file.tell()
            try:
                if file.write(line) != len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
                if end == 0:
                    sync_directory(folder)
            except OSError:
                os.ftruncate(file.fileno(), end)
                raise
    except OSError as error:
        raise RunError(explain_write(path, len(line), error)) from error


def save_records(folder: str | os.PathLike[str], records: Mapping[int, Record]) -> None:
    """Write the manifest anew, one line a shard in order, so that its bytes do not tell in which order shards came."""
    write_whole(Path(folder) / "manifest.jsonl", b"".join(records[index].line() for index in sorted(records)))


def _read_text(path: Path) -> bytes | None:
    try:
        if path.stat().st_size > _MAX_TEXT_BYTES:
            raise InputError(f"{path} is larger than {_MAX_TEXT_BYTES:,} bytes: refused")
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from None
