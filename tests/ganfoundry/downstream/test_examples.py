import numpy as np
import pytest

from ganfoundry.downstream import Examples
from ganfoundry.downstream.examples import Subset
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator_data import render_samples
from tests.ganfoundry.downstream.toys import toy_examples


def test_renders_with_merged_labels_and_only_visible_keypoints():
    world = get_world("cars")
    renders = render_samples(world, [3, 4], 32)
    found = Examples.of_renders(renders, world.schema, "parts5")
    assert np.array_equal(found.label, world.schema.merge("parts5")[renders.parts])
    assert np.array_equal(found.keypoints[..., 2] == 1, renders.keypoints[..., 2] == 2)
    assert set(np.unique(found.keypoints[..., 2])) <= {0, 1}
    assert renders.keypoints[..., 2].max() == 2, "the renders keep theirs"


def test_subset_and_rows():
    data = toy_examples(6)
    some = Subset(data, np.array([5, 1]))
    assert (len(some), some.resolution, some.has_keypoints) == (2, 32, True)
    assert np.array_equal(some.rows(np.array([1, 1, 0])).label, data.label[[1, 1, 5]])
    without = Examples(data.image, data.label)
    assert without.rows(slice(0, 2)).keypoints is None
    assert without.confident() is without


def test_confident_splits_at_one_half():
    data = toy_examples(1)
    data.keypoints[0, :, 2] = (0.4, 0.6)
    assert data.confident().keypoints[0, :, 2].tolist() == [0, 1]
    assert data.keypoints[0, 0, 2] == pytest.approx(0.4)
