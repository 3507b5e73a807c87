"""Rows of the inverse-graphics benchmark: what each is trained on and how, or what stands in for a network."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import _inverse_data as data
from benchmarks import _inverse_score as judge
from benchmarks._inverse_data import Unseen
from benchmarks._inverse_views import Sources, generated
from ganfoundry.errors import InputError
from ganfoundry.shape.camera_table import CameraTable
from ganfoundry.shape.inverse_graphics import ObjectiveConfig
from ganfoundry.shape.inverse_model import InverseModel, save_model
from ganfoundry.shape.inverse_training import CHECKPOINT, InverseTrainer, InverseTraining, train
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.networks import NetworkConfig
from ganfoundry.shape.view_evaluation import evaluate_views
from ganfoundry.views.codes import ViewCodeSet

HELD_OUT = 0.1  # of the objects: train-inverse-graphics' default
CHECKPOINT_STEPS = 250
VIEWS_DRAWN = 300  # pairs of held-out views
UNDERSIDE = "wheel"  # the class with wheel arches and underbody
FRAME = 0.41  # a network's frame is that much smaller than the world's, so that its start is as long as a car


@dataclass(frozen=True)
class Settings:
    """Sizes that rows do not say themselves.

    Attributes
    ----------
    steps : of every training
    cars, views : of the pool of renders, and images of each
    test, outer : unseen renders, and images of cars made by others
    """

    steps: int = 3000
    cars: int = 120
    views: int = 24
    test: int = 200
    outer: int = 52


@dataclass(frozen=True)
class Row:
    """A way to read a mesh off an image.

    Attributes
    ----------
    name, title : str
    method : "train", or one that trains nothing: "mean-shape" (of the default row's network), "nearest", "mean-volume",
        "truth"
    views : "filtered", "unfiltered" or "renders"
        What is learnt from ("train").
    training, objective : dict
        What differs from the library's defaults.
    paper : bool
        Begin from the published objective instead.
    """

    name: str
    title: str
    method: str = "train"
    views: str = "filtered"
    training: Mapping[str, Any] = field(default_factory=dict)
    objective: Mapping[str, Any] = field(default_factory=dict)
    paper: bool = False

    def recipe(self, settings: Settings, seed: int) -> InverseTraining:
        """Training of the row."""
        make = ObjectiveConfig.paper if self.paper else ObjectiveConfig
        rest: dict[str, Any] = {"steps": settings.steps, "seed": seed, "objective": make(**self.objective)}
        return InverseTraining(**rest | dict(self.training))


ROWS = {
    row.name: row
    for row in (
        Row("default", "ours"),
        Row("paper", "GANverse3D's losses and schedule", paper=True),
        Row(
            "single_view",
            "one view instead of pairs",
            training={"objects": 16, "views": 1},
            objective={"input_from": 0},
        ),
        Row("fixed_cameras", "cameras stay in the middle of their bins", training={"fixed_cameras": True}),
        Row("unfiltered", "views without the filter", views="unfiltered"),
        Row("mean_shape", "the mean of ours for every image", "mean-shape"),
        Row("mean_volume", "one volume: mean of true training shapes", "mean-volume"),
        Row("nearest", "nearest training picture, its true shape", "nearest"),
        Row(
            "renders",
            "the same on renders with true cameras and labels",
            views="renders",
            training={"fixed_cameras": True},
        ),
        Row("truth", "the truth, measured again", "truth"),
    )
}


def learnt_views(row: Row, sources: Sources, settings: Settings) -> MultiView:
    """What a row learns from, held-out objects included."""
    if row.views == "renders":
        return data.pool_views(settings.cars, settings.views)
    return generated(sources, everything=row.views == "unfiltered")


def network_config(row: Row, views: MultiView, settings: Settings) -> NetworkConfig:
    """The same network for all; only the cameras of renders are known."""
    sizes: dict[str, Any] = {
        "num_parts": len(views.part_names),
        "num_keypoints": len(views.keypoint_names),
        "hidden_part": views.part_names.index(UNDERSIDE),
    }
    if row.views != "renders":
        return NetworkConfig(**sizes)
    cameras = data.pool_cameras(settings.views)
    distance = FRAME * sum(camera.distance for camera in cameras) / len(cameras)
    return NetworkConfig(**sizes, distance=distance, fov=cameras[0].fov)


def train_row(
    row: Row, seed: int, settings: Settings, sources: Sources, folder: Path, note: Callable[[str], None]
) -> None:
    """Train a row's network into a folder, continuing from its checkpoint."""
    views = learnt_views(row, sources, settings)
    learnt, _ = views.split(HELD_OUT, seed)
    config = network_config(row, views, settings)
    trainer = InverseTrainer(config, row.recipe(settings, seed), learnt, data.generator().discriminator)
    if row.views == "renders":
        give_true_cameras(trainer, settings)
    track = folder / "track"
    track.mkdir(parents=True, exist_ok=True)
    train(
        trainer,
        track,
        checkpoint_steps=CHECKPOINT_STEPS,
        advance=lambda _: note(f"step {trainer.step} of {settings.steps}"),
    )
    trainer.find_hidden()
    palette = data.SCHEMA.level_palette(data.LEVEL)
    save_model(folder, trainer, palette, {"row": row.name})
    (track / CHECKPOINT).unlink()


def give_true_cameras(trainer: InverseTrainer, settings: Settings) -> None:
    """Put the pool's cameras into a trainer's table, which does not move them."""
    cameras, table = data.pool_cameras(settings.views), trainer.table
    assert isinstance(table.scale, torch.Tensor)
    far = torch.tensor([camera.distance for camera in cameras]) * FRAME / trainer.network.config.distance
    table.codes.data[:, 1] = torch.tensor([camera.elevation for camera in cameras]) / table.scale[1]
    table.codes.data[:, 2] = far.log() / table.scale[2]


def measure(row: Row, seed: int, settings: Settings, sources: Sources, model: InverseModel | None) -> dict[str, float]:
    """All figures of a row that it has.

    Parameters
    ----------
    model : InverseModel or None
        The row's network; of "mean-shape" the default row's.
    """
    pool = data.solids_of(data.POOL_SEED, settings.cars)
    sets = {"": data.unseen_renders(settings.test), "outer_": data.unseen_foreign(settings.outer)}
    unseen = {prefix: found for prefix, found in sets.items() if found is not None}
    if row.method == "mean-volume":
        return {f"{prefix}iou3d": judge.mean_volume(pool, found) for prefix, found in unseen.items()}
    if row.method == "truth":
        return _scores(judge.truth_method(data.TEST_SEED), unseen)
    learnt, held_out = learnt_views(row, sources, settings).split(HELD_OUT, seed)
    shots = data.pool(settings.cars, settings.views)
    if row.method == "nearest":
        figures = judge.neighbour_views(learnt, held_out, seed=seed)
        return judge.named(figures) | _scores(judge.neighbour_method(shots, pool), unseen)
    assert model is not None
    check_names(model)
    if row.method == "mean-shape":
        judge.keep_mean_shape(model.network, learnt.images)
    table = judge.table_of(model)
    figures = judge.named(evaluate_views(model.network, table, held_out, objects=VIEWS_DRAWN, seed=seed))
    if row.views != "renders" and row.method == "train":
        figures |= camera_table_errors(table, learnt, sources.codes())
    similarity = judge.similarity_of(model, shots, pool)
    return figures | _scores(judge.network_method(model, similarity), unseen)


def camera_table_errors(table: CameraTable, learnt: MultiView, codes: ViewCodeSet) -> dict[str, float]:
    """Median errors, degrees, of the table against the codes by the pose network, where there are images of them."""
    rows = sorted(set(learnt.codes.tolist()))
    elevations = table.parameters_of(torch.tensor(rows))[:, 1].detach().numpy()
    return {
        "camera_table_error": judge.table_error(table, rows, [codes.codes[row].azimuth for row in rows]),
        "camera_table_elevation": float(np.median(np.abs(elevations - [codes.codes[row].elevation for row in rows]))),
    }


def check_names(model: InverseModel) -> None:
    """Refuse a network whose parts or keypoints are not those of the renders.

    Raises
    ------
    InputError
    """
    if model.part_names != data.SCHEMA.names(data.LEVEL) or model.keypoint_names != data.SCHEMA.keypoints:
        raise InputError(
            f"the network knows {len(model.part_names)} parts and {len(model.keypoint_names)} keypoints that are not "
            f"those of the cars ({data.LEVEL}); train it with label-views of an interpreter of that level"
        )


def _scores(method: judge.Method, unseen: Mapping[str, Unseen]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for prefix, found in unseen.items():
        figures |= judge.score(method, found, prefix)
    return figures


def fingerprint(folder: Path) -> str:
    """What an artifact follows from, as its run.json says."""
    return str(json.loads((folder / "run.json").read_text("utf-8"))["fingerprint"])


def described(row: Row, seed: int, settings: Settings, sources: Sources) -> dict[str, Any]:
    """What a row's result follows from."""
    about: dict[str, Any] = {"row": asdict(row), "seed": seed, "settings": asdict(settings)}
    about["views"] = [fingerprint(path) for path in (sources.views, sources.filtered, sources.labels)]
    if row.method in ("train", "mean-shape"):
        about["recipe"] = asdict((row if row.method == "train" else ROWS["default"]).recipe(settings, seed))
        about["network"] = asdict(NetworkConfig(num_parts=0, num_keypoints=0))
    return about
