"""The first layer of a per-pixel network on a generator's feature maps, without the tall feature tensor.

DatasetGAN (Zhang et al., CVPR 2021, section 3.2) resizes every feature map S_k of a StyleGAN to the image size, stacks
them to D channels (5,056 for its cars) and feeds each pixel's D numbers to small MLPs. The first layer is linear and
resizing is linear, so

    W concat_k(up(S_k)) + b  =  sum_k up(W_k S_k) + b,

with W_k the columns of W that belong to map k. The right side projects each map at its own resolution, where it has
few pixels, and then resizes the H hidden channels instead of the C_k feature channels. The result is the same; the
tensor of D channels never exists, and the work of the coarse maps shrinks by the square of their scale.

Resizing is separable, two small matrices per map. Output rows are made in tiles from top to bottom; of each coarse map
only the few projected rows that the tile can see are held (`_RowWindow`), so memory does not grow with the image
height. They are resized vertically map by map, while they are narrow; then the columns of all maps are stacked, and
one matrix product resizes them horizontally and sums over maps. Units are the last axis throughout: all of it is
products of wide matrices, and the layers that follow read a member's units of all pixels of a tile as one matrix.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Mode = Literal["bilinear", "nearest"]
_COLUMN_BLOCK = 32  # output columns resized by one product: narrower ones skip more zeros
_CHUNK_ELEMENTS = 1 << 17  # projected numbers of a coarse map made at a time


@lru_cache(maxsize=256)
def resize_matrix(source: int, target: int, mode: Mode = "bilinear") -> Tensor:
    """Matrix that resizes one axis as ``torch.nn.functional.interpolate`` does.

    Parameters
    ----------
    source, target : int
        Lengths before and after.
    mode : "bilinear" (align_corners=False, no antialiasing) or "nearest"

    Returns
    -------
    (target, source) float32; rows sum to 1. For power-of-two ratios up to 128 its entries are exact in bfloat16 too.
    """
    identity = torch.eye(source, dtype=torch.float64)[None]
    if mode == "nearest":
        return F.interpolate(identity, size=target, mode="nearest")[0].T.float().contiguous()
    return F.interpolate(identity, size=target, mode="linear", align_corners=False)[0].T.float().contiguous()


@dataclass(frozen=True)
class Band:
    """Rows [start, stop) of a resize matrix and the only columns [low, high) in which they are not zero."""

    start: int
    stop: int
    low: int
    high: int
    weights: Tensor  # (stop - start, high - low)


@lru_cache(maxsize=256)
def bands(source: int, target: int, mode: Mode, block: int) -> tuple[Band, ...]:
    """Cut a resize matrix into blocks of output rows, each with its span of source rows."""
    matrix = resize_matrix(source, target, mode)
    result = []
    for start in range(0, target, block):
        rows = matrix[start : start + block]
        used = torch.nonzero(rows.abs().sum(0))[:, 0]
        low, high = int(used[0]), int(used[-1]) + 1
        result.append(Band(start, start + len(rows), low, high, rows[:, low:high].contiguous()))
    return tuple(result)


def concatenated(maps: Sequence[Tensor], resolution: int, mode: Mode = "bilinear") -> Tensor:
    """Resize and stack feature maps: the published form, kept as the reference and for the benchmark.

    Parameters
    ----------
    maps : sequence of (C_k, r_k, r_k)
    resolution : int

    Returns
    -------
    (sum C_k, resolution, resolution)
    """
    stacked = maps[0].new_empty(sum(len(m) for m in maps), resolution, resolution)
    offset = 0
    for feature in maps:
        stacked[offset : offset + len(feature)] = _resize(feature, resolution, mode)
        offset += len(feature)
    return stacked


def project_tiles(
    maps: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    resolution: int,
    *,
    mode: Mode = "bilinear",
    tile_rows: int = 8,
) -> Iterator[tuple[int, Tensor]]:
    """First layer of one image, in tiles of output rows.

    Parameters
    ----------
    maps : sequence of (C_k, r_k, r_k) feature maps at their own resolutions
    weight : (units, D), columns in the order of `maps`; its dtype (float32 or bfloat16) is the dtype computed in
    bias : (units,)
    resolution : int
        Side R of the output.
    mode : how the published form resizes; maps larger than R are reduced first, as it does
    tile_rows : int
        Output rows a tile.

    Yields
    ------
    (first row, (rows, R, units) tensor): the layer before its activation
    """
    dtype = weight.dtype
    runs = _by_resolution(maps, weight, resolution, mode)
    fine = [run for run in runs if run[0][0].shape[-1] == resolution]
    windows = [_RowWindow(*run, resolution, mode) for run in runs if run[0][0].shape[-1] != resolution]
    blocks = [_columns(windows, block) for block in range(-(-resolution // _COLUMN_BLOCK))] if windows else []
    bias = bias.to(dtype)
    for start in range(0, resolution, tile_rows):
        stop = min(start + tile_rows, resolution)
        if blocks:
            narrow = [window.rows(start, stop, tile_rows) for window in windows]
            ones = bias.expand(stop - start, 1, -1)
            pieces = [
                torch.matmul(across, torch.cat([*(n[:, part] for n, part in zip(narrow, parts, strict=True)), ones], 1))
                for parts, across in blocks
            ]
            tile = pieces[0] if len(pieces) == 1 else torch.cat(pieces, 1)
        else:
            tile = bias.repeat(stop - start, resolution, 1)
        for run, columns in fine:
            tile.view(-1, len(bias)).addmm_(_pixels(run, start, stop, dtype), columns.T)
        yield start, tile


def project(
    maps: Sequence[Tensor], weight: Tensor, bias: Tensor, resolution: int, *, mode: Mode = "bilinear"
) -> Tensor:
    """First layer of one image as a whole, (units, R, R); parameters as in :func:`project_tiles`."""
    tiles = [tile for _, tile in project_tiles(maps, weight, bias, resolution, mode=mode)]
    return torch.cat(tiles).permute(2, 0, 1)


class _RowWindow:
    """Projected rows of the maps of one resolution; moves down with the tiles."""

    def __init__(self, maps: Sequence[Tensor], weight: Tensor, resolution: int, mode: Mode) -> None:
        self.maps, self.weight, self.mode = maps, weight, mode
        self.side, self.resolution = maps[0].shape[-1], resolution
        self.chunk = max(1, _CHUNK_ELEMENTS // (self.side * len(weight)))
        self.low = 0
        self.held = weight.new_empty(0, self.side * len(weight))

    def rows(self, start: int, stop: int, tile_rows: int) -> Tensor:
        """Output rows [start, stop) at the maps' own width, (rows, r, units)."""
        band = bands(self.side, self.resolution, self.mode, tile_rows)[start // tile_rows]
        known = self.low + len(self.held)
        if band.high > known:
            made = self._make(max(known, band.low), min(self.side, max(band.high, known + self.chunk)))
            self.held, self.low = torch.cat([self.held[band.low - self.low :], made]), band.low
        used = self.held[band.low - self.low : band.high - self.low]
        return (band.weights.to(used.dtype) @ used).view(stop - start, self.side, -1)

    def _make(self, low: int, high: int) -> Tensor:
        return (_pixels(self.maps, low, high, self.weight.dtype) @ self.weight.T).view(high - low, -1)


def _columns(windows: Sequence[_RowWindow], block: int) -> tuple[list[slice], Tensor]:
    """Columns of each window that a block of output columns needs; the matrix that resizes them and adds the bias."""
    found = [bands(w.side, w.resolution, w.mode, _COLUMN_BLOCK)[block] for w in windows]
    ones = torch.ones(len(found[0].weights), 1)
    across = torch.cat([*(band.weights for band in found), ones], 1).to(windows[0].weight.dtype)
    return [slice(band.low, band.high) for band in found], across


def _pixels(maps: Sequence[Tensor], low: int, high: int, dtype: torch.dtype) -> Tensor:
    """Rows [low, high) of maps of one resolution, stacked over channels: (rows x r, sum C), a transposed view."""
    return torch.cat([m[:, low:high].flatten(1).to(dtype) for m in maps]).T


def _by_resolution(
    maps: Sequence[Tensor], weight: Tensor, resolution: int, mode: Mode
) -> list[tuple[list[Tensor], Tensor]]:
    """Runs of neighbouring maps of one side, each with its columns of the weight (a view)."""
    runs: list[tuple[list[Tensor], Tensor]] = []
    first = offset = 0
    for feature in maps:
        if feature.shape[-1] > resolution:  # fewer numbers after reduction than before: reduce, then project
            feature = _resize(feature, resolution, mode)
        if runs and runs[-1][0][0].shape[-1] == feature.shape[-1]:
            members = [*runs.pop()[0], feature]
        else:
            members, first = [feature], offset
        offset += len(feature)
        runs.append((members, weight[:, first:offset]))
    return runs


def _resize(feature: Tensor, resolution: int, mode: Mode) -> Tensor:
    if feature.shape[-1] == resolution:
        return feature
    corners = {} if mode == "nearest" else {"align_corners": False}
    return F.interpolate(feature[None], size=(resolution, resolution), mode=mode, **corners)[0]
