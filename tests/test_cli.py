"""The command line as a user meets it: fast, complete, and everything it lists exists."""

import resource
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from cli import STAGES, cli
from pipeline.artifacts import artifact_kinds
from pipeline.command import StageCommand
from pipeline.config import own_variables, parameters, variable_prefix

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.toml"))
HEAVY = ("torch", "numpy", "h5py", "numba", "dask", "rich", "PIL", "sklearn", "scipy", "torchvision")


def python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def stages() -> dict[str, StageCommand]:
    context = click.Context(cli)
    commands = {name: cli.get_command(context, name) for name in STAGES}
    return {name: command for name, command in commands.items() if isinstance(command, StageCommand)}


def test_the_registry_is_the_folder_of_stages() -> None:
    files = {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}
    assert {module.removeprefix("stages.") for module, _ in STAGES.values()} == files
    for name, (module, line) in STAGES.items():
        assert module == f"stages.{name.replace('-', '_')}"
        assert line.endswith(".")
        assert len(line) <= 58, "fits on one line of 80 columns"


def test_help_is_fast_and_lists_every_command_in_one_line() -> None:
    seconds = []  # of processor time, which a busy machine does not lengthen
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = python("cli.py", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert result.returncode == 0
    assert min(seconds) < 0.5
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for name, (_, text) in STAGES.items():
        assert f"{name} {text}" in lines


def test_nothing_heavy_is_imported_for_help() -> None:
    code = (
        "import sys; from cli import cli, STAGES; import click\n"
        "for name in STAGES: cli.get_command(click.Context(cli), name).get_help(click.Context(cli))\n"
        "print(' '.join(sys.modules))"
    )
    result = python("-W", "error", "-c", code)
    assert result.returncode == 0, result.stderr
    assert sorted(set(result.stdout.split()) & set(HEAVY)) == []


def test_pipeline_imports_no_tensors() -> None:
    code = (
        "import sys, pkgutil, importlib, pipeline\n"
        "for module in pkgutil.iter_modules(pipeline.__path__): importlib.import_module('pipeline.' + module.name)\n"
        "print(' '.join(sys.modules))"
    )
    result = python("-c", code)
    assert result.returncode == 0, result.stderr
    assert not {"torch", "torchvision", "h5py", "ganfoundry"} & set(result.stdout.split())


@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("inspect", "run", "status")])
def test_every_stage_explains_itself(name: str) -> None:
    command = stages()[name]
    result = CliRunner().invoke(command, ["--help"])
    assert result.exit_code == 0
    words = " ".join(result.output.split())
    assert f"python cli.py {name}" in words, "an example"
    assert command.stage.name == name
    assert command.stage.title.endswith(".")
    for key in parameters(command.stage.config_type):
        assert key.help.endswith("."), f"{key.name}: a sentence"
        assert key.option in words
    assert command.stage.output in artifact_kinds().values()
    for item in command.stage.inputs:
        assert set(item.artifact.made_by) <= set(STAGES)
    assert name in command.stage.output.made_by


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_configuration_is_valid(path: Path) -> None:
    tables = tomllib.loads(path.read_text("utf-8"))
    chain = tables["run"]["stages"]
    assert set(chain) <= set(STAGES)
    for name in tables:
        if name == "run":
            continue
        stage = stages()[name].stage
        known = {key.name for key in stage.parameters} | {item.name for item in stage.inputs}
        assert set(tables[name]) <= known


def test_every_variable_belongs_to_one_setting() -> None:
    """Also where a stage's name goes on from another's (export, export-labels): the longer name owns the variable."""
    for name, command in stages().items():
        for key in (*command.stage.parameters, *command.stage.inputs):
            variable = f"{command.stage.prefix}{key.name.upper()}"
            alike = [stage for stage in STAGES if variable.startswith(variable_prefix(stage))]
            assert [stage for stage in alike if own_variables({variable: ""}, stage, STAGES)] == [name]


def test_exit_codes_of_the_real_command() -> None:
    assert python("cli.py").returncode in (0, 2)
    result = python("cli.py", "generate-vews")
    assert result.returncode == 2
    assert result.stderr.startswith('Error: there is no command "generate-vews": did you mean generate-views?')
    assert python("cli.py", "run", "--config", "configs/absent.toml").returncode == 2
