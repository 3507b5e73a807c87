"""A file for HDF5 to write to, because HDF5 does not survive a full disk.

A failed write leaves its cache unflushable and the process dies of it at exit; so no write may fail.
"""

from __future__ import annotations

import io
import os
from typing import Any


class GuardedFile(io.RawIOBase):
    """A file for HDF5 to write to that never fails: the first error is kept for :meth:`check`, later bytes are dropped.

    Parameters
    ----------
    file : io.FileIO
        Open for reading and writing, unbuffered.
    """

    def __init__(self, file: io.FileIO) -> None:
        super().__init__()
        self.file = file
        self.error: OSError | None = None
        self.end = 0

    def check(self) -> None:
        """Raise the first error, if there was one."""
        if self.error is not None:
            raise self.error

    def write(self, data: Any) -> int:
        """Write all of the data, or keep the error."""
        view = memoryview(data).cast("B")
        size = len(view)
        self.end = max(self.end, self.file.tell() + size)
        try:
            while self.error is None and view:
                view = view[self.file.write(view) :]
        except OSError as error:
            self.error = error
        if view:
            self.file.seek(len(view), os.SEEK_CUR)
        return size

    def truncate(self, size: int | None = None) -> int:
        """Set the file's length, or keep the error."""
        size = self.file.tell() if size is None else size
        try:
            if self.error is None:
                self.file.truncate(size)
        except OSError as error:
            self.error = error
        return size

    def readinto(self, buffer: Any) -> int:
        """Read; bytes that were never written are zeros."""
        view = memoryview(buffer).cast("B")
        count = self.file.readinto(view) or 0
        view[count:] = bytes(len(view) - count)
        return len(view)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; the end counts dropped bytes as written."""
        if whence == os.SEEK_END:
            return self.file.seek(max(self.end, self.file.seek(0, os.SEEK_END)) + offset)
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self.file.tell()

    def flush(self) -> None:
        """Nothing is buffered."""
