"""A stage with everything decided: whether it runs, and why."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pipeline import earlier, manifest
from pipeline.artifacts import Artifact
from pipeline.config import Setting
from pipeline.errors import UserError
from pipeline.stage import Stage
from pipeline.values import shown, to_json

Action = Literal["skip", "run", "continue"]


@dataclass(frozen=True)
class Source:
    """Where an input comes from.

    Attributes
    ----------
    path
        Its folder, None for an optional input that is absent.
    fingerprint
        Of the artifact that lies there, or that will once the stage before has run.
    origin
        How it was chosen, in words.
    ready
        Whether it exists already.
    """

    path: Path | None
    fingerprint: str | None
    origin: str
    ready: bool = True


@dataclass(frozen=True)
class Plan:
    """A stage with everything decided."""

    stage: Stage
    folder: Path
    config: Any
    settings: Mapping[str, Setting]
    sources: Mapping[str, Source]
    digests: Mapping[str, str]
    fingerprint: str
    action: Action = "run"
    reasons: tuple[str, ...] = ()
    kept: bool = field(default=False)  # the folder's content is continued, not emptied

    @property
    def config_json(self) -> dict[str, Any]:
        """Settings as they go into run.json."""
        return {key.name: to_json(self.settings[key.name].value) for key in self.stage.parameters}


NO_DIFFERENCE = ("made from something else",)  # none that the record tells


def decide(plan: Plan, *, force: bool = False, verify: bool = False) -> Plan:
    """The plan with its action and the reasons, from what lies in the folder now.

    Raises
    ------
    UserError
        The folder holds files that no stage wrote, or edits by hand that a new run would overwrite.
    """
    record, progress = manifest.read_record(plan.folder), manifest.read_progress(plan.folder)
    if record is not None and record.get("stage") == plan.stage.name:
        return _decide_finished(plan, record, force=force, verify=verify)
    if progress is not None:
        return _decide_unfinished(plan, progress, force=force)
    if record is None and (plan.folder / manifest.RECORD).exists():
        return replace(plan, reasons=(f"{manifest.RECORD} is damaged: starting over",))
    foreign = manifest.payload_names(plan.folder) if plan.folder.is_dir() else []
    if foreign and not force:
        raise UserError(
            f"{plan.folder} holds files that {plan.stage.name} did not write ({foreign[0]}): "
            f"choose another folder with {plan.stage.folder_option}, or pass --force to empty it."
        )
    return replace(plan, reasons=("not made yet",))


def _decide_unfinished(plan: Plan, progress: Mapping[str, Any], *, force: bool) -> Plan:
    if force:
        return replace(plan, reasons=("--force",))
    if (earlier.read_record(plan.folder) or {}).get("fingerprint") == plan.fingerprint:
        return replace(plan, reasons=("unfinished: the earlier output comes back",))
    if progress.get("emptying"):
        return replace(plan, reasons=("unfinished: starting over",))
    if progress.get("fingerprint") == plan.fingerprint:
        after = f" after {progress['reached']}" if progress.get("reached") else ""
        return replace(plan, action="continue", reasons=(f"unfinished: continuing{after}",), kept=True)
    if _goes_on(progress, plan):
        return replace(
            plan, action="continue", reasons=("unfinished: continuing", *differences(progress, plan)), kept=True
        )
    return replace(plan, reasons=("unfinished: starting over", *differences(progress, plan)))


def _decide_finished(plan: Plan, record: Mapping[str, Any], *, force: bool, verify: bool) -> Plan:
    if record.get("fingerprint") == plan.fingerprint and not force:
        damaged = manifest.damaged_files(plan.folder, record, verify=verify)
        if damaged:
            more = (f"and {len(damaged) - 3} more",) if len(damaged) > 3 else ()
            return replace(plan, action="continue", reasons=(*damaged[:3], *more), kept=True)
        return replace(plan, action="skip", reasons=("done",))
    edited = manifest.edited_files(plan.folder, record)
    if edited and not force:
        raise UserError(
            f"{plan.folder} holds edits by hand ({edited[0]}) and {plan.stage.name} would run again "
            f"({'; '.join(differences(record, plan))}): copy the folder elsewhere, or pass --force to lose them."
        )
    if _goes_on(record, plan) and not force:
        return replace(plan, action="continue", reasons=differences(record, plan), kept=True)
    return replace(plan, reasons=("--force",) if force else differences(record, plan))


def _goes_on(record: Mapping[str, Any], plan: Plan) -> bool:
    """Whether what a record describes differs from the plan in settings only that may change on the way."""
    old, new = record.get("config", {}), plan.config_json
    resuming = {key.name for key in plan.stage.parameters if key.resumes}
    changed = {name for name in old.keys() | new.keys() if name not in old or name not in new or old[name] != new[name]}
    if not changed or not changed <= resuming:
        return False
    same = {**record, "config": new}
    return differences(same, plan) == NO_DIFFERENCE


def differences(record: Mapping[str, Any], plan: Plan) -> tuple[str, ...]:
    """Why what a record describes is not what the plan would make."""
    reasons = []
    if record.get("stage_version") != plan.stage.version:
        reasons.append(f"stage version {record.get('stage_version')} -> {plan.stage.version}")
    old, new = record.get("config", {}), plan.config_json
    reasons += [
        f"{name}: {shown(old[name])} -> {shown(new[name])}" for name in new if name in old and old[name] != new[name]
    ]
    reasons += [f"{name}: new setting ({shown(new[name])})" for name in new if name not in old]
    reasons += [f"{name}: no longer a setting" for name in old if name not in new]
    old_digests = record.get("digests", {})
    reasons += [
        f"{name} changed"
        for name, value in plan.digests.items()
        if old_digests.get(name) != value and old.get(name) == new.get(name)
    ]
    for name, source in plan.sources.items():
        reasons += _input_difference(name, record.get("inputs", {}).get(name), source, plan)
    return tuple(reasons) or NO_DIFFERENCE


def _input_difference(name: str, entry: Mapping[str, Any] | None, source: Source, plan: Plan) -> list[str]:
    old = entry.get("fingerprint") if entry else None
    if old == source.fingerprint:
        return []
    if source.path is None:
        return [f"input {name} is gone"]
    if entry is None:
        return [f"input {name} is new: {relative_to_here(source.path)}"]
    before = (plan.folder / entry["path"]).resolve()
    if before != source.path.resolve():
        return [f"input {name}: {relative_to_here(before)} -> {relative_to_here(source.path)}"]
    if not source.ready:
        return [f"input {name} will change: {source.path.name} runs again"]
    artifact = Artifact(source.path)
    if artifact.edited:
        return [f"input {name} changed: {artifact.edited[0]} edited by hand"]
    maker = artifact.record.get("stage")
    return [f"input {name} changed: {_past_tense(maker)}" if maker else f"input {name} changed: edited"]


def _past_tense(stage: str) -> str:
    """What it is called when a stage has run again."""
    return "trained again" if stage.startswith("train-") else "made again"


def relative_to_here(path: Path) -> Path:
    """The path relative to the working folder when it lies inside it."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path
