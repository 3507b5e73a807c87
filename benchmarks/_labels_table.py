"""Committed results of the label benchmark: collected from the jobs' files, written as JSON and as a table, shown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import _jobs
from benchmarks._labels_jobs import Job
from benchmarks._labels_rows import ROWS, Settings

NAME = "labels"
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
of the longer side of the object's box. "outer": thirteen cars made by others, five classes (level parts5, background
included), the wheels and lamps that can be told from their materials. Mean and standard deviation over seeds.
Differences and quotients are means over the seeds that both rows have.

Every training has the same network (but for the pretrained backbone of the rows with ImageNet features), steps,
batch, schedule, augmentation and weighting of classes (by their own frequencies in what it trains on); self-trained
features take as many steps before. "Ours" has 16 labels and the bins of 96 viewpoint codes, one key each, which tell
the interpreter front from back; one row does without them. The last weights are measured, on the same images in every
row, and nothing is chosen by the test images. The renders of the rows without a generator have exact labels, and each
seed draws other ones (all 1,600 are the same); those of the 16 generated samples, the same for every seed, were
proposed by a network that was trained on other renders, and looked at. Transfer learning starts from a pretrained
backbone and trains it at a tenth (self-trained: three tenths) of the rate. The curve over labels and the row of 1,000
images have the same number of images.
32 labels: the 16 and 16 more samples labelled by the network that proposed the others.
That network labels all samples of two rows: what is missing there to 1,600 renders, the generator's images lack; what
is missing to it in ours, the interpreter costs. Samples of cars-128 and their labels are halved to 64 px.

AUROC: chance that an unseen sample of the generator with a bad label scores as more uncertain than one with a good
label; bad is the worst tenth by the share of wrong object pixels (as many as the filter drops), or the worse half.
The truth is what the labeller of the 16, a network, says of it where it does not contradict itself.
Samples have truncation psi 0.7 unless the row says otherwise.
The filter drops the most uncertain tenth; with and without it, at 3,000 images, every seed has the same interpreter.
"""


def collect(settings: Settings) -> dict[str, Any]:
    """Join the finished jobs of these settings.

    Raises
    ------
    InputError
        If there is none.
    """
    jobs = [Job(row.name, seed, settings) for row in ROWS.values() for seed in range(row.seeds)]
    results = _jobs.finished(ROWS, jobs, NAME)
    table = _jobs.collect(NAME, settings, ROWS, results)
    rows = table["rows"]
    for name, found in results.items():
        rows[name]["cpu_seconds"] = round(float(np.mean([result["cpu_seconds"] for result in found])), 1)
    missing = {
        row.name: lacking
        for row in ROWS.values()
        if (lacking := [seed for seed in range(row.seeds) if seed not in rows.get(row.name, {}).get("seeds", [])])
    }
    return {**table, "missing": missing}


def markdown(table: Mapping[str, Any]) -> str:
    """The page with the table."""
    lines = ["# What labelled images are worth", "", f"`{table['command']}` ({table['machine']}; {_sizes(table)})", ""]
    lines += [f"| row | seeds | {' | '.join(COLUMNS.values())} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for row in table["rows"].values():
        if "miou" not in row["figures"]:
            continue
        cells = [cell(row["figures"].get(name)) for name in COLUMNS]
        lines.append(f"| {row['title']} | {len(row['seeds'])} | {' | '.join(cells)} |")
    if table["missing"]:
        lacking = [
            f"{name} (seed{'s' * (len(n) > 1)} {', '.join(map(str, n))})" for name, n in table["missing"].items()
        ]
        lines += ["", f"Not run yet, and in no figure here: {'; '.join(lacking)}."]
    lines += ["", NOTES, "| compared | value | target |", "|---|---|---|"]
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
    "labeller_over_supervised_1600": (
        "ours without an interpreter's errors (labelled by the labeller of the 16) over 1,600 labelled renders",
        "",
    ),
    "labeller_pck5_over_supervised_1600": ("the same, PCK at 5 %", ""),
    "ours_minus_released": ("ours minus DatasetGAN as released, mIoU points", ">= 3"),
    "ours_minus_transfer": ("ours minus the better transfer learning, mIoU points", ">= 10"),
    "ours_minus_transfer_imagenet": ("both with ImageNet features, mIoU points", ">= 10"),
    "ours_minus_semi_supervised": ("ours minus mean teacher, mIoU points", ""),
    "pck5": ("PCK at 5 %, ours", ""),
    "pck10": ("PCK at 10 %, ours", ""),
    "pck5_over_supervised_1600": ("PCK at 5 %, ours over 1,600 labelled renders", ">= 0.80"),
    "pck10_over_supervised_1600": ("PCK at 10 %, ours over 1,600 labelled renders", ">= 0.80"),
    "pck5_minus_transfer": ("PCK at 5 %, ours minus the better transfer learning, points", ">= 30"),
    "pck5_minus_transfer_imagenet": ("both with ImageNet features, PCK at 5 %, points", ">= 30"),
    "outer_ours_minus_supervised_1600": ("outer mIoU, ours minus 1,600 labelled renders, points", ">= 0"),
    "auroc": ("AUROC of image uncertainty against true label error, worst tenth", ">= 0.85"),
    "auroc_median": ("the same, worse half", ""),
    "filter_not_worse": ("seeds in which the filter does not lower mIoU", ">= 4 of 5"),
    "filter_gain": ("mIoU points by the filter", ""),
}


def summary(table: Mapping[str, Any]) -> dict[str, Any]:
    """What the targets are about, None where a row is missing, and the names of the rows that lack a seed."""
    rows = table["rows"]

    def values(row: str, figure: str) -> dict[int, float]:
        found = rows.get(row, {"seeds": [], "figures": {}})
        return dict(zip(found["seeds"], found["figures"].get(figure, []), strict=False))

    def mean(row: str, figure: str) -> float | None:
        found = values(row, figure)
        return float(np.mean(list(found.values()))) if found else None

    def pairs(row: str, other: str, figure: str) -> NDArray[np.float64]:
        """Values of both rows, (seeds that both have, 2)."""
        a, b = values(row, figure), values(other, figure)
        return np.array([(a[seed], b[seed]) for seed in a if seed in b]).reshape(-1, 2)

    def quotient(other: str, figure: str, row: str = "ours") -> float | None:
        both = pairs(row, other, figure)
        return float(both[:, 0].mean() / both[:, 1].mean()) if len(both) else None

    def points(other: str | None, figure: str, row: str = "ours") -> float | None:
        both = pairs(row, other or "", figure)
        return 100 * float((both[:, 0] - both[:, 1]).mean()) if len(both) else None

    def best(figure: str) -> str | None:
        """The better transfer learning."""
        known = {
            row: value for row in ("transfer_imagenet", "transfer_self") if (value := mean(row, figure)) is not None
        }
        return max(known, key=lambda row: known[row]) if known else None

    filtered = pairs("images_3000", "unfiltered_3000", "miou")
    found = {
        "ours_over_supervised_1600": quotient("supervised_1600", "miou"),
        "labeller_over_supervised_1600": quotient("supervised_1600", "miou", "labeller"),
        "labeller_pck5_over_supervised_1600": quotient("supervised_1600", "pck5", "labeller"),
        "ours_minus_released": points("released", "miou"),
        "ours_minus_transfer": points(best("miou"), "miou"),
        "ours_minus_transfer_imagenet": points("transfer_imagenet", "miou", "ours_imagenet"),
        "ours_minus_semi_supervised": points("semi_supervised", "miou"),
        "pck5": mean("ours", "pck5"),
        "pck10": mean("ours", "pck10"),
        "pck5_over_supervised_1600": quotient("supervised_1600", "pck5"),
        "pck10_over_supervised_1600": quotient("supervised_1600", "pck10"),
        "pck5_minus_transfer": points(best("pck5"), "pck5"),
        "pck5_minus_transfer_imagenet": points("transfer_imagenet", "pck5", "ours_imagenet"),
        "outer_ours_minus_supervised_1600": points("supervised_1600", "outer_miou"),
        "auroc": mean("uncertainty", "auroc"),
        "auroc_median": mean("uncertainty", "auroc_median"),
        "filter_gain": points("unfiltered_3000", "miou", "images_3000"),
    }
    rounded: dict[str, Any] = {name: None if value is None else round(value, 4) for name, value in found.items()}
    kept = int((filtered[:, 0] >= filtered[:, 1]).sum())
    rounded["filter_not_worse"] = f"{kept} of {len(filtered)}" if len(filtered) else None
    return {**rounded, "missing": list(table["missing"])}


def _number(value: Any) -> str:
    return "not measured" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
