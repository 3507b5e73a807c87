"""Which 16 samples should be labelled? Ways of choosing them (annotate-parts --choose) by what is learnt from them.

    python -m benchmarks.label_choice [--gan cars-64] [--seeds 5] [--samples 16] [--candidates 400] [--tested 100]

The annotator network is the labeller: its labels of the chosen samples train an interpreter, and the interpreter is
compared with it on other samples of the generator. Every seed draws other candidates, other samples to test on and
other weights, the same for all ways; "random" takes the first candidates, whose seeds are random. mIoU, mean and
standard deviation over seeds, and over how many of the seeds a way beats random. The last line is one JSON object.
"""

import argparse
import json
import sys
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, LABEL, sample_integer
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.interpreter import StyleInterpreter, Training
from ganfoundry.labels.synthesis import images_and_features, label_samples
from ganfoundry.metrics import mean_iou
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotation, Annotator
from ganfoundry.worlds.annotator_choice import choose_balanced, choose_medoids

Rows = NDArray[np.int64]
TRUNCATION = 0.7
BATCH = 50


def codes(gan: LoadedGan, seed: int, stream: int, count: int) -> torch.Tensor:
    """Latents (count, w_dim) of the first samples of a stream."""
    return content_codes(gan.generator, [sample_integer(seed, stream, index) for index in range(count)], TRUNCATION)


def survey(gan: LoadedGan, annotator: Annotator, w: torch.Tensor) -> tuple[Annotation, NDArray[np.float32]]:
    """What the annotator says of candidates, and the mean of every feature map over the image."""
    layers = list(gan.generator.synthesis.feature_dims)
    found, pooled = [], []
    for rows in torch.split(w, BATCH):
        images, maps = images_and_features(gan.generator.synthesis, rows, layers)
        found.append(annotator.annotate(images))
        pooled.append(torch.cat([maps[name].mean((2, 3)) for name in layers], 1).numpy())
    return Annotation.concatenate(found), np.concatenate(pooled)


def learn(
    gan: LoadedGan, w: torch.Tensor, labels: NDArray[np.uint8], classes: int, seed: int, options: argparse.Namespace
) -> StyleInterpreter:
    """Interpreter of labelled samples, with the settings of train-interpreter but for its size."""
    synthesis = gan.generator.synthesis
    features = images_and_features(synthesis, w, list(synthesis.feature_dims))[1]
    training = Training(steps=options.steps, seed=seed)
    return StyleInterpreter.fit(features, labels, classes, members=options.members, training=training)


def measure(gan: LoadedGan, annotator: Annotator, seed: int, options: argparse.Namespace) -> dict[str, float]:
    """MIoU of every way with one seed."""
    world = get_world(annotator.config.world)
    level = world.schema.default_level
    merge, classes = world.schema.merge(level), len(world.schema.names(level))
    w, tested = codes(gan, seed, LABEL, options.candidates), codes(gan, seed, EVALUATION, options.tested)
    found, features = survey(gan, annotator, w)
    truth = merge[survey(gan, annotator, tested)[0].parts]
    ways: dict[str, Callable[[], Rows]] = {
        "random": lambda: np.arange(options.samples),
        "balanced": lambda: choose_balanced(found, options.samples, azimuths=world.azimuths),
        "medoids": lambda: choose_medoids(features, options.samples),
    }
    figures = {}
    for name, choose in ways.items():
        print(f"seed {seed}, {name} ...", file=sys.stderr, flush=True)
        rows = choose()
        interpreter = learn(gan, w[rows], merge[found.parts[rows]], classes, seed, options)
        labels = label_samples(gan.generator.synthesis, interpreter, tested).label
        figures[name] = mean_iou(truth, labels, classes)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cars-64", help="shipped name, folder or file")
    parser.add_argument("--annotator", help="folder; default: the shipped one of the generator's world")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--candidates", type=int, default=400)
    parser.add_argument("--tested", type=int, default=100)
    parser.add_argument("--members", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(1)
    gan = load_gan(options.gan)
    folder = options.annotator or weights.network_of(gan.world, "annotator", "give one with --annotator")
    annotator = Annotator.load(folder)
    table = [measure(gan, annotator, seed, options) for seed in range(options.seeds)]
    print(f"{options.samples} of {options.candidates} samples, {options.seeds} seeds, mIoU on {options.tested} others")
    figures: dict[str, dict[str, float | int]] = {}
    for name in table[0]:
        values = np.array([row[name] for row in table])
        wins = int(sum(row[name] > row["random"] for row in table))
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        figures[name] = {"miou": round(float(values.mean()), 4), "std": round(spread, 4), "beats_random": wins}
        print(f"{name:10s} {values.mean():.4f} ± {spread:.4f}   better than random {wins} of {len(table)}")
    print(json.dumps({"gan": gan.sha256[:12], "seeds": options.seeds, "samples": options.samples, **figures}))


if __name__ == "__main__":
    main()
