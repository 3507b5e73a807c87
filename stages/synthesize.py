"""synthesize: make labelled images without end.

Every sample has a seed of its own; the generator draws it and the interpreter labels it. The most uncertain share is
dropped, by the mean of each image's most uncertain tenth of pixels (Jensen-Shannon divergence of the ensemble).
"""

import hashlib
import json
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Gan, Interpreter, LabelledSet, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ganfoundry.gan.generator import StyleGenerator
    from ganfoundry.labels.interpreter import StyleInterpreter


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of synthesize."""

    num_samples: int = param(1200, "Images to make, before the most uncertain are dropped.", min=1)
    filter_fraction: float = param(0.1, "Share of the images to drop, the most uncertain first.", min=0.0, max=0.9)
    truncation: float = param(0.7, "Truncation psi of the style codes.", min=0.0, max=2.0)
    precision: str = param("float32", "Of the interpreter's products.", choices=("float32", "bfloat16"))
    rows_per_shard: int = param(100, "Images in one file; one worker makes one file at a time.", min=1)
    seed: int = param(0, "Root seed; sample i is the same whatever the number of samples.", min=0)


@dataclass(frozen=True)
class Task:
    """Rows [first, stop) of the set, which make shard `index`: all that a worker needs to know."""

    gan: str
    interpreter: str
    sources: tuple[str, str]  # sha256 of both: a worker that lives on does not confuse them
    shards: str
    index: int
    first: int
    stop: int
    root_seed: int
    truncation: float
    precision: str


def run(config: Config, gan: Gan, interpreter: Interpreter, out: Writer[LabelledSet], ctx: Context) -> None:
    """Make, label and rank the images.

    Payload: shards with image, label, uncertainty, score, w and seed, a row each image; labels.json with the classes
    and their colours; selection.json with the rows that are dropped and why. All other rows are kept.
    """
    from ganfoundry.data.shards import ShardFolder

    description = _description(interpreter, gan)
    sources = (gan.generator_sha256, _sha256(interpreter.path / "interpreter.safetensors"))
    folder = out.path / "shards"
    start = time.perf_counter()
    with ShardFolder(folder, config.num_samples, config.rows_per_shard, out.fingerprint or "by-hand") as shards:
        tasks = [
            Task(
                str(gan.path),
                str(interpreter.path),
                sources,
                str(folder),
                task.index,
                task.first,
                task.stop,
                config.seed,
                config.truncation,
                config.precision,
            )
            for task in shards.pending(verify=ctx.verify)
        ]
        for _, receipt in ctx.executor.map(label_rows, tasks, "labelling"):
            shards.acknowledge(receipt)
        shards.finish()
    made = sum(task.stop - task.first for task in tasks)
    if made:
        out.figure("images_per_second", round(made / (time.perf_counter() - start), 1))
    _select(config, out)
    table = {key: description[key] for key in ("schema", "level", "classes", "palette", "generator_sha256")}
    table |= {"interpreter_sha256": sources[1], "truncation": config.truncation, "noise": "const"}
    table["root_seed"] = config.seed
    (out.path / "labels.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def label_rows(task: Task) -> dict[str, Any]:
    """Make and label the rows of one shard; the same bytes in any process."""
    import numpy as np
    import torch

    from ganfoundry.data.seeds import CONTENT, sample_integer
    from ganfoundry.data.shards import write_shard
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.labels.synthesis import label_samples, single_thread

    generator, interpreter = _models(task.gan, task.interpreter, task.sources)
    seeds = [sample_integer(task.root_seed, CONTENT, row) for row in range(task.first, task.stop)]
    with single_thread():
        w = content_codes(generator, seeds, task.truncation)
        dtype = torch.bfloat16 if task.precision == "bfloat16" else torch.float32
        samples = label_samples(generator.synthesis, interpreter, w, dtype=dtype)
    arrays: dict[str, NDArray[Any]] = {
        "image": samples.image,
        "label": samples.label,
        "uncertainty": samples.uncertainty.astype(np.float16),
        "score": samples.score,
        "w": w.numpy().astype(np.float32),
        "seed": np.array(seeds, np.uint64),
    }
    return write_shard(task.shards, task.index, arrays, task.first)


@lru_cache(maxsize=1)
def _models(gan: str, interpreter: str, sources: tuple[str, str]) -> "tuple[StyleGenerator, StyleInterpreter]":
    """Load both networks once a process; `sources` keeps replaced files apart."""
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.labels.interpreter import StyleInterpreter

    return load_gan(gan).generator, StyleInterpreter.load(Path(interpreter) / "interpreter.safetensors")


def _description(interpreter: Interpreter, gan: Gan) -> dict[str, Any]:
    """Read interpreter.json; refuse an interpreter of another generator."""
    path = interpreter.path / "interpreter.json"
    try:
        table: dict[str, Any] = json.loads(path.read_text("utf-8"))
        trained_on = table["generator_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}; train the interpreter again") from None
    if trained_on != gan.generator_sha256:
        raise UserError(
            f"the interpreter in {interpreter.path} reads the generator {trained_on[:12]}..., not "
            f"{gan.generator_sha256[:12]}...: train one for this generator"
        )
    return table


def _select(config: Config, out: Writer[LabelledSet]) -> None:
    """Write selection.json once all scores are known."""
    import torch

    from ganfoundry.data.reader import ShardReader
    from ganfoundry.labels.labelset import Selection
    from ganfoundry.labels.uncertainty import most_uncertain

    scores = torch.from_numpy(ShardReader(out.path / "shards").read("score"))
    dropped = most_uncertain(scores, config.filter_fraction)
    values = scores[dropped]
    selection = Selection(
        rows=len(scores),
        dropped=tuple(dropped.tolist()),
        scores=tuple(values.tolist()),
        reason=f"among the most uncertain {100 * config.filter_fraction:g} %",
        fraction=config.filter_fraction,
        threshold=float(values.min()) if len(values) else None,
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
    example="python cli.py synthesize --gan outputs/demo/import-gan --num-samples 5000",
)
