"""Reading a multi-view set from its shards: images, the filter's masks and verdicts, and perhaps labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganfoundry.data.shards import ShardReader
from ganfoundry.shape.multiview import MultiView, check_same_set
from ganfoundry.views.codes import ViewCodeSet

_ALIKE = 0.75  # IoU below which one of two outlines is wrong


def load_multiview(
    views: Path,
    filtered: Path,
    codes: ViewCodeSet,
    labels: Path | None = None,
    *,
    everything: bool = False,
    masks: Literal["labels", "filter"] = "labels",
    size: int | None = None,
) -> MultiView:
    """Kept images of a multi-view set, in memory.

    Parameters
    ----------
    views, filtered, labels : Path
        Folders of generate-views, filter-views and label-views; without labels there are no parts and keypoints.
    codes : ViewCodeSet
        Those that the set was made with.
    everything : bool
        Take the images that the filter dropped, too.
    masks : "labels" or "filter"
        Whose outlines are learnt. A Mask R-CNN draws an object with 28 pixels a side, and cuts wheels off; the labels'
        outline is as sharp as the generator's own maps. Where the two differ much, and without labels, it is the
        filter's.
    size : int, optional
        Larger images are halved for as long as they do not become smaller than that.

    Raises
    ------
    InputError
        If the folders belong to different sets, or the codes to another one.
    """
    images, verdicts = ShardReader(views / "shards"), ShardReader(filtered / "shards")
    counts = [("the multi-view set", len(images)), ("the filter's result", len(verdicts))]
    keep = np.arange(len(images)) if everything else np.flatnonzero(verdicts.read("keep"))
    optional: dict[str, Any] = {}
    names: dict[str, Any] = {}
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
    outlines = verdicts.read("mask")[keep].astype(bool)
    if masks == "labels" and "parts" in optional:
        sharp = np.stack([_largest_piece(label > 0) for label in optional["parts"]])
        outlines = np.where(_agree(sharp, outlines)[:, None, None], sharp, outlines)
    middles = [codes.bins.first + codes.bins.width * code.bin for code in codes.codes]
    data = MultiView(
        images=images.read("image")[keep],
        masks=outlines,
        objects=images.read("object")[keep].astype(np.int64),
        codes=images.read("view")[keep].astype(np.int64),
        azimuths=tuple(float(middle) for middle in middles),
        **optional,
        **names,
    )
    return data if size is None else data.at_most(size)


def _largest_piece(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest connected piece of a mask, without holes; an empty mask stays empty."""
    pieces, count = ndimage.label(mask)
    if count > 1:
        mask = pieces == 1 + np.bincount(pieces[pieces > 0] - 1).argmax()
    filled: NDArray[np.bool_] = ndimage.binary_fill_holes(mask)
    return filled


def _agree(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which masks (N, S, S) have an IoU with each other of `_ALIKE` at least."""
    either: NDArray[np.int64] = (a | b).sum((1, 2))
    alike: NDArray[np.bool_] = (a & b).sum((1, 2)) >= _ALIKE * np.maximum(either, 1)
    return alike
