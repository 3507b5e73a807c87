"""From annotations of any tool to labelled samples: names mapped, sizes made equal, everything checked on the way."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.gan.train_convert import square
from ganfoundry.labels.formats import AnnotatedImage
from ganfoundry.labels.formats.base import BACKGROUND_NAMES
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.pairing import Pool, Sample
from ganfoundry.labels.schema import PartSchema
from ganfoundry.labels.validation import Checked, Validation, check_classes, check_keypoints, check_label

MAX_ROUNDING = 2.0  # mean grey levels between two computers' pictures of one latent, as in train-interpreter
BEHIND = (255, 255, 255)  # what transparent pictures are laid on, as in invert


@dataclass(frozen=True)
class Rules:
    """How annotations are taken in.

    Attributes
    ----------
    aliases : {tool's name: schema's name}
    resize : bool
        Bring masks of another size to the picture's by nearest neighbour.
    max_difference : float
        Mean difference in grey levels up to which a picture that came along is the sample's.
    min_region : int, pixels
        Smaller regions are reported.
    """

    aliases: Mapping[str, str] = field(default_factory=dict)
    resize: bool = False
    max_difference: float = 8.0
    min_region: int = 4


class NameMap:
    """Names of a tool to those of a schema: alias, exact, then case, spaces and hyphens ignored.

    Parameters
    ----------
    names : names of the schema
    aliases : {tool's name: schema's name}; one that is not in `names` belongs to another list
    """

    def __init__(self, names: Sequence[str], aliases: Mapping[str, str]) -> None:
        self._ids = {name: index for index, name in enumerate(names)}
        self._plain: dict[str, int | None] = {}
        for name, index in self._ids.items():
            key = plain(name)
            self._plain[key] = (
                None if key in self._plain else index
            )  # two that differ in case only: exact or not at all
        self._aliases = {plain(old): new for old, new in aliases.items()}

    def find(self, name: str) -> int | None:
        """Index of a name, None if the schema has none."""
        name = self._aliases.get(plain(name), name)
        if name in self._ids:
            return self._ids[name]
        if plain(name) in BACKGROUND_NAMES:
            return self._ids.get("background")
        return self._plain.get(plain(name))

    def nearest(self, name: str) -> str:
        """A hint: the name that is spelt most alike."""
        by_plain = {plain(known): known for known in self._ids}
        found = difflib.get_close_matches(plain(name), by_plain, 1, 0.5)
        return f"; the nearest is {by_plain[found[0]]} (--alias {name}={by_plain[found[0]]})" if found else ""


def plain(name: str) -> str:
    """A name without regard to case, and with "_" for spaces and hyphens."""
    return re.sub(r"[\s\-_]+", "_", name.strip().casefold())


def parse_aliases(texts: Sequence[str], schema: PartSchema) -> dict[str, str]:
    """Aliases written "old=new".

    Raises
    ------
    InputError
        If one is written otherwise, or its new name is neither a part nor a keypoint.
    """
    aliases = {}
    for text in texts:
        old, equals, new = (part.strip() for part in text.partition("="))
        if not (old and equals and new):
            raise InputError(f"the alias {text!r} is not of the form old=new")
        if new not in (*schema.parts, *schema.keypoints):
            raise InputError(
                f"the alias {text!r} leads to {new!r}, which is neither a part nor a keypoint of the schema"
            )
        aliases[old] = new
    return aliases


@dataclass
class Importer:
    """Takes annotations one by one; `labels` is what became of them.

    Parameters
    ----------
    pool : samples whose latents are known
    schema : PartSchema
    rules : Rules
    """

    pool: Pool
    schema: PartSchema
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.result = Validation(self.schema)
        self._parts = NameMap(self.schema.parts, self.rules.aliases)
        self._points = NameMap(self.schema.keypoints, self.rules.aliases)
        self._taken: dict[int, str] = {}  # sample -> file
        self._bare: list[str] = []  # samples whose annotations came without a picture
        self._rows: list[tuple[Sample, NDArray[np.uint8], NDArray[np.float32]]] = []

    def take_all(self, images: Iterable[AnnotatedImage]) -> Validation:
        """Take annotations as they are read (`read_annotations` tells `unreadable` of those that cannot be)."""
        try:
            for image in images:
                self.take(image)
        except InputError as error:
            self.unreadable(error)
        origins = {self.pool.samples[row].origin for row in self._taken}
        for index, sample in enumerate(self.pool.samples):
            if index not in self._taken and sample.origin in origins:
                self.result.add("not-labelled", sample.name, f"no annotation of these {sample.origin} belongs to it")
        if self.result.compared:
            for name in self._bare:
                self.result.add("missing-picture", name, "its picture is not there, so it could not be compared")
        check_classes(self.result)
        if not self._rows:
            self.result.add("nothing-imported", "", f"of {self.result.annotations} annotations none can be imported")
        return self.result

    def unreadable(self, error: InputError) -> None:
        """Note a file or picture that cannot be read."""
        self.result.add("unreadable", "", str(error))

    def take(self, image: AnnotatedImage) -> None:
        """Pair, map, check and keep one annotation."""
        self.result.annotations += 1
        index = self._pair(image)
        if index is None:
            return
        sample = self.pool.samples[index]
        for note in image.notes:
            self.result.add("left-out-shape", sample.name, note)
        brought = self._compare(image, sample)
        label = self._label(image, sample)
        points = self._keypoints(image, sample)
        if label is not None:
            check_label(self.result, sample.name, label, self.rules.min_region)
            check_keypoints(self.result, sample.name, points, label)
            self._rows.append((sample, label, points))
        caption = sample.name if sample.weight == 1 else f"{sample.name} (weight {sample.weight:.2f})"
        inverted = sample.image if sample.origin == "photos" else None
        self.result.checked.append(Checked(sample.name, sample.shown, label, points, brought, caption, inverted))

    def _pair(self, image: AnnotatedImage) -> int | None:
        try:
            index = self.pool.find(image.name)
        except InputError as error:
            self.result.add("no-sample", image.name, str(error))
            return None
        if index is None:
            self.result.add("no-sample", image.name, f"no sample is called {Path(image.name).stem}")
        elif index in self._taken:
            name = self.pool.samples[index].name
            self.result.add("duplicate-name", name, f"{image.name} and {self._taken[index]} both belong to it")
            return None
        else:
            self._taken[index] = image.name
        return index

    def _compare(self, image: AnnotatedImage, sample: Sample) -> NDArray[np.uint8] | None:
        """The picture that came along, if it is not the sample's."""
        if image.picture is None:
            self._bare.append(sample.name)
            return None
        try:
            content = image.picture if isinstance(image.picture, bytes) else image.picture.read_bytes()
            picture, _ = square(content, sample.shown.shape[0], BEHIND)
        except Exception as error:  # readers of broken files raise errors of all kinds
            self.result.add("unreadable", sample.name, f"its picture cannot be read ({type(error).__name__})")
            return None
        self.result.compared += 1
        difference = float(np.abs(picture.astype(float) - sample.shown).mean())
        if difference <= self.rules.max_difference:
            return None
        whose = "the photo that was inverted" if sample.origin == "photos" else "what the generator makes of its latent"
        self.result.add(
            "picture-differs",
            sample.name,
            f"its picture differs from {whose} by {difference:.1f} grey levels on average",
        )
        return picture

    def _label(self, image: AnnotatedImage, sample: Sample) -> NDArray[np.uint8] | None:
        table = np.zeros(len(image.classes), np.uint8)
        unknown = []
        for index, name in enumerate(image.classes):
            found = self._parts.find(name)
            table[index] = found or 0
            if found is None:
                unknown.append(f"{name!r} ({int((image.label == index).sum())} pixels){self._parts.nearest(name)}")
        if unknown:
            self.result.add("unknown-class", sample.name, f"the schema has no part {', '.join(unknown)}")
            return None
        side = sample.image.shape[0]
        if image.label.shape == (side, side):
            return table[image.label]
        height, width = image.label.shape
        if not self.rules.resize:
            self.result.add(
                "size-mismatch", sample.name, f"its mask is {width} x {height}, the picture {side} x {side}; --resize"
            )
        elif height != width and sample.origin != "photos":
            self.result.add(
                "size-mismatch", sample.name, f"its mask of {width} x {height} is not square, as the picture is"
            )
        else:
            return table[resized(image.label, side)]
        return None

    def _keypoints(self, image: AnnotatedImage, sample: Sample) -> NDArray[np.float32]:
        points = np.zeros((len(self.schema.keypoints), 3), np.float32)
        left, top, scale = crop_of(image.label.shape, sample.image.shape[0])
        for name, (x, y, visibility) in image.keypoints.items():
            found = self._points.find(name)
            if found is None:
                self.result.add(
                    "unknown-class", sample.name, f"the schema has no keypoint {name!r}{self._points.nearest(name)}"
                )
            else:
                points[found] = ((x - left) * scale, (y - top) * scale, visibility)
        return points

    @property
    def imported(self) -> list[Sample]:
        """Samples that have a label now."""
        return [row[0] for row in self._rows]

    def check_latents(self, sha256: str, draw: Callable[[NDArray[np.float32]], NDArray[np.uint8]]) -> None:
        """Compare whose latents the imported samples have, and what the generator makes of them with their pictures.

        Parameters
        ----------
        sha256 : of the generator that the labels are meant for
        draw : function
            Latents (n, w_dim) to the generator's pictures (n, R, R, 3) uint8.
        """
        for sample in self.imported:
            if sample.generator_sha256 != sha256:
                theirs = sample.generator_sha256[:12]
                self.result.add(
                    "other-generator", sample.name, f"its latent is of the generator {theirs}..., not {sha256[:12]}..."
                )
        own = [sample for sample in self.imported if sample.generator_sha256 == sha256]
        made: Iterable[NDArray[np.uint8]] = draw(np.stack([sample.w for sample in own])) if own else []
        for sample, picture in zip(own, made, strict=True):
            same = picture.shape == sample.image.shape
            difference = float(np.abs(picture.astype(float) - sample.image).mean()) if same else np.inf
            if difference > MAX_ROUNDING:
                self.result.add(
                    "latent-differs",
                    sample.name,
                    f"the generator makes a picture of its latent that differs from the stored one by {difference:.1f} "
                    "grey levels on average: latents and pictures are of different versions",
                )

    def labels(self, provenance: Mapping[str, Any]) -> LabelSet:
        """What was imported, in the order of the names.

        Raises
        ------
        InputError
            If that is nothing.
        """
        if not self._rows:
            raise InputError("no annotation can be imported; see the report")
        rows = sorted(self._rows, key=lambda row: row[0].name)
        samples = [row[0] for row in rows]
        seeds = [sample.seed for sample in samples]
        points = np.stack([row[2] for row in rows])
        weights = np.array([sample.weight for sample in samples], np.float32)
        return LabelSet(
            names=tuple(sample.name for sample in samples),
            images=np.stack([sample.image for sample in samples]),
            masks=np.stack([row[1] for row in rows]),
            w=np.stack([sample.w for sample in samples]),
            generator_sha256=samples[0].generator_sha256,
            schema=self.schema,
            provenance=provenance,
            seeds=None if None in seeds else np.array(seeds, np.int64),
            keypoints=points if points.any() else None,
            weights=None if (weights == 1).all() else weights,
        )


def crop_of(shape: tuple[int, ...], side: int) -> tuple[int, int, float]:
    """Left, top and scale of the largest centred square of a picture (H, W), brought to a side."""
    height, width = shape
    whole = min(height, width)
    return (width - whole) // 2, (height - whole) // 2, side / whole


def resized(label: NDArray[np.uint16], side: int) -> NDArray[np.uint16]:
    """The largest centred square of a label map (H, W), brought to (side, side) by nearest neighbour."""
    left, top, scale = crop_of(label.shape, side)
    places = np.minimum((np.arange(side) + 0.5) / scale, min(label.shape) - 1).astype(np.int64)
    return label[np.ix_(top + places, left + places)]


def merged(base: LabelSet, new: LabelSet) -> LabelSet:
    """Two labelled sets of one generator and schema as one; of samples in both, the new labels count.

    Raises
    ------
    InputError
        If generator, schema or size differ.
    """
    if base.generator_sha256 != new.generator_sha256 or base.schema != new.schema:
        raise InputError("labels of another generator or schema cannot be put together; import without --extend")
    if base.images.shape[1:] != new.images.shape[1:]:
        raise InputError("labels of another size cannot be put together; import without --extend")
    keep = [row for row, name in enumerate(base.names) if name not in new.names]
    both = replace(new, names=(*(base.names[row] for row in keep), *new.names))
    points = (len(base.schema.keypoints), 3)
    columns: dict[str, Any] = {}
    for name, empty in (
        ("images", None),
        ("masks", None),
        ("w", None),
        ("seeds", None),
        ("keypoints", 0),
        ("weights", 1),
    ):
        old, fresh = getattr(base, name), getattr(new, name)
        if old is None and fresh is None:
            continue
        if name == "seeds" and (old is None or fresh is None):
            columns[name] = None
            continue
        shape = points if name == "keypoints" else ()
        old = np.full((len(base), *shape), empty, np.float32) if old is None else old
        fresh = np.full((len(new), *shape), empty, np.float32) if fresh is None else fresh
        columns[name] = np.concatenate([old[keep], fresh])
    return replace(both, **columns)
