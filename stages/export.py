"""export: write a labelled set as one HDF5 file and as COCO, for use without this project.

dataset.h5 holds images, label maps, scores, latents and seeds with the classes and the sources as attributes; coco/
holds PNG images and annotations.json with one exact mask for each part and one for the whole object. Rows that the
selection dropped are left out unless asked for.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Export, LabelledSet, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.data.hdf5_export import SetDescription
    from ganfoundry.data.reader import ShardReader

ROWS_PER_TASK = 128


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the export."""

    include_dropped: bool = param(False, "Write the rows that the selection dropped, too (keep is false for them).")
    uncertainty_maps: bool = param(False, "Write the uncertainty of every pixel into the HDF5 file.")
    coco: bool = param(True, "Write the COCO folder.")
    license: str = param("unspecified", "Licence of the data set, as it stands in both formats.")


@dataclass(frozen=True)
class CocoTask:
    """Rows whose images and annotations a worker makes."""

    shards: str
    images: str
    rows: tuple[int, ...]
    num_classes: int
    verify: bool


def run(config: Config, labelled_set: LabelledSet, out: Writer[Export], ctx: Context) -> None:
    """Write both formats; an interrupted export goes on with the first file that is not whole."""
    import numpy as np

    from ganfoundry.data.hdf5_export import SetDescription
    from ganfoundry.data.reader import ShardReader
    from ganfoundry.labels.labelset import kept_rows

    description = SetDescription.load(labelled_set.path / "labels.json")
    reader = ShardReader(labelled_set.path / "shards")
    kept = kept_rows(labelled_set.path)
    rows = np.arange(len(reader)) if config.include_dropped else kept
    _check(labelled_set.path, len(reader), kept, rows)
    _write_hdf5(config, labelled_set, reader, (rows, np.isin(rows, kept)), description, out, ctx)
    out.figure("images", len(rows))
    out.figure("left_out", len(reader) - len(rows))
    out.figure("classes", len(description.classes))
    out.figure("hdf5_mb", round((out.path / "dataset.h5").stat().st_size / 1e6, 1))
    if config.coco:
        out.figure("coco_annotations", _write_coco(config, reader, rows, description, out, ctx))


def _check(folder: Path, total: int, kept: "NDArray[np.int64]", rows: "NDArray[np.int64]") -> None:
    from pipeline.errors import UserError

    if len(kept) and kept[-1] >= total:
        raise UserError(f"selection.json in {folder} keeps row {kept[-1]} of {total}: run synthesize again.")
    if not len(rows):
        raise UserError(f"{folder} has no row that is kept: lower its filter_fraction or use --include-dropped.")


def _write_hdf5(
    config: Config,
    labelled_set: LabelledSet,
    reader: "ShardReader",
    selected: "tuple[NDArray[np.int64], NDArray[np.bool_]]",
    description: "SetDescription",
    out: Writer[Export],
    ctx: Context,
) -> None:
    from ganfoundry.data.hdf5_export import is_whole, pack_hdf5

    path, fingerprint = out.path / "dataset.h5", out.fingerprint
    _clean(out.path)
    if fingerprint and not ctx.verify and is_whole(path, fingerprint):
        return
    record = labelled_set.record
    provenance = {name: record[name] for name in ("fingerprint", "stage", "config", "inputs", "seed") if name in record}
    attributes = {
        "license": config.license,
        "provenance": json.dumps(provenance, sort_keys=True),
        "fingerprint": fingerprint,
    }
    rows, keep = selected
    with ctx.progress("writing dataset.h5", len(rows)) as bar:
        pack_hdf5(
            path,
            reader,
            rows,
            keep,
            description,
            attributes,
            uncertainty_maps=config.uncertainty_maps,
            progress=bar.advance,
        )


def _write_coco(
    config: Config,
    reader: "ShardReader",
    rows: "NDArray[np.int64]",
    description: "SetDescription",
    out: Writer[Export],
    ctx: Context,
) -> int:
    from ganfoundry.data.coco import assemble
    from ganfoundry.data.integrity import write_whole

    folder = out.path / "coco"
    (folder / "images").mkdir(parents=True, exist_ok=True)
    _clean(folder / "images")
    blocks = [tuple(rows[start : start + ROWS_PER_TASK].tolist()) for start in range(0, len(rows), ROWS_PER_TASK)]
    classes = description.classes
    tasks = [CocoTask(str(reader.folder), str(folder / "images"), block, len(classes), ctx.verify) for block in blocks]
    results = dict(ctx.executor.map(coco_rows, tasks, "writing COCO images"))
    images = [entry for position in sorted(results) for entry in results[position]]
    sources = f"generator sha256 {description.generator_sha256}, interpreter {description.interpreter_sha256}"
    table = assemble(images, classes, description=f"labelled GAN images; {sources}", license_name=config.license)
    write_whole(folder / "annotations.json", json.dumps(table).encode())
    return len(table["annotations"])


def _clean(folder: Path) -> None:
    """Delete the temporary files of a killed run."""
    for left_over in folder.glob(".tmp-*"):
        left_over.unlink(missing_ok=True)


def coco_rows(task: CocoTask) -> list[tuple[int, int, int, list[dict[str, Any]]]]:
    """Write the images of some rows as PNG; return (row, height, width, annotations) of each."""
    from ganfoundry.data.coco import encode_png, image_annotations, image_name
    from ganfoundry.data.integrity import write_whole
    from ganfoundry.data.reader import ShardReader

    columns = ShardReader(task.shards).rows(task.rows, ("image", "label"))
    found = []
    for row, image, label in zip(task.rows, columns["image"], columns["label"], strict=True):
        path = Path(task.images) / image_name(row)
        if task.verify or not (path.exists() and path.stat().st_size):
            write_whole(path, encode_png(image), sync=False)
        found.append((row, *label.shape, image_annotations(label, task.num_classes)))
    return found


command = stage_command(
    "export",
    Config,
    run,
    example='python cli.py export --run demo --license "CC0-1.0"',
)
