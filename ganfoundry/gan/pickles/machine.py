"""A pickle as a tree of inert nodes.

A pickle is a program for a stack machine (``pickletools`` documents the opcodes; protocols 0 to 5). The machine here
knows the opcodes that build data. Where the standard library would import a name and call it, it makes a
:class:`Node` that holds the name and the arguments, and that is all: no function is ever called on behalf of the file.
What a node stands for is decided afterwards, by readers that look only for what they know.

Opcodes that import by other routes (INST, OBJ, EXT1-4, NEWOBJ_EX, persistent ids outside torch's storages, buffers out
of band) and strings of Python 2 are refused. Every opcode costs a bounded amount of time and memory: keys are short
integers and text (hashing a nested tuple can overflow the C stack, crafted integers collide), numbers have a limited
length, large byte strings are views of the input, and the number of opcodes is limited.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ganfoundry.errors import InputError

MAX_OPCODES = 300_000  # a 1024 px snapshot has about 30,000
MAX_TEXT = 32 << 20
MAX_NAME = 256
MAX_DIGITS = 24
MAX_INDEX = 1 << 32
MAX_UNKNOWN = 100
SMALL_BYTES = 4096
ALIASES = {"__builtin__": "builtins", "copy_reg": "copyreg"}  # Python 2's modules, which protocols 0 to 2 write
SET = "builtins.set"
PERSISTENT = "persistent id"


class UnknownNames(InputError):
    """The file refers to names that are not on the list."""


@dataclass(frozen=True, slots=True)
class Name:
    """A dotted name that the file refers to: text, never looked up."""

    text: str


class Node:
    """What the file would call, and with what.

    Attributes
    ----------
    name : str
        Dotted name.
    args : tuple
        Arguments of the call.
    state : object
        What BUILD gave it, else None.
    items : dict or list
        Entries it was given: of a dictionary, or of a set.
    """

    __slots__ = ("args", "items", "name", "state")

    def __init__(self, name: str, args: tuple[Any, ...]) -> None:
        self.name, self.args = name, args
        self.state: object = None
        self.items: Any = None

    def __repr__(self) -> str:
        return f"<{self.name}>"


def read_tree(
    data: bytes,
    names: Collection[str],
    *,
    start: int = 0,
    persistent: bool = False,
    max_opcodes: int = MAX_OPCODES,
) -> tuple[Any, int]:
    """Read one pickle.

    Parameters
    ----------
    data : bytes
        The file; byte strings longer than 4 KiB in the result are views of it.
    names : collection of str
        Dotted names that may stand in the file.
    start : int
        Where the pickle begins.
    persistent : bool
        Whether persistent ids are allowed; they become nodes.
    max_opcodes : int
        Limit of its length.

    Returns
    -------
    (object, int)
        None, bool, int, float, str, bytes or memoryview, list, tuple, dict, :class:`Name` and :class:`Node`; and where
        the pickle ends. Lists, dictionaries and nodes may contain themselves.

    Raises
    ------
    UnknownNames
        If the file names something else; what, is listed.
    InputError
        If the pickle is damaged or uses another opcode.
    """
    machine = _Machine(data, frozenset(names), start, persistent)
    try:
        value = machine.run(max_opcodes)
    except InputError:
        raise
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"the pickle is damaged at byte {machine.at}") from error
    if machine.unknown:
        raise UnknownNames(machine.unknown_names())
    return value, machine.at


class _Machine:
    """Stack, marks and memo while one pickle is read."""

    def __init__(self, data: bytes, names: frozenset[str], start: int, persistent: bool) -> None:
        self.data, self.view, self.at = data, memoryview(data), start
        self.names, self.persistent = names, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        self.unknown: set[str] = set()

    def run(self, max_opcodes: int) -> Any:
        """Execute until STOP."""
        data, table = self.data, _TABLE
        for _ in range(max_opcodes):
            code = data[self.at]
            self.at += 1
            if code == _STOP:
                return self.stack.pop()
            action = table.get(code)
            if action is None:
                raise InputError(f"the file is no pickle, or its opcode {_opcode_name(code)} is not allowed")
            action(self)
        raise InputError(f"the pickle has more than {max_opcodes:,} opcodes")

    # ------------------------------------------------------------------ input

    def take(self, count: int) -> memoryview:
        """Next ``count`` bytes, as a view."""
        end = self.at + count
        if count < 0 or end > len(self.data):
            raise InputError(f"the file ends early: {count} bytes announced, {len(self.data) - self.at} left")
        part = self.view[self.at : end]
        self.at = end
        return part

    def number(self, layout: struct.Struct) -> Any:
        """Next number of a fixed size."""
        return layout.unpack(self.take(layout.size))[0]

    def line(self, limit: int) -> bytes:
        """Bytes up to the end of the line."""
        end = self.data.find(b"\n", self.at, self.at + limit + 1)
        if end < 0:
            raise ValueError
        part = self.data[self.at : end]
        self.at = end + 1
        return part

    def text(self, count: int) -> str:
        """Text of ``count`` bytes."""
        if count > MAX_TEXT:
            raise InputError(f"the pickle holds a text of {count} bytes; at most {MAX_TEXT} are read")
        return str(self.take(count), "utf-8", "surrogatepass")

    def binary(self, count: int) -> bytes | memoryview:
        """``count`` bytes; long ones are not copied."""
        part = self.take(count)
        return bytes(part) if count <= SMALL_BYTES else part

    # ------------------------------------------------------------------ stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def push_mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        values = self.stack
        self.stack = self.marks.pop()
        return values

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.pop_mark()

    def pop_tuple(self, count: int) -> None:
        values = tuple(self.stack[len(self.stack) - count :])
        if len(values) < count:
            raise IndexError
        self.stack[len(self.stack) - count :] = [values]

    def protocol(self) -> None:
        version = self.take(1)[0]
        if version > 5:
            raise InputError(f"the pickle is of protocol {version}; 0 to 5 are read")

    # ------------------------------------------------------------------ containers

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is Node:
            if target.items is None:
                target.items = {}
            target = target.items
        if type(target) is not dict or len(values) % 2:
            raise TypeError
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) is not str and not (type(key) is int and -(1 << 31) <= key < 1 << 31):
                raise InputError(f"the pickle has a dictionary with a key of type {type(key).__name__}")
            target[key] = value

    def new_dict(self) -> None:
        values = self.pop_mark()
        self.push({})
        self.set_items(values)

    def new_set(self, values: list[Any]) -> None:
        node = Node(SET, ())
        node.items = values
        self.push(node)

    def add_items(self) -> None:
        values = self.pop_mark()
        target = self.stack[-1]
        if type(target) is not Node or type(target.items) is not list:
            raise TypeError
        target.items.extend(values)

    # ------------------------------------------------------------------ names and calls

    def name(self, module: object, name: object) -> None:
        if type(module) is not str or type(name) is not str or len(module) + len(name) > MAX_NAME:
            raise InputError("the pickle holds a name that is not a short text")
        text = f"{ALIASES.get(module, module)}.{name}"
        if text.startswith("numpy.core."):  # the name of numpy._core before numpy 2
            text = f"numpy._core.{text.removeprefix('numpy.core.')}"
        if text not in self.names:
            self.unknown.add(text)
            if len(self.unknown) > MAX_UNKNOWN:
                raise UnknownNames(self.unknown_names())
        self.push(Name(text))

    def unknown_names(self) -> str:
        """Sentence about the names that are not on the list."""
        listed = sorted(self.unknown)
        more = f" and {len(listed) - 5} more" if len(listed) > 5 else ""
        return f"the file asks for {', '.join(listed[:5])}{more}, which is not known here"

    def global_line(self) -> None:
        module = str(self.line(MAX_NAME), "utf-8")
        self.name(module, str(self.line(MAX_NAME), "utf-8"))

    def global_stack(self) -> None:
        name = self.stack.pop()
        self.name(self.stack.pop(), name)

    def call(self) -> None:
        args, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Name or type(args) is not tuple:
            raise InputError("the pickle calls something that is not a name")
        self.push(Node(function.text, args))

    def build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if type(target) is not Node:
            raise InputError("the pickle sets the state of something that is not an object")
        target.state = state

    def persistent_id(self) -> None:
        if not self.persistent:
            raise InputError("the pickle refers to objects outside the file (persistent ids)")
        self.push(Node(PERSISTENT, (self.stack.pop(),)))

    # ------------------------------------------------------------------ memo

    def put(self, index: int) -> None:
        if not 0 <= index < MAX_INDEX:  # crafted longer integers collide in the memo's hash table
            raise ValueError
        self.memo[index] = self.stack[-1]

    def get(self, index: int) -> None:
        self.push(self.memo[index])


def _integer(line: bytes) -> int | bool:
    if line in (b"00", b"01"):  # protocol 0's truth values
        return line == b"01"
    return int(line.removesuffix(b"L"))


def _long(machine: _Machine) -> int:
    part = machine.take(machine.take(1)[0])
    if len(part) > MAX_DIGITS:
        raise ValueError
    return int.from_bytes(part, "little", signed=True)


_U8, _U16, _U32, _U64 = struct.Struct("<B"), struct.Struct("<H"), struct.Struct("<I"), struct.Struct("<Q")
_I32, _F64 = struct.Struct("<i"), struct.Struct(">d")
_STOP = ord(".")
_CODES = {opcode.name: ord(opcode.code) for opcode in pickletools.opcodes}
_ACTIONS: dict[str, Callable[[_Machine], object]] = {
    "PROTO": _Machine.protocol,
    "FRAME": lambda m: m.number(_U64),  # frames only help readers of streams
    "MARK": _Machine.push_mark,
    "POP": _Machine.pop,
    "POP_MARK": _Machine.pop_mark,
    "DUP": lambda m: m.push(m.stack[-1]),
    "NONE": lambda m: m.push(None),
    "NEWTRUE": lambda m: m.push(True),
    "NEWFALSE": lambda m: m.push(False),
    "INT": lambda m: m.push(_integer(m.line(MAX_DIGITS))),
    "BININT": lambda m: m.push(m.number(_I32)),
    "BININT1": lambda m: m.push(m.number(_U8)),
    "BININT2": lambda m: m.push(m.number(_U16)),
    "LONG": lambda m: m.push(_integer(m.line(MAX_DIGITS))),
    "LONG1": lambda m: m.push(_long(m)),
    "FLOAT": lambda m: m.push(float(m.line(MAX_DIGITS * 2))),
    "BINFLOAT": lambda m: m.push(m.number(_F64)),
    "UNICODE": lambda m: m.push(str(m.line(MAX_TEXT), "raw-unicode-escape")),
    "SHORT_BINUNICODE": lambda m: m.push(m.text(m.number(_U8))),
    "BINUNICODE": lambda m: m.push(m.text(m.number(_U32))),
    "BINUNICODE8": lambda m: m.push(m.text(m.number(_U64))),
    "SHORT_BINBYTES": lambda m: m.push(m.binary(m.number(_U8))),
    "BINBYTES": lambda m: m.push(m.binary(m.number(_U32))),
    "BINBYTES8": lambda m: m.push(m.binary(m.number(_U64))),
    "BYTEARRAY8": lambda m: m.push(m.binary(m.number(_U64))),
    "EMPTY_TUPLE": lambda m: m.push(()),
    "TUPLE1": lambda m: m.pop_tuple(1),
    "TUPLE2": lambda m: m.pop_tuple(2),
    "TUPLE3": lambda m: m.pop_tuple(3),
    "TUPLE": lambda m: m.push(tuple(m.pop_mark())),
    "EMPTY_LIST": lambda m: m.push([]),
    "LIST": lambda m: m.push(m.pop_mark()),
    "APPEND": lambda m: m.append([m.stack.pop()]),
    "APPENDS": lambda m: m.append(m.pop_mark()),
    "EMPTY_DICT": lambda m: m.push({}),
    "DICT": _Machine.new_dict,
    "SETITEM": lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    "SETITEMS": lambda m: m.set_items(m.pop_mark()),
    "EMPTY_SET": lambda m: m.new_set([]),
    "FROZENSET": lambda m: m.new_set(m.pop_mark()),
    "ADDITEMS": _Machine.add_items,
    "MEMOIZE": lambda m: m.put(len(m.memo)),
    "PUT": lambda m: m.put(int(m.line(MAX_DIGITS))),
    "BINPUT": lambda m: m.put(m.number(_U8)),
    "LONG_BINPUT": lambda m: m.put(m.number(_U32)),
    "GET": lambda m: m.get(int(m.line(MAX_DIGITS))),
    "BINGET": lambda m: m.get(m.number(_U8)),
    "LONG_BINGET": lambda m: m.get(m.number(_U32)),
    "GLOBAL": _Machine.global_line,
    "STACK_GLOBAL": _Machine.global_stack,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent_id,
}
_TABLE = {_CODES[name]: action for name, action in _ACTIONS.items()}


def _opcode_name(code: int) -> str:
    """Name of an opcode, or its number."""
    return next((name for name, other in _CODES.items() if other == code), f"0x{code:02x}")
