"""train-detector: a small Mask R-CNN, trained on scenes of a world whose masks are exact.

Renders scenes with no, one and several objects, trains on crops of them that are disturbed until they may pass for
generated views, and measures mask AP and the filter's precision and recall on scenes that it never saw. The folder it
leaves, detector.safetensors and card.json, is what `filter-views --weights` takes.

Interrupted, it continues: finished scenes are kept, the network continues from its last checkpoint.
"""

import math
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Detector, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from ganfoundry.detect.scenes import Scenes
    from ganfoundry.detect.training import DetectorTraining

SCENE_SIDE = 128
SCENES_PER_SHARD = 200
LOG_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the training."""

    world: str = param("cars", "World whose scenes are rendered.")
    scenes: int = param(5000, "Training scenes.", min=1)
    steps: int = param(4000, "Training steps.", min=1)
    batch_size: int = param(8, "Images a step.", min=1)
    learning_rate: float = param(1e-3, "Highest learning rate of AdamW.", min=0.0)
    minutes: float = param(0.0, "Minutes that the steps may take, over all continuations; 0: no limit.", min=0.0)
    precision: str = param("bf16", "Arithmetic of the backbone's convolutions.", choices=("bf16", "fp32"))
    score_threshold: float = param(0.5, "Least score of an object in the figures of the filter.", min=0.0, max=1.0)
    test_scenes: int = param(500, "Held-out scenes of the evaluation.", min=1)
    seed: int = param(0, "Root seed of scenes, weights and batches.", min=0)


def run(config: Config, out: Writer[Detector], ctx: Context) -> None:
    """Render, train, evaluate; write detector.safetensors, card.json and track/log.jsonl."""
    from ganfoundry.detect.backends import TorchvisionDetector
    from ganfoundry.detect.evaluation import evaluate_detector
    from ganfoundry.detect.filtering import FilterRule
    from ganfoundry.detect.mask_rcnn import DetectorConfig, load_detector, save_detector
    from ganfoundry.detect.training import DetectorTraining, train_detector
    from ganfoundry.labels.synthesis import single_thread
    from ganfoundry.worlds import get_world

    scenes = _render(config, out, ctx)
    recipe = DetectorTraining(
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        minutes=config.minutes,
        seed=config.seed,
        precision=config.precision,
        architecture=DetectorConfig(classes=("background", config.world.removesuffix("s"))),
    )
    checkpoint = out.path / "checkpoint.safetensors"
    with ctx.progress("Training", config.steps) as bar:
        trainer = train_detector(recipe, scenes, checkpoint, on_step=_Reporter(ctx, bar))
    card = _card(config, recipe, trainer.step, trainer.seconds)
    save_detector(out.path, trainer.net, recipe.architecture, card)
    ctx.log(f"Measuring on {config.test_scenes} scenes it never saw")
    detector = TorchvisionDetector(load_detector(out.path).net)  # what is measured is what the file holds
    rule = FilterRule(config.score_threshold)
    with single_thread():
        figures = evaluate_detector(detector, get_world(config.world), rule, config.test_scenes)
    rounded = {name: round(value, 4) for name, value in figures.items() if math.isfinite(value)}
    save_detector(out.path, trainer.net, recipe.architecture, card | {"figures": rounded})
    for name, value in rounded.items():
        out.figure(name, value)
    shutil.rmtree(out.path / "scenes")
    checkpoint.unlink()


@dataclass(frozen=True)
class _SceneTask:
    """Scenes of one shard, for a worker."""

    folder: str
    world: str
    seed: int
    index: int
    first: int
    stop: int


def render_shard(task: _SceneTask) -> dict[str, Any]:
    """Render one shard of training scenes and write it; returns the receipt."""
    from ganfoundry.data.seeds import WORLD
    from ganfoundry.data.shards import write_shard
    from ganfoundry.detect.scenes import render_scenes
    from ganfoundry.worlds import get_world

    scenes = render_scenes(get_world(task.world), task.seed, WORLD, task.first, task.stop, SCENE_SIDE)
    return write_shard(task.folder, task.index, {"image": scenes.image, "instances": scenes.instances}, task.first)


def _render(config: Config, out: Writer[Detector], ctx: Context) -> "Scenes":
    from ganfoundry.data.shards import ShardFolder, ShardReader
    from ganfoundry.detect.scenes import Scenes

    folder = out.path / "scenes"
    key = f"{config.world} {config.seed} {SCENE_SIDE}"
    with ShardFolder(folder, config.scenes, SCENES_PER_SHARD, key) as shards:
        tasks = [
            _SceneTask(str(folder), config.world, config.seed, task.index, task.first, task.stop)
            for task in shards.pending(ctx.verify)
        ]
        receipts = ctx.executor.map(render_shard, tasks, "Rendering scenes") if tasks else ()
        for _, receipt in receipts:
            shards.acknowledge(receipt)
        shards.finish()
    reader = ShardReader(folder)
    return Scenes(reader.read("image"), reader.read("instances"))


class _Reporter:
    """Advances the bar and logs every LOG_STEPS steps, starting where a continued run starts."""

    def __init__(self, ctx: Context, bar: Any) -> None:
        self._ctx, self._bar, self._done = ctx, bar, 0

    def __call__(self, step: int, losses: dict[str, float]) -> None:
        self._bar.advance(step - self._done)
        self._done = step
        if step % LOG_STEPS == 0:
            self._ctx.tracker.log(step, losses)


def _card(config: Config, recipe: "DetectorTraining", steps: int, seconds: float) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "what": "Mask R-CNN, one class, for images of 64 to 256 px",
        "data": f"{config.scenes} scenes of world {config.world}, {SCENE_SIDE} px, stream WORLD of seed {config.seed}",
        "recipe": asdict(recipe),
        "steps": steps,
        "training_minutes": round(seconds / 60, 1),
        "command": f"python cli.py train-detector --world {config.world} --scenes {config.scenes} "
        f"--steps {config.steps} --minutes {config.minutes:g} --seed {config.seed}",
    }


command = stage_command(
    "train-detector",
    Config,
    run,
    example="python cli.py train-detector --world cars --scenes 5000 --minutes 25",
)
