"""Several stages in order, in one process: planned first, then run, then a table of what happened."""

import os
from collections.abc import Sequence
from typing import Any

import click

from pipeline.command import Common, common_options, read_common
from pipeline.config import refuse_unknown_keys
from pipeline.errors import UserError
from pipeline.executor import make_executor
from pipeline.graph import Planner
from pipeline.plan import Plan
from pipeline.printing import print_outcomes, print_plan
from pipeline.progress import Display
from pipeline.registry import Registry, current_registry, known_names
from pipeline.runner import Outcome, execute
from pipeline.stage import Stage


def chain_command(title: str, description: str, example: str) -> click.Command:
    """The command that runs the chain of a configuration file."""
    selection = [
        click.Option(["--only"], metavar="STAGE", multiple=True, help="Run this stage of the chain only; repeatable."),
        click.Option(["--from", "first"], metavar="STAGE", help="Start with this stage of the chain."),
        click.Option(["--until", "last"], metavar="STAGE", help="End with this stage of the chain."),
    ]
    return click.Command(
        "run",
        params=[*selection, *common_options()],
        callback=_run,
        short_help=title,
        help=f"{title}\n\n{description}",
        epilog="\b\nExample:\n  " + example,
    )


def _run(only: Sequence[str], first: str | None, last: str | None, **options: Any) -> None:
    registry = current_registry()
    common = read_common(options, registry.stage_names)
    names = select(common.run.stages, only, first, last)
    stages = {name: registry.stage(name) for name in common.run.stages}
    check_tables(registry, common)
    plans = plan_chain([stages[name] for name in names], common)
    if common.dry_run:
        for plan in plans:
            print_plan(plan)
            click.echo()
        return
    outcomes = run_chain([stages[name] for name in names], common)
    if not common.quiet:
        print_outcomes(outcomes)


def select(chain: Sequence[str], only: Sequence[str], first: str | None, last: str | None) -> tuple[str, ...]:
    """Names of the chain's stages to run, in its order.

    Raises
    ------
    UserError
        The chain is empty, or a named stage is not part of it.
    """
    if not chain:
        raise UserError('nothing to run: give --config FILE with [run] stages = ["...", ...]; configs/ has some.')
    for name in (*only, *filter(None, (first, last))):
        if name not in chain:
            raise UserError(f'stage "{name}" is not part of the chain ({", ".join(chain)}).')
    start = chain.index(first) if first else 0
    stop = chain.index(last) + 1 if last else len(chain)
    names = tuple(name for name in chain[start:stop] if not only or name in only)
    if not names:
        raise UserError("no stage of the chain is selected: --from comes after --until, or --only lies outside them.")
    return names


def check_tables(registry: Registry, common: Common) -> None:
    """Refuse an unknown key in the table of any stage, also of one that is not run."""
    for name, table in common.tables.items():
        if name != "run":
            stage = registry.stage(name)
            keys = [key.name for key in stage.parameters] + [item.name for item in stage.inputs]
            refuse_unknown_keys(table, keys, stage=name, file=common.file)


def new_planner(common: Common) -> Planner:
    """Planner of the run that the common options describe."""
    return Planner(
        common.folder, common.tables, os.environ, common.file, order=common.run.stages, known=known_names() or ()
    )


def plan_chain(stages: Sequence[Stage], common: Common) -> list[Plan]:
    """Plans of all stages, each knowing what those before it will make.

    Raises
    ------
    UserError
        Anything is wrong with any stage: nothing has been started then.
    """
    planner = new_planner(common)
    verify = common.verify and common.dry_run  # otherwise each stage is verified when its turn comes
    return [planner.plan(stage, force=common.force, verify=verify) for stage in stages]


def run_chain(stages: Sequence[Stage], common: Common) -> list[Outcome]:
    """Run the stages in order; those that ran before an error are in the table printed then."""
    planner, display, outcomes = new_planner(common), Display(quiet=common.quiet), list[Outcome]()
    executor = make_executor(common.run.workers, common.run.scheduler)
    try:
        for number, stage in enumerate(stages, start=1):
            plan = planner.plan(stage, force=common.force, verify=common.verify)
            display.log(f"[{number}/{len(stages)}] {stage.name}: {'; '.join(plan.reasons)}")
            outcomes.append(execute(plan, executor, display, force=common.force, verify=common.verify))
            planner.finished.add(stage.name)
    except BaseException:
        if outcomes and not common.quiet:
            print_outcomes(outcomes)
        raise
    finally:
        executor.close()
    return outcomes
