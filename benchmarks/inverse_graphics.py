"""One image to a mesh: our inverse graphics against its own ablations, baselines, and what true cameras would give.

    python -m benchmarks.inverse_graphics [--rows default paper ...] [--seeds N] [--jobs 2] [--steps N] [--quick]
    python -m benchmarks.inverse_graphics --model outputs/demo/train-inverse-graphics   # a network that is there
    python -m benchmarks.inverse_graphics --collect      # writes benchmarks/results/inverse_graphics.json and .md
    python -m benchmarks.inverse_graphics --show         # prints them, last one line of JSON
    python -m benchmarks.inverse_graphics --picture FILE # true and found meshes side by side

Networks learn from a labelled multi-view set (`make demo`, then label-views) and are measured on its held-out objects,
on unseen renders whose meshes are known and, where a package of models is installed, on cars made by others; see
docs/inverse-graphics.md. One (row, seed) is one job; a finished one is a file in outputs/benchmarks/inverse_graphics
and is not done again, an interrupted training goes on from its last checkpoint.
"""

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks._inverse_jobs import SEEDS, Job, jobs_of, renders, run_jobs
from benchmarks._inverse_picture import draw_sheet
from benchmarks._inverse_rows import ROWS, Settings
from benchmarks._inverse_table import NAME, collect, markdown, summary
from benchmarks._inverse_views import Sources
from benchmarks._jobs import load, save
from benchmarks._labels_foreign import installed
from benchmarks._schedule import in_rounds, run_tasks
from ganfoundry.errors import InputError
from ganfoundry.shape.inverse_model import InverseModel

QUICK = Settings(steps=20, cars=6, views=6, test=6, outer=13)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"seeds of every row, default {SEEDS}")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes of one thread")
    parser.add_argument("--steps", type=int, help=f"of every training, default {Settings.steps}")
    parser.add_argument("--test", type=int, help=f"unseen renders, default {Settings.test}")
    parser.add_argument(
        "--runs", nargs="+", type=Path, default=[Path("outputs/demo")], metavar="FOLDER",
        help="run folders with generate-views, filter-views and label-views",
    )  # fmt: skip
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a trained network, measured as row default")
    parser.add_argument("--quick", action="store_true", help="sizes of seconds, to see that everything works")
    parser.add_argument("--collect", action="store_true", help="write the results that are there, train nothing")
    parser.add_argument("--show", action="store_true", help="print the committed results, train nothing")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw true and found meshes into a PNG")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Run, collect or show."""
    options = parse(arguments)
    if options.show:
        table = load(NAME)
    else:
        if not installed():
            print("cars made by others are left out: Debian's sweethome3d-furniture is not installed", file=sys.stderr)
        jobs, settings = planned(options)
        if not options.collect:
            run_jobs(jobs, options.jobs)
        table = collect(settings, jobs)
        if options.collect:
            save(NAME, table, markdown(table))
        if options.picture:
            picture(options, jobs, settings)
    print(markdown(table))
    print(json.dumps(summary(table)))


def planned(options: argparse.Namespace) -> tuple[list[Job], Settings]:
    """Jobs and sizes that the options ask for."""
    settings = QUICK if options.quick else Settings()
    settings = replace(settings, steps=options.steps or settings.steps, test=options.test or settings.test)
    seeds, rows = list(range(options.seeds)), options.rows
    if options.model is not None:
        training = InverseModel.load(options.model).description["training"]
        settings, seeds = replace(settings, steps=training["steps"]), [training["seed"]]
        if rows == list(ROWS):  # nothing else is trained
            rows = [row.name for row in ROWS.values() if row.method != "train" or row.name == "default"]
    return jobs_of(rows, seeds, settings, Sources.find(options.runs), options.model), settings


def picture(options: argparse.Namespace, jobs: list[Job], settings: Settings) -> None:
    """Draw the network of the first job that has one."""
    job = next((job for job in jobs if ROWS[job.row].method == "train"), None)
    if job is None:
        raise InputError("none of these rows has a network to draw; name one with --rows")
    run_tasks(in_rounds([("rendering", renders(settings))]), options.jobs)
    draw_sheet(options.picture, InverseModel.load(job.network), settings)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"Error: {error}")
