import numpy as np
import pytest
import torch

from ganfoundry.gan.latents import content_codes, sample_noise
from ganfoundry.gan.stylegan2 import Generator, GeneratorConfig
from ganfoundry.views import early_layers
from ganfoundry.views.synthesis import render_grid, render_objects, render_pairs


@pytest.fixture(scope="module")
def generator():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Generator(GeneratorConfig(resolution=16, channels={4: 8, 8: 8, 16: 8}, z_dim=8, w_dim=8)).eval()
    for name, parameter in network.named_parameters():
        if name.endswith("noise_strength"):
            parameter.data.fill_(0.3)
    return network.requires_grad_(False)


def codes(generator, first, count):
    return content_codes(generator, range(first, first + count), 1.0)


def test_rows_are_objects_and_columns_views(generator):
    layers = early_layers(generator.synthesis)
    content, view = codes(generator, 0, 3), codes(generator, 10, 2)
    grid = render_grid(generator.synthesis, content, view, layers)
    assert grid.shape == (3, 2, 16, 16, 3)
    for row in range(3):
        for column in range(2):
            one = render_pairs(generator.synthesis, content[[row]], view[[column]], layers)[0]
            assert np.abs(one.astype(int) - grid[row, column]).max() <= 1


def test_the_view_reaches_its_own_layers_only(generator):
    """Maps of the styles: another view changes those of the view layers, another content all others."""
    synthesis, layers = generator.synthesis, early_layers(generator.synthesis)
    seen = {}

    def record(w_content, w_view, key):
        original = type(synthesis).forward

        def spy(self, ws=None, *, styles=None, **rest):
            seen[key] = {name: value.clone() for name, value in styles.items()}
            return original(self, ws, styles=styles, **rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(synthesis), "forward", spy)
            render_pairs(synthesis, w_content, w_view, layers)

    a, b = codes(generator, 0, 1), codes(generator, 1, 1)
    record(a, a, "base")
    record(a, b, "view")
    record(b, a, "content")
    for name in synthesis.layer_names:
        changed_by_view = not torch.equal(seen["base"][name], seen["view"][name])
        changed_by_content = not torch.equal(seen["base"][name], seen["content"][name])
        assert (changed_by_view, changed_by_content) == (name in layers, name not in layers)


def test_same_latent_in_both_is_the_plain_image(generator):
    w = codes(generator, 3, 2)
    images = render_pairs(generator.synthesis, w, w, early_layers(generator.synthesis))
    plain = generator.synthesis(w).clamp(-1, 1).add(1).mul(127.5).round().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(images, plain, atol=1)


def test_an_object_keeps_its_noise_over_its_views(generator):
    layers = early_layers(generator.synthesis)
    content, view = codes(generator, 0, 2), codes(generator, 10, 1).repeat(2, 1)
    noise = sample_noise(generator, [5, 6])
    views = view.expand(2, -1, -1)
    grid = render_objects(generator.synthesis, content, views, layers, noise=noise)
    np.testing.assert_array_equal(grid[:, 0], grid[:, 1])
    stored = render_grid(generator.synthesis, content, view, layers)
    assert (grid != stored).mean() > 0.3
    again = render_objects(generator.synthesis, content[1:], views[1:], layers, noise=sample_noise(generator, [6]))
    assert np.abs(again[0].astype(int) - grid[1]).max() <= 1


def test_objects_have_views_of_their_own(generator):
    layers = early_layers(generator.synthesis)
    content, view = codes(generator, 0, 2), codes(generator, 10, 6).reshape(2, 3, -1)
    images = render_objects(generator.synthesis, content, view, layers)
    for index in range(2):
        alone = render_grid(generator.synthesis, content[index : index + 1], view[index], layers)[0]
        assert np.abs(alone.astype(int) - images[index]).max() <= 1


def test_batches_do_not_matter(generator):
    content, view = codes(generator, 0, 7), codes(generator, 20, 7)
    layers = early_layers(generator.synthesis)
    whole = render_pairs(generator.synthesis, content, view, layers)
    parts = render_pairs(generator.synthesis, content, view, layers, batch_size=3)
    assert np.abs(whole.astype(int) - parts).max() <= 1
