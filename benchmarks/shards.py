"""Shards against plain h5py: throughput, kill -9, byte identity.  ``python -m benchmarks.shards``.

Images are noise, which does not compress, as images of a generator hardly do.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ganfoundry.data.integrity import h5py, sha256_file
from ganfoundry.data.manifest import load_plan, load_records, shard_path
from ganfoundry.data.seeds import WORLD, sample_rng
from ganfoundry.data.shards import ShardFolder, ShardReader, ShardTask, write_shard

ROWS, ROWS_PER_SHARD, PIXELS = 4096, 256, 64
KILL_ROWS, KILL_ROWS_PER_SHARD = 2400, 4
Arrays = dict[str, Any]


def make_rows(first: int, stop: int) -> Arrays:
    """Images uint8 (N, 64, 64, 3) and label maps uint8 (N, 64, 64) that depend on the row numbers only."""
    rngs = [sample_rng(0, WORLD, row) for row in range(first, stop)]
    images = np.stack([rng.integers(0, 256, (PIXELS, PIXELS, 3), np.uint8) for rng in rngs])
    return {"image": images, "label": images[..., 0] // 64}


@dataclass(frozen=True)
class Task:
    """A shard to make."""

    folder: str
    shard: ShardTask


def make_shard(task: Task) -> dict[str, Any]:
    """Make and write one shard."""
    shard = task.shard
    return write_shard(task.folder, shard.index, make_rows(shard.first, shard.stop), shard.first)


def make_folder(folder: Path, rows: int, rows_per_shard: int, workers: int = 1) -> Iterator[int]:
    """Make or continue a folder; yield the number of each shard once it is acknowledged."""
    from pipeline.executor import make_executor

    executor = make_executor(workers)
    try:
        with ShardFolder(folder, rows, rows_per_shard, "benchmark") as shards:
            tasks = [Task(str(folder), shard) for shard in shards.pending()]
            for _, receipt in executor.map(make_shard, tasks, "shards"):
                shards.acknowledge(receipt)
                yield receipt["shard"]
            shards.finish()
    finally:
        executor.close()


def content(folder: Path) -> dict[str, bytes]:
    """Bytes of all files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


def seconds(function: Callable[[], object], repeats: int = 1) -> float:
    """Least time of some calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def write_plain(path: Path, arrays: Arrays, **options: Any) -> None:
    """Write with h5py as its quick start does, then fsync, as our writer does."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values, **options)
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def write_ours(folder: Path, arrays: Arrays) -> None:
    """Write prepared rows as shards, acknowledged and finished."""
    with ShardFolder(folder, ROWS, ROWS_PER_SHARD, "benchmark") as shards:
        for task in shards.pending():
            part = {name: values[task.first : task.stop] for name, values in arrays.items()}
            shards.acknowledge(write_shard(folder, task.index, part, task.first))
        shards.finish()


def read_plain(path: Path, rows: list[int]) -> None:
    """Read single images at random with h5py."""
    with h5py.File(path) as file:
        image = file["image"]
        for row in rows:
            image[row]


def throughput(work: Path) -> dict[str, dict[str, float]]:
    """MB/s written and single images/s read at random, for each way of storing."""
    arrays = make_rows(0, ROWS)
    megabytes = sum(values.nbytes for values in arrays.values()) / 1e6
    rows = np.random.default_rng(0).integers(0, ROWS, 400).tolist()
    folders = iter([work / "ours", work / "ours-again"])
    table = {"shards": {"write": megabytes / seconds(lambda: write_ours(next(folders), arrays), 2)}}
    reader = ShardReader(work / "ours")
    table["shards"]["read"] = len(rows) / seconds(lambda: [reader.rows([row], ["image"]) for row in rows], 10)
    plain: dict[str, dict[str, Any]] = {
        "h5py contiguous": {},
        "h5py chunks=True, gzip": {"chunks": True, "compression": "gzip"},
    }
    for number, (name, options) in enumerate(plain.items()):
        path = work / f"plain-{number}.h5"
        some, repeats = (rows[:100], 2) if options else (rows, 10)
        write = megabytes / seconds(partial(write_plain, path, arrays, **options), 1 if options else 2)
        table[name] = {"write": write, "read": len(some) / seconds(partial(read_plain, path, some), repeats)}
    return table


def loader_rate(folder: Path, epochs: int = 8) -> float:
    """Samples/s (image and label map) of a shuffling DataLoader with two workers, in the best epoch."""
    from torch.utils.data import DataLoader

    from ganfoundry.data.dataset import ShardDataset

    dataset = ShardDataset(folder, ["image", "label"])
    loader = DataLoader(dataset, 64, shuffle=True, num_workers=2, persistent_workers=True)
    return ROWS / seconds(lambda: list(loader), epochs)


def kill_writer(folder: Path, rng: np.random.Generator) -> tuple[set[int], bool]:
    """Kill -9 a writer at a random moment; return the shards it had acknowledged, and whether it was alive."""
    command = [sys.executable, "-m", "benchmarks.shards", "--writer", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(int(rng.integers(1, 24)))]
        time.sleep(rng.random() * 0.01)
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
    return {int(line) for line in lines if line.endswith(b"\n")}, writer.returncode == -signal.SIGKILL


def kill_trials(work: Path, kills: int) -> tuple[int, int, int, bool]:
    """Return trials, shards acknowledged, those lost, and whether the end is as if nothing had happened."""
    rng = np.random.default_rng(0)
    trials = acknowledged = lost = 0
    reference: dict[str, bytes] = {}
    identical, number = True, 0
    for _ in make_folder(work / "whole", KILL_ROWS, KILL_ROWS_PER_SHARD):
        pass
    reference = content(work / "whole")
    while trials < kills:
        folder, known = work / f"killed-{number}", set[int]()
        number += 1
        alive = True
        while alive and trials < kills:
            new, alive = kill_writer(folder, rng)
            trials += alive
            known |= new
            records = load_records(folder, plan) if (plan := load_plan(folder)) else {}
            lost += sum(not is_there(folder, index, records) for index in known)
        for _ in make_folder(folder, KILL_ROWS, KILL_ROWS_PER_SHARD):
            pass
        acknowledged += len(known)
        identical &= content(folder) == reference
    return trials, acknowledged, lost, identical


def is_there(folder: Path, index: int, records: dict[int, Any]) -> bool:
    """Whether a shard is in the manifest, with the right bytes on disk."""
    path = shard_path(folder, index)
    return index in records and path.exists() and sha256_file(path) == records[index].sha256


def main() -> None:
    """Run everything; print a table, then one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shards", description=__doc__)
    parser.add_argument("--kills", type=int, default=30, help="kill -9 trials (default 30)")
    parser.add_argument("--writer", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.writer:
        for index in make_folder(arguments.writer, KILL_ROWS, KILL_ROWS_PER_SHARD):
            os.write(1, f"{index}\n".encode())
        return
    with tempfile.TemporaryDirectory() as name:
        report(Path(name), arguments.kills)


def report(work: Path, kills: int) -> None:
    """Measure in a scratch folder and print."""
    table = throughput(work)
    print(f"{ROWS} images of {PIXELS} x {PIXELS} with label maps\n")
    print(f"{'':24}{'write MB/s':>12}{'random images/s':>18}")
    for name, row in table.items():
        print(f"{name:24}{row['write']:12.1f}{row['read']:18.0f}")
    rate = loader_rate(work / "ours")
    print(f"\nDataLoader, 2 workers, shuffled: {rate:.0f} samples/s")
    trials, acknowledged, lost, resumed = kill_trials(work, kills)
    print(f"kill -9: {trials} trials, {acknowledged} shards acknowledged, {lost} lost; continued = whole: {resumed}")
    for workers in (1, 2):
        for _ in make_folder(work / f"workers-{workers}", 512, 32, workers):
            pass
    same = content(work / "workers-1") == content(work / "workers-2")
    print(f"1 worker = 2 workers: {same}\n")
    gzip, contiguous = table["h5py chunks=True, gzip"], table["h5py contiguous"]
    figures = {
        "kill_trials": trials,
        "acknowledged": acknowledged,
        "lost": lost,
        "identical": resumed and same,
        "loader_samples_per_s": round(rate),
        "write_mb_per_s": round(table["shards"]["write"], 1),
        "write_ratio": round(table["shards"]["write"] / gzip["write"], 2),
        "random_reads_per_s": round(table["shards"]["read"]),
        "random_read_ratio": round(table["shards"]["read"] / gzip["read"], 1),
        "random_read_ratio_contiguous": round(table["shards"]["read"] / contiguous["read"], 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
