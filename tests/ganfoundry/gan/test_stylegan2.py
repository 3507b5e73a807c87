"""Networks against naive oracles: one weight per sample, explicit formulas, finite differences."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ganfoundry.gan.config import DiscriminatorConfig, GeneratorConfig, published_channels, resolutions, small_channels
from ganfoundry.gan.discriminator import Discriminator, minibatch_stddev
from ganfoundry.gan.filters import resample_kernel, upsampling_conv2d
from ganfoundry.gan.infer import infer_config, infer_discriminator_config
from ganfoundry.gan.layers import FullyConnectedLayer
from ganfoundry.gan.modulation import ToRGBLayer, modulated_conv2d
from ganfoundry.gan.stylegan2 import Generator

TINY: dict[str, Any] = {
    "resolution": 16,
    "channels": {4: 6, 8: 5, 16: 4},
    "z_dim": 4,
    "w_dim": 7,
    "num_mapping_layers": 2,
}


def tiny_generator(dtype: torch.dtype = torch.float32, **changes: Any) -> Generator:
    """Small network whose noise strengths, biases and mean w are not the zeros of a fresh one."""
    generator = Generator(GeneratorConfig(**{**TINY, **changes})).to(dtype)
    with torch.no_grad():
        for name, parameter in generator.named_parameters():
            if name.endswith(("bias", "noise_strength")):
                parameter.add_(torch.randn_like(parameter) * 0.3)
        generator.w_avg.normal_()
    return generator


def per_sample_weights(x: Tensor, weight: Tensor, style: Tensor, kernel: Tensor | None) -> Tensor:
    """Demodulated weight (arXiv:1912.04958 eq. 1 and 3) built and applied for one sample after the other."""
    images = []
    for image, s in zip(x, style, strict=True):
        modulated = weight * s[None, :, None, None]
        own = modulated / (modulated.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if kernel is None:
            images.append(F.conv2d(image[None], own, padding=1))
        else:
            images.append(upsampling_conv2d(image[None], own, kernel))
    return torch.cat(images)


@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_equals_per_sample_weights(up: bool) -> None:
    kernel = resample_kernel((1, 2, 4, 1.5)).double() if up else None
    inputs = [torch.randn(*shape, dtype=torch.float64) for shape in ((3, 4, 5, 5), (6, 4, 3, 3), (3, 4))]
    results = []
    for function in (
        lambda x, w, s: modulated_conv2d(x, w, s, kernel=kernel),
        lambda x, w, s: per_sample_weights(x, w, s, kernel),
    ):
        leaves = [value.clone().requires_grad_() for value in inputs]
        y = function(*leaves)
        results.append([y, *torch.autograd.grad((y * y.detach().cos()).sum(), leaves)])
    for ours, naive in zip(*results, strict=True):
        torch.testing.assert_close(ours, naive, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("maps", [1, 2])
def test_modulated_convolution_first_and_second_derivatives(up: bool, maps: int) -> None:
    kernel = resample_kernel((1, 3, 3, 1)).double() if up else None
    side = 4 if up else 2
    x, weight, style, bias, noise = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 2, 2), (2, 2, 3, 3), (2, 2), (2,), (maps, 1, side, side))
    )

    def function(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor, noise: Tensor) -> Tensor:
        return modulated_conv2d(x, weight, style, bias=bias, noise=noise, gain=1.3, kernel=kernel)

    assert torch.autograd.gradcheck(function, (x, weight, style, bias, noise))
    assert torch.autograd.gradgradcheck(function, (x, weight, style, bias, noise))


@pytest.mark.parametrize("maps", [1, 2])
def test_bias_noise_and_gain_apply_after_demodulation(maps: int) -> None:
    x, weight, style = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3), torch.randn(2, 3)
    bias, noise = torch.randn(5), torch.randn(maps, 1, 4, 4)
    plain = modulated_conv2d(x, weight, style)
    both = modulated_conv2d(x, weight, style, bias=bias, noise=noise, gain=2.0)
    torch.testing.assert_close(both, 2 * (plain + bias[:, None, None] + noise))
    torch.testing.assert_close(modulated_conv2d(x, weight, style, bias=bias), plain + bias[:, None, None])
    torch.testing.assert_close(modulated_conv2d(x, weight, style, noise=noise), plain + noise)


def test_demodulation_ignores_the_scale_of_the_weight() -> None:
    x, weight, style = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 3, 3), torch.randn(2, 3)
    torch.testing.assert_close(modulated_conv2d(x, weight * 30, style), modulated_conv2d(x, weight, style))


def test_rgb_layer_is_a_modulated_1x1_convolution() -> None:
    layer = ToRGBLayer(6, GeneratorConfig(w_dim=4, conv_clamp=0.8))
    layer.bias.data.normal_()
    x, style = torch.randn(3, 6, 4, 4), torch.randn(3, 6)
    expected = [
        F.conv2d(x[i : i + 1], layer.weight * style[i][None, :, None, None] / math.sqrt(6), layer.bias).clamp(-0.8, 0.8)
        for i in range(3)
    ]
    torch.testing.assert_close(layer(x, style), torch.cat(expected))


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_styles_give_the_image_of_ws(architecture: str) -> None:
    generator = tiny_generator(architecture=architecture)
    synthesis = generator.synthesis
    ws = torch.randn(2, generator.num_ws, 7)
    styles = synthesis.styles(ws)
    assert {name: value.shape[1] for name, value in styles.items()} == synthesis.style_dims
    assert list(styles) == synthesis.layer_names
    assert torch.equal(synthesis(styles=styles), synthesis(ws))
    assert synthesis(ws).shape == (2, 3, 16, 16)


def test_every_w_drives_the_layers_it_is_said_to() -> None:
    synthesis = tiny_generator().synthesis
    assert synthesis.w_index == {
        "b4.conv1": 0,
        "b4.torgb": 1,
        "b8.conv0": 1,
        "b8.conv1": 2,
        "b8.torgb": 3,
        "b16.conv0": 3,
        "b16.conv1": 4,
        "b16.torgb": 5,
    }
    ws = torch.randn(1, 6, 7)
    before = synthesis.styles(ws)
    for index in range(6):
        changed = ws.clone()
        changed[:, index] += 1
        after = synthesis.styles(changed)
        moved = {name for name in before if not torch.equal(before[name], after[name])}
        assert moved == {name for name, driver in synthesis.w_index.items() if driver == index}


def test_mixed_styles_are_mixed_per_sample() -> None:
    synthesis = tiny_generator().synthesis
    ws = torch.randn(2, 6, 7)
    styles = synthesis.styles(ws)
    swapped = {name: value.flip(0) if name.startswith("b4.") else value for name, value in styles.items()}
    mixed = synthesis(styles=swapped)
    assert torch.equal(swapped["b4.conv1"][0], styles["b4.conv1"][1])
    for i in range(2):
        alone = {
            name: (styles[name][1 - i : 2 - i] if name.startswith("b4.") else styles[name][i : i + 1])
            for name in styles
        }
        torch.testing.assert_close(mixed[i : i + 1], synthesis(styles=alone))
    assert not torch.allclose(mixed, synthesis(ws))


def test_features_are_the_layers_outputs() -> None:
    generator = tiny_generator()
    synthesis, ws = generator.synthesis, torch.randn(2, 6, 7)
    caught: dict[str, Tensor] = {}
    for name in synthesis.feature_dims:
        layer: nn.Module = synthesis.get_submodule(name)
        layer.register_forward_hook(lambda _, __, output, name=name: caught.__setitem__(name, output))
    image, features = synthesis(ws, features=["b16.conv0", "b4.conv1"])
    assert list(features) == ["b16.conv0", "b4.conv1"]
    for name, value in features.items():
        assert torch.equal(value, caught[name])
        assert tuple(value.shape[1:]) == (*synthesis.feature_dims[name], synthesis.feature_dims[name][1])
    assert torch.equal(image, synthesis(ws))
    assert synthesis(ws, features=[])[1] == {}
    last = features["b4.conv1"]
    assert 0 < (last > 0).double().mean() < 1
    assert last.min() > -last.max()  # slope 0.2 on the negative side


@pytest.mark.parametrize("maps", [0, 1, 2])
@pytest.mark.parametrize("biased", [False, True])
def test_few_channels_in_bfloat16_are_as_many(maps: int, biased: bool) -> None:
    """Where the channels do not fill a vector register, noise and bias take another way: to the same values."""
    x, weight, style = torch.randn(2, 3, 4, 4), torch.randn(40, 3, 3, 3), torch.randn(2, 3)
    bias = torch.randn(40) if biased else None
    noise = torch.randn(maps, 1, 4, 4) if maps else None

    def gradients(channels: int, dtype: torch.dtype) -> list[Tensor]:
        leaves = [t if t is None else t.clone().requires_grad_(True) for t in (weight[:channels], bias, noise)]
        w, b, n = leaves
        b = b if b is None else b[:channels]
        layout = x.to(dtype).contiguous(memory_format=torch.channels_last)
        y = modulated_conv2d(layout, w, style, bias=b, noise=n, gain=1.5)
        assert y.is_contiguous(memory_format=torch.channels_last)
        y.float().square()[:, :8].sum().backward()
        return [y[:, :8].detach().float(), *(t.grad[:8] for t in leaves if t is not None)]

    for few, many in zip(gradients(8, torch.bfloat16), gradients(40, torch.float32), strict=True):
        torch.testing.assert_close(few, many, rtol=0.05, atol=0.05 * float(many.abs().max()))


def test_noise_per_sample() -> None:
    generator = tiny_generator()
    synthesis, w = generator.synthesis, torch.randn(3, 7)
    sides = {name: synthesis.feature_dims[name][1] for name in synthesis.noise_names}
    maps = {name: torch.randn(3, 1, side, side) for name, side in sides.items()}
    together = synthesis(w, noise=maps)
    for i in range(3):
        alone = synthesis(w[i : i + 1], noise={name: value[i : i + 1] for name, value in maps.items()})
        torch.testing.assert_close(together[i : i + 1], alone)
    stored = {name: synthesis.get_submodule(name).noise_const for name in sides}
    assert torch.equal(synthesis(w, noise=stored), synthesis(w))
    assert torch.equal(synthesis(w, noise={}), synthesis(w))
    zeros = {name: torch.zeros(1, 1, side, side) for name, side in sides.items()}
    torch.testing.assert_close(synthesis(w, noise=zeros), synthesis(w, noise="none"))
    assert not torch.equal(synthesis(w, noise="random"), synthesis(w, noise="random"))


def test_noise_is_added_with_its_strength_before_the_activation() -> None:
    generator = tiny_generator()
    layer = generator.synthesis.get_submodule("b4.conv1")
    x, style, noise = torch.randn(2, 6, 4, 4), torch.randn(2, 6), torch.randn(2, 1, 4, 4)
    plain = modulated_conv2d(x, layer.weight, style)
    expected = F.leaky_relu(plain + noise * layer.noise_strength + layer.bias[:, None, None], 0.2) * math.sqrt(2)
    torch.testing.assert_close(layer(x, style, noise), expected)


def test_truncation_and_cutoff() -> None:
    generator = tiny_generator()
    z = torch.randn(3, 4)
    w = generator.mapping(z)
    full, near = generator.ws(z), generator.ws(z, truncation=0.6, truncation_cutoff=2)
    expected = generator.w_avg + 0.6 * (w - generator.w_avg)
    torch.testing.assert_close(full, w[:, None].expand(-1, 6, -1))
    torch.testing.assert_close(near[:, :2], expected[:, None].expand(-1, 2, -1))
    assert torch.equal(near[:, 2:], full[:, 2:])
    torch.testing.assert_close(generator.ws(z, truncation=0.0)[:, 0], generator.w_avg.expand(3, -1))
    assert torch.equal(generator(z, truncation=0.6), generator.synthesis(generator.ws(z, truncation=0.6)))


def test_mapping_ignores_the_length_of_z_and_gains_are_as_published() -> None:
    generator = tiny_generator()
    z = torch.randn(3, 4)
    torch.testing.assert_close(generator.mapping(z), generator.mapping(5 * z), rtol=1e-4, atol=1e-5)
    layer = FullyConnectedLayer(9, 4, lr_multiplier=0.01, activate=True, bias_init=2.0)
    x = torch.randn(2, 9)
    expected = F.leaky_relu(x @ (layer.weight * 0.01 / 3).t() + 2.0, 0.2) * math.sqrt(2)
    torch.testing.assert_close(layer(x), expected)


def test_path_length_and_r1_can_be_differentiated() -> None:
    generator = tiny_generator(torch.float64)
    ws = generator.ws(torch.randn(2, 4, dtype=torch.float64))
    image = generator.synthesis(ws)
    (gradient,) = torch.autograd.grad((image * torch.randn_like(image)).sum(), ws, create_graph=True)
    gradient.square().sum(dim=2).mean(dim=1).sqrt().sum().backward()
    moving = [name for name, p in generator.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert "synthesis.b8.conv0.weight" in moving
    assert "synthesis.b16.torgb.affine.weight" in moving
    assert "mapping.fc0.weight" in moving
    assert all(torch.isfinite(p.grad).all() for p in generator.parameters() if p.grad is not None)

    discriminator = Discriminator(DiscriminatorConfig(resolution=8, channels={4: 4, 8: 3})).double()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert discriminator.get_submodule("b8").conv0.weight.grad.abs().sum() > 0


def test_whole_networks_first_and_second_derivatives() -> None:
    config = {"resolution": 8, "channels": {4: 2, 8: 2}, "w_dim": 2, "z_dim": 2, "num_mapping_layers": 1}
    generator = tiny_generator(torch.float64, **config)
    ws = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(generator.synthesis, (ws,))
    assert torch.autograd.gradgradcheck(lambda ws: generator.synthesis(ws)[:, :, ::4, 1::5], (ws,))
    discriminator = Discriminator(DiscriminatorConfig(resolution=8, channels={4: 2, 8: 2})).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(discriminator, (x,), fast_mode=True)


@pytest.mark.parametrize("how", ["dtype", "autocast"])
def test_bfloat16_is_close_and_keeps_the_outputs_float32(how: str) -> None:
    generator, z = tiny_generator(), torch.randn(4, 4)
    discriminator = Discriminator(DiscriminatorConfig(resolution=16, channels=TINY["channels"]))
    image = generator(z).detach()
    expected = discriminator(image).detach()
    if how == "dtype":
        low = generator(z, dtype=torch.bfloat16)
        logits = discriminator(image, dtype=torch.bfloat16)
        _, features = generator.synthesis(generator.ws(z), features=["b8.conv1"], dtype=torch.bfloat16)
    else:
        with torch.autocast("cpu", torch.bfloat16):
            low, logits = generator(z), discriminator(image)
            _, features = generator.synthesis(generator.ws(z), features=["b8.conv1"])
            assert torch.equal(generator.mapping(z), generator.ws(z)[:, 0])
    assert low.dtype == logits.dtype == torch.float32
    assert features["b8.conv1"].dtype == torch.bfloat16
    assert float((low.detach() - image).abs().mean() / image.std()) < 0.02
    assert float((logits.detach() - expected).abs().max() / expected.abs().max()) < 0.1
    low.square().mean().backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in generator.parameters())


def test_discriminator_groups() -> None:
    x = torch.randn(8, 6, 2, 2)
    y = minibatch_stddev(x, 4, 1)
    assert torch.equal(y[:, :6], x)
    for row in range(8):
        members = x[row % 2 :: 2]
        expected = (members.var(dim=0, unbiased=False) + 1e-8).sqrt().mean()
        torch.testing.assert_close(y[row, 6], expected.expand(2, 2))
    with pytest.raises(ValueError, match="batch of 6 images"):
        minibatch_stddev(x[:6], 4, 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.synthesis(), "either ws or styles"),
        (lambda g: g.synthesis(torch.zeros(1, 5, 7)), r"ws must have shape \(N, 6, 7\)"),
        (lambda g: g.synthesis(styles={"b4.conv1": torch.zeros(1, 6)}), "b4.torgb missing"),
        (
            lambda g: g.synthesis(styles={**g.synthesis.styles(torch.zeros(1, 7)), "b9": torch.zeros(1, 1)}),
            "b9 unknown",
        ),
        (lambda g: g.synthesis(torch.zeros(1, 7), noise="fresh"), "noise must be one of"),
        (lambda g: g.synthesis(torch.zeros(1, 7), noise={"b4.torgb": torch.zeros(4, 4)}), "no such layer: b4.torgb"),
        (lambda g: g.synthesis(torch.zeros(2, 7), noise={"b4.conv1": torch.zeros(3, 1, 4, 4)}), r"\(2, 1, 4, 4\)"),
        (lambda g: g.synthesis(torch.zeros(1, 7), features=["conv7"]), "no such layer: conv7"),
        (lambda g: g(torch.zeros(1, 3)), r"z must have shape \(N, 4\)"),
        (lambda g: Generator(GeneratorConfig(c_dim=2))(torch.zeros(1, 64)), r"needs c of shape \(N, 2\)"),
        (lambda _: Discriminator(DiscriminatorConfig())(torch.zeros(1, 3, 32, 32)), r"\(N, 3, 64, 64\)"),
        (lambda _: DiscriminatorConfig(resolution=4), "at least 8 px"),
        (lambda _: GeneratorConfig(resolution=48), "power of two"),
        (lambda _: GeneratorConfig(resolution=1 << 20), "power of two from 4 to 8192"),
        (lambda _: GeneratorConfig(channels={4: 8}), "channels must be"),
        (lambda _: GeneratorConfig(architecture="dense"), "architecture must be one of"),
        (lambda _: GeneratorConfig(z_dim=0), "z_dim = 0"),
        (lambda _: GeneratorConfig(num_mapping_layers=10**9), "at most 64"),
        (lambda _: GeneratorConfig(mapping_lr_multiplier=math.inf), "finite: mapping_lr_multiplier = inf"),
        (lambda _: GeneratorConfig(resample_filter=(1, math.nan)), "finite: resample_filter = nan"),
        (lambda _: DiscriminatorConfig(conv_clamp=math.nan), "finite: conv_clamp = nan"),
    ],
)
def test_misuse_is_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(tiny_generator())


def test_channel_plans() -> None:
    assert resolutions(32) == [4, 8, 16, 32]
    assert small_channels(64) == GeneratorConfig().channels == {4: 128, 8: 128, 16: 96, 32: 64, 64: 32}
    assert published_channels(1024) == {
        4: 512,
        8: 512,
        16: 512,
        32: 512,
        64: 512,
        128: 256,
        256: 128,
        512: 64,
        1024: 32,
    }


@settings(max_examples=40)
@given(
    top=st.sampled_from([4, 8, 16]),
    depth=st.integers(1, 4),
    widths=st.lists(st.integers(1, 5), min_size=3, max_size=3),
    z_dim=st.integers(1, 5),
    c_dim=st.integers(0, 3),
    hidden=st.sampled_from([None, 3]),
    embedded=st.sampled_from([None, 2]),
    architecture=st.sampled_from(["skip", "resnet", "orig"]),
    use_noise=st.booleans(),
    img_channels=st.integers(1, 4),
    taps=st.sampled_from([(1.0, 3.0, 3.0, 1.0), (0.25, 0.5, 0.25)]),
)
def test_infer_config_finds_the_configuration(top: int, widths: list[int], depth: int, **fields: Any) -> None:
    channels = dict(zip(resolutions(top), widths, strict=False))
    conditional, taps = fields["c_dim"] > 0, fields.pop("taps")
    config = GeneratorConfig(
        resolution=top,
        channels=channels,
        w_dim=6,
        num_mapping_layers=depth,
        mapping_features=fields.pop("hidden") if depth > 1 else (fields.pop("hidden"), None)[1],
        embed_features=fields.pop("embedded") if conditional else (fields.pop("embedded"), None)[1],
        resample_filter=taps,
        **{**fields, "architecture": "skip" if top == 4 else fields["architecture"]},
    )
    assert infer_config(Generator(config).state_dict()) == config
    assert GeneratorConfig.from_dict(config.to_dict()) == config
    if top == 4:
        return
    critic = DiscriminatorConfig(
        resolution=top,
        channels=channels,
        c_dim=fields["c_dim"],
        cmap_dim=7 if conditional else None,
        num_mapping_layers=depth if conditional else 8,
        img_channels=fields["img_channels"],
        resample_filter=taps,
    )
    assert infer_discriminator_config(Discriminator(critic).state_dict()) == critic
    assert DiscriminatorConfig.from_dict(critic.to_dict()) == critic
