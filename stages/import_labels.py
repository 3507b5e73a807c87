"""import-labels: brings labels back from an annotation tool and checks that they belong to their latents.

Give what the tool wrote: labelme, COCO, Label Studio (JSON) or CVAT (COCO) files, or a folder of index PNGs or NPY
files. An annotation belongs to a sample by its file name: to one that export-labels gave out, to one of a labels
folder, or to a photo of yours whose latent `invert --method w` has found. A photo counts the less in the training the
farther its inversion is from it.

Look at validation.html: every annotation over its picture, and what is wrong. Errors stop the import; --check-only
writes that page to import-labels-check in the run's folder, changes nothing else and ends with exit code 2 if there are
errors. With --extend the samples of --labels stay and the new ones are added to them.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.artifacts import Gan, Inversions, LabelExport, Labels, Writer
from pipeline.command import StageCommand, read_common
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.progress import Display
from pipeline.stage import Context, Stage

if TYPE_CHECKING:
    from ganfoundry.gan.generator import StyleGenerator
    from ganfoundry.labels.formats import AnnotatedImage
    from ganfoundry.labels.importing import Importer
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.pairing import Sample
    from ganfoundry.labels.schema import PartSchema

CHECK_FOLDER = "import-labels-check"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the import."""

    annotations: Path = param(..., "File or folder that the annotation tool wrote.", content=True)
    format: str = param(
        "auto",
        "Its format; auto tells it by the content.",
        choices=("auto", "labelme", "coco", "label-studio", "cvat", "png", "npy"),
    )
    schema: Path | None = param(
        None, "Part schema (TOML); without it that of the exported or labelled samples.", content=True
    )
    alias: tuple[str, ...] = param((), "Names that differ from the schema's: tyre=wheel,sky=background.")
    resize: bool = param(False, "Bring masks of another size to the picture's by nearest neighbour.")
    max_difference: float = param(
        8.0, "Mean grey levels by which a picture that came along may differ from the sample's.", min=0.0, max=255.0
    )
    min_region: int = param(4, "Regions of fewer pixels are reported.", min=1)
    half_psnr: float = param(20.0, "PSNR in dB at which an inverted photo counts half.", min=0.0, max=100.0)
    extend: bool = param(False, "Keep the samples of --labels; imported ones of the same name replace them.")


@dataclass(frozen=True)
class Sources:
    """Where samples with latents come from."""

    gan: Gan
    label_export: LabelExport | None
    labels: Labels | None
    inversions: Inversions | None


def run(
    config: Config,
    gan: Gan,
    label_export: LabelExport | None,
    labels: Labels | None,
    inversions: Inversions | None,
    out: Writer[Labels],
    ctx: Context,
) -> None:
    """Write a labels folder, validation.html and validation.json."""
    from ganfoundry.labels.labelset import LabelSet

    sources = Sources(gan, label_export, labels, inversions)
    importer = check(config, sources, out.path, ctx)
    imported = importer.labels(_provenance(config, importer))
    if config.extend:
        imported = _extended(imported, labels)
    for name in ("images", "masks"):
        shutil.rmtree(out.path / name, ignore_errors=True)
    imported.save(out.path)
    LabelSet.load(out.path, gan.generator_sha256)  # what was written is what train-interpreter will accept
    out.figure("samples", len(imported))
    out.figure("imported", len(importer.result.labels))
    out.figure("pictures_compared", importer.result.compared)
    out.figure("warnings", importer.result.count("warning"))
    if imported.weights is not None:
        out.figure("lowest_weight", round(float(imported.weights.min()), 3))


def check(config: Config, sources: Sources, folder: Path, ctx: Context) -> "Importer":
    """Read and check the annotations, and write the report.

    Raises
    ------
    UserError
        If there is an error among the findings; the report is written before.
    """
    from ganfoundry.labels.formats import read_annotations
    from ganfoundry.labels.importing import Importer, Rules, parse_aliases
    from ganfoundry.labels.pairing import Pool, manifest_conflicts, read_manifest
    from ganfoundry.labels.validation import summary, write_report

    generator = _generator(sources.gan)
    samples, schema, left_out = _samples(config, sources, generator)
    rules = Rules(parse_aliases(config.alias, schema), config.resize, config.max_difference, config.min_region)
    importer = Importer(Pool(samples), schema, rules)
    if left_out:
        importer.result.add("photos-left-out", "", left_out)
    format = None if config.format == "auto" else config.format
    images = read_annotations(config.annotations, format, schema.parts, importer.unreadable)
    with ctx.progress("Reading annotations", len(importer.pool.samples)) as bar:
        result = importer.take_all(_counted(images, bar.advance))
    importer.check_latents(sources.gan.generator_sha256, lambda w: _pictures(generator, w, ctx))
    manifest = read_manifest(config.annotations)
    for name, sentence in [] if manifest is None else manifest_conflicts(manifest, importer.imported):
        result.add("other-generator", name, sentence)
    write_report(folder, result, f"Labels from {config.annotations.name}")
    page = folder / "validation.html"
    if result.count("error"):
        first = next(finding for finding in result.findings if finding.severity == "error")
        where = f"{first.sample}: " if first.sample else ""
        raise UserError(f"{summary(result)}; the first: {where}{first.message}. {page} shows them all.")
    ctx.log(f"{summary(result)}: look at {page}")
    return importer


def _counted(images: "Iterator[AnnotatedImage]", advance: Callable[[], None]) -> "Iterator[AnnotatedImage]":
    for image in images:
        yield image
        advance()


def _generator(gan: Gan) -> "StyleGenerator":
    from ganfoundry.gan.checkpoints import load_gan

    return load_gan(gan.path).generator


def _samples(config: Config, sources: Sources, generator: "StyleGenerator") -> "tuple[list[Sample], PartSchema, str]":
    """Samples that annotations can belong to, the schema of the labels, and why photos are left out, if they are."""
    from ganfoundry.errors import InputError
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.pairing import samples_of
    from ganfoundry.labels.real_photos import load_photos
    from ganfoundry.labels.schema import PartSchema

    samples: list[Sample] = []
    left_out = ""
    schema = None if config.schema is None else PartSchema.from_toml(config.schema)
    for artifact, folder in ((sources.label_export, "pairs"), (sources.labels, "")):
        if artifact is not None:
            known = LabelSet.load(artifact.path / folder)
            samples += samples_of(known, "exported samples" if folder else "labelled samples")
            schema = schema or known.schema
    if sources.inversions is not None:
        try:
            samples += load_photos(sources.inversions.path, generator, half=config.half_psnr)
        except InputError as error:
            if not samples:
                raise
            left_out = str(error)  # the run's inversions may have nothing to do with these annotations
    if not samples:
        raise UserError(
            "there are no samples that annotations could belong to: name --label-export, --labels or --inversions."
        )
    if schema is None:
        raise UserError("labels need a part schema: name one with --schema schema.toml.")
    return samples, schema, left_out


def _pictures(generator: "StyleGenerator", w: Any, ctx: Context) -> Any:
    """What the generator makes of latents (n, w_dim): (n, R, R, 3) uint8."""
    import numpy as np
    import torch

    from ganfoundry.labels.synthesis import BATCH, images_and_features

    made = []
    with ctx.progress("Making the pictures again", len(w)) as bar:
        for start in range(0, len(w), BATCH):
            rows = torch.from_numpy(w[start : start + BATCH])
            made.append(images_and_features(generator.synthesis, rows, [])[0])
            bar.advance(len(rows))
    return np.concatenate(made)


def _provenance(config: Config, importer: "Importer") -> dict[str, Any]:
    """How the labels came about."""
    imported = importer.imported
    return {
        "labels": "drawn in an annotation tool and imported",
        "format": config.format,
        "annotations": config.annotations.name,
        "aliases": list(config.alias),
        "resized": config.resize,
        "pictures_compared": importer.result.compared,
        "photos": sorted(sample.name for sample in imported if sample.origin == "photos"),
        "half_psnr": config.half_psnr,
    }


def _extended(imported: "LabelSet", labels: Labels | None) -> "LabelSet":
    from dataclasses import replace

    from ganfoundry.labels.importing import merged
    from ganfoundry.labels.labelset import LabelSet

    if labels is None:
        raise UserError("--extend needs labels to extend: name them with --labels PATH.")
    base = LabelSet.load(labels.path)
    both = merged(base, imported)
    return replace(both, provenance={**imported.provenance, "extends": dict(base.provenance)})


class ImportCommand(StageCommand):
    """The stage's command, with an option that only checks."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(stage)
        option = click.Option(
            ["--check-only"], is_flag=True, help="Write the report and stop; exit code 2 if there are errors."
        )
        self._config_options.append(option)
        self.params.append(option)

    def _callback(self, **options: Any) -> None:
        if not options.pop("check_only") or options.get("dry_run"):
            super()._callback(**options)
            return
        self._check(options)

    def _check(self, options: Mapping[str, Any]) -> None:
        """Check without touching the stage's folder."""
        from pipeline.registry import known_names

        common = read_common(options, known_names())
        # Forced: edits by hand in the stage's folder do not matter to a check.
        plan = self.planner(common).plan(self.stage, options, force=True)
        inputs = {
            item.name: None if (path := plan.sources[item.name].path) is None else item.artifact.open(path)
            for item in self.stage.inputs
        }
        context = Context(quiet=common.quiet, display=Display(quiet=common.quiet))
        check(plan.config, Sources(**inputs), common.folder / CHECK_FOLDER, context)  # type: ignore[arg-type]


command = ImportCommand(
    Stage(
        "import-labels",
        Config,
        run,
        example="python cli.py import-labels --run demo --annotations outputs/demo/export-labels/annotate",
        keeps_earlier=True,
    )
)
