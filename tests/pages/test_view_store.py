import json
import shutil

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.views import ViewCodeSet
from pages.server import create_app
from pages.view_store import DROP, ViewStore
from pages.views_api import views_api
from stages.annotate_views import read_bins
from tests.stages.viewhelp import tiny_gan, view_codes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Codes of two body types, one a bin."""
    folder = tmp_path_factory.mktemp("views")
    gan = tiny_gan(folder / "gan")
    view_codes(folder / "one", gan, ("sedan", "van"))
    return folder, gan


@pytest.fixture
def folder(made, tmp_path):
    """The same, none of them looked at."""
    shutil.copytree(made[0] / "one", tmp_path / "codes")
    path = tmp_path / "codes" / "codes.json"
    table = json.loads(path.read_text())
    for code in table["codes"]:
        code["how"] = "proposed"
    path.write_text(json.dumps(table))
    return tmp_path / "codes"


def test_opening_changes_nothing(folder):
    before = (folder / "codes.json").read_bytes()
    store = ViewStore(folder)
    assert (folder / "codes.json").read_bytes() == before
    assert store.answers == {}
    assert store.missing() == []


def test_agreeing_confirms_and_nothing_else(folder):
    before = ViewCodeSet.load(folder)
    ViewStore(folder).answer(3, 3)
    after = ViewCodeSet.load(folder)
    assert [code.how for code in after.codes].count("proposed and confirmed") == 1
    assert after.codes[3].how == "proposed and confirmed"
    np.testing.assert_array_equal(after.w, before.w)
    assert [code.bin for code in after.codes] == [code.bin for code in before.codes]


def test_two_codes_that_change_places_take_their_latents_along(folder):
    before = ViewCodeSet.load(folder)
    store = ViewStore(folder)
    store.answer(2, 5)
    assert store.missing() == ["sedan: bin 2 (45 to 75 degrees)"]
    np.testing.assert_array_equal(ViewCodeSet.load(folder).w, before.w)  # not written while a bin is empty
    store.answer(5, 2)
    assert store.missing() == []
    after = ViewCodeSet.load(folder)
    order = [0, 1, 5, 3, 4, 2, *range(6, 24)]
    np.testing.assert_array_equal(after.w, before.w[order])
    assert [code.how for code in after.codes].count("hand") == 2
    assert [code.bin for code in after.codes] == [*range(12)] * 2
    assert read_bins(folder / "bins.toml") == {2: 5, 5: 2}


def test_dropping_takes_the_counterparts_along_and_can_be_taken_back(folder):
    store = ViewStore(folder)
    before = ViewCodeSet.load(folder)
    store.answer(1, 2)
    store.answer(13, 2)
    store.answer(2, 1)
    store.answer(14, 1)  # bins 1 and 2 have changed places in both
    store.answer(3, DROP)
    assert store.missing() == ["sedan: bin 3 (75 to 105 degrees)", "van: bin 3 (75 to 105 degrees)"]
    store.answer(4, 3)
    store.answer(16, 3)
    store.answer(5, 4)
    store.answer(17, 4)
    assert store.missing()[0] == "sedan: bin 5 (135 to 165 degrees)"
    store.answer(3, None)
    for code in (4, 16, 5, 17):
        store.answer(code, None)
    again = ViewStore(folder)  # a new server: answers and what was proposed are still known
    assert again.answers == {1: 2, 13: 2, 2: 1, 14: 1}
    for code in (1, 2, 13, 14):
        again.answer(code, None)
    after = ViewCodeSet.load(folder)
    np.testing.assert_array_equal(after.w, before.w)
    assert {code.how for code in after.codes} == {"proposed"}


def test_a_dropped_code_is_gone_from_both_body_types(folder):
    path = folder / "codes.json"
    table = json.loads(path.read_text())
    for code in table["codes"]:  # twelve codes in six bins of 60 degrees: one of each pair can go
        code["bin"] //= 2
    table["bins"] = {"first": 0.0, "width": 60.0, "count": 6}
    path.write_text(json.dumps(table))
    before = ViewCodeSet.load(folder)
    ViewStore(folder).answer(16, DROP)
    after = ViewCodeSet.load(folder)
    kept = [row for row in range(24) if row not in (4, 16)]
    np.testing.assert_array_equal(after.w, before.w[kept])
    assert after.views == 11
    assert after.missing_bins == ()
    assert read_bins(folder / "bins.toml") == {16: -1}


def test_codes_made_again_are_asked_anew(folder, made):
    store = ViewStore(folder)
    store.answer(0, 0)
    codes = ViewCodeSet.load(folder)
    ViewCodeSet(codes.codes, codes.w + 1, codes.layers, codes.generator_sha256, 1.0).save(folder)
    assert ViewStore(folder).answers == {}
    with pytest.raises(InputError, match="belong to the generator"):
        ViewStore(folder, "f" * 64)
    ViewStore(folder, load_gan(made[1].path).sha256)


@pytest.mark.parametrize("ids", [[0, 0], [0, 99], [-1, 1]])
def test_ids_without_latents_or_twice_are_refused(folder, ids):
    path = folder / "codes.json"
    table = json.loads(path.read_text())
    for code, number in zip(table["codes"], ids, strict=False):
        code["id"] = number
    path.write_text(json.dumps(table))
    with pytest.raises(InputError, match="restore it"):
        ViewCodeSet.load(folder)


def test_the_server_answers(folder):
    store = ViewStore(folder)
    images = np.zeros((3, 8, 8, 3), np.uint8)
    client = create_app("views.html", views_api(store, lambda code: images + code, "run/codes"), 65536).test_client()
    project = client.get("/api/project").json
    assert len(project["codes"]) == 24
    assert [entry["azimuth"] for entry in project["bins"]] == [30 * k for k in range(12)]
    assert client.get("/api/rows/23/7.png").mimetype == "image/png"
    assert client.get("/api/rows/24/0.png").status_code == 400
    assert client.put("/api/codes/3", json={"bin": 3}).json["codes"][3]["answer"] == 3
    assert client.put("/api/codes/3", json={"bin": None}).json["codes"][3]["answer"] is None
    for wrong in (12, -2, "1", True, 1.5):
        assert client.put("/api/codes/3", json={"bin": wrong}).status_code == 400
    assert client.put("/api/codes/24", json={"bin": 1}).status_code == 400
    with client.get("/") as page:
        assert 'src="static/views.js"' in page.text
