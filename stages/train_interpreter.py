"""train-interpreter: learn part labels and keypoints of generated images from a few labelled ones.

A Style Interpreter is an ensemble of small per-pixel networks that read the generator's feature maps (DatasetGAN).
About 16 labelled samples of the same generator are enough.

Sixteen images do not tell front from back: where there are viewpoint codes of the generator (--views, made with
annotate-views), their images teach a small network which way the object faces, and the ensemble reads that too.
"""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

from pipeline.artifacts import Gan, Interpreter, Labels, ViewCodes, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.gan.generator import StyleGenerator
    from ganfoundry.labels.direction import DirectionHead
    from ganfoundry.labels.feature_table import FeatureTable
    from ganfoundry.labels.interpreter import Prediction, StyleInterpreter
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.presets import Preset

MAX_GREY_DIFFERENCE = 2.0
SCALE = 2  # of examples.png


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of train-interpreter; what is None follows from the preset."""

    level: str | None = param(
        None, 'Level of the part schema to learn; none: its first (cars: parts12); "fine": every part.'
    )
    preset: Literal["ours", "paper", "released-code"] = param(
        "ours", "All that follows, as it does best here, as DatasetGAN's paper has it, or as its released code does."
    )
    members: int | None = param(None, "Networks in the ensemble (10).", min=1, max=64)
    hidden: tuple[int, ...] = param(
        (), "Hidden widths; empty: 128, 64 (published: 128, 32), or 256, 128 from 32 classes on.", min=1
    )
    layers: tuple[str, ...] = param((), "Feature maps that are read, such as b8.conv1; empty: the preset's (all).")
    upsampling: Literal["bilinear", "nearest"] | None = param(None, "How feature maps are resized (bilinear).")
    voting: Literal["majority", "soft"] | None = param(None, "Majority of the members, or mean probability (soft).")
    keypoints: bool | None = param(None, "Learn the labels' keypoints too, where they have any (yes).")
    keypoint_head: Literal["shared", "separate"] | None = param(
        None, "Keypoints from the networks of the parts, or from networks of their own (shared)."
    )
    direction: bool | None = param(None, "Learn which way objects face, if there are viewpoint codes (yes).")
    steps: int | None = param(
        None,
        "Training steps (300); for the published presets at most so many (0: until the loss stops falling).",
        min=0,
    )
    batch_pixels: int | None = param(None, "Pixels a step and member (512).", min=8)
    learning_rate: float | None = param(None, "Peak learning rate (0.01).", min=0.0)
    weight_decay: float | None = param(None, "Weight decay of AdamW (0.01).", min=0.0)
    dropout: float | None = param(None, "Share of hidden units dropped in training (0.2).", min=0.0, max=0.9)
    balance: float | None = param(None, "0 draws pixels evenly, 1 draws classes evenly (0.5).", min=0.0, max=1.0)
    region_share: float | None = param(
        None, "Share of the pixels drawn one labelled region after another (0.2).", min=0.0, max=1.0
    )
    keypoint_share: float | None = param(
        None, "Share of the pixels drawn around visible keypoints (0.25).", min=0.0, max=1.0
    )
    sigma: float | None = param(
        None, "Deviation of a keypoint's Gaussian, as a share of the image side (0.025).", min=0.001, max=0.5
    )
    heat_weight: float | None = param(None, "Weight of the keypoints' loss beside that of the parts.", min=0.0)
    prior: float | None = param(
        None,
        "How far logits move from the drawn class frequencies (0) to the labelled images' (1) (0.5).",
        min=0.0,
        max=1.0,
    )
    min_pixels: int | None = param(None, "A class with fewer pixels in an image is not learnt from there (2).", min=1)
    folds: int = param(4, "Cross-validation folds for the held-out figures; 0: none.", min=0)
    fold_members: int = param(3, "Networks in the ensembles of the folds.", min=1, max=64)
    seed: int = param(0, "Seed of initialisation, pixels and dropout.", min=0)


def run(
    config: Config, gan: Gan, labels: Labels, views: ViewCodes | None, out: Writer[Interpreter], ctx: Context
) -> None:
    """Train the ensemble and measure it on images that it did not see.

    The labelled images are made again from their latents and compared with the stored pictures, so labels of another
    generator or another order cannot slip in. Held-out figures come from cross-validation with smaller ensembles; the
    same predictions say how high a keypoint's peak has to be to be visible.
    """
    import torch

    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.synthesis import images_and_table, predict_table, single_thread

    label_set = LabelSet.load(labels.path, gan.generator_sha256)
    level = config.level or label_set.schema.default_level
    _check_classes(label_set, level, ctx)
    generator = load_gan(gan.path).generator
    synthesis = generator.synthesis
    preset = _preset(config)
    layers = _layers(config.layers or preset.layers(synthesis), synthesis.feature_dims)
    with single_thread():
        direction = _direction(views, gan, generator, config.seed, ctx) if preset.direction else None
        images, table = images_and_table(
            synthesis,
            torch.from_numpy(label_set.w),
            layers,
            mode=preset.mode,
            standardise=preset.training.standardise,
            direction=direction,
        )
        _check_images(label_set, images)
        start = time.perf_counter()
        with ctx.progress("training", _num_steps(preset, label_set)) as bar:
            interpreter = _fit(preset, level, table, label_set, direction, bar.advance)
        out.figure("training_seconds", round(time.perf_counter() - start, 1))
        held_out = _cross_validate(config, level, preset, table, label_set, direction, ctx)
        if held_out is not None and held_out.keypoints is not None:
            interpreter = _calibrated(interpreter, label_set, held_out)
        interpreter.save(out.path / "interpreter.safetensors", {"generator_sha256": gan.generator_sha256})
        trained = predict_table(interpreter, table)
    _record_figures(out, label_set, level, trained, "training")
    if held_out is not None:
        _record_figures(out, label_set, level, held_out, "held_out")
    _write_description(out, config, level, gan, label_set, interpreter)
    _draw(out, label_set, level, trained if held_out is None else held_out)


def _preset(config: Config) -> "Preset":
    """Return the preset with the options in place of its own settings."""
    from ganfoundry.labels.interpreter_config import Training
    from ganfoundry.labels.presets import Preset, get_preset

    preset = get_preset(config.preset)
    given = {key: value for key, value in vars(config).items() if value is not None}
    training = replace(preset.training, **{f.name: given[f.name] for f in fields(Training) if f.name in given})
    own = {key: given[key] for key in ("members", "voting", "keypoints", "keypoint_head", "direction") if key in given}
    result: Preset = replace(
        preset, hidden=config.hidden or None, mode=config.upsampling or preset.mode, training=training, **own
    )
    return result


def _num_steps(preset: "Preset", label_set: "LabelSet") -> int:
    return preset.training.num_steps(label_set.masks.size)


def _layers(wanted: Sequence[str], known: Mapping[str, Any]) -> list[str]:
    unknown = [name for name in wanted if name.removesuffix(":raw") not in known]
    if unknown:
        raise UserError(f"the generator has no layer {unknown[0]}; layers can be {', '.join(known)}")
    return list(wanted)


def _direction(
    views: ViewCodes | None, gan: Gan, generator: "StyleGenerator", seed: int, ctx: Context
) -> "DirectionHead | None":
    """What the viewpoint codes teach about the direction; None without any.

    Raises
    ------
    UserError
        If the codes are of another generator.
    """
    from ganfoundry.labels.direction import DirectionTraining, num_advances, train_direction
    from ganfoundry.views import ViewCodeSet

    if views is None:
        ctx.log("no viewpoint codes: front and back may be confused; --views names those that annotate-views made")
        return None
    codes = ViewCodeSet.load(views.path)
    if codes.generator_sha256 != gan.generator_sha256:
        raise UserError(
            f"the viewpoint codes in {views.path} are of another generator: give those of this one with --views, or "
            "--no-direction"
        )
    training = DirectionTraining(seed=seed)
    with ctx.progress("learning directions", num_advances(codes, training)) as bar:
        return train_direction(generator, codes, training, bar.advance)


def _check_classes(label_set: "LabelSet", level: str, ctx: Context) -> None:
    """Refuse labels that show no part; say which parts none of them shows, since nothing can be learnt of those."""
    import numpy as np

    names = label_set.schema.names(level)
    shown = np.unique(label_set.at_level(level))
    if len(shown) < 2:
        raise UserError(f"the labelled images show nothing but {names[int(shown[0])]}: label the parts of the object")
    missing = [name for index, name in enumerate(names) if index not in shown]
    if missing:
        ctx.log(f"no labelled image shows {', '.join(missing)}: the interpreter will never find it")


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


def _fit(
    preset: "Preset",
    level: str,
    table: "FeatureTable",
    label_set: "LabelSet",
    direction: "DirectionHead | None",
    advance: Any,
    rows: "NDArray[np.int64] | slice" = slice(None),
) -> "StyleInterpreter":
    """Train on some of the labelled images."""
    return preset.fit(
        table,
        label_set.at_level(level)[rows],
        len(label_set.schema.names(level)),
        keypoints=_visible(label_set, rows),
        weights=None if label_set.weights is None else label_set.weights[rows],
        direction=direction,
        advance=advance,
    )


def _visible(label_set: "LabelSet", rows: "NDArray[np.int64] | slice" = slice(None)) -> "NDArray[np.float32] | None":
    from ganfoundry.labels.keypoints import visible_only

    if label_set.keypoints is None or not label_set.keypoints[..., 2].any():
        return None
    return visible_only(label_set.keypoints[rows])


def _cross_validate(
    config: Config,
    level: str,
    preset: "Preset",
    table: "FeatureTable",
    label_set: "LabelSet",
    direction: "DirectionHead | None",
    ctx: Context,
) -> "Prediction | None":
    """Predict every image by an interpreter trained without it; None when there are no folds."""
    import numpy as np

    from ganfoundry.labels.synthesis import held_out_prediction

    folds = min(config.folds, len(label_set))
    if folds < 2:
        return None
    small = replace(preset, members=min(config.fold_members, preset.members))
    parts = [np.arange(len(label_set))[start::folds] for start in range(folds)]
    with ctx.progress("cross-validation", folds * _num_steps(preset, label_set)) as bar:
        return held_out_prediction(
            table, parts, lambda t, rows: _fit(small, level, t, label_set, direction, bar.advance, rows)
        )


def _calibrated(interpreter: "StyleInterpreter", label_set: "LabelSet", held_out: "Prediction") -> "StyleInterpreter":
    """Return the interpreter with chances of being visible that fit the images that were held out."""
    from ganfoundry.labels.keypoints import calibrate_visibility

    visible = _visible(label_set)
    assert visible is not None
    assert held_out.keypoints is not None
    fitted = calibrate_visibility(held_out.keypoints[..., 2].numpy(), visible[..., 2], interpreter.config.visibility)
    return interpreter.with_config(visibility=fitted)


def _record_figures(
    out: Writer[Interpreter], label_set: "LabelSet", level: str, found: "Prediction", name: str
) -> None:
    """Record what can be measured: without visible keypoints there is no share of right ones."""
    from ganfoundry.labels.keypoints import object_sizes
    from ganfoundry.metrics import auroc, mean_iou, pck, pixel_accuracy

    truth, label = label_set.at_level(level), found.label.numpy()
    out.figure(f"{name}_accuracy", round(pixel_accuracy(truth, label), 4))
    out.figure(f"{name}_miou", round(mean_iou(truth, label, len(label_set.schema.names(level))), 4))
    if found.keypoints is None or label_set.keypoints is None:
        return
    size, places, given = object_sizes(label_set.masks), found.keypoints.numpy(), label_set.keypoints[..., 2]
    known = given.any(1)  # images in which somebody has marked keypoints
    shares = {
        f"pck_{percent}": pck(label_set.keypoints, places, percent / 100, size, hidden=False) for percent in (5, 10)
    }
    shares["visibility_auroc"] = auroc(given[known] > 1, places[known, :, 2])
    for figure, share in shares.items():
        if math.isfinite(share):
            out.figure(f"{name}_{figure}", round(share, 4))


def _write_description(
    out: Writer[Interpreter],
    config: Config,
    level: str,
    gan: Gan,
    label_set: "LabelSet",
    interpreter: "StyleInterpreter",
) -> None:
    """Write interpreter.json: what the weights mean."""
    schema, settings = label_set.schema, interpreter.config
    table = {
        "schema": schema.name,
        "level": level,
        "classes": list(schema.names(level)),
        "palette": schema.level_palette(level).tolist(),
        "keypoints": list(schema.keypoints) if settings.num_keypoints else [],
        "generator_sha256": gan.generator_sha256,
        "layers": interpreter.reads,
        "direction": interpreter.direction is not None,
        "preset": settings.preset,
        "image_score": settings.image_score,
        "filter_rule": settings.filter_rule,
        "filter_fraction": settings.filter_fraction,
        "labelled_images": len(label_set),
        "provenance": dict(label_set.provenance),
        "training": asdict(config),
        "figures": dict(out.figures),
    }
    (out.path / "interpreter.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def _draw(out: Writer[Interpreter], label_set: "LabelSet", level: str, found: "Prediction") -> None:
    """Write examples.png: image, given label, predicted label (held out if possible) and uncertainty.

    Keypoints that are probably visible are drawn over the predicted labels.
    """
    import numpy as np

    from ganfoundry.labels.keypoints import draw_keypoints
    from ganfoundry.pictures import grid, heatmap, magnify, overlay, png_bytes

    palette = label_set.schema.level_palette(level)
    uncertainty = found.uncertainty.numpy()
    columns = [
        label_set.images,
        overlay(label_set.images, label_set.at_level(level), palette),
        overlay(label_set.images, found.label.numpy(), palette),
        heatmap(uncertainty, float(np.quantile(uncertainty, 0.995))),
    ]
    columns = [magnify(column, SCALE) for column in columns]
    if found.keypoints is not None:
        for column, points in ((1, _visible(label_set)), (2, found.keypoints.numpy())):
            assert points is not None
            columns[column] = draw_keypoints(columns[column], points, SCALE)
    picture = grid(np.concatenate(columns, axis=2), 2, gap=6)
    (out.path / "examples.png").write_bytes(png_bytes(picture))


command = stage_command(
    "train-interpreter",
    Config,
    run,
    version=3,
    example="python cli.py train-interpreter --gan outputs/demo/import-gan --labels annotations/cars/labels",
)
