"""Where should view and content part? Viewpoint codes searched anew for every cut, with and without shapes.

    python -m benchmarks.view_cuts [--gan cars-64] [--cuts 2,3,4,5] [--seeds 3] [--candidates 800] [--contents 24]
                                   [--jobs 2]

The w vectors 0 .. cut - 1 take the view, the others the content. "shapes": codes chosen body type by body type, an
object keeps to one (annotate-views --shapes). One row each: how well a code holds the azimuth, and how much of an
object's body type and paint its views keep, on contents that the search did not see. Every seed draws other candidates
and other contents; mean and standard deviation are over seeds, of those that gave codes at all (the column "found").
The last line is one JSON object.
"""

import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from benchmarks.views import view_control
from ganfoundry import weights
from ganfoundry.errors import RunError
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.views import ViewCodeSet, make_codes
from ganfoundry.views.search import Networks, SearchConfig, search_codes
from ganfoundry.worlds.annotator import Annotator

COLUMNS = ("azimuth_std_median", "azimuth_std_max", "flip_share", "body_type_kept", "hue_kept", "shapes")
FAR = 1000  # from the seed of a search to that of the contents it is measured on


def layers_of(loaded: LoadedGan, cut: int) -> tuple[str, ...]:
    """Layers driven by the first `cut` w vectors."""
    return tuple(name for name, index in loaded.generator.synthesis.w_index.items() if index < cut)


def measure(
    loaded: LoadedGan, networks: Networks, cut: int, shapes: int, seed: int, options: argparse.Namespace
) -> dict[str, float]:
    """Search codes and measure them.

    Raises
    ------
    RunError
        If the generator has no consistent codes with this cut.
    """
    layers = layers_of(loaded, cut)
    config = SearchConfig(num_candidates=options.candidates, num_contents=8, codes_per_bin=1, shapes=shapes, seed=seed)
    found = search_codes(networks, layers, config)
    codes, kept = make_codes(found.candidates, found.chosen, None, False)
    code_set = ViewCodeSet(
        codes, found.w[kept].numpy(), layers, loaded.sha256, config.view_truncation, found.candidates.bins
    )
    annotator = Annotator.load(networks.annotator)
    return view_control(loaded, code_set, annotator, options.contents, 0.7, seed + FAR)[0]


def attempt(arguments: tuple[Any, ...]) -> dict[str, float] | str:
    """What `measure` gives for these arguments, or why it gives nothing."""
    _, _, cut, shapes, seed, _ = arguments
    print(f"cut {cut}, {shapes or 'any'} shapes, seed {seed} ...", file=sys.stderr, flush=True)
    try:
        return measure(*arguments)
    except RunError as raised:
        return str(raised)


def over_seeds(
    loaded: LoadedGan, networks: Networks, cut: int, shapes: int, options: argparse.Namespace
) -> dict[str, float | str]:
    """Mean and standard deviation of every column over seeds; "error" where no seed gave codes."""
    seeds = range(options.seed, options.seed + options.seeds)
    attempts = [(loaded, networks, cut, shapes, seed, options) for seed in seeds]
    if options.jobs == 1:
        results = list(map(attempt, attempts))
    else:
        with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
            results = list(pool.map(attempt, attempts))
    found = [result for result in results if not isinstance(result, str)]
    error = next((result for result in results if isinstance(result, str)), "")
    figures: dict[str, float | str] = {"found": len(found)}
    if not found:
        return figures | {"error": error}
    for name in COLUMNS:
        values = [one[name] for one in found]
        figures[name] = round(float(np.mean(values)), 4)
        if len(values) > 1:
            figures[f"{name}_spread"] = round(float(np.std(values, ddof=1)), 4)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cars-64", help="shipped name, folder or file")
    parser.add_argument("--cuts", default="2,3,4,5", help="numbers of w vectors that take the view")
    parser.add_argument("--candidates", type=int, default=800)
    parser.add_argument("--contents", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    options = parser.parse_args()
    loaded = load_gan(options.gan)
    networks = Networks.of(loaded, weights.network_of(loaded.world, "annotator", "measure a generator of a world"))
    print(f"{'cut':>3s} {'codes':>8s} {'found':>5s} " + " ".join(f"{name:>18s}" for name in COLUMNS))
    table: dict[str, dict[str, float | str]] = {}
    for cut in map(int, options.cuts.split(",")):
        for shapes, label in ((0, "any"), (3, "shapes")):
            figures = table[f"{cut} {label}"] = over_seeds(loaded, networks, cut, shapes, options)
            cells = [
                (
                    f"{figures[name]:.3f}"
                    + (f" ± {figures[spread]:.3f}" if (spread := f"{name}_spread") in figures else "")
                ).rjust(18)
                for name in COLUMNS
                if name in figures
            ]
            print(
                f"{cut:3d} {label:>8s} {figures['found']:5d} " + " ".join(cells or [str(figures["error"])]), flush=True
            )
    print(json.dumps(table))


if __name__ == "__main__":
    main()
