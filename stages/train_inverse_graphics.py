"""train-inverse-graphics: learn image -> mesh, texture, parts, keypoints and camera from a multi-view set.

GANverse3D: a generator shows objects from fixed viewpoint codes, and a differentiable renderer turns those pictures
into meshes. Needs a multi-view set with its filter's masks; with label-views' labels the meshes have parts and
keypoints too, and sharper outlines. No 3D data: of the cameras only the codes' azimuth bins are known, the rest is
learnt. --cameras self does without bins: it puts the codes in order by what they show (needs part labels to tell front
from back, and still errs there for some), --cameras annotator asks the pose network of the generator's world.

--preset paper trains with the published losses and schedule; the default has ours. Look at sheet.png: a row is one
object that was held out: input; drawn from its camera; normals; parts; then other views of it, true and drawn.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.artifacts import FilteredViews, Gan, InverseGraphics, ViewCodes, ViewLabels, ViewSet, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.gan.train_distributed import Group
    from ganfoundry.shape.inverse_training import InverseTrainer, InverseTraining
    from ganfoundry.shape.multiview import MultiView
    from ganfoundry.shape.networks import NetworkConfig

CHECKPOINT_STEPS = 500
HELD_OUT = "held_out_"  # begins the names of what is measured on objects that are not learnt from
POSE_IMAGES = 12  # of each code, that the pose network looks at


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of train-inverse-graphics."""

    preset: Literal["default", "paper"] = param("default", "Losses and schedule: ours, or GANverse3D's.")
    steps: int = param(10_000, "Training steps.", min=1)
    objects: int = param(8, "Objects a step.", min=1)
    views_each: int = param(2, "Views of each object a step.", min=1)
    learning_rate: float = param(5e-4, "Highest learning rate of the network.", min=0.0)
    camera_rate: float = param(3e-2, "Highest learning rate of the cameras.", min=0.0)
    cameras: str = param(
        "bins",
        "Where the codes' azimuths start: their bins, a pose network's, or an order found in the pictures.",
        choices=("bins", "annotator", "self"),
    )
    fixed_cameras: bool = param(False, "Keep the cameras where they start.")
    laplacian: float | None = param(None, "Weight of the Laplacian; larger: smoother meshes.", min=0.0)
    flatness: float | None = param(None, "Weight of the angles between faces; larger: flatter.", min=0.0)
    perceptual: float | None = param(None, "Weight of the discriminator's features; 0: none.", min=0.0)
    size: int = param(64, "Pixels a side that are learnt: larger views are halved until they are near it.", min=16)
    level: int = param(3, "Of the icosphere: 3 has 642 vertices, 4 has 2,562.", min=1, max=5)
    texture: int = param(64, "Rows of the texture, a power of two; it has twice as many columns.", min=16, max=512)
    symmetric_shape: bool = param(True, "Left and right half are mirror images.")
    symmetric_texture: bool = param(True, "What is hidden is painted like its mirror image.")
    hidden_part: str = param(
        "", "Part of what no view shows, such as the underside; if not given, that of the nearest place that is shown."
    )
    held_out: float = param(0.1, "Share of the objects that are kept for the figures.", min=0.0, max=0.9)
    precision: str = param("bf16", "Of the convolutions.", choices=("bf16", "fp32"))
    processes: int = param(
        2, "Processes that share every step's objects, of one thread each.", min=1, max=64, resumes=True
    )
    seed: int = param(0, "Seed of weights, batches and of the choice of held-out objects.", min=0)


@dataclass(frozen=True)
class Source:
    """What every process of a run learns from, as it is found on disk."""

    config: Config
    gan: Path
    views: Path
    view_set: Path
    filtered_views: Path
    view_labels: Path | None
    out: Path


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
    from ganfoundry.shape.inverse_model import save_model
    from ganfoundry.shape.inverse_processes import train_in_processes
    from ganfoundry.shape.inverse_training import CHECKPOINT
    from ganfoundry.shape.view_evaluation import evaluate_views

    view_set.check_codes(views)
    labels = None if view_labels is None else view_labels.path
    source = Source(config, gan.path, views.path, view_set.path, filtered_views.path, labels, out.path)
    _hidden_part(config.hidden_part, _data(source)[0].part_names)  # a wrong name is told before any work
    track = out.path / "track"
    track.mkdir(exist_ok=True)
    done = 0
    with ctx.progress("Training", config.steps) as bar:

        def advance(step: int) -> None:
            nonlocal done
            bar.advance(step - done)
            if step // CHECKPOINT_STEPS > done // CHECKPOINT_STEPS:
                out.reached(f"step {step} of {config.steps}")
            done = step

        trainer = train_in_processes(
            partial(make_trainer, source),
            track,
            config.processes,
            checkpoint_steps=CHECKPOINT_STEPS,
            on_progress=advance,
            show=partial(show_held_out, source),
        )
    trainer.find_hidden()
    learnt, held_out = _data(source)
    judged = held_out if len(held_out) else learnt
    figures = _camera_errors(source, trainer) | {
        name: round(value, 4) for name, value in evaluate_views(trainer.network, trainer.table, judged).items()
    }
    counts = {"images": len(learnt), "held_out_images": len(held_out)}
    provenance = {"generator_sha256": gan.generator_sha256, "view_set": view_set.fingerprint}
    save_model(out.path, trainer, _palette(labels, len(learnt.part_names)), {"figures": figures | counts, **provenance})
    for name, value in (figures | counts).items():
        out.figure(name, value)
    out.figure("hidden_share", round(float(trainer.network.hidden.float().mean()), 3))
    out.figure("minutes", round(trainer.seconds / 60, 1))
    _report(out)
    (track / CHECKPOINT).unlink()


@lru_cache(maxsize=1)
def _data(source: Source) -> "tuple[MultiView, MultiView]":
    """Views to learn from, and those of the objects that are held out."""
    import numpy as np

    from ganfoundry.shape.multiview_loading import load_multiview
    from ganfoundry.views import ViewCodeSet

    codes = ViewCodeSet.load(source.views)
    data = load_multiview(source.view_set, source.filtered_views, codes, source.view_labels, size=source.config.size)
    data = data.take(data.usable())
    starts = _starts(source, data)
    if starts is not None:
        data = replace(data, azimuths=tuple(float(a) for a in np.nan_to_num(starts)))  # NaN: a code without images
    return data.split(source.config.held_out, source.config.seed)


def _starts(source: Source, data: "MultiView") -> "NDArray[np.float64] | None":
    """Azimuths of the codes to start from, if not their bins."""
    from ganfoundry.shape.starting_cameras import order_codes

    if source.config.cameras == "self":
        return order_codes(data).azimuths
    return _pose_azimuths(source, data) if source.config.cameras == "annotator" else None


def _pose_azimuths(source: Source, data: "MultiView") -> "NDArray[np.float64]":
    """Azimuths of the codes by the pose network of the generator's world."""
    import numpy as np

    from ganfoundry import weights
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.shape.starting_cameras import code_azimuths
    from ganfoundry.worlds.annotator import Annotator

    network = Annotator.load(weights.network_of(load_gan(source.gan).world, "annotator", "choose other --cameras"))
    rows = np.concatenate([np.flatnonzero(data.codes == code)[:POSE_IMAGES] for code in np.unique(data.codes)])
    return code_azimuths(data.codes[rows], network.annotate(data.images[rows]).azimuth, len(data.azimuths))


def _camera_errors(source: Source, trainer: "InverseTrainer") -> dict[str, float]:
    """Median azimuth errors of the camera table, now and at its start, by the pose network, if the world has one."""
    import numpy as np
    import torch

    from ganfoundry.errors import InputError
    from ganfoundry.shape.starting_cameras import azimuth_errors

    learnt, _ = _data(source)
    try:
        reference = _pose_azimuths(source, learnt)
    except InputError:
        return {}
    now = trainer.table.parameters_of(torch.arange(len(learnt.azimuths)))[:, 0].detach().double().numpy()
    errors = {"camera_table_error": now, "camera_start_error": np.array(learnt.azimuths)}
    return {name: round(float(np.median(azimuth_errors(a, reference))), 2) for name, a in errors.items()}


def make_trainer(source: Source, group: "Group") -> "InverseTrainer":
    """Make the trainer of one process."""
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.shape.inverse_training import InverseTrainer

    learnt, _ = _data(source)
    discriminator = load_gan(source.gan).discriminator
    return InverseTrainer(_network(source.config, learnt), _training(source.config), learnt, discriminator, group)


def show_held_out(source: Source, trainer: "InverseTrainer") -> Mapping[str, float]:
    """Draw the sheet and measure a few held-out objects, for the log."""
    from PIL import Image

    from ganfoundry.shape.view_evaluation import evaluate_views, view_sheet

    learnt, held_out = _data(source)
    judged = held_out if len(held_out) else learnt
    palette = _palette(source.view_labels, len(judged.part_names))
    sheet = Image.fromarray(view_sheet(trainer.network, trainer.table, judged, palette))
    sheet.save(source.out / "sheet.png")
    (source.out / "track" / "sheets").mkdir(exist_ok=True)
    sheet.save(source.out / "track" / "sheets" / f"{trainer.step:06d}.jpg", quality=85)
    found = evaluate_views(trainer.network, trainer.table, judged, objects=32)
    return {f"{HELD_OUT}{name}": value for name, value in found.items()}


def _network(config: Config, data: "MultiView") -> "NetworkConfig":
    from ganfoundry.shape.networks import NetworkConfig

    return NetworkConfig(
        hidden_part=_hidden_part(config.hidden_part, data.part_names),
        num_parts=len(data.part_names),
        num_keypoints=len(data.keypoint_names),
        level=config.level,
        texture=(config.texture, 2 * config.texture),
        symmetric_shape=config.symmetric_shape,
        symmetric_texture=config.symmetric_texture,
    )


def _hidden_part(name: str, part_names: Sequence[str]) -> int | None:
    """Class of a named part.

    Raises
    ------
    UserError
        If there is no such part.
    """
    if not name:
        return None
    if name not in part_names[1:]:
        known = ", ".join(part_names[1:])
        hint = "" if len(part_names) > 2 else "; more parts come with the labels of label-views"
        raise UserError(f"there is no part {name!r}; --hidden-part is one of {known}{hint}")
    return list(part_names).index(name)


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


def _palette(labels: Path | None, parts: int) -> "NDArray[np.uint8]":
    import numpy as np

    if labels is None:
        return np.array([[255, 255, 255], [90, 120, 190]], np.uint8)
    table = json.loads((labels / "labels.json").read_text())
    return np.array(table["palette"], np.uint8)[:parts]


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
        title = name.removeprefix(HELD_OUT).replace("_", " ")
        curve = "held out" if name.startswith(HELD_OUT) else "loss"
        return Chart(title, (Series(curve, [p[0] for p in points], [p[1] for p in points]),))

    sheet = np.asarray(Image.open(out.path / "sheet.png").convert("RGB"))
    caption = "Held-out objects: input; drawn from its camera, normals, parts; other views, true and drawn."
    sections = [
        Section("Held-out objects", figures=(Figure(sheet, caption, quality=90, link="sheet.png"),)),
        Section("On held-out objects", charts=[chart(n) for n in names if n.startswith(HELD_OUT)]),
        Section(
            "Losses",
            "Unweighted, means between checkpoints.",
            charts=[chart(n) for n in names if not n.startswith(HELD_OUT)],
        ),
    ]
    page = render_page("Inverse graphics", "From views of a generator to textured meshes.", sections)
    (out.path / "report.html").write_text(page, encoding="utf-8")


def shipped_annotators(config: Config) -> dict[str, str]:
    """Digests of the pose networks, one of which the cameras start from if they are asked to."""
    from ganfoundry import weights

    return weights.digests_of("annotator") if config.cameras == "annotator" else {}


command = stage_command(
    "train-inverse-graphics",
    Config,
    run,
    version=3,
    depends=shipped_annotators,
    example="python cli.py train-inverse-graphics --run demo --processes 2",
)
