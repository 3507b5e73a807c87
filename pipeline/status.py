"""What a run holds: every stage's state, why, size, age and key figures."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import click

from pipeline import manifest
from pipeline.chain import new_planner
from pipeline.command import Common, common_options, read_common
from pipeline.errors import UserError
from pipeline.graph import MissingInputError, Planner
from pipeline.plan import relative_to_here
from pipeline.printing import figures_text, new_table, print_table
from pipeline.registry import Registry, current_registry
from pipeline.stage import Stage

State = Literal["done", "stale", "unfinished", "missing", "broken"]
COLOURS = {"done": "green", "stale": "yellow", "unfinished": "yellow", "missing": "bright_black", "broken": "red"}


@dataclass(frozen=True)
class StageState:
    """State of one stage of a run.

    Attributes
    ----------
    state
        done; stale (made from other settings or inputs); unfinished; missing; broken (payload lost or unreadable).
    reason
        Why.
    bytes
        Size of the folder.
    age
        Seconds since it was finished, None when it was not.
    figures
        Key figures in one line.
    """

    stage: str
    state: State
    reason: str
    bytes: int
    age: float | None
    figures: str


def status_command(title: str, description: str, example: str) -> click.Command:
    """The command that prints the table."""
    return click.Command(
        "status",
        params=[option for option in common_options() if option.name in ("run", "outputs", "config", "verify")],
        callback=_status,
        short_help=title,
        help=f"{title}\n\n{description}",
        epilog="\b\nExample:\n  " + example,
    )


def _status(**options: Any) -> None:
    registry = current_registry()
    common = read_common(options, registry.stage_names)
    states = run_states(stages_of(registry, common), common)
    if not states:
        raise UserError(f"{common.folder} holds no run yet: `python cli.py run --config FILE` makes one.")
    print_states(states, common.folder)


def stages_of(registry: Registry, common: Common) -> list[Stage]:
    """Stages of the chain, then those that have a folder in the run besides."""
    names = list(common.run.stages)
    folders = {entry.name for entry in common.folder.iterdir()} if common.folder.is_dir() else set()
    names += [name for name in registry.stage_names if name in folders and name not in names]
    return [registry.stage(name) for name in names]


def run_states(stages: Sequence[Stage], common: Common) -> list[StageState]:
    """State of each stage, in order; a stage after a stale one is stale too."""
    planner = new_planner(common)
    planner.order = [stage.name for stage in stages]
    return [_state(stage, planner, common) for stage in stages]


def _state(stage: Stage, planner: Planner, common: Common) -> StageState:
    folder = common.folder / stage.name
    record = manifest.read_record(folder)
    state, reason = _judge(stage, planner, common)
    finished = folder / manifest.RECORD
    return StageState(
        stage=stage.name,
        state=state,
        reason=reason,
        bytes=folder_bytes(folder),
        age=time.time() - finished.stat().st_mtime if record else None,
        figures=figures_text((record or {}).get("figures", {})),
    )


def _judge(stage: Stage, planner: Planner, common: Common) -> tuple[State, str]:
    folder = common.folder / stage.name
    if (folder / manifest.RECORD).exists() and manifest.read_record(folder) is None:
        return "broken", f"{manifest.RECORD} is damaged"
    if folder.is_dir() and manifest.is_being_written(folder):
        return "unfinished", "a run is writing it"
    record = manifest.read_record(folder)
    try:
        made_with = record or manifest.read_progress(folder)
        if not common.tables and made_with and "config" in made_with:
            planner.tables = {stage.name: _settings_of(stage, made_with, folder)}
        plan = planner.plan(stage, verify=common.verify)
    except MissingInputError as error:
        return ("stale", f"input {error.input} is gone") if record else ("missing", str(error))
    except UserError as error:
        return "stale" if record else "missing", str(error)
    if plan.action == "skip":
        edited = manifest.edited_files(folder, record or {})
        return "done", f"edited by hand: {edited[0]}" if edited else ""
    reason = "; ".join(plan.reasons)
    if record is not None:
        return ("broken" if plan.action == "continue" else "stale"), reason
    return ("unfinished" if manifest.read_progress(folder) else "missing"), reason


def _settings_of(stage: Stage, record: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Settings and named inputs that a folder was made with.

    Without a configuration file a stage is judged by them: what makes it stale is its inputs and the code.
    """
    known = {key.name for key in stage.parameters}
    table = {name: "none" if value is None else value for name, value in record["config"].items() if name in known}
    for item in stage.inputs:
        entry = record.get("inputs", {}).get(item.name)
        if entry and not (path := (folder / entry["path"]).resolve()).is_relative_to(folder.parent.resolve()):
            table[item.name] = relative_to_here(path).as_posix()
    return table


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def print_states(states: Sequence[StageState], folder: Path) -> None:
    """Print the table."""
    from rich.text import Text

    table = new_table(("stage", "state", "size", "age", "figures", "why"), right=("size", "age"))
    for item in states:
        state = Text(item.state, style=COLOURS[item.state])
        table.add_row(item.stage, state, show_bytes(item.bytes), show_age(item.age), item.figures, item.reason)
    click.echo(folder.as_posix())
    print_table(table)


def show_bytes(count: int) -> str:
    """Size for reading, e.g. 3.1 MB."""
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def show_age(seconds: float | None) -> str:
    """Age for reading, e.g. 5 min."""
    if seconds is None:
        return ""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
