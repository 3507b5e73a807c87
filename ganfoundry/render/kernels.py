"""Kernels of the renderer's geometry: `reference` and `edges_reference` say what they compute.

Numba compiles each on its first call and keeps the result beside this file, so that only the first process waits.
Kernels go through the images one after the other; arrays are C-contiguous, decisions are made in float64.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from ganfoundry.render.edges_reference import SAME_DEPTH, TOUCH

kernel = numba.njit(cache=True, nogil=True, error_model="numpy")

# What lies inside an edge: nothing, faces on its left, on its right, on both sides.
LEFT, RIGHT = 1, 2


@kernel
def visible(points, faces, face_edges, near, face_map, inverse, sides):  # type: ignore[no-untyped-def]
    """Fill face_map (N, size, size) and sides (N, E); inverse (size, size) is room for 1 / depth. Count the pixels."""
    size, count = face_map.shape[1], 0
    for n in range(points.shape[0]):
        m = n if faces.shape[0] > 1 else 0
        inverse[:] = 0.0
        face_map[n] = -1
        for f in range(faces.shape[1]):
            a, b, c = faces[m, f, 0], faces[m, f, 1], faces[m, f, 2]
            za, zb, zc = np.float64(points[n, a, 2]), np.float64(points[n, b, 2]), np.float64(points[n, c, 2])
            if za < near or zb < near or zc < near:
                continue
            ax, ay = np.float64(points[n, a, 0]), np.float64(points[n, a, 1])
            bx, by = np.float64(points[n, b, 0]), np.float64(points[n, b, 1])
            cx, cy = np.float64(points[n, c, 0]), np.float64(points[n, c, 1])
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area == 0.0:
                continue
            turned = area < 0.0
            sides[n, face_edges[m, f, 0]] |= LEFT if (b < c) != turned else RIGHT
            sides[n, face_edges[m, f, 1]] |= LEFT if (c < a) != turned else RIGHT
            sides[n, face_edges[m, f, 2]] |= LEFT if (a < b) != turned else RIGHT
            if turned:
                bx, cx, by, cy, zb, zc, area = cx, bx, cy, by, zc, zb, -area
            # A pixel x belongs to the box when its centre x + 0.5 lies between the extremes.
            x_first = int(max(0.0, math.ceil(min(ax, bx, cx) - 0.5)))
            x_last = int(min(size - 1.0, math.floor(max(ax, bx, cx) - 0.5)))
            y_first = int(max(0.0, math.ceil(min(ay, by, cy) - 0.5)))
            y_last = int(min(size - 1.0, math.floor(max(ay, by, cy) - 0.5)))
            ka, kb, kc = 1.0 / (area * za), 1.0 / (area * zb), 1.0 / (area * zc)
            for y in range(y_first, y_last + 1):
                ya, yb, yc = ay - (y + 0.5), by - (y + 0.5), cy - (y + 0.5)
                for x in range(x_first, x_last + 1):
                    xa, xb, xc = ax - (x + 0.5), bx - (x + 0.5), cx - (x + 0.5)
                    # Written alike for both faces of an edge, so that no centre on it falls between them.
                    ea, eb, ec = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
                    if ea >= 0.0 and eb >= 0.0 and ec >= 0.0:
                        near_here = ea * ka + eb * kb + ec * kc
                        if near_here > inverse[y, x]:
                            count += face_map[n, y, x] < 0
                            inverse[y, x] = near_here
                            face_map[n, y, x] = f
    return count


@kernel
def centres(points, faces, face_map, image, pixel, face, barycentric, depth):  # type: ignore[no-untyped-def]
    """Fill the fragments (K,) of all covered pixel centres, and depth (N, size, size)."""
    size, k = face_map.shape[1], 0
    for n in range(points.shape[0]):
        m = n if faces.shape[0] > 1 else 0
        for y in range(size):
            for x in range(size):
                f = face_map[n, y, x]
                if f < 0:
                    continue
                a, b, c = faces[m, f, 0], faces[m, f, 1], faces[m, f, 2]
                za, zb, zc = np.float64(points[n, a, 2]), np.float64(points[n, b, 2]), np.float64(points[n, c, 2])
                xa, ya = points[n, a, 0] - (x + 0.5), points[n, a, 1] - (y + 0.5)
                xb, yb = points[n, b, 0] - (x + 0.5), points[n, b, 1] - (y + 0.5)
                xc, yc = points[n, c, 0] - (x + 0.5), points[n, c, 1] - (y + 0.5)
                qa, qb, qc = (xb * yc - xc * yb) / za, (xc * ya - xa * yc) / zb, (xa * yb - xb * ya) / zc
                scale = 1.0 / (qa + qb + qc)
                qa, qb, qc = qa * scale, qb * scale, qc * scale
                image[k], pixel[k], face[k] = n, y * size + x, f
                barycentric[k, 0], barycentric[k, 1], barycentric[k, 2] = qa, qb, qc
                depth[n, y, x] = qa * za + qb * zb + qc * zc
                k += 1


@kernel
def centres_backward(points, faces, size, image, pixel, face, grad_weights, grad_depth, out):  # type: ignore[no-untyped-def]
    """Add to out (N, V, 3) what the gradients of K barycentrics (>= K, 3) and of depth (N, size, size) give points."""
    for k in range(image.shape[0]):
        n, f = image[k], face[k]
        m = n if faces.shape[0] > 1 else 0
        y, x = pixel[k] // size, pixel[k] % size
        a, b, c = faces[m, f, 0], faces[m, f, 1], faces[m, f, 2]
        za, zb, zc = np.float64(points[n, a, 2]), np.float64(points[n, b, 2]), np.float64(points[n, c, 2])
        xa, ya = points[n, a, 0] - (x + 0.5), points[n, a, 1] - (y + 0.5)
        xb, yb = points[n, b, 0] - (x + 0.5), points[n, b, 1] - (y + 0.5)
        xc, yc = points[n, c, 0] - (x + 0.5), points[n, c, 1] - (y + 0.5)
        ia, ib, ic = 1.0 / za, 1.0 / zb, 1.0 / zc
        # weight_j = q_j / sum q, q_j = (area of the triangle opposite j) / z_j
        qa, qb, qc = (xb * yc - xc * yb) * ia, (xc * ya - xa * yc) * ib, (xa * yb - xb * ya) * ic
        scale = 1.0 / (qa + qb + qc)
        of_depth = grad_depth[n, y, x]
        ga = grad_weights[k, 0] + of_depth * za
        gb = grad_weights[k, 1] + of_depth * zb
        gc = grad_weights[k, 2] + of_depth * zc
        mean = (ga * qa + gb * qb + gc * qc) * scale
        ga, gb, gc = (ga - mean) * scale, (gb - mean) * scale, (gc - mean) * scale
        out[n, a, 2] += of_depth * qa * scale - ga * qa * ia
        out[n, b, 2] += of_depth * qb * scale - gb * qb * ib
        out[n, c, 2] += of_depth * qc * scale - gc * qc * ic
        ga, gb, gc = ga * ia, gb * ib, gc * ic
        out[n, a, 0] += gc * yb - gb * yc
        out[n, a, 1] += gb * xc - gc * xb
        out[n, b, 0] += ga * yc - gc * ya
        out[n, b, 1] += gc * xa - ga * xc
        out[n, c, 0] += gb * ya - ga * yb
        out[n, c, 1] += ga * xb - gb * xa


@kernel
def silhouette_owners(points, faces, edges, face_edges, sides, near, size, owner, slope):  # type: ignore[no-untyped-def]
    """Fill owner (N, E) with the nearest face beside each silhouette, else -1; bound how many pieces there are.

    slope (E,) is room for how fast 1 / depth grows from an edge inwards.
    """
    bound = 0
    for n in range(points.shape[0]):
        m = n if faces.shape[0] > 1 else 0
        slope[:] = -np.inf
        owner[n] = -1
        for f in range(faces.shape[1]):
            for k in range(3):
                e = face_edges[m, f, k]
                if sides[n, e] != LEFT and sides[n, e] != RIGHT:
                    continue
                o, a, b = faces[m, f, k], edges[m, e, 0], edges[m, e, 1]
                za, zb, zo = np.float64(points[n, a, 2]), np.float64(points[n, b, 2]), np.float64(points[n, o, 2])
                if za < near or zb < near or zo < near:
                    continue
                ax, ay = np.float64(points[n, a, 0]), np.float64(points[n, a, 1])
                dx, dy = points[n, b, 0] - ax, points[n, b, 1] - ay
                tx, ty = points[n, o, 0] - ax, points[n, o, 1] - ay
                side = abs(dx * ty - dy * tx)
                if side == 0.0:
                    continue
                squared = dx * dx + dy * dy
                share = (dx * tx + dy * ty) / squared
                here = (1.0 / zo - (1.0 - share) / za - share / zb) * math.sqrt(squared) / side
                if here > slope[e]:
                    if slope[e] == -np.inf:
                        bound += int(min(abs(dx), size)) + int(min(abs(dy), size)) + 3
                    slope[e] = here
                    owner[n, e] = f
    return bound


@kernel
def _border_position(x, y):  # type: ignore[no-untyped-def]
    if abs(x) >= abs(y):
        return 0.0 if x == 0.0 else 0.5 * y / x + (2.0 if x < 0.0 else 0.0)
    return 1.0 - 0.5 * x / y + (2.0 if y < 0.0 else 0.0)


@kernel
def _share(px, py, qx, qy):  # type: ignore[no-untyped-def]
    """Signed area of the triangle centre p q less that of the pixel's wedge between the rays through p and q."""
    turn = _border_position(qx, qy) - _border_position(px, py)
    if turn > 2.0:
        turn -= 4.0
    elif turn < -2.0:
        turn += 4.0
    return 0.5 * (px * qy - py * qx) - 0.25 * turn


@kernel
def cut(points, edges, sides, owner, size, piece_image, piece_edge, pixel, along, middle, normal, share):  # type: ignore[no-untyped-def]
    """Cut the silhouettes at the borders of the pixels; return the number of pieces S, image by image.

    Fills image, edge, pixel (S,), the middle's parameter on the edge (S,), middle (S, 3) with 1 / depth last, the
    outward normal as long as the piece (S, 2), and the share of the pixel (S,).
    """
    s = 0
    for n in range(points.shape[0]):
        m = n if edges.shape[0] > 1 else 0
        for e in range(edges.shape[1]):
            if owner[n, e] < 0:
                continue
            a, b = edges[m, e, 0], edges[m, e, 1]
            ax, ay, ia = np.float64(points[n, a, 0]), np.float64(points[n, a, 1]), 1.0 / np.float64(points[n, a, 2])
            dx, dy, ib = points[n, b, 0] - ax, points[n, b, 1] - ay, 1.0 / np.float64(points[n, b, 2])
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
                    middle[s, 0], middle[s, 1], middle[s, 2] = mx, my, (1.0 - half) * ia + half * ib
                    normal[s, 0], normal[s, 1] = side * (end - t) * dy, -side * (end - t) * dx
                    cx, cy = ax - px - 0.5, ay - py - 0.5
                    share[s] = side * _share(cx + t * dx, cy + t * dy, cx + end * dx, cy + end * dy)
                    s += 1
                    t = end
    return s


@kernel
def hits(points, faces, face_edges, near, size, piece_image, piece_edge, pixel, middle, head, link, inverse, hit):  # type: ignore[no-untyped-def]
    """Fill 1 / depth (S,) and index (S,) of the nearest face over each middle that the edge is not part of, 0 and -1.

    head (size + 1, size) and link (S,) are room for lists of the pieces in each pixel.
    """
    inverse[:] = 0.0
    hit[:] = -1
    s = 0
    for n in range(points.shape[0]):
        m = n if faces.shape[0] > 1 else 0
        head[:] = -1
        while s < piece_image.shape[0] and piece_image[s] == n:
            y, x = pixel[s] // size, pixel[s] % size
            link[s] = head[y, x]
            head[y, x] = s
            # The last row counts the pieces by rows and columns; rows without any are skipped.
            head[size, y] = max(head[size, y], x)
            s += 1
        for f in range(faces.shape[1]):
            a, b, c = faces[m, f, 0], faces[m, f, 1], faces[m, f, 2]
            za, zb, zc = np.float64(points[n, a, 2]), np.float64(points[n, b, 2]), np.float64(points[n, c, 2])
            if za < near or zb < near or zc < near:
                continue
            ax, ay = np.float64(points[n, a, 0]), np.float64(points[n, a, 1])
            bx, by = np.float64(points[n, b, 0]), np.float64(points[n, b, 1])
            cx, cy = np.float64(points[n, c, 0]), np.float64(points[n, c, 1])
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area == 0.0:
                continue
            if area < 0.0:
                bx, cx, by, cy, zb, zc, area = cx, bx, cy, by, zc, zb, -area
            x_first = int(min(max(0.0, math.floor(min(ax, bx, cx) - TOUCH)), size - 1.0))
            x_last = int(max(min(size - 1.0, math.floor(max(ax, bx, cx) + TOUCH)), 0.0))
            y_first = int(min(max(0.0, math.floor(min(ay, by, cy) - TOUCH)), size - 1.0))
            y_last = int(max(min(size - 1.0, math.floor(max(ay, by, cy) + TOUCH)), 0.0))
            for y in range(y_first, y_last + 1):
                for x in range(x_first, min(x_last, head[size, y]) + 1):
                    k = head[y, x]
                    while k >= 0:
                        e = piece_edge[k]
                        if face_edges[m, f, 0] != e and face_edges[m, f, 1] != e and face_edges[m, f, 2] != e:
                            xa, ya = ax - middle[k, 0], ay - middle[k, 1]
                            xb, yb = bx - middle[k, 0], by - middle[k, 1]
                            xc, yc = cx - middle[k, 0], cy - middle[k, 1]
                            ea, eb, ec = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
                            if (
                                ea >= -TOUCH * math.hypot(bx - cx, by - cy)
                                and eb >= -TOUCH * math.hypot(cx - ax, cy - ay)
                                and ec >= -TOUCH * math.hypot(ax - bx, ay - by)
                            ):
                                near_here = (ea / za + eb / zb + ec / zc) / area
                                if near_here > inverse[k]:
                                    inverse[k], hit[k] = near_here, f
                        k = link[k]


@kernel
def border_fragments(points, faces, edges, piece_image, piece_edge, pixel, along, middle, share, owner, inverse, hit,
                     image, where, face, barycentric, weight, source):  # type: ignore[no-untyped-def]  # fmt: skip
    """Fill the fragments (<= 2 S,) of the pieces that nothing hides, and the piece of each: source (<= 2 S,).

    source is s for what a piece s adds and -1 - s for what it takes away. Returns the number of fragments.
    """
    k = 0
    for s in range(piece_image.shape[0]):
        n, e, g = piece_image[s], piece_edge[s], hit[s]
        m = n if faces.shape[0] > 1 else 0
        f = owner[n, e]
        if g >= 0:
            gap = (middle[s, 2] / inverse[s] - 1.0) / SAME_DEPTH
            if gap < -1.0 or (gap <= 1.0 and g < f):
                continue
        image[k], where[k], face[k], weight[k], source[k] = n, pixel[s], f, share[s], s
        a, b = edges[m, e, 0], edges[m, e, 1]
        wa = (1.0 - along[s]) / points[n, a, 2] / middle[s, 2]
        for j in range(3):
            v = faces[m, f, j]
            barycentric[k, j] = wa if v == a else (1.0 - wa if v == b else 0.0)
        k += 1
        if g < 0:
            continue
        image[k], where[k], face[k], weight[k], source[k] = n, pixel[s], g, -share[s], -1 - s
        a, b, c = faces[m, g, 0], faces[m, g, 1], faces[m, g, 2]
        xa, ya = points[n, a, 0] - middle[s, 0], points[n, a, 1] - middle[s, 1]
        xb, yb = points[n, b, 0] - middle[s, 0], points[n, b, 1] - middle[s, 1]
        xc, yc = points[n, c, 0] - middle[s, 0], points[n, c, 1] - middle[s, 1]
        qa = (xb * yc - xc * yb) / points[n, a, 2]
        qb = (xc * ya - xa * yc) / points[n, b, 2]
        qc = (xa * yb - xb * ya) / points[n, c, 2]
        scale = 1.0 / (qa + qb + qc)
        barycentric[k, 0], barycentric[k, 1], barycentric[k, 2] = qa * scale, qb * scale, qc * scale
        k += 1
    return k


@kernel
def borders_backward(edges, piece_image, piece_edge, along, normal, source, grad_weight, out):  # type: ignore[no-untyped-def]
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
