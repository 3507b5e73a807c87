"""A command that a launcher starts several times: the first process runs the stage, the others work along."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.artifacts import Writer
from pipeline.stage import Context, stage_command
from tests.pipeline.toys import GrindConfig, Pigment, grind, grind_command


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run_as(rank: str | None, monkeypatch: pytest.MonkeyPatch, followed: list[GrindConfig]) -> None:
    """Call the command as one process of a launcher; None: without a launcher."""
    if rank is None:
        monkeypatch.delenv("RANK", raising=False)
    else:
        monkeypatch.setenv("RANK", rank)
    command = stage_command("grind-pigment", GrindConfig, grind, follow=followed.append)
    result = CliRunner().invoke(command, ["--parts", "1", "--quiet"], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_the_first_runs_and_the_others_follow_without_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[GrindConfig] = []
    run_as("1", monkeypatch, followed)
    assert [config.parts for config in followed] == [1]
    assert not list(tmp_path.iterdir())
    run_as("0", monkeypatch, followed)
    assert (tmp_path / "outputs" / "default" / "grind-pigment" / "run.json").exists()
    run_as("1", monkeypatch, followed)  # done already: there is nobody to follow
    run_as(None, monkeypatch, followed)
    assert len(followed) == 1


def test_a_stage_without_followers_runs_in_any_process(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def note(config: GrindConfig, out: Writer[Pigment], ctx: Context) -> None:
        made.append(out.path)
        grind(config, out, ctx)

    monkeypatch.setenv("RANK", "1")
    command = stage_command(grind_command.stage.name, GrindConfig, note)
    assert CliRunner().invoke(command, ["--parts", "1", "--quiet"], catch_exceptions=False).exit_code == 0
    assert len(made) == 1
