"""A folder of shards compared with what it says of itself, byte by byte; every damage is named, none is believed.

:meth:`ShardReader.verify` stops at the first; this goes on, says which rows of which field are lost, and looks at the
manifest line by line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ganfoundry.data.checksums import Damage, check_files
from ganfoundry.data.index import check_index
from ganfoundry.data.integrity import open_dataset, open_hdf5, sha256_file
from ganfoundry.data.manifest import Plan, Record, load_plan, parse_line, shard_path
from ganfoundry.errors import InputError

Progress = Callable[[int], None]
SHARDS = "shards"
BESIDE = ("run.json", "progress.json", "error.log", "track")
"""What the pipeline keeps at the top of an artifact; ``run.json`` lists all else."""


def check_artifact(folder: Path, files: Mapping[str, Any], progress: Progress | None = None) -> list[Damage]:
    """Compare an artifact with the list of files in its run.json, and its shards with their manifest.

    Parameters
    ----------
    folder : Path
        An artifact; it may have a folder ``shards``.
    files : mapping
        Name -> {"bytes": ..., "sha256": ...}; empty for a folder without run.json.
    progress : callable, optional
        Called with 1 after each file.

    Returns
    -------
    list of Damage
        Names relative to the folder.
    """
    found: dict[str, Damage] = {}
    if (folder / SHARDS).is_dir():
        for damage in check_shards(folder / SHARDS, progress):
            name = f"{SHARDS}/{damage.file}"
            if damage.file != "index.h5" or name not in files:  # another version of HDF5 may have written the index
                found.setdefault(name, Damage(name, damage.what))
    if files:
        rest = {name: entry for name, entry in files.items() if not name.startswith(f"{SHARDS}/shard-")}
        for damage in check_files(folder, rest, progress, ignore=(*BESIDE, SHARDS)):
            found.setdefault(damage.file, damage)
    return list(found.values())


def check_shards(folder: Path, progress: Progress | None = None) -> list[Damage]:
    """Compare every shard with the manifest, the manifest with the plan, and ``index.h5`` with both.

    Parameters
    ----------
    folder : Path
        A folder of shards.
    progress : callable, optional
        Called with 1 after each shard.

    Returns
    -------
    list of Damage
        Names relative to the folder; empty if all is as it was written.
    """
    try:
        plan = load_plan(folder)
    except InputError as error:
        return [Damage("config.json", str(error))]
    if plan is None:
        return [Damage("config.json", "is missing: nothing says how many rows there are")]
    records, found = _read_manifest(folder / "manifest.jsonl", plan)
    for task in plan:
        record = records.get(task.index)
        name = shard_path("", task.index).name
        if record is None:
            there = (folder / name).exists()
            what = "has no whole line in manifest.jsonl: it cannot be trusted" if there else "is missing"
            found.append(Damage(name, what))
        else:
            what = _check_shard(folder / name, record)
            if what:
                found.append(Damage(name, what))
        if progress:
            progress(1)
    if len(records) == len(plan):
        try:
            check_index(folder, records)
        except InputError as error:
            found.append(Damage("index.h5", str(error)))
    return found + _strangers(folder, plan)


def _read_manifest(path: Path, plan: Plan) -> tuple[dict[int, Record], list[Damage]]:
    """Return the lines that can be believed, and what is wrong with the others."""
    records: dict[int, Record] = {}
    found: list[Damage] = []
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return {}, [Damage(path.name, "is missing")]
    except OSError as error:
        return {}, [Damage(path.name, f"cannot be read ({error.strerror})")]
    if raw and not raw.endswith(b"\n"):
        found.append(Damage(path.name, "ends in the middle of a line"))
    for number, line in enumerate(raw[: raw.rfind(b"\n") + 1].splitlines(), 1):
        try:
            record = parse_line(line, plan)
        except ValueError as error:
            found.append(Damage(path.name, f"line {number} is damaged ({error})"))
            continue
        if record.shard in records:
            found.append(Damage(path.name, f"line {number} is about shard {record.shard}, as an earlier one is"))
        records[record.shard] = record
    return records, found


def _check_shard(path: Path, record: Record) -> str:
    try:
        size = path.stat().st_size
        if size != record.bytes:
            return f"has {size:,} bytes instead of {record.bytes:,}"
        if sha256_file(path) == record.sha256:
            return ""
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return f"its sha256 is not the manifest's: {diagnose(path, record)}"


def diagnose(path: Path, record: Record) -> str:
    """Say what of a damaged shard can still be read."""
    lost = []
    try:
        with open_hdf5(path) as file:
            for name in record.fields:
                try:
                    dataset = open_dataset(file, name)
                except InputError:
                    lost.append(f'"{name}" is lost')
                    continue
                step = dataset.chunks[0] if dataset.chunks else record.rows
                rows = [row for row in range(0, record.rows, step) if not _readable(dataset, row, step)]
                if rows:
                    more = f" and {len(rows) - 1} more places" if len(rows) > 1 else ""
                    lost.append(f'"{name}" cannot be read at row {record.first + rows[0]}{more}')
    except (InputError, OSError, RuntimeError, KeyError, ValueError):
        return "it cannot be opened"
    return "; ".join(lost) or "every value can be read, but not all bytes are those written"


def _readable(dataset: Any, row: int, step: int) -> bool:
    try:
        dataset[row : row + step]
    except (OSError, RuntimeError):
        return False
    return True


def _strangers(folder: Path, plan: Plan) -> list[Damage]:
    own = {"config.json", "manifest.jsonl", "index.h5", *(shard_path("", task.index).name for task in plan)}
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    return [Damage(name, "does not belong to the data set") for name in names if name not in own]
