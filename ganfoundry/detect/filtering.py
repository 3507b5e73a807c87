"""GANverse3D's rules for keeping a generated view (Zhang et al. 2021, section 3.1), as pure functions.

A view is kept if the detector finds exactly one object in it and its mask covers at least 10 % of the image. Every
rejection has one reason: a code, stored in the shards, and a sentence, written beside the examples.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Reason(IntEnum):
    """Why a view was kept or dropped. The numbers are part of the data format: never renumber, only append."""

    KEPT = 0
    NO_INSTANCE = 1
    SEVERAL_INSTANCES = 2
    SMALL_MASK = 3


REASONS = ("kept", "no instance", "several instances", "mask too small")
"""Words for each reason; the index is the code."""


@dataclass(frozen=True)
class Instances:
    """Objects that a detector found in one image, best score first.

    Attributes
    ----------
    masks : (n, H, W) bool
    scores : (n,) float32 in [0, 1]
    boxes : (n, 4) float32
        x1, y1, x2, y2 in pixels; the top-left corner of the image is (0, 0).
    labels : (n,) int64
        Class of each object, >= 1.
    """

    masks: NDArray[np.bool_]
    scores: NDArray[np.float32]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    def rows(self, index: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Instances":
        """Pick instances."""
        return Instances(self.masks[index], self.scores[index], self.boxes[index], self.labels[index])


@dataclass(frozen=True)
class FilterRule:
    """Which views are kept.

    Attributes
    ----------
    score_threshold : float in [0, 1]
        Detections below it are not counted. The paper gives no value.
    min_area : float in [0, 1]
        Least share of the image that the mask of a kept view covers.
    labels : collection of int
        Classes that count; empty: all.
    max_overlap : float in [0, 1]
        A detection of which a larger share lies inside a better-scoring one is that same object again, or a part of it,
        and does not count. Boxes alone do not tell: those of two cars, one behind the other, overlap, their masks do
        not. 1: everything counts.
    """

    score_threshold: float = 0.5
    min_area: float = 0.10
    labels: Collection[int] = ()
    max_overlap: float = 0.7


@dataclass(frozen=True)
class Decision:
    """What the rules say about one view.

    Attributes
    ----------
    reason : Reason
    instances : int
        Objects that counted.
    mask : (H, W) bool
        The mask of the best-scoring one; all False if there is none.
    score : float
        Its score; 0 if there is none.
    area : float
        Share of the image that `mask` covers.
    """

    reason: Reason
    instances: int
    mask: NDArray[np.bool_]
    score: float
    area: float

    @property
    def keep(self) -> bool:
        """Whether the view stays in the data set."""
        return self.reason is Reason.KEPT


def distinct(found: Instances, max_overlap: float) -> Instances:
    """Drop detections that mostly lie inside a better-scoring one that stays; see `FilterRule.max_overlap`."""
    kept: list[int] = []
    for row in np.argsort(-found.scores, kind="stable").tolist():
        mask = found.masks[row]
        inside = max((int((mask & found.masks[other]).sum()) for other in kept), default=0)
        if inside <= max_overlap * int(mask.sum()):
            kept.append(row)
    return found.rows(np.array(kept, np.int64))


def decide(found: Instances, rule: FilterRule) -> Decision:
    """Apply the rules to the detections of one image.

    Parameters
    ----------
    found : Instances
        In any order; (0, H, W) masks if there are none.
    rule : FilterRule

    Returns
    -------
    Decision
    """
    counted = found.scores >= rule.score_threshold
    if rule.labels:
        counted &= np.isin(found.labels, list(rule.labels))
    objects = distinct(found.rows(counted), rule.max_overlap)
    if len(objects) == 0:
        return Decision(Reason.NO_INSTANCE, 0, np.zeros(found.masks.shape[1:], bool), 0.0, 0.0)
    mask = objects.masks[0]
    area = float(mask.mean())
    if len(objects) > 1:
        reason = Reason.SEVERAL_INSTANCES
    else:
        reason = Reason.SMALL_MASK if area < rule.min_area else Reason.KEPT
    return Decision(reason, len(objects), mask, float(objects.scores[0]), area)


def explain(reason: Reason | int, instances: int, area: float, rule: FilterRule) -> str:
    """One short line for people, e.g. "2 instances" or "mask 7.4 % < 10 %"."""
    match Reason(reason):
        case Reason.SEVERAL_INSTANCES:
            return f"{instances} instances"
        case Reason.SMALL_MASK:
            return f"mask {100 * area:.1f} % < {100 * rule.min_area:g} %"
        case other:
            return REASONS[other]


def count_reasons(codes: Iterable[int]) -> dict[str, int]:
    """Number of views per reason, every reason listed, also those that did not occur."""
    values = np.bincount(np.fromiter(codes, np.int64), minlength=len(Reason))
    return {REASONS[reason]: int(values[reason]) for reason in Reason}


def true_decision(instances: NDArray[np.integer], rule: FilterRule, min_share: float = 0.0015) -> Decision:
    """Apply the rules to exact instance ids, as an oracle detector would.

    Parameters
    ----------
    instances : (H, W) int
        0 background, 1..n the objects.
    min_share : float
        An object of which less than this share of the image is visible does not count.
    """
    ids, counts = np.unique(instances[instances > 0], return_counts=True)
    ids = ids[counts >= min_share * instances.size]
    masks = instances[None] == ids[:, None, None]
    ones = np.ones(len(ids), np.float32)
    boxes = np.zeros((len(ids), 4), np.float32)
    return decide(Instances(masks, ones, boxes, np.ones(len(ids), np.int64)), FilterRule(0.0, rule.min_area))
