"""Which latent an annotation belongs to: samples given out for annotation, and how they are found again by name.

DatasetGAN's released code pairs a user's masks with the wrong latents, one row off. Here an annotation finds its sample
by name, never by its place in a list; pictures that come back are compared with what the generator makes of the latent;
and what is exported carries manifest.json, which names the generator, the seeds and the pictures.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.labels.formats.base import mapping, read_json, write_json
from ganfoundry.labels.labelset import LabelSet

Origin: TypeAlias = Literal["exported samples", "labelled samples", "photos"]
MANIFEST = "manifest.json"
MANIFEST_FORMAT = "ganfoundry-label-export-1"
_UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")  # that Label Studio puts before the names of uploaded files


@dataclass(frozen=True)
class Sample:
    """A picture whose latent is known.

    Attributes
    ----------
    name : str
        Stem of its files.
    image : (R, R, 3) uint8
        What the generator makes of w.
    shown : (R, R, 3) uint8
        What the annotator saw: the image, or the photo that w was found for.
    w : (w_dim,) float32
    generator_sha256 : str
    origin : where it comes from
    seed : int or None
    weight : float in (0, 1]
        Certainty; see `ganfoundry.labels.real_photos`.
    known_as : set of str
        Other names of its files.
    """

    name: str
    image: NDArray[np.uint8]
    shown: NDArray[np.uint8]
    w: NDArray[np.float32]
    generator_sha256: str
    origin: Origin
    seed: int | None = None
    weight: float = 1.0
    known_as: frozenset[str] = frozenset()


def samples_of(labels: LabelSet, origin: Origin) -> list[Sample]:
    """The samples of a labels folder, without their labels."""
    return [
        Sample(
            name,
            labels.images[row],
            labels.images[row],
            labels.w[row],
            labels.generator_sha256,
            origin,
            None if labels.seeds is None else int(labels.seeds[row]),
            1.0 if labels.weights is None else float(labels.weights[row]),
        )
        for row, name in enumerate(labels.names)
    ]


@dataclass
class Pool:
    """Samples by their names.

    An annotation's file belongs to the sample of that name (its stem, upper or lower case, with or without the prefix
    of Label Studio's uploads), or, if the stem is a number, to the sample of that seed or with that number at the end
    of its name. A number that fits several samples fits none.
    """

    samples: list[Sample]
    _names: dict[str, set[int]] = field(init=False, default_factory=dict)
    _numbers: dict[int, set[int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        kept: list[Sample] = []
        of_name: dict[str, list[Sample]] = {}
        for sample in self.samples:
            # A sample that is in several sources (labelled, then exported) is one sample.
            alike = of_name.setdefault(sample.name, [])
            if not any(np.array_equal(other.w, sample.w) for other in alike):
                alike.append(sample)
                kept.append(sample)
        self.samples = kept
        for index, sample in enumerate(kept):
            for name in {sample.name, *sample.known_as}:
                self._names.setdefault(name.casefold(), set()).add(index)
            ending = re.search(r"\d+$", sample.name)
            for number in (int(ending.group()) if ending else None, sample.seed):
                if number is not None:
                    self._numbers.setdefault(int(number), set()).add(index)

    def find(self, file_name: str) -> int | None:
        """Row of the sample that a file belongs to; None if there is none.

        Raises
        ------
        InputError
            If several samples fit.
        """
        stem = Path(file_name).stem
        names = [file_name, stem, _UPLOAD_PREFIX.sub("", stem), _UPLOAD_PREFIX.sub("", file_name)]
        found = next((self._names[name.casefold()] for name in names if name.casefold() in self._names), set())
        if not found and re.fullmatch(r"\d{1,18}", stem):
            found = self._numbers.get(int(stem), set())
        if len(found) > 1:
            listed = ", ".join(sorted(f"{self.samples[row].name} ({self.samples[row].origin})" for row in found))
            raise InputError(f"{file_name} fits several samples: {listed}; rename it to the one that it shows")
        return next(iter(found), None)


def write_manifest(folder: Path, labels: LabelSet) -> None:
    """Write manifest.json, which travels with the pictures of an export and proves whose they are."""
    rows = []
    for row, name in enumerate(labels.names):
        seed = None if labels.seeds is None else int(labels.seeds[row])
        rows.append({"name": name, "seed": seed, "pixels_sha256": pixels_sha256(labels.images[row])})
    table = {"format": MANIFEST_FORMAT, "generator_sha256": labels.generator_sha256, "samples": rows}
    write_json(folder / MANIFEST, table)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest in the folder of annotations, or None.

    Raises
    ------
    InputError
        If there is one that cannot be read.
    """
    file = (path if path.is_dir() else path.parent) / MANIFEST
    if not file.is_file():
        return None
    table = dict(mapping(read_json(file), "the manifest", str(file)))
    if table.get("format") != MANIFEST_FORMAT:
        return None
    rows = table.get("samples")
    whole = isinstance(rows, list) and all(isinstance(row, dict) and isinstance(row.get("name"), str) for row in rows)
    if not whole or not isinstance(table.get("generator_sha256"), str):
        raise InputError(f"{file} is damaged; restore it from the export")
    return table


def manifest_conflicts(manifest: dict[str, Any], samples: Iterable[Sample]) -> list[tuple[str, str]]:
    """(name, sentence) of the samples that are not those of a manifest."""
    rows = {row["name"]: row for row in manifest["samples"]}
    found = []
    for sample in samples:
        row = rows.get(sample.name)
        if row is not None and sample.generator_sha256 != manifest["generator_sha256"]:
            theirs = manifest["generator_sha256"][:12]
            found.append(
                (sample.name, f"was exported from the generator {theirs}..., not {sample.generator_sha256[:12]}...")
            )
        elif row is not None and row.get("pixels_sha256") not in (None, pixels_sha256(sample.image)):
            found.append((sample.name, "is not the picture that was exported under this name"))
    return found


def pixels_sha256(image: NDArray[np.uint8]) -> str:
    """Digest of a picture's pixels, whatever file holds them."""
    return hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest()


def plain_names(names: Sequence[str]) -> list[str]:
    """File stems made from relative paths: folders joined by "-", endings dropped unless two would be the same."""
    joined = [re.sub(r"[/\\]+", "-", name).lstrip(".-") or "picture" for name in names]
    stems = [Path(name).stem for name in joined]
    unique = [
        stem if stems.count(stem) == 1 else name.replace(".", "-") for name, stem in zip(joined, stems, strict=True)
    ]
    return [name if unique.count(name) == 1 else f"{name}-{row}" for row, name in enumerate(unique)]
