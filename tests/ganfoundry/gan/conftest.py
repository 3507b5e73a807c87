"""Images for the tests of the trainer."""

from pathlib import Path

import pytest

from tests.ganfoundry.gan.trainhelp import tiny_images


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tiny_images(tmp_path / "images.npy")
