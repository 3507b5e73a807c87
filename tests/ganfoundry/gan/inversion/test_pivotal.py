"""Pivotal tuning makes the picture, leaves other samples nearly alone, and leaves the original as it is."""

import copy

import numpy as np
import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.inversion import Objective, Tuning, WSpace, invert, psnr, tune_generator
from ganfoundry.gan.inversion.pivotal import neighbours
from ganfoundry.images import network_images, stored_images
from tests.ganfoundry.gan.inversion.invhelp import samples, tiny_gan


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> LoadedGan:
    return tiny_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    y, x = np.mgrid[:16, :16]
    disc = ((x - 8) ** 2 + (y - 7) ** 2 < 30)[..., None]
    return np.where(disc, [200, 40, 30], [120, 140, 160]).astype(np.uint8)[None]


def changed(gan: LoadedGan, tuned: torch.nn.Module) -> float:
    """Root mean square change of samples, of a range of 2."""
    w, _ = samples(gan, 32)
    with torch.no_grad():
        return float((tuned.synthesis(w) - gan.generator.synthesis(w)).square().mean().sqrt())


def test_the_picture_is_made_and_samples_stay(gan: LoadedGan, picture: np.ndarray) -> None:
    wspace, objective = WSpace.of(gan.generator), Objective.of(gan)
    found = invert(gan, picture, steps=20, wspace=wspace)
    before = copy.deepcopy(gan.generator.state_dict())
    target, results = network_images(picture), {}
    for weight in (0.0, 3.0):
        tuned = tune_generator(gan.generator, objective, target, found.w, Tuning(40, 0.01, weight), wspace=wspace)
        with torch.no_grad():
            made = stored_images(tuned.synthesis(found.w))
        results[weight] = psnr(made, picture)[0] - found.psnr[0], changed(gan, tuned)
        assert not any(p.requires_grad for p in tuned.parameters())
    assert results[0.0][0] > 6
    assert results[3.0][0] > 2.5
    assert results[3.0][1] < 0.6 * results[0.0][1], "locality holds other samples"
    assert all(torch.equal(value, before[name]) for name, value in gan.generator.state_dict().items())


def test_several_pictures_share_a_generator_and_w_plus_is_a_pivot_too(gan: LoadedGan) -> None:
    wspace, objective = WSpace.of(gan.generator), Objective.of(gan)
    w, images = samples(gan, 3)
    pivots = w[:, None].expand(-1, gan.generator.num_ws, -1).roll(1, 0)  # of the wrong pictures
    steps: list[int] = []
    tuned = tune_generator(
        gan.generator, objective, network_images(images), pivots, Tuning(30, 0.01, 0.0), wspace=wspace,
        on_step=lambda: steps.append(1),
    )  # fmt: skip
    with torch.no_grad():
        gain = psnr(stored_images(tuned.synthesis(pivots)), images) - psnr(
            stored_images(gan.generator.synthesis(pivots)), images
        )
    assert gain.mean() > 2
    assert len(steps) == 30


def test_the_same_seed_gives_the_same_weights(gan: LoadedGan, picture: np.ndarray) -> None:
    wspace, objective = WSpace.of(gan.generator), Objective.of(gan)
    states = [
        tune_generator(
            gan.generator, objective, network_images(picture), wspace.mean[None], Tuning(4, seed=seed), wspace=wspace
        ).state_dict()
        for seed in (0, 0, 1)
    ]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert any(not torch.equal(value, states[2][name]) for name, value in states[0].items())


def test_neighbours_lie_at_their_distance_from_the_pivots(gan: LoadedGan) -> None:
    wspace = WSpace.of(gan.generator)
    pivots = samples(gan, 2)[0][:, None].expand(-1, gan.generator.num_ws, -1)
    near = neighbours(gan.generator, pivots, wspace, Tuning(steps=5, locality_distance=0.5))
    assert near.shape == (5, gan.generator.num_ws, 8)
    for k in range(5):
        apart = (near[k] - pivots[k % 2]).square().sum(-1).mean().sqrt()
        assert float(apart) == pytest.approx(0.5 * wspace.spread, rel=1e-4)


def test_wrong_options_are_refused() -> None:
    for wrong in ({"steps": 0}, {"rate": 0.0}, {"locality_weight": -1.0}, {"locality_distance": 0.0}):
        with pytest.raises(InputError, match="tuning needs"):
            Tuning(**wrong)  # type: ignore[arg-type]
