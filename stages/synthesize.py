"""synthesize: make labelled images without end.

Every sample has a seed of its own; the generator draws it and the interpreter labels it: parts, keypoints where it has
learnt any, and how uncertain every pixel is. The most uncertain images are dropped, by fraction or by threshold; a
change of the filter alone keeps all images and decides anew in seconds.

With --head distilled one network takes the place of the ensemble. It learns first from a few hundred samples that the
ensemble labels; how well it agrees is among the figures.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.artifacts import Gan, Interpreter, LabelledSet, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from ganfoundry.gan.generator import StyleGenerator
    from ganfoundry.labels.distillation import DistilledHead
    from ganfoundry.labels.interpreter import StyleInterpreter

VERSION = 2
DISTILLED = "distilled.safetensors"
AGREEMENT_SAMPLES = 32
BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of synthesize."""

    num_samples: int = param(1200, "Images to make, before the most uncertain are dropped.", min=1)
    filter_fraction: float | None = param(
        None,
        "Share of the images to drop, the most uncertain first; none: as the interpreter says (0.1).",
        min=0.0,
        max=0.9,
        resumes=True,
    )
    filter_threshold: float | None = param(
        None, "Drop every image whose score is above it (nats) instead of a share.", min=0.0, resumes=True
    )
    filter_rule: Literal["preset", "most-uncertain", "released-code"] = param(
        "preset",
        "most-uncertain; or released-code, which drops the 30 most certain, too. preset: as the interpreter says.",
        resumes=True,
    )
    score: Literal["preset", "top-tenth", "mean", "interior", "object"] = param(
        "preset",
        "Score of an image: mean uncertainty of its most uncertain tenth, of all pixels, of the most uncertain tenth "
        "away from where parts meet, or of the object. preset: as the interpreter says.",
    )
    head: Literal["ensemble", "distilled"] = param("ensemble", "Who labels: the ensemble, or a network that learns it.")
    distil_images: int = param(256, "Samples from which the distilled head learns.", min=8)
    distil_steps: int = param(2000, "Training steps of the distilled head.", min=1)
    truncation: float = param(0.7, "Truncation psi of the style codes.", min=0.0, max=2.0)
    precision: Literal["float32", "bfloat16"] = param(
        "float32", "Of generator and interpreter; bfloat16 is faster on processors that have it."
    )
    rows_per_shard: int = param(100, "Images in one file; one worker makes one file at a time.", min=1)
    seed: int = param(0, "Root seed; sample i is the same whatever the number of samples.", min=0)


@dataclass(frozen=True)
class Task:
    """Rows [first, stop) of the set, which make shard `index`: all that a worker needs to know."""

    gan: str
    head: str  # file of the interpreter or of the distilled head
    distilled: bool
    sources: tuple[str, str]  # sha256 of both: a worker that lives on does not confuse them
    shards: str
    index: int
    first: int
    stop: int
    root_seed: int
    truncation: float
    precision: str
    score: str


def run(config: Config, gan: Gan, interpreter: Interpreter, out: Writer[LabelledSet], ctx: Context) -> None:
    """Make, label and rank the images.

    Payload: shards with image, label, uncertainty, score, w and seed, a row each image, with keypoints also keypoints
    (x, y, chance of being visible) and keypoint_spread (pixels, of the ensemble only); labels.json with the classes,
    their colours and the keypoints' names; selection.json with the rows that are dropped and why.
    """
    from ganfoundry.labels.description import interpreter_description
    from ganfoundry.labels.interpreter import StyleInterpreter

    description = interpreter_description(interpreter.path, gan.generator_sha256)
    teacher_path = interpreter.path / "interpreter.safetensors"
    teacher = StyleInterpreter.load(teacher_path)
    score = teacher.config.image_score if config.score == "preset" else config.score
    head_path = teacher_path
    if config.head == "distilled":
        head_path = out.path / DISTILLED
        _distil(config, gan, teacher, head_path, out, ctx)
    sources = (gan.generator_sha256, _sha256(head_path))
    _make_rows(config, gan, head_path, sources, score, out, ctx)
    _select(config, teacher, out)
    table = {key: description[key] for key in ("schema", "level", "classes", "palette", "generator_sha256")}
    table |= {"keypoints": description.get("keypoints", []), "interpreter_sha256": _sha256(teacher_path)}
    table |= {"head": config.head, "head_sha256": sources[1], "score": score, "precision": config.precision}
    table |= {"truncation": config.truncation, "noise": "const", "root_seed": config.seed}
    (out.path / "labels.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _make_rows(
    config: Config,
    gan: Gan,
    head: Path,
    sources: tuple[str, str],
    score: str,
    out: Writer[LabelledSet],
    ctx: Context,
) -> None:
    """Make the shards that are missing; their key is what the rows follow from, which the filter is not."""
    from ganfoundry.data.shards import ShardFolder

    folder = out.path / "shards"
    identity = [VERSION, *sources, config.seed, config.truncation, config.precision, score]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    start = time.perf_counter()
    with ShardFolder(folder, config.num_samples, config.rows_per_shard, key) as shards:
        tasks = [
            Task(
                gan=str(gan.path),
                head=str(head),
                distilled=config.head == "distilled",
                sources=sources,
                shards=str(folder),
                index=task.index,
                first=task.first,
                stop=task.stop,
                root_seed=config.seed,
                truncation=config.truncation,
                precision=config.precision,
                score=score,
            )
            for task in shards.pending(verify=ctx.verify)
        ]
        for _, receipt in ctx.executor.map(label_rows, tasks, "labelling"):
            shards.acknowledge(receipt)
        shards.finish()
    made = sum(task.stop - task.first for task in tasks)
    if made:
        out.figure("images_per_second", round(made / (time.perf_counter() - start), 1))


def label_rows(task: Task) -> dict[str, Any]:
    """Make and label the rows of one shard; the same bytes in any process."""
    import numpy as np
    import torch

    from ganfoundry.data.seeds import CONTENT, sample_integer
    from ganfoundry.data.shards import write_shard
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.labels.synthesis import label_samples, single_thread
    from ganfoundry.labels.uncertainty import image_score

    generator, head = _models(task.gan, task.head, task.distilled, task.sources)
    seeds = [sample_integer(task.root_seed, CONTENT, row) for row in range(task.first, task.stop)]
    dtype = torch.bfloat16 if task.precision == "bfloat16" else torch.float32
    with single_thread():
        w = content_codes(generator, seeds, task.truncation)
        with _generator_precision(task.precision):
            samples = label_samples(generator.synthesis, head, w, batch=BATCH, dtype=dtype)
        uncertainty, label = torch.from_numpy(samples.uncertainty), torch.from_numpy(samples.label)
        score = image_score(uncertainty, task.score, label).numpy()  # type: ignore[arg-type]
    arrays: dict[str, NDArray[Any]] = {
        "image": samples.image,
        "label": samples.label,
        "uncertainty": samples.uncertainty.astype(np.float16),
        "score": score,
        "w": w.numpy().astype(np.float32),
        "seed": np.array(seeds, np.uint64),
    }
    for name in ("keypoints", "keypoint_spread"):
        values = getattr(samples, name)
        if values is not None:
            arrays[name] = values
    return write_shard(task.shards, task.index, arrays, task.first)


@contextmanager
def _generator_precision(precision: str) -> Iterator[None]:
    import torch

    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        yield


@lru_cache(maxsize=1)
def _models(
    gan: str, head: str, distilled: bool, sources: tuple[str, str]
) -> "tuple[StyleGenerator, StyleInterpreter | DistilledHead]":
    """Load both networks once a process; `sources` keeps replaced files apart."""
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.labels.distillation import DistilledHead
    from ganfoundry.labels.interpreter import StyleInterpreter

    return load_gan(gan).generator, (DistilledHead if distilled else StyleInterpreter).load(head)


def _distil(
    config: Config, gan: Gan, teacher: "StyleInterpreter", path: Path, out: Writer[LabelledSet], ctx: Context
) -> None:
    """Train the distilled head unless an interrupted run has left it whole; record how well it agrees."""
    from ganfoundry.data.seeds import EVALUATION, TRAIN
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.labels.distillation import Distillation, DistilledHead, agreement, distil
    from ganfoundry.labels.synthesis import single_thread

    generator = load_gan(gan.path).generator
    with single_thread():
        if not path.exists():
            settings = Distillation(images=config.distil_images, steps=config.distil_steps, seed=config.seed)
            samples = _features(config, generator, teacher, TRAIN, config.distil_images)
            with ctx.progress("distilling", settings.images + settings.steps) as bar:
                head = distil(teacher, samples, settings, bar.advance)
            partial = path.with_name(f".{path.name}")
            head.save(partial)
            partial.replace(path)
        (features,) = _features(config, generator, teacher, EVALUATION, AGREEMENT_SAMPLES, AGREEMENT_SAMPLES)
        found = agreement(DistilledHead.load(path), teacher, features)
    out.figure("agreement_miou", round(found.miou, 4))
    out.figure("agreement_uncertainty_rank", round(found.image_rank, 4))
    if teacher.config.num_keypoints:
        out.figure("agreement_keypoint_pixels", round(found.keypoint_distance, 3))


def _features(
    config: Config,
    generator: "StyleGenerator",
    teacher: "StyleInterpreter",
    stream: int,
    count: int,
    batch: int = BATCH,
) -> "Iterator[dict[str, Tensor]]":
    """Feature maps of samples that the set does not hold, in batches."""
    from ganfoundry.data.seeds import sample_integer
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.labels.synthesis import images_and_features

    seeds = [sample_integer(config.seed, stream, index) for index in range(count)]
    layers = teacher.reads
    for start in range(0, count, batch):
        w = content_codes(generator, seeds[start : start + batch], config.truncation)
        yield images_and_features(generator.synthesis, w, layers)[1]


def _select(config: Config, teacher: "StyleInterpreter", out: Writer[LabelledSet]) -> None:
    """Write selection.json once all scores are known."""
    from ganfoundry.data.reader import ShardReader
    from ganfoundry.labels.filtering import select

    scores = ShardReader(out.path / "shards").read("score")
    preset = teacher.config
    selection = select(
        scores,
        fraction=preset.filter_fraction if config.filter_fraction is None else config.filter_fraction,
        threshold=config.filter_threshold,
        rule=preset.filter_rule if config.filter_rule == "preset" else config.filter_rule,
    )
    selection.save(out.path / "selection.json")
    out.figure("images", selection.rows)
    out.figure("kept", len(selection.kept))
    out.figure("mean_score", round(float(scores.mean()), 4))
    if selection.threshold is not None:
        out.figure("score_threshold", round(selection.threshold, 4))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


command = stage_command(
    "synthesize",
    Config,
    run,
    version=VERSION,
    example="python cli.py synthesize --run demo --num-samples 10000 --head distilled --filter-fraction 0.1",
)
