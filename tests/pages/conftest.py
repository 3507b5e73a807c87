"""A headless Chromium for the tests marked `browser`; without one they are skipped."""

import pytest

from tests.pages.pagehelp import find_chromium


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
