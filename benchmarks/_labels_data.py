"""Images of the label benchmark: renders with exact labels, generated samples, labelled sets; all cached.

Renders for training, and those for testing, come from roots of their own, so no image of a test is in any training,
the generator's included. Folders hold parts of some rows, each written whole or not at all: an interrupted run goes on.
The interpreters of all rows label in bfloat16: faster, and few pixels change.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray

from benchmarks._jobs import cached
from benchmarks._labels_foreign import foreign_examples, installed
from benchmarks.views import codes_of
from ganfoundry import weights
from ganfoundry.data.seeds import CONTENT, EVALUATION, LABEL, WORLD, sample_integer, sample_rng
from ganfoundry.downstream import Examples, NetConfig, Recipe
from ganfoundry.downstream.methods import painter
from ganfoundry.downstream.model import load_net, save_net
from ganfoundry.downstream.networks import Net
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.images import halved_images, halved_labels
from ganfoundry.labels.direction import DirectionHead, DirectionTraining, coarse_layers, train_direction
from ganfoundry.labels.feature_table import FeatureTable
from ganfoundry.labels.filtering import select
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.keypoints import calibrate_visibility, visible_only
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.presets import Preset, get_preset
from ganfoundry.labels.synthesis import held_out_prediction, images_and_features, images_and_table, label_samples
from ganfoundry.views import ViewCodeSet
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator
from ganfoundry.worlds.annotator_data import render_samples

WORLD_NAME, GAN, LEVEL, OUTER_LEVEL = "cars", "cars-64", "parts12", "parts5"
SIZE = 64  # of all images; what a larger generator makes is halved
CACHE = Path("outputs/cache/labels")
VERSION = 2  # of what is made here: files of another one are not read
POOL_SEED, TEST_SEED = sample_integer(0, EVALUATION, 1), sample_integer(0, EVALUATION, 2)
SAMPLE_SEED = 4_000  # of the generated samples: the same for every interpreter
ROWS_PER_PART = 500
TRUNCATION = 0.7
FOLDS, FOLD_MEMBERS = 4, 3  # of the cross-validation that calibrates the keypoints' visibility
SCHEMA = get_world(WORLD_NAME).schema

LABELS_ALONE = "labels-alone"  # our preset without what the viewpoint codes teach

Arrays = Mapping[str, NDArray[np.generic]]


def parts_of(count: int) -> list[range]:
    """Rows of every part."""
    return [range(first, min(first + ROWS_PER_PART, count)) for first in range(0, count, ROWS_PER_PART)]


def joined(pieces: list[Examples]) -> Examples:
    """Examples one after the other."""
    points = [piece.keypoints for piece in pieces if piece.keypoints is not None]
    return Examples(
        np.concatenate([piece.image for piece in pieces]),
        np.concatenate([piece.label for piece in pieces]),
        np.concatenate(points) if len(points) == len(pieces) else None,
    )


def render_part(root: int, rows: range) -> Examples:
    """Renders of some rows of a root with labels of the level."""

    def make() -> Arrays:
        world = get_world(WORLD_NAME)
        renders = render_samples(world, [sample_integer(root, WORLD, row) for row in rows])
        found = Examples.of_renders(renders, world.schema, LEVEL)
        assert found.keypoints is not None
        return {"image": found.image, "label": found.label, "keypoints": found.keypoints}

    path = CACHE / f"renders-{root}" / f"{rows.start:06d}-{rows.stop:06d}.npz"
    found = Examples(**cached(path, make))
    world = get_world(WORLD_NAME)
    if not np.array_equal(found.image[0], world.render(sample_integer(root, WORLD, rows.start), 64).image):
        path.unlink()  # rendered by an earlier form of the world
        found = Examples(**cached(path, make))
    return found


def renders(root: int, count: int) -> Examples:
    """The first `count` renders of a root."""
    return joined([render_part(root, rows) for rows in parts_of(count)])


def outer(count: int) -> Examples | None:
    """Cars made by others, labels of `OUTER_LEVEL`, 255 = unknown; None where the package is not installed."""
    if not installed():
        return None

    def make() -> Arrays:
        found = foreign_examples(SCHEMA, count)
        assert found.keypoints is not None
        return {"image": found.image, "label": found.label, "keypoints": found.keypoints}

    return Examples(**cached(CACHE / f"foreign-{VERSION}-{count}.npz", make))


def coarser() -> NDArray[np.uint8]:
    """Table from ids of `LEVEL` to ids of `OUTER_LEVEL`."""
    fine, coarse = SCHEMA.merge(LEVEL), SCHEMA.merge(OUTER_LEVEL)
    table = np.array([coarse[fine == index][0] for index in range(fine.max() + 1)], np.uint8)
    assert (table[fine] == coarse).all(), "the outer level merges the classes of the level"
    return table


def features(config: NetConfig, recipe: Recipe, count: int) -> Net:
    """Network that has learnt to paint the first `count` renders of the pool: its backbone serves both tasks."""
    digest = hashlib.sha256(f"{config!r} {recipe!r} {count} {VERSION}".encode()).hexdigest()[:10]
    path = CACHE / "features" / f"seed{recipe.seed}-{digest}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        save_net(path, painter(config, renders(POOL_SEED, count).image, recipe, recipe.seed))
    return load_net(path)


@lru_cache(maxsize=2)
def generator(name: str = GAN) -> LoadedGan:
    """A shipped generator."""
    return load_gan(name)


def annotations(gan: str) -> Path:
    """Folder with the committed viewpoint codes and labels of a generator."""
    return codes_of(generator(gan)).parent


def annotated(count: int, seed: int, gan: str = GAN) -> LabelSet:
    """Labelled samples of a generator: `count` of the committed ones by chance, all in order if that is all.

    More than those there are: further samples, labelled by the network that proposed the committed labels.
    """
    labels = LabelSet.load(annotations(gan) / "labels", generator(gan).sha256)
    if count <= len(labels):
        rows = np.arange(count) if count == len(labels) else sample_rng(seed, LABEL, count).permutation(16)[:count]
        return _rows(labels, np.sort(rows))
    w = content_codes(
        generator(gan).generator, [sample_integer(1, LABEL, i) for i in range(count - len(labels))], TRUNCATION
    )
    images, _ = images_and_features(generator(gan).generator.synthesis, w, ())
    said = Annotator.load(weights.path(f"{WORLD_NAME}-annotator")).annotate(images)
    assert labels.keypoints is not None
    return replace(
        labels,
        names=tuple(f"sample-{index}" for index in range(count)),
        images=np.concatenate([labels.images, images]),
        masks=np.concatenate([labels.masks, said.parts]),
        w=np.concatenate([labels.w, w.numpy()]),
        keypoints=np.concatenate([labels.keypoints, said.keypoints]),
        seeds=None,
    )


@lru_cache(maxsize=2)
def label_digest(gan: str = GAN) -> str:
    """Of the committed labels."""
    labels = LabelSet.load(annotations(gan) / "labels", generator(gan).sha256)
    assert labels.keypoints is not None
    return hashlib.sha256(labels.masks.tobytes() + labels.w.tobytes() + labels.keypoints.tobytes()).hexdigest()


def _rows(labels: LabelSet, rows: NDArray[np.int64]) -> LabelSet:
    assert labels.keypoints is not None
    return replace(
        labels,
        names=tuple(labels.names[row] for row in rows),
        images=labels.images[rows],
        masks=labels.masks[rows],
        w=labels.w[rows],
        keypoints=labels.keypoints[rows],
        seeds=None,
    )


def preset_of(name: str) -> Preset:
    """A preset of train-interpreter, or ours without directions."""
    return replace(get_preset("ours"), direction=False) if name == LABELS_ALONE else get_preset(name)


def direction(seed: int, name: str = GAN) -> DirectionHead:
    """What the committed viewpoint codes teach about directions; trained if it is not there."""
    training, gan = DirectionTraining(seed=seed), generator(name)
    codes = ViewCodeSet.load(annotations(name) / "views")
    layers = coarse_layers(gan.generator.synthesis.feature_dims)
    known = f"{training!r} {gan.sha256} {hashlib.sha256(codes.w.tobytes()).hexdigest()} {VERSION}"
    path = CACHE / "directions" / f"{hashlib.sha256(known.encode()).hexdigest()[:10]}.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.partial")
        safetensors.torch.save_file(train_direction(gan.generator, codes, training).tensors(), temporary)
        temporary.replace(path)
    return DirectionHead.of_tensors(layers, safetensors.torch.load_file(path))


@dataclass(frozen=True)
class SetKey:
    """A labelled set.

    Attributes
    ----------
    preset, seed : of its interpreter
    labels : how many it has learnt from
    calibrated : whether cross-validation calibrates the keypoints' chance of being visible; the parts are the same
    truncation : psi of the samples that it labels
    gan : whose samples they are
    """

    preset: str
    labels: int
    seed: int
    calibrated: bool = True
    truncation: float = TRUNCATION
    gan: str = GAN

    @property
    def folder(self) -> Path:
        """Where its interpreter is cached."""
        # A changed preset, generator, calibration or label: another set.
        sha256 = generator(self.gan).sha256
        known = f"{preset_of(self.preset)!r} {sha256} {FOLDS} {FOLD_MEMBERS} {self.calibrated} {VERSION}"
        known += f" {label_digest(self.gan)}"
        digest = hashlib.sha256(known.encode()).hexdigest()[:10]
        return CACHE / "sets" / f"{self.preset}-{self.labels}-seed{self.seed}-{digest}"


def interpreter(key: SetKey) -> StyleInterpreter:
    """The interpreter of a set, trained if it is not there."""
    path = key.folder / "interpreter.safetensors"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        preset, labels = preset_of(key.preset), annotated(key.labels, key.seed, key.gan)
        preset = replace(preset, training=replace(preset.training, seed=key.seed))
        synthesis = generator(key.gan).generator.synthesis
        head = direction(key.seed, key.gan) if preset.direction else None
        _, table = images_and_table(
            synthesis, torch.from_numpy(labels.w), preset.layers(synthesis), mode=preset.mode,
            standardise=preset.training.standardise, direction=head,
        )  # fmt: skip
        found = _fitted(preset, table, labels, head, key.calibrated)
        temporary = path.with_suffix(".partial")
        found.save(temporary)
        temporary.replace(path)
    return StyleInterpreter.load(path)


def _fitted(
    preset: Preset, table: FeatureTable, labels: LabelSet, head: DirectionHead | None, calibrated: bool
) -> StyleInterpreter:
    """As train-interpreter does it: visibility is calibrated on labelled images that a smaller ensemble did not see."""
    assert labels.keypoints is not None
    masks, visible, classes = labels.at_level(LEVEL), visible_only(labels.keypoints), len(SCHEMA.names(LEVEL))
    found = preset.fit(table, masks, classes, keypoints=visible, direction=head)
    folds = min(FOLDS, len(labels)) if calibrated else 0
    if not found.config.num_keypoints or folds < 2:
        return found
    small = replace(preset, members=FOLD_MEMBERS)
    held_out = held_out_prediction(
        table,
        [np.arange(len(labels))[start::folds] for start in range(folds)],
        lambda part, rows: small.fit(part, masks[rows], classes, keypoints=visible[rows], direction=head),
    ).keypoints
    assert held_out is not None
    curve = calibrate_visibility(held_out[..., 2].numpy(), visible[..., 2], found.config.visibility)
    return found.with_config(visibility=curve)


def sample_part(rows: range, truncation: float, gan: str = GAN) -> NDArray[np.uint8]:
    """Generated images of some rows."""

    def make() -> Arrays:
        images, _ = images_and_features(generator(gan).generator.synthesis, _codes(rows, truncation, gan), (), batch=32)
        while images.shape[1] > SIZE:
            images = halved_images(images)
        return {"image": images}

    whose = "" if gan == GAN else f"{gan}-{generator(gan).sha256[:10]}-"
    folder = CACHE / f"samples-{whose}{SAMPLE_SEED}-psi{truncation}"
    return cached(folder / f"{rows.start:06d}-{rows.stop:06d}.npz", make)["image"]


def _codes(rows: range, truncation: float, gan: str) -> torch.Tensor:
    seeds = [sample_integer(SAMPLE_SEED, CONTENT, row) for row in rows]
    return content_codes(generator(gan).generator, seeds, truncation)


def label_part(key: SetKey, rows: range) -> Arrays:
    """Labels, keypoints and scores that an interpreter gives to some rows."""

    def make() -> Arrays:
        w = _codes(rows, key.truncation, key.gan)
        made = label_samples(generator(key.gan).generator.synthesis, interpreter(key), w, dtype=torch.bfloat16)
        label, keypoints = made.label, made.keypoints
        while label.shape[1] > SIZE:
            label = halved_labels(label)[0]
        found: Arrays = {"label": label, "score": made.score}
        if keypoints is None:
            return found
        places = np.array([SIZE / made.label.shape[1]] * 2 + [1], np.float32)
        return {**found, "keypoints": keypoints * places}

    return cached(key.folder / f"psi{key.truncation}" / f"{rows.start:06d}-{rows.stop:06d}.npz", make)


def labeller(gan: str = GAN) -> str:
    """What names the network that proposed the committed labels, and the generator whose samples it labels here."""
    return f"{generator(gan).sha256[:10]}-{str(weights.read_card(f'{WORLD_NAME}-annotator')['sha256'])[:10]}"


def labeller_part(rows: range, gan: str = GAN) -> Examples:
    """Some rows of the samples as that network labels them."""
    image = sample_part(rows, TRUNCATION, gan)

    def make() -> Arrays:
        said = Annotator.load(weights.path(f"{WORLD_NAME}-annotator")).annotate(image)
        keypoints = said.keypoints.copy()
        keypoints[..., 2] = keypoints[..., 2] > 1.5
        return {"label": SCHEMA.merge(LEVEL)[said.parts], "keypoints": keypoints}

    name = f"{rows.start:06d}-{rows.stop:06d}.npz"
    return Examples(image, **cached(CACHE / f"labeller-{labeller(gan)}-{VERSION}" / name, make))


def labeller_set(count: int, gan: str = GAN) -> Examples:
    """The first `count` samples as the labeller of the 16 labels them: no interpreter's errors are in it."""
    return joined([labeller_part(rows, gan) for rows in parts_of(count)])


def labelled_set(key: SetKey, count: int, fraction: float) -> Examples:
    """The first `count` samples as an interpreter labels them, some of them dropped by the rule of its preset."""
    pieces = [label_part(key, rows) for rows in parts_of(count)]
    table = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    image = np.concatenate([sample_part(rows, key.truncation, key.gan) for rows in parts_of(count)])
    rule = preset_of(key.preset).filter_rule if fraction > 0 else "most-uncertain"
    kept = select(table["score"], fraction=fraction, rule=rule).kept
    return Examples(image, table["label"], table.get("keypoints")).rows(kept)
