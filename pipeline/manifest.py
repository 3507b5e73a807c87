"""What a stage leaves beside its payload: run.json, written last and atomically; progress.json while it works; a lock.

A folder with run.json is finished, one without it is not. run.json lists the payload with sizes and sha256, so a
deleted, damaged or hand-edited file is noticed.
"""

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

RECORD = "run.json"
PROGRESS = "progress.json"
LOCK = ".lock"
ERROR_LOG = "error.log"
TRACK = "track"
BESIDE_PAYLOAD = frozenset({RECORD, PROGRESS, LOCK, ERROR_LOG, TRACK})
EDITABLE_SUFFIXES = frozenset({".json", ".toml", ".csv", ".txt", ".png", ".jpg", ".svg"})
EDITABLE_BYTES = 4 << 20
EDITABLE_FILES = 5000  # nobody edits more by hand, and hashing them on every look would be slow
HASHED_FOLDER_BYTES = 1 << 30
RECORDED_PACKAGES = ("ganfoundry", "torch", "torchvision", "numpy", "h5py", "numba", "scikit-learn", "safetensors")


def digest(value: Any) -> str:
    """Sha256 of a JSON value in canonical form (sorted keys, no spaces), as 64 hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def file_digest(path: Path) -> str:
    """Sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_digest(path: Path) -> str:
    """Identity of a file's or folder's content: names below it and bytes, not where it lies nor its times.

    Of a folder above 1 GiB (a collection of images, say) names and sizes count, so that looking at it stays quick.
    """
    if not path.is_dir():
        return file_digest(path)
    sizes = {name: (path / name).stat().st_size for name in payload_names(path)}
    if sum(sizes.values()) > HASHED_FOLDER_BYTES:
        return digest({"sizes": sizes})
    return digest({name: file_digest(path / name) for name in sizes})


def fingerprint(stage: str, version: int, config: Mapping[str, Any], inputs: Mapping[str, str | None]) -> str:
    """Identity of what a stage makes: its name and version, its config, the fingerprints of its inputs."""
    return digest({"stage": stage, "version": version, "config": dict(config), "inputs": dict(inputs)})


def payload_names(folder: Path) -> list[str]:
    """Files of the payload, relative, sorted; hidden files and what this module writes do not count."""
    names = []
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        relative = Path(root).relative_to(folder)
        if relative == Path():
            folders[:] = [name for name in folders if name != TRACK]
            files = [name for name in files if name not in BESIDE_PAYLOAD]
        names += [(relative / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(names)


def payload_listing(folder: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and sha256 of every payload file."""
    return {
        name: {"bytes": (folder / name).stat().st_size, "sha256": file_digest(folder / name)}
        for name in payload_names(folder)
    }


def damaged_files(folder: Path, record: Mapping[str, Any], *, verify: bool = False) -> list[str]:
    """What is wrong with the payload of a finished folder, as reasons; empty when all is there.

    Sizes are looked at; with `verify` every byte is. Files a person may edit count as damaged only when missing.
    """
    reasons, editable = [], _editable(record)
    for name, entry in record.get("files", {}).items():
        path = folder / name
        if not path.is_file():
            reasons.append(f"output file {name} missing")
        elif name in editable:
            continue
        elif path.stat().st_size != entry["bytes"]:
            reasons.append(f"output file {name} has {path.stat().st_size} bytes, not {entry['bytes']}")
        elif verify and file_digest(path) != entry["sha256"]:
            reasons.append(f"output file {name} damaged (sha256 differs)")
    return reasons


def edited_files(folder: Path, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Small text and picture files whose content is no longer what the stage wrote."""
    return tuple(
        name
        for name, entry in _editable(record).items()
        if (folder / name).is_file() and file_digest(folder / name) != entry["sha256"]
    )


def _editable(record: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = {
        name: entry
        for name, entry in record.get("files", {}).items()
        if Path(name).suffix.lower() in EDITABLE_SUFFIXES and entry["bytes"] <= EDITABLE_BYTES
    }
    return found if len(found) <= EDITABLE_FILES else {}


def read_record(folder: Path) -> dict[str, Any] | None:
    """run.json of a folder; None when there is none or it does not hold a JSON object."""
    return _read_json(folder / RECORD)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """progress.json of a folder that is being filled or was left unfinished."""
    return _read_json(folder / PROGRESS)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that it is either the old one or the new one, whole, whatever happens.

    Temporary file in the same folder, fsync, rename, fsync of the folder.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    temporary = path.with_name(f".tmp-{os.getpid()}-{path.name}")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def remove_torn_writes(folder: Path) -> None:
    """Remove what a killed `write_json` left."""
    for path in folder.glob(".tmp-*.json"):
        path.unlink(missing_ok=True)


def fsync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def empty_folder(folder: Path, *, keep: Collection[str] = ()) -> None:
    """Remove everything but the lock and progress.json; run.json goes first, so no half folder looks finished."""
    (folder / RECORD).unlink(missing_ok=True)
    fsync_folder(folder)
    for entry in folder.iterdir():
        if entry.name in (LOCK, PROGRESS, *keep):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


@contextmanager
def locked(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold the folder's lock: alone to write it, or together with others to read it.

    A folder without a lock file that is only read (a committed one) is not locked.

    Raises
    ------
    UserError
        Another process holds it.
    """
    path = folder / LOCK
    if shared and not path.exists():
        yield
        return
    with path.open("r" if shared else "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"{folder} is in use by another run{_holder(path)}: wait for it to end or stop it, then try again."
            ) from None
        if not shared:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
        yield


def is_being_written(folder: Path) -> bool:
    """Whether a run holds the folder's lock right now."""
    try:
        with locked(folder, shared=True):
            return False
    except UserError:
        return True


def _holder(path: Path) -> str:
    with suppress(OSError, ValueError):
        return f" (process {int(path.read_text('utf-8'))})"
    return ""


def package_versions() -> dict[str, str]:
    """Installed versions of the packages that shape results."""
    from importlib import metadata  # takes a tenth of the time of --help

    versions = {"python": platform.python_version()}
    for name in RECORDED_PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def git_commit() -> str | None:
    """Commit of the source tree this code runs from, with "-dirty" when files differ; None outside a repository."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return result.stdout.strip() or None
