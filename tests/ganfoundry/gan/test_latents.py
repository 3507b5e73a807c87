"""Latents by seed: rows do not depend on each other, content and noise are independent, views compose."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.data.seeds import CONTENT, sample_seed
from ganfoundry.gan.config import GeneratorConfig
from ganfoundry.gan.latents import compose_styles, content_codes, sample_noise, sample_z
from ganfoundry.gan.stylegan2 import Generator

STORED = [-0.004626, 1.280337, -0.158491, -1.557296]  # part of the data format


def tiny_generator(c_dim: int = 0) -> Generator:
    torch.manual_seed(3)
    config = GeneratorConfig(resolution=16, channels={4: 6, 8: 5, 16: 4}, z_dim=8, w_dim=7, c_dim=c_dim)
    generator = Generator(config)
    generator.w_avg.normal_()
    for name in generator.synthesis.noise_names:
        generator.synthesis.get_submodule(name).noise_strength.data.fill_(0.5)
    return generator


@settings(max_examples=25)
@given(seeds=st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=20), data=st.data())
def test_a_row_depends_on_its_seed_alone(seeds: list[int], data: st.DataObject) -> None:
    generator = tiny_generator()
    row = data.draw(st.integers(0, len(seeds) - 1))
    together, alone = content_codes(generator, seeds, 0.7), content_codes(generator, seeds[row : row + 1], 0.7)
    assert torch.equal(together[row], alone[0])
    maps, map_alone = sample_noise(generator, seeds), sample_noise(generator, seeds[row : row + 1])
    assert all(torch.equal(maps[name][row], map_alone[name][0]) for name in generator.synthesis.noise_names)


def test_codes_are_truncated_mapped_latents() -> None:
    generator, seeds = tiny_generator(), [5, 6, 7]
    w = content_codes(generator, seeds, 0.4)
    assert w.dtype == torch.float32
    assert not w.requires_grad
    expected = generator.ws(sample_z(8, seeds), truncation=0.4)[:, 0]
    torch.testing.assert_close(w, expected.detach())
    torch.testing.assert_close(content_codes(generator, seeds, 0.0), generator.w_avg.expand(3, -1))


def test_conditional_codes() -> None:
    generator = tiny_generator(c_dim=3)
    classes = torch.eye(3)
    w = content_codes(generator, [1, 1, 1], 1.0, classes)
    assert not torch.allclose(w[0], w[1])
    with pytest.raises(ValueError, match=r"needs c of shape \(N, 3\)"):
        content_codes(generator, [1], 1.0)


def test_latents_are_standard_normal_and_independent_of_the_noise() -> None:
    z = sample_z(8, range(4000))
    assert float(z.mean().abs()) < 0.02
    assert float(z.std()) == pytest.approx(1, abs=0.02)
    noise = sample_noise(tiny_generator(), range(2000))
    assert {name: tuple(value.shape[1:]) for name, value in noise.items()} == {
        "b4.conv1": (1, 4, 4),
        "b8.conv0": (1, 8, 8),
        "b8.conv1": (1, 8, 8),
        "b16.conv0": (1, 16, 16),
        "b16.conv1": (1, 16, 16),
    }
    first = noise["b4.conv1"].reshape(2000, 16)
    correlation = np.corrcoef(z[:2000].numpy().T, first.numpy().T)[:8, 8:]
    assert float(np.abs(correlation).max()) < 0.12


def test_seed_sequences_and_the_stored_numbers() -> None:
    seeds = [sample_seed(0, CONTENT, index) for index in range(3)]
    z = sample_z(8, seeds)
    assert len({tuple(row.tolist()) for row in z}) == 3
    assert torch.equal(sample_z(8, [17]), sample_z(8, [np.random.SeedSequence(17)]))
    assert sample_z(8, []).shape == (0, 8)
    expected = torch.tensor(STORED)
    torch.testing.assert_close(sample_z(4, [17])[0], expected, rtol=0, atol=1e-6)


def test_views_take_the_named_layers() -> None:
    generator = tiny_generator()
    synthesis = generator.synthesis
    content, view = content_codes(generator, [1, 2], 1.0), content_codes(generator, [8, 9], 1.0)
    layers = ["b4.conv1", "b4.torgb", "b8.conv0"]
    styles = compose_styles(synthesis, content, view, layers)
    ours, theirs = synthesis.styles(content), synthesis.styles(view)
    assert list(styles) == synthesis.layer_names
    for name, value in styles.items():
        assert torch.equal(value, theirs[name] if name in layers else ours[name])
    assert torch.equal(synthesis(styles=compose_styles(synthesis, content, content, layers)), synthesis(content))
    one = compose_styles(synthesis, content, view[:1], layers)
    torch.testing.assert_close(one["b4.conv1"], theirs["b4.conv1"][:1].expand(2, -1))
    with pytest.raises(ValueError, match="no such layer"):
        compose_styles(synthesis, content, view, ["b32.conv0"])
    with pytest.raises(ValueError, match="got 2 and 3"):
        compose_styles(synthesis, content, torch.zeros(3, 7), layers)


def test_seeded_noise_changes_the_image() -> None:
    generator = tiny_generator()
    w = content_codes(generator, [1, 1], 1.0)
    images = generator.synthesis(w, noise=sample_noise(generator, [4, 5]))
    again = generator.synthesis(w, noise=sample_noise(generator, [4, 5]))
    assert torch.equal(images, again)
    assert not torch.allclose(images[0], images[1])
