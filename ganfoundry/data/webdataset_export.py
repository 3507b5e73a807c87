"""An export as WebDataset: tar files whose members of one name but different endings are one sample.

    train-000000.tar    00000012.png         image, RGB
                        00000012.label.png   class ids, 8-bit grey
                        00000012.json        row, seed, score, keep, keypoints
                        00000012.w.npy       latent code, float32
    dataset.json        classes, palette, keypoint names, number of samples and tar files of each split

The members have no times and no owners, so the same samples give the same bytes.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator

import numpy as np

from ganfoundry.data.exporting import Block, ExportSet, PartWriter, Records, Sample, samples
from ganfoundry.data.png import encode_png


def write_block(block: Block, part: PartWriter) -> None:
    """Write the tar file of a block."""
    name = f"{block.split}-{block.number:06d}.tar"
    with part.big(name) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as archive:  # type: ignore[call-overload]
        for sample in samples(block):
            for ending, data in _members(sample):
                member = tarfile.TarInfo(f"{sample.row:08d}.{ending}")
                member.size, member.mode = len(data), 0o644
                archive.addfile(member, io.BytesIO(data))
    part.row({"split": block.split, "file": name, "samples": len(block.rows)})


def _members(sample: Sample) -> Iterator[tuple[str, bytes]]:
    """Return ending and content, sorted by ending."""
    latent = io.BytesIO()
    np.save(latent, sample.w)
    yield "json", json.dumps(sample.facts()).encode()
    yield "label.png", encode_png(sample.label)
    yield "png", encode_png(sample.image)
    yield "w.npy", latent.getvalue()


def finish(export: ExportSet, records: Records, part: PartWriter) -> dict[str, int]:
    """Write dataset.json."""
    files = {split: [record["file"] for record in records(split)] for split in export.splits}
    table = {
        "name": export.name,
        "license": export.license,
        "classes": export.description.classes,
        "palette": export.description.palette,
        "keypoints": export.description.keypoints,
        "samples": {split: export.count(split) for split in export.splits},
        "files": files,
    }
    part.put("dataset.json", (json.dumps(table, indent=1) + "\n").encode())
    return {"tar_files": sum(map(len, files.values()))}
