"""Tensors of a pickle against torch's own views, and arrays that numpy wrote."""

import itertools
import pickle  # noqa: TID251
import struct
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.gan.pickles.machine import Node, read_tree
from ganfoundry.gan.pickles.modules import NAMES, NetworkReader
from ganfoundry.gan.pickles.tensors import BFLOAT16, STORAGE, TENSOR, ArrayReader, parse_storage
from tests.ganfoundry.gan.attacks import storage_bytes

BASE = torch.arange(24.0)
BYTES = storage_bytes(BASE)


def view(size: Any, stride: Any, offset: Any = 0) -> np.ndarray:
    """A tensor with this header over 24 numbers."""
    node = Node(TENSOR, (Node(STORAGE, (BYTES,)), offset, size, stride, False, None))
    return ArrayReader(0).tensor(node)


@given(data=st.data(), ndim=st.integers(0, 3))
def test_views_are_safe(data: st.DataObject, ndim: int) -> None:
    """Accepted: inside the storage, no element twice, and the numbers torch sees."""
    size = data.draw(st.tuples(*[st.integers(0, 5)] * ndim))
    stride = data.draw(st.tuples(*[st.integers(0, 9)] * ndim))
    offset = data.draw(st.integers(0, 26))
    places = [
        offset + sum(i * step for i, step in zip(index, stride, strict=True))
        for index in itertools.product(*map(range, size))
    ]
    try:
        found = view(size, stride, offset)
    except InputError:
        contiguous = stride == torch.empty(size).stride() and 0 not in size
        assert not contiguous or max(places) >= 24
        return
    assert max(places, default=0) < 24
    assert len(set(places)) == len(places)
    assert found.shape == size
    assert found.ravel().tolist() == [float(place) for place in places]
    assert not places or not found.flags.writeable


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [((25,), (1,), 0), ((24,), (1,), 1), ((2,), (1,), 23), ((1,), (1,), 24), ((), (), 24), ((2, 12), (13, 1), 0)],
)
def test_one_number_beyond_the_storage(size: Any, stride: Any, offset: int) -> None:
    with pytest.raises(InputError, match="reaches beyond its storage"):
        view(size, stride, offset)
    assert view((24,), (1,))[23] == view((1,), (7,), 23)[0] == view((), (), 23) == 23


@given(order=st.permutations([0, 1, 2]))
def test_permuted_tensors_are_accepted(order: list[int]) -> None:
    tensor = BASE.reshape(2, 3, 4).permute(order)
    assert np.array_equal(view(tuple(tensor.shape), tensor.stride()), tensor.numpy())


@pytest.mark.parametrize(
    ("size", "stride", "offset"),
    [
        ((2, True), (1, 1), 0),
        ([2], (1,), 0),
        ((2,), (1.0,), 0),
        ((1,) * 9, (1,) * 9, 0),
        ((2,), (1,), True),
        ((2,), (1,), -1),
        ((1 << 39, 1 << 39), (1, 1), 0),
        ((2,), (1, 1), 0),
    ],
)
def test_damaged_headers(size: Any, stride: Any, offset: Any) -> None:
    with pytest.raises(InputError, match="damaged size"):
        view(size, stride, offset)


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"],
)
def test_storages_of_every_type(dtype: str) -> None:
    values = torch.tensor([0, 1, 3, 1]).to(getattr(torch, dtype))
    found = parse_storage(storage_bytes(values))
    if dtype == "bfloat16":
        assert found.dtype == BFLOAT16
        found = torch.from_numpy(found["bfloat16"].astype(np.int16)).view(torch.bfloat16).float().numpy()
        values = values.float()
    assert found.dtype == values.numpy().dtype
    assert np.array_equal(found, values.numpy())


def parts(*, magic: Any = 0x1950A86A20F9469CFC6C, version: Any = 1001, little: Any = True) -> bytes:
    """The first three small pickles of a storage."""
    system = {"protocol_version": 1001, "little_endian": little, "type_sizes": {}}
    return b"".join(pickle.dumps(value, 2) for value in (magic, version, system))


def identity(kind: bytes = b"ctorch\nFloatStorage\n", count: bytes = b"K\x01", rest: bytes = b"N") -> bytes:
    """Persistent id, keys, count and one float."""
    text = b"X\x01\x00\x00\x00"
    key = b"\x80\x02(X\x07\x00\x00\x00storage" + kind + text + b"0" + text + b"c" + count + rest + b"tQ."
    return key + pickle.dumps(["0"], 2) + struct.pack("<qf", 1, 2.5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (parts(magic=7) + identity(), "not in torch's old format"),
        (parts(version=1000) + identity(), "unknown version"),
        (parts(little=False) + identity(), "big-endian"),
        (parts(little=1) + identity(), "big-endian"),
        (parts() + identity(kind=b"ctorch\nQInt8Storage\n"), r"asks for torch\.QInt8Storage"),
        (parts() + identity(kind=b"N"), "unknown kind"),
        (parts() + identity(rest=b"K\x01"), "unknown kind"),
        (parts() + identity(count=b"\x88"), "sizes disagree"),
        (parts() + identity(count=b"K\x02"), "sizes disagree"),
        (parts() + identity() + b"x", "not the announced one"),
        (parts() + identity()[:-1], "not the announced one"),
        (parts() + identity()[:-8], "sizes disagree"),
        (parts() + pickle.dumps([1] * 3000, 2), "more than 200 opcodes"),
        (b"PK\x03\x04", "PERSID|no pickle"),
    ],
)
def test_damaged_storages(content: bytes, message: str) -> None:
    assert parse_storage(parts() + identity()).tolist() == [2.5]
    with pytest.raises(InputError, match=message):
        parse_storage(content)


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.float16([[1.5]]),
    np.array(7),
    np.zeros((0, 3), np.float32),
    np.arange(5000),
    np.array([True, False]),
]


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.shape))
def test_numpy_arrays(array: np.ndarray, protocol: int) -> None:
    content = pickle.dumps(array, protocol)
    tree, _ = read_tree(content, NAMES)
    found = ArrayReader(len(content)).array(tree)
    assert found.dtype == array.dtype
    assert np.array_equal(found, array)
    scalar, _ = read_tree(pickle.dumps(np.float64(2.5), protocol), NAMES)
    assert NetworkReader(100).plain(scalar) == 2.5


@pytest.mark.parametrize(
    "value",
    [
        np.array(["text"]),
        np.array([1.0], dtype=">f4"),
        np.array([1 + 2j]),
        np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")]),
        np.array([np.datetime64("2020-01-01")]),
    ],
    ids=lambda value: str(value.dtype),
)
def test_arrays_of_other_things(value: np.ndarray) -> None:
    for protocol in (2, 4, 5):
        tree, _ = read_tree(pickle.dumps(value, protocol), NAMES)
        with pytest.raises(InputError, match="little-endian numbers"):
            ArrayReader(1000).array(tree)


def test_array_of_objects_is_refused() -> None:
    tree, _ = read_tree(pickle.dumps(np.array([None, {}]), 2), NAMES)
    with pytest.raises(InputError, match="little-endian numbers"):
        ArrayReader(1000).array(tree)


def test_bytes_as_text_have_a_budget() -> None:
    """Protocols 0 to 2 write bytes as text; encoding the same text for many nodes must not fill memory."""
    node = Node("_codecs.encode", (BYTES.decode("latin1"), "latin1"))
    again = Node("_codecs.encode", node.args)
    reader = ArrayReader(len(BYTES))
    assert reader.tensor(Node(TENSOR, (Node(STORAGE, (node,)), 0, (2,), (1,)))).tolist() == [0.0, 1.0]
    assert reader.tensor(Node(TENSOR, (Node(STORAGE, (node,)), 1, (2,), (1,)))).tolist() == [1.0, 2.0]
    with pytest.raises(InputError, match="same bytes too often"):
        reader.tensor(Node(TENSOR, (Node(STORAGE, (again,)), 0, (2,), (1,))))
    with pytest.raises(InputError, match="where bytes belong"):
        ArrayReader(9).tensor(Node(TENSOR, (Node(STORAGE, (Node("_codecs.encode", ("\u0100", "latin1")),)), 0, (), ())))
