"""Google's model-viewer (https://modelviewer.dev, Apache-2.0) from an installed npm package.

It is not part of this project: `npm install @google/model-viewer` gets it, and its script is copied beside the pages
that use it. Pages are complete without it, only still.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ganfoundry.errors import InputError

PACKAGE = "@google/model-viewer"
SCRIPT, LICENCE = "model-viewer.js", "model-viewer.LICENSE"
BUILT = Path("dist") / "model-viewer-umd.min.js"  # a classic script: a module would not load from a file


def find_viewer(given: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """Folder of an installed model-viewer.

    Parameters
    ----------
    given : str
        That folder, or one that holds `node_modules`; "auto": `node_modules` here and NODE_PATH are searched; "none".
    environ : mapping
        Environment variables.

    Returns
    -------
    Path or None
        None: there is none, or none is wanted.

    Raises
    ------
    InputError
        If a folder was given and holds none.
    """
    if given == "none":
        return None
    searched = [".", *filter(None, environ.get("NODE_PATH", "").split(os.pathsep))]
    roots = [Path(name) for name in (searched if given == "auto" else [given])]
    for root in roots:
        for folder in (root, root / PACKAGE, root / "node_modules" / PACKAGE):
            if (folder / BUILT).is_file():
                return folder
    if given != "auto":
        raise InputError(f"{given} holds no model-viewer; install one there with `npm install {PACKAGE}`")
    return None


def copy_viewer(package: Path, folder: Path) -> None:
    """Copy model-viewer's script and licence beside a page."""
    shutil.copyfile(package / BUILT, folder / SCRIPT)
    if (package / "LICENSE").is_file():
        shutil.copyfile(package / "LICENSE", folder / LICENCE)
