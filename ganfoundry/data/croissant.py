"""Croissant metadata of an export: ``croissant.json``, JSON-LD in the vocabulary of MLCommons Croissant 1.0.

https://docs.mlcommons.org/croissant/docs/croissant-spec.html.  Files are named relative to the JSON file.  What a
Croissant reader can open (pictures in folders, parquet) is described field by field; HDF5 and tar files are named.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ganfoundry.data.card import UNSPECIFIED
from ganfoundry.data.exporting import ExportSet

CONTEXT: Mapping[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
NO_LICENSE = "No licence has been given."
FOLDERS = {
    "coco": (("images", "image/png", "images/*.png"), ("annotations", "application/json", "annotations*.json")),
    "webdataset": (("files", "application/x-tar", "*.tar"),),
    "huggingface": (
        ("images", "image/png", "*/images/*.png"),
        ("masks", "image/png", "*/labels/*.png"),
        ("metadata", "application/jsonlines", "*/metadata.jsonl"),
    ),
    "parquet": (("rows", "application/x-parquet", "data/*.parquet"),),
    "png": (("images", "image/png", "images/*.png"), ("masks", "image/png", "masks/*.png")),
}
"""Format -> its sets of files: name, encoding, pattern relative to the folder."""
COLUMNS = {"row": "sc:Integer", "seed": "sc:Integer", "score": "sc:Float", "keep": "sc:Boolean"}


def croissant(
    export: ExportSet,
    size: tuple[int, int],
    formats: Sequence[str],
    hdf5: tuple[int, str] | None,
) -> dict[str, Any]:
    """Return the JSON-LD object.

    ``creator`` and ``datePublished`` are for whoever publishes the data set to add; ``url`` is a name made of the
    export's fingerprint until it has a place.

    Parameters
    ----------
    export : ExportSet
    size : (int, int)
        Height and width of the images.
    formats : sequence of str
        Formats that are folders.
    hdf5 : (int, str) or None
        Size and sha256 of dataset.h5.
    """
    description = export.description
    keypoints = f" and keypoints ({', '.join(description.keypoints)})" if description.keypoints else ""
    text = (
        f"{len(export.rows)} generated images of {size[0]} x {size[1]} pixels with label maps of "
        f"{len(description.classes)} classes ({', '.join(description.classes)}){keypoints}. Generator sha256 "
        f"{description.generator_sha256}, interpreter sha256 {description.interpreter_sha256}."
    )
    distribution = [] if hdf5 is None else [_hdf5_file(*hdf5)]
    for name in formats:
        distribution += _file_sets(name)
    return {
        "@context": dict(CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": re.sub(r"[^A-Za-z0-9_.-]+", "-", export.name) or "dataset",
        "description": text,
        "license": NO_LICENSE if export.license == UNSPECIFIED else export.license,
        "url": f"urn:sha256:{export.fingerprint or 'unknown'}",
        "version": "1.0.0",
        "isLiveDataset": False,
        "distribution": distribution,
        "recordSet": [_classes(export), *(_records(name) for name in formats if name != "webdataset")],
    }


def _hdf5_file(size: int, digest: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        "@id": "dataset.h5",
        "name": "dataset.h5",
        "description": "Everything in one HDF5 file.",
        "contentUrl": "dataset.h5",
        "contentSize": f"{size} B",
        "encodingFormat": "application/x-hdf5",
        "sha256": digest,
    }


def _file_sets(name: str) -> list[dict[str, Any]]:
    """Return the sets of files of a format; their patterns are relative to croissant.json."""
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{name}-{part}",
            "name": f"{name}-{part}",
            "encodingFormat": encoding,
            "includes": f"{name}/{pattern}",
        }
        for part, encoding, pattern in FOLDERS[name]
    ]


def _classes(export: ExportSet) -> dict[str, Any]:
    fields = [_field("classes", "id", "sc:Integer"), _field("classes", "name", "sc:Text")]
    data = [{"classes/id": index, "classes/name": name} for index, name in enumerate(export.description.classes)]
    return {
        "@type": "cr:RecordSet",
        "@id": "classes",
        "name": "classes",
        "description": "Ids in the label maps.",
        "dataType": "sc:Enumeration",
        "key": {"@id": "classes/id"},
        "field": fields,
        "data": data,
    }


def _records(name: str) -> dict[str, Any]:
    """Describe the samples of a format: pictures by file name, or the columns of the parquet files."""
    if name == "parquet":
        source = {"fileSet": {"@id": "parquet-rows"}}
        fields = [
            _field(name, column, kind, {**source, "extract": {"column": column}}) for column, kind in COLUMNS.items()
        ]
    else:
        source = {"fileSet": {"@id": f"{name}-images"}}
        fields = [
            _field(name, "name", "sc:Text", {**source, "extract": {"fileProperty": "filename"}}),
            _field(name, "image", "sc:ImageObject", {**source, "extract": {"fileProperty": "content"}}),
        ]
    return {"@type": "cr:RecordSet", "@id": f"{name}-samples", "name": f"{name}-samples", "field": fields}


def _field(record_set: str, name: str, kind: str, source: Mapping[str, Any] | None = None) -> dict[str, Any]:
    prefix = record_set if record_set == "classes" else f"{record_set}-samples"
    found: dict[str, Any] = {"@type": "cr:Field", "@id": f"{prefix}/{name}", "name": name, "dataType": kind}
    return found if source is None else found | {"source": dict(source)}
