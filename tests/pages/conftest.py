"""Labels of a small generator, a server of them, and a headless Chromium for the tests marked `browser`.

Without a Chromium those are skipped.
"""

import shutil

import numpy as np
import pytest

from ganfoundry.labels.labelset import LabelSet
from tests.pages.browserhelp import Person
from tests.pages.pagehelp import Server, find_chromium, shaded_labels
from tests.stages.labelhelp import shades_gan


@pytest.fixture(scope="session")
def chromium():
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install -e '.[dev]')")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium or Chrome on the PATH; install one, for example apt-get install chromium")
    with api.sync_playwright() as driver:
        # WebGL without a graphics card, for the pages that draw meshes.
        graphics = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", *graphics])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def shaded(tmp_path_factory):
    """A folder with a generator (gan) and labels of it (labels)."""
    folder = tmp_path_factory.mktemp("shaded")
    gan = shades_gan(folder / "gan")
    shaded_labels(folder / "labels", gan)
    return folder


@pytest.fixture(scope="module")
def served(shaded, tmp_path_factory):
    """One server of annotate-parts for all tests of a module that do not kill it, and its folder."""
    folder = tmp_path_factory.mktemp("served") / "labels"
    shutil.copytree(shaded / "labels", folder)
    server = Server("annotate-parts", "--open", folder, "--gan", shaded / "gan")
    yield server, folder
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
