"""Committed results of the inverse-graphics benchmark: collected from the jobs' files, written, shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import _jobs
from benchmarks._inverse_jobs import Job
from benchmarks._inverse_rows import ROWS, Settings

NAME = "inverse_graphics"
VIEWS = {
    "iou2d_input": "IoU input",
    "iou2d_novel": "IoU novel",
    "views_part_miou": "part mIoU",
    "views_pck5": "PCK 5 %",
    "camera_error": "camera °",
    "camera_table_error": "table azimuth °",
    "camera_table_elevation": "table elevation °",
}
SOLIDS = {
    "iou3d": "3D IoU",
    "chamfer": "Chamfer",
    "f_score": "F-score",
    "normal_consistency": "normals",
    "azimuth_error": "azimuth °",
    "turned_around": "turned",
    "part_miou": "part mIoU",
    "pck5": "PCK 5 %",
    "keypoint_error_3d": "keypoints 3D",
    "novel_iou": "novel IoU",
    "novel_psnr": "novel PSNR",
    "novel_features": "novel features",
}
PLAIN = {
    "camera_error",
    "camera_table_error",
    "camera_table_elevation",
    "azimuth_error",
    "novel_psnr",
    "novel_features",
}
"""Figures that are not shares; the others are given in per cent."""
TARGETS = {
    "iou2d_input": ("2D IoU, input view", ">= 0.95"),
    "iou2d_novel": ("2D IoU, novel views", ">= 0.90"),
    "iou3d": ("3D IoU", ">= 0.75"),
    "iou3d_over_mean_shape": ("3D IoU above the better mean", ">= 0.08"),
    "part_miou": ("part mIoU on the surface", ">= 0.70"),
    "pck5": ("PCK at 5 %", ">= 0.80"),
    "keypoint_error_3d": ("3D keypoint error, of the diagonal", "<= 0.05"),
    "camera_table_error": ("camera table against the pose network, degrees", "<= 5"),
}
NOTES = """\
Generated views: objects that were held out; camera: median difference between the camera that the network guesses and
that of the view's code; table: median difference between the codes' learnt cameras and what the pose network says of
their images, azimuths after one turn for all. The row learnt from renders is measured on held-out renders instead:
generated views have no camera in its table. Renders: unseen cars with known meshes, parts, keypoints and cameras. A
network's frame is laid on the world's by one similarity, found on training renders and then kept. 3D IoU: 64^3
voxels, solid where surfaces block all six axis rays. Chamfer (mean of both directions) and 3D keypoint error are
shares of the true bounding box's diagonal, the F-score is taken at 2 % of it; surfaces count where they can be seen
from outside. Part mIoU: surface points against the nearest true point, background left out. PCK: visible keypoints of
another view within 5 % of the image side. Novel PSNR (dB) and features (squared distance of the discriminator's unit
features): another view, the object on white. Azimuth: median; turned: wrong by more than 90 degrees. All but degrees,
dB and features in per cent, mean and standard deviation over seeds. "The truth, measured again" says what the figures
can reach.
"""


def collect(settings: Settings, jobs: Sequence[Job]) -> dict[str, Any]:
    """Join the finished jobs.

    Raises
    ------
    InputError
        If there is none.
    """
    trained = any(job.trained is not None for job in jobs)
    results = _jobs.finished(ROWS, jobs, NAME)
    return _jobs.collect(NAME, settings, ROWS, results, ["--model FOLDER"] if trained else [])


def markdown(table: Mapping[str, Any]) -> str:
    """The page with the tables."""
    settings = table["settings"]
    sizes = (
        f"{settings['steps']:,} steps a training, {settings['cars']} x {settings['views']} renders to learn from, "
        f"{settings['test']} unseen renders, {settings['outer']} images of cars made by others"
    )
    lines = ["# One view to a mesh", "", f"`{table['command']}` ({table['machine']}; {sizes})", ""]
    for title, prefix, columns in (
        ("Generated views", "", VIEWS),
        ("Unseen renders", "", SOLIDS),
        ("Cars made by others", "outer_", SOLIDS),
    ):
        lines += _section(title, {f"{prefix}{name}": text for name, text in columns.items()}, table["rows"])
    lines += [NOTES, "| figure | value | target |", "|---|---|---|"]
    found = summary(table)
    lines += [f"| {text} | {_number(found[name])} | {target} |" for name, (text, target) in TARGETS.items()]
    return "\n".join([*lines, ""])


def _section(title: str, columns: Mapping[str, str], rows: Mapping[str, Any]) -> list[str]:
    """A table of the rows that have any of the figures; none if no row has."""
    shown = [row for row in rows.values() if set(columns) & set(row["figures"])]
    used = {name: text for name, text in columns.items() if any(name in row["figures"] for row in shown)}
    if not shown:
        return []
    lines = [f"## {title}", "", f"| row | seeds | {' | '.join(used.values())} |", "|---" * (2 + len(used)) + "|"]
    for row in shown:
        cells = [cell(name, row["figures"].get(name)) for name in used]
        lines.append(f"| {row['title']} | {len(row['seeds'])} | {' | '.join(cells)} |")
    return [*lines, ""]


def cell(name: str, values: Sequence[float] | None) -> str:
    """Mean and standard deviation, shares in per cent."""
    if not values:
        return "-"
    plain = name.removeprefix("outer_") in PLAIN
    factor, digits = (1, 2) if plain else (100, 1)
    spread = f" ± {factor * np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{factor * np.mean(values):.{digits}f}{spread}"


def summary(table: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of the default row and what they are compared with; None where a row is missing."""
    rows = table["rows"]

    def mean(row: str, figure: str) -> float:
        values = rows.get(row, {}).get("figures", {}).get(figure)
        return float(np.mean(values)) if values else float("nan")

    names = [*VIEWS, *SOLIDS]
    found = {name: mean("default", name) for name in [*names, *(f"outer_{name}" for name in SOLIDS)]}
    for row in [name for name in ROWS if name not in ("default", "truth")]:
        found[f"iou3d_{row}"] = mean(row, "iou3d")
    means = [value for row in ("mean_shape", "mean_volume") if np.isfinite(value := mean(row, "iou3d"))]
    found["iou3d_over_mean_shape"] = mean("default", "iou3d") - max(means, default=float("nan"))
    rounded: dict[str, Any] = {name: round(value, 4) if np.isfinite(value) else None for name, value in found.items()}
    seeds = rows.get("default", {}).get("seeds", [])
    return {**rounded, "seeds": len(seeds), "steps": table["settings"]["steps"]}


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3g}"
