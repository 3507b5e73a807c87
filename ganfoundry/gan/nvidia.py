"""NVIDIA's pickles: networks of stylegan2-ada-pytorch, stylegan3 and the TensorFlow StyleGAN2.

Files are read as data (``ganfoundry.gan.pickles``). Sizes follow from the tensors. What leaves no trace in them (clamp
of activations, learning-rate multiplier, minibatch groups) is read off the modules' attributes or, where those lack it,
off the arguments the network was made with: stylegan2-ada-pytorch nests them under ``mapping_kwargs`` and
``synthesis_kwargs``, stylegan3 passes those of the synthesis network flat.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig
from ganfoundry.gan.infer import infer_config, infer_discriminator_config
from ganfoundry.gan.pickles import modules
from ganfoundry.gan.pickles.machine import UnknownNames, read_tree
from ganfoundry.gan.pickles.tensors import BFLOAT16

NETWORKS = ("G", "D", "G_ema", "augment_pipe")
_TF_NETWORKS = ("G", "D", "G_ema")  # a tuple in this order
_POSITIONAL = {
    "Generator": ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs"),
    "Discriminator": ("c_dim", "img_resolution", "img_channels", "architecture"),
}
_WHOLE_BATCH = 1 << 16  # a group size of None means the whole batch


@dataclass
class NvidiaModule:
    """One network of a file.

    Parameters
    ----------
    class_name : str
        As the file says; for TensorFlow the network's name.
    kwargs : dict
        Arguments it was made with, ordinary values; keyword and positional ones together.
    arrays : dict of str to array
        Parameters and buffers by dotted name, views of the file; TensorFlow's variables by path.
    attributes : dict of str to dict
        Numbers and texts in the modules, by the module's dotted name ("" is the network).
    """

    class_name: str
    kwargs: dict[str, Any]
    arrays: dict[str, NDArray[Any]] = field(repr=False)
    attributes: dict[str, dict[str, Any]] = field(repr=False, default_factory=dict)

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers as contiguous tensors of their stored type, copied out of the file."""
        return {name: _tensor(array) for name, array in self.arrays.items()}

    @property
    def is_stylegan3(self) -> bool:
        """Whether its layers are those of StyleGAN3 (the classes are called Generator in both)."""
        return "synthesis.input.freqs" in self.arrays


@dataclass
class NvidiaNetworks:
    """What a file holds.

    Parameters
    ----------
    networks : dict of str to NvidiaModule
        Those of "G", "D", "G_ema" and "augment_pipe" that are there.
    problems : dict of str to str
        Why others of them cannot be used.
    sha256 : str
        Of the file.
    tensorflow : bool
        Whether the networks are TensorFlow's.
    """

    networks: dict[str, NvidiaModule]
    problems: dict[str, str]
    sha256: str
    tensorflow: bool


def read_nvidia(path: str | Path, allow_inert: Collection[str] = ()) -> NvidiaNetworks:
    """Read a file; nothing in it is imported or executed.

    Parameters
    ----------
    path : str or Path
        A .pkl file, or a plain pickle under another name.
    allow_inert : collection of str
        Dotted names beyond the known ones that the file may refer to; they become empty holders.

    Raises
    ------
    InputError
        If the file is damaged, refers to unknown names (they are listed) or holds no such networks.
    """
    data = Path(path).read_bytes()
    try:
        tree, _ = read_tree(data, modules.NAMES | set(allow_inert))
        found = _networks(tree)
    except UnknownNames as error:
        raise InputError(f"{path}: {error}; import-gan --allow-inert NAME puts an empty holder in its place") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    reader = modules.NetworkReader(len(data))
    networks: dict[str, NvidiaModule] = {}
    problems: dict[str, str] = {}
    for name, node in found.items():
        try:
            networks[name] = _module(reader.network(node))
        except InputError as error:
            problems[name] = str(error)
    return NvidiaNetworks(networks, problems, hashlib.sha256(data).hexdigest(), type(tree) is tuple)


def generator_config(module: NvidiaModule) -> tuple[GeneratorConfig, tuple[str, ...]]:
    """Configuration of a StyleGAN2 generator in PyTorch, and what had to be assumed.

    Raises
    ------
    InputError
        If the tensors are not those of one, or contradict the file's own arguments.
    """
    notes: list[str] = []
    for layer in ("mapping.fc0", "synthesis.b4.conv1"):
        _expect_leaky_relu(module, layer)
    synthesis = _nested(module.kwargs, "synthesis_kwargs")
    config = infer_config(
        module.state,
        mapping_lr_multiplier=_learning_rate(module, notes),
        conv_clamp=_setting(module, "synthesis.b4.conv1.conv_clamp", synthesis, "conv_clamp", None, notes),
    )
    sizes = {name: getattr(config, name) for name in ("z_dim", "c_dim", "w_dim", "img_channels")}
    _agree(module.kwargs, {**sizes, "img_resolution": config.resolution})
    return config, tuple(notes)


def discriminator_config(module: NvidiaModule) -> DiscriminatorConfig:
    """Configuration of a residual discriminator in PyTorch; errors as in :func:`generator_config`."""
    architecture = module.kwargs.get("architecture", "resnet")
    if architecture != "resnet":
        raise InputError(f"discriminators of architecture {str(architecture)[:20]} are not supported, only resnet")
    _expect_leaky_relu(module, "b4.conv")
    epilogue = _nested(module.kwargs, "epilogue_kwargs")
    group = _setting(module, "b4.mbstd.group_size", epilogue, "mbstd_group_size", 4, [])
    config = infer_discriminator_config(
        module.state,
        mapping_lr_multiplier=_learning_rate(module, []),
        conv_clamp=_setting(module, "b4.conv.conv_clamp", module.kwargs, "conv_clamp", None, []),
        mbstd_group_size=_WHOLE_BATCH if group is None else int(group),
    )
    sizes = {"c_dim": config.c_dim, "img_channels": config.img_channels, "img_resolution": config.resolution}
    _agree(module.kwargs, sizes)
    return config


def _networks(tree: object) -> dict[str, object]:
    """Nodes of the networks in a file."""
    if type(tree) is tuple and len(tree) == 3 and all(modules.is_tf_network(node) for node in tree):
        return dict(zip(_TF_NETWORKS, tree, strict=True))
    if modules.is_mapping(tree):
        found = {name: node for name, node in modules.mapping_of(tree).items() if name in NETWORKS and node is not None}
        if found:
            return found
    raise InputError("the file is a pickle, but holds none of NVIDIA's networks (G, D, G_ema)")


def _module(found: modules.PickledNetwork) -> NvidiaModule:
    names = _POSITIONAL.get(found.class_name, ())
    kwargs = {**dict(zip(names, found.args, strict=False)), **found.kwargs}
    wrong = [name for name, value in kwargs.items() if name.endswith("_kwargs") and not isinstance(value, dict | None)]
    if wrong:
        raise InputError(f"the file's {wrong[0][:40]} are not a dictionary")
    given = {name: value for name, value in kwargs.items() if not (name.endswith("_kwargs") and value is None)}
    return NvidiaModule(found.class_name, given, found.arrays, found.attributes)


def _tensor(array: NDArray[Any]) -> Tensor:
    """Aligned copy of a view of the file."""
    if array.dtype == BFLOAT16:
        return torch.from_numpy(array["bfloat16"].astype(np.int16, order="C")).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C"))


def _nested(kwargs: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Arguments for a part: nested under its name (stylegan2-ada-pytorch) or flat (stylegan3)."""
    inner = kwargs.get(name)
    return {**kwargs, **inner} if isinstance(inner, dict) else kwargs


def _setting(
    module: NvidiaModule, attribute: str, kwargs: Mapping[str, Any], name: str, default: float | None, notes: list[str]
) -> Any:
    """A positive number, or None: the module's attribute, else the argument, else the default, with a note."""
    layer, _, key = attribute.rpartition(".")
    held = module.attributes.get(layer, {})
    if key not in held and name not in kwargs:
        notes.append(f"assumed: {name} {default}, which the file does not say")
        return default
    value = held[key] if key in held else kwargs[name]
    if value is None or (type(value) in (int, float) and 0 < value < 1e9):
        return value
    raise InputError(f"the file says {name} = {str(value)[:20]}, which is not a positive number")


def _learning_rate(module: NvidiaModule, notes: list[str]) -> float:
    """Learning-rate multiplier of the mapping network, 1 / the scale of its stored weights."""
    kwargs = _nested(module.kwargs, "mapping_kwargs")
    value = _setting(module, "mapping.fc0.bias_gain", kwargs, "lr_multiplier", 0.01, notes)
    if value is None:
        raise InputError("the file says lr_multiplier = None, which is not a positive number")
    return float(value)


def _expect_leaky_relu(module: NvidiaModule, layer: str) -> None:
    activation = module.attributes.get(layer, {}).get("activation", "lrelu")
    if activation != "lrelu":
        raise InputError(f"the activation {str(activation)[:20]} of {layer} is not supported, only lrelu")


def _agree(kwargs: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    """Refuse a file whose arguments contradict its tensors."""
    wrong = [
        f"{name} {str(kwargs[name])[:20]} ({size})" for name, size in sizes.items() if kwargs.get(name, size) != size
    ]
    if wrong:
        raise InputError(f"the file contradicts its tensors (in brackets): {', '.join(wrong)}")
