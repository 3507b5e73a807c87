"""generate-views: many objects, each from all viewpoint codes of its shape: a multi-view set.

A row of the set is one image: the first rows show object 0 from every code of the first shape, then comes object 1 from
every code of the second shape, and so on in turn. Every object has its own content latent, drawn from its own seed, and
keeps it, and its noise, over all views.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.artifacts import Gan, ViewCodes, ViewSet, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ganfoundry.data.shards import ShardTask
    from ganfoundry.gan.generator import StyleGenerator
    from ganfoundry.views import ViewCodeSet

OBJECTS_PER_SHARD = 10
SHEET_OBJECTS = 10


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of a multi-view set."""

    num_objects: int = param(100, "Objects; each is shown from every viewpoint code of its shape.", min=1)
    truncation: float = param(0.7, "Truncation psi of the content latents.", min=0.0, max=1.0)
    noise: Literal["const", "seeded"] = param(
        "const", "The generator's stored noise, or noise of each object's own, the same over its views."
    )
    seed: int = param(0, "Root seed of the objects.", min=0)


@dataclass(frozen=True)
class RenderTask:
    """Rows of the set that one call makes; picklable."""

    folder: Path
    gan: Path
    views: Path
    sources: tuple[str, str]  # sha256 of the generator, fingerprint of the codes: a worker does not confuse them
    truncation: float
    noise: str
    seed: int
    shard: "ShardTask"


def render_rows(task: RenderTask) -> dict[str, Any]:
    """Make the images of a shard's rows, whole objects, and write it."""
    import numpy as np
    from torch import as_tensor

    from ganfoundry.data.seeds import CONTENT, sample_integer
    from ganfoundry.data.shards import write_shard
    from ganfoundry.gan.latents import content_codes, sample_noise
    from ganfoundry.labels.synthesis import single_thread
    from ganfoundry.views.synthesis import render_objects

    generator, codes = _models(task.gan, task.views, task.sources)
    views = codes.views
    objects = range(task.shard.first // views, task.shard.stop // views)
    seen_from = codes.of_objects(objects)
    seeds = [sample_integer(task.seed, CONTENT, index) for index in objects]
    with single_thread():
        w_content = content_codes(generator, seeds, task.truncation)
        maps = sample_noise(generator, seeds) if task.noise == "seeded" else None
        images = render_objects(generator.synthesis, w_content, as_tensor(codes.w[seen_from]), codes.layers, noise=maps)
    arrays: dict[str, NDArray[Any]] = {
        "image": images.reshape(-1, *images.shape[2:]),
        "object": np.repeat(np.array(objects, np.int32), views),
        "view": seen_from.ravel().astype(np.int32),
        "w_content": np.repeat(w_content.numpy().astype(np.float32), views, 0),
        "seed": np.repeat(np.array(seeds, np.uint64), views),
    }
    return write_shard(task.folder, task.shard.index, arrays, task.shard.first)


@lru_cache(maxsize=1)
def _models(gan: Path, views: Path, sources: tuple[str, str]) -> "tuple[StyleGenerator, ViewCodeSet]":
    """Load generator and codes once a process; `sources` keeps replaced files apart."""
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.views import ViewCodeSet

    return load_gan(gan).generator, ViewCodeSet.load(views)


def run(config: Config, gan: Gan, views: ViewCodes, out: Writer[ViewSet], ctx: Context) -> None:
    """Make the set in shards of whole objects; an interrupted run continues with the shards that are missing."""
    from ganfoundry.data.shards import ShardFolder
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.views import ViewCodeSet

    loaded = load_gan(gan.path)
    codes = ViewCodeSet.load(views.path)
    codes.check_generator(loaded.sha256, loaded.generator.synthesis.layer_names, loaded.generator.config.w_dim)
    sources = (loaded.sha256, views.fingerprint)
    rows, folder = config.num_objects * codes.views, out.path / "shards"
    with ShardFolder(folder, rows, OBJECTS_PER_SHARD * codes.views, out.fingerprint) as shards:
        tasks = [
            RenderTask(folder, gan.path, views.path, sources, config.truncation, config.noise, config.seed, shard)
            for shard in shards.pending(ctx.verify)
        ]
        for _, receipt in ctx.executor.map(render_rows, tasks, "Generating views"):
            shards.acknowledge(receipt)
        shards.finish()
    _write_sheet(out, codes, min(config.num_objects, SHEET_OBJECTS))
    out.figure("world", loaded.world)
    out.figure("objects", config.num_objects)
    out.figure("views", codes.views)
    out.figure("shapes", len(codes.shapes))
    out.figure("images", rows)


def _write_sheet(out: Writer[ViewSet], codes: "ViewCodeSet", objects: int) -> None:
    """Draw sheet.png: a row is one viewpoint code, a column one object, each from the codes of its own shape."""
    from PIL import Image

    from ganfoundry.data.shards import ShardReader
    from ganfoundry.views.sheet import code_sheet

    images = ShardReader(out.path / "shards").read("image", 0, objects * codes.views)
    grid = images.reshape(objects, codes.views, *images.shape[1:]).swapaxes(0, 1)
    Image.fromarray(code_sheet(grid, codes.codes[: codes.views], codes.bins)).save(out.path / "sheet.png")


command = stage_command(
    "generate-views",
    Config,
    run,
    example="python cli.py generate-views --gan outputs/cars-64/train-gan --num-objects 100 --truncation 0.7",
)
