"""Kernels of projection and visibility: `reference` says what they compute.

Numba compiles each on its first call and keeps the result beside this file, so that only the first process waits.
Kernels go through the images one after the other; arrays are C-contiguous, decisions are made in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from ganfoundry.render.lanes import LANES, nearer_pixels

_options: dict[str, Any] = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "nsz", "nnan"},
}
kernel = numba.njit(**_options)
inlined = numba.njit(inline="always", **_options)
"""For what is called for every face or fragment: arrays are dear to pass."""

# What lies inside an edge: nothing, faces on its left, on its right, on both sides.
LEFT, RIGHT = 1, 2
BESIDE = 1e-4
"""Pixels by which the boxes of faces are larger than the faces: more than `kernels_edges.OUTSIDE`."""


@kernel
def orbit(azimuth, elevation, distance, fov, target, rotation, position, focal):
    """Fill rotation (N, 3, 3), position (N, 3) and focal (N,) of cameras that look at targets (1 or N, 3), in degrees.

    azimuth, elevation, distance and fov are (1,) or (N,); see `Cameras.from_angles`.
    """
    for n in range(focal.shape[0]):
        a = math.radians(np.float64(azimuth[n if azimuth.shape[0] > 1 else 0]))
        e = math.radians(np.float64(elevation[n if elevation.shape[0] > 1 else 0]))
        r, m = np.float64(distance[n if distance.shape[0] > 1 else 0]), n if target.shape[0] > 1 else 0
        sin_a, cos_a, sin_e, cos_e = math.sin(a), math.cos(a), math.sin(e), math.cos(e)
        rotation[n, 0, 0], rotation[n, 0, 1], rotation[n, 0, 2] = cos_a, 0.0, -sin_a
        rotation[n, 1, 0], rotation[n, 1, 1], rotation[n, 1, 2] = sin_e * sin_a, -cos_e, sin_e * cos_a
        rotation[n, 2, 0], rotation[n, 2, 1], rotation[n, 2, 2] = -cos_e * sin_a, -sin_e, -cos_e * cos_a
        position[n, 0] = target[m, 0] + r * cos_e * sin_a
        position[n, 1] = target[m, 1] + r * sin_e
        position[n, 2] = target[m, 2] + r * cos_e * cos_a
        focal[n] = 0.5 / math.tan(0.5 * math.radians(np.float64(fov[n if fov.shape[0] > 1 else 0])))


@kernel
def orbit_backward(azimuth, elevation, distance, fov, turn, move, zoom, of_angles, of_target):
    """Fill of_angles (4, N), in the order of `orbit`, and of_target (N, 3) from the gradients of its three results."""
    for n in range(zoom.shape[0]):
        a = math.radians(np.float64(azimuth[n if azimuth.shape[0] > 1 else 0]))
        e = math.radians(np.float64(elevation[n if elevation.shape[0] > 1 else 0]))
        r = np.float64(distance[n if distance.shape[0] > 1 else 0])
        half = 0.5 * math.radians(np.float64(fov[n if fov.shape[0] > 1 else 0]))
        sin_a, cos_a, sin_e, cos_e = math.sin(a), math.cos(a), math.sin(e), math.cos(e)
        # From the target towards the camera: its third row, turned round, and what its position moves along.
        back_x, back_y, back_z = (
            r * move[n, 0] - turn[n, 2, 0],
            r * move[n, 1] - turn[n, 2, 1],
            r * move[n, 2] - turn[n, 2, 2],
        )
        of_angles[0, n] = math.radians(
            -sin_a * turn[n, 0, 0] - cos_a * turn[n, 0, 2]
            + sin_e * (cos_a * turn[n, 1, 0] - sin_a * turn[n, 1, 2])
            + cos_e * (cos_a * back_x - sin_a * back_z)
        )  # fmt: skip
        of_angles[1, n] = math.radians(
            cos_e * sin_a * turn[n, 1, 0] + sin_e * turn[n, 1, 1] + cos_e * cos_a * turn[n, 1, 2]
            - sin_e * sin_a * back_x + cos_e * back_y - sin_e * cos_a * back_z
        )  # fmt: skip
        of_angles[2, n] = cos_e * sin_a * move[n, 0] + sin_e * move[n, 1] + cos_e * cos_a * move[n, 2]
        of_angles[3, n] = -math.radians(0.25 * zoom[n] / math.sin(half) ** 2)
        for k in range(3):
            of_target[n, k] = move[n, k]


@kernel
def project(vertices, rotation, position, focal, centre, size, points):
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
):  # fmt: skip
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
def screen_of(points, near, screen):
    """Fill screen (N, V, 3): x, y and 1 / depth, 0 for what lies before the near plane."""
    for n in range(points.shape[0]):
        for v in range(points.shape[1]):
            screen[n, v, 0], screen[n, v, 1] = points[n, v, 0], points[n, v, 1]
            z = np.float64(points[n, v, 2])
            screen[n, v, 2] = 1.0 / z if z >= near else 0.0


@kernel
def _block_minima(values, size, blocks):
    """Fill blocks with the least of flat values (size, size + LANES) in each block of 4 x 4 pixels."""
    width = size + LANES
    row = np.empty(width)
    for block_y in range((size + 3) >> 2):
        row[:] = np.inf
        for y in range(4 * block_y, min(4 * block_y + 4, size)):
            for x in range(width):
                row[np.uintp(x)] = min(row[np.uintp(x)], values[np.uintp(y * width + x)])
        row[size:] = np.inf
        for block_x in range((size + 3) >> 2):
            x = np.uintp(4 * block_x)
            pair = min(row[x], row[x + np.uintp(1)]), min(row[x + np.uintp(2)], row[x + np.uintp(3)])
            blocks[block_y, block_x] = min(pair[0], pair[1])


@kernel
def _sort_faces(points, corners, own_edges, size, beside, boxes, order):
    """Fill beside (E,), boxes (F, 4) and order (2, F): drawn faces that turn clockwise, and those that do not.

    Returns how many each there are, and which of the two most near faces are.
    """
    facing, clockwise, others = 0.0, 0, 0
    for f in range(corners.shape[0]):
        a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
        ia, ib, ic = points[a, 2], points[b, 2], points[c, 2]
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if ia == 0.0 or ib == 0.0 or ic == 0.0 or area == 0.0:
            boxes[f, 0], boxes[f, 1], boxes[f, 2], boxes[f, 3] = size, size, -1, -1
            continue
        boxes[f, 0] = int(min(max(0.0, math.floor(min(ax, bx, cx) - BESIDE)), size))
        boxes[f, 1] = int(min(max(0.0, math.floor(min(ay, by, cy) - BESIDE)), size))
        boxes[f, 2] = int(max(min(size - 1.0, math.floor(max(ax, bx, cx) + BESIDE)), -1.0))
        boxes[f, 3] = int(max(min(size - 1.0, math.floor(max(ay, by, cy) + BESIDE)), -1.0))
        turned = area < 0.0
        facing += area * (ia + ib + ic)
        beside[np.uintp(own_edges[f, 0])] |= LEFT if (b < c) != turned else RIGHT
        beside[np.uintp(own_edges[f, 1])] |= LEFT if (c < a) != turned else RIGHT
        beside[np.uintp(own_edges[f, 2])] |= LEFT if (a < b) != turned else RIGHT
        if turned:
            order[1, others] = f
            others += 1
        else:
            order[0, clockwise] = f
            clockwise += 1
    return clockwise, others, 0 if facing >= 0.0 else 1


@kernel
def _draw(points, corners, which, size, inverse, winner, blocks, hidden):
    """Put faces into the pixels where they are the nearest; if `hidden`, look first whether all blocks are nearer."""
    for k in range(which.shape[0]):
        f = np.uintp(which[k])
        a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
        ia, ib, ic = points[a, 2], points[b, 2], points[c, 2]
        ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
        # A pixel x belongs to the box when its centre x + 0.5 lies between the extremes.
        x_first = int(min(max(0.0, math.ceil(min(ax, bx, cx) - 0.5)), size))
        x_last = int(max(min(size - 1.0, math.floor(max(ax, bx, cx) - 0.5)), -1.0))
        y_first = int(min(max(0.0, math.ceil(min(ay, by, cy) - 0.5)), size))
        y_last = int(max(min(size - 1.0, math.floor(max(ay, by, cy) - 0.5)), -1.0))
        if x_first > x_last or y_first > y_last:
            continue
        if hidden:
            farthest = np.inf
            for block_y in range(y_first >> 2, (y_last >> 2) + 1):
                for block_x in range(x_first >> 2, (x_last >> 2) + 1):
                    farthest = min(farthest, blocks[np.uintp(block_y), np.uintp(block_x)])
            if farthest > max(ia, ib, ic) * (1.0 + 1e-9):
                continue
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area < 0.0:
            bx, cx, by, cy, ib, ic, area = cx, bx, cy, by, ic, ib, -area
        over = 1.0 / area
        # Twice the areas opposite to the corners, and 1 / depth, are linear in x.
        step_a, step_b, step_c = by - cy, cy - ay, ay - by
        steps = step_a, step_b, step_c, (step_a * ia + step_b * ib + step_c * ic) * over
        # Tolerant, so that no centre falls between neighbours by rounding.
        least = -1e-12 * (area + abs(ax) + abs(ay))
        for y in range(y_first, y_last + 1):
            row = y * (size + LANES)
            ya, yb, yc = ay - (y + 0.5), by - (y + 0.5), cy - (y + 0.5)
            for x in range(x_first, x_last + 1, LANES):
                xa, xb, xc = ax - (x + 0.5), bx - (x + 0.5), cx - (x + 0.5)
                ea, eb, ec = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
                here = (ea * ia + eb * ib + ec * ic) * over
                starts = ea, eb, ec, here
                nearer_pixels(inverse, winner, row + x, float(x_last + 1 - x), starts, steps, least, which[k])


@kernel
def visible(screen, faces, face_edges, face_map, inverse, winner, blocks, order, sides, boxes):
    """Fill face_map (N, size, size), sides (N, E) and boxes (N, F, 4) of pixels that faces touch; count the pixels.

    Room: flat inverse and winner (size, size + LANES) for 1 / depth and face, blocks (size / 4 + 1 twice) for the least
    1 / depth in blocks of 4 x 4 pixels, order (2, F). Faces that turn the other way than most near ones come last, and
    are skipped where all blocks are nearer.
    """
    size, count = face_map.shape[1], 0
    for n in range(screen.shape[0]):
        points, corners = screen[n], faces[n if faces.shape[0] > 1 else 0]
        own_edges = face_edges[n if faces.shape[0] > 1 else 0]
        clockwise, others, most = _sort_faces(points, corners, own_edges, size, sides[n], boxes[n], order)
        inverse[:] = 0.0
        winner[:] = -1
        which = order[0, :clockwise], order[1, :others]
        _draw(points, corners, which[most], size, inverse, winner, blocks, False)
        _block_minima(inverse, size, blocks)
        _draw(points, corners, which[1 - most], size, inverse, winner, blocks, True)
        for y in range(size):
            for x in range(size):
                f = winner[np.uintp(y * (size + LANES) + x)]
                face_map[n, y, x] = f
                count += f >= 0
    return count


@kernel
def centres(screen, faces, face_map, image, pixel, face, barycentric, depth):
    """Fill the fragments (K,) of all covered pixel centres, and depth (N, size, size)."""
    size, k = face_map.shape[1], 0
    for n in range(screen.shape[0]):
        points, corners = screen[n], faces[n if faces.shape[0] > 1 else 0]
        for y in range(size):
            row = face_map[n, y]
            for x in range(size):
                f = row[np.uintp(x)]
                if f < 0:
                    depth[n, y, x] = 0.0
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
