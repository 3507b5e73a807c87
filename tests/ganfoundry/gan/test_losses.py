"""Losses against closed forms, penalties against finite differences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ganfoundry.gan import losses

logit = st.floats(-20, 20)


@given(st.lists(logit, min_size=1, max_size=8))
def test_generator_loss_is_minus_log_sigmoid(values: list[float]) -> None:
    expected = sum(math.log1p(math.exp(-value)) for value in values) / len(values)
    found = losses.generator_loss(torch.tensor(values, dtype=torch.float64)[:, None])
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@given(logit, logit)
def test_discriminator_loss_is_the_cross_entropy(real: float, fake: float) -> None:
    expected = math.log1p(math.exp(-real)) + math.log1p(math.exp(fake))
    found = losses.discriminator_loss(torch.tensor([[real]]).double(), torch.tensor([[fake]]).double())
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_undecided_discriminator_costs_two_log_two() -> None:
    undecided = torch.zeros(5, 1)
    assert float(losses.discriminator_loss(undecided, undecided)) == pytest.approx(2 * math.log(2))
    assert float(losses.generator_loss(undecided)) == pytest.approx(math.log(2))


def test_generator_gradient_does_not_vanish_when_the_discriminator_is_sure() -> None:
    logits = torch.full((1, 1), -30.0, requires_grad=True)
    losses.generator_loss(logits).backward()
    assert logits.grad is not None
    assert float(logits.grad) == pytest.approx(-1.0, abs=1e-6)


def test_r1_of_a_linear_discriminator_is_the_norm_of_its_weights() -> None:
    weight = torch.arange(48, dtype=torch.float64).reshape(3, 4, 4)
    images = torch.randn(6, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    penalty = losses.r1_penalty((images * weight).sum(dim=(1, 2, 3))[:, None], images)
    assert penalty.item() == pytest.approx(float(weight.square().sum()))


def small_network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(16, 1)).double()


def test_r1_equals_finite_differences() -> None:
    network = small_network()
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    step, expected = 1e-5, 0.0
    with torch.no_grad():
        for index in range(images[0].numel()):
            offset = torch.zeros(48, dtype=torch.float64)
            offset[index] = step
            slope = (network(images + offset.view(3, 4, 4)) - network(images - offset.view(3, 4, 4))) / (2 * step)
            expected += float(slope.square().mean())
    assert losses.r1_penalty(network(images), images).item() == pytest.approx(expected, rel=1e-7)


def test_gradient_of_r1_in_the_weights_equals_finite_differences() -> None:
    network = small_network()
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = network[0].weight
    losses.r1_penalty(network(images), images).backward()
    for index in (0, 50, 107):
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                weight.view(-1)[index] += sign * 1e-5
            values.append(losses.r1_penalty(network(images), images).item())
            with torch.no_grad():
                weight.view(-1)[index] -= sign * 1e-5
        assert float(weight.grad.view(-1)[index]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5, abs=1e-10)


def test_path_length_equals_finite_differences() -> None:
    torch.manual_seed(1)
    synthesis = nn.Sequential(nn.Flatten(), nn.Linear(6, 10), nn.Tanh(), nn.Linear(10, 48)).double()
    ws = torch.randn(2, 2, 3, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    found = losses.path_lengths(synthesis(ws).view(2, 3, 4, 4), ws, probe)

    def projections(codes: torch.Tensor) -> torch.Tensor:
        return (synthesis(codes).view(2, 3, 4, 4) * probe).sum(dim=(1, 2, 3)) / 4.0  # sqrt(4 * 4)

    squares = torch.zeros(2, 2, dtype=torch.float64)
    with torch.no_grad():
        for layer in range(2):
            for index in range(3):
                offset = torch.zeros(2, 3, dtype=torch.float64)
                offset[layer, index] = 1e-5
                squares[:, layer] += ((projections(ws + offset) - projections(ws - offset)) / 2e-5).square()
    torch.testing.assert_close(found.detach(), squares.mean(dim=1).sqrt(), rtol=1e-7, atol=1e-10)


def test_path_penalty_is_a_variance_around_the_average() -> None:
    lengths = torch.tensor([1.0, 3.0], requires_grad=True)
    penalty = losses.path_length_penalty(lengths, torch.tensor(2.0))
    penalty.backward()
    assert penalty.item() == 1.0
    assert lengths.grad.tolist() == [-1.0, 1.0]


def test_half_of_the_average_is_gone_after_one_half_life() -> None:
    decay = losses.ema_decay(16, 10_000_000, half_life_kimg=4.0, rampup=0.05)
    assert decay ** (4000 / 16) == pytest.approx(0.5)


def test_half_life_ramps_up_with_the_images_seen() -> None:
    assert losses.ema_decay(16, 32_000, 5.0, 0.05) == pytest.approx(0.5 ** (16 / 1600))
    assert losses.ema_decay(16, 16, 5.0, 0.05) < 1e-6
    decays = [losses.ema_decay(16, seen, 5.0, 0.05) for seen in (16, 1000, 50_000, 100_000, 500_000)]
    assert decays == sorted(decays)
    assert decays[-1] == decays[-2]


def test_lazy_adam_keeps_the_time_constant_per_image() -> None:
    rate, (first, second) = losses.lazy_adam(0.0025, 16)
    assert rate == pytest.approx(0.0025 * 16 / 17)
    assert first == 0.0
    assert second**17 == pytest.approx(0.99**16)  # 17 updates where there were 16
    assert losses.lazy_adam(0.0025, 0) == (0.0025, (0.0, 0.99))


def test_betas_are_floats_as_adam_demands() -> None:
    rate, betas = losses.lazy_adam(0.0025, 16)
    parameter = nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    torch.optim.Adam([parameter], rate, betas).step()
    assert float(parameter.detach()) == pytest.approx(1 - rate, rel=1e-5)


def test_hinge_losses_against_loops() -> None:
    real, fake = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).mul(2).unbind()
    discriminator = generator = 0.0
    for row in range(5):
        for head in range(3):
            discriminator += max(0.0, 1.0 - float(real[row, head])) + max(0.0, 1.0 + float(fake[row, head]))
            generator -= float(fake[row, head])
    assert float(losses.hinge_discriminator_loss(real, fake)) == pytest.approx(discriminator / 5, rel=1e-5)
    assert float(losses.hinge_generator_loss(fake)) == pytest.approx(generator / 5, rel=1e-5)
