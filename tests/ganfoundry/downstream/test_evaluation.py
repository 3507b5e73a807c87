import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.downstream import Examples, build_net, keypoint_figures, part_figures, predict
from ganfoundry.errors import InputError
from tests.ganfoundry.downstream.toys import SIDE, toy_net


def naive_miou(truth, found, classes, ignore):
    values = []
    for c in range(classes):
        inside = outside = 0
        for t, f in zip(truth.ravel(), found.ravel(), strict=True):
            if t != ignore:
                inside += t == c and f == c
                outside += t == c or f == c
        values.append(inside / outside if outside else 0.0)
    return sum(values) / classes


def naive_pck(keypoints, found, label, share):
    right = total = 0
    for true, said, mask in zip(keypoints, found, label, strict=True):
        rows, columns = np.nonzero(mask)
        side = max(np.ptp(rows), np.ptp(columns)) + 1
        for (x, y, weight), (u, v, _) in zip(true, said, strict=True):
            if weight > 0:
                total += 1
                right += np.hypot(x - u, y - v) <= share * side
    return right / total


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_figures_against_loops(seed):
    random = np.random.default_rng(seed)
    truth, found = (random.integers(0, 4, (3, 6, 6)).astype(np.uint8) for _ in range(2))
    truth[random.random(truth.shape) < 0.2] = 255
    truth[:, 0, 0] = 1
    figures = part_figures(truth, found, 5, ignore=255)  # class 4 is nowhere and counts 0
    assert figures["miou"] == pytest.approx(naive_miou(truth, found, 5, 255))
    known = truth != 255
    assert figures["pixel_accuracy"] == pytest.approx((truth == found)[known].mean())
    points = np.concatenate([random.random((3, 4, 2)) * 6, random.integers(0, 2, (3, 4, 1))], 2).astype(np.float32)
    points[0, 0, 2] = 1
    said = points + random.normal(0, 0.3, points.shape).astype(np.float32)
    image = np.zeros((3, 6, 6, 3), np.uint8)
    measured = keypoint_figures(Examples(image, truth, points), said)
    assert measured["pck5"] == pytest.approx(naive_pck(points, said, truth, 0.05))
    assert measured["pck10"] == pytest.approx(naive_pck(points, said, truth, 0.10))


def test_predictions_do_not_depend_on_the_batch():
    net = build_net(toy_net("keypoints"))
    images = np.random.default_rng(0).integers(0, 255, (5, SIDE, SIDE, 3)).astype(np.uint8)
    whole, single = (predict(net, images, batch_size=size).keypoints for size in (5, 1))
    assert np.allclose(whole, single, atol=1e-3)
    assert ((whole[..., 2] > 0) & (whole[..., 2] < 1)).all()


@pytest.mark.parametrize("shape", [(0, SIDE, SIDE, 3), (1, SIDE, SIDE + 8, 3), (1, 16, 16, 3)])
def test_images_of_another_size(shape):
    with pytest.raises(InputError, match="at least one"):
        predict(build_net(toy_net("parts")), np.zeros(shape, np.uint8))
