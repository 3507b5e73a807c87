"""Running sums of an ensemble against the plain formulas; the spread of heat maps against shifts."""

import pytest
import torch
from torch import Tensor

from ganfoundry.labels.interpreter_config import InterpreterConfig
from ganfoundry.labels.tally import Tally, heat_spread
from ganfoundry.labels.uncertainty import jensen_shannon

torch.set_num_threads(1)
SIDE, CLASSES, MEMBERS, POINTS = 12, 5, 7, 2


def tallied(outputs: Tensor, voting: str = "soft", num_keypoints: int = 0) -> Tally:
    """Outputs (members, channels, R, R), given in tiles of rows and groups of members, last ones first."""
    config = InterpreterConfig(CLASSES, (), SIDE, MEMBERS, voting=voting, num_keypoints=num_keypoints)
    tally = Tally(config)
    for start in (8, 4, 0):
        for part in (slice(3, None), slice(0, 3)):
            rows = slice(start, start + 4)
            tally.add(rows, outputs[part, :, rows].permute(2, 0, 1, 3).clone())
    return tally


def logits(scale: float, channels: int = CLASSES) -> Tensor:
    return scale * torch.randn(MEMBERS, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("scale", [0.0, 1.0, 12.0, 300.0])
def test_uncertainty_and_shares_are_the_plain_formulas(scale: float) -> None:
    outputs = logits(scale)
    probability = outputs.double().softmax(1)
    tally = tallied(outputs)
    expected = jensen_shannon(probability[:, None])[0]
    assert (tally.uncertainty() - expected).abs().max() < 2e-6
    assert (tally.shares() - probability.mean(0)).abs().max() < 1e-6


def test_a_member_has_one_vote_also_where_two_classes_are_equal() -> None:
    outputs = logits(3.0).round()  # many ties
    shares = tallied(outputs, "majority").shares()
    assert torch.allclose(shares.sum(0), torch.ones(SIDE, SIDE))
    votes = torch.nn.functional.one_hot(outputs.max(1).indices, CLASSES).sum(0)
    assert torch.equal(shares, votes.permute(2, 0, 1) / MEMBERS)


def gaussians(centres: Tensor, sigma: float) -> Tensor:
    """Heat maps (..., R, R) of height 1 at (..., 2)."""
    grid = torch.arange(32) + 0.5
    x, y = centres[..., 0, None], centres[..., 1, None]
    return torch.exp(-((grid - x) ** 2)[..., None, :] / (2 * sigma**2) - ((grid - y) ** 2)[..., None] / (2 * sigma**2))


@pytest.mark.parametrize("sigma", [1.6, 3.0])
@pytest.mark.parametrize("height", [1.0, 0.3])
@pytest.mark.parametrize("distance", [0.0, 0.3, 0.8])
def test_the_spread_of_shifted_heat_maps_is_their_shift_in_pixels(sigma: float, height: float, distance: float) -> None:
    angle = torch.linspace(0, 2 * torch.pi, MEMBERS + 1)[:-1]
    shifts = distance * torch.stack([angle.cos(), angle.sin()], 1)
    heat = height * gaussians(torch.tensor([16.2, 14.7]) + shifts, sigma)[:, None]  # (members, 1, R, R)
    spread = heat_spread(heat.mean(0), heat.square().mean(0), torch.tensor([[16.2, 14.7]]), sigma)
    assert float(spread) == pytest.approx(distance, abs=0.02 + 0.12 * distance)


def test_members_that_do_not_see_a_keypoint_make_it_uncertain() -> None:
    heat = gaussians(torch.full((4, 1, 2), 16.0), 2.0)
    heat[2:] = 0
    spread = heat_spread(heat.mean(0), heat.square().mean(0), torch.full((1, 2), 16.0), 2.0)
    assert float(spread) > 1.0


def test_keypoints_of_a_shared_head() -> None:
    outputs = logits(0.1, CLASSES + POINTS)
    outputs[:, CLASSES:] = -9
    outputs[:, CLASSES, 3, 7] = 9.0
    places, spread = tallied(outputs, num_keypoints=POINTS).keypoints()
    assert places[0, :2].tolist() == pytest.approx([7.5, 3.5], abs=1e-3)
    assert places[0, 2] > 0.9 > 0.1 > places[1, 2]
    assert spread.abs().max() < 1e-3
