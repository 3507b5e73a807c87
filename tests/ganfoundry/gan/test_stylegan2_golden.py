"""The networks reproduce numbers that the reference implementations computed (tests/golden)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganfoundry.gan import rosinality, tensorflow
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.infer import infer_config, infer_discriminator_config
from ganfoundry.gan.stylegan2 import Discriminator, Generator

GOLDEN = Path(__file__).parents[2] / "golden"
TOLERANCE = 5e-5


class Golden:
    """One file of numbers."""

    def __init__(self, name: str) -> None:
        with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
            self.arrays = {key: torch.from_numpy(arrays[key].copy()) for key in arrays.files if key != "config"}
            self.config: dict[str, Any] = json.loads(str(arrays["config"]))

    def __getitem__(self, key: str) -> Tensor:
        return self.arrays[key]

    def below(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.arrays.items() if key.startswith(prefix)}

    def check(self, key: str, value: Tensor) -> None:
        expected = self.arrays[key]
        assert value.shape == expected.shape
        limit = TOLERANCE * max(1.0, float(expected.abs().max()))
        assert float((value - expected).abs().max()) <= limit, key


def nvidia_generator(golden: Golden) -> Generator:
    """Network with the file's weights; what shapes do not tell is taken from the file's configuration."""
    state = golden.below("param/")
    synthesis, mapping = golden.config["synthesis_kwargs"], golden.config["mapping_kwargs"]
    default_clamp = 256 if golden.config["reference"] == "NVlabs/stylegan3" else None
    config = infer_config(
        state,
        conv_clamp=synthesis.get("conv_clamp", default_clamp),
        mapping_lr_multiplier=mapping.get("lr_multiplier", 0.01),
    )
    assert config.architecture == synthesis.get("architecture", "skip")
    assert config.num_ws == golden.config["num_ws"]
    generator = Generator(config)
    generator.load_state_dict(state, strict=True)
    return generator.requires_grad_(False)


def rosinality_generator(golden: Golden) -> Generator:
    state = rosinality.generator_state(golden.below("param/"), golden["extra/latent_avg"])
    generator = Generator(infer_config(state))
    generator.load_state_dict(state, strict=True)
    return generator.requires_grad_(False)


NVIDIA = [
    "sg2ada_32_asymfilter",
    "sg2ada_32_resnet",
    "sg2ada_32_orig",
    "sg2ada_32_nonoise",
    "sg2ada_64_clamp_fp16cfg",
    "sg2ada_64_cond",
    "sg3repo_sg2_64",
]


@pytest.mark.parametrize("name", NVIDIA)
def test_nvidia_generator(name: str) -> None:
    golden = Golden(name)
    generator = nvidia_generator(golden)
    z, c = golden["in/z"], golden.arrays.get("in/c")
    first_c = None if c is None else c[:1]
    cutoff = golden.config["truncation_cutoff"]
    golden.check("out/w_psi1", generator.mapping(z, c))
    golden.check("out/ws_psi0.7", generator.ws(z, c, truncation=0.7, truncation_cutoff=cutoff))
    images = golden["out/img_psi1"]
    golden.check("out/img_psi1", generator(z, c)[: len(images)])
    golden.check("out/img_psi0.7", generator(z[:1], first_c, truncation=0.7, truncation_cutoff=cutoff))
    if "out/img_psi1_nonoise" in golden.arrays:
        golden.check("out/img_psi1_nonoise", generator(z[:1], first_c, noise="none"))
    layers = [key for key in golden.below("act/synthesis.") if "conv" in key]
    _, features = generator.synthesis(generator.ws(z[:1], first_c), features=layers)
    for layer in layers:
        golden.check(f"act/synthesis.{layer}", features[layer])


def test_clamp_of_the_file_bites() -> None:
    golden = Golden("sg2ada_64_clamp_fp16cfg")
    generator = nvidia_generator(golden)
    _, features = generator.synthesis(generator.ws(golden["in/z"]), features=["b64.conv1"])
    assert float(features["b64.conv1"].abs().max()) == generator.config.conv_clamp == 2


def test_flipped_filter_is_noticed() -> None:
    golden = Golden("sg2ada_32_asymfilter")
    generator = nvidia_generator(golden)
    for name, buffer in generator.named_buffers():
        if name.endswith("resample_filter"):
            buffer.copy_(buffer.flip(0, 1))
    assert float((generator(golden["in/z"]) - golden["out/img_psi1"]).abs().max()) > 0.1


@pytest.mark.parametrize(
    "make", [rosinality_generator, lambda _: load_gan(GOLDEN / "ros_32_asym.pt").generator], ids=["state", "pt"]
)
def test_rosinality_generator(make: Callable[[Golden], Generator]) -> None:
    golden = Golden("ros_32_asym")
    generator = make(golden)
    z = golden["in/z"]
    golden.check("out/w_psi1", generator.mapping(z))
    golden.check("out/w_psi0.7", generator.ws(z, truncation=0.7)[:, 0])
    golden.check("out/img_psi1", generator(z))
    golden.check("out/img_psi0.7", generator(z[:1], truncation=0.7))
    golden.check("out/img_psi1_nonoise", generator(z[:1], noise="none"))
    ws = generator.ws(z)
    mixed = torch.cat([ws[:1, :3], ws[1:2, 3:]], dim=1)
    golden.check("out/img_mix_inject3", generator.synthesis(mixed))
    _, features = generator.synthesis(ws[:1], features=["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0"])
    for key, layer in {
        "conv1": "b4.conv1",
        "convs.0": "b8.conv0",
        "convs.1": "b8.conv1",
        "convs.2": "b16.conv0",
    }.items():
        golden.check(f"act/{key}", features[layer])


def test_tensorflow_variables() -> None:
    golden = Golden("tf_sg2ada_64")
    state = tensorflow.generator_state(golden.below("tf/"))
    generator = Generator(infer_config(state))
    generator.load_state_dict(state, strict=True)
    generator.requires_grad_(False)
    z = golden["in/z"]
    golden.check("out/w_psi1", generator.mapping(z))
    golden.check("out/ws_psi0.7", generator.ws(z, truncation=0.7))
    golden.check("out/img_psi1", generator(z[:1]))
    golden.check("out/img_psi0.7", generator(z[:1], truncation=0.7))


def test_nvidia_discriminator() -> None:
    golden = Golden("sg2ada_D64_cond")
    state = golden.below("param/")
    config = infer_discriminator_config(state, mbstd_group_size=2)
    assert (config.c_dim, config.num_mapping_layers) == (5, 2)
    discriminator = Discriminator(config).requires_grad_(False)
    discriminator.load_state_dict(state, strict=True)
    golden.check("out/logits", discriminator(golden["in/img"], golden["in/c"]))


def test_rosinality_discriminator() -> None:
    golden = Golden("ros_D64")
    state = rosinality.discriminator_state(golden.below("param/"))
    discriminator = Discriminator(infer_discriminator_config(state)).requires_grad_(False)
    discriminator.load_state_dict(state, strict=True)
    golden.check("out/logits", discriminator(golden["in/img"]))
