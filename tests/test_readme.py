"""What the README says can be done is done here: its example runs, its commands exist, its figures are printed."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text("utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_python_example_runs_and_draws(tmp_path: Path):
    *others, example = _blocks("python")
    for other in others:  # run by tests/test_exports_doc.py
        assert other in (ROOT / "docs" / "exports.md").read_text("utf-8")
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    (tmp_path / "annotations").symlink_to(ROOT / "annotations")
    script = tmp_path / "example.py"
    script.write_text(example, encoding="utf-8")
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    picture = np.asarray(Image.open(tmp_path / "overlay.png"))
    assert picture.shape == (130, 262, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000


def _commands() -> list[str]:
    return sorted(set(re.findall(r"python cli\.py ([a-z0-9-]+)", README)))


@pytest.mark.parametrize("command", _commands())
def test_commands_exist(command: str):
    from cli import STAGES

    assert command in STAGES


@pytest.mark.parametrize("name", sorted(set(re.findall(r"python -m benchmarks\.(\w+)", README))))
def test_benchmarks_exist(name: str):
    assert importlib.util.find_spec(f"benchmarks.{name}") is not None


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE))))
def test_make_targets_exist(target: str):
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", README))))
def test_links_lead_somewhere(link: str):
    assert (ROOT / link).exists()
