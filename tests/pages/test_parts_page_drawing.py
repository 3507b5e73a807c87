"""Drawing on the page for parts and keypoints in a real browser, the result read from disk."""

import numpy as np
import pytest

from ganfoundry.labels.labelset import LabelSet
from tests.pages.browserhelp import Person, disc_path
from tests.pages.pagehelp import SIDE

pytestmark = pytest.mark.browser


def test_a_stroke_is_exact_on_disk_and_undo_redo_go_both_ways(person):
    person.choose(5)
    person.size(3)
    path = [(3.3, 4.2), (11.6, 9.4), (12.2, 3.1)]
    person.stroke(*path)
    person.saved()
    expected = np.where(disc_path(path, 1.5), 5, 0)
    painted = person.mask()
    assert set(np.unique(painted)) == {0, 5}  # nothing is blended
    assert (painted != expected).sum() <= 1  # a pixel centre on the very rim may fall either way
    person.choose(2)
    person.size(1)
    person.stroke((0.5, 15.5))
    person.saved()
    assert person.mask()[15, 0] == 2
    assert (person.mask() != painted).sum() == 1  # one pixel and no other
    person.press("z")
    person.saved()
    np.testing.assert_array_equal(person.mask(), painted)
    person.press("z")
    person.saved()
    assert not person.mask().any()
    person.press("y", "Control+y")
    person.saved()
    assert person.mask()[15, 0] == 2
    person.press("e")
    person.size(4)
    person.stroke((0.5, 15.5))
    person.saved()
    assert person.mask()[15, 0] == 0
    assert LabelSet.load(person.folder).provenance["corrected"] == ["sample-0"]


def test_polygon_and_fill(person):
    person.choose(4)
    person.press("l")
    corners = [(2.2, 2.1), (13.7, 3.2), (9.4, 13.6), (4.8, 8.3)]
    for corner in corners:
        person.stroke(corner)
    person.press("Enter")
    person.saved()
    np.testing.assert_array_equal(person.mask(), np.where(inside(corners), 4, 0))
    person.choose(7)
    person.press("f")
    person.stroke((8, 6))
    person.saved()
    np.testing.assert_array_equal(person.mask(), np.where(inside(corners), 7, 0))
    person.stroke((0.5, 0.5))
    person.saved()
    assert (person.mask() == 7).all()
    person.press("z", "z", "z")
    person.saved()
    assert not person.mask().any()
    person.press("l")
    for corner in corners:
        person.stroke(corner)
    person.press("Backspace", "Escape", "Enter")  # given up
    person.press("b")
    person.choose(1)
    person.stroke((8.5, 8.5))
    person.saved()
    assert set(np.unique(person.mask())) == {0, 1}


def inside(corners):
    """Pixels whose centres a polygon holds, by the even-odd rule, each counted on its own."""
    mask = np.zeros((SIDE, SIDE), bool)
    for row in range(SIDE):
        for column in range(SIDE):
            x, y, odd = column + 0.5, row + 0.5, False
            for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
                if (ay > y) != (by > y) and x < ax + (y - ay) * (bx - ax) / (by - ay):
                    odd = not odd
            mask[row, column] = odd
    return mask


def test_flood_fill_does_not_pass_corners(person):
    person.size(1)
    person.choose(3)
    person.stroke((0.5, 0.5), (7.5, 7.5))  # a diagonal of pixels that touch at corners
    person.stroke((7.5, 7.5), (0.5, 7.5))
    person.press("f")
    person.choose(6)
    person.stroke((1.5, 4.5))
    person.saved()
    mask = person.mask()
    assert mask[4, 1] == 6
    assert mask[1, 4] == 0
    assert mask[15, 15] == 0


def test_keypoints_are_placed_dragged_hidden_and_deleted(person):
    def points():
        person.saved()
        return LabelSet.load(person.folder).keypoints[0]

    person.press("k")
    person.stroke((4.0, 5.0))
    np.testing.assert_allclose(points()[0], [4, 5, 2], atol=0.02)
    assert "left ear" in person.page.text_content("#points .chosen")  # the next one is chosen
    person.page.keyboard.down("Shift")
    person.stroke((13.0, 13.0))
    person.page.keyboard.up("Shift")
    np.testing.assert_allclose(points()[1], [13, 13, 1], atol=0.02)
    person.press("z")
    person.page.get_by_role("button", name="right ear", exact=True).click()
    person.stroke((12.0, 3.0))
    np.testing.assert_allclose(points()[2], [12, 3, 2], atol=0.02)
    person.stroke((4.0, 5.0), (6.0, 9.5))
    np.testing.assert_allclose(points()[0], [6, 9.5, 2], atol=0.1)
    person.press("h")
    assert points()[0][2] == 1
    person.page.get_by_label("nose: hidden").click()
    assert points()[0][2] == 2
    person.page.get_by_role("button", name="right ear", exact=True).click()
    person.press("Delete")
    assert not points()[2].any()
    assert not points()[1].any()
    person.press("z")
    np.testing.assert_allclose(points()[2], [12, 3, 2], atol=0.02)
    assert not person.mask().any()


def test_the_keyboard_chooses_parts_images_and_sizes(person):
    pressed = "#parts [aria-pressed=true]"
    person.press("1", "1")
    assert "11" in person.page.text_content(pressed)
    person.choose(3)
    assert "bright" in person.page.text_content(pressed)
    person.press("/")
    person.page.keyboard.type("mi")
    person.press("Enter")
    assert "mid" in person.page.text_content(pressed)
    person.press_and_wait("n", "sample-1")
    person.press_and_wait("n", "sample-2")
    person.press("d")
    person.saved()
    assert LabelSet.load(person.folder).provenance["checked"] == ["sample-2"]
    assert person.page.text_content("#progress") == "1 of 6 done"
    person.press_and_wait("p", "sample-1")
    before = person.page.text_content("#size-text")
    person.press("]")
    assert person.page.text_content("#size-text") != before
    for key, tool in (
        ("e", "eraser"),
        ("l", "polygon"),
        ("f", "fill"),
        ("k", "keypoints"),
        ("m", "move"),
        ("b", "brush"),
    ):
        person.press(key)
        assert person.page.get_attribute(f"[data-tool={tool}]", "aria-pressed") == "true"


def test_zoom_and_pan_keep_the_pixel_under_the_pointer(person):
    x, y = person.at(5, 6)
    pixel = person.at(6, 6)[0] - x
    person.page.mouse.move(x, y)
    person.page.mouse.wheel(0, -300)
    person.settled()
    assert person.at(5, 6) == pytest.approx((x, y), abs=0.5)
    assert person.at(6, 6)[0] - x > 1.1 * pixel
    person.page.keyboard.down(" ")
    person.page.mouse.down()
    person.page.mouse.move(x + 40, y - 25)
    person.page.mouse.up()
    person.page.keyboard.up(" ")
    person.settled()
    assert person.at(5, 6) == pytest.approx((x + 40, y - 25), abs=0.5)
    person.choose(2)
    person.size(1)
    person.stroke((5.5, 6.5))
    person.saved()
    assert np.argwhere(person.mask()).tolist() == [[6, 5]]


def test_touch_draws_with_one_finger_and_moves_with_two(blank, chromium):
    server, folder = blank
    context = chromium.new_context(viewport={"width": 700, "height": 800}, has_touch=True)
    someone = Person(context, server.url, folder)
    someone.choose(4)
    someone.size(2)
    touch = context.new_cdp_session(someone.page)

    def event(kind, *places):
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(someone.at(*place) for place in places)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    event("touchStart", (3, 3))
    event("touchMove", (9, 3))
    event("touchEnd")
    someone.saved()
    painted = someone.mask()
    assert (painted[2:4, 3:9] == 4).all()
    before = someone.at(0, 0)
    event("touchStart", (5, 10))
    event("touchStart", (5, 10), (11, 10))
    event("touchMove", (5, 12), (14, 12))
    event("touchEnd")
    someone.settled()
    assert someone.at(0, 0) != before
    someone.page.wait_for_timeout(600)
    np.testing.assert_array_equal(someone.mask(), painted)  # the first finger's stroke was taken back
    assert someone.errors == []
    context.close()
