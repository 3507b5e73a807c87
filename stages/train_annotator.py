"""train-annotator: a network that reads parts, keypoints, viewpoint and type off an image, from exact renders.

It learns from renders of a world, whose labels are exact, blurred and bent so that it understands generated images too.
annotate-views and annotate-parts use it; a trained one for cars ships with the project.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Annotator, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from ganfoundry.data.shards import ShardTask
    from ganfoundry.worlds.annotator_data import Renders

ROWS_PER_SHARD = 500


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the annotator's training."""

    world: str = param("cars", "World whose renders it learns from.", choices=("cars", "faces"))
    num_samples: int = param(9500, "Renders to learn from.", min=1)
    num_unseen: int = param(500, "Further renders on which its errors are measured.", min=1)
    resolution: int = param(64, "Side of the renders in pixels, a multiple of 16.", min=16, max=512)
    steps: int = param(6000, "Training steps.", min=1)
    batch_size: int = param(32, "Renders a step.", min=2)
    peak_rate: float = param(0.004, "Highest learning rate of the one-cycle schedule.", min=0.0)
    seed: int = param(7001, "Seed of renders, initialisation, batches and augmentation.", min=0)


@dataclass(frozen=True)
class RenderTask:
    """Rows of the renders that one call makes; picklable."""

    folder: Path
    world: str
    resolution: int
    seed: int
    stream: int
    shard: "ShardTask"


def render_rows(task: RenderTask) -> dict[str, Any]:
    """Render a shard's rows with all labels and write it."""
    from ganfoundry.data.seeds import sample_integer
    from ganfoundry.data.shards import write_shard
    from ganfoundry.worlds import get_world
    from ganfoundry.worlds.annotator_data import render_samples

    seeds = [sample_integer(task.seed, task.stream, row) for row in task.shard.rows]
    renders = render_samples(get_world(task.world), seeds, task.resolution)
    return write_shard(task.folder, task.shard.index, renders.arrays(), task.shard.first)


def run(config: Config, out: Writer[Annotator], ctx: Context) -> None:
    """Render, train (continuing where an interrupted run stopped), measure on unseen renders, write a card."""
    import shutil

    import torch

    from ganfoundry.data.seeds import EVALUATION, WORLD
    from ganfoundry.errors import InputError
    from ganfoundry.worlds import get_world
    from ganfoundry.worlds.annotator import Annotator as TrainedAnnotator
    from ganfoundry.worlds.annotator_data import annotator_config
    from ganfoundry.worlds.annotator_net import AnnotatorNet
    from ganfoundry.worlds.annotator_training import Recipe, evaluate, fit

    if config.resolution % 16:
        raise InputError(f"a resolution of {config.resolution} px cannot be halved four times; use a multiple of 16")
    world = get_world(config.world)
    renders = _rendered(config, out, ctx, "renders", config.num_samples, WORLD)
    unseen = _rendered(config, out, ctx, "unseen", config.num_unseen, EVALUATION)

    torch.manual_seed(config.seed)
    mean_distance = round(float(renders.distance.mean()), 2)
    net = AnnotatorNet(annotator_config(world, config.world, config.resolution, mean_distance))
    recipe = Recipe(config.steps, config.batch_size, config.peak_rate, seed=config.seed)
    checkpoint = out.path / "training.safetensors"
    with ctx.progress("Training the annotator", config.steps) as bar:
        done = 0

        def report(step: int, losses: Mapping[str, float]) -> None:
            nonlocal done
            bar.advance(step - done)  # more than one at the first step of a continued run
            done = step
            if step % 50 == 0 or step == config.steps:
                ctx.tracker.log(step, losses)

        fit(net, renders, recipe, checkpoint=checkpoint, on_step=report)

    TrainedAnnotator(net).save(out.path)
    annotator = TrainedAnnotator.load(out.path)  # in half precision, as it will be used
    for name, value in evaluate(annotator.annotate(unseen.image), unseen, world.schema).items():
        out.figure(name, round(value, 4))
    annotator.card = {
        "name": f"{config.world}-annotator",
        "what": "parts, keypoints, viewpoint, body type and paint from one image",
        "data": f"{config.num_samples} renders of the {config.world} world; figures on {config.num_unseen} unseen ones",
        "command": f"python cli.py train-annotator --world {config.world}",
        "recipe": asdict(config),
        "figures": dict(out.figures),
    }
    annotator.save(out.path)
    checkpoint.unlink()
    for name in ("renders", "unseen"):
        shutil.rmtree(out.path / name)


def _rendered(config: Config, out: Writer[Annotator], ctx: Context, name: str, rows: int, stream: int) -> "Renders":
    """Renders of one seed stream, from shards that survive an interruption."""
    from ganfoundry.data.shards import ShardFolder, ShardReader
    from ganfoundry.worlds.annotator_data import Renders

    folder = out.path / name
    with ShardFolder(folder, rows, ROWS_PER_SHARD, out.fingerprint) as shards:
        tasks = [
            RenderTask(folder, config.world, config.resolution, config.seed, stream, shard)
            for shard in shards.pending(ctx.verify)
        ]
        for _, receipt in ctx.executor.map(render_rows, tasks, f"Rendering ({name})"):
            shards.acknowledge(receipt)
        shards.finish()
    reader = ShardReader(folder)
    return Renders(**{field: reader.read(field) for field in Renders.__annotations__})


command = stage_command(
    "train-annotator",
    Config,
    run,
    example="python cli.py train-annotator --num-samples 9500 --steps 6000 --workers 2",
)
