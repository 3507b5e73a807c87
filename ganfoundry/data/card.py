"""The data set card: ``README.md`` of an export, and the header that the Hugging Face hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ganfoundry.data.exporting import ExportSet
from ganfoundry.data.huggingface_export import HUB_SPLITS
from ganfoundry.data.statistics import SetStatistics

UNSPECIFIED = "unspecified"
HUB_LICENSES = frozenset(
    (
        *("apache-2.0", "mit", "cc0-1.0", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0"),
        *("cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "odbl", "pddl", "odc-by"),
        *("cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0"),
    )
)
"""Licences that the hub knows by these names."""
HUB_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
CONTENTS = {
    "dataset.h5": "everything in one HDF5 file; its attributes name classes, colours and sources",
    "coco": "COCO: images and annotations with exact masks as run lengths; pycocotools reads it",
    "webdataset": "WebDataset: tar files, a sample is a picture, its label map, its facts and its latent code",
    "huggingface": "Hugging Face imagefolder: `datasets.load_dataset` opens the folder",
    "parquet": "parquet files with the pictures inside: `datasets.load_dataset` opens the folder",
    "png": "plain folders: pictures, label maps as index PNG, lists of the splits",
    "gallery.png": "some samples with their labels",
    "statistics.json": "the tables of this page as JSON",
    "croissant.json": "Croissant metadata (JSON-LD)",
    "checksums.json": "size and sha256 of every file",
}


def data_card(
    export: ExportSet, statistics: SetStatistics, dropped: Sequence[Mapping[str, Any]], contents: Sequence[str]
) -> str:
    """Return the card as Markdown.

    Parameters
    ----------
    export : ExportSet
    statistics : SetStatistics
        Of the exported labelled set.
    dropped : sequence of mapping
        Reasons for which rows were dropped: ``reason`` and ``images``.
    contents : sequence of str
        Names at the top of the export, of those in ``CONTENTS``.
    """
    sections = [
        f"# {export.name}",
        _lead(export, statistics),
        _made(export),
        "## Files\n\n" + _table(("file", "what"), [(f"`{name}`", CONTENTS[name]) for name in contents]),
        _splits(export),
        "## Statistics\n\nOver the kept images.\n\n" + _classes(export, statistics),
        *([_keypoints(statistics)] if statistics.keypoints else []),
        _uncertainty(statistics),
        _dropped(statistics, dropped),
        _license(export.license),
        _limits(),
    ]
    return "\n\n".join(sections) + "\n"


def hub_header(export: ExportSet, form: str) -> str:
    """Return the YAML header of a card, for ``form`` "huggingface" (imagefolder) or "parquet"."""
    known = export.license.lower()
    license_lines = (
        [f"license: {known}"]
        if known in HUB_LICENSES
        else ["license: unknown"]
        if export.license == UNSPECIFIED
        else ["license: other", f"license_name: {json.dumps(export.license)}"]
    )
    tasks = ["image-segmentation", *(["keypoint-detection"] if export.description.keypoints else [])]
    size = next((name for limit, name in HUB_SIZES if len(export.rows) < limit), "n>1M")
    lines = [
        *license_lines,
        f"pretty_name: {json.dumps(export.name)}",
        "task_categories:",
        *(f"- {task}" for task in tasks),
        "tags:",
        "- synthetic",
        "- gan",
        "size_categories:",
        f"- {size}",
        "configs:",
        "- config_name: default",
        "  data_files:",
    ]
    for split in export.splits:
        path = f"data/{HUB_SPLITS[split]}-*.parquet" if form == "parquet" else f"{HUB_SPLITS[split]}/**"
        lines += [f"  - split: {HUB_SPLITS[split]}", f"    path: {json.dumps(path)}"]
    return "---\n" + "\n".join(lines) + "\n---\n\n"


def _lead(export: ExportSet, statistics: SetStatistics) -> str:
    description = export.description
    keypoints = f" and {len(description.keypoints)} keypoints" if description.keypoints else ""
    return (
        f"{len(export.rows):,} generated images of {statistics.height} x {statistics.width} pixels, each with a label "
        f"map of {len(description.classes)} classes{keypoints}. No photograph is in it: an image generator drew the "
        "images and a network trained on a few labelled samples of that generator labelled them (DatasetGAN, Zhang et "
        "al. 2021).\n\n![Images with their labels](gallery.png)"
    )


def _made(export: ExportSet) -> str:
    description = export.description
    rows = [
        ("generator, sha256", f"`{description.generator_sha256}`"),
        ("interpreter, sha256", f"`{description.interpreter_sha256}`"),
        *((name.replace("_", " "), f"`{value}`") for name, value in description.recipe.items()),
        *((f"{name}", f"`{value}`") for name, value in sorted(export.provenance.get("config", {}).items())),
        ("labelled set, fingerprint", f"`{export.provenance.get('fingerprint', 'made by hand')}`"),
        ("export, fingerprint", f"`{export.fingerprint or 'made by hand'}`"),
    ]
    text = (
        "## How it was made\n\nEvery image has a seed and a latent code, stored with it: the generator of this sha256 "
        "makes the image again, and the interpreter of this sha256 its labels.\n\n"
    )
    return text + _table(("what", "value"), rows)


def _splits(export: ExportSet) -> str:
    rows = [(split, f"{export.count(split):,}") for split in export.splits]
    return "## Splits\n\n" + _table(("split", "images"), rows)


def _classes(export: ExportSet, statistics: SetStatistics) -> str:
    rows = [
        (
            str(entry.id),
            _escape(entry.name),
            "#{:02x}{:02x}{:02x}".format(*colour),
            _percent(entry.pixel_share),
            f"{entry.images:,}",
        )
        for entry, colour in zip(statistics.classes, export.description.palette, strict=True)
    ]
    return _table(("id", "class", "colour", "pixels", "images"), rows)


def _keypoints(statistics: SetStatistics) -> str:
    rows = [
        (
            _escape(entry.name),
            f"{entry.visible_images:,}",
            _percent(entry.visible_images / max(statistics.images, 1)),
            f"{entry.mean_visibility:.3f}",
        )
        for entry in statistics.keypoints
    ]
    return _table(("keypoint", "visible in images", "share", "mean visibility"), rows)


def _uncertainty(statistics: SetStatistics) -> str:
    found = statistics.uncertainty
    rows = [
        (f"{low:.4g} to {high:.4g}", f"{kept:,}", f"{dropped:,}")
        for low, high, kept, dropped in zip(found.edges, found.edges[1:], found.kept, found.dropped, strict=False)
    ]
    return "Uncertainty of the images, as the interpreter scores it (low is certain):\n\n" + _table(
        ("uncertainty", "kept", "dropped"), rows
    )


def _dropped(statistics: SetStatistics, dropped: Sequence[Mapping[str, Any]]) -> str:
    total = statistics.images + statistics.dropped
    text = f"## Dropped\n\n{statistics.dropped:,} of {total:,} images were dropped."
    if not dropped:
        return text
    return (
        text + "\n\n" + _table(("reason", "images"), [(_escape(str(e["reason"])), f"{e['images']:,}") for e in dropped])
    )


def _license(name: str) -> str:
    text = (
        "No licence has been given to this data set. Whoever passes it on decides, and looks first at the licences of "
        "the generator and of the images it was trained on."
        if name == UNSPECIFIED
        else f"{name}, as given by whoever exported the data set."
    )
    return "## Licence\n\n" + text


def _limits() -> str:
    return (
        "## Limits\n\nThe labels are predictions: no person has looked at them one by one. The images are as varied as "
        "the generator's, and carry whatever bias its training images had."
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
