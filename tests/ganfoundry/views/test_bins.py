import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.views import ALL_AROUND, AzimuthBins
from ganfoundry.worlds import get_world

FACES = AzimuthBins.over(*get_world("faces").azimuths)


def test_twelve_bins_all_around():
    azimuth = [0, 14.9, 15, 344.9, 345, 359.9, -15, -15.1, 720, -1e-17]
    assert ALL_AROUND.of(azimuth).tolist() == [0, 0, 1, 11, 0, 0, 0, 11, 0, 0]
    assert ALL_AROUND.of(30 * np.arange(12)).tolist() == list(range(12))
    assert AzimuthBins.over(*get_world("cars").azimuths) == ALL_AROUND
    assert ALL_AROUND.name(4) == "4 (105 to 135 degrees)"
    assert ALL_AROUND.signed(-20) == 340


def test_bins_of_faces_are_those_of_their_range():
    assert (FACES.first, FACES.width, FACES.count) == (-60, 15, 9)
    azimuth = [300, -60, -52.6, -52.5, 0, 359, 7.5, 60, 67.4, 67.5, 90, 180, 292.4]
    assert FACES.of(azimuth).tolist() == [0, 0, 0, 1, 4, 4, 5, 8, 8, -1, -1, -1, -1]
    assert FACES.name(0) == "0 (-67.5 to -52.5 degrees)"
    assert FACES.signed(340) == -20
    assert FACES.signed(45) == 45
    np.testing.assert_allclose(FACES.off_centre([358, 60, 37.5]), [2, 0, 7.5])


@given(st.floats(-720, 720), st.sampled_from([ALL_AROUND, FACES, AzimuthBins(10, 45, 3)]))
def test_a_bin_holds_what_is_nearest_to_its_middle(azimuth, bins):
    k = int(bins.of(azimuth))
    middles = bins.first + bins.width * np.arange(bins.count)
    gaps = np.abs((azimuth - middles + 180) % 360 - 180)
    if k < 0:
        assert gaps.min() >= bins.width / 2 - 1e-9
    else:
        assert gaps[k] == pytest.approx(gaps.min(), abs=1e-9)
        assert float(bins.off_centre(azimuth)) == pytest.approx(gaps[k], abs=1e-9)
    assert math.cos(math.radians(bins.signed(azimuth) - azimuth)) == pytest.approx(1)


@pytest.mark.parametrize("wrong", [(0, 30, 13), (0, 50, 3), (0, -30, 3), (0, 30, 0), (math.nan, 30, 12), (0, 0, 1)])
def test_bins_that_are_none_are_refused(wrong):
    with pytest.raises(InputError, match="not part of a circle"):
        AzimuthBins(*wrong)
