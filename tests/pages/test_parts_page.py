"""The page for parts and keypoints in a real browser: training, layout, other sites; its server is another process."""

import json

import numpy as np
import pytest

from ganfoundry.labels.labelset import LabelSet
from ganfoundry.metrics import mean_iou
from tests.pages.browserhelp import Person
from tests.pages.pagehelp import until

pytestmark = pytest.mark.browser


def test_training_shows_a_better_overlay_to_take_over(shaded, served, context):
    server, folder = served
    truth = np.stack([*LabelSet.load(shaded / "labels").masks])
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
