"""``checksums.json`` of an export: size and sha256 of every file; and the export compared with it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganfoundry.data.integrity import WholeFile, sha256_file
from ganfoundry.errors import InputError

NAME = "checksums.json"


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written: its name relative to the data set, and what is wrong."""

    file: str
    what: str


def write_checksums(folder: Path, fingerprint: str, files: Iterable[tuple[str, int, str]]) -> None:
    """Write checksums.json, never holding more than one entry.

    Parameters
    ----------
    folder : Path
    fingerprint : str
        Identity of the export.
    files : iterable of (name, bytes, sha256)
        Names relative to the folder.
    """
    with WholeFile(folder / NAME) as file:
        head = {"format": "ganfoundry-checksums-1", "fingerprint": fingerprint}
        file.write(json.dumps(head)[:-1].encode() + b', "files": {')
        for index, (name, size, digest) in enumerate(files):
            entry = f"{json.dumps(name)}: {json.dumps({'bytes': size, 'sha256': digest})}"
            file.write(("" if index == 0 else ",").encode() + b"\n" + entry.encode())
        file.write(b"\n}}\n")


def read_checksums(folder: Path) -> dict[str, Any]:
    """Read checksums.json: name -> {"bytes": ..., "sha256": ...}.

    Raises
    ------
    InputError
        If it is missing or damaged, or names a file outside the folder.
    """
    path = folder / NAME
    try:
        files = json.loads(path.read_text("utf-8"))["files"]
        for name, entry in files.items():
            if not (type(entry["bytes"]) is int and isinstance(entry["sha256"], str)):
                raise ValueError(f"the entry of {name} has no bytes and sha256")
            if name.startswith("/") or ".." in name.split("/"):
                raise ValueError(f"{name} lies outside the folder")
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the export is unfinished, or not whole; export again") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({error}); export again") from None
    return dict(files)


def check_files(
    folder: Path, files: dict[str, Any], progress: Callable[[int], None] | None = None, *, ignore: Iterable[str] = ()
) -> list[Damage]:
    """Compare every file with its size and sha256, and name the files that do not belong.

    Parameters
    ----------
    folder : Path
    files : mapping
        Name -> {"bytes": ..., "sha256": ...}.
    progress : callable, optional
        Called with 1 after each file.
    ignore : iterable of str
        Names at the top of the folder that are not looked at; hidden names never are.

    Returns
    -------
    list of Damage
    """
    found = []
    for name, entry in files.items():
        what = _compare(folder / name, entry)
        if what:
            found.append(Damage(name, what))
        if progress:
            progress(1)
    strangers = [name for name in _names(folder, set(ignore)) if name not in files]
    return found + [Damage(name, "does not belong to the data set") for name in sorted(strangers)]


def _compare(path: Path, entry: dict[str, Any]) -> str:
    try:
        size = path.stat().st_size
        if size != entry["bytes"]:
            return f"has {size:,} bytes instead of {entry['bytes']:,}"
        return "" if sha256_file(path) == entry["sha256"] else "its sha256 is not the one recorded"
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _names(folder: Path, ignore: set[str]) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        relative = Path(root).relative_to(folder)
        top = relative == Path()
        folders[:] = [name for name in folders if not name.startswith(".") and not (top and name in ignore)]
        for name in files:
            if not name.startswith(".") and not (top and name in ignore):
                yield (relative / name).as_posix()
