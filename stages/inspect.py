"""inspect: what a data set holds, and whether every byte is as it was written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import title_of
from pipeline.errors import UserError
from pipeline.inspection import Inspection, Table, inspect_command
from pipeline.progress import Display

if TYPE_CHECKING:
    from ganfoundry.data.checksums import Damage
    from ganfoundry.data.description import SetDescription
    from ganfoundry.data.reader import ShardReader

Found = tuple[dict[str, Any], list[Table], "bytes | None"]
"""Statistics, the same as tables, gallery."""


def examine(folder: Path, record: Mapping[str, Any], display: Display) -> Inspection:
    """Compare every file with its checksum, count what is in the data set, draw a gallery.

    Parameters
    ----------
    folder : Path
        A labelled set, a multi-view set, any other artifact with shards, a folder of shards, or an export.
    record : mapping
        Its run.json, empty if it has none.
    display : Display
        Shows the progress.

    Raises
    ------
    UserError
        If the folder is nothing of that kind.
    """
    kind = record.get("kind") or _guess(folder)
    files = record.get("files", {})
    sharded = (folder / "shards").is_dir() or any(name.startswith("shards/") for name in files)
    if kind != "export" and not sharded:
        raise UserError(f"{folder} holds {title_of(kind)} ({kind}), which has no shards: it is no data set.")
    damage = _check(folder, kind, files, display)
    statistics, tables, gallery = _content(folder, kind, display, damaged=bool(damage))
    return Inspection(title_of(kind), [(entry.file, entry.what) for entry in damage], statistics, tables, gallery)


def _guess(folder: Path) -> str:
    """Return the kind of a folder without run.json."""
    if (folder / "checksums.json").exists():
        return "export"
    if (folder / "shards").is_dir():
        return "labelled-set" if (folder / "labels.json").exists() else "view-set"
    inside = sorted(entry.name for entry in folder.iterdir() if (entry / "shards").is_dir())
    inside += sorted(entry.name for entry in folder.iterdir() if (entry / "checksums.json").exists())
    hint = f"name one of those in it: {', '.join(inside)}" if inside else "it has neither shards nor checksums.json"
    raise UserError(f"{folder} is no data set: {hint}.")


def _check(folder: Path, kind: str, files: Mapping[str, Any], display: Display) -> "list[Damage]":
    from ganfoundry.data.checksums import NAME, Damage, check_files, read_checksums
    from ganfoundry.data.verification import BESIDE, check_artifact
    from ganfoundry.errors import InputError

    if kind != "export":
        count = len(files) or sum(1 for _ in (folder / "shards").glob("*.h5"))
        with display.bar("checking", count) as bar:
            return check_artifact(folder, files, bar.advance)
    try:
        listed = read_checksums(folder)
    except InputError as error:
        return [Damage(NAME, str(error))]
    with display.bar("checking", len(listed)) as bar:
        found = check_files(folder, listed, bar.advance, ignore=(NAME, *BESIDE))
    if NAME in files:  # the list itself is in run.json
        found += check_files(folder, {NAME: files[NAME]}, ignore=[entry.name for entry in folder.iterdir()])
    return found


def _content(folder: Path, kind: str, display: Display, *, damaged: bool) -> Found:
    """Count and draw; of a damaged data set what can still be read."""
    from ganfoundry.errors import InputError

    try:
        if kind == "export":
            return _of_export(folder)
        from ganfoundry.data.reader import ShardReader

        reader = ShardReader(folder / "shards")
        if (folder / "labels.json").exists() and {"label", "score"} <= set(reader.fields):
            return _of_labelled_set(folder, reader, display)
        return _of_shards(reader)
    except (InputError, UserError, OSError, ValueError, KeyError, TypeError):
        if not damaged:
            raise
        return {}, [], None


def _of_labelled_set(folder: Path, reader: "ShardReader", display: Display) -> Found:
    import numpy as np

    from ganfoundry.data.description import SetDescription
    from ganfoundry.data.statistics import summarise
    from ganfoundry.labels.labelset import kept_rows

    description = SetDescription.load(folder / "labels.json")
    kept = kept_rows(folder)
    keep = np.zeros(len(reader), bool)
    keep[kept] = True
    with display.bar("counting", len(kept)) as bar:
        statistics = summarise(reader, description, keep, bar.advance).to_dict()
    return statistics, _tables(statistics), _gallery(reader, description, kept)


def _of_export(folder: Path) -> Found:
    statistics = json.loads((folder / "statistics.json").read_text("utf-8"))
    return statistics, _tables(statistics), (folder / "gallery.png").read_bytes()


def _of_shards(reader: "ShardReader") -> Found:
    """Rows and fields; of a multi-view set objects and views."""
    import numpy as np

    facts: dict[str, Any] = {"rows": len(reader)}
    for name in ("object", "view"):
        if name in reader.fields:
            facts[f"{name}s"] = len(np.unique(reader.read(name)))
    types = {name: (np.dtype(dtype).name, list(shape)) for name, (dtype, shape) in reader.fields.items()}
    fields = {name: {"dtype": dtype, "shape": shape} for name, (dtype, shape) in types.items()}
    rows = [[name, dtype, " x ".join(map(str, shape)) or "one number"] for name, (dtype, shape) in types.items()]
    tables = [
        Table("Rows", ("what", "number"), [[name, f"{count:,}"] for name, count in facts.items()]),
        Table("Fields", ("field", "type", "shape of a row"), rows, numbers=False),
    ]
    image = "image" in reader.fields
    return facts | {"fields": fields}, tables, _gallery(reader, None, np.arange(len(reader))) if image else None


def _tables(statistics: Mapping[str, Any]) -> list[Table]:
    """Return the statistics of a labelled set as tables."""
    images = statistics["images"]
    size = f"{statistics['height']} x {statistics['width']}"
    histogram = statistics["uncertainty"]
    bins = zip(histogram["edges"], histogram["edges"][1:], histogram["kept"], histogram["dropped"], strict=False)
    tables = [
        Table(
            "Images",
            ("what", "number"),
            [
                ["kept", f"{images:,}"],
                ["dropped", f"{statistics['dropped']:,}"],
                ["size", size],
                *([name, f"{count:,}"] for name, count in statistics.get("splits", {}).items()),
            ],
        ),
        Table(
            "Classes",
            ("class", "pixels, %", "images"),
            [[e["name"], f"{100 * e['pixel_share']:.2f}", f"{e['images']:,}"] for e in statistics["classes"]],
        ),
        Table(
            "Uncertainty",
            ("from", "to", "kept", "dropped"),
            [[f"{low:.4f}", f"{high:.4f}", f"{kept:,}", f"{dropped:,}"] for low, high, kept, dropped in bins],
        ),
    ]
    if statistics["keypoints"]:
        rows = [[e["name"], f"{e['visible_images']:,}", f"{e['mean_visibility']:.3f}"] for e in statistics["keypoints"]]
        tables.insert(2, Table("Keypoints", ("keypoint", "visible in images", "mean visibility"), rows))
    return tables


def _gallery(reader: "ShardReader", description: "SetDescription | None", rows: Any) -> bytes:
    from ganfoundry.data.gallery import draw_rows
    from ganfoundry.pictures import png_bytes

    return png_bytes(draw_rows(reader, description, rows))


command = inspect_command(
    "Check a data set byte by byte; show what it holds.",
    "DATASET is the folder of a labelled set, of a multi-view set or of an export. Every file is compared with its "
    "sha256; a damaged one is named, with what is wrong. Then come statistics, and a gallery beside the folder. "
    "--repair runs the stage that made the set again, with the settings and inputs in its run.json, for exactly the "
    "damaged shards; the bytes are those of before. Ends with 1 if something is damaged and not repaired.",
    "python cli.py inspect outputs/demo/synthesize --repair",
    examine,
)
