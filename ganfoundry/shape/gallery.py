"""One page that shows assets: pictures, their meshes from eight sides, and, with model-viewer, meshes to be turned.

Browsers do not let a page that was opened as a file fetch others, so with model-viewer (viewer.py) the page holds the
meshes themselves.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np
from jinja2 import Environment, StrictUndefined
from numpy.typing import NDArray

from ganfoundry.pictures import data_url, grid, magnify
from ganfoundry.shape.viewer import PACKAGE, SCRIPT


@dataclass(frozen=True, eq=False)
class Shown:
    """An asset on the page.

    Attributes
    ----------
    name : str
        Of its files, without ending.
    image : ndarray, uint8 (H, H, 3)
        The picture as the network read it.
    turns : ndarray, uint8 (n, S, S, 3)
        The mesh from all sides.
    glb : bytes
    notes : sequence of str
        What is to be known about it.
    links : sequence of str
        Names of its files.
    """

    name: str
    image: NDArray[np.uint8]
    turns: NDArray[np.uint8]
    glb: bytes
    notes: Sequence[str] = ()
    links: Sequence[str] = ()

    @property
    def strip(self) -> str:
        """Picture and views side by side, as a data: URL."""
        return data_url(self.row, quality=88)

    @property
    def row(self) -> NDArray[np.uint8]:
        """Picture and views side by side, (S, W, 3)."""
        side = self.turns.shape[1]
        shown = magnify(self.image, max(1, side // len(self.image)))[:side, :side]
        fitted = np.full((side, side, 3), 255, np.uint8)
        top = (side - len(shown)) // 2
        fitted[top : top + len(shown), top : top + shown.shape[1]] = shown
        return grid(np.concatenate([fitted[None], self.turns]), len(self.turns) + 1)

    @property
    def model(self) -> str:
        """The mesh as a data: URL."""
        return "data:model/gltf-binary;base64," + base64.b64encode(self.glb).decode("ascii")


def gallery_sheet(assets: Sequence[Shown]) -> NDArray[np.uint8]:
    """One picture of some assets, a row each: the picture, then its mesh from all sides; (H, W, 3)."""
    return np.concatenate([asset.row for asset in assets])


def gallery_page(assets: Sequence[Shown], total: int, *, viewer: bool) -> str:
    """The page.

    Parameters
    ----------
    assets : sequence of Shown
    total : int
        Meshes there are, shown or not.
    viewer : bool
        Whether model-viewer's script lies beside the page.
    """
    source = resources.files(__package__).joinpath("gallery.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source).render(
        assets=assets, total=total, viewer=viewer, script=SCRIPT, package=PACKAGE
    )
