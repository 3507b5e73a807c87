"""What commands print: plans, outcomes, tables."""

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from pipeline.plan import Plan
from pipeline.runner import Outcome
from pipeline.values import shown

if TYPE_CHECKING:
    from rich.table import Table

PIPE_WIDTH = 160
LONGEST_FIGURE = 40
VERBS = {"skip": "nothing to do", "run": "would run", "continue": "would continue"}


def print_plan(plan: Plan) -> None:
    """Print everything that is decided about a stage: action and reasons, settings, inputs, output folder."""
    click.echo(f"{plan.stage.name} -> {plan.folder}")
    click.echo(f"  {VERBS[plan.action]}: {'; '.join(plan.reasons)}")
    settings = [(key.name, plan.settings[key.name]) for key in plan.stage.parameters]
    rows = [[name, shown(setting.value), setting.source] for name, setting in settings]
    print_columns([["setting", "value", "from"], *rows])
    rows = [
        [name, "-" if source.path is None else str(source.path), (source.fingerprint or "-")[:12], source.origin]
        for name, source in plan.sources.items()
    ]
    if rows:
        print_columns([["input", "path", "fingerprint", "from"], *rows])
    click.echo(f"  fingerprint {plan.fingerprint[:12]}")


def print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text as columns, indented."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("    " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def figures_text(figures: Mapping[str, float | int | str]) -> str:
    """Key figures in one line."""
    return ", ".join(f"{name} {format_number(value)}" for name, value in figures.items())


def format_number(value: float | int | str) -> str:
    """Figure with four significant digits; long text such as a sha256 is cut."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= LONGEST_FIGURE else text[:12] + "..."


def print_outcome(outcome: Outcome) -> None:
    """Print what became of one stage."""
    figures = f" ({figures_text(outcome.figures)})" if outcome.figures else ""
    what = "nothing to do" if outcome.action == "skip" else f"done in {outcome.seconds:.1f} s"
    click.echo(f"{outcome.stage}: {what}{figures}: {outcome.opens}")


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print the closing table of a chain."""
    table = new_table(("stage", "what", "seconds", "why", "figures"), right=("seconds",))
    for outcome in outcomes:
        table.add_row(
            outcome.stage,
            "skipped" if outcome.action == "skip" else "ran",
            "" if outcome.action == "skip" else f"{outcome.seconds:.1f}",
            "; ".join(outcome.reasons),
            figures_text(outcome.figures),
        )
    print_table(table)
    click.echo()
    print_columns([[outcome.stage, outcome.opens.as_posix()] for outcome in outcomes])


def new_table(columns: Sequence[str], right: Sequence[str] = ()) -> "Table":
    """Table without lines; columns in `right` hold numbers."""
    from rich.table import Table

    table = Table(title=None, box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def print_table(table: "Table") -> None:
    """Print a table to stdout; a file or pipe gets wide lines, so that names are not broken."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
