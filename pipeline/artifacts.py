"""Typed handles on output folders.

An artifact is a folder: payload files and run.json, written last. A handle opens one, checks its kind and knows its
fingerprint. The format of the payload belongs to the library, not to this package.
"""

import math
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

from pipeline import manifest
from pipeline.errors import UserError

_KINDS: "dict[str, type[Artifact]]" = {}


class Artifact:
    """A finished folder of one kind.

    Attributes
    ----------
    kind
        Word in run.json that names the format.
    schema
        Version of the payload's format; a folder of a newer one is refused.
    title
        What a message calls it.
    made_by
        Commands that make it.
    payload
        Files or folders that must be there.
    main
        File that a person would open first, shown at the end of a run.
    """

    kind: ClassVar[str] = ""
    schema: ClassVar[int] = 1
    title: ClassVar[str] = ""
    made_by: ClassVar[tuple[str, ...]] = ()
    payload: ClassVar[tuple[str, ...]] = ()
    main: ClassVar[str] = ""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if cls.kind:
            _KINDS[cls.kind] = cls

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path.as_posix()!r})"

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Handle on a folder, checked.

        Raises
        ------
        UserError
            The folder is missing, unfinished, of another kind, of a newer schema, or lacks a payload file.
        """
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path}: no such folder; expected {cls.title} ({cls.kind}).")
        artifact = cls(path)
        record = artifact.record
        if not record and manifest.read_progress(path):
            raise UserError(f"{path} is unfinished: run the command that writes it again, it continues.")
        found = record.get("kind", cls.kind)
        if found != cls.kind:
            raise UserError(f"{path} holds {title_of(found)} ({found}), expected {cls.title} ({cls.kind}).")
        if record.get("schema", cls.schema) > cls.schema:
            raise UserError(f"{path} was written by a newer version (schema {record['schema']}): update this one.")
        missing = [name for name in cls.payload if not (path / name).exists()]
        if missing:
            raise UserError(f"{path} is not {cls.title} ({cls.kind}): {missing[0]} is missing.")
        return artifact

    @cached_property
    def record(self) -> dict[str, Any]:
        """run.json as a dict; empty when there is none."""
        return manifest.read_record(self.path) or {}

    @cached_property
    def edited(self) -> tuple[str, ...]:
        """Text and picture files that a person changed after the stage finished."""
        return manifest.edited_files(self.path, self.record)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the content, 64 hexadecimal digits.

        The fingerprint in run.json while the folder is as the stage left it. A folder edited by hand, and one that no
        stage wrote (a committed one without a fingerprint), is identified by its content.
        """
        recorded = self.record.get("fingerprint")
        if recorded and not self.edited:
            return str(recorded)
        if recorded:
            edits = {name: manifest.file_digest(self.path / name) for name in self.edited}
            return manifest.digest({"fingerprint": recorded, "edited": edits})
        return manifest.content_digest(self.path)


def artifact_kinds() -> "dict[str, type[Artifact]]":
    """Every known artifact type by its kind."""
    return dict(_KINDS)


def title_of(kind: str) -> str:
    """What a message calls an artifact of that kind."""
    return _KINDS[kind].title if kind in _KINDS else "an artifact of another kind"


class Gan(Artifact):
    """A generator: generator.safetensors, perhaps discriminator.safetensors, card.json; report.html of its training."""

    kind = "gan"
    title = "a generator"
    made_by = ("import-gan", "train-gan")
    payload = ("generator.safetensors",)
    main = "report.html"

    @cached_property
    def generator_sha256(self) -> str:
        """Sha256 of generator.safetensors: what identifies the generator to everything that holds latents."""
        return manifest.file_digest(self.path / "generator.safetensors")


class ViewCodes(Artifact):
    """Viewpoint codes of a generator: codes.json, codes.safetensors, sheet.png."""

    kind = "view-codes"
    title = "viewpoint codes"
    made_by = ("annotate-views",)
    payload = ("codes.json",)


class ViewSet(Artifact):
    """Multi-view images: shards with image, object, view, w_content, seed."""

    kind = "view-set"
    title = "a multi-view set"
    made_by = ("generate-views",)
    payload = ("shards",)

    def check_codes(self, views: ViewCodes) -> None:
        """Refuse viewpoint codes that the set was not made with; sets that do not say which pass.

        Raises
        ------
        UserError
            The codes are others, or were edited since.
        """
        recorded = self.record.get("inputs", {}).get("views", {}).get("fingerprint", views.fingerprint)
        if recorded != views.fingerprint:
            raise UserError(f"{self.path} was not made with the viewpoint codes in {views.path}: make it again.")


class FilteredViews(Artifact):
    """Masks and verdicts: shards with mask, keep, reason, score, area; row i belongs to row i of the ViewSet."""

    kind = "filtered-views"
    title = "a filtered multi-view set"
    made_by = ("filter-views",)
    payload = ("shards",)


class ViewLabels(Artifact):
    """Part labels of a multi-view set: shards with label, certainty, perhaps keypoints; row i belongs to its row i."""

    kind = "view-labels"
    title = "labels of a multi-view set"
    made_by = ("label-views",)
    payload = ("shards", "labels.json")


class InverseGraphics(Artifact):
    """A trained inverse-graphics network: network.safetensors, network.json, track/."""

    kind = "inverse-graphics"
    title = "a trained inverse-graphics network"
    made_by = ("train-inverse-graphics",)
    payload = ("network.safetensors", "network.json")
    main = "report.html"


class Assets(Artifact):
    """Textured meshes: NAME.glb, NAME.obj, assets.json, gallery.html, gallery.png."""

    kind = "assets"
    title = "textured meshes"
    made_by = ("reconstruct",)
    payload = ("assets.json", "gallery.html")
    main = "gallery.html"


class Labels(Artifact):
    """Labelled generated images: images/*.png, masks/*.png, latents.safetensors, labels.json."""

    kind = "labels"
    title = "labelled images"
    made_by = ("annotate-parts", "import-labels")
    payload = ("labels.json",)


class LabelExport(Artifact):
    """Samples given out for annotation: annotate/ is for the tool, pairs/ are the samples with their latents."""

    kind = "label-export"
    title = "samples exported for annotation"
    made_by = ("export-labels",)
    payload = ("annotate", "pairs")
    main = "annotate"


class Candidates(Artifact):
    """Generated samples to label next: candidates.json, sheet.png."""

    kind = "candidates"
    title = "samples to label next"
    made_by = ("select",)
    payload = ("candidates.json",)
    main = "sheet.png"


class Interpreter(Artifact):
    """A trained Style Interpreter: interpreter.safetensors, interpreter.json."""

    kind = "interpreter"
    title = "a trained interpreter"
    made_by = ("train-interpreter",)
    payload = ("interpreter.safetensors", "interpreter.json")


class LabelledSet(Artifact):
    """Labelled images: shards (image, label, uncertainty, score, w, seed, keypoints); selection.json, labels.json."""

    kind = "labelled-set"
    title = "a labelled set"
    made_by = ("synthesize",)
    payload = ("shards", "selection.json", "labels.json")


class LabelledSet3D(Artifact):
    """Views labelled through meshes: shards (a row a view), meshes (a row an object), topology; labels.json, ..."""

    kind = "labelled-set-3d"
    title = "a labelled 3D set"
    made_by = ("synthesize-3d",)
    payload = ("shards", "meshes", "topology", "selection.json", "labels.json")
    main = "report.html"


class Export(Artifact):
    """A data set for others: dataset.h5, coco/, webdataset/, ..., README.md (its card), checksums.json."""

    kind = "export"
    title = "an exported data set"
    made_by = ("export",)
    payload = ("checksums.json",)
    main = "README.md"


class Report(Artifact):
    """One page that shows a run: report.html."""

    kind = "report"
    title = "a report"
    made_by = ("report",)
    payload = ("report.html",)
    main = "report.html"


class Inversions(Artifact):
    """Latents of given pictures: latents.safetensors, inversions.json, shards; tuned/ holds tuned generators."""

    kind = "inversions"
    title = "inverted pictures"
    made_by = ("invert",)
    payload = ("latents.safetensors", "inversions.json")
    main = "inversions.png"


class Annotator(Artifact):
    """A trained annotator network (parts, keypoints, viewpoint, type)."""

    kind = "annotator"
    title = "a trained annotator network"
    made_by = ("train-annotator",)


class Detector(Artifact):
    """A trained instance detector."""

    kind = "detector"
    title = "a trained detector"
    made_by = ("train-detector",)


class DownstreamModel(Artifact):
    """Networks trained on a labelled set: parts.safetensors, perhaps keypoints.safetensors, model.json, report.html."""

    kind = "downstream-model"
    title = "networks trained on a labelled set"
    made_by = ("train-downstream",)
    payload = ("parts.safetensors", "model.json")
    main = "report.html"


A = TypeVar("A", bound=Artifact)


class Writer(Generic[A]):
    """The folder a stage is filling.

    Every file in it becomes part of the artifact, except hidden ones (`.checkpoint`, ...), which are the stage's own.

    Attributes
    ----------
    path
        The folder; it exists.
    fingerprint
        Identity of what will be in it; empty when a stage function is called by hand.
    figures
        Key figures by name.
    """

    def __init__(self, path: Path | str, fingerprint: str = "") -> None:
        self.path = Path(path)
        self.fingerprint = fingerprint
        self.figures: dict[str, float | int | str] = {}
        self.path.mkdir(parents=True, exist_ok=True)

    def figure(self, name: str, value: float | int | str) -> None:
        """Record a key figure: it goes into run.json and the closing table.

        NumPy scalars are accepted; a number that is not finite is recorded as text, since JSON has none.
        """
        item = getattr(value, "item", None)
        plain = item() if callable(item) else value
        self.figures[name] = str(plain) if isinstance(plain, float) and not math.isfinite(plain) else plain

    def reached(self, text: str) -> None:
        """Say how far the work is saved, e.g. "40,000 of 600,000 images": `status` and the next run tell it."""
        progress = manifest.read_progress(self.path)
        if progress is not None:
            manifest.write_json(self.path / manifest.PROGRESS, {**progress, "reached": text})
