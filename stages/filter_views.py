"""filter-views: keep the views that show exactly one object, large enough, and store its mask.

GANverse3D's rules: a detector looks at every image of a multi-view set; an image with no object or with several, or
whose mask covers less than 10 % of it, is dropped. Row i of the result belongs to row i of the multi-view set: mask,
keep, reason, score, area, instances. reasons.json lists every dropped row with its reason, kept.png and dropped.png
show examples.

The default detector is the small Mask R-CNN that ships with the project for the generator's world. Others: --weights
with a torchvision Mask R-CNN's state dict (and --labels for the classes that count; a car is 3 in COCO), or --backend
detectron2 with --config-file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import FilteredViews, ViewSet, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.detect.backends import Detector
    from ganfoundry.detect.filtering import FilterRule

ROWS_PER_SHARD = 256
EXAMPLES = 32


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the filter."""

    weights: str = param(
        "", "Detector weights: a shipped name, a file or a folder; empty: that of the generator's world.", content=True
    )
    backend: str = param("torchvision", "What runs the detector.", choices=("torchvision", "detectron2"))
    config_file: str | None = param(None, "detectron2's YAML config, a file or a name of its zoo.", content=True)
    score_threshold: float = param(0.5, "Detections that score less do not count.", min=0.0, max=1.0)
    min_area: float = param(0.1, "Least share of the image that the mask covers.", min=0.0, max=1.0)
    max_overlap: float = param(
        0.7, "A detection of which a larger share lies inside a better one does not count; 1: all do.", min=0.0, max=1.0
    )
    labels: tuple[int, ...] = param((), "Class labels that count; empty: all.", min=1)


@dataclass(frozen=True)
class FilterTask:
    """Rows of one shard, for a worker."""

    images: str
    folder: str
    config: Config
    key: str  # of the whole folder: a worker that lives on does not confuse replaced weights
    index: int
    first: int
    stop: int


def run(config: Config, view_set: ViewSet, out: Writer[FilteredViews], ctx: Context) -> None:
    """Detect, decide, store; then count the reasons and draw examples."""
    from ganfoundry.data.shards import ShardFolder, ShardReader

    config = _with_weights(config, view_set)
    source, folder = view_set.path / "shards", out.path / "shards"
    key = out.fingerprint or f"{view_set.fingerprint} {config}"
    _detector(config, key)  # an unusable detector is reported before any work
    with ShardFolder(folder, len(ShardReader(source)), ROWS_PER_SHARD, key) as shards:
        tasks = [
            FilterTask(str(source), str(folder), config, key, task.index, task.first, task.stop)
            for task in shards.pending(ctx.verify)
        ]
        for _, receipt in ctx.executor.map(filter_rows, tasks, "Filtering views"):
            shards.acknowledge(receipt)
        shards.finish()
    _summarise(config, view_set, out)


def _with_weights(config: Config, view_set: ViewSet) -> Config:
    """The config with the shipped detector of the generator's world where it names no weights."""
    from ganfoundry import weights

    if config.weights or config.backend != "torchvision":
        return config
    world = view_set.record.get("figures", {}).get("world", "cars")  # sets made before generate-views wrote it
    return replace(config, weights=weights.network_of(world, "detector", "give one with --weights").name)


def filter_rows(task: FilterTask) -> dict[str, Any]:
    """Filter the rows of one shard and write it; returns the receipt."""
    import numpy as np

    from ganfoundry.data.shards import ShardReader, write_shard
    from ganfoundry.detect.filtering import decide
    from ganfoundry.labels.synthesis import single_thread

    images = ShardReader(task.images).read("image", task.first, task.stop)
    rule = _rule(task.config)
    with single_thread():
        decisions = [decide(found, rule) for found in _detector(task.config, task.key).detect(images)]
    arrays: dict[str, NDArray[Any]] = {
        "mask": np.stack([decision.mask for decision in decisions]).astype(np.uint8),
        "keep": np.array([decision.keep for decision in decisions], np.uint8),
        "reason": np.array([decision.reason for decision in decisions], np.uint8),
        "score": np.array([decision.score for decision in decisions], np.float32),
        "area": np.array([decision.area for decision in decisions], np.float32),
        "instances": np.array([min(decision.instances, 255) for decision in decisions], np.uint8),
    }
    return write_shard(task.folder, task.index, arrays, task.first)


@lru_cache(maxsize=1)
def _detector(config: Config, key: str) -> "Detector":
    """One detector a process: its weights are read once."""
    from ganfoundry.detect.backends import open_detector

    return open_detector(
        config.weights,
        backend=config.backend,
        config_file=config.config_file or "",
        score_threshold=config.score_threshold,
    )


def _rule(config: Config) -> "FilterRule":
    from ganfoundry.detect.filtering import FilterRule

    return FilterRule(config.score_threshold, config.min_area, config.labels, config.max_overlap)


def _summarise(config: Config, view_set: ViewSet, out: Writer[FilteredViews]) -> None:
    from ganfoundry.data.shards import ShardReader
    from ganfoundry.detect.filtering import count_reasons, explain

    views, verdicts = ShardReader(view_set.path / "shards"), ShardReader(out.path / "shards")
    names = ("keep", "reason", "score", "area", "instances")
    columns = {name: verdicts.read(name) for name in names}
    columns |= {name: views.read(name) for name in ("object", "view")}
    rule = _rule(config)
    verdict_rows = zip(*(columns[name].tolist() for name in ("reason", "instances", "area")), strict=True)
    texts = [explain(reason, instances, area, rule) for reason, instances, area in verdict_rows]
    kept, counts = int(columns["keep"].sum()), count_reasons(columns["reason"])
    per_view = _per_view(columns["view"], columns["keep"])
    out.figure("kept", kept)
    out.figure("kept_share", round(kept / len(texts), 4))
    for reason, count in list(counts.items())[1:]:
        out.figure(reason.replace(" ", "_"), count)
    out.figure("least_kept_of_a_view", min(share["kept"] for share in per_view))
    report = {
        "rows": len(texts),
        "kept": kept,
        "rule": asdict(rule),
        "reasons": counts,
        "views": per_view,
        "dropped": [_dropped_row(row, columns, texts[row]) for row in range(len(texts)) if not columns["keep"][row]],
    }
    (out.path / "reasons.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _draw_examples(views, verdicts, columns, texts, out.path)


def _dropped_row(row: int, columns: "Mapping[str, NDArray[Any]]", text: str) -> dict[str, Any]:
    from ganfoundry.detect.filtering import REASONS

    return {
        "row": row,
        "object": int(columns["object"][row]),
        "view": int(columns["view"][row]),
        "reason": REASONS[columns["reason"][row]],
        "text": text,
        "score": round(float(columns["score"][row]), 4),
    }


def _per_view(view: "NDArray[np.integer[Any]]", keep: "NDArray[np.uint8]") -> list[dict[str, int]]:
    import numpy as np

    return [
        {"view": int(code), "images": int((view == code).sum()), "kept": int(keep[view == code].sum())}
        for code in np.unique(view)
    ]


def _draw_examples(
    views: Any, verdicts: Any, columns: "Mapping[str, NDArray[Any]]", texts: list[str], folder: Path
) -> None:
    """kept.png and dropped.png: images with the mask in blue and the reason below; every reason gets its share."""
    import numpy as np

    from ganfoundry.pictures import captioned, overlay, png_bytes, spread

    tint = np.array([[0, 0, 0], [30, 140, 255]], np.uint8)
    keep = columns["keep"].astype(bool)
    for name, reasons in (("kept", np.array([0])), ("dropped", np.unique(columns["reason"][~keep]))):
        groups = [np.flatnonzero(columns["reason"] == reason) for reason in reasons]
        rows = np.concatenate([spread(group, EXAMPLES // len(groups)) for group in groups] or [keep[:0].nonzero()[0]])
        if len(rows) == 0:
            continue
        pictures = [overlay(views.row(row)["image"], verdicts.row(row)["mask"], tint) for row in rows.tolist()]
        captions = [texts[row] for row in rows]
        (folder / f"{name}.png").write_bytes(png_bytes(captioned(np.stack(pictures), captions, 8)))


def _shipped_digests(config: Config) -> Mapping[str, str]:
    """Sha256, from the cards, of the shipped weights that are named, or of which the generator's world chooses."""
    from ganfoundry import weights

    if not config.weights:
        return weights.digests_of("detector") if config.backend == "torchvision" else {}
    if Path(config.weights).exists() or config.weights not in weights.names():
        return {}
    return {"weights": str(weights.read_card(config.weights).get("sha256"))}


command = stage_command(
    "filter-views",
    Config,
    run,
    depends=_shipped_digests,
    example="python cli.py filter-views --run demo --score-threshold 0.6",
)
