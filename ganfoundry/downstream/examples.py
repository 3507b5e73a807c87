"""Labelled images as training data of a network: renders, a labelled set, an exported file.

Whatever the source, an example is an image, its label map at one level of the part schema and, where there are any, its
keypoints with a weight: 1 for a visible keypoint of a render, the interpreter's probability of being visible for a
synthesised one, 0 where it is hidden or outside.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ganfoundry.data.description import SetDescription
from ganfoundry.data.integrity import h5py, open_hdf5
from ganfoundry.data.reader import ShardReader
from ganfoundry.errors import InputError
from ganfoundry.labels.labelset import kept_rows
from ganfoundry.labels.schema import PartSchema
from ganfoundry.worlds.annotator_data import Renders


@dataclass(frozen=True)
class Examples:
    """Images with labels, in memory.

    Attributes
    ----------
    image : (N, R, R, 3) uint8
    label : (N, R, R) uint8, class ids
    keypoints : (N, K, 3) float32 (x, y in pixels, weight 0..1), or None
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    keypoints: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.image)

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return self.image.shape[1]

    @property
    def has_keypoints(self) -> bool:
        """Whether there are keypoints."""
        return self.keypoints is not None

    def rows(self, index: NDArray[np.int64] | slice) -> Self:
        """Pick rows, in the order given."""
        values = (getattr(self, field.name) for field in fields(self))
        return type(self)(*(None if value is None else value[index] for value in values))

    def confident(self) -> Self:
        """The same with keypoints that are visible for sure (1) or not (0), split at a weight of one half."""
        if self.keypoints is None:
            return self
        keypoints = self.keypoints.copy()
        keypoints[..., 2] = keypoints[..., 2] > 0.5
        return type(self)(self.image, self.label, keypoints)

    @classmethod
    def of_renders(cls, renders: Renders, schema: PartSchema, level: str) -> Self:
        """Labels of a level of the schema; the visible keypoints weigh 1."""
        keypoints = renders.keypoints.copy()
        keypoints[..., 2] = keypoints[..., 2] > 1.5
        return cls(renders.image, schema.merge(level)[renders.parts], keypoints)


class ExampleSource(Protocol):
    """Anything with rows of examples; what a file holds is read when it is asked for."""

    def __len__(self) -> int: ...
    @property
    def resolution(self) -> int: ...  # noqa: D102
    @property
    def has_keypoints(self) -> bool: ...  # noqa: D102
    def rows(self, index: NDArray[np.int64]) -> Examples: ...  # noqa: D102


@dataclass(frozen=True)
class Subset:
    """Some rows of a source.

    Attributes
    ----------
    source : ExampleSource
    chosen : (n,) int64
        Rows of the source.
    """

    source: ExampleSource
    chosen: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def resolution(self) -> int:
        """Side of the images in pixels."""
        return self.source.resolution

    @property
    def has_keypoints(self) -> bool:
        """Whether there are keypoints."""
        return self.source.has_keypoints

    def rows(self, index: NDArray[np.int64]) -> Examples:
        """Pick rows, in the order given."""
        return self.source.rows(self.chosen[index])


def mirror_order(names: Sequence[str]) -> list[int]:
    """Order of keypoints after a left-right mirror, from their names: "left" and "right" change places.

    A keypoint whose name has no partner keeps its place, as those in the middle do.
    """
    swap = {"left": "right", "right": "left"}
    partner = [re.sub("left|right", lambda found: swap[found[0]], name) for name in names]
    return [names.index(other) if other in names else row for row, other in enumerate(partner)]


class ShardExamples:
    """Rows of a labelled set that its selection keeps.

    Parameters
    ----------
    folder : Path
        Of a labelled set (`synthesize`).
    rows : ints, optional
        Rows of the set, instead of those that selection.json keeps.

    Raises
    ------
    InputError
        If the folder is not whole, or no row is kept.
    """

    def __init__(self, folder: Path, rows: Sequence[int] | NDArray[np.int64] | None = None) -> None:
        self._reader = ShardReader(folder / "shards")
        self._rows = kept_rows(folder) if rows is None else np.asarray(rows, np.int64)
        for name in ("image", "label"):
            if name not in self._reader.fields:
                raise InputError(f"{folder} holds no {name}s; give a set that synthesize made")
        if len(self._rows) == 0:
            raise InputError(f"no row of {folder} is kept; synthesize again with a smaller filter fraction")
        self.resolution = int(self._reader.fields["image"][1][0])
        self.has_keypoints = "keypoints" in self._reader.fields

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, index: NDArray[np.int64]) -> Examples:
        """Read rows, in the order given."""
        names = ("image", "label", "keypoints") if self.has_keypoints else ("image", "label")
        return Examples(**self._reader.rows(self._rows[index], names))


def hdf5_description(file: h5py.File, path: Path) -> SetDescription:
    """Classes, colours and sources as an exported file states them."""
    try:
        table = {name: file.attrs[name] for name in ("level", "generator_sha256", "interpreter_sha256")}
        table |= {"classes": json.loads(file.attrs["classes"]), "palette": file.attrs["palette"].tolist()}
        return SetDescription.parse(table | {"keypoints": json.loads(file.attrs["keypoint_names"])})
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not say what its labels mean ({error}); export the set again") from None


class Hdf5Examples:
    """Images of an exported file that its `keep` does not drop.

    Parameters
    ----------
    path : Path
        dataset.h5 (`export`).

    Raises
    ------
    InputError
        If the file is not one that `export` wrote, or keeps no image.
    """

    def __init__(self, path: Path) -> None:
        self._file = open_hdf5(path)
        missing = [name for name in ("image", "label") if name not in self._file]
        if missing:
            raise InputError(f"{path} holds no {missing[0]}s; give the dataset.h5 that export wrote")
        total = len(self._file["image"])
        keep = self._file["keep"][:].astype(bool) if "keep" in self._file else np.ones(total, bool)
        self._rows = np.flatnonzero(keep)
        if len(self._rows) == 0:
            raise InputError(f"{path} keeps no image; export a set with a smaller filter fraction")
        self.description = hdf5_description(self._file, path)
        self.resolution = int(self._file["image"].shape[1])
        self.has_keypoints = "keypoints" in self._file

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, index: NDArray[np.int64]) -> Examples:
        """Read rows, in the order given."""
        wanted, back = np.unique(self._rows[index], return_inverse=True)  # HDF5 wants them ascending, each once
        names = ("image", "label", "keypoints") if self.has_keypoints else ("image", "label")
        return Examples(**{name: self._file[name][wanted][back] for name in names})
