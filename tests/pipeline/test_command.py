import re
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipeline.config import param
from pipeline.stage import stage_command
from tests.pipeline.conftest import Shell
from tests.pipeline.toys import GrindConfig, grind, grind_command, paint_command


@dataclass(frozen=True, kw_only=True)
class Clash:
    workers: int = param(1, "Clashes with the common option.")


def clash(config: Clash) -> None:
    """Never run."""


def page(command: click.Command) -> str:
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    return result.output


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_help_page_reads_like_a_manual() -> None:
    text = page(paint_command)
    headings = re.findall(r"^(\w.*):$", text, re.MULTILINE)
    assert [heading.split(" (")[0] for heading in headings] == [
        "Inputs",
        "Settings",
        "Options of every command",
        "Output",
        "Elsewhere",
    ]
    words = flat(text)
    assert "--pigment PATH Folder of a pigment, made by grind-pigment. [pigment]" in words
    assert "--frame PATH Folder of a frame. [frame; optional]" in words
    assert "--strength NUMBER Share of pigment. [default: 0.7; 0.0 to 1.0]" in words
    assert "--layers INTEGER,... Layers painted. [default: 4,8; 1 or more]" in words
    assert "--wet / --no-wet" in words
    assert "OUTPUTS/RUN/paint (picture). A picture: picture.txt." in words
    assert "the table [paint] of --config FILE.toml (strength = ...)" in words
    assert "GANFOUNDRY_PAINT_STRENGTH" in words
    assert "--hue red|blue" in flat(page(grind_command))
    assert "python cli.py grind-pigment --parts 5" in page(grind_command)
    assert max(map(len, text.splitlines())) <= 100


def test_every_command_has_the_same_common_options() -> None:
    for option in (
        "--run",
        "--outputs",
        "--config",
        "-n, --dry-run",
        "--workers",
        "--scheduler",
        "--verify",
        "--force",
    ):
        assert option in page(grind_command)
        assert option in page(paint_command)


def test_a_dry_run_prints_the_plan_and_writes_nothing(tmp_path: Path, shell: Shell, chain_file: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    answer = shell("grind-pigment", "--config", chain_file, "-n", "--parts", 4)
    assert answer.code == 0
    assert answer.out.splitlines()[:2] == ["grind-pigment -> outputs/demo/grind-pigment", "  would run: not made yet"]
    rows = [line.split() for line in answer.out.splitlines()]
    assert ["parts", "4", "option", "--parts"] in rows
    assert ["hue", "red", "default"] in rows
    assert shell("run", "--config", chain_file, "--dry-run").code == 0
    assert shell("paint", "--config", chain_file, "-n").code == 2  # its input is not there
    assert sorted(tmp_path.rglob("*")) == before


def test_the_plan_of_a_chain_shows_what_is_to_be_made(shell: Shell, chain_file: Path) -> None:
    answer = shell("run", "--config", chain_file, "-n")
    assert re.search(r"pigment +outputs/demo/grind-pigment +[0-9a-f]{12} +to be made by grind-pigment", answer.out)
    assert re.search(r"frame +- +- +absent \(optional\)", answer.out)
    assert re.search(r"strength +0.5 +.*toys.toml \[paint\]", answer.out)
    assert shell("run", "--config", chain_file, "--quiet").out == ""
    assert re.search(
        r"pigment +\S+ +[0-9a-f]{12} +made by grind-pigment", shell("run", "--config", chain_file, "-n").out
    )
    assert shell("run", "--config", chain_file, "-n").out.count("nothing to do: done") == 3


def test_flags_settings_and_their_sources(shell: Shell, monkeypatch: pytest.MonkeyPatch, chain_file: Path) -> None:
    assert shell("grind-pigment", "--run", "demo").code == 0
    monkeypatch.setenv("GANFOUNDRY_PAINT_WET", "no")
    monkeypatch.setenv("GANFOUNDRY_RUN_WORKERS", "1")
    rows = [line.split() for line in shell("paint", "--config", chain_file, "-n").out.splitlines()]
    assert ["wet", "false", "environment", "GANFOUNDRY_PAINT_WET"] in rows
    rows = [line.split() for line in shell("paint", "--config", chain_file, "-n", "--wet").out.splitlines()]
    assert ["wet", "true", "option", "--wet"] in rows


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["grind-pigment", "--parts", "0"], "parts = 0 (option --parts) is out of range: allowed is 1 to 99."),
        (["grind-pigment", "--run", "a/b"], 'run name "a/b" (option --run) must be a plain folder name.'),
        (["grind-pigment", "--workers", "no"], 'workers = "no" (option --workers): expected a whole number.'),
        (["grind-pigment", "--config", "no.toml"], "no.toml: no such configuration file; configs/ has some to start"),
        (["grind-pigmet"], 'there is no command "grind-pigmet": did you mean grind-pigment?'),
        (["grind-pigment", "--partz", "1"], "No such option"),
        (["grind-pigment", "stone"], "Got unexpected extra argument"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_code_2(shell: Shell, arguments: list[str], sentence: str) -> None:
    answer = shell(*arguments)
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err


def test_misspelt_keys_and_tables_of_a_file(tmp_path: Path, shell: Shell) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[grind-pigment]\npart = 3\n", "utf-8")
    answer = shell("grind-pigment", "--config", "c.toml")
    assert answer.err == 'Error: unknown key "part" in c.toml [grind-pigment]: did you mean parts?\n'
    path.write_text("[grind-pigmnt]\nparts = 3\n", "utf-8")
    answer = shell("grind-pigment", "--config", "c.toml")
    assert answer.err == "Error: unknown table [grind-pigmnt] in c.toml: did you mean grind-pigment?\n"
    path.write_text('[run]\nworker = 3\nstages = ["hang"]\n', "utf-8")
    assert 'unknown key "worker" in c.toml [run]: did you mean workers?' in shell("run", "--config", "c.toml").err


def test_quiet_says_nothing(shell: Shell) -> None:
    answer = shell("grind-pigment", "--quiet")
    assert (answer.code, answer.out, answer.err) == (0, "", "")


def test_a_name_taken_by_the_machinery_is_a_programming_error() -> None:
    with pytest.raises(TypeError, match="mine: the name workers is taken"):
        stage_command("mine", Clash, clash)
    assert stage_command("fine", GrindConfig, grind).stage.output.kind == "pigment"
