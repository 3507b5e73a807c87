"""Kernels of the renderer's geometry: `reference` and `edges_reference` say what they compute.

Numba compiles each on its first call and keeps the result beside this file, so that only the first process waits.
Kernels go through the images one after the other; arrays are C-contiguous, decisions are made in float64.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from ganfoundry.render.edges_reference import OUTSIDE, SAME_DEPTH

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


@kernel
def silhouette_owners(screen, faces, edges, face_edges, sides, size, owner, slope):  # type: ignore[no-untyped-def]
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
def cut(screen, edges, sides, owner, size, piece_image, piece_edge, pixel, along, middle, normal, share):  # type: ignore[no-untyped-def]
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
def _inverse_depth(xa, ya, xb, yb, xc, yc, ia, ib, ic):  # type: ignore[no-untyped-def]
    """1 / depth at the origin of a triangle around it, 0 outside."""
    ea, eb, ec = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
    area = ea + eb + ec
    turn = 1.0 if area > 0.0 else -1.0
    if area != 0.0 and ea * turn >= 0.0 and eb * turn >= 0.0 and ec * turn >= 0.0:
        return (ea * ia + eb * ib + ec * ic) / area
    return 0.0


@kernel
def hits(screen, faces, boxes, size, piece_image, middle, normal, alone, head, link, blocks, inverse, hit, inner):  # type: ignore[no-untyped-def]  # fmt: skip
    """Fill 1 / depth (S, 2) and index (S,) of the nearest face over each piece's outside point, 0 and -1 for none.

    inner (S,) is that over the inside point of a piece that is alone, see `Topology.open_edges`; else -1.

    head (size, size) and link (S,) are room for lists of the points in each pixel; blocks (size / 4 + 2 twice) for how
    many pieces lie in the blocks of 4 x 4 pixels above and left of each.
    """
    inverse[:] = 0.0
    hit[:] = -1
    inner[:] = -1
    s = 0
    for n in range(screen.shape[0]):
        m = n if faces.shape[0] > 1 else 0
        points, corners = screen[n], faces[m]
        head[:] = -1
        blocks[:] = 0
        while s < piece_image.shape[0] and piece_image[s] == n:
            y = int(min(max(middle[s, 1], 0.0), size - 1.0))
            x = int(min(max(middle[s, 0], 0.0), size - 1.0))
            link[s] = head[y, x]
            head[y, x] = s
            blocks[(y >> 2) + 1, (x >> 2) + 1] += 1
            s += 1
        for y in range(1, blocks.shape[0]):
            for x in range(1, blocks.shape[1]):
                blocks[y, x] += blocks[y - 1, x] + blocks[y, x - 1] - blocks[y - 1, x - 1]
        for f in range(corners.shape[0]):
            x_first, y_first, x_last, y_last = boxes[n, f, 0], boxes[n, f, 1], boxes[n, f, 2], boxes[n, f, 3]
            if x_first > x_last or y_first > y_last:
                continue
            left, right = np.uintp(x_first >> 2), np.uintp((x_last >> 2) + 1)
            top, bottom = np.uintp(y_first >> 2), np.uintp((y_last >> 2) + 1)
            if blocks[bottom, right] - blocks[bottom, left] - blocks[top, right] + blocks[top, left] == 0:
                continue
            a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
            ia, ib, ic = points[a, 2], points[b, 2], points[c, 2]
            ax, ay, bx, by, cx, cy = points[a, 0], points[a, 1], points[b, 0], points[b, 1], points[c, 0], points[c, 1]
            for y in range(y_first, y_last + 1):
                for x in range(x_first, x_last + 1):
                    k = head[np.uintp(y), np.uintp(x)]
                    while k >= 0:
                        xa, ya = ax - middle[k, 0], ay - middle[k, 1]
                        xb, yb = bx - middle[k, 0], by - middle[k, 1]
                        xc, yc = cx - middle[k, 0], cy - middle[k, 1]
                        near_here = _inverse_depth(xa, ya, xb, yb, xc, yc, ia, ib, ic)
                        if near_here > inverse[k, 0]:
                            inverse[k, 0], hit[k] = near_here, f
                        if alone[k]:
                            step = 2.0 * OUTSIDE / math.hypot(normal[k, 0], normal[k, 1])
                            ox, oy = step * normal[k, 0], step * normal[k, 1]
                            near_here = _inverse_depth(xa + ox, ya + oy, xb + ox, yb + oy, xc + ox, yc + oy, ia, ib, ic)
                            if near_here > inverse[k, 1]:
                                inverse[k, 1], inner[k] = near_here, f
                        k = link[k]


@kernel
def border_fragments(screen, faces, edges, piece_image, piece_edge, pixel, along, middle, share, owner, inverse, hit,
                     inner, image, where, face, barycentric, weight, source):  # type: ignore[no-untyped-def]  # fmt: skip
    """Fill the fragments (<= 2 S,) of the pieces that nothing hides, and the piece of each: source (<= 2 S,).

    source is s for what a piece s adds and -1 - s for what it takes away. Returns the number of fragments.
    """
    k = 0
    for s in range(piece_image.shape[0]):
        n, e, g = piece_image[s], piece_edge[s], hit[s]
        m = n if faces.shape[0] > 1 else 0
        f = owner[n, e]
        if inner[s] >= 0 and inner[s] != f:
            continue
        if g >= 0:
            gap = (middle[s, 2] / inverse[s, 0] - 1.0) / SAME_DEPTH
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
