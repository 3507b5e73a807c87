"""COCO's encodings: exact masks as run lengths, boxes, categories, keypoints.

Masks are stored as compressed run lengths, exact to the pixel, as COCO's own ``annotations.json`` stores crowds and as
every reader built on pycocotools accepts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError

Mask = npt.NDArray[np.bool_]


def encode_rle(mask: npt.NDArray[Any]) -> dict[str, Any]:
    """Return a mask in COCO's compressed run-length encoding.

    Run lengths, in column order, starting with the zeros; from the third on, each is stored as the difference to the
    one before the last; then groups of five bits, least first, each with a flag "more follow", as characters from "0".

    Parameters
    ----------
    mask : ndarray (H, W)
        Nonzero inside.

    Returns
    -------
    dict
        ``size`` [H, W] and ``counts``, a string.
    """
    flat = np.asarray(mask, bool).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0], changes, [flat.size]))
    runs = np.diff(edges).tolist()
    if flat.size and flat[0]:
        runs.insert(0, 0)
    deltas = [run - runs[i - 2] if i > 2 else run for i, run in enumerate(runs)]
    return {"size": [int(n) for n in mask.shape], "counts": "".join(map(_encode_number, deltas))}


def decode_rle(rle: Mapping[str, Any]) -> Mask:
    """Return the mask (H, W) of a compressed run-length encoding.

    Raises
    ------
    InputError
        If the text is not one, or its runs do not fill the size.
    """
    height, width = rle["size"]
    runs: list[int] = []
    value = shift = 0
    for character in rle["counts"]:
        group = ord(character) - 48
        if not 0 <= group < 64:
            raise InputError(f"run lengths hold the character {character!r}")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (group & 16) << (shift - 4)  # the last group's top bit is the sign
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift or min(runs, default=0) < 0 or sum(runs) != height * width:
        raise InputError(f"run lengths do not fill a mask of {height} x {width}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((height, width), order="F")


def _encode_number(number: int) -> str:
    characters = []
    while True:
        group = number & 31
        number >>= 5  # arithmetic, so a negative number ends in -1
        more = number != (-1 if group & 16 else 0)
        characters.append(chr(48 + group + 32 * more))
        if not more:
            return "".join(characters)


def mask_annotation(mask: Mask, category: int) -> dict[str, Any]:
    """Return the annotation of one non-empty mask (H, W): category, exact mask, bounding box, area in pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return {
        "category_id": category,
        "segmentation": encode_rle(mask),
        "bbox": [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        "area": int(mask.sum()),
        "iscrowd": 0,
    }


VISIBLE = 0.5
"""Visibility from which a keypoint counts as seen."""


def image_annotations(
    label: npt.NDArray[np.uint8], num_classes: int, keypoints: npt.NDArray[np.float32] | None = None
) -> list[dict[str, Any]]:
    """Return one annotation for each part seen in a label map (H, W), then one for the whole object.

    Parameters
    ----------
    label : ndarray, uint8 (H, W)
        Class ids; 0 is background.
    num_classes : int
        Number of classes, background included; it is also the category of the whole object.
    keypoints : ndarray, float32 (K, 3), optional
        x, y, visibility 0 to 1; they go to the whole object.

    Raises
    ------
    InputError
        If the map holds an id that is no class.
    """
    present = np.unique(label)
    if present[-1] >= num_classes:
        raise InputError(f"a label map holds the class {present[-1]}, but there are only {num_classes} classes")
    parts = [mask_annotation(label == part, int(part)) for part in present if part]
    if not parts:
        return []
    thing = mask_annotation(label > 0, num_classes)
    if keypoints is not None:
        thing |= keypoint_entries(keypoints)
    return [*parts, thing]


def keypoint_entries(keypoints: npt.NDArray[np.float32]) -> dict[str, Any]:
    """Return ``keypoints`` and ``num_keypoints`` of an annotation.

    COCO counts pixels from 0 at the centre of the first one, where this project has 0.5.  A keypoint of a visibility
    below one half is written as three zeros, COCO's "not labelled"; any other as visible (2).

    Parameters
    ----------
    keypoints : ndarray, float32 (K, 3)
        x, y in pixels, visibility 0 to 1.
    """
    seen = keypoints[:, 2] >= VISIBLE
    flat: list[float] = []
    for (x, y, _), visible in zip(keypoints.tolist(), seen.tolist(), strict=True):
        flat += [round(x - 0.5, 2), round(y - 0.5, 2), 2] if visible else [0, 0, 0]
    return {"keypoints": flat, "num_keypoints": int(seen.sum())}


def categories(classes: Sequence[str], keypoints: Sequence[str] = (), thing: str = "object") -> list[dict[str, Any]]:
    """Return COCO's categories: the parts with their class ids (background has none), then the whole object."""
    parts = [{"id": index, "name": name, "supercategory": "part"} for index, name in enumerate(classes) if index]
    whole: dict[str, Any] = {"id": len(classes), "name": thing, "supercategory": "object"}
    if keypoints:
        whole |= {"keypoints": list(keypoints), "skeleton": []}
    return [*parts, whole]
