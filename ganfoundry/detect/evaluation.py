"""How good a detector and the filter built on it are, on scenes that no training ever saw."""

import contextlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ganfoundry.data.seeds import EVALUATION
from ganfoundry.detect.backends import Detector
from ganfoundry.detect.filtering import FilterRule, Instances, decide, true_decision
from ganfoundry.detect.scenes import MIN_SHARE, Scenes, render_scenes

if TYPE_CHECKING:
    from ganfoundry.worlds import World


@dataclass(frozen=True)
class FilterQuality:
    """Agreement of the filter with the same rules applied to exact masks.

    Attributes
    ----------
    precision : float
        Share of the kept views that should be kept; nan if none was.
    recall : float
        Share of the views to be kept that were; nan if there was none.
    accuracy : float
        Share of the views decided alike.
    mask_iou : float
        Mean intersection over union of the kept mask with the exact one, over views rightly kept.
    views : int
    """

    precision: float
    recall: float
    accuracy: float
    mask_iou: float
    views: int


def held_out_scenes(world: "World", count: int, resolution: int, seed: int = 0) -> Scenes:
    """Scenes from the evaluation stream, which shares no seed with any training stream."""
    return render_scenes(world, seed, EVALUATION, 0, count, resolution)


def filter_quality(found: Sequence[Instances], instances: NDArray[np.uint8], rule: FilterRule) -> FilterQuality:
    """Compare the filter's decisions on N images with the decisions on their exact instance maps (N, H, W)."""
    kept, wanted, overlap = [], [], []
    for detections, ids in zip(found, instances, strict=True):
        ours, truth = decide(detections, rule), true_decision(ids, rule, MIN_SHARE)
        kept.append(ours.keep)
        wanted.append(truth.keep)
        if ours.keep and truth.keep:
            overlap.append((ours.mask & truth.mask).sum() / (ours.mask | truth.mask).sum())
    k, w = np.array(kept, bool), np.array(wanted, bool)
    both = (k & w).sum()
    return FilterQuality(
        precision=float(both / k.sum()) if k.any() else float("nan"),
        recall=float(both / w.sum()) if w.any() else float("nan"),
        accuracy=float((k == w).mean()),
        mask_iou=float(np.mean(overlap)) if overlap else float("nan"),
        views=len(k),
    )


def mask_average_precision(found: Sequence[Instances], instances: NDArray[np.uint8]) -> dict[str, float]:
    """COCO's mask AP, computed by pycocotools, one class.

    Parameters
    ----------
    found : N Instances
        Detections down to a low score; the threshold sweeps them.
    instances : (N, H, W) uint8
        Exact ids; objects below `MIN_SHARE` of the image are "crowd" and neither wanted nor punished.

    Returns
    -------
    dict
        "mask_ap" (mean over IoU 0.50:0.05:0.95), "mask_ap50", "mask_ap75".
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = _coco_truth(instances)
    results = _coco_results(found)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if not results:
            return {"mask_ap": 0.0, "mask_ap50": 0.0, "mask_ap75": 0.0}
        evaluation = COCOeval(truth, truth.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ap75 = (float(value) for value in evaluation.stats[:3])
    return {"mask_ap": ap, "mask_ap50": ap50, "mask_ap75": ap75}


def _coco_truth(instances: NDArray[np.uint8]) -> dict[str, Any]:
    annotations: list[dict[str, Any]] = []
    for image, ids in enumerate(instances):
        for value, pixels in zip(*np.unique(ids[ids > 0], return_counts=True), strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": 1,
                    "segmentation": _encode(ids == value),
                    "area": int(pixels),
                    "bbox": [0, 0, 0, 0],
                    "iscrowd": int(pixels < MIN_SHARE * ids.size),
                }
            )
    height, width = instances.shape[1:]
    images = [{"id": image, "height": height, "width": width} for image in range(len(instances))]
    return {"info": {}, "images": images, "categories": [{"id": 1, "name": "object"}], "annotations": annotations}


def _coco_results(found: Sequence[Instances]) -> list[dict[str, Any]]:
    return [
        {"image_id": image, "category_id": 1, "segmentation": _encode(mask), "score": float(score)}
        for image, detections in enumerate(found)
        for mask, score in zip(detections.masks, detections.scores, strict=True)
    ]


def _encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    from pycocotools import mask as coco_mask

    encoded: dict[str, Any] = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    return encoded


def evaluate_detector(
    detector: Detector, world: "World", rule: FilterRule, count: int, seed: int = 0
) -> dict[str, float]:
    """Figures of a detector on `count` held-out scenes, at 128 px and at 64 px.

    Returns
    -------
    dict
        mask_ap, mask_ap50, mask_ap75 (128 px), mask_ap_64 and mask_ap50_64, filter_precision, filter_recall,
        filter_accuracy and kept_mask_iou (64 px, as generated views are), scenes, ms_per_image (64 px, processor time
        of all threads: what else the machine does matters little).
    """
    large = held_out_scenes(world, count, 128, seed)
    small = held_out_scenes(world, count, 64, seed)
    figures = mask_average_precision(detector.detect(large.image), large.instances)
    detector.detect(small.image[:4])
    began = time.process_time()
    found = detector.detect(small.image)
    seconds = time.process_time() - began
    at_64 = mask_average_precision(found, small.instances)
    quality = filter_quality(found, small.instances, rule)
    return figures | {
        "mask_ap_64": at_64["mask_ap"],
        "mask_ap50_64": at_64["mask_ap50"],
        "filter_precision": quality.precision,
        "filter_recall": quality.recall,
        "filter_accuracy": quality.accuracy,
        "kept_mask_iou": quality.mask_iou,
        "scenes": float(count),
        "ms_per_image": 1000 * seconds / count,
    }
