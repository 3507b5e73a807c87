"""The top of the command line: names and help lines known beforehand, modules imported when they are asked for."""

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from pipeline.config import check_environment, suggest
from pipeline.errors import UserError, exit_code_of, is_disk_full
from pipeline.stage import Stage

INTERRUPTED = 130


class Registry(click.Group):
    """Commands by name: (module, help line). The module's attribute `command` is the command."""

    def __init__(self, entries: Mapping[str, tuple[str, str]], **keywords: Any) -> None:
        super().__init__(**keywords)
        self.entries = dict(entries)

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of every command, in the order of the chain."""
        return tuple(self.entries)

    def stage(self, name: str) -> Stage:
        """Stage of that name, its module imported.

        Raises
        ------
        UserError
            There is none, or the command is not a stage.
        """
        if name not in self.entries:
            near = suggest(name, self.entries)
            raise UserError(f'there is no stage "{name}"' + (f": did you mean {near}?" if near else "."))
        stage = getattr(self._load(name), "stage", None)
        if not isinstance(stage, Stage):
            raise UserError(f"{name} is a command, not a stage: it cannot be part of a chain.")
        return stage

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of every command."""
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Command of that name, None when there is none."""
        return self._load(cmd_name) if cmd_name in self.entries else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or suggest the nearest one."""
        if args and args[0] not in self.entries and not args[0].startswith("-"):
            near = suggest(args[0], self.entries)
            hint = f"did you mean {near}?" if near else "see --help."
            raise UserError(f'there is no command "{args[0]}": {hint}')
        check_environment(os.environ, self.entries)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one line a command without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.entries.items()])

    def _load(self, name: str) -> click.Command:
        command = importlib.import_module(self.entries[name][0]).command
        assert isinstance(command, click.Command)
        return command


def current_registry() -> Registry:
    """Registry that the running command was started from."""
    registry = click.get_current_context().find_root().command
    assert isinstance(registry, Registry)
    return registry


def known_names() -> tuple[str, ...] | None:
    """Names of all commands; None when the running command was started without a registry."""
    root = click.get_current_context().find_root().command
    return root.stage_names if isinstance(root, Registry) else None


def run_command_line(registry: Registry, arguments: Sequence[str], program: str) -> int:
    """Run a command line; every error becomes one sentence on stderr.

    Returns
    -------
    int
        Exit code: 0 done, 1 the run failed, 2 bad input or usage, 130 interrupted by Ctrl-C or SIGTERM.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        result = registry.main(args=list(arguments), prog_name=program, standalone_mode=False)
        return result if isinstance(result, int) else 0
    except (click.exceptions.Abort, KeyboardInterrupt):
        sys.stderr.write("Interrupted; the same command continues.\n")
        return INTERRUPTED
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except Exception as error:
        return _say(error)
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(error: Exception) -> int:
    code = exit_code_of(error)
    if os.environ.get("GANFOUNDRY_DEBUG") or (code is None and not is_disk_full(error)):
        sys.stderr.write("".join(traceback.format_exception(error)))
        if code is None:
            return 1
    message = getattr(error, "message", None) if isinstance(error, click.ClickException) else None
    sys.stderr.write(f"Error: {message or error}\n")
    return code if code is not None else 1


def _terminate(signum: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
