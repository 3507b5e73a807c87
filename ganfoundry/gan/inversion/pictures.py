"""Pictures of a user made ready for inversion: squares of the generator's size, and what was irregular about them."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray
from PIL import UnidentifiedImageError

from ganfoundry.errors import InputError
from ganfoundry.gan.train_convert import parse_colour, square
from ganfoundry.gan.train_sources import Source, is_image_name, limited, open_source

WANTED = "give a picture (PNG, JPEG, WebP), a folder or zip archive of pictures, or an HDF5 file"


@dataclass
class Pictures:
    """What was read.

    Attributes
    ----------
    images : (N, R, R, 3) uint8
    names : list of str, N
    irregular : dict
        Kind (see `ganfoundry.gan.train_convert`) -> names of the pictures that were converted.
    damaged : list of (name, reason)
        Left out.
    """

    images: NDArray[np.uint8]
    names: list[str]
    irregular: dict[str, list[str]] = field(default_factory=dict)
    damaged: list[tuple[str, str]] = field(default_factory=list)


class FileSource(Source):
    """One image file."""

    kind = "file"

    def __init__(self, path: Path) -> None:
        super().__init__(path, [path.name], [path.stat().st_size])

    def read(self, index: int) -> bytes:
        """Return its bytes."""
        return limited(self.path.read_bytes())


def open_pictures(path: Path) -> Source:
    """Open a picture, or whatever else `open_source` does: a folder, a zip archive, HDF5, shards.

    Raises
    ------
    InputError
        If there is nothing of the kind, or no picture in it.
    """
    if path.is_file() and is_image_name(path.name):
        return FileSource(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; {WANTED}")
    if path.is_file() and not (h5py.is_hdf5(path) or zipfile.is_zipfile(path)):
        raise InputError(f"{path} is no picture; {WANTED}")
    return open_source(path)


def read_pictures(
    source: Source,
    resolution: int,
    *,
    background: str = "white",
    skip_damaged: bool = True,
    on_picture: Callable[[], None] = lambda: None,
) -> Pictures:
    """Read all pictures of a source: upright, RGB, the largest centred square, Lanczos.

    Parameters
    ----------
    source : Source
        Of :func:`open_pictures`.
    resolution : int
        Side in pixels.
    background : str
        Colour behind what is transparent: a CSS name or #rrggbb.
    skip_damaged : bool
        Leave out what cannot be read and report it; otherwise it is an error.
    on_picture : callable
        Called after each picture.

    Raises
    ------
    InputError
        If a picture is damaged and these are not to be left out, or none can be read.
    """
    colour, images = parse_colour(background), []
    found = Pictures(np.zeros((0, resolution, resolution, 3), np.uint8), [])
    for index, name in enumerate(source.names):
        try:
            pixels, kinds = square(source.read(index), resolution, colour)
        except Exception as error:  # readers of broken files raise errors of all kinds
            # Pillow's own sentence holds an address in memory, and the table is to be the same every time.
            reason = "of no known format" if isinstance(error, UnidentifiedImageError) else str(error)
            if not skip_damaged:
                raise InputError(
                    f"{name} in {source.path} is not a readable picture ({reason}); remove it or leave damaged ones out"
                ) from error
            found.damaged.append((name, reason))
        else:
            images.append(pixels)
            found.names.append(name)
            for kind in kinds:
                found.irregular.setdefault(kind, []).append(name)
        on_picture()
    if not images:
        raise InputError(f"{source.path} holds no readable picture ({found.damaged[0][1]}); give PNG, JPEG or WebP")
    found.images = np.stack(images)
    return found
