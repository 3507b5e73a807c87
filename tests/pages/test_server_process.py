import shutil
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest
from flask import Flask

from ganfoundry.errors import RunError
from ganfoundry.labels.labelset import LabelSet
from pages.server import serve
from tests.pages.pagehelp import ROOT, SIDE, Server, body, free_port


@pytest.fixture
def folder(shaded, tmp_path):
    shutil.copytree(shaded / "labels", tmp_path / "labels")
    return tmp_path / "labels"


def numbered(number):
    """A mask that says which save it came from."""
    mask = np.full((SIDE, SIDE), 1 + number % 11, np.uint8)
    mask.flat[:32] = [number >> bit & 1 for bit in range(32)]
    return mask


def test_killed_while_it_saves_it_loses_nothing_that_it_acknowledged(shaded, folder):
    """kill -9 in the middle of many saves, then a new server on the same port: the last acknowledged save is there."""
    port, acknowledged, sent = free_port(), 0, 0
    for round_number in range(2):
        server = Server("annotate-parts", "--open", folder, "--gan", shaded / "gan", port=port)
        assert server.url.startswith(f"http://127.0.0.1:{port}/")
        sample = server.ask("GET", "api/samples/sample-2")
        assert sample["revision"] in (acknowledged + 1, sent + 1)
        kill = threading.Timer(0.4 + 0.25 * round_number, server.process.kill)
        kill.start()
        acknowledged = sent = sample["revision"] - 1
        try:
            while True:
                sent = acknowledged + 1
                answer = server.ask("PUT", "api/samples/sample-2", body(numbered(sent), sent))
                assert answer["status"] == 200
                acknowledged = sent
        except OSError:
            pass
        server.kill()
        assert acknowledged > 0
    last = Server("annotate-parts", "--open", folder, "--gan", shaded / "gan", port=port)
    revision = last.ask("GET", "api/samples/sample-2")["revision"]
    last.stop()
    assert revision in (acknowledged + 1, sent + 1)
    labels = LabelSet.load(folder)
    np.testing.assert_array_equal(labels.masks[2], numbered(revision - 1))
    assert labels.provenance["corrected"] == ["sample-2"]


def test_one_server_a_folder_and_one_newest_revision(shaded, folder):
    server = Server("annotate-parts", "--open", folder, "--gan", shaded / "gan")
    with pytest.raises(AssertionError, match=rf"in use by another run \(process {server.process.pid}\)"):
        Server("annotate-parts", "--open", folder, "--gan", shaded / "gan")
    answers = []

    def save(value):
        answers.append(server.ask("PUT", "api/samples/sample-0", body(np.full((SIDE, SIDE), value, np.uint8), 1)))

    threads = [threading.Thread(target=save, args=(value,)) for value in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "the page is closed" in server.stop()
    assert server.process.returncode == 0
    assert sorted(answer["status"] for answer in answers) == [200] + [409] * 7
    assert len(np.unique(LabelSet.load(folder).masks[0])) == 1


def test_a_port_that_is_taken_is_named():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(RunError, match=r"cannot listen.*try another --port"):
            serve(Flask(__name__), print, other.getsockname()[1])


def test_stages_load_no_web_server_before_a_page_is_asked_for():
    code = "import sys, stages.annotate_parts, stages.annotate_views; sys.exit('flask' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
