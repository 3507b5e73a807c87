"""Kernels of exact coverage at silhouettes: `edges_reference` says what they compute."""

from __future__ import annotations

import math

import numpy as np

from ganfoundry.render.kernels import LEFT, RIGHT, kernel
from ganfoundry.render.lanes import LANES, nearer_points

# Here, not in the reference: a change of this file recompiles the kernels, which hold their constants.
OUTSIDE = 1e-5
"""Pixels from an edge where the surfaces beside it are looked for."""
SAME_DEPTH = 1e-6
"""Relative; faces this near to each other in depth touch, and the one with the lower index is in front."""


@kernel
def silhouette_owners(screen, faces, edges, face_edges, sides, size, owner, slope):
    """Fill owner (N, E) with the nearest face beside each silhouette, else -1; bound how many pieces there are.

    slope (E,) is room for how fast 1 / depth grows from an edge inwards.
    """
    bound = 0
    for n in range(screen.shape[0]):
        m = n if faces.shape[0] > 1 else 0
        points, own_edges, beside = screen[n], face_edges[m], sides[n]
        slope[:] = -np.inf
        owner[n] = -1
        for f in range(own_edges.shape[0]):
            for k in range(3):
                e = np.uintp(own_edges[f, k])
                if beside[e] != LEFT and beside[e] != RIGHT:
                    continue
                o, a, b = faces[m, f, k], edges[m, e, 0], edges[m, e, 1]
                ia, ib, io = points[a, 2], points[b, 2], points[o, 2]
                dx, dy = points[b, 0] - points[a, 0], points[b, 1] - points[a, 1]
                tx, ty = points[o, 0] - points[a, 0], points[o, 1] - points[a, 1]
                side = abs(dx * ty - dy * tx)
                if side == 0.0 or ia == 0.0 or ib == 0.0 or io == 0.0:
                    continue
                squared = dx * dx + dy * dy
                share = (dx * tx + dy * ty) / squared
                here = (io - (1.0 - share) * ia - share * ib) * math.sqrt(squared) / side
                if here > slope[e]:
                    if slope[e] == -np.inf:
                        bound += int(min(abs(dx), size)) + int(min(abs(dy), size)) + 3
                    slope[e] = here
                    owner[n, e] = f
    return bound


@kernel
def _border_position(x, y):
    if abs(x) >= abs(y):
        return 0.0 if x == 0.0 else 0.5 * y / x + (2.0 if x < 0.0 else 0.0)
    return 1.0 - 0.5 * x / y + (2.0 if y < 0.0 else 0.0)


@kernel
def _share(px, py, qx, qy):
    """Signed area of the triangle centre p q less that of the pixel's wedge between the rays through p and q."""
    turn = _border_position(qx, qy) - _border_position(px, py)
    if turn > 2.0:
        turn -= 4.0
    elif turn < -2.0:
        turn += 4.0
    return 0.5 * (px * qy - py * qx) - 0.25 * turn


@kernel
def cut(screen, edges, sides, owner, size, piece_image, piece_edge, pixel, along, middle, normal, share):
    """Cut the silhouettes at the borders of the pixels; return the number of pieces S, image by image.

    Fills image, edge, pixel (S,), the middle's parameter on the edge (S,), a point right outside the middle and the
    edge's 1 / depth there (S, 3), the outward normal as long as the piece (S, 2), and the share of the pixel (S,).
    """
    s = 0
    for n in range(screen.shape[0]):
        m = n if edges.shape[0] > 1 else 0
        for e in range(edges.shape[1]):
            if owner[n, e] < 0:
                continue
            a, b = edges[m, e, 0], edges[m, e, 1]
            ax, ay, ia = screen[n, a, 0], screen[n, a, 1], screen[n, a, 2]
            dx, dy, ib = screen[n, b, 0] - ax, screen[n, b, 1] - ay, screen[n, b, 2]
            first, last = 0.0, 1.0
            for start, step in ((ax, dx), (ay, dy)):
                if step != 0.0:
                    enter, leave = -start / step, (size - start) / step
                    first, last = max(first, min(enter, leave)), min(last, max(enter, leave))
                elif start < 0.0 or start > size:
                    last = first
            if not first < last:
                continue
            side = 1.0 if sides[n, e] == LEFT else -1.0
            out = OUTSIDE * side / math.sqrt(dx * dx + dy * dy)
            # The next line of pixel borders that the edge meets, in x and in y.
            x, y = ax + first * dx, ay + first * dy
            line_x = math.floor(x) + 1.0 if dx > 0.0 else math.ceil(x) - 1.0
            line_y = math.floor(y) + 1.0 if dy > 0.0 else math.ceil(y) - 1.0
            t = first
            while t < last:
                next_x = (line_x - ax) / dx if dx != 0.0 else np.inf
                next_y = (line_y - ay) / dy if dy != 0.0 else np.inf
                end = min(next_x, next_y, last)
                if next_x <= end:
                    line_x += 1.0 if dx > 0.0 else -1.0
                if next_y <= end:
                    line_y += 1.0 if dy > 0.0 else -1.0
                if end > t:
                    half = 0.5 * (t + end)
                    mx, my = ax + half * dx, ay + half * dy
                    px = min(max(math.floor(mx), 0.0), size - 1.0)
                    py = min(max(math.floor(my), 0.0), size - 1.0)
                    piece_image[s], piece_edge[s], pixel[s] = n, e, int(py) * size + int(px)
                    along[s] = half
                    middle[s, 0], middle[s, 1], middle[s, 2] = (
                        mx + out * dy,
                        my - out * dx,
                        (1.0 - half) * ia + half * ib,
                    )
                    normal[s, 0], normal[s, 1] = side * (end - t) * dy, -side * (end - t) * dx
                    cx, cy = ax - px - 0.5, ay - py - 0.5
                    share[s] = side * _share(cx + t * dx, cy + t * dy, cx + end * dx, cy + end * dy)
                    s += 1
                    t = end
    return s


@kernel
def hits(screen, faces, boxes, size, piece_image, middle, normal, alone, blocks, inverse, hit):
    """Fill 1 / depth (2, S) and index (2, S) of the nearest face over points, 0 and -1 for none.

    First the points right outside the middles of pieces, then those right inside of pieces that are alone, see
    `Topology.open_edges`. blocks (size / 4 + 2 twice) is room for how many lie in the blocks of 4 x 4 pixels above and
    left of each.
    """
    inverse[:] = 0.0
    hit[:] = -1
    pieces, row_end, first = piece_image.shape[0], np.empty(size + 1, np.int64), 0
    # The points of an image row after row.
    room = 2 * pieces + LANES
    number, across, down = np.empty(room, np.int64), np.zeros(room), np.zeros(room)
    nearest, winner, places = np.empty(room), np.empty(room, np.int32), np.empty((2, pieces, 2))
    for s in range(pieces):
        places[0, s, 0], places[0, s, 1] = middle[s, 0], middle[s, 1]
        if alone[s]:
            step = 2.0 * OUTSIDE / math.hypot(normal[s, 0], normal[s, 1])
            places[1, s, 0], places[1, s, 1] = middle[s, 0] - step * normal[s, 0], middle[s, 1] - step * normal[s, 1]
    for n in range(screen.shape[0]):
        points, corners = screen[n], faces[n if faces.shape[0] > 1 else 0]
        last = first + np.searchsorted(piece_image[first:], n, "right")
        blocks[:] = 0
        row_end[:] = 0
        for part in range(2):
            for s in range(first, last):
                if part == 0 or alone[s]:
                    y = int(min(max(places[part, s, 1], 0.0), size - 1.0))
                    x = int(min(max(places[part, s, 0], 0.0), size - 1.0))
                    blocks[(y >> 2) + 1, (x >> 2) + 1] += 1
                    row_end[y + 1] += 1
        for y in range(1, blocks.shape[0]):
            for x in range(1, blocks.shape[1]):
                blocks[y, x] += blocks[y - 1, x] + blocks[y, x - 1] - blocks[y - 1, x - 1]
        for y in range(size):
            row_end[y + 1] += row_end[y]
        count = row_end[size]
        for part in range(2):
            for s in range(first, last):
                if part == 0 or alone[s]:
                    y = int(min(max(places[part, s, 1], 0.0), size - 1.0))
                    k = row_end[y]
                    number[k], across[k], down[k] = part * pieces + s, places[part, s, 0], places[part, s, 1]
                    row_end[y] += 1  # from where the row starts to where it ends
        nearest[: count + LANES] = 0.0
        winner[: count + LANES] = -1
        for f in range(corners.shape[0]):
            x_first, y_first, x_last, y_last = boxes[n, f, 0], boxes[n, f, 1], boxes[n, f, 2], boxes[n, f, 3]
            if x_first > x_last or y_first > y_last:
                continue
            left, right = np.uintp(x_first >> 2), np.uintp((x_last >> 2) + 1)
            top, bottom = np.uintp(y_first >> 2), np.uintp((y_last >> 2) + 1)
            if blocks[bottom, right] + blocks[top, left] == blocks[bottom, left] + blocks[top, right]:
                continue
            a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
            ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area < 0.0:
                b, c, bx, by, cx, cy = c, b, cx, cy, bx, by
            over = 1.0 / abs(area)
            given = ax, ay, bx, by, cx, cy, points[a, 2] * over, points[b, 2] * over, points[c, 2] * over
            for k in range(row_end[y_first - 1] if y_first > 0 else 0, row_end[y_last], LANES):
                nearer_points(across, down, nearest, winner, k, given, np.int32(f))
        for k in range(count):
            inverse[number[k] // pieces, number[k] % pieces] = nearest[k]
            hit[number[k] // pieces, number[k] % pieces] = winner[k]
        first = last


@kernel
def border_fragments(screen, faces, edges, piece_image, piece_edge, pixel, along, middle, share, owner, inverse, hit,
                     image, where, face, barycentric, weight, source):  # fmt: skip
    """Fill the fragments (<= 2 S,) of the pieces that nothing hides, and the piece of each: source (<= 2 S,).

    source is s for what a piece s adds and -1 - s for what it takes away. Returns the number of fragments.
    """
    k = 0
    for s in range(piece_image.shape[0]):
        n, e, g = piece_image[s], piece_edge[s], hit[0, s]
        m = n if faces.shape[0] > 1 else 0
        f = owner[n, e]
        if hit[1, s] >= 0 and hit[1, s] != f:
            continue
        if g >= 0:
            gap = (middle[s, 2] / inverse[0, s] - 1.0) / SAME_DEPTH
            if gap < -1.0 or (gap <= 1.0 and g < f):
                continue
        image[k], where[k], face[k], weight[k], source[k] = n, pixel[s], f, share[s], s
        a, b = edges[m, e, 0], edges[m, e, 1]
        wa = (1.0 - along[s]) * screen[n, a, 2] / middle[s, 2]
        for j in range(3):
            v = faces[m, f, j]
            barycentric[k, j] = wa if v == a else (1.0 - wa if v == b else 0.0)
        k += 1
        if g < 0:
            continue
        image[k], where[k], face[k], weight[k], source[k] = n, pixel[s], g, -share[s], -1 - s
        a, b, c = faces[m, g, 0], faces[m, g, 1], faces[m, g, 2]
        xa, ya = screen[n, a, 0] - middle[s, 0], screen[n, a, 1] - middle[s, 1]
        xb, yb = screen[n, b, 0] - middle[s, 0], screen[n, b, 1] - middle[s, 1]
        xc, yc = screen[n, c, 0] - middle[s, 0], screen[n, c, 1] - middle[s, 1]
        qa = (xb * yc - xc * yb) * screen[n, a, 2]
        qb = (xc * ya - xa * yc) * screen[n, b, 2]
        qc = (xa * yb - xb * ya) * screen[n, c, 2]
        scale = 1.0 / (qa + qb + qc)
        barycentric[k, 0], barycentric[k, 1], barycentric[k, 2] = qa * scale, qb * scale, qc * scale
        k += 1
    return k


@kernel
def borders_backward(edges, piece_image, piece_edge, along, normal, source, grad_weight, out):
    """Add to out (N, V, 3) what the gradients of the border fragments' weights (K,) give the ends of their edges."""
    for k in range(source.shape[0]):
        s = source[k]
        grad = np.float64(grad_weight[k])
        if s < 0:
            s, grad = -1 - s, -grad
        n, e, t = piece_image[s], piece_edge[s], along[s]
        m = n if edges.shape[0] > 1 else 0
        a, b = edges[m, e, 0], edges[m, e, 1]
        out[n, a, 0] += grad * (1.0 - t) * normal[s, 0]
        out[n, a, 1] += grad * (1.0 - t) * normal[s, 1]
        out[n, b, 0] += grad * t * normal[s, 0]
        out[n, b, 1] += grad * t * normal[s, 1]
