"""Committed results of the label benchmark: collected from the jobs' files, written as JSON and as a table, shown."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._labels_jobs import Job
from benchmarks._labels_rows import ROWS, Settings
from ganfoundry.errors import InputError
from ganfoundry.gan.train_data import write_atomically

RESULTS = Path("benchmarks/results")
COLUMNS = {
    "miou": "mIoU",
    "pixel_accuracy": "pixels",
    "pck5": "PCK 5 %",
    "pck10": "PCK 10 %",
    "outer_miou": "outer mIoU",
    "outer_pck5": "outer PCK 5 %",
    "outer_pck10": "outer PCK 10 %",
}
"""Figures of the table; all in per cent."""
NOTES = """\
mIoU over the twelve classes of level parts12, background included, intersections and unions summed over all images, a
class in neither truth nor prediction 0, as in DatasetGAN's released evaluation. PCK: visible keypoints within 5 or 10 %
of the longer side of the object's box. "outer": thirteen cars made by others, five classes (level parts5), the wheels
and lamps that can be told from their materials. Mean and standard deviation over seeds.

Every training has the same network, steps, batch, schedule and augmentation; the last weights are measured, and nothing
is chosen by the test images. The renders of the rows without a generator have exact labels; those of the generated
samples were proposed by a network, as a person's would be drawn by hand. So the labels favour the baselines. Transfer
learning starts from a pretrained backbone and trains it at a tenth (self-trained: three tenths) of the rate.
The curve over labels and the row of 1,000 images have the same number of images. 32 labels: the 16 and 16 more samples
labelled by the network that proposed the others.
"""


def collect(settings: Settings) -> dict[str, Any]:
    """Join the finished jobs of these settings.

    Raises
    ------
    InputError
        If there is none.
    """
    rows: dict[str, Any] = {}
    for row in ROWS.values():
        found = [Job(row.name, seed, settings).result() for seed in range(row.seeds)]
        results = [result for result in found if result is not None]
        if results:
            rows[row.name] = {
                "title": row.title,
                "seeds": [result["identity"]["seed"] for result in results],
                "figures": _figures([result["figures"] for result in results]),
                "cpu_seconds": round(float(np.mean([result["cpu_seconds"] for result in results])), 1),
            }
    if not rows:
        raise InputError("no job of these settings is done; run python -m benchmarks.labels first")
    about = {"settings": asdict(settings), "machine": f"{platform.machine()}, CPU, one thread a job"}
    return {**about, "command": command(settings), "rows": rows}


def command(settings: Settings) -> str:
    """The command that makes these results."""
    given = [f"--{name} {value}" for name, value in asdict(settings).items() if value != getattr(Settings(), name)]
    return " ".join(["python -m benchmarks.labels", *given])


def _figures(results: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Values of every figure, in the order of the seeds."""
    names = [name for name in results[0] if all(name in result for result in results)]
    return {name: [result[name] for result in results] for name in names}


def save(table: Mapping[str, Any]) -> None:
    """Write labels.json and labels.md."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    write_atomically(RESULTS / "labels.json", (json.dumps(table, indent=1) + "\n").encode())
    write_atomically(RESULTS / "labels.md", markdown(table).encode())


def load() -> dict[str, Any]:
    """The committed results.

    Raises
    ------
    InputError
        If there are none, or they cannot be read.
    """
    try:
        table: dict[str, Any] = json.loads((RESULTS / "labels.json").read_text("utf-8"))
        return table
    except (OSError, ValueError) as error:
        raise InputError(f"there are no results in {RESULTS} ({error}); run python -m benchmarks.labels") from None


def markdown(table: Mapping[str, Any]) -> str:
    """The page with the table."""
    lines = ["# What labelled images are worth", "", f"`{table['command']}` ({table['machine']}; {_sizes(table)})", ""]
    lines += [f"| row | seeds | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for row in table["rows"].values():
        if "miou" not in row["figures"]:
            continue
        cells = [cell(row["figures"].get(name)) for name in COLUMNS]
        lines.append(f"| {row['title']} | {len(row['seeds'])} | {' | '.join(cells)} |")
    lines += ["", NOTES, "", "| compared | value | target |", "|---|---|---|"]
    found = summary(table)
    lines += [f"| {text} | {_number(found[name])} | {target} |" for name, (text, target) in TARGETS.items()]
    return "\n".join([*lines, ""])


def _sizes(table: Mapping[str, Any]) -> str:
    settings = table["settings"]
    return (
        f"{settings['steps']} steps of 16 images a training, {settings['images']:,} generated images, "
        f"{settings['test']:,} unseen renders, {settings['outer']} images of cars made by others"
    )


def cell(values: Sequence[float] | None) -> str:
    """Mean and standard deviation in per cent."""
    if not values:
        return "-"
    spread = f" ± {100 * np.std(values, ddof=1):.1f}" if len(values) > 1 else ""
    return f"{100 * np.mean(values):.1f}{spread}"


TARGETS = {
    "ours_over_supervised_1600": ("ours over 1,600 labelled renders, mIoU", ">= 0.95"),
    "ours_minus_released": ("ours minus DatasetGAN as released, mIoU points", ">= 3"),
    "ours_minus_transfer": ("ours minus the better transfer learning, mIoU points", ">= 10"),
    "ours_minus_semi_supervised": ("ours minus mean teacher, mIoU points", ""),
    "pck5": ("PCK at 5 %, ours", ""),
    "pck5_over_supervised_1600": ("PCK at 5 %, ours over 1,600 labelled renders", ">= 0.80"),
    "pck10_over_supervised_1600": ("PCK at 10 %, ours over 1,600 labelled renders", ">= 0.80"),
    "pck5_minus_transfer": ("PCK at 5 %, ours minus the better transfer learning, points", ">= 30"),
    "outer_ours_minus_supervised_1600": ("outer mIoU, ours minus 1,600 labelled renders, points", ">= 0"),
    "auroc": ("AUROC of image uncertainty against true label error", ">= 0.85"),
    "filter_not_worse": ("seeds in which the filter does not lower mIoU", ">= 4 of 5"),
}


def summary(table: Mapping[str, Any]) -> dict[str, float | str | None]:
    """What the targets are about; None where a row is missing."""
    rows = table["rows"]

    def mean(row: str, figure: str) -> float:
        values = rows.get(row, {}).get("figures", {}).get(figure)
        return float(np.mean(values)) if values else float("nan")

    def best(figure: str) -> float:
        values = [mean(row, figure) for row in ("transfer_imagenet", "transfer_self")]
        return max([value for value in values if np.isfinite(value)], default=float("nan"))

    ours, full = mean("ours", "miou"), mean("supervised_1600", "miou")
    found: dict[str, float | str | None] = {
        "ours_over_supervised_1600": ours / full,
        "ours_minus_released": 100 * (ours - mean("released", "miou")),
        "ours_minus_transfer": 100 * (ours - best("miou")),
        "ours_minus_semi_supervised": 100 * (ours - mean("semi_supervised", "miou")),
        "pck5": mean("ours", "pck5"),
        "pck5_over_supervised_1600": mean("ours", "pck5") / mean("supervised_1600", "pck5"),
        "pck10_over_supervised_1600": mean("ours", "pck10") / mean("supervised_1600", "pck10"),
        "pck5_minus_transfer": 100 * (mean("ours", "pck5") - best("pck5")),
        "outer_ours_minus_supervised_1600": 100 * (mean("ours", "outer_miou") - mean("supervised_1600", "outer_miou")),
        "auroc": mean("uncertainty", "auroc"),
    }
    rounded = {
        name: round(value, 4) if isinstance(value, float) and np.isfinite(value) else None
        for name, value in found.items()
    }
    return {**rounded, "filter_not_worse": _filter(rows)}


def _filter(rows: Mapping[str, Any]) -> str | None:
    """In how many seeds the filtered set is at least as good."""
    with_filter, without = (
        dict(zip(rows[name]["seeds"], rows[name]["figures"]["miou"], strict=True)) if name in rows else {}
        for name in ("ours", "ours_unfiltered")
    )
    both = sorted(set(with_filter) & set(without))
    return f"{sum(with_filter[seed] >= without[seed] for seed in both)} of {len(both)}" if both else None


def _number(value: float | str | None) -> str:
    return "not measured" if value is None else f"{value:.3g}" if isinstance(value, float) else value
