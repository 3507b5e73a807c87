"""Rows of the label benchmark: what each trains on. Everything else is the same for all of them."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from benchmarks import _label_factory as factory
from benchmarks import _labels_data as data
from benchmarks._labels_data import LEVEL, OUTER_LEVEL, POOL_SEED, SCHEMA, TEST_SEED, SetKey
from benchmarks.uncertainty import predict as label_unseen
from ganfoundry.data.seeds import LABEL, sample_rng
from ganfoundry.downstream import (
    Examples,
    NetConfig,
    Recipe,
    Supervised,
    build_net,
    fit,
    keypoint_figures,
    part_figures,
    predict,
)
from ganfoundry.downstream.methods import MeanTeacher, self_trained
from ganfoundry.downstream.networks import Backbone, Net, Task
from ganfoundry.downstream.training import Objective, rarity_weights
from ganfoundry.labels.calibration import image_errors, judge_score
from ganfoundry.labels.uncertainty import image_score

UNLABELLED = 3200  # renders without labels, of which the labelled ones are the first 1,600
POOL = 1600
UNCERTAIN_IMAGES = 400


@dataclass(frozen=True)
class Settings:
    """Sizes of a run of the benchmark; results of other settings are not mixed with these.

    Attributes
    ----------
    steps : optimiser steps of every training
    images : generated samples of the rows that say "all"
    test, outer : images of the two test sets
    """

    steps: int = 700
    images: int = 10_000
    test: int = 1000
    outer: int = 520


@dataclass(frozen=True)
class Row:
    """One way to get a trained network from few labels.

    Attributes
    ----------
    name, title : str
    method : "supervised", "imagenet", "self-trained", "mean-teacher", "gan", or "uncertainty", which trains no network
        but asks whether the interpreter of a "gan" row knows where it is wrong
    labels : labelled images
    seeds : how many seeds it is run with
    preset : of the interpreter ("gan")
    images : generated samples; 0: all of the settings ("gan")
    fraction : of them that the filter is asked to drop ("gan")
    keypoints : whether keypoints are trained as well
    """

    name: str
    title: str
    method: str = "gan"
    labels: int = 16
    seeds: int = 3
    preset: str = "ours"
    images: int = 0
    fraction: float = 0.1
    keypoints: bool = True

    def set_key(self, seed: int) -> SetKey:
        """The labelled set that it trains on ("gan")."""
        return SetKey(self.preset, self.labels, seed)

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is trained."""
        if self.method == "uncertainty":
            return ()
        return ("parts", "keypoints") if self.keypoints else ("parts",)

    def images_of(self, settings: Settings) -> int:
        """Number of generated samples."""
        return min(self.images or settings.images, settings.images)


CURVE_IMAGES = 1000  # of the curve over labels
ROWS = {
    row.name: row
    for row in (
        Row("supervised_16", "fully supervised, 16 renders", "supervised", 16),
        Row("supervised_160", "fully supervised, 160 renders", "supervised", 160),
        Row("supervised_1600", "fully supervised, 1,600 renders", "supervised", 1600),
        Row("transfer_imagenet", "transfer learning: ImageNet features, 16 renders", "imagenet"),
        Row("transfer_self", "transfer learning: self-trained features, 16 renders", "self-trained"),
        Row("semi_supervised", "mean teacher: 16 renders, 3,200 without labels", "mean-teacher"),
        Row("released", "DatasetGAN as released, 16 labels", preset="released-code", keypoints=False),
        Row("ours", "ours, 16 labels", seeds=5),
        Row("ours_unfiltered", "ours without the filter", seeds=5, fraction=0.0, keypoints=False),
        Row("uncertainty", "uncertainty of the interpreter's images", "uncertainty"),
        Row("images_1000", "ours, 1,000 images", images=1000, keypoints=False),
        Row("images_3000", "ours, 3,000 images", images=3000, keypoints=False),
        *(
            Row(
                f"labels_{n}",
                f"ours, {n} label{'s' * (n > 1)}, 1,000 images",
                labels=n,
                images=CURVE_IMAGES,
                keypoints=False,
            )
            for n in (1, 2, 4, 8, 32)
        ),
    )
}


def train_row(row: Row, seed: int, settings: Settings, task: Task, note: Callable[[str], None]) -> Net:
    """Train one network of a row."""
    backbone: Backbone = "imagenet" if row.method == "imagenet" else "small"
    config = NetConfig(task, SCHEMA.names(LEVEL) if task == "parts" else SCHEMA.keypoints, backbone)
    recipe = Recipe(steps=settings.steps, seed=seed)
    if backbone == "imagenet":  # depthwise convolutions gain nothing in bf16
        recipe = replace(recipe, backbone_rate=0.1, precision="fp32")
    if row.method == "self-trained":
        note("features")
        net = self_trained(config, data.renders(POOL_SEED, UNLABELLED).image, recipe, seed)
        recipe = replace(recipe, backbone_rate=0.3)
    else:
        net = build_net(config, seed)
    fit(net, objective(row, seed, settings, recipe), recipe, on_step=lambda step, _: note(f"{task} step {step}"))
    return net


def objective(row: Row, seed: int, settings: Settings, recipe: Recipe) -> Objective:
    """What a row minimises."""
    source = training_set(row, seed, settings)
    weights = rarity_weights(source, len(SCHEMA.names(LEVEL)))
    supervised = Supervised(source, recipe, torch.from_numpy(SCHEMA.flip_permutation()), weights)
    if row.method == "mean-teacher":
        return MeanTeacher(supervised, data.renders(POOL_SEED, UNLABELLED).image)
    return supervised


def training_set(row: Row, seed: int, settings: Settings) -> Examples:
    """Labelled images of a row: renders by chance, or a synthesised set."""
    if row.method == "gan":
        return data.labelled_set(row.set_key(seed), row.images_of(settings), row.fraction)
    pool = data.renders(POOL_SEED, POOL)
    return pool.rows(sample_rng(seed, LABEL, 0).permutation(POOL)[: row.labels])


def measure(net: Net, settings: Settings) -> dict[str, float]:
    """Figures of a network on both test sets; those of the outer one begin with "outer_"."""
    figures = _measure(net, data.renders(TEST_SEED, settings.test), inner=True)
    others = data.outer(settings.outer)
    if others is not None:
        figures |= {f"outer_{name}": value for name, value in _measure(net, others, inner=False).items()}
    return figures


def _measure(net: Net, truth: Examples, *, inner: bool) -> dict[str, float]:
    found = predict(net, truth.image)
    if found.label is None:
        assert found.keypoints is not None
        return keypoint_figures(truth, found.keypoints)
    label = found.label if inner else data.coarser()[found.label]
    classes = len(SCHEMA.names(LEVEL if inner else OUTER_LEVEL))
    return part_figures(truth.label, label, classes, ignore=None if inner else 255)


def uncertainty_figures(row: Row, seed: int, settings: Settings) -> dict[str, float]:
    """AUROC of image scores for the worst tenth of unseen samples, see `benchmarks.uncertainty`."""
    gan, found = data.generator(), data.interpreter(row.set_key(seed))
    judge = factory.Judge.load(factory.labels(gan))
    images, said = label_unseen(found, gan, min(UNCERTAIN_IMAGES, settings.images))
    truth, trusted = judge.trusted(images)
    ranking = judge_score(image_score(said.uncertainty).numpy(), image_errors(truth, said.label.numpy(), trusted))
    return {"auroc": ranking.auroc, "rank": ranking.rank}
