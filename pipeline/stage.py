"""A stage: a name, a Config, typed inputs, one output, and the function that makes it.

    command = stage_command("generate-views", Config, run, example="python cli.py generate-views --num-objects 8")

The inputs and the output are read from the annotations of `run`; the command line, the TOML table, the environment
variables, the fingerprint, resume and the help page follow from them.
"""

import inspect
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.artifacts import Artifact, Writer
from pipeline.config import Parameter, parameters, variable_prefix
from pipeline.executor import Executor, SerialExecutor
from pipeline.progress import Bar, Display
from pipeline.tracking import Tracker
from pipeline.values import optional_member

if TYPE_CHECKING:
    from pipeline.command import StageCommand

Task = TypeVar("Task")
Result = TypeVar("Result")
Depends = Callable[[Any], Mapping[str, str]]


@dataclass
class Context:
    """What a stage may use while it runs. `Context()` serves a call by hand: serial, silent.

    Attributes
    ----------
    executor
        Maps functions over tasks, here or on workers; every map shows its progress.
    tracker
        Curves and pictures of a training.
    verify
        Whether payload already written must be checked byte by byte.
    quiet
        Whether nothing is shown.
    """

    executor: Executor = field(default_factory=SerialExecutor)
    tracker: Tracker = field(default_factory=Tracker)
    verify: bool = False
    quiet: bool = True
    display: Display | None = None

    def __post_init__(self) -> None:
        self.display = self.display or Display(quiet=self.quiet)
        if not isinstance(self.executor, ReportingExecutor):
            self.executor = ReportingExecutor(self.executor, self.progress)

    def progress(self, label: str, total: int) -> AbstractContextManager[Bar]:
        """Progress bar: `with ctx.progress("training", steps) as bar: ... bar.advance()`; may be nested."""
        assert self.display is not None
        return self.display.bar(label, total)

    def log(self, message: str) -> None:
        """Show one line."""
        assert self.display is not None
        self.display.log(message)


class ReportingExecutor:
    """An executor whose maps show their progress."""

    def __init__(self, executor: Executor, progress: Callable[[str, int], AbstractContextManager[Bar]]) -> None:
        self._executor, self._progress = executor, progress

    def map(
        self, function: Callable[[Task], Result], tasks: Sequence[Task], label: str
    ) -> Iterator[tuple[int, Result]]:
        """Yield (position, result) as tasks complete, advancing a bar by one each."""
        with self._progress(label, len(tasks)) as bar:
            for item in self._executor.map(function, tasks, label):
                bar.advance()
                yield item

    def close(self) -> None:
        """Let go of the workers."""
        self._executor.close()


@dataclass(frozen=True)
class Input:
    """An artifact that a stage reads."""

    name: str
    artifact: type[Artifact]
    optional: bool

    @property
    def option(self) -> str:
        """Spelling on the command line, e.g. --view-set."""
        return "--" + self.name.replace("_", "-")


def artifact_inputs(function: Callable[..., Any]) -> tuple[Input, ...]:
    """Parameters of a function annotated with an Artifact, or `Artifact | None`."""
    hints, found = typing.get_type_hints(function), []
    for name in inspect.signature(function).parameters:
        annotation = hints.get(name)
        member = optional_member(annotation)
        kind = annotation if member is None else member
        if isinstance(kind, type) and issubclass(kind, Artifact):
            found.append(Input(name, kind, member is not None))
    return tuple(found)


@dataclass(frozen=True)
class Stage:
    """Everything the machinery knows about a stage; made by `stage_command`."""

    name: str
    config_type: type
    function: Callable[..., None]
    version: int = 1
    example: str = ""
    depends: Depends | None = None
    follow: Callable[[Any], None] | None = None
    page: Callable[..., None] | None = None
    keeps_earlier: bool = False
    takes_folder: bool = False

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function)

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """Parameters of the function annotated with an Artifact, or `Artifact | None`."""
        return artifact_inputs(self.function)

    @cached_property
    def output(self) -> type[Artifact]:
        """Artifact type X of the parameter `out: Writer[X]`."""
        (kind,) = typing.get_args(self._hints[self._role(Writer)])
        return typing.cast(type[Artifact], kind)

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        """Settings of the Config."""
        return parameters(self.config_type)

    @property
    def prefix(self) -> str:
        """Start of the stage's environment variables."""
        return variable_prefix(self.name)

    @property
    def folder_option(self) -> str:
        """Option that chooses where the output goes, for messages."""
        return "-o" if self.takes_folder else "--outputs"

    @property
    def title(self) -> str:
        """First sentence of the module's docstring, without the stage's name."""
        return self._module_paragraphs[0].removeprefix(self.name + ":").strip()

    @property
    def description(self) -> tuple[str, ...]:
        """Paragraphs of the module's and the function's docstrings that follow the title."""
        return (*self._module_paragraphs[1:], *_paragraphs(self.function.__doc__))

    @property
    def _module_paragraphs(self) -> tuple[str, ...]:
        module = sys.modules.get(self.function.__module__)
        return _paragraphs(module.__doc__ if module else None) or (self.name,)

    def _role(self, kind: type) -> str:
        for name in inspect.signature(self.function).parameters:
            annotation = self._hints.get(name)
            if annotation is kind or typing.get_origin(annotation) is kind:
                return name
        raise TypeError(f"{self.name}: run() has no parameter annotated {kind.__name__}")

    def call(self, config: Any, inputs: Mapping[str, Artifact | None], out: Writer[Any], ctx: Context) -> None:
        """Run the stage's function."""
        roles = {self._role(self.config_type): config, self._role(Writer): out, self._role(Context): ctx}
        self.function(**roles, **inputs)


def stage_command(
    name: str,
    config_type: type,
    run: Callable[..., None],
    *,
    version: int = 1,
    example: str = "",
    depends: Depends | None = None,
    follow: Callable[[Any], None] | None = None,
    page: Callable[..., None] | None = None,
    keeps_earlier: bool = False,
    takes_folder: bool = False,
) -> "StageCommand":
    """Command line command of a stage.

    Parameters
    ----------
    name
        Name of the command, of the folder and of the TOML table, e.g. "generate-views".
    config_type
        Frozen dataclass of `param` fields.
    run
        `run(config, <inputs>, out, ctx) -> None`; what each parameter is follows from its annotation.
    version
        To be raised whenever the same config and inputs would give another result: old folders become stale.
    example
        Command shown in the help page.
    depends
        config -> {name: digest} of whatever else the result depends on, such as shipped weights the config names.
        It must be cheap: `status` calls it.
    follow
        config -> None: what a process other than the first does when a launcher (torchrun, which sets RANK) starts the
        command several times. It works along with the first and writes nothing; None: the stage is not launched so.
    keeps_earlier
        The stage makes its output beside what lies in the folder and replaces it when the new one is whole: the folder
        is not emptied before, except by --force.
    takes_folder
        The command takes `-o DIR`, a folder anywhere for its output.
    page
        `page(output, serving, <inputs>) -> None`: what `--serve` opens on the output (pipeline/page.py). Inputs
        follow from the annotations, as those of `run`.
    """
    from pipeline.command import StageCommand

    stage = Stage(name, config_type, run, version, example, depends, follow, page, keeps_earlier, takes_folder)
    return StageCommand(stage)


def _paragraphs(text: str | None) -> tuple[str, ...]:
    """Paragraphs of a docstring up to its first numpy section; indented blocks keep their lines."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text or "").split("\n\n"):
        lines = paragraph.strip("\n").split("\n")
        if len(lines) > 1 and set(lines[1].strip()) == {"-"}:
            break
        if paragraph.strip():
            block = paragraph.startswith("    ")
            paragraphs.append("\b\n" + paragraph.strip("\n") if block else " ".join(line.strip() for line in lines))
    return tuple(paragraphs)
