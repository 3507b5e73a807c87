"""Arrays in a pickle tree: torch tensors and numpy arrays, as views of the file's bytes.

torch pickles a tensor as a view (offset, size, stride) of a storage, and the storage as the bytes of an old-format
``torch.save``: five small pickles (magic number, version, system, persistent id, keys), a 64-bit count and the values.
That stream has its own parser here, since ``torch.storage._load_from_bytes`` unpickles without restriction.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.gan.pickles.machine import PERSISTENT, Name, Node, read_tree

PARAMETER = "torch._utils._rebuild_parameter"
TENSOR = "torch._utils._rebuild_tensor_v2"
STORAGE = "torch.storage._load_from_bytes"
SCALAR = "numpy._core.multiarray.scalar"
RECONSTRUCT = "numpy._core.multiarray._reconstruct"
FROMBUFFER = "numpy._core.numeric._frombuffer"
DTYPE = "numpy.dtype"
ENCODE = "_codecs.encode"
EMPTY_BYTES = "builtins.bytes"
NAMES = (PARAMETER, TENSOR, STORAGE, SCALAR, RECONSTRUCT, FROMBUFFER, DTYPE, ENCODE, EMPTY_BYTES, "numpy.ndarray")

BFLOAT16 = np.dtype([("bfloat16", "<u2")])  # numpy has no such number: its bits
MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 40
_MAGIC, _VERSION = 0x1950A86A20F9469CFC6C, 1001
_HEADER = 4096  # bytes that the five small pickles may take; they take about 400
_STORAGE_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": BFLOAT16,
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_STORAGES = {f"{module}.{name}": dtype for module in ("torch", "torch.cuda") for name, dtype in _STORAGE_DTYPES.items()}
_NUMPY_CODES = frozenset(("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "b1"))


class ArrayReader:
    """Looks up arrays in a tree; a storage that several tensors share is parsed once.

    Parameters
    ----------
    budget : int
        Bytes that may be copied for protocols 0 to 2, which store bytes as text; later protocols copy nothing. The size
        of the file is enough for any file that was not made to fill memory.

    Notes
    -----
    The tree must outlive the reader: storages and encoded texts are remembered by the identity of their nodes.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._storages: dict[int, NDArray[Any]] = {}
        self._encoded: dict[int, bytes] = {}

    def tensor(self, value: object) -> NDArray[Any]:
        """Read-only view of a tensor or parameter; ``BFLOAT16`` stands for torch's type.

        Raises
        ------
        InputError
            If it is no tensor, reaches beyond its storage or overlaps itself.
        """
        if type(value) is Node and value.name == PARAMETER and value.args:
            value = value.args[0]
        if type(value) is not Node or value.name != TENSOR or len(value.args) < 4:
            raise InputError("a tensor of the file is of an unknown kind")
        node, offset, size, stride = value.args[:4]
        return _strided(self._storage(node), offset, _shape(size), _integers(stride))

    def array(self, value: object) -> NDArray[Any]:
        """Read-only view of a numpy array.

        Raises
        ------
        InputError
            If it is none, or holds objects, big-endian numbers or another number of values than its shape.
        """
        if type(value) is Node and value.name == FROMBUFFER and len(value.args) == 4:  # protocol 5
            raw, dtype, shape, order = value.args
        elif type(value) is Node and value.name == RECONSTRUCT and type(value.state) is tuple and len(value.state) == 5:
            _, shape, dtype, fortran, raw = value.state
            order = "F" if fortran is True else "C"
        else:
            raise InputError("an array of the file is of an unknown kind")
        size, kind, data = _shape(shape), _numpy_dtype(dtype), self._bytes(raw)
        if math.prod(size) * kind.itemsize != len(data) or order not in ("C", "F"):
            raise InputError("an array of the file is damaged: its size is not the announced one")
        return np.frombuffer(data, kind).reshape(size, order=order) if data else np.empty(size, kind)

    def number(self, value: Node) -> float | int | bool:
        """A numpy number as an ordinary one; errors as in :meth:`array`."""
        data = self._bytes(value.args[1]) if value.name == SCALAR and len(value.args) == 2 else b""
        dtype = _numpy_dtype(value.args[0]) if data else None
        if dtype is None or len(data) != dtype.itemsize:
            raise InputError("a number of the file is damaged")
        found: float | int | bool = np.frombuffer(data, dtype)[0].item()
        return found

    def _storage(self, node: object) -> NDArray[Any]:
        """Flat values (n,) of a storage."""
        if type(node) is not Node or node.name != STORAGE or len(node.args) != 1:
            raise InputError("a storage of the file is of an unknown kind")
        key = id(node.args[0])
        if key not in self._storages:
            self._storages[key] = parse_storage(self._bytes(node.args[0]))
        return self._storages[key]

    def _bytes(self, value: object) -> bytes | memoryview:
        """Bytes; protocols 0 to 2 write them as text that is to be encoded in Latin-1."""
        if isinstance(value, bytes | memoryview):
            return value
        name, args = (value.name, value.args) if type(value) is Node else ("", ())
        if name == EMPTY_BYTES and not args:
            return b""
        if name != ENCODE or len(args) != 2 or args[1] != "latin1" or type(args[0]) is not str:
            raise InputError("the file holds something else where bytes belong")
        if id(value) not in self._encoded:
            self.budget -= len(args[0])
            if self.budget < 0:
                raise InputError("the file uses the same bytes too often")
            try:
                self._encoded[id(value)] = args[0].encode("latin1")
            except UnicodeEncodeError as error:
                raise InputError("the file holds something else where bytes belong") from error
        return self._encoded[id(value)]


def parse_storage(data: bytes | memoryview) -> NDArray[Any]:
    """Values (n,) of a storage in torch's old format, a read-only view of ``data``.

    Raises
    ------
    InputError
        If the stream is damaged, of another format, big-endian, or its size is not the announced one.
    """
    header = bytes(data[:_HEADER])
    parts, at = [], 0
    for _ in range(5):
        part, at = read_tree(header, _STORAGES, start=at, persistent=True, max_opcodes=200)
        parts.append(part)
        if parts[0] != _MAGIC:
            raise InputError("a storage of the file is not in torch's old format")
    if parts[1] != _VERSION or type(parts[2]) is not dict or parts[2].get("little_endian") is not True:
        raise InputError("a storage of the file is big-endian or of an unknown version")
    identity = parts[3].args[0] if type(parts[3]) is Node and parts[3].name == PERSISTENT else None
    if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage" or any(identity[5:]):
        raise InputError("a storage of the file is of an unknown kind")
    kind, key, count = identity[1], identity[2], identity[4]
    dtype = _STORAGES.get(kind.text) if type(kind) is Name else None
    if dtype is None or type(key) is not str or type(parts[4]) is not list or parts[4] != [key]:
        raise InputError("a storage of the file is of an unknown kind")
    start = at + 8
    if start > len(data) or type(count) is not int or struct.unpack("<q", data[at:start])[0] != count:
        raise InputError("a storage of the file is damaged: its sizes disagree")
    if count < 0 or len(data) - start != count * dtype.itemsize:
        raise InputError("a storage of the file is damaged: its size is not the announced one")
    return np.frombuffer(data, dtype, count, start) if count else np.empty(0, dtype)


def _strided(storage: NDArray[Any], offset: object, size: tuple[int, ...], stride: tuple[int, ...]) -> NDArray[Any]:
    """View of a storage, after checking that it stays inside and uses no element twice."""
    if type(offset) is not int or offset < 0 or len(size) != len(stride):
        raise InputError("a tensor of the file has a damaged size")
    if 0 in size:
        return np.empty(size, storage.dtype)
    used = sorted((step, count) for count, step in zip(size, stride, strict=True) if count > 1)
    reach = 0
    for step, count in used:
        if step <= reach:
            raise InputError("a tensor of the file overlaps itself (expanded tensors are not read)")
        reach += (count - 1) * step
    if offset + reach >= storage.size:
        raise InputError("a tensor of the file reaches beyond its storage")
    steps = [step * storage.itemsize for step in stride]
    # The only unchecked view: bounds and overlap were checked above, and as_strided checks neither.
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps, writeable=False)


def _integers(value: object) -> tuple[int, ...]:
    """Sizes or strides as a tuple of ordinary integers."""
    if type(value) is not tuple or len(value) > MAX_DIMENSIONS:
        raise InputError("a tensor of the file has a damaged size")
    if any(type(n) is not int or not 0 <= n < MAX_SIZE for n in value):
        raise InputError("a tensor of the file has a damaged size")
    return value


def _shape(value: object) -> tuple[int, ...]:
    size = _integers(value)
    if math.prod(n or 1 for n in size) >= MAX_SIZE:
        raise InputError("a tensor of the file has a damaged size")
    return size


def _numpy_dtype(value: object) -> np.dtype[Any]:
    code = value.args[0] if type(value) is Node and value.name == DTYPE and value.args else None
    state = value.state if type(value) is Node else None
    order = state[1] if type(state) is tuple and len(state) > 1 else "|"
    if type(code) is not str or code not in _NUMPY_CODES or order not in ("<", "|", "="):
        raise InputError("an array of the file holds something else than little-endian numbers")
    return np.dtype(code).newbyteorder("<")
