import pytest
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from pages.guard import HEADERS, Guard

TOKEN = "a-token"
HOME = {"HTTP_HOST": "127.0.0.1:8765"}


@Request.application
def inner(request):
    return Response(request.script_root + "|" + request.path, headers={"X-Own": "1", "Cache-Control": "public"})


@pytest.fixture
def client():
    return Client(Guard(inner, TOKEN, 8765))


def test_the_owner_is_let_through_and_the_token_stays_out_of_the_path(client):
    answer = client.get(f"/{TOKEN}/api/x", environ_overrides=HOME)
    assert answer.status_code == 200
    assert answer.text == f"/{TOKEN}|/api/x"
    assert client.get(f"/{TOKEN}/", environ_overrides={"HTTP_HOST": "localhost:8765"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/api/x", "/b-token/", f"/{TOKEN}", f"/{TOKEN}x/", "//", f"//{TOKEN}/", "/ä/"])
def test_without_the_token_nothing_is_told(client, path):
    answer = client.get(path, environ_overrides=HOME)
    assert answer.status_code == 403
    assert "|" not in answer.text
    assert TOKEN not in answer.text


@pytest.mark.parametrize(
    "host",
    ["evil.example:8765", "127.0.0.1", "127.0.0.1:80", "127.0.0.1.evil.example:8765", "", "[::1]:8765", "0.0.0.0:8765"],
)
def test_a_name_rebound_to_this_machine_is_refused(client, host):
    assert client.get(f"/{TOKEN}/", environ_overrides={"HTTP_HOST": host}).status_code == 403


@pytest.mark.parametrize(
    ("method", "header", "allowed"),
    [
        ("GET", {"HTTP_ORIGIN": "http://127.0.0.1:8765"}, True),
        ("PUT", {"HTTP_ORIGIN": "http://localhost:8765"}, True),
        ("PUT", {"HTTP_ORIGIN": "http://evil.example"}, False),
        ("PUT", {"HTTP_ORIGIN": "http://127.0.0.1:9999"}, False),
        ("PUT", {"HTTP_ORIGIN": "https://127.0.0.1:8765"}, False),
        ("POST", {"HTTP_ORIGIN": "null"}, False),
        ("GET", {"HTTP_SEC_FETCH_SITE": "same-origin"}, True),
        ("GET", {"HTTP_SEC_FETCH_SITE": "none"}, True),
        ("GET", {"HTTP_SEC_FETCH_SITE": "cross-site"}, False),
        ("GET", {"HTTP_SEC_FETCH_SITE": "same-site"}, False),
        ("PUT", {}, True),
    ],
)
def test_other_sites_are_refused_even_with_the_token(client, method, header, allowed):
    answer = client.open(f"/{TOKEN}/", method=method, environ_overrides={**HOME, **header})
    assert (answer.status_code == 200) == allowed


@pytest.mark.parametrize("path", [f"/{TOKEN}/", "/other/"])
def test_every_answer_carries_the_headers_and_none_lets_other_sites_read(client, path):
    answer = client.get(path, environ_overrides=HOME)
    for name, value in HEADERS.items():
        assert answer.headers.getlist(name) == [value]
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]
    assert "unsafe" not in HEADERS["Content-Security-Policy"]
