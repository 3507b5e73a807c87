"""label-views: part labels and keypoints of every image of a multi-view set, by the Style Interpreter.

A multi-view image has no style code of its own: its early layers take the view's, the others the object's. The stage
makes the feature maps of every image again and labels them. Row i of the result belongs to row i of the multi-view set:
label, certainty (0..1) and, if the interpreter knows keypoints, keypoints.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Gan, Interpreter, ViewCodes, ViewLabels, ViewSet, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ganfoundry.gan.generator import StyleGenerator
    from ganfoundry.labels.interpreter import StyleInterpreter
    from ganfoundry.views import ViewCodeSet


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of label-views."""

    rows_per_shard: int = param(240, "Images in one file; one worker makes one file at a time.", min=1)


@dataclass(frozen=True)
class Task:
    """Rows [first, stop) of the set: all that a worker needs to know."""

    gan: str
    views: str
    interpreter: str
    view_set: str
    shards: str
    sources: tuple[str, ...]  # a worker that lives on does not confuse replaced files
    noise: str
    index: int
    first: int
    stop: int


def run(
    config: Config,
    gan: Gan,
    views: ViewCodes,
    view_set: ViewSet,
    interpreter: Interpreter,
    out: Writer[ViewLabels],
    ctx: Context,
) -> None:
    """Label the rows in shards; an interrupted run continues with the shards that are missing."""
    from ganfoundry.data.shards import ShardFolder, ShardReader
    from ganfoundry.labels.description import interpreter_description

    view_set.check_codes(views)
    description = interpreter_description(interpreter.path, gan.generator_sha256)
    source, folder = view_set.path / "shards", out.path / "shards"
    sources = (gan.generator_sha256, views.fingerprint, view_set.fingerprint, interpreter.fingerprint)
    noise = str(view_set.record.get("config", {}).get("noise", "const"))
    with ShardFolder(folder, len(ShardReader(source)), config.rows_per_shard, out.fingerprint) as shards:
        tasks = [
            Task(
                str(gan.path),
                str(views.path),
                str(interpreter.path),
                str(source),
                str(folder),
                sources,
                noise,
                task.index,
                task.first,
                task.stop,
            )
            for task in shards.pending(ctx.verify)
        ]
        for _, receipt in ctx.executor.map(label_rows, tasks, "Labelling views"):
            shards.acknowledge(receipt)
        shards.finish()
    names = {key: description.get(key, []) for key in ("classes", "palette", "keypoints")}
    (out.path / "labels.json").write_text(json.dumps(names, indent=1) + "\n", encoding="utf-8")
    _figures(out)


def label_rows(task: Task) -> dict[str, Any]:
    """Label the rows of one shard and write it; returns the receipt."""
    import numpy as np
    from torch import as_tensor

    from ganfoundry.data.shards import ShardReader, write_shard
    from ganfoundry.gan.latents import sample_noise
    from ganfoundry.labels.synthesis import single_thread
    from ganfoundry.views.labelling import label_pairs

    generator, codes, interpreter = _models(task.gan, task.views, task.interpreter, task.sources)
    rows = {
        name: ShardReader(task.view_set).read(name, task.first, task.stop) for name in ("view", "w_content", "seed")
    }
    if int(rows["view"].max(initial=0)) >= len(codes.codes):
        raise UserError("the multi-view set was made with other viewpoint codes than these; make it again.")
    with single_thread():
        noise = sample_noise(generator, [int(s) for s in rows["seed"]]) if task.noise == "seeded" else None
        w_view = as_tensor(codes.w[rows["view"]])
        found = label_pairs(
            generator.synthesis, interpreter, as_tensor(rows["w_content"]), w_view, codes.layers, noise=noise
        )
    arrays: dict[str, NDArray[Any]] = {"label": found.label, "certainty": found.certainty.astype(np.float16)}
    if found.keypoints is not None:
        arrays["keypoints"] = found.keypoints.astype(np.float32)
    return write_shard(Path(task.shards), task.index, arrays, task.first)


@lru_cache(maxsize=1)
def _models(
    gan: str, views: str, interpreter: str, sources: tuple[str, ...]
) -> "tuple[StyleGenerator, ViewCodeSet, StyleInterpreter]":
    """Load everything once a process."""
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.labels.interpreter import StyleInterpreter
    from ganfoundry.views import ViewCodeSet

    network = StyleInterpreter.load(Path(interpreter) / "interpreter.safetensors")
    return load_gan(gan).generator, ViewCodeSet.load(Path(views)), network


def _figures(out: Writer[ViewLabels]) -> None:
    import numpy as np

    from ganfoundry.data.shards import ShardReader

    reader = ShardReader(out.path / "shards")
    out.figure("images", len(reader))
    out.figure("certainty", round(float(np.mean(reader.read("certainty"), dtype=np.float64)), 4))
    out.figure("object_share", round(float((reader.read("label") > 0).mean()), 4))


command = stage_command(
    "label-views",
    Config,
    run,
    example="python cli.py label-views --run demo --workers 2",
)
