import base64
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

from ganfoundry.errors import RunError
from ganfoundry.labels.labelset import LabelSet
from pages import label_store
from pages.assistant import Assistant, Networks, Training
from pages.label_store import LabelStore
from pages.parts_api import largest_body, parts_api
from pages.server import create_app
from tests.pages.pagehelp import SIDE, body, plain_labels


class Parrot:
    """An annotator that sees part 5 everywhere."""

    def annotate(self, images):
        class Found:
            parts = np.full((1, SIDE, SIDE), 5, np.uint8)
            keypoints = np.full((1, 3, 3), 2, np.float32)

        return Found


@pytest.fixture
def store(tmp_path):
    plain_labels(tmp_path)
    return LabelStore(tmp_path)


@pytest.fixture
def client(store):
    assistant = Assistant(store, lambda: Networks(None, Parrot()), ("annotator",))
    return create_app("parts.html", parts_api(store, assistant, "run/labels"), largest_body(store)).test_client()


def painted(value=3):
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:5, 3:9] = value
    return mask


def test_the_project_tells_all_that_the_page_needs(client):
    project = client.get("/api/project").json
    assert project["resolution"] == SIDE
    assert project["title"] == "run/labels"
    assert [part["name"] for part in project["parts"]][:4] == ["background", "dim", "mid", "bright"]
    assert all(len(part["colour"]) == 3 for part in project["parts"])
    assert project["keypoints"] == ["nose", "left_ear", "right_ear"]
    assert project["samples"][0] == {"name": "sample-0", "revision": 1, "done": False, "corrected": False}
    assert project["sources"] == ["annotator"]
    assert project["training"]["state"] == "none"


def test_saving_and_reading_back(client, store):
    answer = client.put("/api/samples/sample-1", json=body(painted(), 1, keypoints=[[1, 2, 2], [0, 0, 0], [3, 4, 1]]))
    assert answer.json == {"name": "sample-1", "revision": 2, "done": False, "corrected": True}
    again = client.get("/api/samples/sample-1").json
    assert base64.b64decode(again["mask"]) == painted().tobytes()
    assert again["keypoints"] == [[1, 2, 2], [0, 0, 0], [3, 4, 1]]
    np.testing.assert_array_equal(LabelSet.load(store.folder).masks[1], painted())


def test_a_conflict_tells_the_newer_labels(client):
    client.put("/api/samples/sample-1", json=body(painted(3), 1))
    answer = client.put("/api/samples/sample-1", json=body(painted(5), 1))
    assert answer.status_code == 409
    assert answer.json["newest"]["revision"] == 2
    assert base64.b64decode(answer.json["newest"]["mask"]) == painted(3).tobytes()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "{}",
        json.dumps({**body(painted(), 1), "mask": "@@"}),
        json.dumps({**body(painted(), 1), "mask": "AAAA"}),
        json.dumps({**body(painted(), 1), "mask": 7}),
        json.dumps({**body(painted(), 1), "revision": "1"}),
        json.dumps({**body(painted(), 1), "revision": True}),
        json.dumps({**body(painted(), 1), "done": 1}),
        json.dumps({**body(painted(), 1), "keypoints": [[1, 2], [3]]}),
        json.dumps({**body(painted(), 1), "keypoints": {"nose": 1}}),
        json.dumps({**body(painted(), 1), "keypoints": [[1e999, 0, 2], [0, 0, 0], [0, 0, 0]]}),
        json.dumps({**body(painted(), 1), "keypoints": [[0, 0, 0]]}),
        json.dumps(body(painted(200), 1)),
        "[" * 3000,
    ],
)
def test_malformed_requests_are_one_sentence_and_change_nothing(client, store, text):
    answer = client.put("/api/samples/sample-0", data=text, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"]
    assert store.get("sample-0").revision == 1


def test_form_posts_of_other_sites_are_no_json(client):
    answer = client.post("/api/training", data="{}", content_type="text/plain")
    assert answer.status_code == 400


def test_oversized_bodies_are_refused_before_they_are_read(client):
    answer = client.put("/api/samples/sample-0", data=b"x" * 200_000, content_type="application/json")
    assert answer.status_code in (400, 413)
    assert client.application.config["MAX_CONTENT_LENGTH"] < 30_000


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/label_store.py",
        "/static//etc/passwd",
        "/api/images/..%2f..%2flabels.json.png",
        "/api/thumbnails/../labels.png",
        "/api/samples/..%2f..%2fx",
        "/labels.json",
    ],
)
def test_nothing_outside_is_served(client, path):
    answer = client.get(path)
    assert answer.status_code in (308, 400, 404)
    assert b"import" not in answer.data


def test_pictures(client, store):
    with Image.open(io.BytesIO(client.get("/api/images/sample-0.png").data)) as picture:
        np.testing.assert_array_equal(np.array(picture), store.image("sample-0"))
    plain = client.get("/api/thumbnails/sample-0.png").data
    client.put("/api/samples/sample-0", json=body(painted(), 1))
    assert client.get("/api/thumbnails/sample-0.png").data != plain
    assert client.get("/api/images/other.png").status_code == 400


def test_proposals(client):
    found = client.get("/api/proposals/annotator/sample-2").json
    assert base64.b64decode(found["mask"]) == b"\5" * SIDE**2
    assert found["keypoints"] == [[2, 2, 2]] * 3
    assert client.get("/api/proposals/interpreter/sample-2").status_code == 400
    assert client.get("/api/proposals/annotator/other").status_code == 400


def test_a_full_disk_is_told(client, monkeypatch):
    def full(path, data):
        raise RunError("cannot write it: No space left on device; free some space")

    monkeypatch.setattr(label_store, "write_whole", full)
    answer = client.put("/api/samples/sample-0", json=body(painted(), 1))
    assert answer.status_code == 507
    assert "free some space" in answer.json["error"]


def test_a_training_that_fails_says_why_and_the_server_lives(client):
    started = client.post("/api/training", json={}).json
    assert (started["state"], started["samples"]) == ("running", 3)
    end = time.monotonic() + 30
    while (now := client.get("/api/training").json)["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.02)
    assert now["state"] == "failed"  # this generator is None
    assert now["message"]
    assert Training(**{key: value for key, value in now.items() if key != "sources"}).state == "failed"


def test_the_page_loads_its_own_files_only(client):
    with client.get("/") as answer:
        page = answer.text
    assert 'src="static/parts.js"' in page
    assert "http" not in page.replace("http-equiv", "")
    assert "onclick" not in page
    assert "style=" not in page
    with client.get("/static/parts.js") as answer:
        assert answer.mimetype in ("text/javascript", "application/javascript")
