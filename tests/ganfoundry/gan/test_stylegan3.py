"""StyleGAN3: layers against plain loops, moving pictures, its outside, its files, and the library on top of it."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan import stylegan3
from ganfoundry.gan.checkpoints import STYLEGAN3_FORMAT, copy_gan, load_gan, save_gan
from ganfoundry.gan.formats import read_safetensors
from ganfoundry.gan.latents import compose_styles, content_codes, sample_noise
from ganfoundry.gan.stylegan3_config import StyleGAN3Config, layer_geometry, signals
from ganfoundry.gan.stylegan3_layers import SynthesisInput, SynthesisLayer, filtered_leaky_relu
from ganfoundry.labels.interpreter import StyleInterpreter, Training
from ganfoundry.labels.synthesis import images_and_features, label_samples
from ganfoundry.views.codes import early_layers
from tests.ganfoundry.gan.picklehelp import dump, file_of, persistent
from tests.ganfoundry.gan.test_stylegan2_golden import Golden
from tests.ganfoundry.gan.test_stylegan3_golden import reference_kwargs, stylegan3_of
from tests.ganfoundry.gan.trainhelp import state_on, tiny

SHAPE = {"resolution": 32, "channel_base": 128, "channel_max": 5, "num_layers": 4, "z_dim": 6, "w_dim": 7}


def tiny_generator(seed: int = 0, **more: Any) -> stylegan3.Generator:
    """Random weights, and asymmetric filters in place of designed ones."""
    random = torch.Generator().manual_seed(seed)
    generator = stylegan3.Generator(StyleGAN3Config(**(SHAPE | {"margin_size": 4, "filter_size": 4} | more)))
    for name, value in itertools.chain(generator.named_parameters(), generator.named_buffers()):
        if name.endswith("filter"):
            value.data = torch.rand(value.shape, generator=random) + 0.1
            value.data /= value.data.sum()
        elif name.endswith("magnitude_ema"):
            value.data = torch.rand([], generator=random) + 0.5
        elif not name.endswith("transform"):
            scale = 100.0 if name.startswith("mapping.fc") else 1.0
            value.data = torch.randn(value.shape, generator=random) * scale
    return generator.requires_grad_(False)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(11)


# ------------------------------------------------------------------ layers against loops


def resampled(x: np.ndarray, kernel: np.ndarray, up: int, down: int, padding: tuple[int, int]) -> np.ndarray:
    """One map: zeros inserted, padded or cropped, truly convolved with a 2-D kernel, every down-th sample."""
    height, width = x.shape
    spread = np.zeros((height * up, width * up))
    spread[::up, ::up] = x
    before, after = padding
    framed = np.zeros([side * up + before + after for side in x.shape])
    for i, j in np.ndindex(*framed.shape):
        if 0 <= i - before < height * up and 0 <= j - before < width * up:
            framed[i, j] = spread[i - before, j - before]
    k = len(kernel)
    rows = []
    for i in range(0, framed.shape[0] - k + 1, down):
        patches = [framed[i : i + k, j : j + k] for j in range(0, framed.shape[1] - k + 1, down)]
        rows.append([(patch * kernel[::-1, ::-1]).sum() for patch in patches])
    return np.array(rows)


@settings(max_examples=20, deadline=None)
@given(
    size=st.tuples(st.integers(3, 6), st.integers(3, 6)),
    factors=st.sampled_from([(2, 2), (4, 2), (2, 1), (1, 2)]),
    padding=st.tuples(st.integers(-3, 5), st.integers(-3, 5)),
    radial=st.booleans(),
    clamp=st.sampled_from([None, 0.4]),
    seed=st.integers(0, 99),
)
def test_filtered_leaky_relu_is_the_loop(
    size: tuple[int, int],
    factors: tuple[int, int],
    padding: tuple[int, int],
    radial: bool,
    clamp: float | None,
    seed: int,
) -> None:
    (up, down), random = factors, np.random.default_rng(seed)
    x = random.normal(size=(2, 3, *size))
    up_taps = random.normal(size=3 * up) if up > 1 else np.ones(1)
    down_filter = random.normal(size=(4, 4) if radial else 4) if down > 1 else np.ones(1)
    down_kernel = down_filter if down_filter.ndim == 2 else np.outer(down_filter, down_filter)
    inner = min(size) * up + sum(padding) - len(up_taps) + 1
    if inner < len(down_kernel):
        return
    expected = np.empty((2, 3), object)
    for n, c in np.ndindex(2, 3):
        y = resampled(x[n, c], np.outer(up_taps, up_taps), up, 1, padding) * up**2
        y = np.where(y > 0, y, 0.2 * y) * np.sqrt(2)
        expected[n, c] = resampled(y if clamp is None else np.clip(y, -clamp, clamp), down_kernel, 1, down, (0, 0))
    found = filtered_leaky_relu(
        torch.from_numpy(x),
        torch.from_numpy(up_taps) if up > 1 else None,
        torch.from_numpy(down_filter) if down > 1 else None,
        up=up,
        down=down,
        padding=padding,
        clamp=clamp,
    )
    np.testing.assert_allclose(found.numpy(), np.stack([np.stack(list(row)) for row in expected]), atol=1e-9)


def test_a_layer_is_one_modulated_weight_per_sample() -> None:
    """Equations of the published layer, weight by weight; styles normalised over the whole batch as there."""
    generator = tiny_generator(conv_clamp=None).double()
    layer = generator.synthesis.get_submodule(generator.synthesis.layer_names[2])
    assert isinstance(layer, SynthesisLayer)
    geometry = layer.geometry
    x = torch.randn(3, layer.in_channels, geometry.source.size, geometry.source.size, dtype=torch.float64)
    style = torch.randn(3, layer.in_channels, dtype=torch.float64)
    weight = layer.weight / layer.weight.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    common = style / style.square().mean().sqrt()
    rows = []
    for map_, s in zip(x, common, strict=True):
        own = weight * s[None, :, None, None]
        own = own / (own.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt() / layer.magnitude_ema.sqrt()
        y = torch.nn.functional.conv2d(map_[None], own, layer.bias, padding=own.shape[-1] - 1)
        filters = (layer.up_filter, layer.down_filter)
        rows.append(
            filtered_leaky_relu(y, *filters, up=geometry.up, down=geometry.down, padding=geometry.padding, clamp=None)
        )
    found = layer(x, style)
    assert found.shape[-1] == geometry.target.size
    torch.testing.assert_close(found, torch.cat(rows), rtol=1e-7, atol=1e-7)


def test_fourier_features_point_by_point() -> None:
    signal = signals(StyleGAN3Config(**SHAPE))[0]
    layer = SynthesisInput(7, signal).double().requires_grad_(False)
    layer.freqs.normal_(std=4.0)
    layer.phases.uniform_()
    layer.transform.copy_(torch.tensor([[0.9, 0.2, 0.1], [-0.3, 1.1, -0.2], [0, 0, 1]]))
    style = torch.randn(2, 4, dtype=torch.float64)
    found = layer(style)
    for n, row, column in [(0, 0, 0), (1, 3, 30), (0, 35, 11), (1, 20, 20)]:
        length = float(style[n, :2].norm())
        cosine, sine, x, y = (style[n] / length).tolist()
        turn = np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
        move = np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]])
        matrix = turn @ move @ layer.transform.numpy()
        point = np.array([(column + 0.5) - 18, (row + 0.5) - 18]) / 16
        waves = []
        for frequency, phase in zip(layer.freqs.numpy(), layer.phases.numpy(), strict=True):
            moved = matrix[:2, :2] @ point + matrix[:2, 2]
            strength = 1 - (np.linalg.norm(matrix[:2, :2].T @ frequency) - signal.cutoff) / (8 - signal.cutoff)
            waves.append(np.sin(2 * np.pi * (frequency @ moved + phase)) * np.clip(strength, 0, 1))
        expected = layer.weight.numpy() @ np.array(waves) / np.sqrt(len(waves))
        np.testing.assert_allclose(found[n, :, row, column].numpy(), expected, atol=1e-12)


# ------------------------------------------------------------------ pictures that move


@pytest.mark.parametrize("name", ["sg3t_64_cond_xform", "sg3r_32_full14"])
def test_a_moved_input_moves_image_and_features(name: str) -> None:
    """One sample of the coarsest grid is a whole number of samples of every grid: only the borders may differ."""
    golden = Golden(name)
    generator = stylegan3_of(golden)
    synthesis, side = generator.synthesis, generator.config.resolution
    ws = generator.ws(golden["in/z"], golden.arrays.get("in/c"))
    names = list(synthesis.feature_dims)
    image, features = synthesis(ws, features=names)
    style = synthesis.styles(ws)["input"]
    t = style / style[:, :2].norm(dim=1, keepdim=True)
    # A move of the plane by d turns into one of R d; the first sample's rotation is undone.
    turn = torch.tensor([[t[0, 0], -t[0, 1]], [t[0, 1], t[0, 0]]])
    assert torch.allclose(turn @ turn.T, torch.eye(2), atol=1e-5)
    linear = synthesis.input.transform[:2, :2]
    synthesis.input.transform[:2, 2] -= linear @ torch.tensor([1 / 16, 0.0])
    moved, moved_features = synthesis(ws, features=names)
    shifts = {"image": side // 16} | {layer: synthesis.feature_dims[layer][1] // 16 for layer in names}
    for layer, step in shifts.items():
        before, after = (image, moved) if layer == "image" else (features[layer], moved_features[layer])
        edge = before.shape[-1] // 4
        window = slice(edge, -edge)
        expected = before[..., window, edge - step : -edge - step]
        difference = (after[..., window, window] - expected).abs().max()
        assert float(difference) < 0.02 * float(before.std()), layer
        unmoved = (after[..., window, window] - before[..., window, window]).abs().max()
        assert float(unmoved) > 10 * float(difference), layer


# ------------------------------------------------------------------ the outside


def test_names_sizes_and_w_of_the_layers() -> None:
    generator = tiny_generator()
    synthesis = generator.synthesis
    assert generator.num_ws == synthesis.num_ws == len(synthesis.layer_names) == SHAPE["num_layers"] + 2
    assert synthesis.layer_names[0] == "input"
    assert synthesis.style_dims["input"] == 4
    assert list(synthesis.w_index.values()) == list(range(generator.num_ws))
    assert synthesis.noise_names == []
    ws = torch.randn(2, generator.num_ws, 7)
    image, features = synthesis(ws, features=list(synthesis.feature_dims))
    assert image.shape == (2, 3, 32, 32)
    assert {name: tuple(value.shape[1:3]) for name, value in features.items()} == synthesis.feature_dims
    assert synthesis.layer_names[-1] not in synthesis.feature_dims
    styles = synthesis.styles(ws)
    assert {name: value.shape[1] for name, value in styles.items()} == synthesis.style_dims
    assert torch.equal(synthesis(styles=styles), image)
    other = synthesis.styles(torch.randn(2, generator.num_ws, 7))
    for name in synthesis.layer_names:
        assert not torch.allclose(synthesis(styles=styles | {name: other[name]}), image, atol=1e-4), name


def test_there_is_no_noise() -> None:
    generator = tiny_generator()
    w = torch.randn(2, 7)
    images = [
        generator.synthesis(w, noise=noise) for noise in ("const", "none", "random", sample_noise(generator, [1]))
    ]
    assert all(torch.equal(image, images[0]) for image in images)
    with pytest.raises(ValueError, match=r"no such layer: b4\.conv1"):
        generator.synthesis(w, noise={"b4.conv1": torch.zeros(4, 4)})
    with pytest.raises(ValueError, match="noise must be one of"):
        generator.synthesis(w, noise="fresh")


def test_a_sample_does_not_depend_on_the_others() -> None:
    generator = tiny_generator().double()
    ws = torch.randn(4, generator.num_ws, 7, dtype=torch.float64)
    ws[1] *= 1e4  # the mean over the batch would drown the other styles
    together = generator.synthesis(ws)
    for row in range(4):
        torch.testing.assert_close(generator.synthesis(ws[row : row + 1])[0], together[row], rtol=1e-12, atol=1e-12)


def test_gradients_are_finite_differences() -> None:
    generator = tiny_generator(num_layers=3, conv_clamp=1.0).double()
    ws = torch.randn(1, generator.num_ws, 7, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 32, 32, dtype=torch.float64)

    def value(at: Tensor) -> Tensor:
        return (generator.synthesis(at) * weights).sum()

    (gradient,) = torch.autograd.grad(value(ws), ws)
    direction = torch.randn_like(ws)
    step = 1e-6
    with torch.no_grad():
        difference = (value(ws + step * direction) - value(ws - step * direction)) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(float(difference), rel=1e-4)


def test_bfloat16_is_near() -> None:
    generator = tiny_generator()
    w = torch.randn(2, 7)
    exact, first = generator.synthesis(w), generator.synthesis.layer_names[1]
    assert generator.synthesis(w, features=[first], dtype=torch.bfloat16)[1][first].dtype == torch.bfloat16
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = generator.synthesis(w)
    assert near.dtype == torch.float32
    assert 0 < float((near - exact).abs().mean()) < 0.1 * float(exact.std())


def test_training_is_refused(tmp_path: Path) -> None:
    generator = tiny_generator()
    assert not generator.eval().training
    with pytest.raises(InputError, match=r"can be used but not trained here; train-gan makes StyleGAN2"):
        generator.train()
    save_gan(tmp_path / "a", generator, None, {})
    with pytest.raises(InputError, match=r"is a StyleGAN3; training needs a StyleGAN2"):
        state_on(tiny()).begin_from(load_gan(tmp_path / "a"))


# ------------------------------------------------------------------ geometry and settings


@settings(max_examples=25, deadline=None)
@given(
    resolution=st.sampled_from([16, 32, 64]),
    num_layers=st.integers(2, 8),
    kernel=st.sampled_from([1, 3]),
    margin=st.integers(1, 10),
    filter_size=st.integers(2, 8),
)
def test_every_layer_gives_what_the_next_takes(
    resolution: int, num_layers: int, kernel: int, margin: int, filter_size: int
) -> None:
    config = StyleGAN3Config(
        resolution=resolution,
        num_layers=num_layers,
        num_critical=min(2, num_layers - 1),
        conv_kernel=kernel,
        margin_size=margin,
        filter_size=filter_size,
    )
    layers = layer_geometry(config)
    for layer in layers:
        spread = (layer.source.size + layer.kernel - 1) * layer.up + sum(layer.padding) - (layer.up_taps - 1)
        assert (spread - layer.down_taps) // layer.down + 1 == layer.target.size
    assert (layers[-1].target.size, layers[-1].target.channels) == (resolution, 3)
    assert all(a.target == b.source for a, b in itertools.pairwise(layers))
    assert StyleGAN3Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"surprise": 3}, "settings surprise cannot be read"),
        ({"mapping_kwargs": {"layers": 3}}, r"settings mapping_kwargs\.layers cannot be read"),
        ({"img_resolution": None}, "'None' is not a number"),
        ({"img_resolution": 1 << 20}, "at most 8192 px"),
        ({"w_dim": "wide"}, "'wide' is not a number"),
        ({"num_layers": 2.5}, "2.5 is not a whole number"),
        ({"num_layers": float("inf")}, "not a whole number"),
        ({"num_layers": 2}, "num_critical must be 0 to num_layers - 1, got 2 of 2"),
        ({"first_cutoff": float("nan")}, "first_cutoff = nan"),
        ({"first_cutoff": 16}, "first_cutoff must be below half the resolution"),
        ({"margin_size": -1}, "margin_size = -1"),
        ({"filter_size": 1000}, "at most 64"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, Any], message: str) -> None:
    kwargs = reference_kwargs(Golden("sg3t_32_clamp"))
    with pytest.raises(InputError, match=message):
        stylegan3.config_from_reference(kwargs | change)
    with pytest.raises(InputError, match="incomplete or wrong"):
        stylegan3.config_from_reference({})


def test_settings_nested_or_flat_and_of_numpy() -> None:
    kwargs = reference_kwargs(Golden("sg3t_32_clamp"))
    own = ("img_resolution", "z_dim", "w_dim", "c_dim", "img_channels")
    nested = {name: kwargs[name] for name in own}
    nested["synthesis_kwargs"] = {name: value for name, value in kwargs.items() if name not in (*own, "mapping_kwargs")}
    nested["synthesis_kwargs"] |= {"channel_base": np.int64(kwargs["channel_base"]), "num_fp16_res": 4}
    config = stylegan3.config_from_reference(nested)
    assert config == stylegan3.config_from_reference(kwargs)
    json.dumps(config.to_dict())


def test_tensors_of_other_settings_are_refused() -> None:
    golden = Golden("sg3t_32_clamp")
    state = golden.below("param/")
    with pytest.raises(InputError, match=r"synthesis\.L0_36_6\.weight is missing"):
        stylegan3.from_reference(reference_kwargs(golden) | {"channel_max": 6}, state)
    with pytest.raises(InputError, match=r"down_filter is \(12,\) instead of \(12, 12\)"):
        stylegan3.from_reference(reference_kwargs(golden) | {"use_radial_filters": True}, state)


# ------------------------------------------------------------------ files, and the library on top


def same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_files_of_this_project(tmp_path: Path) -> None:
    generator = tiny_generator(use_radial_filters=True)
    save_gan(tmp_path / "a", generator, None, {"images": 3})
    assert list(read_safetensors(tmp_path / "a" / "generator.safetensors")[0]) == [STYLEGAN3_FORMAT]
    loaded = load_gan(tmp_path / "a")
    assert isinstance(loaded.generator, stylegan3.Generator)
    assert loaded.generator.config == generator.config
    assert same(loaded.generator, generator)
    assert loaded.description.startswith("StyleGAN3 (3x3 convolutions, 4 layers), 32 px, z 6, w 7, 6 layers of w")
    copy = copy_gan(tmp_path / "a", tmp_path / "b")
    assert copy.sha256 == loaded.sha256


@pytest.mark.parametrize("name", ["sg3t_64_cond_xform", "sg3r_32_full14"])
def test_a_pickle_of_nvidia(tmp_path: Path, name: str) -> None:
    golden = Golden(name)
    network = persistent(stylegan3_of(golden), "Generator", reference_kwargs(golden), attributes=False)
    path = dump(tmp_path / "stylegan3.pkl", file_of(network))
    loaded = copy_gan(path, tmp_path / "ours")
    assert isinstance(loaded.generator, stylegan3.Generator)
    assert "G_ema is the generator" in loaded.notes[0]
    golden.check("out/img_psi1", loaded.generator(golden["in/z"], golden.arrays.get("in/c")))


def test_views_and_labels_on_a_stylegan3() -> None:
    generator = stylegan3_of(Golden("sg3r_32_full14"))
    synthesis = generator.synthesis
    layers = early_layers(synthesis)
    assert layers == ("input", "L0_36_12", "L1_36_12", "L2_36_12", "L3_36_12", "L4_36_12")
    assert early_layers(synthesis, ["input", "L0_36_12"]) == ("input", "L0_36_12")
    content, view = content_codes(generator, [1, 2], 0.7), content_codes(generator, [5], 0.7)
    images = synthesis(styles=compose_styles(synthesis, content, view, layers))
    assert images.shape == (2, 3, 32, 32)
    names = ["L4_36_12", "L12_52_12"]
    made, features = images_and_features(synthesis, content, names)
    assert [tuple(features[name].shape) for name in names] == [(2, 12, 16, 16), (2, 12, 32, 32)]
    labels = (made.mean(-1) > made.mean()).astype(np.uint8)
    interpreter = StyleInterpreter.fit(features, labels, 2, members=2, hidden=(8,), training=Training(steps=20))
    samples = label_samples(synthesis, interpreter, content)
    assert np.array_equal(samples.image, made)
    assert (samples.label == labels).mean() > 0.8


@pytest.mark.parametrize("name", ["output_scale", "first_cutoff", "last_stopband_rel", "conv_clamp"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_settings_that_are_no_number_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} = {value}"):
        StyleGAN3Config(**SHAPE | {name: value})
