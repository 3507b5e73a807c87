"""Even coordinates of W: exact inverses, unit spread, distances in a unit that a reader can check."""

from pathlib import Path

import pytest
import torch

from ganfoundry.data.seeds import TRAIN, sample_seed
from ganfoundry.gan.inversion.wspace import SAMPLES, WSpace
from ganfoundry.gan.latents import content_codes
from tests.ganfoundry.gan.inversion.invhelp import samples, tiny_gan


def test_samples_are_even_in_the_new_coordinates(tmp_path: Path) -> None:
    gan = tiny_gan(tmp_path)
    wspace = WSpace.of(gan.generator)
    w = content_codes(gan.generator, [sample_seed(0, TRAIN, k) for k in range(SAMPLES)], 1.0)
    assert wspace.spread == pytest.approx(float((w - w.mean(0)).norm(dim=1).square().mean().sqrt()), rel=1e-4)
    assert torch.allclose(wspace.mean, w.mean(0), atol=1e-5)
    u = wspace.to_u(w).double()
    assert torch.allclose(u.T @ u / len(u), torch.eye(8, dtype=torch.float64), atol=1e-2)
    assert torch.allclose(wspace.to_w(u.float()), w, atol=1e-4)
    assert torch.equal(wspace.root, wspace.root.T)


def test_distance_is_one_at_the_spread_and_the_same_in_both_spaces(tmp_path: Path) -> None:
    gan = tiny_gan(tmp_path)
    wspace = WSpace.of(gan.generator)
    direction = torch.eye(8)[:3] * wspace.spread
    assert torch.allclose(wspace.distance(wspace.mean + direction), torch.ones(3), atol=1e-5)
    w, _ = samples(gan, 4)
    layers = w[:, None].expand(-1, gan.generator.num_ws, -1)
    assert torch.allclose(wspace.distance(w), wspace.distance(layers), atol=1e-5)


def test_a_conditional_generator_is_measured_over_its_classes(tmp_path: Path) -> None:
    gan = tiny_gan(tmp_path, c_dim=3)
    assert WSpace.of(gan.generator).spread > 0
