"""Kernels of the soft outlines: `margin_reference` says what they compute."""

from __future__ import annotations

import math

import numpy as np

from ganfoundry.render.kernels import kernel

FADED = 3.0
"""Times the reach; the mask is 0 from there."""


@kernel
def _nearest_on_segment(ax, ay, bx, by, x, y):
    """Squared distance of a point from a segment ab, and the share of b in the nearest point."""
    dx, dy = bx - ax, by - ay
    squared = dx * dx + dy * dy
    share = ((x - ax) * dx + (y - ay) * dy) / squared if squared > 0.0 else 0.0
    share = min(max(share, 0.0), 1.0)
    ox, oy = x - ax - share * dx, y - ay - share * dy
    return ox * ox + oy * oy, share


@kernel
def _nearest_on_triangle(points, corners, f, x, y):
    """Distance of a point from the border of face f, corner opposite to the nearest side, share of its second end."""
    best, side, share = np.inf, 0, 0.0
    for k in range(3):
        a, b = corners[f, (k + 1) % 3], corners[f, (k + 2) % 3]
        squared, here = _nearest_on_segment(points[a, 0], points[a, 1], points[b, 0], points[b, 1], x, y)
        if squared < best:
            best, side, share = squared, k, here
    return math.sqrt(best), side, share


@kernel
def margins(screen, faces, depth, reach, layer, nearest):
    """Fill layer (N, size, size) with the face whose margin is nearest in front of depth, -1 for none; count them.

    depth (N, size, size) is 0 where there is nothing; nearest (size, size) is room for the depth of the margins.
    """
    size, count = layer.shape[1], 0
    for n in range(screen.shape[0]):
        points, corners = screen[n], faces[n if faces.shape[0] > 1 else 0]
        layer[n] = -1
        for y in range(size):
            for x in range(size):
                nearest[y, x] = depth[n, y, x] if depth[n, y, x] > 0.0 else np.inf
        for f in range(corners.shape[0]):
            a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
            ia, ib, ic = points[a, 2], points[b, 2], points[c, 2]
            if ia == 0.0 or ib == 0.0 or ic == 0.0:
                continue
            ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area == 0.0:
                continue
            turn, front = (1.0 if area > 0.0 else -1.0), 1.0 / max(ia, ib, ic)
            far_a, far_b = -reach * math.hypot(bx - cx, by - cy), -reach * math.hypot(cx - ax, cy - ay)
            far_c = -reach * math.hypot(ax - bx, ay - by)
            x_first = int(max(0.0, math.ceil(min(ax, bx, cx) - reach - 0.5)))
            x_last = int(min(size - 1.0, math.floor(max(ax, bx, cx) + reach - 0.5)))
            y_first = int(max(0.0, math.ceil(min(ay, by, cy) - reach - 0.5)))
            y_last = int(min(size - 1.0, math.floor(max(ay, by, cy) + reach - 0.5)))
            for y in range(y_first, y_last + 1):
                for x in range(x_first, x_last + 1):
                    if front >= nearest[np.uintp(y), np.uintp(x)]:
                        continue
                    xa, xb, xc = ax - (x + 0.5), bx - (x + 0.5), cx - (x + 0.5)
                    ya, yb, yc = ay - (y + 0.5), by - (y + 0.5), cy - (y + 0.5)
                    ea, eb, ec = turn * (xb * yc - xc * yb), turn * (xc * ya - xa * yc), turn * (xa * yb - xb * ya)
                    if (ea >= 0.0 and eb >= 0.0 and ec >= 0.0) or ea < far_a or eb < far_b or ec < far_c:
                        continue
                    distance, side, share = _nearest_on_triangle(points, corners, f, x + 0.5, y + 0.5)
                    if not 0.0 < distance < reach:
                        continue
                    u, v = corners[f, (side + 1) % 3], corners[f, (side + 2) % 3]
                    here = (1.0 + 0.5 * distance / reach) / ((1.0 - share) * points[u, 2] + share * points[v, 2])
                    if here < nearest[y, x]:
                        count += layer[n, y, x] < 0
                        nearest[y, x], layer[n, y, x] = here, f
    return count


@kernel
def margin_fragments(screen, faces, face_map, layer, reach, first, image, pixel, face, barycentric, weight, under):
    """Append the margins' fragments to the first ones, which lie at the pixel centres, and take their share from those.

    under (margins,) is the fragment at the same pixel's centre, -1 for none.
    """
    size, k, centre = layer.shape[1], first, 0
    for n in range(screen.shape[0]):
        points, corners = screen[n], faces[n if faces.shape[0] > 1 else 0]
        for y in range(size):
            for x in range(size):
                covered = face_map[n, y, x] >= 0
                f = layer[n, y, x]
                if f >= 0:
                    distance, side, share = _nearest_on_triangle(points, corners, f, x + 0.5, y + 0.5)
                    iu, iv = points[corners[f, (side + 1) % 3], 2], points[corners[f, (side + 2) % 3], 2]
                    of_second = share * iv / ((1.0 - share) * iu + share * iv)
                    image[k], pixel[k], face[k], weight[k] = n, y * size + x, f, 1.0 - distance / reach
                    barycentric[k, side] = 0.0
                    barycentric[k, (side + 1) % 3], barycentric[k, (side + 2) % 3] = 1.0 - of_second, of_second
                    under[k - first] = centre if covered else -1
                    if covered:
                        weight[centre] = distance / reach
                    k += 1
                centre += covered


@kernel
def margins_backward(screen, faces, size, reach, first, image, pixel, face, under, grad_weights, grad_weight, out):
    """Add to out (N, V, 3) what the gradients of barycentrics (K, 3) and weights (K,) give the margins' points."""
    for k in range(first, image.shape[0]):
        n, f = image[k], face[k]
        points, corners = screen[n], faces[n if faces.shape[0] > 1 else 0]
        x, y = pixel[k] % size + 0.5, pixel[k] // size + 0.5
        distance, side, share = _nearest_on_triangle(points, corners, f, x, y)
        j, i = (side + 1) % 3, (side + 2) % 3
        u, v = corners[f, j], corners[f, i]
        of_alpha = np.float64(grad_weight[k])
        if under[k - first] >= 0:
            of_alpha -= grad_weight[under[k - first]]
        dx, dy = points[v, 0] - points[u, 0], points[v, 1] - points[u, 1]
        ox, oy = x - points[u, 0] - share * dx, y - points[u, 1] - share * dy
        # alpha = 1 - distance / reach; the distance falls as the border point moves towards the pixel.
        pull = of_alpha / (reach * distance)
        gux, guy = (1.0 - share) * pull * ox, (1.0 - share) * pull * oy
        gvx, gvy = share * pull * ox, share * pull * oy
        iu, iv = points[u, 2], points[v, 2]
        inverse = (1.0 - share) * iu + share * iv
        grad = (np.float64(grad_weights[k, i]) - grad_weights[k, j]) / (inverse * inverse)
        out[n, u, 2] += grad * share * (1.0 - share) * iv * iu * iu
        out[n, v, 2] -= grad * share * (1.0 - share) * iu * iv * iv
        if 0.0 < share < 1.0:
            along = grad * iu * iv / (dx * dx + dy * dy)
            px, py = x - points[u, 0] - 2.0 * share * dx, y - points[u, 1] - 2.0 * share * dy
            gvx, gvy = gvx + along * px, gvy + along * py
            gux, guy = gux - along * (px + dx), guy - along * (py + dy)
        out[n, u, 0] += gux
        out[n, u, 1] += guy
        out[n, v, 0] += gvx
        out[n, v, 1] += gvy


@kernel
def fade(screen, edges, sides, face_map, reach, nearest, halo):
    """Fill nearest (N, size, size) with the silhouette edge nearest to a free pixel, else -1; halo with the mask."""
    size = face_map.shape[1]
    squares = np.empty((size, size))
    far = FADED * reach
    for n in range(screen.shape[0]):
        points, m = screen[n], n if edges.shape[0] > 1 else 0
        squares[:] = far * far
        nearest[n] = -1
        for e in range(edges.shape[1]):
            if sides[n, e] != 1 and sides[n, e] != 2:
                continue
            a, b = edges[m, e, 0], edges[m, e, 1]
            ax, ay, bx, by = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
            x_first, x_last = int(max(0.0, min(ax, bx) - far - 0.5)), int(min(size - 1.0, max(ax, bx) + far - 0.5))
            y_first, y_last = int(max(0.0, min(ay, by) - far - 0.5)), int(min(size - 1.0, max(ay, by) + far - 0.5))
            for y in range(y_first, y_last + 1):
                for x in range(x_first, x_last + 1):
                    if face_map[n, y, x] < 0:
                        squared, _ = _nearest_on_segment(ax, ay, bx, by, x + 0.5, y + 0.5)
                        if squared < squares[y, x]:
                            squares[y, x], nearest[n, y, x] = squared, e
        for y in range(size):
            for x in range(size):
                halo[n, y, x] = math.exp(-squares[y, x] / (reach * reach)) if nearest[n, y, x] >= 0 else 0.0


@kernel
def fade_backward(screen, edges, nearest, reach, halo, grad, out):
    """Add to out (N, V, 3) what the gradient of the halo (N, size, size) gives the ends of the nearest edges."""
    for n in range(nearest.shape[0]):
        points, m = screen[n], n if edges.shape[0] > 1 else 0
        for y in range(nearest.shape[1]):
            for x in range(nearest.shape[2]):
                e = nearest[n, y, x]
                if e < 0:
                    continue
                a, b = edges[m, e, 0], edges[m, e, 1]
                ax, ay, bx, by = points[a, 0], points[a, 1], points[b, 0], points[b, 1]
                _, share = _nearest_on_segment(ax, ay, bx, by, x + 0.5, y + 0.5)
                scale = 2.0 * grad[n, y, x] * halo[n, y, x] / (reach * reach)
                gx = scale * (x + 0.5 - ax - share * (bx - ax))
                gy = scale * (y + 0.5 - ay - share * (by - ay))
                out[n, a, 0] += (1.0 - share) * gx
                out[n, a, 1] += (1.0 - share) * gy
                out[n, b, 0] += share * gx
                out[n, b, 1] += share * gy
