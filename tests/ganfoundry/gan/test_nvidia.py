"""NVIDIA's files: every size, depth, conditioning and protocol back bit by bit, and golden images through a pickle."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ganfoundry.errors import InputError
from ganfoundry.gan import nvidia
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.infer import infer_config, infer_discriminator_config
from ganfoundry.gan.nvidia import read_nvidia
from ganfoundry.gan.stylegan2 import Generator
from tests.ganfoundry.gan.nvidiahelp import (
    ada_kwargs,
    discriminator_of,
    equal,
    flat_kwargs,
    generator_of,
    same_network,
)
from tests.ganfoundry.gan.picklehelp import (
    EasyDict,
    Persistent,
    dump,
    file_of,
    module_state,
    persistent,
)
from tests.ganfoundry.gan.test_stylegan2_golden import NVIDIA, Golden
from tests.ganfoundry.gan.test_stylegan3_golden import reference_kwargs, stylegan3_of

MATRIX = [
    (resolution, depth, multiplier, c_dim, protocol)
    for protocol in range(6)
    for resolution, depth, multiplier, c_dim in [(8, 2, 1, 0), (16, 8, 2, 3), (64, 1, 1, 0), (32, 3, 3, 2)]
]


# ------------------------------------------------------------------ what comes back


@pytest.mark.parametrize(("resolution", "depth", "multiplier", "c_dim", "protocol"), MATRIX)
def test_every_file_comes_back_bit_by_bit(
    tmp_path: Path, resolution: int, depth: int, multiplier: int, c_dim: int, protocol: int
) -> None:
    generator = generator_of(resolution, depth, multiplier, c_dim)
    discriminator = discriminator_of(generator, mbstd_group_size=2, conv_clamp=128.0)
    kwargs = ada_kwargs(generator.config)
    content = file_of(persistent(generator, "Generator", kwargs), persistent(discriminator, "Discriminator", {}))
    path = dump(tmp_path / "network-snapshot-000000.pkl", content, protocol)
    found = read_nvidia(path)
    assert found.problems == {}
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (found.networks["G_ema"].class_name, found.networks["D"].class_name) == ("Generator", "Discriminator")
    assert equal(found.networks["G_ema"].state, generator)
    assert found.networks["G_ema"].kwargs == kwargs
    loaded = load_gan(path)
    assert same_network(loaded.generator, generator)
    assert loaded.discriminator is not None
    assert same_network(loaded.discriminator, discriminator)
    assert loaded.sha256 == found.sha256
    assert loaded.notes == ("a pickle of NVIDIA's PyTorch code that holds D, G_ema; G_ema is the generator",)


@pytest.mark.parametrize("kwargs_of", [ada_kwargs, flat_kwargs], ids=["ada", "stylegan3"])
def test_settings_come_from_the_arguments_where_layers_hold_none(tmp_path: Path, kwargs_of: Any) -> None:
    generator = generator_of()
    bare = persistent(generator, "Generator", kwargs_of(generator.config), attributes=False)
    discriminator = discriminator_of(generator, mbstd_group_size=2, conv_clamp=64.0)
    arguments = {"conv_clamp": 64.0, "epilogue_kwargs": EasyDict(mbstd_group_size=2)}
    d = persistent(discriminator, "Discriminator", arguments, attributes=False)
    loaded = load_gan(dump(tmp_path / "x.pkl", file_of(bare, d)))
    assert same_network(loaded.generator, generator)
    assert loaded.discriminator is not None
    assert same_network(loaded.discriminator, discriminator)
    silent = load_gan(dump(tmp_path / "y.pkl", file_of(persistent(generator, "Generator", {}, attributes=False))))
    assert silent.generator.config.mapping_lr_multiplier == 0.01
    assert any(note.startswith("assumed: conv_clamp None") for note in silent.notes)
    assert "its D is unused: the file has none" in silent.notes


def test_positional_arguments_have_names(tmp_path: Path) -> None:
    generator = generator_of(c_dim=2)
    made = persistent(generator, "Generator", {"img_channels": 3})
    made.meta["state"]["_init_args"] = (4, 2, 6, 8)
    kwargs = read_nvidia(dump(tmp_path / "x.pkl", file_of(made))).networks["G_ema"].kwargs
    assert kwargs == {"z_dim": 4, "c_dim": 2, "w_dim": 6, "img_resolution": 8, "img_channels": 3}


def test_values_that_numpy_wrote(tmp_path: Path) -> None:
    generator = generator_of()
    for protocol in range(6):
        kwargs = {"gain": np.float64(0.5), "sizes": np.array([[1, 2], [3, 4]]), "pair": (1, None), "names": {"a"}}
        path = dump(tmp_path / "x.pkl", file_of(persistent(generator, "Generator", kwargs)), protocol)
        found = read_nvidia(path).networks["G_ema"].kwargs
        expected = {"gain": 0.5, "sizes": [[1, 2], [3, 4]], "pair": [1, None], "names": "<builtins.set>"}
        assert found == expected, protocol


def test_other_layouts_of_tensors(tmp_path: Path) -> None:
    """Half precision, bfloat16, channels_last, a slice of a larger storage, shared storages: values and types stay."""
    base = torch.randn(40)
    arrays = {
        "half": torch.randn(3, 4).half(),
        "bfloat": torch.randn(3, 4).bfloat16(),
        "last": torch.randn(1, 4, 3, 3).to(memory_format=torch.channels_last),
        "slice": base[5:17].view(3, 4).t(),
        "same": base,
        "number": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "double": torch.randn(2).double(),
        "flag": torch.tensor([True, False]),
    }
    module = Persistent("Generator", module_state({}, arrays, {}, {}))
    for protocol in (0, 2, 4, 5):
        found = read_nvidia(dump(tmp_path / "x.pkl", file_of(module), protocol)).networks["G_ema"]
        assert list(found.state) == list(arrays)
        for name, value in arrays.items():
            assert found.state[name].dtype == value.dtype
            assert torch.equal(found.state[name], value), name
            assert found.state[name].is_contiguous()


def test_arrays_are_views_of_the_file(tmp_path: Path) -> None:
    path = dump(tmp_path / "x.pkl", file_of(persistent(generator_of(64), "Generator", {})))
    arrays = read_nvidia(path).networks["G_ema"].arrays
    large = [array for array in arrays.values() if array.nbytes > 4096]
    assert large
    assert not any(array.flags.owndata or array.flags.writeable for array in large)


# ------------------------------------------------------------------ golden images


def snapshot(golden: Golden, network: nn.Module, class_name: str) -> dict[str, Any]:
    """The golden network in a file, with the arguments the reference made it with."""
    names = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs")
    kwargs = {name: golden.config[name] for name in names if name in golden.config}
    if golden.config["reference"] == "NVlabs/stylegan3":
        kwargs |= kwargs.pop("synthesis_kwargs", {})
    made = persistent(network, class_name, kwargs)
    return file_of(made) if class_name == "Generator" else file_of(None, made)


def golden_generator(golden: Golden) -> Generator:
    """Weights, and the settings that the reference's layers hold."""
    synthesis, mapping = golden.config["synthesis_kwargs"], golden.config["mapping_kwargs"]
    clamp = synthesis.get("conv_clamp", 256 if golden.config["reference"] == "NVlabs/stylegan3" else None)
    state, rate = golden.below("param/"), mapping.get("lr_multiplier", 0.01)
    generator = Generator(infer_config(state, conv_clamp=clamp, mapping_lr_multiplier=rate))
    generator.load_state_dict(state)
    return generator


@pytest.mark.parametrize("name", NVIDIA)
def test_golden_images_through_a_pickle(tmp_path: Path, name: str) -> None:
    golden = Golden(name)
    path = dump(tmp_path / f"{name}.pkl", snapshot(golden, golden_generator(golden), "Generator"), 3)
    generator = load_gan(path).generator
    z, c = golden["in/z"], golden.arrays.get("in/c")
    cutoff = golden.config["truncation_cutoff"]
    images = golden["out/img_psi1"]
    golden.check("out/img_psi1", generator(z, c)[: len(images)])
    first = None if c is None else c[:1]
    golden.check("out/img_psi0.7", generator(z[:1], first, truncation=0.7, truncation_cutoff=cutoff))


def test_golden_logits_through_a_pickle(tmp_path: Path) -> None:
    golden = Golden("sg2ada_D64_cond")
    state = golden.below("param/")
    discriminator = Discriminator(infer_discriminator_config(state, mbstd_group_size=2))
    discriminator.load_state_dict(state)
    generator = generator_of(8, 2, 1, 5)
    made = persistent(discriminator, "Discriminator", {})
    loaded = load_gan(dump(tmp_path / "x.pkl", file_of(persistent(generator, "Generator", {}), made))).discriminator
    assert loaded is not None
    golden.check("out/logits", loaded(golden["in/img"], golden["in/c"]))


# ------------------------------------------------------------------ what is refused, or told


def changed(**attributes: Any) -> Persistent:
    made = persistent(generator_of(), "Generator", attributes.pop("kwargs", {}))
    layer = made.meta["state"]["_modules"]["synthesis"].meta["state"]["_modules"]["b4"].meta["state"]["_modules"]
    layer["conv1"].meta["state"].update(attributes)
    return made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: changed(kwargs={"img_resolution": 512}), r"contradicts its tensors .*img_resolution 512 \(8\)"),
        (lambda: changed(kwargs={"z_dim": "four"}), r"z_dim four \(4\)"),
        (lambda: changed(activation="relu"), "activation relu of synthesis.b4.conv1 is not supported"),
        (lambda: changed(conv_clamp="big"), "conv_clamp = big, which is not a positive number"),
        (lambda: changed(conv_clamp=-1.0), "conv_clamp = -1.0"),
        (lambda: Persistent("Generator", module_state({}, {}, {}, {})), "not those of a StyleGAN2 generator"),
        (
            lambda: Persistent("Generator", module_state({}, {"synthesis.input.freqs": torch.zeros(2)}, {}, {})),
            "StyleGAN3",
        ),
    ],
)
def test_generators_that_cannot_be_used(tmp_path: Path, made: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_gan(dump(tmp_path / "x.pkl", file_of(made())))


def test_not_finite_and_missing_tensors(tmp_path: Path) -> None:
    generator = generator_of()
    generator.mapping.fc0.bias.data[0] = torch.nan
    with pytest.raises(InputError, match=r"mapping\.fc0\.bias holds values that are not finite"):
        load_gan(dump(tmp_path / "x.pkl", file_of(persistent(generator, "Generator", {}))))
    del generator.mapping.fc0.bias
    with pytest.raises(InputError, match=r"mapping\.fc0\.bias is missing"):
        load_gan(dump(tmp_path / "x.pkl", file_of(persistent(generator, "Generator", {}))))


def test_a_generator_is_of_use_without_its_discriminator(tmp_path: Path) -> None:
    g = persistent(generator_of(), "Generator", {})
    other = persistent(discriminator_of(generator_of()), "Discriminator", {"architecture": "skip"})
    loaded = load_gan(dump(tmp_path / "x.pkl", file_of(g, other)))
    assert loaded.discriminator is None
    assert "its D is unused: discriminators of architecture skip are not supported, only resnet" in loaded.notes
    damaged = persistent(discriminator_of(generator_of()), "Discriminator", {})
    damaged.meta["state"]["_buffers"] = {"x": torch.zeros(1).expand(5)}
    loaded = load_gan(dump(tmp_path / "x.pkl", file_of(None, damaged, G=g)))
    assert "G is the generator" in loaded.notes[0]
    assert any("D is unused: a tensor of the file overlaps itself" in note for note in loaded.notes)


def test_unknown_classes_are_listed_and_may_pass_as_empty_holders(tmp_path: Path) -> None:
    from collections import Counter
    from fractions import Fraction

    g = persistent(generator_of(), "Generator", {})
    path = dump(tmp_path / "fork.pkl", file_of(g, stats=Counter("ab"), rate=Fraction(1, 2)))
    names = ("collections.Counter", "fractions.Fraction")
    with pytest.raises(InputError, match=r"asks for collections\.Counter, fractions\.Fraction.*--allow-inert"):
        load_gan(path)
    with pytest.raises(InputError, match=r"asks for collections\.Counter, which"):
        load_gan(path, allow_inert=names[1:])
    assert load_gan(path, allow_inert=names).generator.config == generator_of().config


@pytest.mark.parametrize(
    "content",
    [3, [], {}, {"G_ema": None}, {"weights": {"a": torch.zeros(2)}}, ("a", "b", "c"), EasyDict(G=None)],
)
def test_pickles_of_other_things(tmp_path: Path, content: Any) -> None:
    with pytest.raises(InputError, match=r"other\.pkl: the file is a pickle, but holds none of NVIDIA's networks"):
        load_gan(dump(tmp_path / "other.pkl", content))
    with pytest.raises(InputError, match=r"holds no generator that can be read \(G_ema: .*something else"):
        load_gan(dump(tmp_path / "other.pkl", {"G_ema": 3}))


WRONG = [None, -1, "x", float("nan"), 1e-300, 10**40, [1]]


@pytest.mark.parametrize("name", ["sg3t_32_clamp", "sg2ada_32_resnet"])
def test_wrong_arguments_never_surprise(tmp_path: Path, name: str) -> None:
    """A file may say anything about its networks: it loads, or is refused in a sentence."""
    golden = Golden(name)
    stylegan3 = name.startswith("sg3")
    network = stylegan3_of(golden) if stylegan3 else golden_generator(golden)
    kwargs = reference_kwargs(golden) if stylegan3 else ada_kwargs(network.config)
    nested = ("mapping_kwargs", "synthesis_kwargs")
    refused = 0
    for key, value in [(key, value) for key in {*kwargs, *nested, "first_stopband"} for value in WRONG]:
        file = dump(tmp_path / "x.pkl", file_of(persistent(network, "Generator", {**kwargs, key: value})))
        try:
            load_gan(file)
        except InputError:
            refused += 1
    assert refused > 30


def test_latents_of_absurd_length_are_refused() -> None:
    state = {**generator_of().state_dict(), "mapping.fc0.weight": torch.zeros(1).expand(6, 100_000)}
    with pytest.raises(InputError, match="latents of 100000 numbers are too long"):
        infer_config(state)


def test_what_stylegan3_needs(tmp_path: Path) -> None:
    """Class name, arguments and flat state of networks with other layers."""
    freqs = torch.randn(4, 2)
    inner = Persistent("SynthesisInput", module_state({}, {"freqs": freqs}, {}, {"bandwidth": np.float64(2.5)}))
    synthesis = Persistent("SynthesisNetwork", module_state({}, {}, {"input": inner}, {"num_layers": 14}))
    network = Persistent("Generator", module_state({}, {}, {"synthesis": synthesis}, {}))
    network.meta["state"] |= {"_init_args": (), "_init_kwargs": EasyDict(channel_base=32768, use_radial_filters=True)}
    found = read_nvidia(dump(tmp_path / "x.pkl", file_of(network))).networks["G_ema"]
    assert found.is_stylegan3
    assert found.kwargs == {"channel_base": 32768, "use_radial_filters": True}
    assert torch.equal(found.state["synthesis.input.freqs"], freqs)
    assert found.attributes["synthesis.input"]["bandwidth"] == 2.5
    assert isinstance(found, nvidia.NvidiaModule)
