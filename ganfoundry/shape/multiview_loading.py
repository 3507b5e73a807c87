"""Reading a multi-view set from its shards: images, the filter's masks and verdicts, and perhaps labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ganfoundry.data.shards import ShardReader
from ganfoundry.shape.multiview import MultiView, check_same_set
from ganfoundry.views.codes import ViewCodeSet


def load_multiview(views: Path, filtered: Path, codes: ViewCodeSet, labels: Path | None = None) -> MultiView:
    """Kept images of a multi-view set, in memory.

    Parameters
    ----------
    views, filtered, labels : Path
        Folders of generate-views, filter-views and label-views; without labels there are no parts and keypoints.
    codes : ViewCodeSet
        Those that the set was made with.

    Raises
    ------
    InputError
        If the folders belong to different sets, or the codes to another one.
    """
    images, verdicts = ShardReader(views / "shards"), ShardReader(filtered / "shards")
    counts = [("the multi-view set", len(images)), ("the filter's result", len(verdicts))]
    keep = np.flatnonzero(verdicts.read("keep"))
    optional, names = {}, {}
    if labels is not None:
        found = ShardReader(labels / "shards")
        counts.append(("the labels", len(found)))
        check_same_set(counts)
        optional["parts"] = found.read("label")[keep]
        optional["certainty"] = found.read("certainty")[keep].astype(np.float32)
        if "keypoints" in found.fields:
            optional["keypoints"] = found.read("keypoints")[keep]
        table = json.loads((labels / "labels.json").read_text())
        names = {"part_names": tuple(table["classes"]), "keypoint_names": tuple(table["keypoints"])}
    check_same_set(counts)
    middles = [codes.bins.first + codes.bins.width * code.bin for code in codes.codes]
    return MultiView(
        images=images.read("image")[keep],
        masks=verdicts.read("mask")[keep].astype(bool),
        objects=images.read("object")[keep].astype(np.int64),
        codes=images.read("view")[keep].astype(np.int64),
        azimuths=tuple(float(middle) for middle in middles),
        **optional,
        **names,
    )
