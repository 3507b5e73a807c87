"""reconstruct: pictures in, textured meshes with parts and keypoints out.

Every picture is cropped to a square, read by a network of train-inverse-graphics, and written as NAME.glb (a primitive
and a material a part, keypoints as named nodes) and NAME.obj. gallery.html shows each picture and its mesh from eight
sides. A picture of something else than the network has learnt gives a mesh all the same, only a wrong one.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Assets, InverseGraphics, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH = 16
SHOWN = 100  # pictures in the gallery


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of reconstruct."""

    images: Path = param(..., "A picture, a folder or zip archive of pictures, or HDF5.")
    damaged: str = param("skip", "Leave damaged pictures out, or refuse them.", choices=("skip", "refuse"))
    background: str = param("white", "Colour behind transparent pictures: a name or #rrggbb.")
    obj: bool = param(True, "Write NAME.obj with its texture too.")


def run(config: Config, inverse_graphics: InverseGraphics, out: Writer[Assets], ctx: Context) -> None:
    """Read the pictures in batches; write meshes, then the gallery."""
    import time

    import numpy as np

    from ganfoundry.gan.inversion.pictures import open_pictures, read_pictures
    from ganfoundry.labels.synthesis import single_thread
    from ganfoundry.shape.assets import assets_of, turntable, write_obj
    from ganfoundry.shape.glb import write_glb
    from ganfoundry.shape.inverse_model import InverseModel

    model = InverseModel.load(inverse_graphics.path)
    source = open_pictures(config.images)
    with ctx.progress("Reading pictures", len(source.names)) as bar:
        found = read_pictures(
            source,
            model.size,
            background=config.background,
            skip_damaged=config.damaged == "skip",
            on_picture=lambda: bar.advance(1),
        )
    for name, reason in found.damaged:
        ctx.log(f"Left out {name}: {reason}")
    names, seconds, sheets = _file_names(found.names), 0.0, []
    with ctx.progress("Reconstructing", len(names)) as bar, single_thread():
        for start in range(0, len(names), BATCH):
            rows = slice(start, start + BATCH)
            began = time.perf_counter()
            reading = model.read(found.images[rows])
            for name, asset in zip(names[rows], assets_of(model, reading), strict=True):
                write_glb(out.path / f"{name}.glb", asset)
                if config.obj:
                    write_obj(out.path / f"{name}.obj", asset)
            seconds += time.perf_counter() - began
            if start < SHOWN:
                sheets.append(turntable(model, reading))
            bar.advance(len(found.images[rows]))
    _gallery(out, names, found.images, np.concatenate(sheets))
    out.figure("meshes", len(names))
    out.figure("left_out", len(found.damaged))
    out.figure("ms_per_picture", round(1000 * seconds / len(names), 1))


def _file_names(names: list[str]) -> list[str]:
    """Names without folders and endings; repeated ones are numbered."""
    seen: dict[str, int] = {}
    result = []
    for name in names:
        stem = Path(name.replace("\\", "/")).stem or "picture"
        seen[stem] = seen.get(stem, 0) + 1
        result.append(stem if seen[stem] == 1 else f"{stem}-{seen[stem]}")
    return result


def _gallery(out: Writer[Any], names: list[str], images: "NDArray[np.uint8]", turns: "NDArray[np.uint8]") -> None:
    """gallery.html: the picture as it was read, and its mesh from eight sides."""
    import numpy as np

    from ganfoundry.pictures import grid, magnify
    from ganfoundry.report.page import Figure, Section, render_page

    strips = []
    for name, image, views in zip(names, images, turns, strict=False):
        side = views.shape[1]
        shown = magnify(image, max(1, side // len(image)))
        fitted = np.full((side, side, 3), 255, np.uint8)
        fitted[: len(shown[:side]), : shown[:, :side].shape[1]] = shown[:side, :side]
        strips.append(Figure(grid(np.concatenate([fitted[None], views]), 9), name, quality=88, link=f"{name}.glb"))
    text = "The picture, then its mesh every 45 degrees. A click opens the GLB file."
    page = render_page("Reconstructions", f"{len(names)} meshes.", [Section("Meshes", text, strips=strips)])
    (out.path / "gallery.html").write_text(page, encoding="utf-8")


command = stage_command(
    "reconstruct",
    Config,
    run,
    example="python cli.py reconstruct --inverse-graphics outputs/demo/train-inverse-graphics --images photos",
)
