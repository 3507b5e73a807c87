"""The command line of a stage: options made from its Config and inputs, a help page that reads like a manual."""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.config import Parameter, Setting, param, parameters, read_toml, resolve_settings
from pipeline.errors import UserError
from pipeline.executor import make_executor
from pipeline.page import open_page, page_options
from pipeline.progress import Display
from pipeline.stage import Stage
from pipeline.values import metavar, shown

if TYPE_CHECKING:
    from pipeline.graph import Planner


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The table [run], and the options that every command has."""

    name: str = param("default", "Name of the run: its stages write to OUTPUTS/NAME/STAGE.")
    stages: tuple[str, ...] = param((), "Stages of the chain, in order.")
    outputs: Path = param(Path("outputs"), "Folder that holds the runs.")
    workers: int = param(1, "Worker processes on this machine; the result does not depend on it.", min=1, max=1024)
    scheduler: str | None = param(None, "Address of a dask scheduler (tcp://HOST:PORT) to work on instead.")


@dataclass(frozen=True)
class Common:
    """What the options that every command has came to."""

    run: RunConfig
    settings: Mapping[str, Setting]
    tables: Mapping[str, Mapping[str, Any]]
    file: str
    dry_run: bool
    verify: bool
    force: bool
    quiet: bool

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.run.outputs / self.run.name


RUN_KEYS = {key.name: replace(key, flag="--run" if key.name == "name" else "") for key in parameters(RunConfig)}
RUN_PLACEHOLDERS = {"name": "NAME", "outputs": "FOLDER", "scheduler": "ADDRESS"}
COMMON_NAMES = frozenset(
    {"run", "outputs", "config", "dry_run", "workers", "scheduler", "verify", "force", "quiet", "help"}
    | {"serve", "open", "opened", "port", "target", "out"}
)


def common_options() -> list[click.Option]:
    """The options that every command has."""

    def from_run(key: Parameter) -> click.Option:
        placeholder = RUN_PLACEHOLDERS.get(key.name, metavar(key.annotation))
        return click.Option([key.option], metavar=placeholder, help=_help(key))

    return [
        from_run(RUN_KEYS["name"]),
        from_run(RUN_KEYS["outputs"]),
        click.Option(["--config"], metavar="FILE.toml", help="Configuration file: one table a stage, and [run]."),
        click.Option(["-n", "--dry-run"], is_flag=True, help="Print the resolved plan and stop; nothing is written."),
        from_run(RUN_KEYS["workers"]),
        from_run(RUN_KEYS["scheduler"]),
        click.Option(["--verify"], is_flag=True, help="Check finished output byte by byte; make damaged parts again."),
        click.Option(["--force"], is_flag=True, help="Run even if done; the folder is emptied first."),
        click.Option(["--quiet"], is_flag=True, help="Print errors only."),
    ]


def folder_option() -> click.Option:
    """The option of commands whose output may lie anywhere."""
    text = "Folder to write into, instead of OUTPUTS/RUN/COMMAND; what others wrote into it is not touched."
    return click.Option(["-o", "--out", "target"], metavar="DIR", help=text)


def read_common(options: Mapping[str, Any], stages: Collection[str] | None = None) -> Common:
    """Resolve the common options; `stages` are the known names, for checking the tables of the file.

    Raises
    ------
    UserError
        A bad file, table, key or value.
    """
    file, tables = options.get("config"), {}
    if file is not None:
        tables = read_toml(Path(file), stages)
    given = {name: options.get(name) for name in ("outputs", "workers", "scheduler")} | {"name": options.get("run")}
    settings = resolve_settings(
        RUN_KEYS.values(), tables.get("run", {}), os.environ, given, stage="run", file=file or "the TOML table"
    )
    run = RunConfig(**{name: setting.value for name, setting in settings.items()})
    if not run.name or run.name.startswith(".") or "/" in run.name or "\\" in run.name:
        raise UserError(f'run name "{run.name}" ({settings["name"].source}) must be a plain folder name.')
    return Common(
        run=run,
        settings=settings,
        tables=tables,
        file=file or "the TOML table",
        dry_run=bool(options.get("dry_run")),
        verify=bool(options.get("verify")),
        force=bool(options.get("force")),
        quiet=bool(options.get("quiet")),
    )


class StageCommand(click.Command):
    """Command of a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._config_options = [_config_option(key) for key in stage.parameters if not key.positional]
        self._input_options = [
            click.Option([item.option, item.name], metavar="PATH", help=_input_help(item)) for item in stage.inputs
        ]
        self._arguments = [click.Argument([key.name], nargs=-1) for key in stage.parameters if key.positional]
        self._folder_options = [folder_option()] if stage.takes_folder else []
        self._page_options = page_options(stage)
        self._common_options = common_options()
        names = [option.name for option in (*self._arguments, *self._config_options, *self._input_options)]
        clash = sorted({name for name in names if names.count(name) > 1 or name in COMMON_NAMES})
        if clash:
            raise TypeError(f"{stage.name}: the name {clash[0]} is taken")
        super().__init__(
            stage.name,
            params=[
                *(*self._arguments, *self._input_options, *self._config_options),
                *(*self._folder_options, *self._page_options, *self._common_options),
            ],
            help=stage.title,
            callback=self._callback,
        )

    def _callback(self, **options: Any) -> None:
        from pipeline.printing import print_outcome, print_plan
        from pipeline.registry import known_names
        from pipeline.runner import execute

        common = read_common(options, known_names())
        planner = self.planner(common, options.get("target"))
        display = Display(quiet=common.quiet)
        if options.get("opened"):
            open_page(self.stage, planner, options)
            return
        plan = planner.plan(self.stage, options, force=common.force, verify=common.verify)
        if common.dry_run:
            print_plan(plan)
            return
        if self.stage.follow is not None and int(os.environ.get("RANK", "0")) > 0:
            if plan.action != "skip":
                self.stage.follow(plan.config)
            return
        executor = make_executor(common.run.workers, common.run.scheduler)
        if plan.action != "skip":
            display.log(f"{self.stage.name}: {'; '.join(plan.reasons)}")
        try:
            outcome = execute(plan, executor, display, force=common.force, verify=common.verify)
        finally:
            executor.close()
        if not common.quiet:
            print_outcome(outcome)
        if options.get("serve"):
            open_page(self.stage, planner, options)

    def planner(self, common: Common, target: str | None = None) -> "Planner":
        """Planner of the run that the common options describe; `target` is the stage's folder if not the run's."""
        from pipeline.graph import Planner
        from pipeline.registry import known_names

        order = _order(common.run.stages, self.stage.name)
        known, targets = known_names() or (), {} if target is None else {self.stage.name: Path(target)}
        return Planner(common.folder, common.tables, os.environ, common.file, order, known, targets)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the manual page."""
        stage = self.stage
        self.format_usage(ctx, formatter)
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text("\n\n".join((_sentence(stage.title), *stage.description)))
        arguments = [(key.option, _help(key)) for key in stage.parameters if key.positional]
        if arguments:
            with formatter.section("Arguments"):
                formatter.write_dl(arguments)
        _section(ctx, formatter, "Inputs (found in the run folder by their kind, or named)", self._input_options)
        _section(ctx, formatter, "Settings", [*self._config_options, *self._folder_options])
        _section(ctx, formatter, "Page", self._page_options)
        _section(
            ctx, formatter, "Options of every command", [*self._common_options, *_given(self.get_help_option(ctx))]
        )
        with formatter.section("Output"):
            first = (stage.output.__doc__ or "").strip().split("\n")[0]
            formatter.write_text(f"OUTPUTS/RUN/{stage.name} ({stage.output.kind}). {first}")
        with formatter.section("Elsewhere"):
            name = stage.parameters[0].name if stage.parameters else "key"
            formatter.write_text(
                f"Inputs and settings can also stand in the table [{stage.name}] of --config FILE.toml "
                f"({name} = ...) or in the environment ({stage.prefix}{name.upper()}). "
                "An option wins over the environment, the environment over the file."
            )
        if stage.example:
            with formatter.section("Example"):
                formatter.write_text("\b\n" + stage.example.strip())


def _order(chain: tuple[str, ...], name: str) -> tuple[str, ...]:
    return chain if name in chain else (*chain, name)


def _config_option(key: Parameter) -> click.Option:
    if key.annotation is bool:
        flags = f"{key.option}/--no-{key.option.removeprefix('--')}"
        return click.Option([flags, key.name], default=None, help=_help(key))
    return click.Option([key.option, key.name], metavar=metavar(key.annotation), help=_help(key))


def _help(key: Parameter) -> str:
    default = "required" if key.required else f"default: {shown(key.default) or 'none'}"
    return f"{key.help}  [{'; '.join(part for part in (default, key.range) if part)}]"


def _input_help(item: Any) -> str:
    made = " or ".join(item.artifact.made_by)
    optional = "; optional" if item.optional else ""
    return f"Folder of {item.artifact.title}{f', made by {made}' if made else ''}.  [{item.artifact.kind}{optional}]"


def _section(ctx: click.Context, formatter: click.HelpFormatter, title: str, options: list[click.Option]) -> None:
    rows = [row for option in options if (row := option.get_help_record(ctx)) is not None]
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)


def _given(option: click.Option | None) -> list[click.Option]:
    return [] if option is None else [option]


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
