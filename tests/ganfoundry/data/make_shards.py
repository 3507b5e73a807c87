"""A writer of shards whose rows depend on (seed, row) only; as a program it prints each shard it acknowledged."""

import os
import sys
from pathlib import Path

import numpy as np

from ganfoundry.data.seeds import WORLD, sample_integer, sample_rng
from ganfoundry.data.shards import ShardFolder, write_shard

KEY = "f" * 64


def make_rows(rows, root=0):
    """Arrays like those of a labelled set, small."""
    samples = [make_row(row, root) for row in rows]
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


def make_row(row, root=0):
    rng = sample_rng(root, WORLD, row)
    label = np.repeat(np.repeat(rng.integers(0, 5, (4, 4), np.uint8), 4, 0), 4, 1)
    return {
        "image": rng.integers(0, 256, (16, 16, 3), np.uint8),
        "label": label,
        "uncertainty": rng.random((16, 16)).astype(np.float16),
        "score": np.float32(rng.random()),
        "keep": rng.random() > 0.25,
        "w": rng.standard_normal(12).astype(np.float32),
        "seed": np.uint64(sample_integer(root, WORLD, row)),
    }


def make_folder(folder, rows=50, rows_per_shard=16, key=KEY, verify=False, report=None):
    """Continue, or begin, a folder of shards; return the numbers of the shards written."""
    written = []
    with ShardFolder(folder, rows, rows_per_shard, key) as shards:
        for task in shards.pending(verify):
            arrays = make_rows(task.rows)
            shards.acknowledge(write_shard(folder, task.index, arrays, task.first))
            written.append(task.index)
            if report:
                report(task.index)
        shards.finish()
    return written


def folder_bytes(folder):
    """Content of every file of a folder except the lock."""
    return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir()) if path.name != ".lock"}


if __name__ == "__main__":
    make_folder(
        sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), report=lambda index: os.write(1, f"{index}\n".encode())
    )
    os.write(1, b"done\n")
