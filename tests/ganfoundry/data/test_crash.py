"""What is acknowledged survives kill -9 and a full disk."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from make_shards import KEY, folder_bytes, make_folder

from ganfoundry.data.integrity import sha256_file
from ganfoundry.data.manifest import append_record, load_plan, load_records, shard_path
from ganfoundry.data.shards import ShardFolder, ShardReader
from ganfoundry.errors import RunError

WRITER = Path(__file__).with_name("make_shards.py")
ROOT = Path(__file__).parents[3]
ROWS, ROWS_PER_SHARD = 384, 4  # 96 shards


def start(folder, rows=ROWS, rows_per_shard=ROWS_PER_SHARD, **options):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(WRITER), str(folder), str(rows), str(rows_per_shard)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)


def kill_at_random_moment(folder, rng):
    """Run the writer, kill it after some shards; return the shards it acknowledged, whether it was killed in work."""
    with start(folder) as writer:
        seen = [writer.stdout.readline()]
        for _ in range(rng.integers(0, 12)):
            seen.append(writer.stdout.readline())
        time.sleep(rng.random() * 0.004)
        writer.send_signal(signal.SIGKILL)
        seen += writer.stdout.readlines()
        writer.wait()
    acknowledged = [int(line) for line in seen if line.strip().isdigit() and line.endswith(b"\n")]
    return acknowledged, writer.returncode == -signal.SIGKILL


def kill_until_done(folder, kills, seed):
    rng = np.random.default_rng(seed)
    acknowledged, killed = set(), 0
    for _ in range(kills):
        new, in_work = kill_at_random_moment(folder, rng)
        assert not acknowledged & set(new), "an acknowledged shard was written again"
        acknowledged |= set(new)
        killed += in_work
        records = load_records(folder, load_plan(folder))
        for index in acknowledged:  # nothing acknowledged is lost
            assert sha256_file(shard_path(folder, index)) == records[index].sha256
    make_folder(folder, ROWS, ROWS_PER_SHARD)
    return killed


def check_kills(tmp_path, kills):
    make_folder(tmp_path / "whole", ROWS, ROWS_PER_SHARD)
    killed = kill_until_done(tmp_path / "killed", kills, seed=kills)
    assert killed >= kills // 2
    assert folder_bytes(tmp_path / "killed") == folder_bytes(tmp_path / "whole")


def test_kill_9_loses_nothing_and_leaves_no_trace(tmp_path):
    check_kills(tmp_path, 5)


@pytest.mark.slow
def test_kill_9_thirty_times(tmp_path):
    for round_number in range(4):
        (tmp_path / str(round_number)).mkdir()
        check_kills(tmp_path / str(round_number), 8)


def test_lock_ends_with_the_process(tmp_path):
    with start(tmp_path, 4000, 1) as writer:
        writer.stdout.readline()
        with pytest.raises(Exception, match="another run is writing"):
            ShardFolder(tmp_path, 4000, 1, KEY)
        writer.kill()
    ShardFolder(tmp_path, 4000, 1, KEY).close()


def limit_file_size(size):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


def test_full_disk_is_one_sentence_and_keeps_what_is_done(tmp_path):
    make_folder(tmp_path / "whole", 200, 100)
    shard = (tmp_path / "whole" / "shard-00000.h5").stat().st_size
    code = (
        f"import sys; sys.path.insert(0, {str(WRITER.parent)!r})\n"
        "from make_shards import make_folder\n"
        "from ganfoundry.errors import RunError\n"
        "try:\n    make_folder(sys.argv[1], 200, 100)\n"
        "except RunError as error:\n    print(error)\n    sys.exit(error.exit_code)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "full")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=limit_file_size(shard // 2),
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stderr) == (1, "")  # no traceback, no segmentation fault at exit
    assert result.stdout.startswith(f"cannot write {tmp_path / 'full' / 'shard-00000.h5'}")
    assert result.stdout.count("\n") == 1
    assert "run the same command again" in result.stdout
    assert sorted(os.listdir(tmp_path / "full")) == [".lock", "config.json"]
    make_folder(tmp_path / "full", 200, 100)
    assert folder_bytes(tmp_path / "full") == folder_bytes(tmp_path / "whole")


def test_manifest_is_cut_back_when_the_disk_fills_up_in_a_line(tmp_path, folder):
    record = load_records(folder, load_plan(folder))[0]
    before = (folder / "manifest.jsonl").read_bytes()
    child = os.fork()
    if child == 0:
        limit_file_size(len(before) + 10)()
        try:
            append_record(folder, record)
        except RunError as error:
            os._exit(0 if "manifest.jsonl" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (folder / "manifest.jsonl").read_bytes() == before
    assert len(ShardReader(folder)) == 50


def test_interrupt_between_shard_and_manifest_costs_that_shard(folder):
    before = folder_bytes(folder)
    lines = before["manifest.jsonl"].splitlines(keepends=True)
    (folder / "manifest.jsonl").write_bytes(b"".join(lines[:-1]))  # the shard is there, its line is not
    assert make_folder(folder) == [3]
    assert folder_bytes(folder) == before
    assert json.loads(lines[-1])["shard"] == 3
