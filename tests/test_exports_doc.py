"""The examples in docs/exports.md run on an export, and the commands in it exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli import STAGES
from pipeline.artifacts import Export, Writer
from pipeline.stage import Context
from stages.export import FORMATS, Config, run
from tests.stages.exporthelp import make_set

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "exports.md").read_text("utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which outputs/demo/export has two tar files."""
    root = tmp_path_factory.mktemp("doc")
    labelled = make_set(root / "outputs" / "demo" / "synthesize")
    config = Config(formats=("hdf5", "webdataset"), rows_per_file=20)
    run(config, labelled, Writer[Export](root / "outputs" / "demo" / "export"), Context())
    return root


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(folder, number):
    if "webdataset" in EXAMPLES[number]:
        pytest.importorskip("webdataset")
    script = folder / f"example_{number}.py"
    script.write_text(EXAMPLES[number], encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run([sys.executable, script], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_training_example_is_short():
    lines = [line for line in EXAMPLES[0].splitlines() if line.strip()]
    assert len(lines) <= 10
    assert "LabelledDataset" in EXAMPLES[0]


def test_every_format_is_described():
    for name in FORMATS:
        assert f"`{name}`" in TEXT


@pytest.mark.parametrize("command", sorted(set(re.findall(r"python cli\.py ([a-z-]+)", TEXT))))
def test_commands_exist(command):
    assert command in STAGES
