"""Runs a planned stage: lock, folder, function, record. A folder ends up finished or can be continued."""

import errno
import os
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import earlier, manifest
from pipeline.artifacts import Artifact, Writer
from pipeline.errors import RunError, UserError, exit_code_of, is_disk_full
from pipeline.executor import Executor
from pipeline.plan import Action, Plan, decide
from pipeline.progress import Display
from pipeline.stage import Context
from pipeline.tracking import Tracker

FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


@dataclass(frozen=True)
class Outcome:
    """What became of a stage."""

    stage: str
    folder: Path
    action: Action
    reasons: tuple[str, ...]
    opens: Path  # the file to look at first, or the folder
    seconds: float = 0.0
    figures: Mapping[str, float | int | str] = field(default_factory=dict)


def execute(plan: Plan, executor: Executor, display: Display, *, force: bool = False, verify: bool = False) -> Outcome:
    """Run the stage unless it is done.

    Raises
    ------
    UserError
        The folder is in use, or the stage refuses its input.
    RunError
        The stage failed; for an unexpected exception the traceback is in the folder's error.log.
    """
    if plan.action == "skip" and not (plan.folder / earlier.FOLDER).exists():
        return _skipped(plan)
    _make_folder(plan)
    try:
        with ExitStack() as stack:
            stack.enter_context(manifest.locked(plan.folder))
            for source in plan.sources.values():
                if source.path is not None:
                    stack.enter_context(manifest.locked(source.path, shared=True))
            earlier.settle(plan.folder)
            if not force and (earlier.read_record(plan.folder) or {}).get("fingerprint") == plan.fingerprint:
                earlier.bring_back(plan.folder)
            plan = decide(plan, force=force, verify=verify)  # another run may have finished it meanwhile
            if plan.action == "skip":
                return _skipped(plan)
            return _run(plan, executor, display, force=force, verify=verify)
    except Exception as error:
        sentence = readable(error, plan.folder, plan.stage.name)
        if sentence is error:
            raise
        raise sentence from error


def _make_folder(plan: Plan) -> None:
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_disk_full(error):
            raise
        why = error.strerror.lower() if error.strerror else "cannot be made"
        raise UserError(f"{plan.folder}: {why}; choose another folder with {plan.stage.folder_option}.") from None


def _skipped(plan: Plan) -> Outcome:
    record = manifest.read_record(plan.folder) or {}
    return Outcome(plan.stage.name, plan.folder, "skip", plan.reasons, _opens(plan), figures=record.get("figures", {}))


def _opens(plan: Plan) -> Path:
    main = plan.stage.output.main
    return plan.folder / main if main and (plan.folder / main).exists() else plan.folder


def _run(plan: Plan, executor: Executor, display: Display, *, force: bool, verify: bool) -> Outcome:
    started, clock = datetime.now(UTC), time.perf_counter()
    before = None if force else manifest.read_record(plan.folder)
    _prepare(plan, started, force=force)
    context = Context(
        executor=executor,
        tracker=Tracker(plan.folder / manifest.TRACK),
        verify=verify,
        quiet=display.quiet,
        display=display,
    )
    inputs = {
        item.name: None if (path := plan.sources[item.name].path) is None else item.artifact.open(path)
        for item in plan.stage.inputs
    }
    out: Writer[Artifact] = Writer(plan.folder, plan.fingerprint)
    try:
        plan.stage.call(plan.config, inputs, out, context)
    except Exception as error:
        if exit_code_of(error) == UserError.exit_code:
            with suppress(OSError):  # the next run carries it through
                _undo(plan.folder, before)
        raise
    seconds = time.perf_counter() - clock
    manifest.write_json(plan.folder / manifest.RECORD, _record(plan, out, started, seconds))
    (plan.folder / manifest.PROGRESS).unlink(missing_ok=True)
    earlier.forget(plan.folder)
    return Outcome(plan.stage.name, plan.folder, plan.action, plan.reasons, _opens(plan), seconds, out.figures)


def _undo(folder: Path, before: Mapping[str, Any] | None) -> None:
    """Leave the folder of a stage that refuses as it was before, where that was a finished output."""
    if earlier.read_record(folder) is not None:
        if earlier.nothing_made(folder):
            earlier.bring_back(folder)
    elif before is not None and earlier.untouched(folder, before):
        manifest.write_json(folder / manifest.RECORD, before)
        (folder / manifest.PROGRESS).unlink(missing_ok=True)


def _prepare(plan: Plan, started: datetime, *, force: bool) -> None:
    """Make the folder ready: its content kept, put away or removed; write down what it is to become."""
    progress = {**_made_of(plan), "started": started.isoformat(timespec="seconds")}
    manifest.remove_torn_writes(plan.folder)
    path = plan.folder / manifest.PROGRESS
    if force or not (plan.kept or plan.stage.keeps_earlier):
        manifest.write_json(path, {**progress, "emptying": True})
        if not force and manifest.read_record(plan.folder) is not None:
            earlier.put_away(plan.folder)
        manifest.empty_folder(plan.folder, keep=() if force else (earlier.FOLDER,))
    manifest.write_json(path, progress)
    (plan.folder / manifest.RECORD).unlink(missing_ok=True)
    (plan.folder / manifest.ERROR_LOG).unlink(missing_ok=True)


def _made_of(plan: Plan) -> dict[str, Any]:
    """What the result of a stage follows from."""
    return {
        "stage": plan.stage.name,
        "stage_version": plan.stage.version,
        "fingerprint": plan.fingerprint,
        "config": plan.config_json,
        "digests": dict(plan.digests),
        "inputs": _inputs(plan),
    }


def _inputs(plan: Plan) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for item in plan.stage.inputs:
        source = plan.sources[item.name]
        entries[item.name] = source.path and {
            "kind": item.artifact.kind,
            "path": Path(os.path.relpath(source.path.resolve(), plan.folder.resolve())).as_posix(),
            "fingerprint": source.fingerprint,
        }
    return entries


def _record(plan: Plan, out: Writer[Artifact], started: datetime, seconds: float) -> dict[str, Any]:
    return {
        "kind": plan.stage.output.kind,
        "schema": plan.stage.output.schema,
        **_made_of(plan),
        "seed": plan.config_json.get("seed"),
        "versions": manifest.package_versions(),
        "commit": manifest.git_commit(),
        "figures": out.figures,
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        "continued": plan.kept,
        "files": manifest.payload_listing(plan.folder),
    }


def readable(error: Exception, folder: Path, stage: str) -> Exception:
    """The error as one sentence for a user; errors that already are one, and all while debugging, stay as they are."""
    if exit_code_of(error) is not None or os.environ.get("GANFOUNDRY_DEBUG"):
        return error
    again = "then run the same command again, it continues"
    if is_disk_full(error):
        room = ""
        if earlier.read_record(folder) is not None:
            room = f" ({folder / earlier.FOLDER} holds the earlier output; --force starts over without it)"
        return RunError(f"disk full while {stage} was writing {folder} ({error}): free some space{room}, {again}.")
    if isinstance(error, MemoryError):
        return RunError(f"not enough memory for {stage}: use fewer --workers or smaller settings, {again}.")
    if isinstance(error, OSError) and error.errno in FORBIDDEN:
        why = os.strerror(error.errno).lower()
        return UserError(f"{error.filename or folder}: {why}; choose another folder with --outputs.")
    text = "".join(traceback.format_exception(error))
    with suppress(OSError):
        (folder / manifest.ERROR_LOG).write_text(text, "utf-8")
        return RunError(f"{stage} failed ({_brief(error)}); the traceback is in {folder / manifest.ERROR_LOG}.")
    return RunError(f"{stage} failed ({_brief(error)}); GANFOUNDRY_DEBUG=1 shows the traceback.")


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
