"""Networks in a pickle tree: torch modules saved by NVIDIA's ``torch_utils.persistence``, and TensorFlow networks.

A persistent module is pickled as its source text, class name and ``__dict__``. The source text is what loading the file
would execute; here it is never looked at. A TensorFlow network is pickled as its variables, its arguments and, again,
source text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.gan.pickles import tensors
from ganfoundry.gan.pickles.machine import SET, Node
from ganfoundry.gan.pickles.tensors import ArrayReader

PERSISTENT_MODULE = "torch_utils.persistence._reconstruct_persistent_obj"
TF_NETWORK = "dnnlib.tflib.network.Network"
RECONSTRUCTOR = "copyreg._reconstructor"
MAPPINGS = ("collections.OrderedDict", "dnnlib.util.EasyDict", "builtins.dict")
NAMES = frozenset((*tensors.NAMES, *MAPPINGS, PERSISTENT_MODULE, TF_NETWORK, RECONSTRUCTOR, SET, "builtins.object"))

MAX_MODULES = 5_000
MAX_ARRAYS = 5_000
MAX_DEPTH = 24
MAX_VALUES = 20_000
MAX_ENTRIES = 200_000

Plain = None | bool | int | float | str | list[Any] | dict[Any, Any]


@dataclass
class PickledNetwork:
    """What one network of the file is made of.

    Parameters
    ----------
    class_name : str
        As the file says.
    kwargs : dict
        Arguments it was made with; ``args`` those given by position.
    arrays : dict of str to array
        Parameters and buffers by dotted name (TensorFlow: variables by path), views of the file.
    attributes : dict of str to dict
        Numbers and texts that each module holds, by its dotted name ("" is the network itself).
    """

    class_name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    args: list[Any] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    attributes: dict[str, dict[str, Plain]] = field(default_factory=dict)


class NetworkReader:
    """Looks up networks in a tree, within limits on depth, number and size.

    Parameters
    ----------
    file_size : int
        Bytes of the file: the arrays of one network may not be larger than the file that holds them.
    """

    def __init__(self, file_size: int) -> None:
        self.file_size = file_size
        self.reader = ArrayReader(file_size)
        self._modules = self._values = self._entries = 0

    def network(self, value: object) -> PickledNetwork:
        """Read a persistent module or a TensorFlow network.

        Raises
        ------
        InputError
            If it is neither, is damaged, or is nested too deeply or too large (a cycle is both).
        """
        if type(value) is Node and _class_of(value) == TF_NETWORK:
            state = mapping_of(value.state)
            found = PickledNetwork(str(state.get("name", ""))[:100], self.plain_dict(state.get("static_kwargs")))
            self._add_variables(found, state, "", 0)
        elif is_module(value):
            meta, state = _persistent(value)
            found = PickledNetwork(_text(meta.get("class_name")), self.plain_dict(state.get("_init_kwargs")))
            args = state.get("_init_args")
            found.args = [self.plain(item) for item in args] if type(args) is tuple else []
            self._add_module(found, value, "", 0)
        else:
            raise InputError("the file holds something else where a network belongs")
        if sum(array.nbytes for array in found.arrays.values()) > self.file_size:
            raise InputError("the tensors of the file share memory beyond its size")
        return found

    def _add_module(self, found: PickledNetwork, module: object, prefix: str, depth: int) -> None:
        _, state = _persistent(module)
        groups = [mapping_of(state.get(group)) for group in ("_parameters", "_buffers", "_modules")]
        self._enter(depth, len(state) + sum(map(len, groups)))
        for name, value in (groups[0] | groups[1]).items():
            if value is not None:
                self._add_array(found, f"{prefix}{name}", self.reader.tensor(value))
        found.attributes[prefix.rstrip(".")] = {
            name: value for name, item in state.items() if _is_plain(value := self._scalar(item))
        }
        for name, child in groups[2].items():
            if child is not None:
                self._add_module(found, child, f"{prefix}{name}.", depth + 1)

    def _add_variables(self, found: PickledNetwork, state: Mapping[Any, Any], prefix: str, depth: int) -> None:
        variables, components = state.get("variables"), mapping_of(state.get("components"))
        if type(variables) is not list:
            raise InputError("a TensorFlow network of the file has damaged variables")
        self._enter(depth, len(variables) + len(components))
        for item in variables:
            if type(item) is not tuple or len(item) != 2 or type(item[0]) is not str:
                raise InputError("a TensorFlow network of the file has damaged variables")
            self._add_array(found, f"{prefix}{item[0]}", self.reader.array(item[1]))
        for name, child in components.items():
            if type(child) is not Node or _class_of(child) != TF_NETWORK:
                raise InputError("a TensorFlow network of the file has a damaged component")
            self._add_variables(found, mapping_of(child.state), f"{prefix}{name}/", depth + 1)

    def _enter(self, depth: int, entries: int) -> None:
        self._modules += 1
        self._entries += entries  # one large dictionary may be shared by many modules
        if depth > MAX_DEPTH or self._modules > MAX_MODULES or self._entries > MAX_ENTRIES:
            raise InputError("the networks of the file are nested too deeply, or have too many parts")

    def _add_array(self, found: PickledNetwork, name: str, array: NDArray[Any]) -> None:
        if len(found.arrays) >= MAX_ARRAYS or len(name) > 300:
            raise InputError("a network of the file has too many tensors, or names that are too long")
        found.arrays[name] = array

    # ------------------------------------------------------------------ plain values

    def plain_dict(self, value: object) -> dict[str, Any]:
        """Keyword arguments as ordinary values."""
        return {str(name): self.plain(item, 1) for name, item in mapping_of(value).items()}

    def plain(self, value: object, depth: int = 0) -> Plain:
        """Ordinary values of a tree: numpy numbers and small arrays as numbers and lists, tuples as lists.

        What is none of these is described by a text such as "<package.Class>".
        """
        self._values += 1
        if depth > MAX_DEPTH or self._values > MAX_VALUES:
            raise InputError("the arguments of a network in the file are nested too deeply, or too many")
        if type(value) in (list, tuple):
            return [self.plain(item, depth + 1) for item in value]  # type: ignore[attr-defined]
        if is_mapping(value):
            return {key: self.plain(item, depth + 1) for key, item in mapping_of(value).items()}
        if type(value) is Node and value.name in (tensors.RECONSTRUCT, tensors.FROMBUFFER):
            array = self.reader.array(value)
            self._values += array.size
            return None if self._values > MAX_VALUES else array.tolist()
        return self._scalar(value)

    def _scalar(self, value: object) -> Plain:
        """A number or text; anything else as a text in angle brackets."""
        if type(value) is Node and value.name == tensors.SCALAR:
            return self.reader.number(value)
        if isinstance(value, str):
            return value[:1000]
        if value is None or isinstance(value, int | float):
            return value
        return f"<{value.name if type(value) is Node else type(value).__name__}>"


def is_module(value: object) -> bool:
    """Whether a node is a persistent module."""
    return type(value) is Node and value.name == PERSISTENT_MODULE


def is_tf_network(value: object) -> bool:
    """Whether a node is a TensorFlow network."""
    return type(value) is Node and _class_of(value) == TF_NETWORK


def is_mapping(value: object) -> bool:
    """Whether a value is a dictionary of some kind."""
    return type(value) is dict or (type(value) is Node and _class_of(value) in MAPPINGS)


def mapping_of(value: object) -> dict[Any, Any]:
    """Entries of a dictionary, OrderedDict or EasyDict; None is empty.

    Raises
    ------
    InputError
        If it is none of them.
    """
    if value is None:
        return {}
    if type(value) is dict:
        return value
    if type(value) is Node and is_mapping(value):
        # Protocols 0 and 1 hand the entries of a subclass of dict to its reconstructor.
        base = value.args[2] if value.name == RECONSTRUCTOR and len(value.args) > 2 else None
        entries: dict[Any, Any] = value.items or (base if type(base) is dict else {})
        return entries
    raise InputError("the file holds something else where a dictionary belongs")


def _class_of(node: Node) -> str:
    """Name of the class a node stands for; protocols 0 and 1 name it as the reconstructor's argument."""
    if node.name == RECONSTRUCTOR and node.args:
        return str(getattr(node.args[0], "text", ""))
    return node.name


def _persistent(value: object) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Description and state of a persistent module."""
    if type(value) is not Node or not is_module(value) or len(value.args) != 1:
        raise InputError("the file holds something else where a module belongs")
    meta = mapping_of(value.args[0])
    if meta.get("type") != "class":
        raise InputError("the file holds something else where a module belongs")
    return meta, mapping_of(meta.get("state"))


def _text(value: object) -> str:
    if type(value) is not str or len(value) > 200:
        raise InputError("a class of the file has no name")
    return value


def _is_plain(value: Plain) -> bool:
    return not (isinstance(value, str) and value.startswith("<"))
