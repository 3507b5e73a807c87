"""train-downstream: train networks on a labelled set, as its users would.

A DeepLabV3 for the parts and, where the set has keypoints, a network of heat maps. Some images are kept out of the
training; the figures compare the networks with those images' own labels. What the networks are worth on images from
elsewhere is for a test set from there to say (python -m benchmarks.labels does it for the cars world).

Interrupted, it continues from its last checkpoint.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import DownstreamModel, Export, LabelledSet, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.data.description import SetDescription
    from ganfoundry.downstream import Examples, StoredExamples
    from ganfoundry.downstream.networks import Net, Task
    from ganfoundry.report import Chart

LOG_STEPS = 10
SHOWN = 12  # held-out images in the report
SCALE = 2
MEASURED = 1000  # held-out images that the figures are of, at most
TITLES = {"parts": "Parts", "keypoints": "Keypoints"}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the training."""

    learn_from: str = param(
        "labelled-set", "What to learn from; of an export, its training split.", choices=("labelled-set", "export")
    )
    backbone: str = param("small", "small is meant for CPUs and 64 px.", choices=("small", "resnet101"))
    keypoints: bool = param(True, "Train on the keypoints too, where there are any.")
    held_out: float = param(0.1, "Share of the images kept out of the training, for the figures.", min=0.0, max=0.5)
    steps: int = param(2000, "Training steps of each network.", min=1)
    batch_size: int = param(16, "Images a step.", min=2)
    peak_rate: float = param(1e-2, "Highest learning rate of the one-cycle schedule.", min=0.0)
    precision: str = param("bf16", "Arithmetic of the convolutions.", choices=("bf16", "fp32"))
    seed: int = param(0, "Seed of initial weights, batches, augmentation and the images kept out.", min=0)


def run(
    config: Config,
    labelled_set: LabelledSet | None,
    export: Export | None,
    out: Writer[DownstreamModel],
    ctx: Context,
) -> None:
    """Train, measure on the images kept out, write the networks, model.json and report.html."""
    import numpy as np

    from ganfoundry.data.seeds import EVALUATION, sample_rng
    from ganfoundry.downstream.model import save_net
    from ganfoundry.labels.synthesis import single_thread

    source = _source(config, labelled_set, export)
    description = source.description
    order = sample_rng(config.seed, EVALUATION, 0).permutation(len(source))
    kept_out = int(config.held_out * len(source))
    if len(source) - kept_out < 1 or source.resolution % 8:
        raise UserError(
            f"{len(source)} images of {source.resolution} px cannot be trained on: give at least one besides those "
            "kept out, of a side that is a multiple of 8"
        )
    training = np.sort(order[kept_out:])
    examples = source.rows(np.sort(order[:kept_out][:MEASURED])) if kept_out else None
    tasks: list[Task] = ["parts"]
    if config.keypoints and source.has_keypoints:
        tasks.append("keypoints")
    figures: dict[str, float] = {}
    nets: dict[Task, Net] = {}
    charts: list[Chart] = []
    for task in tasks:
        with single_thread():
            nets[task], chart = _train(config, task, source, training, out, ctx)
        charts.append(chart)
        save_net(out.path / f"{task}.safetensors", nets[task])
        if examples is not None:
            figures |= _measure(nets[task], examples)
    for task in tasks:
        _checkpoint(out, task).unlink()
    rounded = {name: round(value, 4) for name, value in figures.items()}
    out.figure("images", len(training))
    for name, value in rounded.items():
        out.figure(f"held_out_{name}", value)
    card: dict[str, Any] = {"classes": description.classes, "palette": description.palette, "level": description.level}
    card |= {"keypoints": description.keypoints if "keypoints" in tasks else [], "resolution": source.resolution}
    card |= {"images": len(training), "held_out": kept_out, "recipe": asdict(config), "held_out_figures": rounded}
    (out.path / "model.json").write_text(json.dumps(card, indent=1) + "\n", "utf-8")
    _report(out.path / "report.html", card, nets, examples, description, charts)


def _source(config: Config, labelled_set: LabelledSet | None, export: Export | None) -> "StoredExamples":
    """Images with labels, and what is known about them."""
    from ganfoundry.downstream import StoredExamples

    if config.learn_from == "labelled-set":
        if labelled_set is None:
            raise UserError("there is no labelled set to learn from: run synthesize, or name one with --labelled-set")
        return StoredExamples(labelled_set.path)
    if export is None:
        raise UserError("there is no exported set to learn from: run export, or name one with --export")
    if not (export.path / "dataset.h5").is_file():
        raise UserError(f"{export.path} holds no dataset.h5; export the set with the format hdf5")
    return StoredExamples(export.path)


def _train(
    config: Config,
    task: "Task",
    source: "StoredExamples",
    rows: "NDArray[np.int64]",
    out: Writer[DownstreamModel],
    ctx: Context,
) -> "tuple[Net, Chart]":
    """Train one network, continuing from its checkpoint."""
    import torch

    from ganfoundry.downstream import NetConfig, Recipe, Supervised, build_net, fit
    from ganfoundry.downstream.examples import Subset
    from ganfoundry.downstream.training import rarity_weights
    from ganfoundry.labels.schema import mirror_order
    from ganfoundry.report import Chart, Series

    outputs = source.description.classes if task == "parts" else source.description.keypoints
    net = build_net(NetConfig(task, outputs, config.backbone, resolution=source.resolution), config.seed)  # type: ignore[arg-type]
    recipe = Recipe(config.steps, config.batch_size, config.peak_rate, seed=config.seed, precision=config.precision)
    mirror = torch.tensor(mirror_order(source.description.keypoints)) if source.has_keypoints else None
    curve: list[tuple[int, float]] = []
    with ctx.progress(f"Training ({task})", config.steps) as bar:
        done = 0

        def report(step: int, terms: Mapping[str, float]) -> None:
            nonlocal done
            bar.advance(step - done)  # more than one at the first step of a continued run
            done = step
            if step % LOG_STEPS == 0 or step == config.steps:
                ctx.tracker.log(step, {f"{task}/{name}": value for name, value in terms.items()})
                curve.append((step, terms["total"]))

        some = Subset(source, rows)
        weights = rarity_weights(some, len(source.description.classes))
        objective = Supervised(some, recipe, mirror, weights)
        fit(net, objective, recipe, checkpoint=_checkpoint(out, task), key=out.fingerprint, on_step=report)
        bar.advance(config.steps - done)
    x, y = zip(*curve, strict=True) if curve else ((), ())
    return net, Chart(f"{TITLES[task]}: loss", [Series("loss", x, y)], "step")


def _checkpoint(out: Writer[DownstreamModel], task: str) -> Path:
    return out.path / f".{task}.safetensors"


def _measure(net: "Net", examples: "Examples") -> dict[str, float]:
    """Figures against the labels of the set itself."""
    from ganfoundry.downstream import keypoint_figures, part_figures, predict

    found = predict(net, examples.image)
    if found.label is not None:
        return part_figures(examples.label, found.label, len(net.config.outputs))
    assert found.keypoints is not None
    return keypoint_figures(examples.confident(), found.keypoints)


def _report(
    path: Path,
    card: Mapping[str, Any],
    nets: "Mapping[Task, Net]",
    examples: "Examples | None",
    description: "SetDescription",
    charts: "list[Chart]",
) -> None:
    """One page: figures, curves, and some images that were kept out with their labels and what the network says."""
    import numpy as np

    from ganfoundry.downstream import predict
    from ganfoundry.pictures import grid, overlay
    from ganfoundry.report import Figure, Section, render_page

    rows = [[name, f"{value:.4g}"] for name, value in card["held_out_figures"].items()]
    sections = []
    if examples is not None:
        text = f"On {len(examples)} of the images that were kept out, against the set's own labels."
        sections.append(Section("Figures", text, header=("figure", "value"), rows=rows))
        some = examples.rows(slice(0, SHOWN))
        palette = np.array(description.palette, np.uint8)
        found = predict(nets["parts"], some.image).label
        assert found is not None
        lines = [some.image, overlay(some.image, some.label, palette), overlay(some.image, found, palette)]
        figure = Figure(grid(np.concatenate(lines), len(some), scale=SCALE), "Images, their labels, the network's.")
        sections.append(Section("Images that were kept out", figures=[figure]))
    drawn = [chart for chart in charts if chart.series[0].x]
    sections.append(Section("Training", f"{card['images']:,} images.", charts=drawn))
    recipe = [[name, str(value)] for name, value in card["recipe"].items()]
    sections.append(Section("Recipe", header=("option", "value"), rows=recipe))
    path.write_text(render_page("A network trained on labelled images", "", sections), "utf-8")


command = stage_command(
    "train-downstream",
    Config,
    run,
    example="python cli.py train-downstream --run demo --steps 2000",
)
