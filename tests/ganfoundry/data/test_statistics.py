"""Statistics of a labelled set against a plain count, in blocks of any size."""

import numpy as np
import pytest

from ganfoundry.data import statistics
from ganfoundry.data.description import SetDescription
from ganfoundry.data.statistics import class_counts, summarise
from ganfoundry.errors import InputError


class Arrays:
    """A reader of arrays in memory."""

    def __init__(self, **arrays):
        self.arrays = arrays
        self.fields = {name: (array.dtype.str, array.shape[1:]) for name, array in arrays.items()}

    def __len__(self):
        return len(self.arrays["label"])

    def rows(self, indices, names=None):
        return {name: self.arrays[name][np.asarray(indices)] for name in names or self.arrays}


def make(count=50, keypoints=True):
    rng = np.random.default_rng(0)
    arrays = {"label": rng.integers(0, 3, (count, 5, 7), np.uint8), "score": rng.random(count).astype(np.float32)}
    if keypoints:
        arrays["keypoints"] = rng.random((count, 2, 3)).astype(np.float32)
    names = ("nose", "tail") if keypoints else ()
    return Arrays(**arrays), SetDescription(("bg", "a", "b", "never"), ((0, 0, 0),) * 4, "", "", "", names)


@pytest.mark.parametrize("at_once", [1, 7, 256])
def test_against_a_plain_count(monkeypatch, at_once):
    monkeypatch.setattr(statistics, "ROWS_AT_ONCE", at_once)
    reader, description = make()
    keep = np.arange(50) % 5 != 0
    seen = []
    found = summarise(reader, description, keep, seen.append)
    labels, points = reader.arrays["label"][keep], reader.arrays["keypoints"][keep]
    assert sum(seen) == keep.sum() == found.images
    assert (found.dropped, found.height, found.width) == (10, 5, 7)
    for index, entry in enumerate(found.classes):
        assert entry.pixel_share == pytest.approx((labels == index).mean(), abs=1e-6)
        assert entry.images == (labels == index).any((1, 2)).sum()
    for index, entry in enumerate(found.keypoints):
        assert entry.visible_images == (points[:, index, 2] >= 0.5).sum()
        assert entry.mean_visibility == pytest.approx(points[:, index, 2].mean(), abs=1e-4)
    assert sum(found.uncertainty.kept) == 40
    assert sum(found.uncertainty.dropped) == 10
    assert len(found.uncertainty.edges) == len(found.uncertainty.kept) + 1


def test_odd_scores_are_counted_too():
    reader, description = make(4, keypoints=False)
    reader.arrays["score"][:] = [0, -1, 0, 0]
    found = summarise(reader, description, np.ones(4, bool))
    assert sum(found.uncertainty.kept) == 4
    assert found.keypoints == ()


def test_unnamed_class():
    reader, description = make(4)
    reader.arrays["label"][2, 0, 0] = 200
    with pytest.raises(InputError, match="hold the class 200, but only 4 are named"):
        summarise(reader, description, np.ones(4, bool))


def test_class_counts_one_image_at_a_time():
    labels = np.random.default_rng(1).integers(0, 256, (6, 9, 4), np.uint8)
    expected = [np.bincount(label.ravel(), minlength=256) for label in labels]
    assert np.array_equal(class_counts(labels), expected)
