import subprocess
import sys
from math import ceil, floor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganfoundry.detect import torchvision_shim as shim
from ganfoundry.errors import RunError


def naive_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else float("nan")


def naive_nms(boxes, scores, threshold):
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])  # stable, as the shim must be
    kept = []
    for i in order:
        if not any(naive_iou(boxes[j], boxes[i]) > threshold for j in kept):
            kept.append(i)
    return kept


# Corners on a coarse lattice make equal boxes, empty boxes and overlaps of exactly the threshold frequent.
_box = st.tuples(*[st.integers(0, 6)] * 2, *[st.integers(0, 4)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(_box, st.integers(0, 5)), max_size=24),
    st.sampled_from([0.0, 0.25, 0.5, 0.7, 1.0]),
    st.sampled_from([3, shim.NMS_BLOCK]),
)
def test_nms_equals_the_quadratic_loop(rows, threshold, block):
    boxes = torch.tensor([row[0] for row in rows], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([row[1] for row in rows], dtype=torch.float32)
    before, shim.NMS_BLOCK = shim.NMS_BLOCK, block
    try:
        found = shim.nms(boxes, scores, threshold)
    finally:
        shim.NMS_BLOCK = before
    assert found.dtype == torch.int64
    assert found.tolist() == naive_nms(boxes.tolist(), scores.tolist(), threshold)


def test_nms_of_a_chain_alternates():
    # Each box overlaps only its neighbours: greedy suppression keeps every second one, however long the chain.
    n = 101
    x = torch.arange(n, dtype=torch.float32)
    boxes = torch.stack([x, 0 * x, x + 1.5, 0 * x + 1], 1)
    assert shim.nms(boxes, -x, 0.1).tolist() == list(range(0, n, 2))


def bilinear(feature, y, x):
    height, width = feature.shape
    if y < -1 or y > height or x < -1 or x > width:
        return feature.sum() * 0
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    y0, x0 = floor(y), floor(x)
    y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
    fy, fx = y - y0, x - x0
    top = feature[y0, x0] * (1 - fx) + feature[y0, x1] * fx
    return top * (1 - fy) + (feature[y1, x0] * (1 - fx) + feature[y1, x1] * fx) * fy


def naive_roi_align(features, rois, scale, ph, pw, ratio, aligned):
    output = []
    for image, *corners in rois.tolist():
        x1, y1, x2, y2 = (value * scale - 0.5 * aligned for value in corners)
        width, height = (x2 - x1, y2 - y1) if aligned else (max(x2 - x1, 1), max(y2 - y1, 1))
        ny, nx = (ratio, ratio) if ratio > 0 else (ceil(height / ph), ceil(width / pw))
        for channel in features[int(image)]:
            for i in range(ph):
                for j in range(pw):
                    total = channel.sum() * 0
                    for a in range(ny):
                        for b in range(nx):
                            y = y1 + (i + (a + 0.5) / ny) * height / ph
                            x = x1 + (j + (b + 0.5) / nx) * width / pw
                            total = total + bilinear(channel, y, x)
                    output.append(total / max(nx * ny, 1))
    return torch.stack(output).reshape(len(rois), features.shape[1], ph, pw)


ROIS = [[0, 1.0, 2.0, 20.0, 15.0], [1, -6.0, 3.0, 30.0, 44.0], [1, 10.0, 10.0, 10.3, 10.2], [0, 0.0, 0.0, 24.0, 20.0]]


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [2, 1, -1])
def test_roi_align_and_its_gradient_equal_explicit_loops(ratio, aligned):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    rois = torch.tensor(ROIS, dtype=torch.float64)
    ours = shim.roi_align(features, rois, 0.25, 3, 2, ratio, aligned)
    naive = naive_roi_align(features, rois, 0.25, 3, 2, ratio, aligned)
    assert (ours - naive).abs().max() < 1e-12
    direction = torch.randn(ours.shape, dtype=torch.float64, generator=generator)
    (our_gradient,) = torch.autograd.grad(ours, features, direction)
    (naive_gradient,) = torch.autograd.grad(naive, features, direction)
    assert (our_gradient - naive_gradient).abs().max() < 1e-12


def test_roi_align_passes_a_finite_difference_check():
    features = torch.randn(
        1, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2), requires_grad=True
    )
    rois = torch.tensor([[0, 0.3, 0.7, 3.1, 2.9]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: shim.roi_align(x, rois, 1.0, 2, 2, 2, True), (features,))


def test_roi_align_of_nothing():
    pooled = shim.roi_align(torch.ones(1, 3, 4, 4), torch.zeros(0, 5), 1.0, 7, 7, 2, False)
    assert pooled.shape == (0, 3, 7, 7)


def test_torchvision_uses_the_operators():
    torchvision = shim.import_torchvision()
    boxes = torch.tensor([[0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]], dtype=torch.float32)
    assert torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist() == [0, 2]
    features = torch.rand(1, 4, 16, 16, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pooled = torchvision.ops.roi_align(features, [boxes], (7, 7), 0.5, 2, True)
    reference = sys.modules["torchvision.ops.roi_align"]._roi_align.__wrapped__  # torchvision's own, in Python
    rois = torch.cat([torch.zeros(3, 1), boxes], 1)
    assert (pooled - reference(features, rois, 0.5, 7, 7, 2, True)).abs().max() < 1e-5
    pooled.sum().backward()
    assert features.grad.abs().sum() > 0


# In a fresh process, an extension that registers torchvision::nms stands for a torchvision whose own operators load.
_INERT = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
library.impl("nms", lambda dets, scores, iou_threshold: torch.tensor([42]), "CompositeExplicitAutograd")
from ganfoundry.detect import torchvision_shim as shim
shim.import_torchvision()
assert shim._library is None
assert torch.ops.torchvision.nms(torch.rand(1, 4), torch.rand(1), 0.5).tolist() == [42]
assert not torch._C._dispatch_has_kernel("torchvision::roi_align")
"""


def test_inert_where_the_operators_exist():
    done = subprocess.run([sys.executable, "-c", _INERT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_absent_torchvision_gives_one_sentence(monkeypatch):
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.setattr(shim.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match="pip install torchvision") as caught:
        shim.import_torchvision()
    assert caught.value.exit_code == 1
    assert np.isfinite(shim.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).numpy()).all()
