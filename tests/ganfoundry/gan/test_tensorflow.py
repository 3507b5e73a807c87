"""NVIDIA's TensorFlow files: golden images through a pickle, layouts turned back, arguments checked."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan import tensorflow
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.nvidia import read_nvidia
from ganfoundry.gan.stylegan2 import Generator
from tests.ganfoundry.gan.nvidiahelp import (
    discriminator_of,
    equal,
    generator_of,
)
from tests.ganfoundry.gan.picklehelp import (
    EasyDict,
    Network,
    dump,
)
from tests.ganfoundry.gan.test_stylegan2_golden import Golden


def tf_network(variables: dict[str, Tensor], name: str, **kwargs: Any) -> Network:
    """Variables spread over components as TensorFlow's networks keep them."""
    parts: dict[str, list[tuple[str, Any]]] = {"": [], "mapping": [], "synthesis": []}
    for path, value in variables.items():
        head, _, rest = path.partition("/")
        own = head not in parts
        parts["" if own else head].append((path if own else rest, value.numpy()))
    components = {key: Network(f"G_{key}", EasyDict(kwargs), parts[key]) for key in ("mapping", "synthesis")}
    return Network(name, EasyDict(kwargs), parts[""], **(components if parts["mapping"] else {}))


@pytest.mark.parametrize("protocol", range(6))
def test_tensorflow_files_give_golden_images(tmp_path: Path, protocol: int) -> None:
    golden = Golden("tf_sg2ada_64")
    variables = {"lod": torch.tensor(0.0), **golden.below("tf/")}
    network = tf_network(variables, "Gs", resample_kernel=[1, 3, 3, 1], mapping_lrmul=0.01)
    path = dump(tmp_path / "stylegan2-ffhq.pkl", (network, tf_network(tf_discriminator(), "D"), network), protocol)
    found = read_nvidia(path)
    assert found.tensorflow
    assert list(found.networks) == ["G", "D", "G_ema"]
    loaded = load_gan(path)
    golden.check("out/img_psi1", loaded.generator(golden["in/z"][:1]))
    assert loaded.discriminator is not None
    assert "TensorFlow" in loaded.notes[0]


def tf_discriminator(generator: Generator | None = None) -> dict[str, Tensor]:
    """A discriminator's variables in TensorFlow's names and layouts, written the other way round."""
    state = discriminator_of(generator or generator_of()).state_dict()
    names = {"conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip", "fromrgb": "FromRGB", "conv": "Conv"}
    names |= {"fc": "Dense0", "out": "Output"}
    made: dict[str, Tensor] = {}
    for name, value in state.items():
        block, _, rest = name.partition(".")
        layer, _, part = rest.partition(".")
        if part in ("weight", "bias"):
            path = "Output" if layer == "out" else f"{block[1:]}x{block[1:]}/{names[layer]}"
            order = {1: (0,), 2: (1, 0), 4: (2, 3, 1, 0)}[value.ndim]
            made[f"{path}/{part}"] = value.permute(order).contiguous()
    return made


def test_tensorflow_discriminator_is_transposed_back() -> None:
    torch.manual_seed(0)
    expected = discriminator_of(generator_of(16, 2, 2))
    torch.manual_seed(0)
    generator = generator_of(16, 2, 2)
    state, config = tensorflow.discriminator_parts(tf_discriminator(generator), {"mbstd_group_size": 4})
    assert equal(state, expected)
    assert config == expected.config


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"resample_kernel": [1]}, "resample_kernel is not a list"),
        ({"resample_kernel": [1, -1]}, "non-zero, finite sum"),
        ({"mapping_lrmul": "x"}, "mapping_lrmul = x, which is not a positive number"),
        ({"nonlinearity": "relu"}, "nonlinearity relu is not supported"),
    ],
)
def test_tensorflow_arguments_are_checked(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tensorflow.generator_parts(Golden("tf_sg2ada_64").below("tf/"), kwargs)
    with pytest.raises(InputError, match="4x4/Weird/weight is not a variable"):
        tensorflow.generator_parts({"4x4/Weird/weight": torch.zeros(1)}, {})
    with pytest.raises(InputError, match="4x4/Weird/weight is not a variable"):
        tensorflow.discriminator_parts({"4x4/Weird/weight": torch.zeros(1)}, {})
