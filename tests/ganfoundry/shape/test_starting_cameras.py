"""Cameras to start from: a ring found in a toy set, directions, means and errors of angles."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.starting_cameras import azimuth_errors, code_azimuths, direction_of, mean_maps, order_codes
from tests.ganfoundry.shape.toys import toy_views

HALF_BINS = tuple(k / 2 for k in range(24))  # every 15 degrees


@pytest.fixture(scope="module")
def ring() -> MultiView:
    """Codes in no order, bodies whose left and right side look the same, no azimuths."""
    data = toy_views(objects=2, bins=HALF_BINS)  # type: ignore[arg-type]
    grey = np.repeat(data.images.max(3, keepdims=True), 3, 3)
    shuffled = np.random.default_rng(1).permutation(24)
    azimuths = np.empty(24)
    azimuths[shuffled] = data.azimuths
    return replace(data, images=grey, codes=shuffled[data.codes], azimuths=tuple(azimuths.tolist()))


def test_codes_are_put_in_order_without_their_azimuths(ring: MultiView) -> None:
    found = order_codes(replace(ring, azimuths=(0.0,) * 24))
    truth = np.array(ring.azimuths)
    errors = azimuth_errors(found.azimuths, truth)
    assert np.median(errors) < 8
    assert (errors < 45).mean() > 0.8
    assert np.median(azimuth_errors(-found.azimuths, truth)) > 30  # the direction is right
    offset = (found.azimuths - truth + 90) % 180 - 90
    assert abs(np.median(offset)) < 10  # and the plane of symmetry
    assert found.certainty.min() >= 0
    assert found.certainty.max() == 1


def test_codes_without_images_have_no_azimuth(ring: MultiView) -> None:
    found = order_codes(ring.take(ring.codes != 3))
    assert np.flatnonzero(np.isnan(found.azimuths)).tolist() == [3]


def test_too_few_codes_make_no_ring() -> None:
    with pytest.raises(InputError, match="5 viewpoint codes make no ring; give --cameras bins"):
        order_codes(toy_views(objects=1))


def test_what_is_visible_moves_left_when_the_camera_goes_on(ring: MultiView) -> None:
    maps = mean_maps(ring, np.arange(24), 32)
    truth = np.array(ring.azimuths)
    assert direction_of(maps, truth) == 1
    assert direction_of(maps, -truth % 360) == -1


def test_maps_are_shares_of_parts_relative_to_the_largest(ring: MultiView) -> None:
    maps = mean_maps(ring, np.arange(24), 8)
    assert maps.shape == (24, 8, 8, 2)
    assert ring.parts is not None
    noses = np.zeros((24, 8, 8))
    for code in range(24):
        shown = (ring.parts[ring.codes == code] == 2).mean(0)
        for i in range(8):
            for j in range(8):
                noses[code, i, j] = shown[4 * i : 4 * i + 4, 4 * j : 4 * j + 4].mean()
    assert np.allclose(maps[..., 1], noses / noses.sum((1, 2)).max())


def test_means_of_directions_wrap_around() -> None:
    found = code_azimuths(np.array([0, 0, 1, 1]), np.array([350.0, 30.0, 90.0, 100.0]), 3)
    assert found[:2] == pytest.approx([10.0, 95.0])
    assert np.isnan(found[2])


@given(st.lists(st.floats(0, 360), min_size=3, max_size=8), st.floats(-720, 720))
def test_errors_do_not_depend_on_where_zero_is(azimuths: list[float], turn: float) -> None:
    truth = np.array(azimuths)
    assert azimuth_errors(truth + turn, truth) == pytest.approx(np.zeros(len(truth)), abs=1e-6)


def test_one_wrong_camera_is_one_error() -> None:
    truth = np.arange(0, 360, 30.0)
    found = truth + 17
    found[4] += 180
    errors = azimuth_errors(found, np.where(truth == 330, np.nan, truth))
    assert len(errors) == 11
    assert errors[4] == pytest.approx(180)
    assert np.delete(errors, 4) == pytest.approx(np.zeros(10), abs=1e-9)
