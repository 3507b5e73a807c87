"""Files that are whole or absent, and HDF5 files from strangers.

HDF5 is a rich format: a small file can claim terabytes, name any other file of the machine as its storage, or ask the
library to load a plug-in.  :func:`open_hdf5` and :func:`check_dataset` accept the few features our own files use and
refuse the rest.  The HDF5 library itself has had memory errors on malformed files; open files of unknown origin in a
process that holds nothing of value.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import math
import os
import secrets
import stat
import warnings
from pathlib import Path
from types import TracebackType

os.environ.setdefault("HDF5_PLUGIN_PRELOAD", "::")  # documented H5PL string: no dynamic filter plug-ins; before h5py

import h5py as h5py  # for the other modules, too: the setting above comes first

from ganfoundry.errors import InputError, RunError

MAX_DATASET_BYTES = 1 << 33
"""Largest uncompressed size of one dataset of one file (8 GiB)."""
MAX_CHUNK_BYTES = 1 << 26
"""Largest uncompressed size of one chunk (64 MiB): a 4096 x 4096 RGB image of bytes fits."""
MAX_DIMENSIONS = 8
ALLOWED_KINDS = "biuf"  # bool, signed, unsigned, float: fixed size, no references, no variable-length data
ALLOWED_FILTERS = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
"""Not lzf: a stream that ends early leaves the rest of the chunk as uninitialised memory, without an error."""


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Return the hexadecimal sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(folder: str | os.PathLike[str]) -> None:
    """Make renames inside a folder durable (POSIX: fsync of the directory)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(
    path: str | os.PathLike[str], data: bytes | memoryview, *, temporary: str | None = None, sync: bool = True
) -> None:
    """Write a file so that its name never shows anything but all of the bytes.

    Temporary file in the same folder, ordinary writes, fsync, rename, fsync of the folder.

    Parameters
    ----------
    path : path
        Final name; replaced if it exists.
    data : bytes-like
        The whole content.
    temporary : str, optional
        Name of the temporary file inside the same folder; must start with ``.tmp-``.
    sync : bool
        False leaves out both fsyncs: safe against the death of the process, not against loss of power.

    Raises
    ------
    RunError
        If the bytes cannot be written (disk full, quota, file size limit, no permission); no temporary file stays.
    """
    path = Path(path)
    partial = path.with_name(temporary or f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with open(partial, "xb", buffering=0) as file:
            view = memoryview(data)
            while view:
                view = view[file.write(view) :]
            if sync:
                os.fsync(file.fileno())
        os.replace(partial, path)
        if sync:
            sync_directory(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise RunError(explain_write(path, len(data), error)) from error


class WholeFile:
    """A file written piece by piece whose name shows nothing until all of it is there.

    A context manager: leaving it without an exception syncs and renames, leaving it with one deletes.  Only
    :meth:`write`, no seeking: the size and the sha256 are known at the end without reading.

    Parameters
    ----------
    path : path
        Final name; replaced if it exists.

    Attributes
    ----------
    size : int
        Bytes written.
    sha256 : str
        Of the bytes written.

    Raises
    ------
    RunError
        If the bytes cannot be written; no temporary file stays.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._partial = self.path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}")
        self._hash = hashlib.sha256()
        self.size = 0

    def __enter__(self) -> WholeFile:
        try:
            self._file = open(self._partial, "xb")
        except OSError as error:
            raise RunError(explain_write(self.path, 0, error)) from error
        return self

    def write(self, data: bytes) -> int:
        """Append bytes."""
        self._hash.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        """Return the number of bytes written."""
        return self.size

    def flush(self) -> None:
        """Hand over what is buffered."""
        self._file.flush()

    @property
    def sha256(self) -> str:
        """Hexadecimal sha256 of the bytes written so far."""
        return self._hash.hexdigest()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                os.replace(self._partial, self.path)
                sync_directory(self.path.parent)
        except OSError as failure:
            error = failure
        if error is None:
            return
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self._partial.unlink()
        if isinstance(error, OSError):
            raise RunError(explain_write(self.path, self.size, error)) from error


def explain_write(path: str | os.PathLike[str], size: int, error: OSError) -> str:
    """Return one sentence about a failed write: what, where, what to do."""
    advice = "check the folder's permissions"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "free some space"
    elif error.errno == errno.EFBIG:
        advice = "raise the file size limit (ulimit -f)"
    return (
        f"cannot write {path} ({size / 1e6:.1f} MB): {error.strerror or error}; "
        f"{advice} and run the same command again, finished work is kept"
    )


def lock_folder(folder: str | os.PathLike[str]) -> int:
    """Take the exclusive lock of a folder (flock of ``.lock``) and return its descriptor; closing it releases the lock.

    Raises
    ------
    InputError
        If another process, or another writer of this process, holds it.
    """
    path = Path(folder) / ".lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise InputError(
            f"another run is writing into {folder}; wait for it to end, stop it, or choose another output folder"
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            os.close(descriptor)
            raise
        warnings.warn(f"this file system has no locks: make sure only one run writes into {folder}", stacklevel=2)
    return descriptor


def open_hdf5(path: str | os.PathLike[str]) -> h5py.File:
    """Open an HDF5 file for reading, with h5py's defaults: HDF5 refuses two opens of a file with unequal settings.

    Raises
    ------
    InputError
        If the file is missing, is no regular file, or is not readable HDF5.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise InputError(f"{path} is not a regular file")
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise InputError(f"{path} is missing") from None
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} cannot be opened as HDF5 ({_first_line(error)})") from None


def open_dataset(file: h5py.File, name: str, *, max_bytes: int = MAX_DATASET_BYTES) -> h5py.Dataset:
    """Return a dataset of a file after checking that it is stored in that file and of sane size.

    Parameters
    ----------
    file : h5py.File
    name : str
    max_bytes : int
        Largest uncompressed size; more than the default for one that is read in pieces.

    Raises
    ------
    InputError
        On a soft or external link, external or virtual storage, a type other than fixed-size numbers, an unknown
        filter, an absurd size, chunks that were never written, or unreadable metadata.
    """
    try:
        link = file.get(name, getlink=True)
        if link is None:
            raise InputError(f'{file.filename} has no dataset "{name}"')
        if type(link) is not h5py.HardLink:
            raise InputError(
                f'"{name}" in {file.filename} is a link to somewhere else ({type(link).__name__}): refused'
            )
        dataset = file[name]
        if not isinstance(dataset, h5py.Dataset):
            raise InputError(f'"{name}" in {file.filename} is not a dataset')
        check_dataset(dataset, max_bytes=max_bytes)
    except InputError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InputError(f'"{name}" in {file.filename} is damaged ({_first_line(error)})') from None
    return dataset


def check_dataset(dataset: h5py.Dataset, *, max_bytes: int = MAX_DATASET_BYTES) -> None:
    """Refuse a dataset that uses anything our writer does not.

    Parameters
    ----------
    dataset : h5py.Dataset
        An open dataset.
    max_bytes : int
        Largest uncompressed size.

    Raises
    ------
    InputError
        See :func:`open_dataset`.
    """
    where = f'"{dataset.name.lstrip("/")}" in {dataset.file.filename}'
    # The bare type first: asking h5py for shape, chunks or storage of a hostile dataset reads metadata only.
    if dataset.dtype.kind not in ALLOWED_KINDS or dataset.dtype.subdtype is not None:
        raise InputError(f"{where} holds values of type {dataset.dtype}: only fixed-size numbers are accepted")
    if dataset.shape is None or len(dataset.shape) > MAX_DIMENSIONS:
        raise InputError(f"{where} has no shape, or more than {MAX_DIMENSIONS} dimensions")
    if dataset.external:
        raise InputError(f"{where} stores its values in another file (external storage): refused")
    if dataset.is_virtual:
        raise InputError(f"{where} takes its values from other files (a virtual dataset): refused")
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    if size > max_bytes:
        raise InputError(f"{where} claims {size:,} bytes, more than the limit of {max_bytes:,}: refused")
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())}
    if not filters <= ALLOWED_FILTERS:
        raise InputError(f"{where} needs HDF5 filter {min(filters - ALLOWED_FILTERS)}: refused")
    if dataset.chunks is not None:
        chunk = math.prod(dataset.chunks) * dataset.dtype.itemsize
        if chunk > MAX_CHUNK_BYTES:
            raise InputError(f"{where} has chunks of {chunk:,} bytes, more than {MAX_CHUNK_BYTES:,}: refused")
        wanted = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
        if dataset.id.get_num_chunks() != wanted:  # HDF5 reads a chunk that was never written as zeros, silently
            raise InputError(f"{where} lacks some of its {wanted} chunks")


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
