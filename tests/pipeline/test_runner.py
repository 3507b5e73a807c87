"""Failures and interruptions: one sentence, the right exit code, nothing lost."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import manifest
from pipeline.errors import RunError
from pipeline.executor import SerialExecutor
from pipeline.graph import Planner
from pipeline.progress import Display
from pipeline.runner import execute, readable
from tests.pipeline.conftest import Shell
from tests.pipeline.toys import toys

Spawn = Callable[..., "subprocess.Popen[str]"]
STAGE = Path("outputs/demo/grind-pigment")


def wait_for(path: Path, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < until, f"{path} did not appear"
        time.sleep(0.01)


def test_the_record_tells_everything(shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo", "--parts", 2).code == 0
    record = json.loads((STAGE / "run.json").read_text("utf-8"))
    assert record["kind"] == "pigment"
    assert (record["schema"], record["stage"], record["stage_version"], record["seed"]) == (1, "grind-pigment", 1, 0)
    assert record["config"] == {"parts": 2, "hue": "red", "sieve": None, "seed": 0}
    assert record["figures"] == {"parts": 2}
    assert list(record["files"]) == ["part-0.bin", "part-1.bin"]
    assert record["files"]["part-0.bin"]["bytes"] == 600
    assert record["started"] <= record["finished"]
    assert record["seconds"] >= 0
    assert "numpy" in record["versions"]
    assert not (STAGE / "progress.json").exists()


def test_another_configuration_leaves_nothing_of_the_old_one(shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo", "--parts", 5).code == 0
    assert shell("grind-pigment", "--run", "demo", "--parts", 2).code == 0
    assert manifest.payload_names(STAGE) == ["part-0.bin", "part-1.bin"]


def test_a_stage_that_keeps_the_earlier_output_finds_it(shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo", "--parts", 5).code == 0
    stage = dataclasses.replace(toys().stage("grind-pigment"), keeps_earlier=True)
    display, executor = Display(quiet=True), SerialExecutor()
    execute(Planner(STAGE.parent).plan(stage, {"parts": "2"}), executor, display)
    assert len(manifest.payload_names(STAGE)) == 5, "emptied, as for a stage that does not replace its output itself"
    assert (manifest.read_record(STAGE) or {})["config"]["parts"] == 2
    execute(Planner(STAGE.parent).plan(stage, {"parts": "3"}, force=True), executor, display, force=True)
    assert len(manifest.payload_names(STAGE)) == 3


def test_killed_in_the_middle_it_continues_and_makes_nothing_twice(tmp_path: Path, shell: Shell, spawn: Spawn) -> None:
    process = spawn("grind-pigment", "--run", "demo", "--parts", 8, TOY_SECONDS="0.1")
    wait_for(tmp_path / STAGE / "part-2.bin")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / STAGE / "run.json").exists()
    assert "unfinished" in shell("status", "--run", "demo").out
    answer = shell("grind-pigment", "--run", "demo", "--parts", 8)
    assert answer.code == 0
    assert "grind-pigment: unfinished: continuing" in answer.err
    ground = Counter((tmp_path / STAGE / ".ground").read_text("utf-8").split())
    assert set(ground) == {str(index) for index in range(8)}
    assert sum(ground.values()) <= 9  # the kill may fall between a part and its line, never lose one
    assert shell("grind-pigment", "--run", "demo", "--parts", 8).out.startswith("grind-pigment: nothing to do")


def test_an_unfinished_folder_of_other_settings_is_emptied(shell: Shell, spawn: Spawn, tmp_path: Path) -> None:
    process = spawn("grind-pigment", "--run", "demo", "--parts", 8, TOY_SECONDS="0.1")
    wait_for(tmp_path / STAGE / "part-1.bin")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    answer = shell("grind-pigment", "--run", "demo", "--parts", 1, "--hue", "blue")
    assert "unfinished: starting over; parts: 8 -> 1; hue: red -> blue" in answer.err
    assert manifest.payload_names(tmp_path / STAGE) == ["part-0.bin"]


def test_killed_while_emptying_the_rest_is_not_continued(shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo", "--parts", 2).code == 0
    record = json.loads((STAGE / "run.json").read_text("utf-8"))
    manifest.write_json(STAGE / "progress.json", {**record, "emptying": True})
    (STAGE / "run.json").unlink()
    answer = shell("grind-pigment", "--run", "demo", "--parts", 2)
    assert "unfinished: starting over" in answer.err
    assert (STAGE / ".ground").read_text("utf-8").split() == ["0", "1"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_says_so_and_continues(tmp_path: Path, shell: Shell, spawn: Spawn, number: int) -> None:
    process = spawn("grind-pigment", "--run", "demo", "--parts", 8, TOY_SECONDS="0.1")
    wait_for(tmp_path / STAGE / "part-1.bin")
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert err.rstrip().endswith("Interrupted; the same command continues.")
    assert "Traceback" not in err
    assert shell("grind-pigment", "--run", "demo", "--parts", 8).err.startswith("grind-pigment: unfinished: continuing")


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path, spawn: Spawn) -> None:
    first = spawn("grind-pigment", "--run", "demo", "--parts", 20, TOY_SECONDS="0.1")
    wait_for(tmp_path / STAGE / "part-0.bin")
    second = spawn("grind-pigment", "--run", "demo", "--parts", 20)
    out, err = second.communicate(timeout=120)
    assert second.returncode == 2
    assert err.splitlines()[-1] == (
        f"Error: outputs/demo/grind-pigment is in use by another run (process {first.pid}): "
        "wait for it to end or stop it, then try again."
    )
    out, err = first.communicate(timeout=120)
    assert first.returncode == 0
    assert out.startswith("grind-pigment: done")


def test_a_full_disk_is_one_sentence_and_continues(tmp_path: Path, shell: Shell, spawn: Spawn) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))"
    process = spawn("grind-pigment", "--run", "demo", prelude=limit, TOY_DEED="fill")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.splitlines()[-1] == (
        "Error: disk full while grind-pigment was writing outputs/demo/grind-pigment ([Errno 27] File too large): "
        "free some space, then run the same command again, it continues."
    )
    assert "Traceback" not in err
    assert not (tmp_path / STAGE / "run.json").exists()
    assert shell("grind-pigment", "--run", "demo").err.startswith("grind-pigment: unfinished: continuing")


def test_a_disk_full_at_the_very_end_leaves_no_record(tmp_path: Path, shell: Shell, spawn: Spawn) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))"
    process = spawn("grind-pigment", "--run", "demo", prelude=limit)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "disk full" in err
    assert not (tmp_path / STAGE / "run.json").exists()
    assert manifest.payload_names(tmp_path / STAGE) == ["part-0.bin", "part-1.bin", "part-2.bin"]
    assert shell("grind-pigment", "--run", "demo").code == 0


def test_an_unexpected_error_leaves_its_traceback_in_the_folder(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_DEED", "crash")
    answer = shell("grind-pigment", "--run", "demo")
    assert answer.code == 1
    assert answer.err.splitlines()[-1] == (
        "Error: grind-pigment failed (ZeroDivisionError: the mill is broken); "
        "the traceback is in outputs/demo/grind-pigment/error.log."
    )
    assert "Traceback" not in answer.err
    log = (STAGE / "error.log").read_text("utf-8")
    assert "in grind" in log
    assert "ZeroDivisionError" in log
    monkeypatch.setenv("GANFOUNDRY_DEBUG", "1")
    assert "Traceback" in shell("grind-pigment", "--run", "demo").err
    monkeypatch.delenv("TOY_DEED")
    monkeypatch.delenv("GANFOUNDRY_DEBUG")
    assert shell("grind-pigment", "--run", "demo").code == 0
    assert not (STAGE / "error.log").exists()


def test_a_refusal_of_the_stage_keeps_its_sentence_and_code(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_DEED", "refuse")
    answer = shell("grind-pigment", "--run", "demo")
    assert (answer.code, answer.err.splitlines()[-1]) == (2, "Error: stone.png is not a stone: give another.")
    monkeypatch.setenv("TOY_DEED", "memory")
    answer = shell("grind-pigment", "--run", "demo")
    assert answer.code == 1
    assert "not enough memory for grind-pigment: use fewer --workers" in answer.err


def test_errors_of_other_packages_count_by_their_attribute(tmp_path: Path) -> None:
    class LibraryError(ValueError):
        exit_code = 2

    error = LibraryError("codes.json: not JSON.")
    assert readable(error, tmp_path, "s") is error
    wrapped = RuntimeError("Unable to write")
    wrapped.__cause__ = OSError(28, "No space left on device")
    assert isinstance(readable(wrapped, tmp_path, "s"), RunError)
    assert "disk full" in str(readable(wrapped, tmp_path, "s"))
    assert not (tmp_path / "error.log").exists()
    foreign = Exception("Error while serializing: I/O error: No space left on device (os error 28)")  # safetensors'
    assert "disk full" in str(readable(foreign, tmp_path, "s"))


def test_a_folder_that_cannot_be_written(tmp_path: Path, shell: Shell) -> None:
    (tmp_path / "outputs").write_text("a file", "utf-8")
    answer = shell("grind-pigment")
    assert answer.code == 2
    assert "choose another folder with --outputs" in answer.err
    for number, text in ((errno.EACCES, "permission denied"), (errno.EROFS, "read-only file system")):
        sentence = readable(OSError(number, os.strerror(number), "/x/y"), tmp_path, "s")
        assert (getattr(sentence, "exit_code", 0), str(sentence)[: 6 + len(text)]) == (2, f"/x/y: {text}")


def test_verify_makes_exactly_the_damaged_part_again(shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo").code == 0
    part = STAGE / "part-1.bin"
    good = part.read_bytes()
    part.write_bytes(good[:-1] + b"#")
    assert "nothing to do" in shell("grind-pigment", "--run", "demo").out
    answer = shell("grind-pigment", "--run", "demo", "--verify")
    assert "output file part-1.bin damaged (sha256 differs)" in answer.err
    assert part.read_bytes() == good


def test_force_makes_everything_again(shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo").code == 0
    before = (STAGE / "run.json").stat().st_mtime_ns
    answer = shell("grind-pigment", "--run", "demo", "--force")
    assert answer.err.startswith("grind-pigment: --force")
    assert (STAGE / "run.json").stat().st_mtime_ns > before


def test_a_reader_keeps_its_input_from_being_remade(shell: Shell) -> None:
    assert shell("grind-pigment", "--run", "demo").code == 0
    with manifest.locked(STAGE, shared=True):
        answer = shell("grind-pigment", "--run", "demo", "--parts", 1)
        assert answer.code == 2
        assert "in use by another run" in answer.err
        assert shell("paint", "--run", "demo").code == 0
