"""train-interpreter: learn part labels of generated images from a few labelled ones.

A Style Interpreter is an ensemble of small per-pixel networks that read the generator's feature maps (DatasetGAN).
About 16 labelled samples of the same generator are enough.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Gan, Interpreter, Labels, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ganfoundry.labels.interpreter import StyleInterpreter, Training
    from ganfoundry.labels.labelset import LabelSet

MAX_GREY_DIFFERENCE = 2.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of train-interpreter."""

    level: str = param("", 'Level of the part schema to learn: "fine" is every part; empty: its finest but that.')
    members: int = param(10, "Networks in the ensemble.", min=1, max=64)
    hidden: tuple[int, ...] = param((), "Hidden widths; empty: 128, 32, or 256, 128 from 32 classes on.", min=1)
    layers: tuple[str, ...] = param((), "Convolutions whose output is read, such as b8.conv1; empty: all.")
    upsampling: str = param("bilinear", "How feature maps are resized.", choices=("bilinear", "nearest"))
    voting: str = param("majority", "Majority of the members, or mean probability.", choices=("majority", "soft"))
    keypoints: bool = param(True, "Learn the labels' keypoints too, where they have any.")
    steps: int = param(300, "Training steps.", min=1)
    batch_pixels: int = param(512, "Pixels a step and member.", min=8)
    learning_rate: float = param(1e-2, "Peak learning rate of AdamW.", min=0.0)
    weight_decay: float = param(1e-2, "Weight decay of AdamW.", min=0.0)
    dropout: float = param(0.2, "Share of hidden units dropped in training.", min=0.0, max=0.9)
    balance: float = param(0.5, "0 draws pixels evenly, 1 draws classes evenly.", min=0.0, max=1.0)
    region_share: float = param(0.2, "Share of the pixels drawn one labelled region after another.", min=0.0, max=1.0)
    prior: float = param(
        0.5, "How far logits move from the drawn class frequencies (0) to the labelled images' (1).", min=0.0, max=1.0
    )
    min_pixels: int = param(2, "A class with fewer pixels in an image is not learnt from there.", min=1)
    folds: int = param(4, "Cross-validation folds for the held-out figures; 0: none.", min=0)
    fold_members: int = param(3, "Networks in the ensembles of the folds.", min=1, max=64)
    seed: int = param(0, "Seed of initialisation, pixels and dropout.", min=0)


def run(config: Config, gan: Gan, labels: Labels, out: Writer[Interpreter], ctx: Context) -> None:
    """Train the ensemble and measure it on images that it did not see.

    The labelled images are made again from their latents and compared with the stored pictures, so labels of another
    generator or another order cannot slip in. Held-out figures come from cross-validation with smaller ensembles.
    """
    import torch

    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.synthesis import images_and_features, single_thread

    label_set = LabelSet.load(labels.path, gan.generator_sha256)
    config = replace(config, level=config.level or label_set.schema.default_level)
    synthesis = load_gan(gan.path).generator.synthesis
    layers = _layers(config.layers, synthesis.feature_dims)
    targets = label_set.at_level(config.level)
    with single_thread():
        images, features = images_and_features(synthesis, torch.from_numpy(label_set.w), layers)
        _check_images(label_set, images)
        start = time.perf_counter()
        with ctx.progress("training", config.steps) as bar:
            interpreter = _fit(config, features, targets, label_set, config.members, bar.advance)
        out.figure("training_seconds", round(time.perf_counter() - start, 1))
        interpreter.save(out.path / "interpreter.safetensors", {"generator_sha256": gan.generator_sha256})
        held_out = _cross_validate(config, features, targets, label_set, ctx)
    _record_figures(out, interpreter, features, targets, held_out)
    _write_description(out, config, gan, label_set, layers, interpreter.config.num_keypoints)
    _draw(out, label_set, config.level, interpreter, features, targets, held_out)


def _layers(wanted: tuple[str, ...], known: Mapping[str, Any]) -> list[str]:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise UserError(f"the generator has no layer {unknown[0]}; layers can be {', '.join(known)}")
    return list(wanted or known)


def _check_images(label_set: "LabelSet", images: "NDArray[np.uint8]") -> None:
    """Refuse latents that do not make the stored pictures."""
    import numpy as np

    if images.shape != label_set.images.shape:
        size, stored = images.shape[1], label_set.images.shape[1]
        raise UserError(f"the generator makes {size} px images, but the labelled ones have {stored} px: pass its own")
    difference = np.abs(images.astype(float) - label_set.images).mean((1, 2, 3))
    worst = int(difference.argmax())
    if difference[worst] > MAX_GREY_DIFFERENCE:
        raise UserError(
            f"{label_set.names[worst]}: its latent makes a picture that differs from images/{label_set.names[worst]}"
            f".png by {difference[worst]:.1f} grey levels on average: latents.safetensors and the pictures of the "
            "labels do not belong together; restore both from one version"
        )


def _training(config: Config) -> "Training":
    from ganfoundry.labels.interpreter import Training

    return Training(
        steps=config.steps,
        batch_pixels=config.batch_pixels,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        dropout=config.dropout,
        balance=config.balance,
        region_share=config.region_share,
        prior=config.prior,
        min_pixels=config.min_pixels,
        seed=config.seed,
    )


def _fit(
    config: Config,
    features: "Mapping[str, Tensor]",
    targets: "NDArray[np.uint8]",
    label_set: "LabelSet",
    members: int,
    advance: Any,
    rows: "NDArray[np.int64] | slice" = slice(None),
) -> "StyleInterpreter":
    from ganfoundry.labels.interpreter import StyleInterpreter
    from ganfoundry.labels.keypoints import visible_only

    keypoints = label_set.keypoints if config.keypoints else None

    return StyleInterpreter.fit(
        features,
        targets,
        len(label_set.schema.names(config.level)),
        members=members,
        hidden=config.hidden or None,
        mode="nearest" if config.upsampling == "nearest" else "bilinear",
        voting="majority" if config.voting == "majority" else "soft",
        keypoints=None if keypoints is None else visible_only(keypoints)[rows],
        weights=None if label_set.weights is None else label_set.weights[rows],
        training=_training(config),
        advance=advance,
    )


def _cross_validate(
    config: Config,
    features: "Mapping[str, Tensor]",
    targets: "NDArray[np.uint8]",
    label_set: "LabelSet",
    ctx: Context,
) -> "NDArray[np.uint8] | None":
    """Label every image by an interpreter trained without it; None when there are no folds."""
    import numpy as np

    from ganfoundry.labels.synthesis import held_out_labels

    folds = min(config.folds, len(label_set))
    if folds < 2:
        return None
    parts = [np.arange(len(label_set))[start::folds] for start in range(folds)]
    with ctx.progress("cross-validation", folds * config.steps) as bar:
        return held_out_labels(
            features,
            targets,
            parts,
            lambda f, t, rows: _fit(config, f, t, label_set, config.fold_members, bar.advance, rows),
        )


def _record_figures(
    out: Writer[Interpreter],
    interpreter: "StyleInterpreter",
    features: "Mapping[str, Tensor]",
    targets: "NDArray[np.uint8]",
    held_out: "NDArray[np.uint8] | None",
) -> None:
    from ganfoundry.metrics import mean_iou, pixel_accuracy

    classes = interpreter.config.num_classes
    trained = interpreter.predict(features).label.numpy()
    out.figure("training_accuracy", round(pixel_accuracy(targets, trained), 4))
    out.figure("training_miou", round(mean_iou(targets, trained, classes), 4))
    if held_out is not None:
        out.figure("held_out_accuracy", round(pixel_accuracy(targets, held_out), 4))
        out.figure("held_out_miou", round(mean_iou(targets, held_out, classes), 4))


def _write_description(
    out: Writer[Interpreter], config: Config, gan: Gan, label_set: "LabelSet", layers: list[str], keypoints: int
) -> None:
    """Write interpreter.json: what the weights mean."""
    schema = label_set.schema
    table = {
        "schema": schema.name,
        "level": config.level,
        "classes": list(schema.names(config.level)),
        "palette": schema.level_palette(config.level).tolist(),
        "generator_sha256": gan.generator_sha256,
        "layers": layers,
        "keypoints": list(schema.keypoints) if keypoints else [],
        "labelled_images": len(label_set),
        "provenance": dict(label_set.provenance),
        "training": asdict(config),
        "figures": dict(out.figures),
    }
    (out.path / "interpreter.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _draw(
    out: Writer[Interpreter],
    label_set: "LabelSet",
    level: str,
    interpreter: "StyleInterpreter",
    features: "Mapping[str, Tensor]",
    targets: "NDArray[np.uint8]",
    held_out: "NDArray[np.uint8] | None",
) -> None:
    """Write examples.png: image, given label, predicted label (held out if possible) and uncertainty."""
    import numpy as np

    from ganfoundry.pictures import grid, heatmap, overlay, png_bytes

    palette = label_set.schema.level_palette(level)
    prediction = interpreter.predict(features)
    predicted = prediction.label.numpy() if held_out is None else held_out
    uncertainty = prediction.uncertainty.numpy()
    columns = [
        label_set.images,
        overlay(label_set.images, targets, palette),
        overlay(label_set.images, predicted, palette),
        heatmap(uncertainty, float(np.quantile(uncertainty, 0.995))),
    ]
    picture = grid(np.concatenate(columns, axis=2), 2, scale=2, gap=6)
    (out.path / "examples.png").write_bytes(png_bytes(picture))


command = stage_command(
    "train-interpreter",
    Config,
    run,
    example="python cli.py train-interpreter --gan outputs/demo/import-gan --labels annotations/cars/labels",
)
