"""Stages planned: settings resolved, inputs found, fingerprints known.

A chain is planned before its first stage starts: the fingerprint of what a stage will write is known beforehand, so
the plan of every later stage is exact too.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import manifest
from pipeline.artifacts import Artifact
from pipeline.config import Parameter, Setting, build, own_variables, resolve_settings
from pipeline.errors import UserError
from pipeline.plan import Plan, Source, decide, relative_to_here
from pipeline.stage import Input, Stage
from pipeline.values import to_json


class MissingInputError(UserError):
    """An input that no command has made yet; `input` is its name."""

    def __init__(self, message: str, input: str) -> None:
        super().__init__(message)
        self.input = input


@dataclass
class Planner:
    """Plans the stages of one run, in order.

    Attributes
    ----------
    folder
        The run's folder, outputs/<run>.
    tables
        Tables of the configuration file.
    environ
        Environment variables.
    file
        Name of the configuration file, for messages.
    order
        Names of the chain's stages; the nearest stage before wins when two have made the same kind.
    known
        Names of all stages, to tell apart the variables of stages whose names begin alike.
    targets
        Folders of stages that are not to write into the run's folder.
    """

    folder: Path
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    file: str = "the TOML table"
    order: Sequence[str] = ()
    known: Collection[str] = ()
    targets: Mapping[str, Path] = field(default_factory=dict)
    planned: dict[str, Plan] = field(default_factory=dict)
    finished: set[str] = field(default_factory=set)

    def plan(
        self, stage: Stage, options: Mapping[str, Any] | None = None, *, force: bool = False, verify: bool = False
    ) -> Plan:
        """Plan of one stage.

        Raises
        ------
        UserError
            A bad setting, a missing or ambiguous input, a folder with foreign files.
        """
        settings = self.settings(stage, options or {})
        config: Any = build(stage.config_type, settings, stage.name)
        sources = {item.name: self.source(stage, item, settings[item.name]) for item in stage.inputs}
        digests = _digests(stage, config, settings)
        named = {key.name: to_json(settings[key.name].value) for key in stage.parameters}
        identity = named | {name: {"content": value} for name, value in digests.items()}
        prints = {name: source.fingerprint for name, source in sources.items()}
        plan = Plan(
            stage=stage,
            folder=self.targets.get(stage.name, self.folder / stage.name),
            config=config,
            settings=settings,
            sources=sources,
            digests=digests,
            fingerprint=manifest.fingerprint(stage.name, stage.version, identity, prints),
        )
        plan = decide(plan, force=force, verify=verify)
        self.planned[stage.name] = plan
        return plan

    def settings(self, stage: Stage, options: Mapping[str, Any]) -> dict[str, Setting]:
        """Settings and named inputs of a stage.

        Raises
        ------
        UserError
            A bad or unknown one.
        """
        keys = [*stage.parameters, *(_input_parameter(item) for item in stage.inputs)]
        table = self.tables.get(stage.name, {})
        environ = own_variables(self.environ, stage.name, self.known)
        return resolve_settings(keys, table, environ, options, stage=stage.name, file=self.file)

    def source(self, stage: Stage, item: Input, setting: Setting) -> Source:
        """Where an input of a stage comes from: the named path, a stage before, the run folder.

        Raises
        ------
        UserError
            The named folder is no such artifact, or an input that is not optional is missing or ambiguous.
        """
        if setting.value is not None:
            artifact = _open_named(item, setting)
            return Source(artifact.path, artifact.fingerprint, setting.source)
        before = self.order[: self.order.index(stage.name)] if stage.name in self.order else ()
        for name in reversed(before):
            plan = self.planned.get(name)
            if plan is not None and plan.stage.output.kind == item.artifact.kind:
                if plan.action == "skip" or name in self.finished:
                    artifact = item.artifact.open(plan.folder)
                    return Source(artifact.path, artifact.fingerprint, f"made by {name}")
                return Source(plan.folder, plan.fingerprint, f"to be made by {name}", ready=False)
        found = self._found(stage, item, before)
        if found is not None:
            return found
        if item.optional:
            return Source(None, None, "absent (optional)")
        raise MissingInputError(missing_sentence(stage, item, self.folder), item.name)

    def _found(self, stage: Stage, item: Input, before: Sequence[str]) -> Source | None:
        """The artifact of the right kind in the run folder, else the one that other stages of the run were given."""
        kind = item.artifact.kind
        folders = [folder for folder in stage_folders(self.folder) if folder.name != stage.name]
        made = [folder for folder in folders if (manifest.read_record(folder) or {}).get("kind") == kind]
        for name in reversed(before):
            made = [folder for folder in made if folder.name == name] or made
        if len(made) > 1:
            names = ", ".join(folder.name for folder in made)
            raise UserError(
                f"{stage.name} finds {len(made)} artifacts of kind {kind} in {self.folder} ({names}): "
                f"choose one with {item.option} PATH."
            )
        if made:
            artifact = item.artifact.open(made[0])
            return Source(artifact.path, artifact.fingerprint, "found in the run folder")
        given = self._given_to_others(stage, kind, folders)
        if len(given) == 1:
            artifact = item.artifact.open(given.popitem()[1])
            return Source(artifact.path, artifact.fingerprint, "used by other stages of the run")
        if len(given) > 1:
            names = ", ".join(sorted(path.as_posix() for path in given.values()))
            raise UserError(
                f"stages of {self.folder} use several artifacts of kind {kind} ({names}): "
                f"choose the one for {stage.name} with {item.option} PATH."
            )
        return None

    def _given_to_others(self, stage: Stage, kind: str, folders: Sequence[Path]) -> dict[Path, Path]:
        given: dict[Path, Path] = {}
        for plan in self.planned.values():
            for other in plan.stage.inputs:
                source = plan.sources[other.name]
                if other.artifact.kind == kind and source.path is not None and plan.stage.name != stage.name:
                    given[source.path.resolve()] = source.path
        if given:
            return given
        for folder in folders:
            for entry in (manifest.read_record(folder) or {}).get("inputs", {}).values():
                if entry and entry.get("kind") == kind and (folder / entry["path"]).is_dir():
                    path = (folder / entry["path"]).resolve()
                    given[path] = relative_to_here(path)
        return given


def missing_sentence(stage: Stage, item: Input, folder: Path) -> str:
    """One sentence for an input that is not there: what, where, and the command that makes it."""
    what = f"{item.artifact.title} ({item.artifact.kind})"
    for name in item.artifact.made_by:
        if manifest.read_progress(folder / name) and manifest.read_record(folder / name) is None:
            return (
                f"{stage.name} needs {what} and {folder / name} is unfinished: "
                f"`python cli.py {name} --run {folder.name}` continues it."
            )
    commands = " or ".join(f"`python cli.py {name} --run {folder.name}`" for name in item.artifact.made_by)
    make = f"make it with {commands}, or name one" if commands else "name one"
    return f"{stage.name} needs {what} and {folder} has none: {make} with {item.option} PATH."


def stage_folders(folder: Path) -> list[Path]:
    """Folders of a run that a stage finished."""
    if not folder.is_dir():
        return []
    return sorted(entry for entry in folder.iterdir() if (entry / manifest.RECORD).is_file())


def _open_named(item: Input, setting: Setting) -> Artifact:
    try:
        return item.artifact.open(setting.value)
    except UserError as error:
        raise UserError(f"{item.name} ({setting.source}): {error}") from None


def _input_parameter(item: Input) -> Parameter:
    return Parameter(item.name, Path | None, None, item.artifact.title)


def _digests(stage: Stage, config: Any, settings: Mapping[str, Setting]) -> dict[str, str]:
    digests = {}
    for key in stage.parameters:
        value = settings[key.name].value
        if key.content and isinstance(value, tuple) and all(path.exists() for path in value):
            digests[key.name] = manifest.digest([manifest.content_digest(path) for path in value])
        elif key.content and isinstance(value, (str, Path)) and str(value) and Path(value).exists():
            digests[key.name] = manifest.content_digest(Path(value))
    if stage.depends is not None:
        digests |= dict(stage.depends(config))
    return digests
