"""The page for viewpoint codes in a real browser."""

import json
import shutil

import numpy as np
import pytest

from ganfoundry.views import ViewCodeSet
from stages.annotate_views import read_bins
from tests.pages.pagehelp import Server, until
from tests.stages.viewhelp import tiny_gan, view_codes

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("views")
    gan = tiny_gan(folder / "gan")
    view_codes(folder / "codes", gan, ("sedan", "van"))
    path = folder / "codes" / "codes.json"
    table = json.loads(path.read_text())
    for code in table["codes"]:
        code["how"] = "proposed"
    path.write_text(json.dumps(table))
    return folder


def test_one_key_a_code(made, tmp_path, chromium):
    folder = tmp_path / "codes"
    shutil.copytree(made / "codes", folder)
    before = ViewCodeSet.load(folder)
    arguments = ("annotate-views", "--open", folder, "--gan", made / "gan")
    server = Server(*arguments)
    context = chromium.new_context(viewport={"width": 1000, "height": 700})
    page, errors = context.new_page(), []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(server.url)
    page.wait_for_selector("#name:not(:empty)")
    assert page.text_content("#progress") == "0 of 24 codes"
    for key in ("Enter", "2", "1"):  # codes 1 and 2 change places, the others are agreed with
        page.keyboard.press(key)
    page.wait_for_function("() => document.querySelector('#row img')?.naturalWidth === 32", timeout=30_000)
    for _ in range(3, 23):
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Bin 11, azimuth 330 degrees, key b").click()
    until(lambda: page.text_content("#progress") == "24 of 24 codes")
    until(lambda: len(read_bins(folder / "bins.toml")) == 24)
    after = ViewCodeSet.load(folder)
    np.testing.assert_array_equal(after.w, before.w[[0, 2, 1, *range(3, 24)]])
    assert [code.how for code in after.codes].count("hand") == 2
    assert [code.how for code in after.codes].count("proposed and confirmed") == 22

    page.keyboard.press("x")  # drops code 23 and, of the sedans, code 11: bin 11 is empty then
    page.wait_for_selector("#missing:not([hidden])")
    assert "sedan: bin 11" in page.text_content("#missing")
    assert len(ViewCodeSet.load(folder)) == 24  # not written
    server.kill()

    server = Server(*arguments)
    page.goto(server.url)
    page.wait_for_selector("#missing:not([hidden])")
    assert "van: bin 11" in page.text_content("#missing")
    page.get_by_label("Code 23, dropped").click()
    page.keyboard.press("b")
    page.wait_for_selector("#missing", state="hidden")
    page.get_by_label("Code 5, bin 5, agreed").click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("z")  # back to code 5, its answer taken back
    until(lambda: 5 not in read_bins(folder / "bins.toml"))
    assert ViewCodeSet.load(folder).codes[5].how == "proposed"
    assert errors == []
    context.close()
    assert "the page is closed" in server.stop()
    assert sorted(path.name for path in folder.glob("*.png")) == ["sheet-sedan.png", "sheet-van.png"]
