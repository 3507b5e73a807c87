"""Augmentations: deterministic, differentiable, in their stated ranges."""

import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.gan import augment as module
from ganfoundry.gan.augment import AUGMENTATIONS, NUM_UNIFORMS, augment, mirror, parse_policy, steer


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniforms(count: int, seed: int) -> torch.Tensor:
    return torch.rand(count, NUM_UNIFORMS, generator=seeded(seed))


def test_policy_names() -> None:
    assert parse_policy("") == parse_policy("none") == ()
    assert parse_policy("colour, cutout") == ("colour", "cutout")
    with pytest.raises(InputError, match="use a list of colour"):
        parse_policy("color")


def test_empty_policy_returns_the_images() -> None:
    images = torch.randn(2, 3, 8, 8)
    assert augment(images, (), uniforms(2, 0)) is images


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_same_numbers_same_images_and_other_numbers_others(name: str) -> None:
    images = torch.randn(8, 3, 16, 16, generator=seeded(1))
    first, again, other = (augment(images, (name,), uniforms(8, seed)) for seed in (5, 5, 6))
    assert first.shape == images.shape
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_gradient_equals_finite_differences(name: str) -> None:
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: AUGMENTATIONS[name](x, uniforms(2, 2)), (images,))


def test_mirror_flips_the_flagged_only() -> None:
    images = torch.arange(24.0).reshape(2, 3, 2, 2)
    found = mirror(images, torch.tensor([False, True]))
    assert torch.equal(found[0], images[0])
    assert torch.equal(found[1], images[1].flip(-1))
    assert torch.equal(mirror(found, torch.tensor([False, True])), images)


def test_translation_moves_whole_images_by_at_most_an_eighth() -> None:
    count, side = 64, 16
    images = torch.zeros(count, 3, side, side)
    images[:, :, 8, 8] = 1.0
    found = AUGMENTATIONS["translation"](images, uniforms(count, 3)).nonzero().reshape(count, 3, 4)
    moved = found[:, 0, 2:] - 8
    assert (found[:, :1][:, :, 2:] == found[:, :, 2:]).all()  # the channels move together
    assert int(moved.min()) == -2
    assert int(moved.max()) == 2


def test_cutout_removes_up_to_a_quarter() -> None:
    images = torch.ones(64, 3, 16, 16)
    removed = (AUGMENTATIONS["cutout"](images, uniforms(64, 4)) == 0).float().mean(dim=(1, 2, 3))
    assert float(removed.max()) == pytest.approx(0.25)
    assert float(removed.min()) > 0.06  # at a corner a quarter of the square is left


def test_colour_keeps_structure() -> None:
    images = torch.randn(16, 3, 8, 8, generator=seeded(5))
    found = module.colour(images, uniforms(16, 6))
    grey_before = images.mean(dim=1).flatten(1)
    grey_after = found.mean(dim=1).flatten(1)
    slope = grey_after.std(dim=1) / grey_before.std(dim=1)
    assert ((slope >= 0.5) & (slope <= 1.5)).all()
    correlation = torch.stack(
        [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(grey_before, grey_after, strict=True)]
    )
    assert float(correlation.min()) > 0.999


def test_gates_choose_the_augmentations_of_each_image() -> None:
    images, numbers = torch.randn(4, 3, 16, 16, generator=seeded(7)), uniforms(4, 8)
    gates = torch.tensor([[False, False], [True, False], [False, True], [True, True]])
    found = augment(images, ("colour", "cutout"), numbers, gates)
    for row, names in enumerate(((), ("colour",), ("cutout",), ("colour", "cutout"))):
        torch.testing.assert_close(found[row], augment(images, names, numbers)[row])


def test_probability_moves_by_a_fixed_rate_towards_the_target() -> None:
    start = torch.tensor(0.5)
    assert float(steer(start, torch.tensor(0.9), 0.6, 5000)) == pytest.approx(0.51)
    assert float(steer(start, torch.tensor(-1.0), 0.6, 5000)) == pytest.approx(0.49)
    assert float(steer(start, torch.tensor(0.6), 0.6, 5000)) == 0.5
    assert float(steer(torch.tensor(0.999), torch.tensor(1.0), 0.6, 5000)) == 1.0
    assert float(steer(torch.tensor(0.001), torch.tensor(0.0), 0.6, 5000)) == 0.0
    probability = torch.tensor(0.0)
    for _ in range(100):  # 500,000 images from none to always
        probability = steer(probability, torch.tensor(1.0), 0.6, 5000)
    assert float(probability) == pytest.approx(1.0)
