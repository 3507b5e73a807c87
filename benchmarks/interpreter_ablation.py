"""What each choice in the Style Interpreter is worth, on cars-64 and its 16 labelled samples.

    python -m benchmarks.interpreter_ablation [--rows default hard-vote ...] [--samples 200] [--seeds 3] [--cap 8000]

Every row trains on annotations/cars/labels and labels samples that training did not see. Nobody knows the true labels
of a generated image: the labels of the annotator network, trained on renders, stand for them (the 16 training labels
are of the same kind). So a row's figures are agreement with that network, and compare with each other only.

mIoU is over 12 classes, in per cent; PCK the share of visible keypoints within 5 or 10 % of the object's longer side;
AUROC of the visibility; seconds of training, without those of the direction head (one a seed, for all rows). The
presets `paper` and `released-code` stop by their own rule, or after `--cap` steps. Mean and standard deviation over
seeds; the last line is one JSON object. "style-mixing" is the augmentation that a generator offers: the labels hold for
the same shapes in other colours.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganfoundry import weights
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.direction import DirectionTraining, train_direction
from ganfoundry.labels.keypoints import object_sizes, visible_only
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.presets import PRESETS, Preset
from ganfoundry.labels.synthesis import images_and_features, images_and_table, label_samples
from ganfoundry.metrics import auroc, mean_iou, pck
from ganfoundry.views import ViewCodeSet
from ganfoundry.worlds.annotator import Annotation, Annotator

ANNOTATIONS = Path(__file__).parents[1] / "annotations" / "cars"
LEVEL, CLASSES = "parts12", 12
FIRST_SEED = 5_000  # of the unseen samples
MIXED_SEED = 90_000  # of the samples whose colours the row "style-mixing" borrows
LAST_STYLES = 3  # of the last resolution: two convolutions and the colours; they change paint, not shape
FIGURES = ("miou", "pck_5", "pck_10", "visibility_auroc", "seconds")


def trained(preset: Preset, **changes: Any) -> Preset:
    """Return a preset with changes of its training."""
    return replace(preset, training=replace(preset.training, **changes))


def rows() -> dict[str, Callable[[], Preset]]:
    """Rows of the table by name."""
    ours = PRESETS["ours"]
    return {
        "default": lambda: ours,
        "without-direction": lambda: replace(ours, direction=False),
        "without-dropout": lambda: trained(ours, dropout=0.0),
        "without-balance": lambda: trained(ours, balance=0.0, region_share=0.0),
        "without-keypoints": lambda: replace(ours, keypoints=False),
        "without-keypoint-pixels": lambda: trained(ours, keypoint_share=0.0),
        "hard-vote": lambda: replace(ours, voting="majority"),
        "batch-64": lambda: trained(ours, batch_pixels=64),
        "1-member": lambda: replace(ours, members=1),
        "3-members": lambda: replace(ours, members=3),
        "32-units": lambda: replace(ours, second_width=32),
        "style-mixing": lambda: ours,
        "separate-head": lambda: replace(ours, keypoint_head="separate"),
        "squared-error": lambda: replace(ours, heat="linear"),
        "paper": lambda: PRESETS["paper"],
        "released-code": lambda: PRESETS["released-code"],
    }


class Bench:
    """The generator, its labels, and unseen samples with the annotator's labels."""

    def __init__(self, samples: int) -> None:
        self.generator: StyleGenerator = load_gan("cars-64").generator
        self.labels = LabelSet.load(ANNOTATIONS / "labels")
        codes = ViewCodeSet.load(ANNOTATIONS / "views")
        self.direction = cache(lambda seed: train_direction(self.generator, codes, DirectionTraining(seed=seed)))
        self.w = content_codes(self.generator, range(FIRST_SEED, FIRST_SEED + samples), 0.7)
        images, _ = images_and_features(self.generator.synthesis, self.w, ())
        self.found: Annotation = Annotator.load(weights.path("cars-annotator")).annotate(images)
        self.truth = self.labels.schema.merge(LEVEL)[self.found.parts]

    def labelled_codes(self, mixed: bool) -> Tensor:
        """Latents of the labelled samples; mixed: each once more, in the colours of a sample without labels."""
        w = torch.from_numpy(self.labels.w)
        if not mixed:
            return w
        other = content_codes(self.generator, range(MIXED_SEED, MIXED_SEED + len(w)), 0.7)
        styles = self.generator.synthesis.num_ws
        ws, colours = (rows[:, None].expand(-1, styles, -1) for rows in (w, other))
        return torch.cat([ws, torch.cat([ws[:, :-LAST_STYLES], colours[:, -LAST_STYLES:]], 1)])

    def measure(self, preset: Preset, seed: int, cap: int, *, mixed: bool = False) -> dict[str, float]:
        """Train with a seed and compare on the unseen samples."""
        preset = trained(preset, seed=seed)
        if preset.training.patience:
            preset = trained(preset, steps=cap)
        synthesis, labels = self.generator.synthesis, self.labels
        direction = self.direction(seed) if preset.direction else None
        _, table = images_and_table(
            synthesis,
            self.labelled_codes(mixed),
            preset.layers(synthesis),
            mode=preset.mode,
            standardise=preset.training.standardise,
            direction=direction,
        )
        assert labels.keypoints is not None
        copies = 2 if mixed else 1
        weights = None if labels.weights is None else np.tile(labels.weights, copies)
        start = time.perf_counter()
        interpreter = preset.fit(
            table,
            np.tile(labels.at_level(LEVEL), (copies, 1, 1)),
            CLASSES,
            keypoints=visible_only(np.tile(labels.keypoints, (copies, 1, 1))),
            weights=weights,
            direction=direction,
        )
        figures = {"seconds": time.perf_counter() - start}
        made = label_samples(synthesis, interpreter, self.w)
        figures["miou"] = 100 * mean_iou(self.truth, made.label, CLASSES)
        if made.keypoints is not None:
            sizes, true = object_sizes(self.found.parts), self.found.keypoints
            for percent in (5, 10):
                figures[f"pck_{percent}"] = 100 * pck(true, made.keypoints, percent / 100, sizes, hidden=False)
            figures["visibility_auroc"] = auroc(true[..., 2] > 1, made.keypoints[..., 2])
        return figures


def main() -> None:
    """Measure the rows, print the table and one JSON line."""
    known = rows()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=list(known), choices=list(known))
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cap", type=int, default=8_000, help="steps of the published presets, at most")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(arguments.samples)
    print(f"{'row':24}" + "".join(f"{name:>20}" for name in FIGURES))
    result: dict[str, dict[str, list[float]]] = {}
    for name in arguments.rows:
        runs = [
            bench.measure(known[name](), seed, arguments.cap, mixed=name == "style-mixing")
            for seed in range(arguments.seeds)
        ]
        values = {key: [run[key] for run in runs] for key in FIGURES if key in runs[0]}
        result[name] = {key: [round(float(np.mean(v)), 3), round(float(np.std(v)), 3)] for key, v in values.items()}
        cells = (f"{result[name][k][0]:.2f} +- {result[name][k][1]:.2f}" if k in values else "-" for k in FIGURES)
        print(f"{name:24}" + "".join(f"{cell:>20}" for cell in cells), flush=True)
    print(json.dumps({"samples": arguments.samples, "seeds": arguments.seeds, "cap": arguments.cap, "rows": result}))


if __name__ == "__main__":
    main()
