"""reconstruct: pictures in, textured meshes with parts and keypoints out.

Every picture is cropped to a square, read by a network of train-inverse-graphics, and written as NAME.glb (metres, a
primitive and a material a part, keypoints as named nodes, the wheels of cars as nodes that turn) and NAME.obj.
gallery.html shows each picture and its mesh from eight sides, and lets one turn the meshes where the npm package
@google/model-viewer is installed; gallery.png shows the first twelve. assets.json tells what became of each picture
(docs/formats.md).

A detector tells the object from its background, whose colours must not get onto the mesh. A picture of something else
than the network has learnt gives a mesh all the same, only a wrong one: what the detector doubts is named. New meshes
take the place of earlier ones when all are whole.
"""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Assets, InverseGraphics, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.data.staging import Staging
    from ganfoundry.detect.backends import Detector
    from ganfoundry.gan.inversion.pictures import Pictures
    from ganfoundry.shape.gallery import Shown
    from ganfoundry.shape.inverse_model import InverseModel

BATCH = 16
SHOWN = 64  # pictures in the gallery; a multiple of BATCH
FORMAT = "ganfoundry-assets-1"
SHEET_ROWS = 12  # pictures in gallery.png
TABLE, GALLERY, SHEET = "assets.json", "gallery.html", "gallery.png"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of reconstruct."""

    images: tuple[Path, ...] = param(
        ..., "Pictures, folders or zip archives of pictures, or HDF5 files.", positional=True
    )
    network: str = param("cars-inverse-graphics", "Shipped network to use where no --inverse-graphics is found.")
    damaged: str = param("skip", "Leave damaged pictures out, or refuse them.", choices=("skip", "refuse"))
    background: str = param("white", "Colour behind transparent pictures: a name or #rrggbb.")
    length: float = param(4.42, "Metres from front to back of the network's typical shape.", min=0.001)
    obj: bool = param(True, "Write NAME.obj with its texture too.")
    check: bool = param(
        True,
        "Find the object with the detector of its world: no colours of the background, warnings of other things.",
    )
    viewer: str = param(
        "auto", "Folder where @google/model-viewer is installed; auto: node_modules, NODE_PATH; none: no."
    )


@dataclass
class Work:
    """What the batches share."""

    config: Config
    model: "InverseModel"
    detector: "Detector | None"
    staging: "Staging"
    names: list[str]
    pictures: list[str]
    images: "NDArray[np.uint8]"
    rows: list[dict[str, Any]] = field(default_factory=list)
    shown: "list[Shown]" = field(default_factory=list)
    seconds: float = 0.0
    timed: int = 0


def run(config: Config, inverse_graphics: InverseGraphics | None, out: Writer[Assets], ctx: Context) -> None:
    """Read the pictures in batches; write meshes, then the gallery.

    An interrupted run goes on with the first batch that is not whole.
    """
    from ganfoundry.data.staging import Staging
    from ganfoundry.labels.synthesis import single_thread
    from ganfoundry.shape.inverse_model import InverseModel
    from ganfoundry.shape.viewer import LICENCE, SCRIPT, find_viewer

    viewer = find_viewer(config.viewer)
    model = InverseModel.load(inverse_graphics.path if inverse_graphics else shipped(config.network))
    detector = _detector(model, ctx) if config.check else None
    found = read_all(config, model.size, ctx)
    names = file_names(found.names)
    files = {
        name: [name + ending for ending in (".glb", *((".obj", ".mtl", ".png") if config.obj else ()))]
        for name in names
    }
    written = [*chain.from_iterable(files.values()), TABLE, GALLERY, SHEET, SCRIPT, LICENCE]
    staging = Staging(out.path, "" if ctx.verify else out.fingerprint, [*earlier_files(out.path), *written])
    work = Work(config, model, detector, staging, names, found.names, found.images)
    with ctx.progress("Reconstructing", len(names)) as bar, single_thread():
        for start in range(0, len(names), BATCH):
            _batch(work, slice(start, start + BATCH), files)
            bar.advance(min(BATCH, len(names) - start))
    _report(work, out, ctx, viewer, found.damaged)
    staging.commit()


def _batch(work: Work, rows: slice, files: Mapping[str, list[str]]) -> None:
    """Make the meshes of some pictures, unless they are whole and need not be shown."""
    from ganfoundry.shape.assets import assets_of, turntable, write_obj
    from ganfoundry.shape.gallery import Shown
    from ganfoundry.shape.glb import write_glb
    from ganfoundry.shape.plausibility import doubts, look_for_objects, outlines

    record, folder = work.staging.parts / f"{rows.start}.json", work.staging.folder
    if record.exists() and rows.start >= SHOWN:
        work.rows += json.loads(record.read_text("utf-8"))
        return
    names, images = work.names[rows], work.images[rows]
    began = time.perf_counter()
    found = look_for_objects(images, work.detector) if work.detector else None
    reading = work.model.read(images, masks=outlines(found) if found else None)
    assets = assets_of(work.model, reading, work.config.length)
    for name, asset in zip(names, assets, strict=True):
        write_glb(folder / f"{name}.glb", asset)
        if work.config.obj:
            write_obj(folder / f"{name}.obj", asset)
    work.seconds, work.timed = work.seconds + time.perf_counter() - began, work.timed + len(names)
    against = doubts(work.model, reading, found) if found else [""] * len(names)
    azimuths, elevations = reading.guess.azimuth.tolist(), reading.guess.elevation.tolist()
    made = [
        {
            "name": name,
            "picture": picture,
            "files": files[name],
            "azimuth": round(azimuth % 360, 2),
            "elevation": round(elevation, 2),
            "wheels": asset.extras.get("wheels", ""),
            "doubt": doubt,
        }
        for name, picture, asset, azimuth, elevation, doubt in zip(
            names, work.pictures[rows], assets, azimuths, elevations, against, strict=True
        )
    ]
    work.rows += made
    if rows.start < SHOWN:
        work.shown += [
            Shown(name, image, turntable(asset), (folder / f"{name}.glb").read_bytes(), notes(row), files[name])
            for name, image, asset, row in zip(names, images, assets, made, strict=True)
        ]
    record.write_text(json.dumps(made), encoding="utf-8")


def notes(row: Mapping[str, Any]) -> list[str]:
    """What the gallery says about a mesh besides its name."""
    found = [f"Doubtful: {row['doubt']}."] if row["doubt"] else []
    return found + ([f"Wheels {row['wheels']}."] if str(row["wheels"]).startswith("not") else [])


def _report(work: Work, out: Writer[Assets], ctx: Context, viewer: Path | None, damaged: list[tuple[str, str]]) -> None:
    """assets.json, gallery.html, figures, and what is doubtful."""
    from PIL import Image

    from ganfoundry.shape.gallery import gallery_page, gallery_sheet
    from ganfoundry.shape.viewer import copy_viewer

    folder, rows = work.staging.folder, work.rows
    if viewer is not None:
        copy_viewer(viewer, folder)
    page = gallery_page(work.shown, len(rows), viewer=viewer is not None)
    (folder / GALLERY).write_text(page, encoding="utf-8")
    Image.fromarray(gallery_sheet(work.shown[:SHEET_ROWS])).save(folder / SHEET)
    table = {
        "format": FORMAT,
        "assets": rows,
        "left_out": [{"picture": name, "reason": reason} for name, reason in damaged],
    }
    (folder / TABLE).write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    doubtful = [row for row in rows if row["doubt"]]
    for row in doubtful[:10]:
        ctx.log(f"Doubtful: {row['picture']}: {row['doubt']}")
    if len(doubtful) > 10:
        ctx.log(f"Doubtful: {len(doubtful) - 10} more, see {TABLE}")
    out.figure("meshes", len(rows))
    out.figure("left_out", len(damaged))
    out.figure("doubtful", len(doubtful))
    out.figure("rigged", sum(row["wheels"] == "rigged" for row in rows))
    if work.timed:
        out.figure("ms_per_picture", round(1000 * work.seconds / work.timed, 1))


def shipped(name: str) -> Path:
    """Folder of a shipped inverse-graphics network.

    Raises
    ------
    UserError
        If there is none of that name.
    """
    from ganfoundry import weights

    if name not in weights.names():
        raise UserError(
            f"no network {name!r} ships with ganfoundry: train one with train-inverse-graphics and name its folder "
            "with --inverse-graphics."
        )
    return weights.path(name)


def _detector(model: "InverseModel", ctx: Context) -> "Detector | None":
    from ganfoundry.shape.plausibility import detector_for

    detector = detector_for(model)
    if detector is None:
        ctx.log("The pictures are not checked: no detector ships for the generator that the network learnt from.")
    return detector


def read_all(config: Config, size: int, ctx: Context) -> "Pictures":
    """The pictures of all sources, in their order.

    Raises
    ------
    InputError
        If a source does not exist, no picture can be read, or one cannot and damaged ones are to be refused.
    """
    import numpy as np

    from ganfoundry.errors import InputError
    from ganfoundry.gan.inversion.pictures import Pictures, open_pictures, read_pictures

    sources = [open_pictures(path) for path in config.images]
    skip = config.damaged == "skip"
    found: list[Pictures] = []
    damaged: list[tuple[str, str]] = []
    with ctx.progress("Reading pictures", sum(len(source.names) for source in sources)) as bar:
        for source in sources:
            try:
                read = read_pictures(
                    source,
                    size,
                    background=config.background,
                    skip_damaged=skip,
                    on_picture=lambda: bar.advance(1),
                )
            except InputError as error:
                if not skip or len(sources) == 1:
                    raise
                damaged.append((source.path.name, str(error)))
            else:
                found.append(read)
                damaged += read.damaged
    for name, reason in damaged:
        ctx.log(f"Left out {name}: {reason}")
    if not found:
        raise InputError(f"none of the {len(sources)} sources holds a readable picture; the first: {damaged[0][1]}")
    images = np.concatenate([pictures.images for pictures in found])
    return Pictures(images, [name for pictures in found for name in pictures.names], damaged=damaged)


def file_names(names: list[str]) -> list[str]:
    """Names without folders, endings and blanks (OBJ's readers stop at them), none twice, none the gallery's."""
    taken = {Path(SHEET).stem}  # NAME.png is a texture
    result = []
    for name in names:
        stem = re.sub(r"\s+", "_", Path(name.replace("\\", "/")).stem) or "picture"
        unique, number = stem, 1
        while unique.casefold() in taken:
            number += 1
            unique = f"{stem}-{number}"
        taken.add(unique.casefold())
        result.append(unique)
    return result


def earlier_files(folder: Path) -> list[str]:
    """Meshes that an earlier run wrote into a folder."""
    try:
        table = json.loads((folder / TABLE).read_text("utf-8"))
        names = [name for row in table["assets"] for name in row["files"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return [name for name in names if isinstance(name, str) and Path(name).name == name]


def depends(config: Config) -> dict[str, str]:
    """Digests of the shipped network and detectors and of the viewer that the settings may choose."""
    import hashlib

    from ganfoundry import weights
    from ganfoundry.shape.viewer import BUILT, find_viewer

    found = weights.digests_of("detector") if config.check else {}
    if config.network in weights.names():
        found[config.network] = str(weights.read_card(config.network).get("sha256"))
    viewer = find_viewer(config.viewer)
    return found if viewer is None else {**found, "viewer": hashlib.sha256((viewer / BUILT).read_bytes()).hexdigest()}


command = stage_command(
    "reconstruct",
    Config,
    run,
    version=3,
    example="python cli.py reconstruct photos/*.jpg -o meshes",
    depends=depends,
    keeps_earlier=True,
    takes_folder=True,
)
