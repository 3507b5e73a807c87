"""The smoothing matrix against the equation that it solves."""

import numpy as np
import pytest
import torch

from ganfoundry.shape.regularisers import laplacian, neighbour_mean
from ganfoundry.shape.smoothing import smoothing_matrix
from ganfoundry.shape.template import sphere_template


@pytest.mark.parametrize(("level", "strength"), [(1, 3.0), (2, 0.7), (3, 10.0)])
def test_it_solves_the_diffusion_equation(level: int, strength: float) -> None:
    template = sphere_template(level)
    edges = torch.from_numpy(template.edges)
    wanted = torch.randn(1, len(template.vertices), 3, generator=torch.Generator().manual_seed(0))
    found = smoothing_matrix(level, strength) @ wanted
    degree = torch.bincount(edges.flatten())[:, None]
    at_level = strength * len(template.vertices) / 642
    again = found + at_level * degree * (found - neighbour_mean(found, edges))
    assert torch.allclose(again, wanted, atol=1e-4)


def test_shifts_stay_and_noise_goes() -> None:
    matrix, edges = smoothing_matrix(2, 3.0), torch.from_numpy(sphere_template(2).edges)
    assert torch.allclose(matrix @ torch.ones(len(matrix), 3), torch.ones(len(matrix), 3), atol=1e-5)
    assert torch.equal(matrix, matrix.T)
    noise = torch.randn(1, len(matrix), 3, generator=torch.Generator().manual_seed(0))
    assert float(laplacian(matrix @ noise, edges)) < 0.2 * float(laplacian(noise, edges))


def test_the_width_is_the_same_at_every_level() -> None:
    """How far a push at the top reaches, in degrees, does not depend on the number of vertices."""
    reach = []
    for level in (2, 3):
        points = sphere_template(level).vertices
        answer = smoothing_matrix(level, 3.0)[points[:, 1].argmax()].numpy()
        angle = np.degrees(np.arccos(np.clip(points[:, 1], -1, 1)))
        reach.append(float((answer * angle).sum()))
    assert reach[0] == pytest.approx(reach[1], rel=0.15)


def test_no_strength_changes_nothing() -> None:
    assert torch.equal(smoothing_matrix(1, 0.0), torch.eye(42))
