"""Where should view and content part? Viewpoint codes searched anew for every cut, with and without shapes.

    python -m benchmarks.view_cuts [--gan cars-64] [--candidates 800] [--contents 24]

The w vectors 0 .. cut - 1 take the view, the others the content. "shapes": codes chosen body type by body type, an
object keeps to one (annotate-views --shapes). One row each: how well a code holds the azimuth, and how much of an
object's body type and paint its views keep, on contents that the search did not see; then one line of JSON.
"""

import argparse
import json
import sys

from benchmarks.views import rounded, view_control
from ganfoundry.errors import RunError
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.views import ViewCodeSet, make_codes
from ganfoundry.views.search import SearchConfig, estimate_pose, search_codes
from ganfoundry.worlds.annotator import Annotator

COLUMNS = ("azimuth_std_median", "azimuth_std_max", "flip_share", "body_type_kept", "hue_kept", "shapes")


def layers_of(loaded: LoadedGan, cut: int) -> tuple[str, ...]:
    """Layers driven by the first `cut` w vectors."""
    return tuple(name for name, index in loaded.generator.synthesis.w_index.items() if index < cut)


def measure(
    loaded: LoadedGan, annotator: Annotator, cut: int, shapes: int, options: argparse.Namespace
) -> dict[str, float]:
    """Search codes and measure them.

    Raises
    ------
    RunError
        If the generator has no consistent codes with this cut.
    """
    layers = layers_of(loaded, cut)
    config = SearchConfig(
        num_candidates=options.candidates, num_contents=8, codes_per_bin=1, shapes=shapes, seed=options.seed
    )
    names = annotator.config.body_types
    found = search_codes(loaded.generator, layers, lambda images: estimate_pose(annotator, images), names, config)
    codes, kept = make_codes(found.candidates, found.chosen, None, False)
    code_set = ViewCodeSet(codes, found.w[kept].numpy(), layers, loaded.sha256, config.view_truncation)
    return view_control(loaded, code_set, annotator, options.contents, 0.7, options.seed + 1000)[0]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cars-64", help="shipped name, folder or file")
    parser.add_argument("--cuts", default="2,3,4,5", help="numbers of w vectors that take the view")
    parser.add_argument("--candidates", type=int, default=800)
    parser.add_argument("--contents", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    annotator, loaded = Annotator.load(None), load_gan(options.gan)
    print(f"{'cut':>3s} {'codes':>8s} " + " ".join(f"{name:>18s}" for name in COLUMNS))
    table: dict[str, dict[str, float] | str] = {}
    for cut in map(int, options.cuts.split(",")):
        for shapes, label in ((0, "any"), (3, "shapes")):
            print(f"cut {cut}, {label} ...", file=sys.stderr, flush=True)
            try:
                figures = rounded(measure(loaded, annotator, cut, shapes, options))
            except RunError as error:
                table[f"{cut} {label}"] = str(error)
                print(f"{cut:3d} {label:>8s} {error}")
                continue
            table[f"{cut} {label}"] = {name: figures[name] for name in COLUMNS}
            print(f"{cut:3d} {label:>8s} " + " ".join(f"{figures[name]:18.3f}" for name in COLUMNS), flush=True)
    print(json.dumps(table))


if __name__ == "__main__":
    main()
