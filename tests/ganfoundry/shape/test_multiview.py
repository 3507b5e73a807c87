"""The multi-view set: checks, splits, draws, distances."""

from dataclasses import replace

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.shape.multiview import MultiView, check_same_set, distances_outside
from tests.ganfoundry.shape.toys import toy_views


@pytest.fixture(scope="module")
def views() -> MultiView:
    return toy_views(objects=5, size=16)


def test_a_split_keeps_objects_whole(views: MultiView) -> None:
    rest, held_out = views.split(0.4, seed=1)
    assert len(rest) + len(held_out) == len(views)
    assert set(rest.objects) & set(held_out.objects) == set()
    assert len(set(held_out.objects)) == 2
    assert held_out.part_names == views.part_names
    again = views.split(0.4, seed=1)[1]
    assert np.array_equal(again.images, held_out.images)


def test_draws_are_different_views_of_one_object_each(views: MultiView) -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        rows = views.draw(rng, 3, 2)
        assert rows.shape == (3, 2)
        assert (views.objects[rows[:, 0]] == views.objects[rows[:, 1]]).all()
        assert (rows[:, 0] != rows[:, 1]).all()
        assert len(set(views.objects[rows[:, 0]])) == 3
    assert views.draw(rng, 9, 2).shape == (9, 2)  # more than there are objects: some come twice


def test_too_few_views_are_refused(views: MultiView) -> None:
    single = views.take(np.arange(0, len(views), 5))
    with pytest.raises(InputError, match="make more views"):
        single.draw(np.random.default_rng(0), 1, 2)


def test_empty_and_full_masks_are_not_usable(views: MultiView) -> None:
    masks = views.masks.copy()
    masks[0], masks[1] = False, True
    assert np.flatnonzero(~replace(views, masks=masks).usable()).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"masks": np.zeros((3, 16, 16), bool)}, "masks for 3"),
        ({"masks": np.zeros((25, 8, 8), bool)}, "sizes differ"),
        ({"parts": np.zeros((25, 8, 8), np.uint8)}, "sizes differ"),
        ({"codes": np.full(25, 7)}, "made with other codes"),
        ({"images": np.zeros((25, 16, 8, 3), np.uint8)}, "square"),
        ({"keypoints": np.zeros((2, 1, 3), np.float32)}, "keypoints for 2"),
    ],
)
def test_arrays_that_do_not_belong_together_are_refused(views: MultiView, change: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        replace(views, **change)


def test_distances_are_those_of_the_nearest_pixel_of_the_object() -> None:
    masks = np.zeros((2, 8, 8), bool)
    masks[0, 2, 3] = masks[0, 6, 6] = True
    found = distances_outside(masks)
    rows, columns = np.mgrid[0:8, 0:8]
    naive = np.minimum(np.hypot(rows - 2, columns - 3), np.hypot(rows - 6, columns - 6)) / 8
    assert np.allclose(found[0], naive)
    assert not found[1].any()


def test_sets_of_other_lengths_are_named() -> None:
    check_same_set([("the views", 4), ("the masks", 4)])
    with pytest.raises(InputError, match="the views has 4 images, the labels 3"):
        check_same_set([("the views", 4), ("the masks", 4), ("the labels", 3)])


def test_halving_is_the_mean_the_majority_and_the_surest_part() -> None:
    """Against a loop over pixels; every kind of tie occurs."""
    rng = np.random.default_rng(0)
    n, size = 3, 12
    parts = rng.choice([0, 1, 2, 255], (n, size, size), p=[0.3, 0.3, 0.3, 0.1]).astype(np.uint8)
    parts[0, :2, :2] = 255
    views = MultiView(
        images=rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8),
        masks=rng.random((n, size, size)) < 0.5,
        objects=np.zeros(n, np.int64),
        codes=np.arange(n),
        azimuths=(0.0, 30.0, 60.0),
        parts=parts,
        certainty=rng.choice([0.0, 0.5, 1.0], (n, size, size)).astype(np.float32),
        keypoints=rng.random((n, 2, 3)).astype(np.float32) * [size, size, 1],
    )
    found = views.halved()
    assert views.certainty is not None
    assert found.parts is not None
    assert found.certainty is not None
    for index in np.ndindex(n, size // 2, size // 2):
        i, row, column = index
        block = np.s_[i, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        mean = views.images[block].reshape(4, 3).astype(float).mean(0)
        assert np.abs(found.images[index] - mean).max() <= 0.5
        assert found.masks[index] == (views.masks[block].sum() >= 2)
        votes: dict[int, float] = {}
        for part, weight in zip(parts[block].ravel(), views.certainty[block].ravel(), strict=True):
            votes[int(part)] = votes.get(int(part), 0.0) + float(weight)
        votes.pop(255, None)
        wanted = max(sorted(votes), key=lambda part: votes[part], default=255)
        assert found.parts[index] == wanted
        assert found.certainty[index] == votes.get(wanted, 0) / 4
    assert np.allclose(found.keypoints[..., :2], views.keypoints[..., :2] / 2)
    assert np.array_equal(found.keypoints[..., 2], views.keypoints[..., 2])
    assert np.array_equal(found.codes, views.codes)


def test_views_are_halved_until_they_are_near_a_size(views: MultiView) -> None:
    assert [views.at_most(size).size for size in (4, 7, 8, 16, 100)] == [4, 8, 8, 16, 16]
    odd = views.take(np.arange(1)).at_most(1)
    assert odd.size == 1
    with pytest.raises(InputError, match="1 px cannot be halved"):
        odd.halved()


def test_a_camera_sees_the_halved_views_as_the_whole_ones() -> None:
    """A toy set drawn at twice the size and halved is the toy set."""
    small, large = toy_views(objects=2, size=32), toy_views(objects=2, size=64).halved()
    assert np.abs(small.images.astype(int) - large.images).mean() < 4
    assert (small.masks != large.masks).mean() < 0.02
    assert np.allclose(small.keypoints, large.keypoints, atol=1e-3)


def test_codes_that_share_objects_are_one_group() -> None:
    rows = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 3), (2, 5)]  # (object, code); code 4 has no images
    objects, codes = (np.array(column) for column in zip(*rows, strict=True))
    data = MultiView(
        images=np.zeros((6, 8, 8, 3), np.uint8),
        masks=np.ones((6, 8, 8), bool),
        objects=7 * objects,
        codes=codes,
        azimuths=(0.0, 30.0, 60.0, 90.0, 120.0, 150.0),
    )
    first, second, third, fourth, fifth, sixth = data.code_groups
    assert first == second == third
    assert fourth == sixth
    assert len({first, fourth, fifth}) == 3
