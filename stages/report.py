"""report: one HTML page that shows what a run made: views, the filter's verdict, labelled images, meshes.

What the run has not made is left out.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import (
    Artifact,
    Assets,
    FilteredViews,
    Gan,
    Interpreter,
    LabelledSet,
    Report,
    ViewCodes,
    ViewSet,
    Writer,
)
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.report import Bar, Section


COLUMNS = 12  # of overview.png
LEAD = "What one image generator gave: multi-view images, labelled images, meshes, and how they were chosen."


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the report."""

    title: str = param("What this run made", "Heading of the page.")
    num_objects: int = param(8, "Objects (rows) in the grid of views.", min=1, max=40)
    num_examples: int = param(24, "Labelled, kept and dropped examples shown of each kind.", min=1, max=200)


def run(
    config: Config,
    gan: Gan,
    views: ViewCodes | None,
    view_set: ViewSet | None,
    filtered: FilteredViews | None,
    interpreter: Interpreter | None,
    labelled_set: LabelledSet | None,
    assets: Assets | None,
    out: Writer[Report],
    ctx: Context,
) -> None:
    """Draw views, the filter's verdict, labels with their uncertainty, class shares, and meshes, on one page.

    The page is one file: pictures are embedded, no script runs, nothing is fetched.
    """
    import numpy as np

    from ganfoundry.pictures import grid, png_bytes
    from ganfoundry.report import render_page

    sections: list[Section] = []
    tiles: list[NDArray[np.uint8]] = []
    if views and view_set:
        sections.append(_views_section(config, views, view_set))
        tiles.append(_turntable(views, view_set))
    if filtered:
        sections.append(_filter_section(filtered))
    if labelled_set:
        sections += _labelled_sections(config, labelled_set)
        tiles += _triples(labelled_set)
    if assets:
        sections.append(_meshes_section(assets))
    if not sections:
        raise UserError("the run holds no views, no labelled images and no meshes to report on: make some first")
    inputs = (gan, views, view_set, filtered, interpreter, labelled_set, assets)
    sections.append(_figures_section([artifact for artifact in inputs if artifact]))
    page = render_page(config.title, LEAD, sections, f"generator sha256 {gan.generator_sha256}")
    path = out.path / "report.html"
    path.write_text(page, encoding="utf-8")
    if tiles:
        (out.path / "overview.png").write_bytes(png_bytes(grid(np.concatenate(tiles), COLUMNS, scale=2)))
    out.figure("page_kb", round(path.stat().st_size / 1024))


def _rows(artifact: Artifact, name: str, rows: "NDArray[np.int64]") -> "NDArray[Any]":
    """Read some rows of one field of an artifact's shards."""
    from ganfoundry.data.reader import ShardReader

    return ShardReader(artifact.path / "shards").rows(rows, [name])[name]


def _field(artifact: Artifact, name: str) -> "NDArray[Any]":
    """Read one whole field of an artifact's shards."""
    from ganfoundry.data.reader import ShardReader

    return ShardReader(artifact.path / "shards").read(name)


def _views_section(config: Config, views: ViewCodes, view_set: ViewSet) -> "Section":
    """One column for each viewpoint code, one row for each object."""
    import numpy as np

    from ganfoundry.pictures import grid
    from ganfoundry.report import Figure, Section
    from ganfoundry.views import ViewCodeSet

    codes = ViewCodeSet.load(views.path)
    objects = len(np.unique(_field(view_set, "object")))
    shown = min(config.num_objects, objects)
    images = _rows(view_set, "image", np.arange(shown * codes.views))
    azimuths = [f"{codes.bins.signed(code.azimuth):.0f}" for code in codes.codes]
    table = [
        [str(code.id), code.shape, str(code.bin), azimuth, f"{code.azimuth_std:.1f}", code.how]
        for code, azimuth in zip(codes.codes, azimuths, strict=True)
    ]
    shapes = f", one of {len(codes.shapes)} groups of codes for each object" if len(codes.shapes) > 1 else ""
    return Section(
        "Views",
        f"{objects} objects from {codes.views} viewpoint codes{shapes} make {objects * codes.views} images. A column "
        "is one azimuth bin, a row is one object.",
        figures=[Figure(grid(images, codes.views), f"The first {shown} objects, seen from every viewpoint code.")],
        folded=f"The {len(codes.codes)} viewpoint codes" if len(codes.codes) > 12 else "",
        header=["code", "shape", "azimuth bin", "azimuth, degrees", "circular std, degrees", "bin labelled"],
        rows=table,
    )


def _filter_section(filtered: FilteredViews) -> "Section":
    """Show what Mask R-CNN kept and dropped, and why."""
    from ganfoundry.report import Bar, Figure, Section

    facts = json.loads((filtered.path / "reasons.json").read_text("utf-8"))
    figures = [
        Figure(_picture(filtered.path / f"{name}.png"), f"{name.title()}: the detected mask in blue, and the reason.")
        for name in ("kept", "dropped")
        if (filtered.path / f"{name}.png").exists()
    ]
    bars = [Bar(text, count / facts["rows"], str(count)) for text, count in facts["reasons"].items() if count]
    return Section("Filter", f"{facts['kept']} of {facts['rows']} images kept.", figures=figures, bars=bars)


def _picture(path: Path) -> "NDArray[np.uint8]":
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _labelled_sections(config: Config, labelled_set: LabelledSet) -> "list[Section]":
    """Labels and uncertainty of kept and of dropped samples, and the share of every class."""
    import numpy as np

    from ganfoundry.pictures import grid, heatmap, overlay, spread
    from ganfoundry.report import Figure, Section

    facts = json.loads((labelled_set.path / "labels.json").read_text("utf-8"))
    palette = np.array(facts["palette"], np.uint8)
    selection = json.loads((labelled_set.path / "selection.json").read_text("utf-8"))
    dropped = np.array([entry["row"] for entry in selection["dropped"]], np.int64)
    kept = np.setdiff1d(np.arange(selection["rows"]), dropped)
    scale = float(np.quantile(_field(labelled_set, "uncertainty")[spread(kept, 200)], 0.995))
    figures = []
    for name, rows in (("Kept", kept), ("Dropped as too uncertain", dropped)):
        if len(rows) == 0:
            continue
        chosen = spread(rows, config.num_examples)
        images, labels = _rows(labelled_set, "image", chosen), _rows(labelled_set, "label", chosen)
        heat = heatmap(_rows(labelled_set, "uncertainty", chosen), scale)
        triples = np.concatenate([images, overlay(images, labels, palette), heat], axis=2)
        figures.append(Figure(grid(triples, 4, gap=6), f"{name}: image, labels, uncertainty (bright is uncertain)."))
    text = f"{selection['kept']} of {selection['rows']} samples kept; the most uncertain are dropped."
    return [
        Section("Labelled images", text, figures=figures),
        Section("Classes", "Share of the pixels of the kept samples.", bars=_class_bars(labelled_set, kept, facts)),
    ]


def _turntable(views: ViewCodes, view_set: ViewSet) -> "NDArray[np.uint8]":
    """Three objects from twelve codes, a row each; where there are fewer, some are shown again."""
    import numpy as np

    from ganfoundry.pictures import spread
    from ganfoundry.views import ViewCodeSet

    codes = ViewCodeSet.load(views.path)
    columns = np.resize(spread(np.arange(codes.views), COLUMNS), COLUMNS)
    objects = np.resize(spread(np.unique(_field(view_set, "object")), 3), 3)
    turntable: NDArray[np.uint8] = _rows(view_set, "image", (codes.views * objects[:, None] + columns).ravel())
    return turntable


def _triples(labelled_set: LabelledSet) -> "list[NDArray[np.uint8]]":
    """Twelve kept samples, their labels, their uncertainty, a row each; where there are fewer, some are shown again."""
    import numpy as np

    from ganfoundry.labels.labelset import kept_rows
    from ganfoundry.pictures import heatmap, overlay, spread

    palette = np.array(json.loads((labelled_set.path / "labels.json").read_text("utf-8"))["palette"], np.uint8)
    chosen = np.resize(spread(kept_rows(labelled_set.path), COLUMNS), COLUMNS)
    images, labels = _rows(labelled_set, "image", chosen), _rows(labelled_set, "label", chosen)
    uncertainty = _rows(labelled_set, "uncertainty", chosen)
    return [images, overlay(images, labels, palette), heatmap(uncertainty, float(np.quantile(uncertainty, 0.995)))]


def _class_bars(labelled_set: LabelledSet, kept: "NDArray[np.int64]", facts: dict[str, Any]) -> "list[Bar]":
    import numpy as np

    from ganfoundry.report import Bar

    classes, palette = facts["classes"], facts["palette"]
    counts = np.bincount(_field(labelled_set, "label")[kept].ravel(), minlength=len(classes))
    shares = counts / counts.sum()
    return [
        Bar(name, share, f"{100 * share:.2f} %", tuple(colour))
        for name, share, colour in zip(classes, shares, palette, strict=True)
    ]


def _meshes_section(assets: Assets) -> "Section":
    """Show the first meshes from all sides, and name what is doubtful."""
    from ganfoundry.report import Figure, Section

    rows = json.loads((assets.path / "assets.json").read_text("utf-8"))["assets"]
    doubtful = sum(bool(row["doubt"]) for row in rows)
    text = f"{len(rows)} pictures read as textured meshes (GLB, OBJ)" + (f", {doubtful} doubtful." if doubtful else ".")
    caption = "The picture as it was read, and its mesh from eight sides; gallery.html beside the meshes shows more."
    return Section("Meshes", text, figures=[Figure(_picture(assets.path / "gallery.png"), caption, quality=85)])


def _figures_section(inputs: list[Artifact]) -> "Section":
    """Every figure the stages recorded."""
    from ganfoundry.report import Section

    rows = [
        [str(artifact.record.get("stage", artifact.kind)), name, str(value)]
        for artifact in inputs
        for name, value in artifact.record.get("figures", {}).items()
    ]
    return Section("Figures", "As recorded by the stages.", header=["stage", "figure", "value"], rows=rows)


command = stage_command("report", Config, run, example="python cli.py report --run demo")
