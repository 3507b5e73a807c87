"""Exports and inspection of a labelled set: images a second by format, peak memory, damage found.

    python -m benchmarks.exports --rows 10000

The set holds random images with blocky labels and keypoints, as large as --side. Each format is written alone by the
export stage in this process; the peak of the memory that Python and NumPy allocate is measured on a quarter of the
images and on all, so that what grows with the rows shows. `inspect` reads every byte; flipped bits are planted at
random in the shards and must all be found.
"""

import argparse
import importlib.util
import json
import random
import tempfile
import time
import tracemalloc
from pathlib import Path

import numpy as np

from ganfoundry.data.shards import ShardFolder, write_shard
from ganfoundry.data.verification import check_shards
from pipeline.artifacts import Export, LabelledSet, Writer
from pipeline.stage import Context
from stages.export import FORMATS, Config, run

ROWS_PER_SHARD = 100
FLIPS = 50


def main() -> None:
    """Measure and print a table, and a JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="images (default: 2000)")
    parser.add_argument("--side", type=int, default=64, help="pixels of a side (default: 64)")
    arguments = parser.parse_args()
    formats = [name for name in FORMATS if name != "parquet" or importlib.util.find_spec("pyarrow")]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        labelled = make_set(root / "set", arguments.rows, arguments.side)
        figures = {name: export_figures(name, labelled, root / name, arguments.rows) for name in formats}
        quarter = make_set(root / "quarter", arguments.rows // 4, arguments.side)
        peaks = {name: (peak(name, quarter, root), peak(name, labelled, root)) for name in formats}
        checking = check_figures(root / "set" / "shards")
    print(f"{arguments.rows} images of {arguments.side} px")
    print(f"{'format':12} {'images/s':>9} {'kB/image':>9} {'peak MB of a quarter':>21} {'of all':>7}")
    for name in formats:
        rate, size = figures[name]
        few, many = (value / 1e6 for value in peaks[name])
        print(f"{name:12} {rate:9.0f} {size / 1e3:9.1f} {few:21.1f} {many:7.1f}")
    print(f"inspect: {checking['mb_per_second']:.0f} MB/s; {checking['found']} of {FLIPS} flipped bits found")
    growth = {name: round((many - few) / (arguments.rows - arguments.rows // 4)) for name, (few, many) in peaks.items()}
    result = {
        "rows": arguments.rows,
        "images_per_second": {name: round(rate) for name, (rate, _) in figures.items()},
        "bytes_of_memory_a_further_row": growth,
        **checking,
    }
    print(json.dumps(result))


def make_set(folder: Path, rows: int, side: int) -> LabelledSet:
    """Write a labelled set of random images."""
    with ShardFolder(folder / "shards", rows, ROWS_PER_SHARD, "benchmark") as shards:
        for task in shards.pending():
            shards.acknowledge(write_shard(shards.folder, task.index, make_rows(task.rows, side), task.first))
        shards.finish()
    table = {
        "classes": [f"class {index}" for index in range(12)],
        "palette": [[20 * index, 255 - 20 * index, 128] for index in range(12)],
        "keypoints": [f"point {index}" for index in range(24)],
        "generator_sha256": "0" * 64,
        "interpreter_sha256": "0" * 64,
    }
    (folder / "labels.json").write_text(json.dumps(table))
    (folder / "selection.json").write_text(json.dumps({"rows": rows, "dropped": []}))
    return LabelledSet(folder)


def make_rows(rows: range, side: int) -> dict[str, np.ndarray]:
    """Random rows: noise as images, an 8 x 8 pattern of classes as labels."""
    rng, count = np.random.default_rng(rows.start), len(rows)
    blocks = rng.integers(0, 12, (count, 8, 8), np.uint8)
    at = np.arange(side) * 8 // side
    points = rng.random((count, 24, 3)).astype(np.float32) * np.array([side, side, 1], np.float32)
    return {
        "image": rng.integers(0, 256, (count, side, side, 3), np.uint8),
        "label": blocks[:, at][:, :, at],
        "keypoints": points,
        "score": rng.random(count).astype(np.float32),
        "w": rng.standard_normal((count, 128)).astype(np.float32),
        "seed": np.array(rows, np.uint64),
    }


def export_figures(name: str, labelled: LabelledSet, folder: Path, rows: int) -> tuple[float, float]:
    """Return images a second and bytes an image of one format."""
    start = time.perf_counter()
    run(Config(formats=(name,)), labelled, Writer[Export](folder), Context())
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return rows / seconds, size / rows


def peak(name: str, labelled: LabelledSet, root: Path) -> int:
    """Return the most memory allocated at a time, in bytes."""
    with tempfile.TemporaryDirectory(dir=root) as folder:
        tracemalloc.start()
        try:
            run(Config(formats=(name,)), labelled, Writer[Export](Path(folder)), Context())
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()


def check_figures(folder: Path) -> dict[str, float]:
    """Return the speed of reading every byte, and how many of the planted flips were found."""
    start = time.perf_counter()
    assert check_shards(folder) == []
    size = sum(path.stat().st_size for path in folder.glob("*.h5"))
    speed = size / 1e6 / (time.perf_counter() - start)
    rng, found = random.Random(0), 0
    for path in rng.choices(sorted(folder.glob("shard-*.h5")), k=FLIPS):
        at, bit = rng.randrange(path.stat().st_size), 1 << rng.randrange(8)
        flip(path, at, bit)
        found += [damage.file for damage in check_shards(folder)] == [path.name]
        flip(path, at, bit)
    return {"mb_per_second": round(speed), "found": found, "planted": FLIPS}


def flip(path: Path, at: int, bit: int) -> None:
    """Flip one bit of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        value = file.read(1)[0]
        file.seek(at)
        file.write(bytes([value ^ bit]))


if __name__ == "__main__":
    main()
