"""An export as plain folders: ``images/``, ``masks/`` with the class ids, ``keypoints.json``, ``splits/*.txt``."""

from __future__ import annotations

import json

from ganfoundry.data.exporting import Block, ExportSet, PartWriter, Records, rounded, samples
from ganfoundry.data.png import encode_png, image_name


def write_block(block: Block, part: PartWriter) -> None:
    """Write the images and the label maps of a block."""
    for sample in samples(block):
        name = image_name(sample.row)
        part.put(f"images/{name}", encode_png(sample.image))
        part.put(f"masks/{name}", encode_png(sample.label, block.description.palette))
        found = None if sample.keypoints is None else rounded(sample.keypoints)
        part.row({"name": name, "keypoints": found})


def finish(export: ExportSet, records: Records, part: PartWriter) -> dict[str, int]:
    """Write the classes, the lists of the splits and the keypoints."""
    description = export.description
    classes = [
        {"id": index, "name": name, "colour": list(colour)}
        for index, (name, colour) in enumerate(zip(description.classes, description.palette, strict=True))
    ]
    part.put("classes.json", (json.dumps(classes, indent=1) + "\n").encode())
    for split in export.splits:
        with part.big(f"splits/{split}.txt") as file:
            for record in records(split):
                file.write(f"{record['name']}\n".encode())
    if description.keypoints:
        with part.big("keypoints.json") as file:
            file.write(f'{{"names": {json.dumps(description.keypoints)}, "images": {{'.encode())
            between = "\n"
            for split in export.splits:
                for record in records(split):
                    file.write(f'{between}"{record["name"]}": {json.dumps(record["keypoints"])}'.encode())
                    between = ",\n"
            file.write(b"}}\n")
    return {}
