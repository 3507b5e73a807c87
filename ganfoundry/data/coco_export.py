"""An export as a COCO folder: ``images/`` and one file of annotations for each split.

Each image has one annotation for each part it shows and one for the whole object, which holds the keypoints.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from ganfoundry.data.coco import categories, image_annotations
from ganfoundry.data.exporting import Block, ExportSet, PartWriter, Records, samples
from ganfoundry.data.png import encode_png, image_name


def write_block(block: Block, part: PartWriter) -> None:
    """Write the images of a block; leave their annotations for :func:`finish`."""
    for sample in samples(block):
        part.put(f"images/{image_name(sample.row)}", encode_png(sample.image))
        height, width = sample.label.shape
        found = image_annotations(sample.label, len(block.description.classes), sample.keypoints)
        part.row({"row": sample.row, "height": height, "width": width, "annotations": found})


def annotations_name(split: str, splits: Sequence[str]) -> str:
    """Name of a split's annotations: plain when there is one split only."""
    return "annotations.json" if len(splits) == 1 else f"annotations-{split}.json"


def finish(export: ExportSet, records: Records, part: PartWriter) -> dict[str, int]:
    """Write the annotations of every split, never holding more than one image's.

    Returns
    -------
    dict
        ``coco_annotations``, their number.
    """
    total = 0
    for split in export.splits:
        with part.big(annotations_name(split, export.splits)) as file:
            for text in _pieces(export, split, records):
                file.write(text.encode())
        total += sum(len(record["annotations"]) for record in records(split))
    return {"coco_annotations": total}


def _pieces(export: ExportSet, split: str, records: Records) -> Iterator[str]:
    description = export.description
    sources = f"generator sha256 {description.generator_sha256}, interpreter sha256 {description.interpreter_sha256}"
    head = {
        "info": {"description": f"{export.name}: labelled GAN images, {split}; {sources}", "version": "1"},
        "licenses": [{"id": 1, "name": export.license, "url": ""}],
        "categories": categories(description.classes, description.keypoints),
    }
    yield json.dumps(head)[:-1]
    yield ', "images": ['
    yield from _joined(_image(record) for record in records(split))
    yield '], "annotations": ['
    yield from _joined(_annotations(records(split)))
    yield "]}\n"


def _image(record: dict[str, Any]) -> dict[str, Any]:
    row = record["row"]
    size = {"height": record["height"], "width": record["width"]}
    return {"id": row, "file_name": f"images/{image_name(row)}", **size, "license": 1}


def _annotations(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    number = 0
    for record in records:
        for annotation in record["annotations"]:
            number += 1
            yield {"id": number, "image_id": record["row"], **annotation}


def _joined(items: Iterator[dict[str, Any]]) -> Iterator[str]:
    for index, item in enumerate(items):
        yield ("" if index == 0 else ",") + "\n" + json.dumps(item)
