"""What choices of train-gan do to quality: the same short training with one thing changed, over several seeds.

    python -m benchmarks.train_choices [--seeds 3] [--kimg 120] [--resolution 32] [--jobs 2]
                                       [--rows alternating,simultaneous]

Every row trains on the same renders of the cars world for the same number of images; a seed decides the initial weights
and everything drawn. The table has the Frechet distance of the averaged generator (1,000 samples at psi 1, features of
the world's annotator) after each quarter of the images, mean and standard deviation over the seeds, and the CPU seconds
that a thousand images took. Networks and images are small, so only differences between rows count, and only those
larger than the seeds'. The row "projected" needs the optional extra `imagenet`. Runs are kept in
outputs/benchmarks/train-choices and continue where they were interrupted; with `--jobs 2` two train at a time, each of
one thread. The last line is one JSON object.
"""

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path
from typing import Any

from benchmarks._jobs import read_result, write_result
from benchmarks._schedule import in_rounds, run_tasks
from ganfoundry.errors import InputError
from ganfoundry.gan.config import small_channels
from ganfoundry.gan.train_config import TrainingConfig
from ganfoundry.gan.train_data import assemble_parts, render_part, render_tasks
from ganfoundry.gan.train_log import read_log
from ganfoundry.gan.training import train

ROWS: dict[str, dict[str, Any]] = {
    "alternating": {},
    "simultaneous": {"update": "simultaneous"},
    "simultaneous, R1 in bf16": {"update": "simultaneous", "r1_precision": "bf16"},
    "without noise": {"noise": False},
    "fp32": {"precision": "fp32"},
    "projected": {"discriminator": "projected"},
}
WORLD, RENDERS, RENDER_SEED = "cars", 8000, 11
QUARTERS = 4
FOLDER = Path("outputs") / "benchmarks" / "train-choices"


def recipe(row: str, seed: int, kimg: float, resolution: int, samples: int) -> TrainingConfig:
    """Recipe of one run."""
    channels = ",".join(map(str, small_channels(resolution).values()))
    return TrainingConfig(
        resolution=resolution,
        generator_channels=channels,
        discriminator_channels=channels,
        kimg=kimg,
        sample_kimg=kimg / QUARTERS,
        fd_samples=samples,
        world=WORLD,
        seed=seed,
        **ROWS[row],
    )


def job(config: TrainingConfig, images: Path, folder: Path) -> None:
    """Train, or go on, and write the distances and the CPU time of this call."""
    began = time.process_time()
    train(config, images, folder)
    distances = [line["fd"] for line in read_log(folder) if "fd" in line]
    figures = {f"fd_{quarter}": fd for quarter, fd in enumerate(distances, 1)}
    write_result(folder / "result.json", {"config": repr(config)}, figures, time.process_time() - began)


def rendered(resolution: int, count: int) -> Path:
    """Images of all runs, made once."""
    folder = Path("outputs") / "cache" / f"choices-{WORLD}-{resolution}-{count}"
    for task in render_tasks(folder, WORLD, resolution, count, RENDER_SEED):
        render_part(task)
    return assemble_parts(folder)


def spread(values: list[float]) -> float:
    """Standard deviation; 0 of a single value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


def main() -> None:
    """Train, print the table, print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help=f"default: all that can run of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--kimg", type=float, default=120.0)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--renders", type=int, default=RENDERS)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    able = importlib.util.find_spec("efficientnet_lite_pytorch") is not None
    rows = options.rows.split(",") if options.rows else [row for row in ROWS if row != "projected" or able]
    if unknown := [row for row in rows if row not in ROWS]:
        raise InputError(f"no row {unknown[0]!r}; the rows are {', '.join(ROWS)}")
    images = rendered(options.resolution, options.renders)
    runs = {
        (row, seed): (
            recipe(row, seed, options.kimg, options.resolution, options.samples),
            FOLDER / f"{options.resolution}-{options.kimg:g}" / f"{row.replace(', ', '-').replace(' ', '-')}-{seed}",
        )
        for seed in range(options.seeds)
        for row in rows
    }
    waiting = [
        (job, (config, images, folder))
        for config, folder in runs.values()
        if read_result(folder / "result.json", {"config": repr(config)}) is None
    ]
    run_tasks(in_rounds([("training", waiting)]), options.jobs)
    table: dict[str, dict[str, float]] = {}
    quarters = [f"{options.kimg * quarter / QUARTERS:g}k" for quarter in range(1, QUARTERS + 1)]
    print(f"{'Frechet distance after':26}" + "".join(f"{name:>18}" for name in quarters) + "   CPU s a thousand")
    for row in rows:
        results = []
        for seed in range(options.seeds):
            config, folder = runs[row, seed]
            results.append(read_result(folder / "result.json", {"config": repr(config)}) or {})
        columns = [[result["figures"][f"fd_{q}"] for result in results] for q in range(1, QUARTERS + 1)]
        cost = statistics.mean(result["cpu_seconds"] for result in results) / options.kimg
        print(
            f"{row:26}"
            + "".join(f"{statistics.mean(column):10.0f} ± {spread(column):5.0f}" for column in columns)
            + f"{cost:12.1f}"
        )
        table[row] = {
            "fd": round(statistics.mean(columns[-1]), 2),
            "fd_std": round(spread(columns[-1]), 2),
            "cpu_s_per_kimg": round(cost, 2),
        }
    print(json.dumps(table))


if __name__ == "__main__":
    main()
