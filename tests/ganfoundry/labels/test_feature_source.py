"""Feature maps by hooks from any module, and raw convolutions of StyleGAN2 against the layer itself."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganfoundry.errors import InputError
from ganfoundry.gan.modulation import SynthesisLayer, modulated_conv2d
from ganfoundry.gan.stylegan2 import Generator, GeneratorConfig
from ganfoundry.labels.feature_source import HookedNetwork, images_and_maps, layers_of
from ganfoundry.labels.interpreter import Training
from ganfoundry.labels.presets import PRESETS, get_preset
from ganfoundry.labels.synthesis import images_and_features, images_and_table, label_samples

torch.set_num_threads(1)


class Toy(nn.Module):
    """Some other project's generator: latents (N, 4) to 16 px images."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(4, 12, 4)
        self.up = nn.Upsample(scale_factor=4)
        self.second = nn.Conv2d(12, 8, 3, padding=1)
        self.unused = nn.Conv2d(1, 1, 1)
        self.vector = nn.Flatten()

    def forward(self, z: Tensor) -> Tensor:
        x = torch.tanh(self.first(z[:, :, None, None]))
        self.vector(x)
        return torch.tanh(self.second(self.up(x)))[:, :3]


@pytest.fixture(scope="module")
def toy() -> Toy:
    torch.manual_seed(0)
    return Toy().eval()


def test_any_module_is_interpreted(toy: Toy) -> None:
    """From latents to labels of unseen samples, with a module that knows nothing of this library."""
    source = HookedNetwork(toy, ["first", "second"], torch.zeros(1, 4))
    assert source.feature_dims == {"first": (12, 4), "second": (8, 16)}
    assert layers_of(source, "second-and-raw") == ["first", "second"]  # there are no pairs of convolutions
    z = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    images, table = images_and_table(source, z, ["first", "second"])
    labels = (images[..., 0] > 127).astype(np.uint8)
    preset = get_preset("ours")
    fitted = type(preset)(
        "ours", members=2, hidden=(16,), training=Training(steps=60, batch_pixels=64, dropout=0.0)
    ).fit(table, labels, 2)
    made = label_samples(source, fitted, torch.randn(4, 4, generator=torch.Generator().manual_seed(2)))
    assert made.image.shape == (4, 16, 16, 3)
    assert (made.label == (made.image[..., 0] > 127)).mean() > 0.9
    _, maps = images_and_features(source, z, ["second"])
    assert torch.equal(maps["second"], toy.second(toy.up(torch.tanh(toy.first(z[:, :, None, None])))).detach())
    assert not toy.first._forward_hooks  # nothing is left behind


@pytest.mark.parametrize(
    ("layers", "sentence"),
    [
        (["third"], "no submodule 'third'"),
        (["unused"], "unused is not called"),
        (["vector"], "no square feature map"),
    ],
)
def test_wrong_submodules_are_refused(toy: Toy, layers: list[str], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        HookedNetwork(toy, layers, torch.zeros(1, 4))


def test_a_submodule_that_is_called_twice_is_refused() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, z: Tensor) -> Tensor:
            twice: Tensor = self.conv(self.conv(z))
            return twice

    with pytest.raises(InputError, match="called more than once"):
        HookedNetwork(Twice(), ["conv"], torch.zeros(1, 3, 4, 4))


def stylegan(**settings: Any) -> Generator:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(resolution=16, channels={4: 6, 8: 5, 16: 4}, z_dim=4, w_dim=4, **settings))
    for name, parameter in generator.named_parameters():
        if name.endswith(("noise_strength", "bias")):
            nn.init.normal_(parameter, std=0.3)
    return generator


def convolution(synthesis: nn.Module, name: str) -> SynthesisLayer:
    layer = synthesis.get_submodule(name)
    assert isinstance(layer, SynthesisLayer)
    return layer


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_raw_maps_are_the_convolution_before_noise_and_activation(architecture: str) -> None:
    synthesis = stylegan(architecture=architecture).synthesis
    w = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        _, maps = images_and_maps(synthesis, w, ["b8.conv0", "b8.conv0:raw", "b16.conv0", "b16.conv0:raw"])
        layer = convolution(synthesis, "b16.conv0")
        before: dict[str, Tensor] = {}
        hook = layer.register_forward_hook(lambda m, inputs, _: before.update(x=inputs[0], style=inputs[1]))
        synthesis(w)
        hook.remove()
        raw = modulated_conv2d(before["x"], layer.weight, before["style"], kernel=layer.resample_filter)
    assert (maps["b16.conv0:raw"] - raw).abs().max() < 1e-5
    assert (maps["b16.conv0:raw"] - maps["b16.conv0"]).abs().max() > 0.1


def test_raw_maps_of_residual_blocks_have_their_gain_undone() -> None:
    synthesis = stylegan(architecture="resnet").synthesis
    w = torch.randn(2, 4, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        _, maps = images_and_maps(synthesis, w, ["b16.conv1:raw"])
        layer = convolution(synthesis, "b16.conv1")
        before: dict[str, Tensor] = {}
        hook = layer.register_forward_hook(lambda m, inputs, _: before.update(x=inputs[0], style=inputs[1]))
        synthesis(w)
        hook.remove()
        raw = modulated_conv2d(before["x"], layer.weight, before["style"])
    assert (maps["b16.conv1:raw"] - raw).abs().max() < 1e-5


def test_layers_of_the_presets() -> None:
    synthesis = stylegan().synthesis
    every = ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    assert PRESETS["ours"].layers(synthesis) == PRESETS["paper"].layers(synthesis) == every
    released = PRESETS["released-code"].layers(synthesis)
    assert released == [f"b{r}.conv1{raw}" for r in (4, 8, 16) for raw in ("", ":raw")]


def test_raw_maps_of_other_networks_are_refused(toy: Toy) -> None:
    source = HookedNetwork(toy, ["second"], torch.zeros(1, 4))
    with pytest.raises(InputError, match="only known for StyleGAN2"):
        images_and_maps(source, torch.zeros(1, 4), ["second:raw"])
