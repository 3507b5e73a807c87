import numpy as np
import pytest

from ganfoundry.views import ViewCode
from ganfoundry.views.sheet import code_sheet, compass


def red_centre(azimuth):
    picture = compass(azimuth, 60).astype(int)
    y, x = np.nonzero((picture[..., 0] > 150) & (picture[..., 1] < 100))
    return x.mean() - 29.5, y.mean() - 29.5


@pytest.mark.parametrize(("azimuth", "x", "y"), [(0, 0, 1), (90, 1, 0), (180, 0, -1), (270, -1, 0)])
def test_the_camera_stands_where_the_azimuth_says(azimuth, x, y):
    found = red_centre(azimuth)
    assert found[0] == pytest.approx(20 * x, abs=6)
    assert found[1] == pytest.approx(20 * y, abs=6)


def test_sheet_holds_every_image():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 4, 64, 64, 3), dtype=np.uint8)
    codes = [ViewCode(i, i, 30.0 * i, 1.0, 10.0, 8.0, 0.0, "proposed") for i in range(3)]
    sheet = code_sheet(images, codes)
    assert sheet.shape == (3 * 66 - 2, sheet.shape[1], 3)
    left = sheet.shape[1] - (4 * 66 - 2)
    for row in range(3):
        for column in range(4):
            tile = sheet[row * 66 : row * 66 + 64, left + column * 66 : left + column * 66 + 64]
            np.testing.assert_array_equal(tile, images[row, column])
    with pytest.raises(ValueError, match="2 viewpoint codes"):
        code_sheet(images, codes[:2])
