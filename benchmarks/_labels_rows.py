"""Rows of the label benchmark: what each trains on. Everything else is the same for all of them."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

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
from ganfoundry.downstream.methods import MeanTeacher, with_backbone
from ganfoundry.downstream.networks import Net, Task
from ganfoundry.downstream.training import Objective, rarity_weights
from ganfoundry.labels.calibration import image_errors, judge_score

UNLABELLED = 3200  # renders without labels, of which the labelled ones are the first 1,600
POOL = 1600
GAN, PRETRAINED = ("gan", "gan-imagenet"), ("imagenet", "gan-imagenet")  # methods: what teaches; what begins
UNCERTAIN_IMAGES = 400
CURVE_IMAGES, FILTER_IMAGES = 1000, 3000  # of the curve over labels, and of the trial of the filter


@dataclass(frozen=True)
class Settings:
    """Sizes of a run of the benchmark; results of other settings are not mixed with these.

    Attributes
    ----------
    steps : optimiser steps of every training
    images : generated samples of the rows that say "all"
    test, outer : images of the two test sets
    """

    steps: int = 500
    images: int = 10_000
    test: int = 500
    outer: int = 260


@dataclass(frozen=True)
class Row:
    """One way to get a trained network from few labels.

    The order of the rows is that in which they are run, within what the targets need and the rest.

    Attributes
    ----------
    name, title : str
    method : "supervised", "imagenet", "self-trained", "mean-teacher", "gan", "gan-imagenet" (a synthesised set, and
        features of ImageNet to begin with), "labeller" (the same samples, labelled by who labelled the 16), or
        "uncertainty", which trains no network but asks whether the interpreter of a "gan" row knows where it is wrong
    labels : labelled images
    seeds : how many seeds it is run with
    preset : of the interpreter ("gan")
    images : generated samples; 0: all of the settings ("gan")
    fraction : of them that the filter is asked to drop ("gan")
    truncation : psi of them ("gan")
    keypoints : whether keypoints are trained as well
    target : whether the targets of the summary need it: such rows are run first
    gan : whose samples ("gan", "labeller"); images of more than 64 px, their labels and keypoints are halved
    """

    name: str
    title: str
    method: str = "gan"
    labels: int = 16
    seeds: int = 3
    preset: str = "ours"
    images: int = 0
    fraction: float = 0.1
    truncation: float = data.TRUNCATION
    keypoints: bool = True
    target: bool = False
    gan: str = data.GAN

    def set_key(self, seed: int) -> SetKey:
        """The labelled set that it trains on ("gan")."""
        calibrated = self.labels == LABELS
        return SetKey(self.preset, self.labels, seed, calibrated, self.truncation, self.gan)

    def described(self) -> dict[str, Any]:
        """Its fields, for what a result follows from; the usual generator is not named."""
        fields = asdict(self)
        return fields if self.gan != data.GAN else {name: value for name, value in fields.items() if name != "gan"}

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What is trained."""
        if self.method == "uncertainty":
            return ()
        return ("parts", "keypoints") if self.keypoints else ("parts",)

    def images_of(self, settings: Settings) -> int:
        """Number of generated samples."""
        return min(self.images or settings.images, settings.images)


LABELS = 16  # of the committed set
ROWS = {
    row.name: row
    for row in (
        Row("ours", "ours, 16 labels and viewpoint codes", target=True),
        Row("supervised_1600", "fully supervised, 1,600 renders", "supervised", 1600, target=True),
        Row("released", "DatasetGAN as released, 16 labels", preset="released-code", keypoints=False, target=True),
        Row("transfer_self", "transfer learning: self-trained features, 16 renders", "self-trained", target=True),
        Row("uncertainty", "uncertainty of the interpreter's images", "uncertainty", target=True),
        Row("transfer_imagenet", "transfer learning: ImageNet features, 16 renders", "imagenet", target=True),
        Row("ours_imagenet", "ours with ImageNet features", "gan-imagenet"),
        Row("labeller", "the samples of ours, all labelled by the labeller of the 16", "labeller"),
        Row("supervised_16", "fully supervised, 16 renders", "supervised", 16),
        Row("supervised_160", "fully supervised, 160 renders", "supervised", 160),
        Row("semi_supervised", "mean teacher: 16 renders, 3,200 without labels", "mean-teacher", keypoints=False),
        Row("images_3000", "ours, 3,000 images", seeds=5, images=FILTER_IMAGES, keypoints=False),
        Row(
            "unfiltered_3000", "the same without the filter", seeds=5, images=FILTER_IMAGES, fraction=0, keypoints=False
        ),
        Row(
            "labels_alone_3000",
            "the same without viewpoint codes",
            preset=data.LABELS_ALONE,
            images=FILTER_IMAGES,
            keypoints=False,
        ),
        Row("untruncated_3000", "ours, 3,000 images at psi 1", images=FILTER_IMAGES, truncation=1.0, keypoints=False),
        Row("ours_128", "ours with cars-128, halved, 3,000 images", images=FILTER_IMAGES, gan="cars-128"),
        Row(
            "labeller_128",
            "these 3,000, all labelled by the labeller of the 16",
            "labeller",
            images=FILTER_IMAGES,
            gan="cars-128",
        ),
        Row("images_1000", "ours, 1,000 images", images=CURVE_IMAGES, keypoints=False),
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


def network(row: Row, task: Task) -> NetConfig:
    """Network of a row: the same for all but that with ImageNet features."""
    outputs = SCHEMA.names(LEVEL) if task == "parts" else SCHEMA.keypoints
    return NetConfig(task, outputs, "imagenet" if row.method in PRETRAINED else "small")


def self_trained(seed: int, settings: Settings) -> Net:
    """Features of the row of that name."""
    recipe = Recipe(steps=settings.steps, seed=seed)
    return data.features(network(ROWS["transfer_self"], "parts"), recipe, UNLABELLED)


def train_row(row: Row, seed: int, settings: Settings, task: Task, note: Callable[[str], None]) -> Net:
    """Train one network of a row."""
    config = network(row, task)
    recipe = Recipe(steps=settings.steps, seed=seed)
    if row.method in PRETRAINED:  # depthwise convolutions gain nothing in bf16
        recipe = replace(recipe, backbone_rate=0.1, precision="fp32")
    if row.method == "self-trained":
        net = with_backbone(config, self_trained(seed, settings), seed)
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
    if row.method in GAN:
        return data.labelled_set(row.set_key(seed), row.images_of(settings), row.fraction)
    if row.method == "labeller":
        return data.labeller_set(row.images_of(settings), row.gan)
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
    """AUROC of the images' scores for bad labels, of unseen samples against the labeller; see `benchmarks.uncertainty`.

    Bad are the worst tenth by the share of wrong object pixels, as many as the filter drops ("auroc"), or the worse
    half ("auroc_median").
    """
    gan, found = data.generator(), data.interpreter(row.set_key(seed))
    judge = factory.Judge.load(factory.labels(gan))
    images, said = label_unseen(found, gan, min(UNCERTAIN_IMAGES, settings.images))
    truth, trusted = judge.trusted(images)
    errors, score = image_errors(truth, said.label.numpy(), trusted), said.score.numpy()
    ranking = judge_score(score, errors)
    figures = {
        "auroc": ranking.auroc,
        "auroc_median": judge_score(score, errors, worst=0.5).auroc,
        "rank": ranking.rank,
    }
    return figures | {"error": ranking.error_all, "error_kept": ranking.error_kept}
