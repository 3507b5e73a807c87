"""synthesize under kill -9 of a worker, the scheduler, the driver: real processes, nothing lost, same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from ganfoundry.data.integrity import sha256_file
from ganfoundry.data.manifest import load_plan, load_records, shard_path
from pipeline.artifacts import Gan
from tests.stages.labelhelp import shades_gan, shades_interpreter, shades_labels

ROOT = Path(__file__).resolve().parents[2]
ROWS, ROWS_PER_SHARD = 120, 2
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
PATIENCE = 240  # seconds, on a busy machine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Gan, Path]:
    folder = tmp_path_factory.mktemp("sources")
    gan = shades_gan(folder / "gan")
    shades_interpreter(folder / "interpreter", gan, shades_labels(folder / "labels", gan), folds=0)
    return gan, folder / "interpreter"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, sources: tuple[Gan, Path]) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    folder = tmp_path_factory.mktemp("whole")
    assert end(start(folder, sources)) == (0, "")
    return contents(folder)


def start(outputs: Path, sources: tuple[Gan, Path], *options: str) -> "subprocess.Popen[str]":
    """The command, in a process group of its own."""
    command = [sys.executable, "cli.py", "synthesize", "--outputs", str(outputs), "--run", "r", "--quiet"]
    command += ["--gan", str(sources[0].path), "--interpreter", str(sources[1])]
    command += ["--num-samples", str(ROWS), "--rows-per-shard", str(ROWS_PER_SHARD), *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def end(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Exit code and what it complained about."""
    message = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, message


def contents(outputs: Path) -> dict[str, bytes]:
    """Every file that belongs to the set, except the record, which tells the time."""
    folder = outputs / "r" / "synthesize"
    files = [*(folder / "shards").glob("[!.]*"), folder / "selection.json", folder / "labels.json"]
    return {path.name: path.read_bytes() for path in files}


def acknowledged(outputs: Path) -> dict[int, tuple[str, int]]:
    """Digest and time of writing of every shard that the manifest lists, by number."""
    folder = outputs / "r" / "synthesize" / "shards"
    plan = load_plan(folder) if folder.is_dir() else None
    records = load_records(folder, plan) if plan else {}
    return {index: (record.sha256, shard_path(folder, index).stat().st_mtime_ns) for index, record in records.items()}


def wait_for(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"it ended first: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def check_nothing_lost(outputs: Path, before: dict[int, tuple[str, int]]) -> None:
    """Whatever was acknowledged is there, as it was."""
    folder = outputs / "r" / "synthesize" / "shards"
    for index, (digest, written) in before.items():
        assert sha256_file(shard_path(folder, index)) == digest
        assert shard_path(folder, index).stat().st_mtime_ns == written, f"shard {index} was made again"


def continue_and_compare(
    outputs: Path, sources: tuple[Gan, Path], whole: dict[str, bytes], before: dict[int, tuple[str, int]]
) -> None:
    check_nothing_lost(outputs, before)
    assert end(start(outputs, sources)) == (0, "")
    check_nothing_lost(outputs, before)
    assert contents(outputs) == whole


def children(pid: int) -> list[int]:
    """Processes below one, the deepest last."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, task.read_text().split()):
                found += [child, *children(child)]
    return found


def is_worker(pid: int) -> bool:
    """Whether a process has the generator's library open: a dask worker that has labelled rows."""
    with suppress(OSError):
        return "libtorch_cpu" in Path(f"/proc/{pid}/maps").read_text()
    return False


@pytest.fixture
def reaped() -> Iterator[list["subprocess.Popen[str]"]]:
    """Processes to be ended, with their groups, whatever happens."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_a_killed_driver(
    tmp_path: Path, sources: tuple[Gan, Path], whole: dict[str, bytes], reaped: list["subprocess.Popen[str]"]
) -> None:
    process = start(tmp_path, sources, "--workers", "2")
    reaped.append(process)
    wait_for(lambda: len(acknowledged(tmp_path)) >= 3, process)
    process.kill()  # the driver alone: its workers find out by themselves
    process.wait()
    before = acknowledged(tmp_path)
    assert 3 <= len(before) < ROWS // ROWS_PER_SHARD
    continue_and_compare(tmp_path, sources, whole, before)


def test_a_killed_worker_is_replaced_and_costs_nothing(
    tmp_path: Path, sources: tuple[Gan, Path], whole: dict[str, bytes], reaped: list["subprocess.Popen[str]"]
) -> None:
    process = start(tmp_path, sources, "--workers", "2")
    reaped.append(process)
    wait_for(lambda: len(acknowledged(tmp_path)) >= 2, process)
    workers = [pid for pid in children(process.pid) if is_worker(pid)]
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    before = acknowledged(tmp_path)
    assert end(process) == (0, "")
    assert len(before) < ROWS // ROWS_PER_SHARD
    check_nothing_lost(tmp_path, before)
    assert contents(tmp_path) == whole


def test_a_killed_scheduler(
    tmp_path: Path, sources: tuple[Gan, Path], whole: dict[str, bytes], reaped: list["subprocess.Popen[str]"]
) -> None:
    place = tmp_path / "scheduler.json"
    python = [sys.executable, "-m"]
    quiet = {"env": ENVIRONMENT, "start_new_session": True, "stderr": subprocess.DEVNULL, "text": True}
    scheduler_code = [*python, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen([*scheduler_code, "--no-dashboard", "--scheduler-file", str(place)], **quiet)  # type: ignore[call-overload]
    reaped.append(scheduler)
    wait_for(place.exists, scheduler)
    worker_code = [*python, "distributed.cli.dask_worker", "--scheduler-file", str(place), "--nthreads", "1"]
    worker_code += ["--no-dashboard", "--memory-limit", "0", "--local-directory", str(tmp_path / "scratch")]
    reaped.append(subprocess.Popen(worker_code, cwd=ROOT, **quiet))  # type: ignore[call-overload]
    process = start(tmp_path, sources, "--scheduler", json.loads(place.read_text())["address"])
    reaped.append(process)
    wait_for(lambda: len(acknowledged(tmp_path)) >= 2, process)
    scheduler.kill()
    code, message = end(process)
    assert code == 1
    assert "the dask scheduler was lost; run the same command again to go on" in message
    assert "Traceback" not in message
    before = acknowledged(tmp_path)
    assert 2 <= len(before) < ROWS // ROWS_PER_SHARD
    continue_and_compare(tmp_path, sources, whole, before)
