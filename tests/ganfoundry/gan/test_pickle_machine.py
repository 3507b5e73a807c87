"""The machine against Python's unpickler, and what it must not do."""

import math
import pickle  # noqa: TID251
import pickletools
import struct
from collections import OrderedDict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.gan.pickles import machine
from ganfoundry.gan.pickles.machine import SET, Name, Node, UnknownNames, read_tree

REFUSED = {
    *("INST", "OBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID", "NEXT_BUFFER", "READONLY_BUFFER"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "LONG4", "STOP"),
}
KEYS = st.text(max_size=5) | st.integers(-(2**31), 2**31 - 1)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.just("ab\n\\" * 100)
)
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=5) | st.tuples(inner, inner, inner, inner) | st.dictionaries(KEYS, inner, max_size=5)
    ),
    max_leaves=15,
)


def same(a: Any, b: Any) -> bool:
    if isinstance(b, float) and math.isnan(b):
        return isinstance(a, float) and math.isnan(a)
    if type(a) is not type(b):
        return False
    if isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in b)
    return bool(a == b)


@settings(max_examples=100)
@given(tree=TREES, protocol=st.integers(0, 5))
def test_plain_values_are_what_python_reads(tree: Any, protocol: int) -> None:
    content = pickle.dumps([tree, tree], protocol)
    found, end = read_tree(content, ())
    assert same(found, [tree, tree])
    assert end == len(content)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_bytes_and_sets(protocol: int) -> None:
    long = bytes(range(256)) * 40
    content = pickle.dumps((b"abc", long, long[:4096], {"x"}, frozenset({3})), protocol)
    found, _ = read_tree(content, {SET, "builtins.frozenset"})
    assert found[0] == b"abc"
    assert isinstance(found[1], memoryview)
    assert found[1] == long
    assert isinstance(found[2], bytes)
    if protocol >= 4:
        assert [node.items for node in found[3:]] == [["x"], [3]]
    if protocol == 5:
        assert read_tree(pickle.dumps(bytearray(b"ab"), 5), ())[0] == b"ab"


def test_long_bytes_are_views_of_the_file() -> None:
    content = pickle.dumps(bytes(10_000), 4)
    found, _ = read_tree(content, ())
    assert found.obj is content


def test_cycles_and_shared_objects_keep_their_identity() -> None:
    loop: list[Any] = []
    loop += [loop, {"x": loop}]
    found, _ = read_tree(pickle.dumps(loop, 2), ())
    assert found[0] is found
    assert found[1]["x"] is found


@pytest.mark.parametrize("protocol", range(6))
def test_calls_become_nodes(protocol: int) -> None:
    found, _ = read_tree(pickle.dumps(OrderedDict(a=1, b=[2]), protocol), {"collections.OrderedDict"})
    assert (type(found), found.name, found.items) == (Node, "collections.OrderedDict", {"a": 1, "b": [2]})
    assert repr(found) == "<collections.OrderedDict>"


def test_state_is_kept_beside_the_node() -> None:
    found, _ = read_tree(b"\x80\x02ca\nB\n)\x81}X\x01\x00\x00\x00xK\x07sb.", {"a.B"})
    assert (found.name, found.args, found.state) == ("a.B", (), {"x": 7})
    assert read_tree(b"ca\nB\n.", {"a.B"})[0] == Name("a.B")


def test_names_of_other_versions_are_one_name() -> None:
    names = {"builtins.set", "copyreg._reconstructor", "numpy._core.multiarray.scalar"}
    for module, name in [
        ("__builtin__", "set"),
        ("builtins", "set"),
        ("copy_reg", "_reconstructor"),
        ("numpy.core.multiarray", "scalar"),
        ("numpy._core.multiarray", "scalar"),
    ]:
        found, _ = read_tree(f"c{module}\n{name}\n.".encode(), names)
        assert found.text in names


def test_every_unknown_name_is_listed() -> None:
    content = b"(" + b"".join(b"ca\nn%d\n" % index for index in range(7)) + b"cx\ny\nt."
    with pytest.raises(UnknownNames, match=r"asks for a\.n0, a\.n1, a\.n2, a\.n3, a\.n4 and 2 more"):
        read_tree(content, {"x.y"})


def test_every_opcode_of_python_is_known_or_refused() -> None:
    """A new opcode in a later Python fails this test, not a user."""
    table = {chr(code) for code in machine._TABLE}
    for opcode in pickletools.opcodes:
        assert (opcode.code in table) != (opcode.name in REFUSED), opcode.name
    for name in REFUSED - {"STOP"}:
        code = next(opcode.code for opcode in pickletools.opcodes if opcode.name == name)
        with pytest.raises(InputError, match=f"opcode {name} is not allowed"):
            read_tree(b"\x80\x04" + code.encode("latin1") + b"abc\nabc\n.", {"abc.abc"}, persistent=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged at byte 0"),
        (b"N", "damaged at byte 1"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\x80\x04)R.", "damaged"),
        (b"\x80\x04K\x01)R.", "calls something that is not a name"),
        (b"\x80\x04}}b.", "sets the state of something"),
        (b"\x80\x04Nq\x00h\x01.", "damaged at byte 7"),
        (b"\x80\x04NK\x01a.", "damaged"),
        (b"\x80\x04}(K\x01u.", "damaged"),
        (b"\x80\x04}(K\x01)\x86K\x02u.", "key of type tuple"),
        (b"\x80\x04}\x8a\x05\x00\x00\x00\x00\x01Ns.", "key of type int"),
        (b"\x80\x04\x8a\x19" + bytes(25) + b".", "damaged"),
        (b"\x80\x04C\x05ab.", "file ends early: 5 bytes announced, 3 left"),
        (b"\x80\x04X\xff\xff\xff\xff.", "text of 4294967295 bytes"),
        (b"\x80\x04X\x01\x00\x00\x00\xff.", "damaged"),
        (b"\x80\x04NQ.", "outside the file"),
        (b"c" + b"a" * 300 + b"\nb\n.", "damaged"),
        (b"\x80\x04K\x01X\x01\x00\x00\x00b\x93.", "not a short text"),
        (b"Iten\n.", "damaged"),
        (b"\x80\x04(K\x01t\x90.", "damaged"),
    ],
)
def test_damaged_pickles(content: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_tree(content, {"a.b"})


def test_limits() -> None:
    assert read_tree(b"N0" * 49 + b"N.", (), max_opcodes=100)[0] is None
    with pytest.raises(InputError, match="more than 99 opcodes"):
        read_tree(b"N0" * 49 + b"N.", (), max_opcodes=99)
    found, end = read_tree(b"....K\x05.K\x06.", (), start=4)
    assert (found, end) == (5, 7)


@settings(max_examples=400)
@given(content=st.binary(max_size=80))
def test_any_bytes(content: bytes) -> None:
    try:
        read_tree(content, (), persistent=True)
    except InputError:
        return


ARGUMENTS = st.sampled_from(
    [b"", b"\x00", b"\x01", b"\x02\x00", b"1\n", b"os\nsystem\n", b"a\nb\n", struct.pack("<I", 3), struct.pack("<Q", 2)]
)
STEPS = st.tuples(st.sampled_from([ord(opcode.code) for opcode in pickletools.opcodes]), ARGUMENTS)


@settings(max_examples=400)
@given(steps=st.lists(STEPS, max_size=40))
def test_any_program(steps: list[tuple[int, bytes]]) -> None:
    """Whatever the opcodes do, what comes out is inert."""
    content = b"".join(bytes([code]) + argument for code, argument in steps) + b"."
    try:
        found, _ = read_tree(content, {"a.b"}, persistent=True)
    except InputError:
        return
    assert found is None or type(found) in (bool, int, float, str, bytes, list, tuple, dict, Name, Node)
