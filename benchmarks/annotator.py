"""Errors of the shipped annotator network on renders that it never saw.

    python -m benchmarks.annotator [--images 1000] [--seed 1] [--folder ganfoundry/weights/cars-annotator]
                                   [--resolution 128]

A table of every fine part's intersection over union, then the figures, then one line of JSON. Renders larger than the
network's own images show what it proposes for a generator of that resolution: its parts on two grids, as annotate-parts
has them, and read once; and what exact labels at the network's resolution would reach if their pixels were enlarged.
"""

import argparse
import json
from pathlib import Path

import torch

from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, sample_integer
from ganfoundry.metrics import class_iou, confusion_matrix, mean_iou
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator
from ganfoundry.worlds.annotator_data import render_samples
from ganfoundry.worlds.annotator_training import evaluate


def main() -> None:
    """Render, annotate, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1, help="root seed of the unseen renders")
    parser.add_argument("--folder", type=Path, default=weights.path("cars-annotator"))
    parser.add_argument("--resolution", type=int, help="of the renders; default: the network's")
    options = parser.parse_args()
    torch.set_num_threads(1)
    annotator = Annotator.load(options.folder)
    world = get_world(annotator.config.world)
    seeds = [sample_integer(options.seed, EVALUATION, index) for index in range(options.images)]
    side, own = options.resolution or annotator.config.resolution, annotator.config.resolution
    renders = render_samples(world, seeds, side)
    found = annotator.annotate(renders.image, two_grids=True)
    parts = world.schema.parts
    iou = class_iou(confusion_matrix(renders.parts, found.parts, len(parts)))
    share = [(renders.parts == index).mean() for index in range(len(parts))]
    print(f"{'part':20s} {'IoU':>6s} {'pixels':>8s}")
    for name, value, pixels in zip(parts, iou, share, strict=True):
        print(f"{name:20s} {value:6.3f} {pixels:8.2%}")
    figures = {name: round(value, 4) for name, value in evaluate(found, renders, world.schema).items()}
    if side > own:
        once = annotator.annotate(renders.image).parts
        factor = side // own
        enlarged = renders.parts[:, ::factor, ::factor].repeat(factor, 1).repeat(factor, 2)
        figures["miou_fine_one_grid"] = round(mean_iou(renders.parts, once, len(parts)), 4)
        figures["miou_fine_enlarged_labels"] = round(mean_iou(renders.parts, enlarged, len(parts)), 4)
    print()
    for name, value in figures.items():
        print(f"{name:24s} {value:10.4f}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
