"""What are 16 labels worth? Networks trained on synthesised labelled images against all the usual ways.

    python -m benchmarks.labels [--rows ours supervised_16 ...] [--seeds N] [--jobs 2] [--quick]
    python -m benchmarks.labels --collect      # writes benchmarks/results/labels.json and labels.md
    python -m benchmarks.labels --show         # prints them, last one line of JSON
    python -m benchmarks.labels --picture FILE # what the trained networks say of unseen images

Each row trains the same DeepLabV3 and keypoint network with the same number of steps on what it has: 16 to 1,600
labelled renders, a pretrained network, unlabelled images, or the images that an interpreter labels (as DatasetGAN's
released code does it, and ours). All are measured on unseen renders with exact labels and, where a package of models is
installed, on cars made by others. One (row, seed) is one job; a finished one is a file in outputs/benchmarks/labels and
is not done again, an interrupted one begins again, with labelled sets and renders from outputs/cache/labels.
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks._labels_foreign import installed
from benchmarks._labels_jobs import jobs_of, run_jobs
from benchmarks._labels_picture import draw
from benchmarks._labels_rows import ROWS, Settings
from benchmarks._labels_table import collect, load, markdown, save, summary
from ganfoundry.errors import InputError

QUICK = Settings(steps=30, images=500, test=100, outer=26)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, help="seeds of every row; default 3, and 5 for what concerns the filter")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes of one thread")
    parser.add_argument("--steps", type=int, help=f"of every training, default {Settings.steps}")
    parser.add_argument("--images", type=int, help=f"generated images, default {Settings.images}")
    parser.add_argument("--quick", action="store_true", help="sizes of seconds, to see that everything works")
    parser.add_argument("--collect", action="store_true", help="write the results that are there, train nothing")
    parser.add_argument("--show", action="store_true", help="print the committed results, train nothing")
    parser.add_argument("--picture", type=Path, help="draw the predictions of the rows' trained networks into a PNG")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run, collect or show."""
    options = parse(arguments)
    settings = QUICK if options.quick else Settings()
    settings = replace(settings, steps=options.steps or settings.steps, images=options.images or settings.images)
    if not options.show:
        if not installed():
            print("cars made by others are left out: Debian's sweethome3d-furniture is not installed", file=sys.stderr)
        jobs = jobs_of(options.rows, options.seeds, settings)
        if not options.collect:
            run_jobs(jobs, options.jobs)
        if options.picture:
            draw(options.picture, jobs)
        table = collect(settings)
        if options.collect:
            save(table)
    else:
        table = load()
    print(markdown(table))
    print(json.dumps(summary(table)))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
