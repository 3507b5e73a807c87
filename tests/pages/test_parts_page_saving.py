"""Work on the page for parts and keypoints survives closed tabs, lost answers, killed servers and other tabs."""

import shutil

import numpy as np
import pytest

from tests.pages.browserhelp import Person
from tests.pages.pagehelp import SIDE, Server, body, free_port, until

pytestmark = pytest.mark.browser


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


def test_a_killed_server_and_its_successor(shaded, tmp_path, context):
    folder, port = tmp_path / "labels", free_port()
    shutil.copytree(shaded / "labels", folder)
    arguments = ("annotate-parts", "--open", folder, "--gan", shaded / "gan")
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
