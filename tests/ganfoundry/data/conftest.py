import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from make_shards import make_folder


@pytest.fixture
def folder(tmp_path):
    make_folder(tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory):
    """Finished folder that no test changes."""
    path = tmp_path_factory.mktemp("shared") / "shards"
    make_folder(path)
    return path
