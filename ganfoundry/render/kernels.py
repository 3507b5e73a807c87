"""Kernels of projection and visibility: `reference` says what they compute.

Numba compiles each on its first call and keeps the result beside this file, so that only the first process waits.
Kernels go through the images one after the other; arrays are C-contiguous, decisions are made in float64.
"""

from __future__ import annotations

import math

import numba
import numpy as np

kernel = numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "nnan"})

# What lies inside an edge: nothing, faces on its left, on its right, on both sides.
LEFT, RIGHT = 1, 2


@kernel
def project(vertices, rotation, position, focal, centre, size, points):  # type: ignore[no-untyped-def]
    """Fill points (N, V, 3) with the pixels and depths of vertices (1 or N, V, 3); see `Cameras.project`."""
    for n in range(points.shape[0]):
        i, m = n if vertices.shape[0] > 1 else 0, n if rotation.shape[0] > 1 else 0
        r, scale = rotation[m], size * focal[m]
        for v in range(points.shape[1]):
            x = vertices[i, v, 0] - position[m, 0]
            y = vertices[i, v, 1] - position[m, 1]
            z = vertices[i, v, 2] - position[m, 2]
            depth = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z
            over = scale / depth if depth > 0.0 else scale
            points[n, v, 0] = (r[0, 0] * x + r[0, 1] * y + r[0, 2] * z) * over + size * centre[m, 0]
            points[n, v, 1] = (r[1, 0] * x + r[1, 1] * y + r[1, 2] * z) * over + size * centre[m, 1]
            points[n, v, 2] = depth


@kernel
def project_backward(
    vertices, rotation, position, focal, size, grad, of_vertices, of_rotation, of_position, of_focal, of_centre
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Fill the gradients (N, ...) of `project`, one for each image even where images share the value."""
    for n in range(grad.shape[0]):
        i, m = n if vertices.shape[0] > 1 else 0, n if rotation.shape[0] > 1 else 0
        r, scale = rotation[m], size * focal[m]
        turn, away, zoom = np.zeros((3, 3)), np.zeros(3), 0.0
        shift_x = shift_y = 0.0
        for v in range(grad.shape[1]):
            x = vertices[i, v, 0] - position[m, 0]
            y = vertices[i, v, 1] - position[m, 1]
            z = vertices[i, v, 2] - position[m, 2]
            right, down = r[0, 0] * x + r[0, 1] * y + r[0, 2] * z, r[1, 0] * x + r[1, 1] * y + r[1, 2] * z
            depth = r[2, 0] * x + r[2, 1] * y + r[2, 2] * z
            over = 1.0 / depth if depth > 0.0 else 1.0
            gx, gy, gz = grad[n, v, 0], grad[n, v, 1], np.float64(grad[n, v, 2])
            along = (gx * right + gy * down) * over
            shift_x, shift_y, zoom = shift_x + gx, shift_y + gy, zoom + along
            if depth > 0.0:
                gz -= scale * along * over
            hx, hy = gx * scale * over, gy * scale * over
            turn[0, 0] += hx * x
            turn[0, 1] += hx * y
            turn[0, 2] += hx * z
            turn[1, 0] += hy * x
            turn[1, 1] += hy * y
            turn[1, 2] += hy * z
            turn[2, 0] += gz * x
            turn[2, 1] += gz * y
            turn[2, 2] += gz * z
            for k in range(3):
                back = r[0, k] * hx + r[1, k] * hy + r[2, k] * gz
                of_vertices[n, v, k] = back
                away[k] -= back
        of_rotation[n] = turn
        of_position[n] = away
        of_focal[n] = size * zoom
        of_centre[n, 0], of_centre[n, 1] = size * shift_x, size * shift_y


@kernel
def screen_of(points, near, screen):  # type: ignore[no-untyped-def]
    """Fill screen (N, V, 3): x, y and 1 / depth, 0 for what lies before the near plane."""
    for n in range(points.shape[0]):
        for v in range(points.shape[1]):
            screen[n, v, 0], screen[n, v, 1] = points[n, v, 0], points[n, v, 1]
            z = np.float64(points[n, v, 2])
            screen[n, v, 2] = 1.0 / z if z >= near else 0.0


@kernel
def _block_minima(values, blocks):  # type: ignore[no-untyped-def]
    """Fill blocks with the least of values (size, size) in each block of 4 x 4 pixels."""
    blocks[:] = np.inf
    for y in range(values.shape[0]):
        row, into = values[y], blocks[y >> 2]
        for x in range(values.shape[1]):
            at = np.uintp(x >> 2)
            into[at] = min(into[at], row[np.uintp(x)])


@kernel
def visible(screen, faces, face_edges, face_map, inverse, blocks, sides, boxes):  # type: ignore[no-untyped-def]
    """Fill face_map (N, size, size), sides (N, E) and boxes (N, F, 4) of pixels that faces touch; count the pixels.

    inverse (size, size) is room for 1 / depth, blocks (size / 4 + 1 twice) for its minimum in blocks of 4 x 4 pixels:
    faces that turn the other way than most near ones come last, and are skipped where all blocks are nearer.
    """
    size, count = face_map.shape[1], 0
    for n in range(screen.shape[0]):
        m = n if faces.shape[0] > 1 else 0
        points, corners, own_edges, beside = screen[n], faces[m], face_edges[m], sides[n]
        nearest = face_map[n]
        inverse[:] = 0.0
        nearest[:] = -1
        facing = 0.0
        boxes[n, :, :2], boxes[n, :, 2:] = size, -1
        for f in range(corners.shape[0]):
            a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
            ia, ib, ic = points[a, 2], points[b, 2], points[c, 2]
            if ia == 0.0 or ib == 0.0 or ic == 0.0:
                continue
            ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area == 0.0:
                continue
            turned = area < 0.0
            facing += area * (ia + ib + ic)
            beside[np.uintp(own_edges[f, 0])] |= LEFT if (b < c) != turned else RIGHT
            beside[np.uintp(own_edges[f, 1])] |= LEFT if (c < a) != turned else RIGHT
            beside[np.uintp(own_edges[f, 2])] |= LEFT if (a < b) != turned else RIGHT
        for f in range(2 * corners.shape[0]):
            last = f >= corners.shape[0]
            if f == corners.shape[0]:
                _block_minima(inverse, blocks)
            f = f - corners.shape[0] if last else f
            a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
            ia, ib, ic = points[a, 2], points[b, 2], points[c, 2]
            if ia == 0.0 or ib == 0.0 or ic == 0.0:
                continue
            ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
            area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
            if area == 0.0:
                continue
            if ((area < 0.0) == (facing < 0.0)) == last:
                continue
            if area < 0.0:
                bx, cx, by, cy, ib, ic, area = cx, bx, cy, by, ic, ib, -area
            # A pixel x belongs to the box when its centre x + 0.5 lies between the extremes.
            x_first = int(max(0.0, math.ceil(min(ax, bx, cx) - 0.5)))
            x_last = int(min(size - 1.0, math.floor(max(ax, bx, cx) - 0.5)))
            y_first = int(max(0.0, math.ceil(min(ay, by, cy) - 0.5)))
            y_last = int(min(size - 1.0, math.floor(max(ay, by, cy) - 0.5)))
            # First and last column and row that the face may touch anywhere.
            boxes[n, f, 0], boxes[n, f, 1] = max(x_first - 1, 0), max(y_first - 1, 0)
            boxes[n, f, 2], boxes[n, f, 3] = min(x_last + 1, size - 1), min(y_last + 1, size - 1)
            if x_first > x_last or y_first > y_last:
                continue
            if last:
                farthest = np.inf
                for block_y in range(y_first >> 2, (y_last >> 2) + 1):
                    for block_x in range(x_first >> 2, (x_last >> 2) + 1):
                        farthest = min(farthest, blocks[np.uintp(block_y), np.uintp(block_x)])
                if farthest > max(ia, ib, ic) * (1.0 + 1e-9):
                    continue
            over = 1.0 / area
            # Twice the areas opposite to the corners, and 1 / depth, are linear in x.
            step_a, step_b, step_c = by - cy, cy - ay, ay - by
            step = (step_a * ia + step_b * ib + step_c * ic) * over
            # Tolerant, so that no centre falls between neighbours by rounding.
            least = -1e-12 * (area + abs(ax) + abs(ay))
            for y in range(y_first, y_last + 1):
                xa, xb, xc = ax - (x_first + 0.5), bx - (x_first + 0.5), cx - (x_first + 0.5)
                ya, yb, yc = ay - (y + 0.5), by - (y + 0.5), cy - (y + 0.5)
                ea, eb, ec = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
                here = (ea * ia + eb * ib + ec * ic) * over
                for x in range(x_first, x_last + 1):
                    # Without branches: which pixels are inside cannot be foreseen.
                    i, j = np.uintp(y), np.uintp(x)
                    won = (ea >= least) & (eb >= least) & (ec >= least) & (here > inverse[i, j])
                    inverse[i, j] = here if won else inverse[i, j]
                    nearest[i, j] = f if won else nearest[i, j]
                    ea += step_a
                    eb += step_b
                    ec += step_c
                    here += step
        for y in range(size):
            for x in range(size):
                count += nearest[np.uintp(y), np.uintp(x)] >= 0
    return count


@kernel
def centres(screen, faces, face_map, image, pixel, face, barycentric, depth):  # type: ignore[no-untyped-def]
    """Fill the fragments (K,) of all covered pixel centres, and depth (N, size, size)."""
    size, k = face_map.shape[1], 0
    for n in range(screen.shape[0]):
        points, corners = screen[n], faces[n if faces.shape[0] > 1 else 0]
        for y in range(size):
            row = face_map[n, y]
            for x in range(size):
                f = row[np.uintp(x)]
                if f < 0:
                    continue
                a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
                xa, ya = points[a, 0] - (x + 0.5), points[a, 1] - (y + 0.5)
                xb, yb = points[b, 0] - (x + 0.5), points[b, 1] - (y + 0.5)
                xc, yc = points[c, 0] - (x + 0.5), points[c, 1] - (y + 0.5)
                ea, eb, ec = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
                qa, qb, qc = ea * points[a, 2], eb * points[b, 2], ec * points[c, 2]
                scale = 1.0 / (qa + qb + qc)
                here = np.uintp(k)
                image[here], pixel[here], face[here] = n, y * size + x, f
                barycentric[here, 0], barycentric[here, 1], barycentric[here, 2] = qa * scale, qb * scale, qc * scale
                depth[n, y, x] = (ea + eb + ec) * scale
                k += 1


@kernel
def centres_backward(screen, faces, face_map, grad_weights, grad_depth, out):  # type: ignore[no-untyped-def]
    """Add to out (N, V, 3) what the gradients of K barycentrics (>= K, 3) and of depth (N, size, size) give points."""
    size, k = face_map.shape[1], np.uintp(0)
    for n in range(screen.shape[0]):
        points, corners, into = screen[n], faces[n if faces.shape[0] > 1 else 0], out[n]
        for y in range(size):
            row = face_map[n, y]
            for x in range(size):
                if row[np.uintp(x)] < 0:
                    continue
                f = np.uintp(row[np.uintp(x)])
                a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
                ia, ib, ic = points[a, 2], points[b, 2], points[c, 2]
                xa, ya = points[a, 0] - (x + 0.5), points[a, 1] - (y + 0.5)
                xb, yb = points[b, 0] - (x + 0.5), points[b, 1] - (y + 0.5)
                xc, yc = points[c, 0] - (x + 0.5), points[c, 1] - (y + 0.5)
                # weight_j = q_j / sum q, q_j = e_j / z_j, e_j twice the area opposite to j; depth = sum e / sum q.
                ea, eb, ec = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
                qa, qb, qc = ea * ia, eb * ib, ec * ic
                scale = 1.0 / (qa + qb + qc)
                ga, gb, gc = (
                    np.float64(grad_weights[k, 0]),
                    np.float64(grad_weights[k, 1]),
                    np.float64(grad_weights[k, 2]),
                )
                of_depth = grad_depth[n, y, x] * scale
                mean = (ga * qa + gb * qb + gc * qc) * scale + of_depth * (ea + eb + ec)
                ga, gb, gc = (
                    (ga * scale - mean * scale) * ia,
                    (gb * scale - mean * scale) * ib,
                    (gc * scale - mean * scale) * ic,
                )
                into[a, 2] -= ga * qa
                into[b, 2] -= gb * qb
                into[c, 2] -= gc * qc
                ga, gb, gc = ga + of_depth, gb + of_depth, gc + of_depth
                into[a, 0] += gc * yb - gb * yc
                into[a, 1] += gb * xc - gc * xb
                into[b, 0] += ga * yc - gc * ya
                into[b, 1] += gc * xa - ga * xc
                into[c, 0] += gb * ya - ga * yb
                into[c, 1] += ga * xb - gb * xa
                k += np.uintp(1)
