"""A small labelled set, with or without keypoints, whose rows depend on their number only."""

import json

import numpy as np

from ganfoundry.data.seeds import CONTENT, sample_integer, sample_rng
from ganfoundry.data.shards import ShardFolder, write_shard
from pipeline.artifacts import LabelledSet

ROWS, DROPPED = 40, (3, 17, 39)
KEPT = [row for row in range(ROWS) if row not in DROPPED]
CLASSES = ["background", "body", "wheel", "window"]
POINTS = ["nose", "tail", "top"]
TABLE = {
    "schema": "toys",
    "level": "coarse",
    "classes": CLASSES,
    "palette": [[0, 0, 0], [200, 30, 30], [30, 200, 30], [30, 30, 200]],
    "generator_sha256": "a" * 64,
    "interpreter_sha256": "b" * 64,
    "truncation": 0.7,
    "root_seed": 1,
}


def make_arrays(rows, keypoints=True):
    rngs = [sample_rng(1, CONTENT, row) for row in rows]
    labels = [np.kron(rng.integers(0, 4, (4, 4)), np.ones((6, 6))).astype(np.uint8) for rng in rngs]
    arrays = {
        "image": np.stack([rng.integers(0, 256, (24, 24, 3), np.uint8) for rng in rngs]),
        "label": np.stack(labels),
        "uncertainty": np.stack([rng.random((24, 24)).astype(np.float16) for rng in rngs]),
        "score": np.array([rng.random() for rng in rngs], np.float32),
        "w": np.stack([rng.standard_normal(6).astype(np.float32) for rng in rngs]),
        "seed": np.array([sample_integer(1, CONTENT, row) for row in rows], np.uint64),
    }
    if keypoints:
        places = np.stack([rng.random((3, 2)) * 24 for rng in rngs])
        visible = np.stack([rng.random((3, 1)) for rng in rngs])
        arrays["keypoint_spread"] = np.stack([rng.random(3).astype(np.float32) for rng in rngs])
        arrays["keypoints"] = np.concatenate([places, visible], axis=2).astype(np.float32)
    return arrays


def make_set(path, change=None, *, rows=ROWS, dropped=DROPPED, keypoints=True, rows_per_shard=16, table=None):
    with ShardFolder(path / "shards", rows, rows_per_shard, "key") as shards:
        for task in shards.pending():
            arrays = make_arrays(task.rows, keypoints)
            if change:
                change(arrays, task.first)
            shards.acknowledge(write_shard(shards.folder, task.index, arrays, task.first))
        shards.finish()
    names = {"keypoints": POINTS} if keypoints else {}
    (path / "labels.json").write_text(json.dumps({**TABLE, **names, **(table or {})}))
    entries = [{"row": row, "score": 0.9, "reason": "too uncertain"} for row in dropped]
    (path / "selection.json").write_text(json.dumps({"rows": rows, "dropped": entries}))
    return LabelledSet(path)


def tree(folder):
    """Content of every file that is not hidden, by its name."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".") and "/." not in name}
