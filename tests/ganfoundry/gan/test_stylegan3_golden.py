"""StyleGAN3 reproduces numbers that the reference implementation computed (tests/golden)."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from ganfoundry.gan import stylegan3
from ganfoundry.gan.stylegan3_config import LayerGeometry, layer_geometry
from tests.ganfoundry.gan.test_stylegan2_golden import Golden

NAMES = ["sg3t_32_clamp", "sg3t_64_cond_xform", "sg3r_32_full14"]
ARGUMENTS = ("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "channel_base", "channel_max")


def reference_kwargs(golden: Golden) -> dict[str, Any]:
    given = {name: golden.config[name] for name in (*ARGUMENTS, "mapping_kwargs")}
    return given | golden.config["kwargs"]


def stylegan3_of(golden: Golden) -> stylegan3.Generator:
    return stylegan3.from_reference(reference_kwargs(golden), golden.below("param/"))


def layer_outputs(generator: stylegan3.Generator, z: Tensor, c: Tensor | None) -> tuple[Tensor, dict[str, Tensor]]:
    """Image, and the outputs of all layers with their margins, which features leave out."""
    found: dict[str, Tensor] = {}
    for name in generator.synthesis.layer_names:
        layer = generator.synthesis.get_submodule(name)
        layer.register_forward_hook(lambda _, __, output, name=name: found.__setitem__(name, output))
    return generator(z, c), found


@pytest.mark.parametrize("name", NAMES)
def test_images_layers_and_truncation(name: str) -> None:
    golden = Golden(name)
    generator = stylegan3_of(golden)
    z, c = golden["in/z"], golden.arrays.get("in/c")
    cutoff = golden.config["truncation_cutoff"]
    golden.check("out/w_psi1", generator.mapping(z, c))
    golden.check("out/ws_psi0.7", generator.ws(z, c, truncation=0.7, truncation_cutoff=cutoff))
    first_c = None if c is None else c[:1]
    golden.check("out/img_psi0.7", generator(z[:1], first_c, truncation=0.7, truncation_cutoff=cutoff))
    images, layers = layer_outputs(generator, z, c)
    golden.check("out/img_psi1", images)
    checked = [key for key in golden.arrays if key.startswith("act/")]
    assert len(checked) >= 5
    for key in checked:
        output = layers[key.removeprefix("act/synthesis.")]
        golden.check(key, output[:1, : golden[key].shape[1]])


def described(layer: LayerGeometry) -> Mapping[str, Any]:
    """A layer under the reference's names."""
    source, target = layer.source, layer.target
    return {
        "name": layer.name,
        "conv_kernel": layer.kernel,
        "crit": layer.critical,
        "is_torgb": layer.to_rgb,
        "up": layer.up,
        "down": layer.down,
        "up_taps": layer.up_taps,
        "down_taps": layer.down_taps,
        "radial": layer.radial,
        "padding": [*layer.padding, *layer.padding],
        "in_ch": source.channels,
        "out_ch": target.channels,
        "in_size": [source.size, source.size],
        "out_size": [target.size, target.size],
        "in_sr": source.sampling_rate,
        "out_sr": target.sampling_rate,
        "tmp_sr": source.sampling_rate * layer.up,
        "in_cutoff": source.cutoff,
        "out_cutoff": target.cutoff,
        "in_half_width": source.half_width,
        "out_half_width": target.half_width,
    }


@pytest.mark.parametrize("name", NAMES)
def test_geometry_value_by_value(name: str) -> None:
    golden = Golden(name)
    config = stylegan3.config_from_reference(reference_kwargs(golden))
    assert config.num_ws == golden.config["num_ws"]
    layers = layer_geometry(config)
    for layer, expected in zip(layers, golden.config["layers"], strict=True):
        assert described(layer) == {key: value for key, value in expected.items() if key != "fp16"}
    first = layers[0].source
    found = {"bandwidth": first.cutoff, "sampling_rate": first.sampling_rate, "size": [first.size, first.size]}
    assert found == golden.config["input"]


def test_clamp_of_the_file_bites() -> None:
    golden = Golden("sg3t_32_clamp")
    kwargs = reference_kwargs(golden)
    assert kwargs.pop("conv_clamp") == 1.5
    free = stylegan3.from_reference(kwargs, golden.below("param/"))
    assert float((free(golden["in/z"]) - golden["out/img_psi1"]).abs().max()) > 1e-3


def test_transform_of_the_file_moves_the_picture() -> None:
    golden = Golden("sg3t_64_cond_xform")
    generator = stylegan3_of(golden)
    generator.synthesis.input.transform.copy_(torch.eye(3))
    assert float((generator(golden["in/z"], golden["in/c"]) - golden["out/img_psi1"]).abs().max()) > 1e-2
