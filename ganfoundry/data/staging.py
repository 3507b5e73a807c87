"""An export is made beside the earlier one and takes its place when it is whole.

    out/.new/            the export being made; ``key`` says of what, ``parts`` which of its files are whole
    out/.new/commit.json its files, once all of them are: from then on the change is only carried through

A kill, a full disk or an error leaves the earlier export as it was, and the next run of the same export goes on.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ganfoundry.data.integrity import sync_directory, write_whole
from ganfoundry.errors import RunError

_KEY, _COMMIT, PARTS = "key", "commit.json", ".parts"


class Staging:
    """The folder in which an export is made.

    Parameters
    ----------
    out : path
        Where the export is to be.
    key : str
        Identity of what is made; what another key left unfinished is deleted.  An empty key never goes on.
    names : sequence of str
        Everything an export may have at the top of ``out``; nothing else there is touched.

    Attributes
    ----------
    folder : Path
        Holds the new export's files.
    parts : Path
        Holds the records of finished blocks.
    """

    def __init__(self, out: str | os.PathLike[str], key: str, names: Sequence[str]) -> None:
        self.out, self.names = Path(out), tuple(names)
        self.folder, self._done = self.out / ".new", self.out / ".done"
        self.parts = self.folder / PARTS
        try:
            self._enter(key)
        except OSError as error:
            raise RunError(f"cannot write into {out}: {error.strerror or error}; check its permissions") from error

    def _enter(self, key: str) -> None:
        if self._done.exists():
            shutil.rmtree(self._done)
        if (self.folder / _COMMIT).exists():
            self._carry_through()
        path = self.folder / _KEY
        if not (key and path.exists() and path.read_text("utf-8") == key):
            if self.folder.exists():
                path.unlink(missing_ok=True)
                shutil.rmtree(self.folder)
            self.parts.mkdir(parents=True)
            write_whole(path, key.encode())
        for left_over in self.folder.rglob(".tmp-*"):
            left_over.unlink(missing_ok=True)

    def commit(self) -> None:
        """Put the new export in the place of the earlier one.

        Raises
        ------
        RunError
            If that fails half-way; the next run carries it through.
        """
        try:
            made = [name for name in self.names if (self.folder / name).exists()]
            write_whole(self.folder / _COMMIT, json.dumps(made).encode())
            self._carry_through()
        except OSError as error:
            raise RunError(f"cannot put the export into {self.out}: {error.strerror or error}; run it again") from error

    def _carry_through(self) -> None:
        made = json.loads((self.folder / _COMMIT).read_text("utf-8"))
        for name in self.names:
            new, old = self.folder / name, self.out / name
            if name not in made:
                _remove(old)
            elif new.exists():  # otherwise it was moved before a kill
                if old.is_dir():
                    _remove(old)
                os.replace(new, old)
        sync_directory(self.out)
        os.replace(self.folder, self._done)  # in one step: a half-deleted folder must not look like work to go on with
        shutil.rmtree(self._done)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
