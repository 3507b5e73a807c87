"""export-labels: gives samples to an annotation tool, with what is needed to pair the labels with their latents again.

Which samples: those of a labels folder with their labels, to be corrected (the default); rows of a labelled set with
the interpreter's labels, such as those that `select` names (--rows 3,17); or new ones without labels (--seeds 100,101
and --schema). The folder annotate/ is for the tool; docs/label-formats.md says how each one opens it. Keep the file
names. import-labels brings the labels back.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.artifacts import Gan, LabelExport, LabelledSet, Labels, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from ganfoundry.labels.formats import AnnotatedImage
    from ganfoundry.labels.labelset import LabelSet

VISIBLE = 2.0


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the export."""

    format: str = param(
        "labelme", "What the tool reads.", choices=("labelme", "coco", "label-studio", "cvat", "png", "npy")
    )
    areas: Literal["polygons", "masks"] = param(
        "polygons", "How areas are stored; masks are brush masks or run lengths, and always for png and npy."
    )
    tolerance: float = param(
        0.0, "How far, in pixels, polygons may leave the outline to have fewer corners; 0: exact.", min=0.0, max=10.0
    )
    rows: tuple[int, ...] = param((), "Rows of the labelled set.", min=0)
    seeds: tuple[int, ...] = param((), "Seeds of new samples.", min=0)
    truncation: float = param(0.7, "Truncation psi of new samples.", min=0.0, max=1.0)
    schema: Path | None = param(None, "Part schema (TOML) of new samples.", content=True)


def run(
    config: Config,
    gan: Gan,
    labels: Labels | None,
    labelled_set: LabelledSet | None,
    out: Writer[LabelExport],
    ctx: Context,
) -> None:
    """Write annotate/ and pairs/."""
    from ganfoundry.labels.formats import write_annotations
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.pairing import write_manifest
    from ganfoundry.pictures import png_bytes

    chosen = _chosen(config, gan, labels, labelled_set)
    if chosen.generator_sha256 != gan.generator_sha256:
        raise UserError(
            f"the samples belong to the generator {chosen.generator_sha256[:12]}..., not to "
            f"{gan.generator_sha256[:12]}...: pass its own with --gan PATH."
        )
    chosen.save(out.path / "pairs")
    LabelSet.load(out.path / "pairs", gan.generator_sha256)  # what was written is what import-labels will accept
    folder = out.path / "annotate"
    write_annotations(
        folder, config.format, _annotated(chosen), chosen.schema, areas=config.areas, tolerance=config.tolerance
    )
    pictures = folder if config.format == "labelme" else folder / "images"
    pictures.mkdir(parents=True, exist_ok=True)
    for name, image in zip(chosen.names, chosen.images, strict=True):
        (pictures / f"{name}.png").write_bytes(png_bytes(image))
    write_manifest(folder, chosen)
    out.figure("samples", len(chosen))
    out.figure("format", config.format)
    ctx.log(f"label the pictures in {folder}; bring them back with import-labels --annotations {folder}")


def _chosen(config: Config, gan: Gan, labels: Labels | None, labelled_set: LabelledSet | None) -> "LabelSet":
    from ganfoundry.labels.labelset import LabelSet

    if config.rows and config.seeds:
        raise UserError("--rows and --seeds name different samples: give one of them.")
    if config.seeds:
        return _new_samples(config, gan, labels)
    if config.rows:
        if labelled_set is None:
            raise UserError(
                "--rows needs a labelled set: make one with synthesize, or name one with --labelled-set PATH."
            )
        return _rows(config.rows, labelled_set)
    if labels is None:
        raise UserError("nothing to export: name --labels PATH, or choose samples with --rows or --seeds.")
    return LabelSet.load(labels.path)


def _new_samples(config: Config, gan: Gan, labels: Labels | None) -> "LabelSet":
    """Samples of given seeds, all background."""
    import numpy as np
    import torch

    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.schema import PartSchema
    from ganfoundry.labels.synthesis import images_and_features

    if config.schema is not None:
        schema = PartSchema.from_toml(config.schema)
    elif labels is not None:
        schema = LabelSet.load(labels.path).schema
    else:
        raise UserError("new samples need a part schema: name one with --schema schema.toml.")
    seeds = list(dict.fromkeys(config.seeds))
    loaded = load_gan(gan.path)
    w = content_codes(loaded.generator, seeds, config.truncation)
    images, _ = images_and_features(loaded.generator.synthesis, w, [])
    return LabelSet(
        names=tuple(f"seed-{seed:06d}" for seed in seeds),
        images=images,
        masks=np.zeros(images.shape[:3], np.uint8),
        w=w.to(torch.float32).numpy(),
        generator_sha256=loaded.sha256,
        schema=schema,
        provenance={"labels": "none yet", "truncation": config.truncation},
        seeds=np.array(seeds, np.int64),
    )


def _rows(rows: tuple[int, ...], labelled_set: LabelledSet) -> "LabelSet":
    """Rows of a labelled set with their labels; the schema's parts are the set's classes."""
    import numpy as np

    from ganfoundry.data.reader import ShardReader
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.schema import PartSchema

    path = labelled_set.path / "labels.json"
    try:
        table = json.loads(path.read_text("utf-8"))
        classes, level = tuple(table["classes"]), str(table["level"])
        schema = PartSchema(
            name=f"{table['schema']}",
            parts=classes,
            levels={} if level == "fine" else {level: classes},
            keypoints=tuple(table.get("keypoints", ())),
            palette=np.array(table["palette"], np.uint8),
        )
        sha256, truncation = str(table["generator_sha256"]), table["truncation"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}; run synthesize again.") from None
    reader = ShardReader(labelled_set.path / "shards")
    chosen = np.array(list(dict.fromkeys(rows)))
    if chosen.max() >= len(reader):
        raise UserError(f"there is no row {chosen.max()} in {labelled_set.path}: it has {len(reader)}.")
    fields = ["image", "label", "w", "seed", *(["keypoints"] if "keypoints" in reader.fields else [])]
    found = reader.rows(chosen, fields)
    keypoints = found.get("keypoints")
    if keypoints is not None:
        keypoints = np.array(keypoints, np.float32)
        keypoints[..., 2] = np.where(keypoints[..., 2] >= 0.5, VISIBLE, 0)  # a probability -> a label
    return LabelSet(
        names=tuple(f"row-{row:06d}" for row in chosen),
        images=found["image"],
        masks=found["label"],
        w=found["w"],
        generator_sha256=sha256,
        schema=schema,
        provenance={"labels": "by the interpreter, to be corrected", "truncation": truncation},
        seeds=found["seed"].astype(np.int64),
        keypoints=keypoints,
    )


def _annotated(labels: "LabelSet") -> "list[AnnotatedImage]":
    """The samples as the writers of the formats take them."""
    import numpy as np

    from ganfoundry.labels.formats import AnnotatedImage

    names = labels.schema.keypoints
    result = []
    for row, name in enumerate(labels.names):
        points = [] if labels.keypoints is None else labels.keypoints[row].tolist()
        seen = {key: (x, y, float(v)) for key, (x, y, v) in zip(names, points, strict=False) if v > 0}
        result.append(AnnotatedImage(f"{name}.png", labels.masks[row].astype(np.uint16), labels.schema.parts, seen))
    return result


command = stage_command(
    "export-labels",
    Config,
    run,
    example="python cli.py export-labels --run demo --format labelme --tolerance 0.5",
)
