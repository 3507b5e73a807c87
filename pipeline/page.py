"""`--serve`: a page in the browser on what a stage has made, for a person to correct.

The page works on the finished folder and holds its lock while it is open. What it changes counts as edited by hand: the
fingerprint changes, later stages run again, and the stage itself refuses to overwrite it without --force.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline import manifest
from pipeline.config import Setting
from pipeline.errors import UserError
from pipeline.stage import Input, Stage, artifact_inputs
from pipeline.values import convert

if TYPE_CHECKING:
    from pipeline.graph import Planner


@dataclass(frozen=True)
class Serving:
    """What a page is opened with.

    Attributes
    ----------
    port
        Where to listen; None: the usual one, or the next that is free.
    say
        Shows a line.
    """

    port: int | None
    say: Callable[[str], None]


def page_options(stage: Stage) -> list[click.Option]:
    """Options of a stage that has a page; empty for the others."""
    if stage.page is None:
        return []
    title = stage.output.title
    more = [
        click.Option([item.option, item.name], metavar="PATH", help=f"Folder of {item.artifact.title}, for the page.")
        for item in _page_inputs(stage)
        if item.name not in {known.name for known in stage.inputs}
    ]
    return [
        click.Option(["--serve"], is_flag=True, help=f"Then open a page on the {title}, to look at and correct."),
        click.Option(
            ["--open", "opened"], metavar="PATH", help=f"Open the page on this folder of {title}; the stage is not run."
        ),
        click.Option(["--port"], metavar="INT", help="Port of the page; 0: any.  [default: 8765 or the next free one]"),
        *more,
    ]


def open_page(stage: Stage, planner: "Planner", options: Mapping[str, Any]) -> None:
    """Serve the page until it is closed.

    Raises
    ------
    UserError
        A missing input, a folder of another kind, a folder that another process is using.
    """
    from pipeline.runner import readable

    assert stage.page is not None
    given = options.get("opened")
    folder = planner.folder / stage.name if given is None else Path(given)
    artifact = stage.output.open(folder)
    settings = planner.settings(stage, options)
    inputs = {}
    for item in _page_inputs(stage):
        path = options.get(item.name)
        setting = settings.get(item.name, Setting(path and Path(path), f"option {item.option}"))
        source = planner.source(stage, item, setting)
        inputs[item.name] = None if source.path is None else item.artifact.open(source.path)
    serving = Serving(_port(options.get("port")), _say)
    try:
        with manifest.locked(folder):
            stage.page(artifact, serving, **inputs)
    except Exception as error:
        sentence = readable(error, folder, stage.name)
        if sentence is error:
            raise
        raise sentence from error


def _say(line: str) -> None:
    click.echo(line)


def _page_inputs(stage: Stage) -> tuple[Input, ...]:
    assert stage.page is not None
    return tuple(item for item in artifact_inputs(stage.page) if item.artifact is not stage.output)


def _port(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        port = convert(int, text, is_text=True)
    except ValueError:
        port = -1
    if not 0 <= port <= 65535:
        raise UserError(f'--port "{text}": expected a whole number from 0 to 65535.')
    return int(port)
