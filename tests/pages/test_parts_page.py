"""The page for parts and keypoints in a real browser, its server a process of its own, the result read from disk."""

import json
import shutil

import numpy as np
import pytest

from ganfoundry.labels.labelset import LabelSet
from ganfoundry.metrics import mean_iou
from tests.pages.browserhelp import Person, disc_path
from tests.pages.pagehelp import SIDE, Server, body, free_port, shaded_labels, until
from tests.stages.labelhelp import shades_gan

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A generator and labels of it."""
    folder = tmp_path_factory.mktemp("made")
    gan = shades_gan(folder / "gan")
    shaded_labels(folder / "labels", gan)
    return folder


@pytest.fixture(scope="module")
def served(made):
    """One server for all tests that do not kill it."""
    shutil.copytree(made / "labels", made / "served")
    server = Server("annotate-parts", "--open", made / "served", "--gan", made / "gan")
    yield server, made / "served"
    server.stop()


@pytest.fixture
def blank(served):
    """The served folder with blank labels; written as a paint program would, under the server's eyes."""
    server, folder = served
    labels = LabelSet.load(folder)
    empty = LabelSet(
        labels.names,
        labels.images,
        np.zeros_like(labels.masks),
        labels.w,
        labels.generator_sha256,
        labels.schema,
        {"labels": "none"},
        keypoints=np.zeros((len(labels), 3, 3), np.float32),
    )
    empty.save(folder)
    return server, folder


@pytest.fixture
def context(chromium):
    context = chromium.new_context(viewport={"width": 1100, "height": 700})
    context.set_default_timeout(30_000)
    yield context
    context.close()


@pytest.fixture
def person(blank, context):
    server, folder = blank
    someone = Person(context, server.url, folder)
    yield someone
    assert someone.errors == []


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


def test_a_tab_closed_with_unsaved_work_has_it_when_it_is_opened_again(blank, context):
    server, folder = blank
    someone = Person(context, server.url, folder)
    someone.cut_off()
    someone.choose(8)
    someone.stroke((8.5, 8.5))
    someone.page.wait_for_selector('#status[data-kind="bad"]')
    assert "kept in this browser" in someone.page.text_content("#status")
    someone.page.close()
    assert not someone.mask().any()
    again = Person(context, server.url, folder)
    again.saved()
    assert again.mask()[8, 8] == 8
    assert not again.page.evaluate("() => Object.keys(localStorage).length")


def test_a_tab_closed_at_once_after_a_stroke_loses_nothing(blank, context):
    server, folder = blank
    someone = Person(context, server.url, folder)
    someone.choose(6)
    someone.stroke((8.5, 8.5))
    someone.page.close()
    again = Person(context, server.url, folder)
    until(lambda: again.mask()[8, 8] == 6)
    assert again.errors == []


def test_an_answer_that_is_lost_is_no_conflict(blank, context):
    server, folder = blank
    someone = Person(context, server.url, folder)
    someone.page.evaluate(
        """() => { const real = window.fetch; let lost = false; window.fetch = async (...request) => {
        const answer = await real(...request);
        if (request[1]?.method === "PUT" && !lost) { lost = true; throw new TypeError("lost"); }
        return answer; }; }"""
    )
    someone.choose(3)
    someone.stroke((4.5, 4.5))
    someone.page.wait_for_selector('#status[data-kind="bad"]')
    someone.stroke((9.5, 9.5))  # so that what is sent again is not the same
    someone.saved()
    assert someone.mask()[4, 4] == someone.mask()[9, 9] == 3
    assert not someone.page.is_visible("#conflict")


def test_a_reload_in_the_middle_of_saving_loses_nothing(blank, context):
    server, folder = blank
    someone = Person(context, server.url, folder)
    someone.choose(9)
    someone.stroke((3, 3), (12, 12))
    someone.page.reload()
    someone.page.wait_for_selector("#name:not(:empty)")
    until(lambda: someone.mask()[8, 8] == 9)
    someone.page.wait_for_timeout(700)
    assert someone.mask()[8, 8] == 9


def test_an_old_tab_does_not_overwrite_newer_work(blank, context):
    server, folder = blank
    old, new = Person(context, server.url, folder), Person(context, server.url, folder)
    new.choose(3)
    new.stroke((4.5, 4.5))
    new.saved()
    old.choose(7)
    old.stroke((12.5, 12.5))
    old.page.wait_for_selector("#conflict:not([hidden])")
    assert "changed elsewhere" in old.page.text_content("#conflict")
    assert old.mask()[4, 4] == 3
    assert old.mask()[12, 12] == 0
    old.page.get_by_role("button", name="Show the newer").click()
    old.press("b")
    old.stroke((2.5, 13.5))
    old.saved()
    assert (old.mask()[4, 4], old.mask()[12, 12], old.mask()[13, 2]) == (3, 0, 7)
    new.stroke((10.5, 4.5))  # now this one is old
    new.page.wait_for_selector("#conflict:not([hidden])")
    new.page.get_by_role("button", name="Keep mine").click()
    new.saved()
    assert (new.mask()[4, 10], new.mask()[13, 2]) == (3, 0)


def test_a_draft_made_before_newer_work_is_not_taken_silently(blank, context):
    server, folder = blank
    first = Person(context, server.url, folder)
    first.cut_off()
    first.choose(8)
    first.stroke((8.5, 8.5))
    first.page.wait_for_selector('#status[data-kind="bad"]')
    first.page.close()
    current = server.ask("GET", "api/samples/sample-0")
    newer = body(np.full((SIDE, SIDE), 2, np.uint8), current["revision"], keypoints=current["keypoints"])
    assert server.ask("PUT", "api/samples/sample-0", newer)["status"] == 200
    second = Person(context, server.url, folder)
    second.page.wait_for_selector("#conflict:not([hidden])")
    assert (second.mask() == 2).all()
    second.page.get_by_role("button", name="Show the newer").click()
    assert not second.page.evaluate("() => Object.keys(localStorage).length")
    assert (second.mask() == 2).all()


def test_a_killed_server_and_its_successor(made, tmp_path, context):
    folder, port = tmp_path / "labels", free_port()
    shutil.copytree(made / "labels", folder)
    arguments = ("annotate-parts", "--open", folder, "--gan", made / "gan")
    server = Server(*arguments, port=port)
    someone = Person(context, server.url, folder)
    someone.choose(10)
    someone.stroke((2.5, 2.5))
    someone.saved()
    server.kill()
    someone.stroke((13.5, 13.5))
    someone.page.wait_for_selector('#status[data-kind="bad"]')
    assert "start the command again" in someone.page.text_content("#status")
    assert someone.mask()[2, 2] == 10
    server = Server(*arguments, port=port)
    until(lambda: "address that it printed" in someone.page.text_content("#status"))
    again = Person(context, server.url, folder)
    again.saved()
    assert (again.mask()[2, 2], again.mask()[13, 13]) == (10, 10)
    server.stop()


def test_training_shows_a_better_overlay_to_take_over(served, context):
    server, folder = served
    truth = np.stack([*LabelSet.load(folder.parent / "labels").masks])
    labels = LabelSet.load(folder)
    wrong = truth.copy()
    wrong[5] = 9
    LabelSet(
        labels.names, labels.images, wrong, labels.w, labels.generator_sha256, labels.schema, {}, None, labels.keypoints
    ).save(folder)
    someone = Person(context, server.url, folder)
    for number in range(5):
        until(lambda expected=f"sample-{number}": someone.shown() == expected)
        someone.press("d")
        someone.saved()
        someone.press("n")
    until(lambda: someone.shown() == "sample-5")
    before = mean_iou(truth[5:], someone.mask("sample-5")[None], 12)
    someone.page.get_by_role("button", name="Train on these labels").click()
    someone.page.wait_for_selector("#bar:not([hidden])")
    someone.page.wait_for_selector("#caption[data-agreement]", timeout=200_000)
    assert "Trained on 5 images" in someone.page.text_content("#training")
    assert someone.page.is_visible("#beside")
    assert (someone.mask("sample-5") == 9).all()  # shown beside, not taken yet
    someone.press("t")
    someone.saved()
    after = mean_iou(truth[5:], someone.mask("sample-5")[None], 12)
    assert after > before + 0.3
    assert someone.page.get_attribute("#caption", "data-agreement") == "100.0"
    someone.press("z")
    someone.saved()
    assert (someone.mask("sample-5") == 9).all()


def test_every_button_has_a_name_and_nothing_is_cut_off(person):
    nameless = person.page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, canvas")]
        .filter((e) => !(e.getAttribute("aria-label") || e.textContent.trim() || e.closest("label")))
        .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    for width, height in ((1280, 800), (800, 560), (400, 720)):
        person.page.set_viewport_size({"width": width, "height": height})
        person.settled()
        outside = person.page.evaluate(
            """() => [...document.querySelectorAll("header *, .bar *, .proposals *")]
            .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > innerWidth + 1)
            .map((e) => e.outerHTML)"""
        )
        assert outside == []
        assert person.page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")


def test_the_page_of_another_site_learns_nothing(blank, context):
    server, _ = blank
    page = context.new_page()
    page.goto("data:text/html,<p>another site</p>")
    told = page.evaluate(
        "(url) => fetch(url + 'api/project').then((answer) => answer.text()).catch((error) => String(error))",
        server.url,
    )
    assert "Failed to fetch" in told
    assert json.dumps(server.ask("GET", "api/project")["title"]) not in told
