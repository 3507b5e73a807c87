"""The objective against loops and finite differences; images do not feel each other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.config import DiscriminatorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.inversion.objective import (
    Objective,
    discriminator_features,
    feature_distance,
    layer_distance,
    pixel_distance,
    psnr,
)
from ganfoundry.gan.inversion.optimisation import latent
from ganfoundry.gan.inversion.wspace import WSpace
from tests.ganfoundry.gan.inversion.invhelp import samples, tiny_gan


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> LoadedGan:
    return tiny_gan(tmp_path_factory.mktemp("gan"))


def test_pixel_distance_is_the_mean_over_scales() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 2, 3, 8, 8))
    expected = np.zeros(2)
    for side in (8, 4, 2):
        small = [x.reshape(2, 3, side, 8 // side, side, 8 // side).mean(axis=(3, 5)) for x in (a, b)]
        expected += np.square(small[0] - small[1]).mean(axis=(1, 2, 3)) / 3
    assert np.allclose(pixel_distance(torch.tensor(a), torch.tensor(b)).numpy(), expected)


def test_features_have_unit_length_and_distance_between_zero_and_four(gan: LoadedGan) -> None:
    assert gan.discriminator is not None
    features = discriminator_features(gan.discriminator, torch.rand(2, 3, 16, 16) * 2 - 1)
    assert [tuple(f.shape) for f in features] == [(2, 8, 8, 8), (2, 8, 4, 4)]
    for f in features:
        assert torch.allclose(f.norm(dim=1), torch.ones(()), atol=1e-4)
    assert torch.equal(feature_distance(features, features), torch.zeros(2))
    assert torch.allclose(feature_distance(features, [-f for f in features]), torch.tensor(4.0), atol=1e-3)


def test_gradient_is_that_of_finite_differences(gan: LoadedGan) -> None:
    double = replace(gan, generator=_double(gan.generator), discriminator=_double(gan.discriminator))
    synthesis = double.generator.synthesis
    objective = Objective.of(double, 0.7, 1.3)
    wspace = WSpace.of(gan.generator)
    w, _ = samples(gan, 2)
    with torch.no_grad():
        target = objective.target(synthesis(w.double()))
    u = torch.randn(2, 8, dtype=torch.float64, requires_grad=True)
    offset = torch.randn(2, double.generator.num_ws, 8, dtype=torch.float64, requires_grad=True)

    def value(u: torch.Tensor, offset: torch.Tensor) -> torch.Tensor:
        found, penalty = latent(u, [offset], wspace, 0.4)
        total: torch.Tensor = (objective(synthesis(found), target) + penalty).sum()
        return total

    gradients = torch.autograd.grad(value(u, offset), [u, offset])
    with torch.no_grad():
        for seed in range(4):
            torch.manual_seed(seed)
            du, doffset = torch.randn_like(u), torch.randn_like(offset)
            step = 1e-6
            forward = value(u + step * du, offset + step * doffset)
            back = value(u - step * du, offset - step * doffset)
            expected = float((gradients[0] * du).sum() + (gradients[1] * doffset).sum())
            assert float((forward - back) / (2 * step)) == pytest.approx(expected, rel=1e-5)


def _double(network: torch.nn.Module | None) -> torch.nn.Module:
    import copy

    assert network is not None
    return copy.deepcopy(network).double()


def test_an_image_does_not_feel_the_others(gan: LoadedGan) -> None:
    objective = Objective.of(gan)
    image, other = torch.rand(2, 4, 3, 16, 16)
    together = objective(image, objective.target(other))
    alone = torch.cat([objective(image[k : k + 1], objective.target(other[k : k + 1])) for k in range(4)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_without_a_discriminator_pixels_alone_count(gan: LoadedGan) -> None:
    objective = Objective.of(replace(gan, discriminator=None), pixel_weight=2.0)
    image, other = torch.rand(2, 3, 3, 16, 16)
    target = objective.target(other)
    assert torch.allclose(objective(image, target), 2 * pixel_distance(image, other))
    assert objective.perceptual(image, target).isnan().all()
    with pytest.raises(InputError, match="weight above 0"):
        Objective.of(replace(gan, discriminator=None), pixel_weight=0.0)


def test_a_discriminator_of_another_size_is_refused(gan: LoadedGan) -> None:
    other = Discriminator(DiscriminatorConfig(resolution=8, channels={4: 4, 8: 4}))
    with pytest.raises(InputError, match="8 px and the generator makes 16 px"):
        Objective.of(replace(gan, discriminator=other))


def test_layer_penalty_and_psnr_by_hand() -> None:
    deltas = torch.zeros(2, 3, 4)
    deltas[1, 0] = 2.0  # |delta|^2 = 16 in one of three layers
    assert torch.allclose(layer_distance(deltas, 2.0), torch.tensor([0.0, 16 / 3 / 4]))
    black, grey = np.zeros((1, 4, 4, 3), np.uint8), np.full((1, 4, 4, 3), 51, np.uint8)
    assert psnr(black, grey)[0] == pytest.approx(20 * np.log10(5))
    assert psnr(grey, grey)[0] == np.inf


def test_objective_reads_its_folder(tmp_path: Path) -> None:
    assert Objective.of(tiny_gan(tmp_path)).discriminator is not None
