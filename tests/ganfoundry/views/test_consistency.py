import colorsys

import numpy as np
import pytest

from ganfoundry.views.consistency import _hue, agreement, hue_kept, variance_shares, view_consistency


def test_steady_spread_and_turning_codes():
    rng = np.random.default_rng(0)
    azimuth = np.stack([np.full(400, 359.0), rng.normal(90, 4, 400), np.tile([0.0, 0.0, 0.0, 180.0], 100)], 1)
    found = view_consistency(azimuth)
    assert found.bin.tolist() == [0, 3, 0]
    assert found.azimuth_std[0] == pytest.approx(0, abs=1e-4)
    assert found.azimuth_std[1] == pytest.approx(4, rel=0.1)
    assert found.flip_share.tolist() == [0, 0, 0.25]
    # Three quarters at 0 and one at 180 leave a mean vector of length 1 / 2.
    assert found.azimuth_std[2] == pytest.approx(np.rad2deg(np.sqrt(2 * np.log(2))))


def test_variance_shares_of_known_mixtures():
    rng = np.random.default_rng(1)
    content, view = rng.standard_normal((200, 1)), rng.standard_normal((1, 200))
    assert variance_shares(content + 0 * view) == pytest.approx((1, 0), abs=1e-12)
    assert variance_shares(0 * content + view) == pytest.approx((0, 1), abs=1e-12)
    a, b = variance_shares(2 * content + view)
    assert a / b == pytest.approx(4 * content.var() / view.var())
    assert a + b == pytest.approx(1)
    independent = variance_shares(rng.standard_normal((100, 100, 3)))
    assert max(independent) < 0.03
    assert np.isnan(variance_shares(np.ones((3, 4)))).all()


def test_agreement():
    by_content = np.repeat([[0], [1], [2]], 6, 1)
    assert agreement(by_content) == (1, pytest.approx(1 / 3))
    assert agreement(by_content.T) == (pytest.approx(1 / 3), 1)
    assert agreement([[0, 0, 0, 1], [2, 2, 1, 1]]) == (pytest.approx((0.75 + 0.5) / 2), pytest.approx(0.625))


def test_hue_is_the_angle_on_the_colour_circle():
    rng = np.random.default_rng(0)
    colours = rng.uniform(0, 1, (50, 3))
    expected = [colorsys.rgb_to_hsv(*colour)[0] * 360 for colour in colours]
    np.testing.assert_allclose(_hue(colours) % 360, expected, atol=1e-6)


def test_hue_kept_counts_views_near_the_objects_own_hue():
    red, orange, white = [0.8, 0.1, 0.1], [0.8, 0.5, 0.1], [0.9, 0.9, 0.9]
    share, coloured = hue_kept([[red, red, red, orange], [red, red, red, red], [white, white, white, red]], 20)
    assert (share, coloured) == (7 / 8, pytest.approx(2 / 3))
    assert hue_kept([[red, red, red, orange]], 40)[0] == 1
    magenta, scarlet = [0.8, 0.1, 0.2], [0.8, 0.2, 0.1]  # either side of hue 0
    assert hue_kept([[magenta, red, scarlet]], 20)[0] == 1
    share, coloured = hue_kept([[white, white]], 20)
    assert np.isnan(share)
    assert coloured == 0
