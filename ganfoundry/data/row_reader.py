"""What readers of rows share: fields and their names, and files that each process opens for itself."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ganfoundry.data.manifest import Fields
from ganfoundry.errors import InputError


class RowReader(ABC):
    """Rows of fields that are read lazily; may be sent to workers by pickling or by fork.

    A subclass sets ``_rows`` and ``_fields``, names what belongs to one process (open files) in ``_OWN``, makes it in
    ``_reset``, and calls ``_reset_after_fork`` before it reads.

    Parameters
    ----------
    place : path
        What is read, for messages.
    """

    _OWN: ClassVar[tuple[str, ...]] = ()
    _rows: int
    _fields: Fields

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self._place = Path(place)
        self._reset()

    def _reset(self) -> None:
        self._pid, self._lock = os.getpid(), threading.RLock()

    def _reset_after_fork(self) -> None:
        if self._pid != os.getpid():  # the parent's handles and lock are not ours
            self._reset()

    def __getstate__(self) -> dict[str, Any]:
        own = ("_pid", "_lock", *self._OWN)
        return {name: value for name, value in self.__dict__.items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def __len__(self) -> int:
        return self._rows

    @property
    def fields(self) -> Fields:
        """Name -> (dtype string, shape of one row)."""
        return self._fields

    @abstractmethod
    def rows(self, indices: Any, names: Iterable[str] | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return the given rows of the given fields (default all), each (len(indices), *row shape), in that order."""

    def _field(self, name: str) -> tuple[str, tuple[int, ...]]:
        try:
            return self._fields[name]
        except KeyError:
            raise InputError(f'{self._place} has no field "{name}"; it has {", ".join(self._fields)}') from None

    def _wanted(self, indices: Any) -> npt.NDArray[np.int64]:
        """Row numbers as an array; an IndexError if they are not all there."""
        wanted = np.asarray(indices, np.int64).reshape(-1)
        if wanted.size and not (wanted.min() >= 0 and wanted.max() < self._rows):
            raise IndexError(f"rows {wanted.min()} to {wanted.max()} of {self._rows} in {self._place}")
        return wanted
