"""Import torchvision on any torch, also on one that its compiled operators do not fit.

PyPI's wheel of torchvision is built for CUDA. Beside a CPU-only torch its library does not load and `import
torchvision` fails with "operator torchvision::nms does not exist". Detection models need two of its operators; both are
short in plain torch. :func:`import_torchvision` is the project's only way to torchvision: where the compiled operators
load it is an ordinary import and nothing here takes effect.
"""

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional

from ganfoundry.errors import RunError

NMS_BLOCK = 1024  # boxes whose overlaps are held at a time: bounds memory to NMS_BLOCK ** 2 numbers

_library: torch.library.Library | None = None  # keeps the registrations alive


def import_torchvision() -> ModuleType:
    """Import torchvision, with substitutes for its operators where its own do not load.

    Returns
    -------
    module
        `torchvision`; `torchvision.ops.nms`, `torchvision.ops.roi_align` and the detection models work.

    Raises
    ------
    RunError
        If torchvision is not installed.
    """
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    spec = importlib.util.find_spec("torchvision")
    if spec is None:
        raise RunError("the torchvision backend needs torchvision, which is not installed: pip install torchvision")
    if _load_compiled_operators(list(spec.submodule_search_locations or [])):
        return importlib.import_module("torchvision")
    _define_operators()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its image decoders do not load either; they are not used
        torchvision = importlib.import_module("torchvision")
    _tell_torchvision_that_operators_exist()
    return torchvision


def _load_compiled_operators(folders: list[str]) -> bool:
    """Load torchvision's own library, as its __init__ would; False if it does not fit this torch."""
    for folder in folders:
        for library in sorted(Path(folder).glob("_C*.*")):
            try:
                torch.ops.load_library(library)
            except OSError:
                continue
            return True
    return torch._C._dispatch_has_kernel("torchvision::nms")  # built into this process by someone else


def _define_operators() -> None:
    global _library
    if _library is not None:
        return
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    )
    library.impl("nms", nms, "CompositeExplicitAutograd")
    library.impl("roi_align", roi_align, "CompositeImplicitAutograd")  # its parts bring their own gradients
    _library = library


def _tell_torchvision_that_operators_exist() -> None:
    """Replace the guards of the two modules whose operators are now defined; all others keep theirs."""
    for name in ("torchvision.ops.boxes", "torchvision.ops.roi_align"):
        module = sys.modules[name]
        module.__dict__["_assert_has_ops"] = lambda: None
        if "_has_ops" in module.__dict__:
            module.__dict__["_has_ops"] = lambda: True


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: drop a box that overlaps a kept box of higher score by more than a threshold.

    Parameters
    ----------
    boxes : (n, 4) float
        x1, y1, x2, y2.
    scores : (n,) float
    iou_threshold : float in [0, 1]

    Returns
    -------
    (k,) int64
        Kept boxes, highest score first; equal scores keep their order.
    """
    order = scores.argsort(descending=True, stable=True)
    ranked = boxes[order]
    kept = order[:0]  # positions in `ranked`
    for start in range(0, len(ranked), NMS_BLOCK):
        block = ranked[start : start + NMS_BLOCK]
        alive = ~(_iou(ranked[kept], block) > iou_threshold).any(0)
        survivors = alive.nonzero()[:, 0]
        block = block[survivors]
        beats = (_iou(block, block) > iou_threshold).triu(1)  # [i, j]: i, of higher score, would drop j
        kept = torch.cat([kept, survivors[_undefeated(beats)] + start])
    return order[kept]


def _undefeated(beats: Tensor) -> Tensor:
    """Greedy survivors of a strictly upper triangular relation, (n, n) bool -> (n,) bool.

    "j stays unless an i that stays beats it" determines row after row, so its fixed point is unique. Each pass settles
    at least all rows whose chain of victories is shorter than the number of passes.
    """
    victories = beats.t().float()
    keep = torch.ones(len(beats), dtype=torch.bool, device=beats.device)
    while True:
        again = torch.mv(victories, keep.float()) == 0
        if torch.equal(again, keep):
            return keep
        keep = again


def _iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair, (n, 4), (m, 4) -> (n, m) float64; nan for two empty boxes."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    intersection = (high - low).clamp(min=0).prod(2)
    area = [(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) for boxes in (first, second)]
    return (intersection / (area[0][:, None] + area[1] - intersection)).double()


def roi_align(
    features: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Average bilinear samples of each cell of a grid laid over each region (Mask R-CNN, section 3).

    Parameters
    ----------
    features : (N, C, H, W) float
    rois : (K, 5) float
        Image index, x1, y1, x2, y2 in image pixels.
    spatial_scale : float
        Feature cells per image pixel.
    pooled_height, pooled_width : int
        Cells of the grid.
    sampling_ratio : int
        Samples along each side of a cell; <= 0: as many as a cell covers feature cells, rounded up.
    aligned : bool
        Whether feature cell i has its centre at i + 0.5 (detectron2) rather than at i.

    Returns
    -------
    (K, C, pooled_height, pooled_width)
        Differentiable with respect to `features`. Samples more than one cell outside count as 0.
    """
    corners = rois[:, 1:].detach() * spatial_scale - (0.5 if aligned else 0.0)
    size = corners[:, 2:] - corners[:, :2]
    if not aligned:
        size = size.clamp(min=1.0)
    cell = size / size.new_tensor([pooled_width, pooled_height])
    samples = torch.full_like(cell, sampling_ratio) if sampling_ratio > 0 else cell.ceil().clamp(min=0)
    output = features.new_zeros(len(rois), features.shape[1], pooled_height, pooled_width)
    keys = torch.cat([rois[:, :1], samples], 1)
    for key in keys.unique(dim=0):  # regions of one image with equally many samples go together
        image, nx, ny = (int(value) for value in key)
        rows = (keys == key).all(1).nonzero()[:, 0]
        if nx > 0 and ny > 0:
            x = _positions(corners[rows, 0], cell[rows, 0], pooled_width, nx)
            y = _positions(corners[rows, 1], cell[rows, 1], pooled_height, ny)
            pooled = functional.avg_pool2d(_sample(features[image], x, y), (ny, nx))
            output = output.index_copy(0, rows, pooled.transpose(0, 1))
    return output


def _positions(start: Tensor, cell: Tensor, cells: int, samples: int) -> Tensor:
    """Sample positions along one axis, (k,), (k,) -> (k, cells * samples), in feature cells."""
    steps = (torch.arange(cells * samples, device=start.device, dtype=start.dtype) + 0.5) / samples
    return start[:, None] + cell[:, None] * steps


def _sample(feature: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear samples of (C, H, W) on k axis-aligned lattices (k, nx), (k, ny): (C, k, ny, nx)."""
    height, width = feature.shape[1:]
    inside = ((y >= -1) & (y <= height))[:, :, None] & ((x >= -1) & (x <= width))[:, None, :]
    u = (2 * x + 1) / width - 1
    v = (2 * y + 1) / height - 1
    lattice = torch.stack(torch.broadcast_tensors(u[:, None, :], v[:, :, None]), 3).to(feature.dtype)
    flat = lattice.reshape(1, -1, x.shape[1], 2)
    values = functional.grid_sample(feature[None], flat, "bilinear", "border", align_corners=False)[0]
    samples: Tensor = values.unflatten(1, (len(x), -1)) * inside
    return samples
