"""Commands as people type them: files as arguments, and -o DIR."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pipeline.artifacts import Artifact, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command


class Heap(Artifact):
    """A heap: heap.txt."""

    kind = "heap"
    title = "a heap"
    made_by = ("pile",)


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of pile."""

    stones: tuple[Path, ...] = param(..., "Stones to pile up.", positional=True)
    high: bool = param(False, "Pile them high.")


def pile(config: Config, out: Writer[Heap], ctx: Context) -> None:
    """Write the stones into one file."""
    (out.path / "heap.txt").write_text("".join(path.read_text("utf-8") for path in config.stones), "utf-8")


command = stage_command("pile", Config, pile, takes_folder=True)


@pytest.fixture(autouse=True)
def stones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b, c"):  # a comma in a name separates nothing
        Path(name).write_text(name[0], "utf-8")


def typed(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_files_are_arguments_and_the_folder_is_where_it_is_said_to_be() -> None:
    result = typed("a", "b, c", "-o", "there/heap")
    assert result.exit_code == 0, result.exception
    assert Path("there/heap/heap.txt").read_text("utf-8") == "ab"
    assert not Path("outputs").exists()
    assert json.loads(Path("there/heap/run.json").read_text("utf-8"))["config"]["stones"] == ["a", "b, c"]
    assert "nothing to do" in typed("a", "b, c", "-o", "there/heap").output


def test_the_content_of_any_of_the_files_counts() -> None:
    typed("a", "b, c", "-o", "heap")
    Path("b, c").write_text("x", "utf-8")
    assert "stones changed" in typed("a", "b, c", "-o", "heap").output
    assert Path("heap/heap.txt").read_text("utf-8") == "ax"


def test_without_o_the_runs_folder_is_written_to() -> None:
    assert typed("a").exit_code == 0
    assert Path("outputs/default/pile/heap.txt").read_text("utf-8") == "a"


def test_arguments_can_stand_in_a_file_too() -> None:
    Path("c.toml").write_text('[pile]\nstones = ["a", "a"]\n', "utf-8")
    assert typed("--config", "c.toml", "-o", "heap").exit_code == 0
    assert Path("heap/heap.txt").read_text("utf-8") == "aa"


def test_what_others_wrote_is_not_touched() -> None:
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("dear", "utf-8")
    result = typed("a", "-o", "mine")
    assert isinstance(result.exception, UserError)
    assert "choose another folder with -o" in str(result.exception)
    assert [path.name for path in Path("mine").iterdir()] == ["letter.txt"]
    result = typed("a", "-o", "a")
    assert str(result.exception) == "a: file exists; choose another folder with -o."
    result = typed("a", "-o", "/proc/heap")  # even root cannot make it
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith("/proc/heap: ")


def test_missing_arguments_are_named_as_they_are_typed() -> None:
    result = typed("-o", "heap")
    assert str(result.exception) == "pile needs a value for stones: give STONES... or set stones in [pile]."
    page = " ".join(typed("--help").output.split())
    assert "STONES... Stones to pile up. [required]" in page
    assert "-o, --out DIR" in page
    assert "[STONES]..." in page
