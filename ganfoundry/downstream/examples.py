"""Labelled images as training data of a network: renders, a labelled set, an exported file.

Whatever the source, an example is an image, its label map at one level of the part schema and, where there are any, its
keypoints with a weight: 1 for a visible keypoint of a render, the interpreter's probability of being visible for a
synthesised one, 0 where it is hidden or outside.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ganfoundry.data.dataset import LabelledDataset
from ganfoundry.errors import InputError
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
        return int(self.image.shape[1])

    @property
    def has_keypoints(self) -> bool:
        """Whether there are keypoints."""
        return self.keypoints is not None

    def rows(self, index: NDArray[np.int64] | slice) -> Self:
        """Pick rows, in the order given."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return type(self)(**{name: value[index] for name, value in values.items() if value is not None})

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


class StoredExamples:
    """Kept rows of a labelled set, or of the training split of its export.

    Parameters
    ----------
    path : Path
        The folder of a labelled set (`synthesize`) or of an export, or dataset.h5.

    Attributes
    ----------
    description : SetDescription
        Classes, colours, keypoint names, sources.

    Raises
    ------
    InputError
        If the path is neither, or no row is kept.
    """

    def __init__(self, path: Path) -> None:
        exported = path.is_file() or (path / "dataset.h5").exists()
        self._data = LabelledDataset(path, split="train" if exported else None)
        missing = [name for name in ("image", "label") if name not in self._data.fields]
        if missing:
            raise InputError(f"{path} holds no {missing[0]}s; give a set that synthesize or export made")
        if len(self._data) == 0:
            raise InputError(f"no row of {path} is kept; synthesize again with a smaller filter fraction")
        self.description = self._data.description
        self.resolution = int(self._data.reader.fields["image"][1][0])
        self.has_keypoints = "keypoints" in self._data.fields

    def __len__(self) -> int:
        return len(self._data)

    def rows(self, index: NDArray[np.int64]) -> Examples:
        """Read rows, in the order given."""
        return Examples(**{name: column.numpy() for name, column in self._data.batch(index.tolist()).items()})
