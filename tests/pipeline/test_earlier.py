"""A finished output is not lost to a later run that is refused, interrupted or given up."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import earlier, manifest
from tests.pipeline.conftest import Shell
from tests.pipeline.test_runner import Spawn, wait_for

STAGE = Path("outputs/demo/grind-pigment")


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder but the lock and torn writes."""
    files = (
        path for path in folder.rglob("*") if path.is_file() and not path.name.startswith((manifest.LOCK, ".tmp-"))
    )
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def made(shell: Shell) -> dict[str, bytes]:
    """Content of the finished folder, three red parts."""
    assert shell("grind-pigment", "--run", "demo").code == 0
    return content(STAGE)


def test_a_refused_run_leaves_the_earlier_output(
    shell: Shell, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_DEED", "refuse")
    answer = shell("grind-pigment", "--run", "demo", "--hue", "blue")
    assert answer.code == 2
    assert content(STAGE) == made
    assert shell("paint", "--run", "demo").code == 0, "another stage still reads it"
    assert "nothing to do" in shell("grind-pigment", "--run", "demo").out


def test_a_refused_continuation_leaves_the_earlier_output(
    shell: Shell, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged output that is to be mended stays unfinished; one that is whole stays finished."""
    monkeypatch.setattr("pipeline.plan._goes_on", lambda record, plan: True)
    monkeypatch.setenv("TOY_DEED", "refuse")
    assert shell("grind-pigment", "--run", "demo", "--hue", "blue").code == 2
    assert content(STAGE) == made
    (STAGE / "part-1.bin").write_bytes(b"short")
    assert shell("grind-pigment", "--run", "demo").code == 2
    assert not (STAGE / "run.json").exists()


def test_an_interrupted_run_keeps_the_earlier_output_for_its_own_settings(
    tmp_path: Path, shell: Shell, spawn: Spawn, made: dict[str, bytes]
) -> None:
    process = spawn("grind-pigment", "--run", "demo", "--hue", "blue", TOY_SECONDS="0.2")
    wait_for(tmp_path / STAGE / earlier.FOLDER / "run.json")
    wait_for(tmp_path / STAGE / "part-0.bin")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert shell("grind-pigment", "--run", "demo", "--hue", "blue", "-n").out.count("unfinished: continuing") == 1
    assert "the earlier output comes back" in shell("grind-pigment", "--run", "demo", "-n").out
    assert "nothing to do" in shell("grind-pigment", "--run", "demo").out
    assert content(STAGE) == made


def test_a_finished_run_removes_the_earlier_output(
    shell: Shell, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_DEED", "crash")
    assert shell("grind-pigment", "--run", "demo", "--hue", "blue").code == 1
    assert (STAGE / earlier.FOLDER / "run.json").exists()
    monkeypatch.delenv("TOY_DEED")
    assert "unfinished: continuing" in shell("grind-pigment", "--run", "demo", "--hue", "blue").err
    assert not (STAGE / earlier.FOLDER).exists()
    assert (STAGE / "part-0.bin").read_bytes().startswith(b"blue")


def test_work_of_the_refused_run_is_kept_where_there_is_any(
    shell: Shell, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_DEED", "crash")
    shell("grind-pigment", "--run", "demo", "--hue", "blue")
    (STAGE / "part-0.bin").write_bytes(b"hours of work")
    (STAGE / "error.log").unlink()
    monkeypatch.setenv("TOY_DEED", "refuse")
    assert shell("grind-pigment", "--run", "demo", "--hue", "blue").code == 2
    assert (STAGE / "part-0.bin").read_bytes() == b"hours of work"
    assert content(STAGE / earlier.FOLDER) == made


def test_force_gives_the_earlier_output_up(
    shell: Shell, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOY_DEED", "refuse")
    assert shell("grind-pigment", "--run", "demo", "--hue", "blue", "--force").code == 2
    assert set(content(STAGE)) == {"progress.json"}


def test_a_full_disk_says_where_the_earlier_output_is(tmp_path: Path, shell: Shell, spawn: Spawn) -> None:
    assert shell("grind-pigment", "--run", "demo").code == 0
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))"
    process = spawn("grind-pigment", "--run", "demo", "--hue", "blue", prelude=limit, TOY_DEED="fill")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "grind-pigment/.earlier holds the earlier output; --force starts over without it" in err


class Killed(BaseException):
    """The process ends here."""


def deaths(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Patches under which one rename, deletion or folder after the other is the last that a process gets to do."""
    for last in range(40):
        calls = 0

        def dying(real, last=last):  # type: ignore[no-untyped-def]
            def call(*arguments, **options):  # type: ignore[no-untyped-def]
                nonlocal calls
                calls += 1
                if calls > last:
                    raise Killed
                return real(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for module, name in ((os, "replace"), (os, "rmdir"), (Path, "unlink"), (Path, "rmdir"), (Path, "mkdir")):
                patch.setattr(module, name, dying(getattr(module, name)))
            yield patch
        if calls <= last:
            return
    raise AssertionError("more steps than expected")


@pytest.mark.parametrize("deed", ["refuse", "crash", ""])
def test_whenever_it_is_killed_the_earlier_output_is_not_lost(
    shell: Shell, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    """Unless the new output is whole."""
    died = 0
    for patch in deaths(monkeypatch):
        patch.setenv("TOY_DEED", deed)
        try:
            shell("grind-pigment", "--run", "demo", "--hue", "blue")
        except Killed:
            died += 1
        patch.undo()
        if deed == "" and (manifest.read_record(STAGE) or {}).get("config", {}).get("hue") == "blue":
            assert "nothing to do" in shell("grind-pigment", "--run", "demo", "--hue", "blue").out
            shell("grind-pigment", "--run", "demo", "--force")
            made = content(STAGE)
            continue
        assert shell("grind-pigment", "--run", "demo").code == 0
        found = content(STAGE)
        found.pop("progress.json", None)  # beside run.json it means nothing
        assert found == made
        assert not (STAGE / earlier.FOLDER).exists()
    assert died > 5
