"""What are 16 labels worth? Networks trained on synthesised labelled images against all the usual ways.

    python -m benchmarks.labels [--rows ours supervised_16 ...] [--seeds N] [--jobs 2]     # about 3 processor hours
    python -m benchmarks.labels --quick        # one seed of all rows, smaller: under one processor hour
    python -m benchmarks.labels --collect      # writes what is done so far to benchmarks/results/labels.json, labels.md
    python -m benchmarks.labels --show         # prints them, last one line of JSON
    python -m benchmarks.labels --picture FILE # what the trained networks say of unseen images

Each row trains the same DeepLabV3 and keypoint network with the same number of steps on what it has: 16 to 1,600
labelled renders, a pretrained network, unlabelled images, or the images that an interpreter labels (as DatasetGAN's
released code does it, and ours). All are measured on unseen renders with exact labels and, where a package of models is
installed, on cars made by others. One (row, seed) is one job; a finished one is a file in outputs/benchmarks/labels and
is not done again, an interrupted one begins again, with labelled sets and renders from outputs/cache/labels. The rows
that the targets need are run first, seed by seed.
"""

import argparse
import json
import os
import sys
from dataclasses import fields, replace
from pathlib import Path

from benchmarks._jobs import load, save
from benchmarks._labels_foreign import installed
from benchmarks._labels_jobs import jobs_of, run_jobs, use_folder
from benchmarks._labels_picture import draw
from benchmarks._labels_rows import ROWS, Settings
from benchmarks._labels_table import NAME, collect, markdown, summary
from ganfoundry.errors import InputError, RunError

HELP = {
    "steps": "of every training",
    "images": "generated images",
    "test": "unseen renders",
    "outer": "images of cars made by others",
}
QUICK, QUICK_SEEDS = Settings(steps=250, images=3000), 1


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, help="seeds of every row; default 3, and 5 for what concerns the filter")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes of one thread")
    for field in fields(Settings):
        parser.add_argument(f"--{field.name}", type=int, help=f"{HELP[field.name]}, default {field.default}")
    parser.add_argument("--quick", action="store_true", help="one seed, fewer steps and images; results of their own")
    parser.add_argument("--outputs", type=Path, default=Path("outputs"), help="folder of results and caches")
    parser.add_argument("--collect", action="store_true", help="write the results that are there, train nothing")
    parser.add_argument("--show", action="store_true", help="print the committed results, train nothing")
    parser.add_argument("--picture", type=Path, help="draw what the trained networks of the rows say, train nothing")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run, collect or show."""
    options = parse(arguments)
    given = {name: value for name in HELP if (value := getattr(options, name)) is not None}
    settings = replace(QUICK if options.quick else Settings(), **given)
    seeds = QUICK_SEEDS if options.quick and options.seeds is None else options.seeds
    if not options.show:
        use_folder(options.outputs)
        if not installed():
            print("cars made by others are left out: Debian's sweethome3d-furniture is not installed", file=sys.stderr)
        jobs = jobs_of(options.rows, seeds, settings)
        if not options.collect and not options.picture:
            run_jobs(jobs, options.jobs)
        if options.picture:
            draw(options.picture, jobs)
        table = collect(settings)
        if options.collect:
            save(NAME, table, markdown(table))
    else:
        table = load(NAME)
    print(markdown(table))
    print(json.dumps(summary(table)))


if __name__ == "__main__":
    try:
        main()
    except (InputError, RunError) as error:
        sys.exit(f"Error: {error}")
