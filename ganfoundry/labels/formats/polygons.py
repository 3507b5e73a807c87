"""Label regions as polygons and back: exact along pixel edges, or simplified within a tolerance.

Coordinates are continuous pixels: (0, 0) is the top-left corner of the image and pixel (row, column) covers
[column, column + 1] x [row, row + 1]. A pixel belongs to a polygon when its centre does, by the even-odd rule, as in
COCO's own rasteriser. An outline traced along pixel edges therefore gives back exactly its pixels.

One polygon is one 4-connected component. A hole is joined to the outline by a bridge, a vertical line walked down and
up again: it covers no area, and every reader that fills by parity sees the hole.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganfoundry.errors import InputError

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]
_Edge: TypeAlias = tuple[int, int, int]  # y and x of the start, direction
MAX_COORDINATE = 1e6  # far outside any image, and small enough for exact arithmetic
_BLOCK = 1 << 22  # edge-row pairs rasterised at a time

# Steps along pixel edges with the inside on the right: right, down, left, up.
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))


def trace(mask: Mask, tolerance: float = 0.0) -> list[Points]:
    """Outlines of a mask, one polygon a component, holes joined by bridges.

    Parameters
    ----------
    mask : (H, W) bool
    tolerance : float, pixels
        Corners are left out (Douglas-Peucker) while the outline stays within this distance; 0 is exact.

    Returns
    -------
    list of (n, 2) float64
        x, y of the corners; ordered by the first pixel of the component.
    """
    components, _ = ndimage.label(mask)
    outlines: dict[int, Points] = {}
    holes: dict[int, list[Points]] = {}
    for loop in _loops(mask):
        component = int(components[_pixel_on_the_right(loop)])
        simple = _simplified(loop, tolerance)
        if _signed_area(loop) > 0:
            outlines[component] = simple
        else:
            holes.setdefault(component, []).append(simple)
    return [_bridged(outline, holes.get(component, [])) for component, outline in sorted(outlines.items())]


def fill(polygons: Sequence[object], height: int, width: int) -> Mask:
    """Pixels whose centre lies in any of the polygons, each by the even-odd rule.

    Parameters
    ----------
    polygons : sequence of (n, 2)
        x, y of the corners, n >= 3; points outside the image are fine.
    height, width : int

    Returns
    -------
    (H, W) bool

    Raises
    ------
    InputError
        If the points are not pairs of finite numbers of sensible size, or fewer than three.
    """
    result = np.zeros((height, width), bool)
    for polygon in polygons:
        points = _checked(polygon)
        limits = ((0, 0), (width, height))
        (left, top), (right, bottom) = np.clip([np.floor(points.min(0)), np.ceil(points.max(0))], *limits).astype(int)
        result[top:bottom, left:right] |= _fill_one(points - (left, top), bottom - top, right - left)
    return result


def _checked(polygon: object) -> Points:
    points = as_points(polygon)
    if len(points) < 3:
        raise InputError(f"a polygon has {len(points)} points; it needs three")
    return points


def as_points(values: object) -> Points:
    """Points (n, 2) float64 from what a file holds.

    Raises
    ------
    InputError
        If they are not pairs of finite numbers below a million.
    """
    try:
        points = np.array(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError("points are not a list of pairs of numbers")
    if not (np.abs(points) <= MAX_COORDINATE).all():  # also false for nan
        raise InputError(f"points hold a coordinate beyond {MAX_COORDINATE:g} pixels, or none at all")
    return points


def _fill_one(points: Points, height: int, width: int) -> Mask:
    start, stop = points, np.roll(points, -1, axis=0)
    upward = start[:, 1] > stop[:, 1]  # from top to bottom, so that a bridge's two ways cross at the same x
    top, bottom = np.where(upward[:, None], stop, start), np.where(upward[:, None], start, stop)
    # Rows r whose centre line r + 1/2 lies in [top, bottom).
    first = np.clip(np.ceil(top[:, 1] - 0.5), 0, height).astype(np.int64)
    last = np.clip(np.ceil(bottom[:, 1] - 0.5), 0, height).astype(np.int64)
    toggles = np.zeros((height, width + 1), np.int64)
    edges = np.flatnonzero(last > first)
    step = max(1, _BLOCK // max(height, 1))
    for block in (edges[i : i + step] for i in range(0, len(edges), step)):
        counts = last[block] - first[block]
        edge = np.repeat(block, counts)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first[block], counts)
        share = (row + 0.5 - top[edge, 1]) / (bottom[edge, 1] - top[edge, 1])
        x = top[edge, 0] + share * (bottom[edge, 0] - top[edge, 0])
        column = np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)  # the first centre right of the crossing
        np.add.at(toggles, (row, column), 1)
    filled: Mask = toggles[:, :-1].cumsum(1) % 2 == 1
    return filled


def _loops(mask: Mask) -> list[Points]:
    """Closed loops along pixel edges, corners only, the inside on the right (clockwise outlines, y down)."""
    padded = np.pad(mask, 1)
    inside = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[1:-1, 2:], padded[2:, 1:-1], padded[1:-1, :-2])  # above, right, below, left
    corner = ((0, 0), (1, 0), (1, 1), (0, 1))  # where the edge to each neighbour starts, clockwise
    edges = {
        (y + dy, x + dx, direction): None
        for direction, (neighbour, (dx, dy)) in enumerate(zip(neighbours, corner, strict=True))
        for y, x in np.argwhere(inside & ~neighbour).tolist()
    }
    remaining = dict.fromkeys(edges)
    loops = []
    while remaining:
        first = edge = next(iter(remaining))
        corners: list[tuple[int, int]] = []
        while True:
            del remaining[edge]
            following = _next_edge(edge, edges)
            if following[2] != edge[2]:
                corners.append((following[1], following[0]))
            edge = following
            if edge == first:
                break
        loops.append(np.array(corners, np.float64))
    return loops


def _next_edge(edge: _Edge, edges: Mapping[_Edge, None]) -> _Edge:
    """The edge that goes on from the end of one; where two leave, the right turn (4-connected inside)."""
    y, x, direction = edge
    dx, dy = _STEPS[direction]
    ways = ((y + dy, x + dx, (direction + turn) % 4) for turn in (1, 0, 3))
    return next(way for way in ways if way in edges)


def _signed_area(loop: Points) -> float:
    x, y = loop.T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))


def _pixel_on_the_right(loop: Points) -> tuple[int, int]:
    """Row and column of the pixel inside the first edge of an unsimplified loop."""
    (x, y), (dx, dy) = loop[0], np.sign(loop[1] - loop[0])
    column = x + (0 if dx > 0 or dy < 0 else -1)
    row = y + (0 if dx > 0 or dy > 0 else -1)
    return int(row), int(column)


def _bridged(outline: Points, holes: list[Points]) -> Points:
    """One closed polygon of an outline and its holes, joined from the top hole to the bottom one."""
    polygon = outline
    for hole in sorted(holes, key=lambda loop: loop[:, 1].min()):
        hole = np.roll(hole, -int(np.lexsort((hole[:, 0], hole[:, 1]))[0]), axis=0)
        edge, foot = _straight_above(polygon, hole[0])
        parts = [polygon[: edge + 1], foot[None], hole, hole[:1], foot[None], polygon[edge + 1 :]]
        polygon = np.concatenate(parts)
    return polygon


def _straight_above(polygon: Points, point: Points) -> tuple[int, Points]:
    """Edge of the polygon nearest above a point, and where the vertical line through the point meets it."""
    (x, y), start, stop = point, polygon, np.roll(polygon, -1, axis=0)
    low, high = np.minimum(start[:, 0], stop[:, 0]), np.maximum(start[:, 0], stop[:, 0])
    width = np.where(start[:, 0] == stop[:, 0], 1.0, stop[:, 0] - start[:, 0])
    height = start[:, 1] + (x - start[:, 0]) / width * (stop[:, 1] - start[:, 1])
    meets = (low <= x) & (x <= high) & (low < high) & (height <= y)
    if not meets.any():  # a simplified hole that sticks out: any bridge will do, it covers no area
        nearest = int(np.abs(start - point).sum(1).argmin())
        return nearest, polygon[nearest]
    edge = int(np.where(meets, height, -np.inf).argmax())
    return edge, np.array([x, height[edge]])


def _simplified(loop: Points, tolerance: float) -> Points:
    """Douglas-Peucker on a closed loop, split at its first corner and at the corner farthest from it.

    Source: Douglas and Peucker, "Algorithms for the reduction of the number of points ...", 1973.
    """
    if tolerance <= 0 or len(loop) <= 4:
        return loop
    middle = int(((loop - loop[0]) ** 2).sum(1).argmax())
    closed = np.concatenate([loop, loop[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, middle]] = True
    todo = [(0, middle), (middle, len(loop))]
    while todo:
        start, stop = todo.pop()
        if stop - start < 2:
            continue
        distance = _distance_to_segment(closed[start + 1 : stop], closed[start], closed[stop])
        worst = int(distance.argmax())
        if distance[worst] > tolerance:
            split = start + 1 + worst
            keep[split] = True
            todo += [(start, split), (split, stop)]
    kept = closed[:-1][keep[:-1]]
    return kept if len(kept) >= 3 else loop


def _distance_to_segment(points: Points, start: Points, stop: Points) -> Points:
    along = stop - start
    share = np.clip((points - start) @ along / max(float(along @ along), 1e-12), 0, 1)
    distance: Points = np.linalg.norm(points - start - share[:, None] * along, axis=1)
    return distance
