"""Index PNGs: palette or grey pictures whose pixel values are class ids, exact to the pixel (see `index_maps`)."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.labels.formats.base import AnnotatedImage, OnBroken, checked_size, refuse
from ganfoundry.labels.formats.index_maps import IdMap, maps_of, read_maps, write_maps

MODES = ("P", "L", "1", "I;16")


def is_mine(path: Path) -> bool:
    """Whether a file, or the first of a folder's pictures, is an index PNG."""
    files = maps_of(path, ".png")
    if not files or files[0].suffix.lower() != ".png":
        return False
    try:
        with Image.open(files[0], formats=["PNG"]) as picture:
            return picture.mode in MODES
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return files[0].parent != path  # damaged, but where masks are: reading it names it


def read(path: Path, classes: Sequence[str] | None = None, on_broken: OnBroken = refuse) -> Iterator[AnnotatedImage]:
    """Read index PNGs; `classes` name the ids where no file does; an error names the file."""
    return read_maps(path, ".png", _load, classes, on_broken)


def _load(file: Path) -> IdMap:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large pictures, refused below
            with Image.open(file, formats=["PNG"]) as picture:
                checked_size(picture.height, picture.width, str(file))
                if picture.mode not in MODES:
                    raise InputError(f"{file} has mode {picture.mode}; a mask is an index (palette) or grey PNG")
                return np.asarray(picture).astype(np.int64)
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {file}: {error}; save it again as an index PNG") from None


def write(
    folder: Path,
    images: Iterable[AnnotatedImage],
    classes: Sequence[str],
    keypoints: Sequence[str],
    palette: NDArray[np.uint8],
) -> None:
    """Write a folder of index PNGs with the palette (classes, 3) uint8."""

    def save(path: Path, label: NDArray[np.uint8]) -> None:
        picture = Image.fromarray(label).convert("P")
        picture.putpalette(palette.tobytes())
        picture.save(path, optimize=True)

    write_maps(folder, images, classes, keypoints, save, ".png")
