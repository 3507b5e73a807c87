"""Which samples to label: mIoU of the interpreter over the number of labels, select against random and medoids.

    python -m benchmarks.selection [--counts 1 2 4 8 16 32] [--seeds 3] [--methods core-set random] [--jobs 2]

All methods choose from the same candidates of the shipped generator, labelled by the annotator network (the truth of
benchmarks.uncertainty), and are judged on other samples by the same network, where it does not contradict itself. All
interpreters know directions from the viewpoint codes, as train-interpreter's do. The core-set grows: with each count
the interpreter of the labels so far scores the candidates and `select` adds to them, as a user would. Random and
medoids choose every count afresh; all seeds change the interpreter's, and what is random.

The last line is one JSON object: the mIoU of every method and count, and how many labels the core-set needs for what
random reaches with 16 ("labels_for_random16", interpolated in the logarithm of the count; 0 when it never does).
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import _label_factory as factory
from benchmarks import _labels_data as data
from ganfoundry.data.seeds import LABEL, sample_integer
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.active import Survey, choose, survey
from ganfoundry.labels.interpreter import StyleInterpreter, Training
from ganfoundry.labels.synthesis import images_and_features
from ganfoundry.metrics import mean_iou

METHODS = ("core-set", "medoids", "random")


@dataclass(frozen=True)
class Pool:
    """Candidates with their labels, and the samples on which interpreters are judged."""

    gan: LoadedGan
    w: Tensor
    base: Survey
    labels: NDArray[np.uint8]
    test_w: Tensor
    test_labels: NDArray[np.uint8]  # 255 where the labeller contradicts itself
    num_classes: int


@cache
def make_pool(candidates: int, tests: int) -> Pool:
    """Draw and label everything once."""
    gan = factory.generator()
    label_set = factory.labels(gan)
    judge = factory.Judge.load(label_set)
    seeds = [sample_integer(0, LABEL, index) for index in range(candidates)]
    w = content_codes(gan.generator, seeds, 0.7)
    base = survey(gan.generator.synthesis, None, w)
    test_w = factory.unseen(gan, tests)
    truth, trusted = judge.trusted(survey(gan.generator.synthesis, None, test_w).images)
    classes = len(label_set.schema.names(factory.LEVEL))
    return Pool(gan, w, base, judge.labels(base.images), test_w, np.where(trusted, truth, 255), classes)


def fit(pool: Pool, rows: Sequence[int], arguments: argparse.Namespace, seed: int) -> StyleInterpreter:
    """Interpreter of some candidates."""
    synthesis = pool.gan.generator.synthesis
    features = images_and_features(synthesis, pool.w[list(rows)], list(synthesis.feature_dims))[1]
    return StyleInterpreter.fit(
        features,
        pool.labels[list(rows)],
        pool.num_classes,
        members=arguments.members,
        training=Training(steps=arguments.steps, seed=seed),
        direction=data.direction(seed),
    )


def judged(pool: Pool, interpreter: StyleInterpreter) -> float:
    """Mean intersection over union on the test samples."""
    found = survey(pool.gan.generator.synthesis, interpreter, pool.test_w).label
    assert found is not None
    return mean_iou(pool.test_labels, found, pool.num_classes, ignore=255)


def grown(pool: Pool, arguments: argparse.Namespace, seed: int) -> dict[int, float]:
    """Curve of the core-set, every choice with the interpreter of the labels before."""
    rows: list[int] = []
    found, result = pool.base, {}
    for count in arguments.counts:
        rows += choose("core-set", found, count - len(rows), taken=rows)
        interpreter = fit(pool, rows, arguments, seed)
        result[count] = judged(pool, interpreter)
        if count != arguments.counts[-1]:
            found = survey(pool.gan.generator.synthesis, interpreter, pool.w)
        print(f"core-set, seed {seed}, {count} labels: {result[count]:.3f}", flush=True)
    return result


def afresh(method: str, pool: Pool, arguments: argparse.Namespace, seed: int) -> dict[int, float]:
    """Curve of a method that needs no interpreter."""
    order = choose("random", pool.base, max(arguments.counts), random=np.random.default_rng(seed))
    result = {}
    for count in arguments.counts:
        rows = order[:count] if method == "random" else choose("medoids", pool.base, count)
        result[count] = judged(pool, fit(pool, rows, arguments, seed))
        print(f"{method}, seed {seed}, {count} labels: {result[count]:.3f}", flush=True)
    return result


def labels_needed(curve: Mapping[int, float], goal: float) -> float:
    """Number of labels at which a rising curve reaches a goal; 0 when it never does."""
    counts = sorted(curve)
    values = np.maximum.accumulate([curve[count] for count in counts])
    if values[-1] < goal:
        return 0.0
    if values[0] >= goal:
        return float(counts[0])
    upper = int(np.argmax(values >= goal))
    low, high = values[upper - 1], values[upper]
    share = (goal - low) / (high - low)
    return float(np.exp(np.log(counts[upper - 1]) * (1 - share) + np.log(counts[upper]) * share))


def main() -> None:
    """Print the curves and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=400)
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes of one thread")
    arguments = parser.parse_args()
    arguments.counts.sort()
    for seed in range(arguments.seeds):
        data.direction(seed)  # made once, kept in a file
    todo = [(method, seed) for seed in range(arguments.seeds) for method in arguments.methods]
    with ProcessPoolExecutor(arguments.jobs, multiprocessing.get_context("spawn")) as processes:
        found = dict(zip(todo, processes.map(partial(curve, arguments), *zip(*todo, strict=True)), strict=True))
    report({m: [found[m, seed] for seed in range(arguments.seeds)] for m in arguments.methods}, arguments.counts)


def curve(arguments: argparse.Namespace, method: str, seed: int) -> dict[int, float]:
    """Quality by number of labels of a method with a seed, in a process of its own."""
    torch.set_num_threads(1)
    pool = make_pool(arguments.candidates, arguments.tests)
    return grown(pool, arguments, seed) if method == "core-set" else afresh(method, pool, arguments, seed)


def report(curves: Mapping[str, Sequence[Mapping[int, float]]], counts: Sequence[int]) -> None:
    """Print the table over seeds and one line of JSON."""
    print(f"\n{'labels':>8}" + "".join(f"{method:>20}" for method in curves))
    for count in counts:
        cells = [factory.seeds_text([curve[count] for curve in found]) for found in curves.values()]
        print(f"{count:8}" + "".join(f"{cell:>20}" for cell in cells))
    means = {m: {c: float(np.mean([curve[c] for curve in found])) for c in counts} for m, found in curves.items()}
    figures: dict[str, float] = {
        f"{m}_{c}": round(value, 4) for m, curve in means.items() for c, value in curve.items()
    }
    if {"core-set", "random"} <= set(means) and 16 in counts:
        figures["labels_for_random16"] = round(labels_needed(means["core-set"], means["random"][16]), 1)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
