"""Serial and dask executors; worker processes are real and really killed."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from pipeline import executor as executor_module
from pipeline.errors import RunError, UserError
from pipeline.executor import DaskExecutor, SerialExecutor, make_executor

ROOT = Path(__file__).parents[2]


def square(number):
    return number * number


def describe_worker(_):
    return os.getpid(), os.environ["OMP_NUM_THREADS"]


def fail_on_three(number):
    if number == 3:
        raise UserError("three is refused.")
    return number


def time_out(number):
    raise TimeoutError("the disk sleeps")


def die_once(task):
    folder, number = task
    if number == 2:
        try:
            (Path(folder) / "died").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        except FileExistsError:
            pass
    return number


def always_die(number):
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def write_rows(task):
    import numpy as np

    from ganfoundry.data.seeds import WORLD, sample_rng
    from ganfoundry.data.shards import write_shard

    folder, shard, deadly = task
    if deadly and not (Path(folder).parent / "died").exists():
        (Path(folder).parent / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    images = [sample_rng(5, WORLD, row).integers(0, 256, (8, 8, 3), np.uint8) for row in shard.rows]
    return write_shard(folder, shard.index, {"image": np.stack(images)}, shard.first)


@pytest.fixture(scope="module")
def two_workers():
    executor = make_executor(2)
    yield executor
    executor.close()
    executor.close()


def make_shards(folder, executor, deadly=None):
    from ganfoundry.data.shards import ShardFolder

    with ShardFolder(folder, 40, 5, "key") as shards:
        tasks = [(folder, task, task.index == deadly) for task in shards.pending()]
        for _, receipt in executor.map(write_rows, tasks, "writing"):
            shards.acknowledge(receipt)
        shards.finish()
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def test_serial_is_lazy_and_in_order():
    done = []
    results = SerialExecutor().map(done.append, [4, 5, 6], "x")
    assert done == []
    assert next(results) == (0, None)
    assert done == [4]
    assert [position for position, _ in results] == [1, 2]


def test_one_worker_is_serial_and_imports_no_dask():
    code = "from pipeline.executor import make_executor; import sys; list(make_executor(1).map(abs, [1], 'x')); "
    code += "sys.exit(any(name in sys.modules for name in ('dask', 'distributed')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(("arguments", "option"), [((2,), "--workers"), ((1, "tcp://x:1"), "--scheduler")])
def test_absent_dask_is_one_sentence(monkeypatch, arguments, option):
    monkeypatch.setattr(executor_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=f'^{option} needs dask, .* pip install "dask') as caught:
        make_executor(*arguments)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("address", ["nonsense", "localhost:8786", "tcp://host", "http://host:8786", ""])
def test_what_is_no_address_is_refused_at_once(address):
    with pytest.raises(UserError, match="is no address: give it as tcp://HOST:PORT"):
        make_executor(1, address)


def test_unreachable_scheduler_is_one_sentence(monkeypatch):
    monkeypatch.setattr(executor_module, "CONNECT_SECONDS", 0.5)
    with pytest.raises(UserError, match=r"^no dask scheduler answers at tcp://127.0.0.1:9 .*--scheduler\.$"):
        list(make_executor(1, "tcp://127.0.0.1:9").map(square, [1], "x"))


def test_all_results_once_whatever_the_order(two_workers):
    assert sorted(two_workers.map(square, range(20), "x")) == [(number, number * number) for number in range(20)]
    assert list(two_workers.map(square, [], "x")) == []


def test_workers_have_one_thread_and_leave_our_environment_alone(two_workers):
    before = dict(os.environ)
    workers = {result for _, result in two_workers.map(describe_worker, range(20), "x")}
    assert {threads for _, threads in workers} == {"1"}
    assert os.getpid() not in {pid for pid, _ in workers}
    assert dict(os.environ) == before


def test_exception_of_a_task_arrives_with_its_exit_code(two_workers):
    with pytest.raises(UserError, match=r"^three is refused\.$") as caught:
        list(two_workers.map(fail_on_three, range(8), "x"))
    assert caught.value.exit_code == 2
    assert sorted(two_workers.map(square, range(4), "x"))[3] == (3, 9)  # still usable


def listening_ports(pid):
    """Addresses on which a process listens, as /proc/net/tcp writes them."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            sockets.add(os.readlink(descriptor))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in sockets]


def test_nothing_listens_beyond_this_machine(two_workers):
    workers = {pid for _, (pid, _) in two_workers.map(describe_worker, range(20), "x")}
    addresses = [address for pid in {os.getpid(), *workers} for address in listening_ports(pid)]
    assert addresses
    assert {address.split(":")[0] for address in addresses} == {"0100007F"}


def test_stopping_early_drops_the_rest(two_workers):
    results = two_workers.map(square, range(30), "x")
    next(results)
    results.close()
    assert sorted(two_workers.map(square, range(3), "x")) == [(0, 0), (1, 1), (2, 4)]


def test_scheduler_address(two_workers):
    list(two_workers.map(square, [1], "x"))
    guest = DaskExecutor(1, two_workers._cluster.scheduler_address)
    assert sorted(guest.map(square, range(5), "x"))[4] == (4, 16)
    guest.close()
    assert list(two_workers.map(square, [3], "x")) == [(0, 9)]  # the scheduler goes on


def test_killed_worker_costs_nothing(two_workers, tmp_path):
    tasks = [(str(tmp_path), number) for number in range(8)]
    assert sorted(two_workers.map(die_once, tasks, "x")) == [(number, number) for number in range(8)]
    assert (tmp_path / "died").exists()


def test_a_result_that_died_with_its_worker_and_does_not_come_back_is_made_again(two_workers, monkeypatch):
    """dask makes lost results again, but has been seen to wait for one for ever."""
    import distributed

    fetch, lost = distributed.Future.result, []

    def result(future, timeout=None):
        assert timeout == executor_module.RESULT_SECONDS
        if len(lost) < 2:
            lost.append(future.key)
            raise TimeoutError
        return fetch(future, timeout)

    monkeypatch.setattr(distributed.Future, "result", result)
    assert sorted(two_workers.map(square, range(5), "x")) == [(n, n * n) for n in range(5)]
    assert len(lost) == 2


def test_a_task_that_times_out_itself_is_not_tried_for_ever(two_workers):
    with pytest.raises(TimeoutError, match="the disk sleeps"):
        list(two_workers.map(time_out, range(2), "x"))


def test_bytes_do_not_depend_on_workers_or_their_deaths(two_workers, tmp_path):
    serial = make_shards(tmp_path / "a" / "shards", SerialExecutor())
    assert make_shards(tmp_path / "b" / "shards", two_workers) == serial
    assert make_shards(tmp_path / "c" / "shards", two_workers, deadly=3) == serial
    assert (tmp_path / "c" / "died").exists()
    assert len(serial) == 8 + 3


@pytest.mark.slow
def test_task_that_kills_every_worker_is_listed_and_the_rest_is_done(two_workers):
    results = []
    with pytest.raises(RunError, match=r"rows: 1 of 6 tasks killed every worker that tried them \(1\);") as caught:
        results.extend(two_workers.map(always_die, range(6), "rows"))
    assert caught.value.exit_code == 1
    assert sorted(results) == [(number, number) for number in (0, 2, 3, 4, 5)]


def test_ctrl_c_ends_all_processes_without_noise(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import os, sys, time
            from pipeline.executor import make_executor

            def work(number):
                if number:
                    time.sleep(600)
                return os.getpid()

            if __name__ == "__main__":
                executor = make_executor(2)
                try:
                    for _, pid in executor.map(work, range(5), "x"):
                        print(pid, flush=True)
                except KeyboardInterrupt:
                    sys.exit(130)
                finally:
                    executor.close()
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", str(script)],
        env=environment,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    worker = process.stdout.readline()
    assert re.fullmatch(r"\d+\n", worker), process.communicate()[1]
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate()
    assert (process.returncode, errors) == (130, "")
    deadline = time.monotonic() + 20
    while Path(f"/proc/{worker.strip()}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker.strip()}").exists()
