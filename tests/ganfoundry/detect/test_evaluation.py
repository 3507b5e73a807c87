import numpy as np
import pytest

from ganfoundry.data.seeds import EVALUATION, WORLD, sample_integer
from ganfoundry.detect.evaluation import evaluate_detector, filter_quality, held_out_scenes, mask_average_precision
from ganfoundry.detect.filtering import FilterRule, Instances


def perfect(ids, scores=None):
    values = np.unique(ids[ids > 0])
    count = len(values)
    return Instances(
        ids[None] == values[:, None, None],
        np.ones(count, np.float32) if scores is None else np.array(scores, np.float32),
        np.zeros((count, 4), np.float32),
        np.ones(count, np.int64),
    )


NOTHING = perfect(np.zeros((40, 40), np.uint8))


@pytest.fixture
def maps():
    ids = np.zeros((4, 40, 40), np.uint8)
    ids[0, 5:25, 5:25] = 1
    ids[1, 5:15, 5:15], ids[1, 20:35, 20:35] = 1, 2
    ids[2, 0:20, 0:30] = 1
    return ids


def test_average_precision_of_the_truth_is_one(maps):
    assert mask_average_precision([perfect(ids) for ids in maps], maps) == {
        "mask_ap": 1,
        "mask_ap50": 1,
        "mask_ap75": 1,
    }


def test_average_precision_by_hand(maps):
    # Two of four objects found, all detections right: precision 1 up to recall 0.5. COCO averages the precision at the
    # 101 recalls 0, 0.01, ..., 1, of which 51 are reached.
    found = [perfect(maps[0]), NOTHING, perfect(maps[2]), NOTHING]
    assert mask_average_precision(found, maps)["mask_ap50"] == pytest.approx(51 / 101)
    assert mask_average_precision([NOTHING] * 4, maps)["mask_ap"] == 0


def test_average_precision_counts_overlap(maps):
    # A mask shifted by 2 of 20 columns: IoU 18 / 22 = 0.818, a hit at 0.50 to 0.80 (7 of 10 thresholds).
    shifted = np.roll(maps[:1], 2, axis=2)
    figures = mask_average_precision([perfect(shifted[0])], maps[:1])
    assert figures == pytest.approx({"mask_ap": 0.7, "mask_ap50": 1, "mask_ap75": 1})


def test_slivers_are_neither_wanted_nor_punished(maps):
    maps[0, 39, 39] = 2
    without = [perfect(np.where(ids == 2, 0, ids)) if row == 0 else perfect(ids) for row, ids in enumerate(maps)]
    assert mask_average_precision(without, maps)["mask_ap"] == 1
    assert mask_average_precision([perfect(ids) for ids in maps], maps)["mask_ap"] == 1


def test_filter_quality_by_hand(maps):
    # Truth keeps images 0 and 2. The detector misses object 2 of image 1 (wrongly kept? no: 100 / 1600 < 10 %) ...
    found = [perfect(ids) for ids in maps]
    quality = filter_quality(found, maps, FilterRule())
    assert (quality.precision, quality.recall, quality.accuracy, quality.mask_iou, quality.views) == (1, 1, 1, 1, 4)
    found[1] = found[1].rows(np.array([1]))  # ... but alone object 2, 14 % of the image, is wrongly kept
    found[2] = NOTHING
    quality = filter_quality(found, maps, FilterRule())
    assert (quality.precision, quality.recall, quality.accuracy) == (0.5, 0.5, 0.5)
    nothing = filter_quality([NOTHING] * 4, maps, FilterRule())
    assert np.isnan(nothing.precision)
    assert nothing.recall == 0


class Oracle:
    """Reads the ids of discs off their colours: as good as a detector can be."""

    def __init__(self, world):
        self.truth = {}
        for side in (64, 128):
            scenes = held_out_scenes(world, 12, side)
            self.truth |= {image.tobytes(): ids for image, ids in zip(scenes.image, scenes.instances, strict=True)}

    def detect(self, images):
        return [perfect(self.truth[image.tobytes()]) for image in images]


def test_evaluation_of_an_oracle(disc_world):
    figures = evaluate_detector(Oracle(disc_world), disc_world, FilterRule(), 12)
    assert figures["mask_ap"] == figures["mask_ap_64"] == figures["kept_mask_iou"] == 1
    assert figures["filter_precision"] == figures["filter_recall"] == 1
    assert figures["scenes"] == 12


def test_no_training_seed_is_an_evaluation_seed():
    train = {sample_integer(0, WORLD, index) for index in range(3000)}
    assert not train & {sample_integer(0, EVALUATION, index) for index in range(3000)}
