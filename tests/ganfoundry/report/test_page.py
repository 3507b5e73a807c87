"""The report page: escaping, self-containment, and the pictures it embeds."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from ganfoundry.pictures import captioned, colourise, grid, heatmap, overlay, spread
from ganfoundry.report import Bar, Figure, Section, render_page


class _Collector(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def _parse(page: str) -> list[tuple[str, dict[str, str | None]]]:
    collector = _Collector()
    collector.feed(page)
    return collector.tags


def test_embedded_picture_reads_back_exactly():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    page = render_page("t", "l", [Section("s", figures=[Figure(image, "c")])])
    url = next(attrs["src"] for tag, attrs in _parse(page) if tag == "img")
    read = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    np.testing.assert_array_equal(np.asarray(read), image)


def test_hostile_text_stays_text():
    evil = '"><script>alert(1)</script><img src=x onerror=alert(1)>'
    image = np.zeros((2, 2, 3), np.uint8)
    section = Section(evil, evil, [Figure(image, evil)], [Bar(evil, 0.5, evil)], [evil], [[evil]])
    page = render_page(evil, evil, [section], evil)
    tags = _parse(page)
    assert not [tag for tag, _ in tags if tag == "script"]
    assert all("onerror" not in attrs for _, attrs in tags)
    assert len([tag for tag, _ in tags if tag == "img"]) == 1


def test_page_refers_to_nothing_outside_itself():
    page = render_page("t", "l", [Section("s", rows=[["a", "b"]], header=["x", "y"])])
    assert not re.search(r"(?:src|href)=\"(?!#|data:)", page)
    assert "default-src 'none'" in page


def test_a_long_table_can_be_folded():
    folded = render_page("t", "l", [Section("s", rows=[["a", "b"]], folded="12 rows")])
    assert re.search(r"<details><summary>12 rows</summary>\s*<div.*</div>\s*</details>", folded, re.DOTALL)
    assert "<details>" not in render_page("t", "l", [Section("s", rows=[["a", "b"]])])


def test_bars_have_the_length_of_their_share():
    page = render_page("t", "l", [Section("s", bars=[Bar("a", 0.25, "25 %", (1, 2, 3))])])
    style = next(attrs["style"] for _, attrs in _parse(page) if attrs.get("class") == "bar")
    assert style == "width: 25.00%; background: rgb(1, 2, 3)"


def test_grid_places_every_tile():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    picture = grid(images, 2, scale=2, gap=1, background=99)
    assert picture.shape == (3 * 5 - 1, 2 * 7 - 1, 3)
    for index in range(5):
        y, x = index // 2 * 5, index % 2 * 7
        assert (picture[y : y + 4, x : x + 6] == index).all()
    assert (picture[10:, 7:] == 99).all()


def test_grid_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        grid(np.zeros((0, 2, 2, 3), np.uint8), 3)


def test_overlay_leaves_background_and_blends_the_rest():
    palette = np.array([[0, 0, 0], [200, 100, 0]], np.uint8)
    image = np.full((1, 2, 3), 100, np.uint8)
    mixed = overlay(image, np.array([[0, 1]]), palette, opacity=0.5)
    np.testing.assert_array_equal(mixed, [[[100, 100, 100], [150, 100, 50]]])
    np.testing.assert_array_equal(colourise(np.array([[1]]), palette), [[[200, 100, 0]]])


def test_heatmap_is_monotone_in_brightness_and_clamped():
    ramp = heatmap(np.linspace(-1, 3, 200), 2.0).astype(int)
    luminance = ramp @ [299, 587, 114]
    assert (np.diff(luminance) >= 0).all()
    np.testing.assert_array_equal(ramp[0], heatmap(np.zeros(1), 2.0)[0])


def test_caption_is_drawn_under_its_image():
    images = np.zeros((2, 16, 16, 3), np.uint8)
    picture = captioned(images, ["kept", ""], 2, scale=4)
    assert (picture[:64, :64] == 0).all()
    assert (picture[64:, :64] < 128).any()
    assert (picture[64:, 66:] == 255).all()


def test_spread_keeps_order_and_both_ends():
    rows = np.arange(10, 30)
    picked = spread(rows, 5)
    assert picked[0] == 10
    assert picked[-1] == 29
    assert len(picked) == 5
    assert (np.diff(picked) > 0).all()
    np.testing.assert_array_equal(spread(rows, 99), rows)
    assert len(spread(rows[:0], 3)) == 0
