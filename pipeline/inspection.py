"""The command that looks at a data set: whole or damaged, what is in it, a picture; and its repair.

What a data set is belongs to the library: the stage's module hands over a function that examines one. This module
prints what it found and repairs a damaged artifact by planning the stage that made it anew, from the settings and
inputs in run.json, and running it with --verify: it makes exactly the damaged shards again.
"""

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from pipeline import manifest
from pipeline.errors import RunError, UserError
from pipeline.executor import SerialExecutor
from pipeline.graph import Planner
from pipeline.plan import Plan, decide, differences
from pipeline.printing import new_table, print_table
from pipeline.progress import Display
from pipeline.registry import Registry, current_registry
from pipeline.runner import execute
from pipeline.stage import Stage

ASIDE = ".damaged"
SHOWN = 20


@dataclass(frozen=True)
class Table:
    """A table to print; all columns but the first hold numbers when `numbers`."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: bool = True


@dataclass(frozen=True)
class Inspection:
    """What was found in a data set.

    Attributes
    ----------
    kind
        What it is, in words.
    damage
        Of each damaged file its name, relative to the data set, and what is wrong.
    statistics
        Of the content, JSON-ready; empty when it cannot be read.
    tables
        The statistics for reading.
    gallery
        A PNG, None when the images cannot be read.
    """

    kind: str
    damage: Sequence[tuple[str, str]]
    statistics: Mapping[str, Any] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    gallery: bytes | None = None


Examine = Callable[[Path, Mapping[str, Any], Display], Inspection]
"""(folder, its run.json or an empty mapping, display) -> what was found; raises UserError for what is no data set."""


def inspect_command(title: str, description: str, example: str, examine: Examine) -> click.Command:
    """The command `inspect DATASET`."""

    def callback(dataset: str, *, repair: bool, as_json: bool, gallery: str | None, quiet: bool) -> None:
        folder = Path(dataset)
        display = Display(quiet=quiet or as_json)
        found = _look(folder, examine, display)
        repaired: tuple[tuple[str, str], ...] = ()
        unfinished = _unfinished_stage(folder)
        if found.damage and repair and unfinished is None:
            repair_artifact(folder, [name for name, _ in found.damage], current_registry(), display)
            before, found = found.damage, _look(folder, examine, display)
            repaired = tuple(entry for entry in before if entry[0] not in {name for name, _ in found.damage})
        picture = _draw(folder, gallery, found)
        (_print_json if as_json else _print)(folder, found, repaired, picture)
        if unfinished is not None:
            raise RunError(
                f"{folder} is unfinished: run {unfinished} again as before, it continues; with --verify it makes "
                "damaged shards again, too."
            )
        if found.damage:
            raise RunError(_verdict(folder, found.damage, repair))

    return click.Command(
        "inspect",
        params=[
            click.Argument(["dataset"], metavar="DATASET"),
            click.Option(["--repair"], is_flag=True, help="Make what is damaged again, byte for byte, from its seeds."),
            click.Option(["--json", "as_json"], is_flag=True, help="Print JSON instead of tables."),
            click.Option(["--gallery"], metavar="FILE.png", help="Picture to write  [default: DATASET-gallery.png]"),
            click.Option(["--quiet"], is_flag=True, help="Show no progress."),
        ],
        callback=callback,
        short_help=title,
        help=f"{title}\n\n{description}",
        epilog="\b\nExample:\n  " + example,
    )


def _look(folder: Path, examine: Examine, display: Display) -> Inspection:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder of a data set.")
    with manifest.locked(folder, shared=True):
        record = manifest.read_record(folder) or {}
        unfinished = _unfinished_stage(folder)
        if unfinished is not None:
            display.log(f"{folder} is unfinished: what lies in it is looked at")
            record = {"kind": current_registry().stage(unfinished).output.kind}
        found = examine(folder, record, display)
        if not record and (folder / manifest.RECORD).exists():
            found = dataclasses.replace(found, damage=[(manifest.RECORD, "is no JSON object"), *found.damage])
        return found


def _unfinished_stage(folder: Path) -> str | None:
    """Name of the stage that has not finished the folder; None for a finished one, and for one that no stage fills."""
    if (folder / manifest.RECORD).exists():
        return None
    stage = (manifest.read_progress(folder) or {}).get("stage")
    return stage if stage in current_registry().stage_names else None


def repair_artifact(folder: Path, damaged: Sequence[str], registry: Registry, display: Display) -> None:
    """Make the damaged files of an artifact again, as they were.

    Parameters
    ----------
    folder
        The artifact.
    damaged
        Names relative to it.
    registry
        Knows the stage that made it.

    Raises
    ------
    RunError
        Nothing says how it was made, the stage or its inputs are not what they were, or the result has other bytes.
        What was there before is kept.
    """
    record = manifest.read_record(folder)
    if record is None or not record.get("stage"):
        raise RunError(
            f"{folder} is damaged ({damaged[0]}) and cannot be repaired: no run.json in it says how it was made; copy "
            "it again from where it came, or make it anew."
        )
    try:
        plan = plan_again(registry.stage(record["stage"]), record, folder)
    except UserError as error:
        raise RunError(f"{folder} is damaged ({damaged[0]}) and cannot be repaired: {error}") from None
    if plan.fingerprint != record.get("fingerprint"):
        raise RunError(
            f"{folder} is damaged ({damaged[0]}) and cannot be repaired, since {record['stage']} would make something "
            f"else now ({'; '.join(differences(record, plan))}): go back to what it was made with, or make it anew."
        )
    with _Aside(folder, manifest.edited_files(folder, record), display):
        execute(decide(plan, verify=True), SerialExecutor(), display, verify=True)
    files = (manifest.read_record(folder) or {}).get("files", {})
    other = [name for name, entry in record.get("files", {}).items() if files.get(name) != entry]
    if other:
        raise RunError(
            f"{other[0]} in {folder} was made again and has other bytes than before: {record['stage']} ran with other "
            f"versions of packages then ({_versions(record)})."
        )


def plan_again(stage: Stage, record: Mapping[str, Any], folder: Path) -> Plan:
    """Plan of the stage that made an artifact, with the settings and inputs that its run.json names."""
    table = {name: "none" if value is None else value for name, value in record["config"].items()}
    for name, entry in record.get("inputs", {}).items():
        if entry:
            table[name] = (folder / entry["path"]).resolve().as_posix()
    planner = Planner(folder.resolve().parent, {stage.name: table}, {}, manifest.RECORD)
    return dataclasses.replace(planner.plan(stage), folder=folder)


class _Aside:
    """Damaged or edited text and pictures lie in a hidden folder meanwhile, and return when the repair fails."""

    def __init__(self, folder: Path, names: Sequence[str], display: Display) -> None:
        self.folder, self.names, self.display = folder, names, display

    def __enter__(self) -> None:
        for name in self.names:
            target = self.folder / ASIDE / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).replace(target)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            for name in self.names:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                (self.folder / ASIDE / name).replace(self.folder / name)
            shutil.rmtree(self.folder / ASIDE, ignore_errors=True)
        elif self.names:
            self.display.log(f"{', '.join(self.names)}: what was there before is kept in {self.folder / ASIDE}")


def _versions(record: Mapping[str, Any]) -> str:
    now = manifest.package_versions()
    then = record.get("versions", {})
    changed = [f"{name} {then[name]}, now {now.get(name)}" for name in then if then[name] != now.get(name)]
    return ", ".join(changed) or "none that it recorded"


def _draw(folder: Path, gallery: str | None, found: Inspection) -> Path | None:
    if found.gallery is None:
        return None
    whole = folder.resolve()
    path = Path(gallery) if gallery else whole.with_name(f"{whole.name}-gallery.png")
    try:
        path.write_bytes(found.gallery)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}): choose another place with --gallery.") from None
    return path


def _verdict(folder: Path, damage: Sequence[tuple[str, str]], repair: bool) -> str:
    names = list(dict.fromkeys(name for name, _ in damage))
    first = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    advice = "the rest cannot be made again by a stage" if repair else "--repair makes it again from its seeds"
    return f"{folder} is damaged ({first}): {advice}."


def _print_json(folder: Path, found: Inspection, repaired: Sequence[tuple[str, str]], picture: Path | None) -> None:
    table = {
        "dataset": folder.as_posix(),
        "kind": found.kind,
        "whole": not found.damage,
        "damage": [{"file": name, "what": what} for name, what in found.damage],
        "repaired": [{"file": name, "what": what} for name, what in repaired],
        "statistics": found.statistics,
        "gallery": None if picture is None else picture.as_posix(),
    }
    click.echo(json.dumps(table, indent=1, ensure_ascii=False))


def _print(folder: Path, found: Inspection, repaired: Sequence[tuple[str, str]], picture: Path | None) -> None:
    click.echo(f"{folder}: {found.kind}")
    for table in found.tables:
        click.echo(f"\n{table.title}")
        shown = new_table(table.header, right=table.header[1:] if table.numbers else ())
        for row in table.rows:
            shown.add_row(*row)
        print_table(shown)
    click.echo()
    for name, what in repaired:
        click.echo(f"repaired: {name}: {what}")
    for name, what in found.damage[:SHOWN]:
        click.echo(f"damaged: {name}: {what}")
    if len(found.damage) > SHOWN:
        click.echo(f"... and {len(found.damage) - SHOWN} more")
    if not found.damage:
        click.echo("every checksum is right")
    if picture is not None:
        click.echo(f"gallery: {picture}")
