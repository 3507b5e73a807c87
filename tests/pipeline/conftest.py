"""The toy chain, run in this process or in another."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.registry import run_command_line
from tests.pipeline.toys import toys

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Answer:
    """What a command line said."""

    code: int
    out: str
    err: str


Shell = Callable[..., Answer]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Shell:
    """Run the toy command line in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        code = run_command_line(toys(), [str(argument) for argument in arguments], "python cli.py")
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return call


@pytest.fixture
def chain_file(tmp_path: Path) -> Path:
    """Configuration of the toy chain, in the folder the shell works in."""
    path = tmp_path / "toys.toml"
    path.write_text(
        '[run]\nname = "demo"\nstages = ["grind-pigment", "paint", "hang"]\n\n[paint]\nstrength = 0.5\n', "utf-8"
    )
    return path


@pytest.fixture
def spawn(tmp_path: Path) -> Callable[..., "subprocess.Popen[str]"]:
    """Start the toy command line as another process, working in the same empty folder."""

    def start(*arguments: object, prelude: str = "", **environment: str) -> "subprocess.Popen[str]":
        code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {prelude}\n"
        code += "from tests.pipeline.toys import toys\nfrom pipeline.registry import run_command_line\n"
        code += "sys.exit(run_command_line(toys(), sys.argv[1:], 'python cli.py'))"
        return subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start
