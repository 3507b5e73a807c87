"""What a stage made before: put away while another result is made in its folder, brought back if the stage refuses.

    folder/.earlier/    the finished output as it was, until the new one is whole

A stage that refuses its input (exit code 2) before it has made anything leaves its folder as it found it. A run that
was interrupted or failed leaves the earlier output put away: the same command goes on with the new one, the earlier
settings bring the earlier one back.
Every step is a rename within the folder, and one that a kill cut short is carried through by the next run.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline import manifest

FOLDER = ".earlier"
_STAYS = frozenset({manifest.LOCK, manifest.PROGRESS, FOLDER})


def read_record(folder: Path) -> dict[str, Any] | None:
    """run.json of what is put away; None where there is nothing."""
    return manifest.read_record(folder / FOLDER)


def put_away(folder: Path) -> None:
    """Move a finished output into `.earlier`, run.json last: while it is in its place, nothing has been decided."""
    _remove(folder / FOLDER)
    (folder / FOLDER).mkdir()
    _move(folder, folder / FOLDER)


def settle(folder: Path) -> None:
    """Carry through what a kill cut short; nothing where all is settled."""
    if not (folder / FOLDER).is_dir():
        return
    if (manifest.read_progress(folder) or {}).get("returning"):
        bring_back(folder)
    elif (folder / manifest.RECORD).exists() and (folder / FOLDER / manifest.RECORD).exists():
        _remove(folder / FOLDER)  # the new output was whole
    elif (folder / manifest.RECORD).exists():
        _move(folder / FOLDER, folder)  # put away in part only
        (folder / FOLDER).rmdir()


def bring_back(folder: Path) -> None:
    """Put the earlier output in the place of whatever lies in the folder."""
    progress = manifest.read_progress(folder) or {}
    if not progress.get("returning"):
        manifest.write_json(folder / manifest.PROGRESS, {**progress, "emptying": True})
        manifest.empty_folder(folder, keep=(FOLDER,))
        manifest.write_json(folder / manifest.PROGRESS, {**progress, "emptying": True, "returning": True})
    _move(folder / FOLDER, folder)
    (folder / manifest.PROGRESS).unlink(missing_ok=True)
    (folder / FOLDER).rmdir()


def forget(folder: Path) -> None:
    """Remove what is put away, after the new output is whole."""
    _remove(folder / FOLDER)


def nothing_made(folder: Path) -> bool:
    """Whether the folder holds nothing yet that the new run could go on with."""
    return not set(os.listdir(folder)) - _STAYS - {manifest.TRACK}


def untouched(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether a folder's payload is still what its record lists, as far as names, sizes and small files tell."""
    listed = sorted(record.get("files", {})) == manifest.payload_names(folder)
    return listed and not manifest.damaged_files(folder, record) and not manifest.edited_files(folder, record)


def _move(source: Path, target: Path) -> None:
    """Rename every entry into another folder, run.json last."""
    names = sorted(set(os.listdir(source)) - _STAYS, key=lambda name: name == manifest.RECORD)
    for name in names:
        if name == manifest.RECORD:
            manifest.fsync_folder(target)
        os.replace(source / name, target / name)
    manifest.fsync_folder(source)
    manifest.fsync_folder(target)


def _remove(folder: Path) -> None:
    if folder.is_dir():
        (folder / manifest.RECORD).unlink(missing_ok=True)
        shutil.rmtree(folder)
