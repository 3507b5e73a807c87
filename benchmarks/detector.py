"""Mask AP of the shipped detector, precision and recall of the filter, time an image: `python -m benchmarks.detector`.

Everything is measured on scenes of the evaluation stream, which no training draws from. The last line is one JSON
object.
"""

import argparse
import json
from pathlib import Path

import torch

from ganfoundry.detect.backends import TorchvisionDetector, resolve_weights
from ganfoundry.detect.evaluation import evaluate_detector, held_out_scenes
from ganfoundry.detect.filtering import FilterRule, decide
from ganfoundry.detect.mask_rcnn import load_detector
from ganfoundry.labels.synthesis import single_thread
from ganfoundry.worlds import get_world


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="cars-detector")
    parser.add_argument("--world", default="cars")
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0, help="root seed of the held-out scenes")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.3, 0.5, 0.7, 0.9])
    parser.add_argument("--write-card", action="store_true", help="put the figures on the card of the weights")
    arguments = parser.parse_args()

    loaded = load_detector(resolve_weights(arguments.weights))
    world = get_world(arguments.world)
    detector = TorchvisionDetector(loaded.net)
    parameters = sum(parameter.numel() for parameter in loaded.net.parameters())
    print(f"{arguments.weights}: {parameters / 1e6:.2f} M parameters, sha256 {loaded.sha256[:16]}")
    with single_thread():
        figures = evaluate_detector(detector, world, FilterRule(), arguments.scenes, arguments.seed)
        rates = kept_clear_views(detector, arguments)
    print(f"\n{'figure':<20}{'value':>10}")
    for name, value in figures.items():
        print(f"{name:<20}{value:>10.4f}")
    print("\nshare of unseen 64 px scenes with one car of at least 12 % that the filter keeps, by score threshold")
    for threshold, rate in rates.items():
        print(f"{threshold:<20}{rate:>10.4f}")
    rounded = {name: round(value, 4) for name, value in figures.items()}
    if arguments.write_card:
        write_card(resolve_weights(arguments.weights) / "card.json", rounded)
    print(json.dumps(rounded | {"torch": torch.__version__}))


def write_card(path: Path, figures: dict[str, float]) -> None:
    """Replace the figures on a card."""
    card = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(card | {"figures": figures}, indent=2) + "\n", encoding="utf-8")


def kept_clear_views(detector: TorchvisionDetector, arguments: argparse.Namespace) -> dict[float, float]:
    """Share kept of scenes that clearly should be: one car, at least 12 % of the image."""
    scenes = held_out_scenes(get_world(arguments.world), arguments.scenes, 64, arguments.seed + 1)
    single = (scenes.instances.max((1, 2)) == 1) & ((scenes.instances == 1).mean((1, 2)) >= 0.12)
    found = detector.detect(scenes.image[single])
    return {
        threshold: sum(decide(one, FilterRule(threshold)).keep for one in found) / len(found)
        for threshold in arguments.thresholds
    }


if __name__ == "__main__":
    main()
