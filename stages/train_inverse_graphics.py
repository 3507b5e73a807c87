"""train-inverse-graphics: learn image -> mesh, texture, parts, keypoints and camera from a multi-view set.

GANverse3D: a generator shows objects from fixed viewpoint codes, and a differentiable renderer turns those pictures
into meshes. Needs a multi-view set with its filter's masks; with label-views' labels the meshes have parts and
keypoints too. No 3D data: of the cameras only the codes' azimuth bins are known, the rest is learnt.

--preset paper trains with the published losses and schedule; the default has ours. Look at sheet.png: a row is one
object that was held out: input; drawn from its camera; normals; parts; then other views of it, true and drawn.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.artifacts import FilteredViews, Gan, InverseGraphics, ViewCodes, ViewLabels, ViewSet, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.shape.inverse_training import InverseTrainer, InverseTraining
    from ganfoundry.shape.multiview import MultiView
    from ganfoundry.shape.networks import NetworkConfig

CHECKPOINT_STEPS = 250


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of train-inverse-graphics."""

    preset: Literal["default", "paper"] = param("default", "Losses and schedule: ours, or GANverse3D's.")
    steps: int = param(12_000, "Training steps.", min=1)
    objects: int = param(8, "Objects a step.", min=1)
    views_each: int = param(2, "Views of each object a step.", min=1)
    learning_rate: float = param(5e-4, "Highest learning rate of the network.", min=0.0)
    camera_rate: float = param(1e-2, "Highest learning rate of the cameras.", min=0.0)
    fixed_cameras: bool = param(False, "Keep the cameras at the middle of their azimuth bins.")
    laplacian: float | None = param(None, "Weight of the Laplacian; larger: smoother meshes.", min=0.0)
    flatness: float | None = param(None, "Weight of the angles between faces; larger: flatter.", min=0.0)
    perceptual: float | None = param(None, "Weight of the discriminator's features; 0: none.", min=0.0)
    level: int = param(3, "Of the icosphere: 3 has 642 vertices, 4 has 2,562.", min=1, max=5)
    texture: int = param(64, "Rows of the texture, a power of two; it has twice as many columns.", min=16, max=512)
    symmetric_shape: bool = param(True, "Left and right half are mirror images.")
    symmetric_texture: bool = param(True, "What is hidden is painted like its mirror image.")
    held_out: float = param(0.1, "Share of the objects that are kept for the figures.", min=0.0, max=0.9)
    precision: str = param("bf16", "Of the convolutions.", choices=("bf16", "fp32"))
    seed: int = param(0, "Seed of weights, batches and of the choice of held-out objects.", min=0)


def run(
    config: Config,
    gan: Gan,
    views: ViewCodes,
    view_set: ViewSet,
    filtered_views: FilteredViews,
    view_labels: ViewLabels | None,
    out: Writer[InverseGraphics],
    ctx: Context,
) -> None:
    """Train, continuing from the last checkpoint, measure on the held-out objects, write the network."""
    import torch

    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.shape.inverse_model import save_model
    from ganfoundry.shape.inverse_training import CHECKPOINT, InverseTrainer, train
    from ganfoundry.shape.multiview_loading import load_multiview
    from ganfoundry.shape.view_evaluation import evaluate_views
    from ganfoundry.views import ViewCodeSet

    view_set.check_codes(views)
    codes = ViewCodeSet.load(views.path)
    labels = None if view_labels is None else view_labels.path
    data = load_multiview(view_set.path, filtered_views.path, codes, labels)
    data = data.take(data.usable())
    learnt, held_out = data.split(config.held_out, config.seed)
    torch.set_num_threads(1)  # the bytes of the result do not depend on the number of cores
    trainer = InverseTrainer(_network(config, data), _training(config), learnt, load_gan(gan.path).discriminator)
    judged = held_out if len(held_out) else learnt
    palette = _palette(view_labels, len(data.part_names))
    track = out.path / "track"
    track.mkdir(exist_ok=True)
    with ctx.progress("Training", config.steps) as bar:
        train(
            trainer,
            track,
            checkpoint_steps=CHECKPOINT_STEPS,
            advance=bar.advance,
            show=lambda current: _show(current, judged, palette, out),
        )
    figures = {name: round(value, 4) for name, value in evaluate_views(trainer.network, trainer.table, judged).items()}
    counts = {"images": len(learnt), "held_out_images": len(held_out)}
    provenance = {"generator_sha256": gan.generator_sha256, "view_set": view_set.fingerprint}
    save_model(out.path, trainer, palette, {"figures": figures | counts, **provenance})
    for name, value in (figures | counts).items():
        out.figure(name, value)
    out.figure("minutes", round(trainer.seconds / 60, 1))
    _report(out)
    (track / CHECKPOINT).unlink()


def _network(config: Config, data: "MultiView") -> "NetworkConfig":
    from ganfoundry.shape.networks import NetworkConfig

    return NetworkConfig(
        num_parts=len(data.part_names),
        num_keypoints=len(data.keypoint_names),
        level=config.level,
        texture=(config.texture, 2 * config.texture),
        symmetric_shape=config.symmetric_shape,
        symmetric_texture=config.symmetric_texture,
    )


def _training(config: Config) -> "InverseTraining":
    from ganfoundry.shape.inverse_graphics import ObjectiveConfig
    from ganfoundry.shape.inverse_training import InverseTraining

    given = {
        name: value for name in ("laplacian", "flatness", "perceptual") if (value := getattr(config, name)) is not None
    }
    make = ObjectiveConfig.paper if config.preset == "paper" else ObjectiveConfig
    return InverseTraining(
        steps=config.steps,
        objects=config.objects,
        views=config.views_each,
        learning_rate=config.learning_rate,
        camera_rate=config.camera_rate,
        fixed_cameras=config.fixed_cameras,
        bf16=config.precision == "bf16",
        seed=config.seed,
        objective=make(**given),
    )


def _palette(labels: ViewLabels | None, parts: int) -> "NDArray[np.uint8]":
    import numpy as np

    if labels is None:
        return np.array([[255, 255, 255], [90, 120, 190]], np.uint8)
    table = json.loads((labels.path / "labels.json").read_text())
    return np.array(table["palette"], np.uint8)[:parts]


def _show(
    trainer: "InverseTrainer", judged: "MultiView", palette: "NDArray[np.uint8]", out: Writer[Any]
) -> Mapping[str, float]:
    """Draw the sheet and measure a few held-out objects, for the log."""
    from PIL import Image

    from ganfoundry.shape.view_evaluation import evaluate_views, view_sheet

    sheet = view_sheet(trainer.network, trainer.table, judged, palette)
    Image.fromarray(sheet).save(out.path / "sheet.png")
    out.reached(f"step {trainer.step} of {trainer.training.steps}")
    found = evaluate_views(trainer.network, trainer.table, judged, objects=32)
    return {f"held_out_{name}": value for name, value in found.items()}


def _report(out: Writer[Any]) -> None:
    """report.html: the curves of the losses, and the sheet."""
    import numpy as np
    from PIL import Image

    from ganfoundry.gan.train_log import read_log
    from ganfoundry.report.charts import Chart, Series
    from ganfoundry.report.page import Figure, Section, render_page

    lines = read_log(out.path / "track")
    names = [name for name in lines[-1] if name not in ("step", "seconds")] if lines else []

    def chart(name: str) -> Chart:
        points = [(line["step"], line[name]) for line in lines if name in line]
        return Chart(name, (Series(name, [p[0] for p in points], [p[1] for p in points]),))

    sheet = np.asarray(Image.open(out.path / "sheet.png").convert("RGB"))
    caption = "Held-out objects: input; drawn from its camera, normals, parts; other views, true and drawn."
    sections = [
        Section("Held-out objects", strips=(Figure(sheet, caption, quality=90, link="sheet.png"),)),
        Section("On held-out objects", charts=[chart(n) for n in names if n.startswith("held_out_")]),
        Section(
            "Losses",
            "Unweighted, means between checkpoints.",
            charts=[chart(n) for n in names if not n.startswith("held")],
        ),
    ]
    page = render_page("Inverse graphics", "From views of a generator to textured meshes.", sections)
    (out.path / "report.html").write_text(page, encoding="utf-8")


command = stage_command(
    "train-inverse-graphics",
    Config,
    run,
    example="python cli.py train-inverse-graphics --run demo --steps 12000",
)
