"""Writes pickles in the layout of NVIDIA's files, with Python's own pickler and none of NVIDIA's code.

The pickler looks classes up by name, so modules of the right names exist while it works.
"""

import contextlib
import pickle  # noqa: TID251
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from torch import nn

from ganfoundry.gan.discriminator import DiscriminatorEpilogue
from ganfoundry.gan.layers import Conv2dLayer, FullyConnectedLayer
from ganfoundry.gan.modulation import SynthesisLayer

SOURCE = "raise SystemExit('the source text of the file was executed')\n" * 40
HOOKS = ("_backward_hooks", "_forward_hooks", "_forward_pre_hooks", "_state_dict_hooks", "_load_state_dict_pre_hooks")


def _reconstruct_persistent_obj(meta: object) -> None:
    """Only its name is pickled."""


class Persistent:
    """A module as torch_utils.persistence pickles it."""

    def __init__(self, class_name: str, state: dict[str, Any], source: str = SOURCE) -> None:
        self.meta = {
            "type": "class",
            "version": 6,
            "module_src": source,
            "class_name": class_name,
            "state": state,
        }

    def __reduce__(self) -> tuple[Any, ...]:
        return _reconstruct_persistent_obj, (self.meta,)


class EasyDict(dict):  # type: ignore[type-arg]
    """Pickled by name."""


class Network:
    """A TensorFlow network."""

    def __init__(self, name: str, kwargs: Any, variables: list[tuple[str, Any]], **components: "Network") -> None:
        self.state = {
            "version": 4,
            "name": name,
            "static_kwargs": kwargs,
            "components": components,
            "build_module_src": SOURCE,
            "build_func_name": "G_main",
            "variables": variables,
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.state


_PLACES = {
    "torch_utils.persistence": _reconstruct_persistent_obj,
    "dnnlib.util": EasyDict,
    "dnnlib.tflib.network": Network,
}


@contextlib.contextmanager
def nvidia_names() -> Iterator[None]:
    """Let the pickler find the stand-ins under NVIDIA's names."""
    made: list[str] = []
    originals = {found: found.__module__ for found in _PLACES.values()}
    for place, found in _PLACES.items():
        parts = place.split(".")
        for name in (".".join(parts[: n + 1]) for n in range(len(parts))):
            if name not in sys.modules:
                sys.modules[name] = ModuleType(name)
                made.append(name)
        setattr(sys.modules[place], found.__name__, found)
        found.__module__ = place
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
        for found, module in originals.items():
            found.__module__ = module


def dumps(content: Any, protocol: int = 4) -> bytes:
    """Pickle under NVIDIA's names."""
    with nvidia_names():
        return pickle.dumps(content, protocol)


def dump(path: Path, content: Any, protocol: int = 4) -> Path:
    """Write such a pickle to a file, without a second copy in memory."""
    with nvidia_names(), path.open("wb") as stream:
        pickle.dump(content, stream, protocol)
    return path


def file_of(G_ema: Any, D: Any = None, G: Any = None, **others: Any) -> dict[str, Any]:
    """Content of a training snapshot."""
    return {
        "training_set_kwargs": EasyDict(class_name="training.dataset.ImageFolderDataset", resolution=64),
        "G": G,
        "D": D,
        "G_ema": G_ema,
        "augment_pipe": None,
        **others,
    }


def persistent(network: nn.Module, class_name: str, kwargs: Any, *, attributes: bool = True) -> Persistent:
    """One of our networks as a persistent module tree; `attributes`: whether layers hold their settings."""
    made = _tree(network, class_name, attributes)
    made.meta["state"] |= {"_init_args": (), "_init_kwargs": kwargs}
    return made


def _tree(module: nn.Module, class_name: str, attributes: bool) -> Persistent:
    children = {name: _tree(child, type(child).__name__, attributes) for name, child in module.named_children()}
    if isinstance(module, DiscriminatorEpilogue):
        held = {"group_size": module.group_size, "num_channels": module.num_channels} if attributes else {}
        children["mbstd"] = Persistent("MinibatchStdLayer", module_state({}, {}, {}, held))
    values = _settings(module) if attributes else {}
    return Persistent(class_name, module_state(dict(module._parameters), dict(module._buffers), children, values))


def module_state(
    parameters: Mapping[str, Any], buffers: Mapping[str, Any], children: Mapping[str, Any], values: Mapping[str, Any]
) -> dict[str, Any]:
    """__dict__ of a torch module."""
    return {
        "training": True,
        "_parameters": parameters,
        "_buffers": buffers,
        "_non_persistent_buffers_set": set(),
        **{name: OrderedDict() for name in HOOKS},
        "_modules": children,
        **values,
    }


def _settings(module: nn.Module) -> dict[str, Any]:
    """Plain attributes that NVIDIA's layers hold."""
    if isinstance(module, FullyConnectedLayer):
        gain = np.float64(module.weight_gain)
        return {
            "activation": "lrelu" if module.activate else "linear",
            "weight_gain": gain,
            "bias_gain": module.bias_gain,
        }
    if isinstance(module, SynthesisLayer | Conv2dLayer):
        activation = "linear" if getattr(module, "activate", True) is False else "lrelu"
        return {"activation": activation, "conv_clamp": module.conv_clamp, "act_gain": np.float64(2**0.5)}
    return {}
