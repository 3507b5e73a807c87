"""The camera table: bins, deviations, turning."""

import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.render.camera import Camera
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.camera_table import CameraTable


def test_starts_at_the_middles_of_the_bins() -> None:
    table = CameraTable([0.0, 90.0, 330.0], 4, 4.0, 30.0)
    cameras = table(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2]))
    expected = Cameras.from_cameras([Camera(30.0 * b, 0.0, 4.0, 30.0) for b in (0, 3, 11)])
    assert torch.allclose(cameras.position, expected.position, atol=1e-5)
    assert torch.allclose(cameras.rotation, expected.rotation, atol=1e-6)


def test_images_share_their_codes_camera_but_for_their_deviation() -> None:
    table = CameraTable([120.0], 3, 4.0, 30.0)
    with torch.no_grad():
        table.codes[0] = torch.tensor([1.0, 0.5, 1.0, 0.0, 0.0])
        table.images[2] = torch.tensor([0.1, 0.0, 0.0, 1.0, 0.0])
    parameters = table.parameters_of(torch.zeros(3, dtype=torch.int64), torch.arange(3))
    assert torch.allclose(parameters[0], torch.tensor([130.0, 5.0, 0.1, 0.0, 0.0]))
    assert torch.equal(parameters[0], parameters[1])
    assert torch.allclose(parameters[2] - parameters[0], torch.tensor([1.0, 0.0, 0.0, 0.1, 0.0]), atol=1e-5)
    assert float(table.deviation(torch.tensor([0, 1])).detach()) == 0
    assert float(table.deviation(torch.tensor([2])).detach()) == pytest.approx((0.01 + 1) / 5)


def test_gradients_reach_codes_and_images() -> None:
    table = CameraTable([0.0, 180.0], 2, 4.0, 30.0)
    place = table(torch.tensor([1]), torch.tensor([0])).project(torch.ones(1, 1, 3) * 0.3, 32)
    place.sum().backward()  # type: ignore[no-untyped-call]
    assert table.codes.grad is not None
    assert table.images.grad is not None
    assert (table.codes.grad[1] != 0).all()
    assert not table.codes.grad[0].any()
    assert (table.images.grad[0] != 0).all()


def test_what_all_cameras_share_is_added_to_each() -> None:
    table = CameraTable([0.0, 90.0], 2, 4.0, 30.0)
    with torch.no_grad():
        table.common[1] = 1.5
        table.codes[1, 1] = 0.5
    assert table.parameters_of(torch.tensor([0, 1]))[:, 1].tolist() == [15.0, 20.0]
    table.parameters_of(torch.tensor([0, 1, 1]))[:, 1].sum().backward()  # type: ignore[no-untyped-call]
    assert table.common.grad is not None
    assert table.common.grad.tolist() == [0.0, 30.0, 0.0, 0.0, 0.0]


def test_groups_of_codes_keep_the_mean_distance_and_shift_of_all() -> None:
    table = CameraTable([0.0, 90.0, 0.0, 90.0, 180.0], 0, 4.0, 30.0, groups=[0, 0, 1, 1, 2])
    with torch.no_grad():
        table.common[2] = 0.5
        table.codes[:] = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    found = table.parameters_of(torch.arange(5)) / table.scale
    for rows in (slice(0, 2), slice(2, 4), slice(4, 5)):
        assert torch.allclose(found[rows, 2].mean(), torch.tensor(0.5), atol=1e-6)
        assert torch.allclose(found[rows, 3:].mean(0), torch.zeros(2), atol=1e-6)
    difference = table.codes[2] - table.codes[3]
    assert torch.allclose(found[2, 1:] - found[3, 1:], difference[1:], atol=1e-5)  # within a group all are free
    assert torch.allclose(found[:, 1], table.codes[:, 1])  # and so are elevations


def test_one_group_is_as_none() -> None:
    plain, grouped = (CameraTable([0.0, 90.0], 0, 4.0, 30.0, groups=groups) for groups in (None, [0, 0]))
    with torch.no_grad():
        for table in (plain, grouped):
            table.codes[:, 2] = 0.3
    rows = torch.arange(2)
    assert torch.equal(plain.parameters_of(rows), grouped.parameters_of(rows))
    assert plain.state_dict().keys() == grouped.state_dict().keys()


def test_fixed_cameras_take_no_gradient() -> None:
    table = CameraTable([0.0], 0, 4.0, 30.0, fixed=True)
    assert not any(p.requires_grad for p in table.parameters())


def test_codes_that_look_better_from_behind_are_turned() -> None:
    table = CameraTable([0.0, 90.0], 0, 4.0, 30.0)
    codes = torch.tensor([0, 0, 1, 1])
    for _ in range(3):
        table.observe(codes, torch.tensor([1.0, 1.2, 0.5, 0.5]), torch.tensor([0.9, 1.25, 0.3, 0.3]))
    assert table.turn_doubtful() == [1]
    assert table.start.tolist() == [0.0, 270.0]
    assert table.doubt[1].tolist() == [0.0, 0.0]
    behind = CameraTable([0.0], 0, 4.0, 30.0)(torch.tensor([0]), turn=180.0)
    assert float(behind.position[0, 2].detach()) == pytest.approx(-4.0)


@pytest.mark.parametrize("azimuths", [[], [float("nan")], [0.0, float("inf")]])
def test_unusable_azimuths_are_refused(azimuths: list[float]) -> None:
    with pytest.raises(InputError, match="one azimuth"):
        CameraTable(azimuths, 0, 4.0, 30.0)
