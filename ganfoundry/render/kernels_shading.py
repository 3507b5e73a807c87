"""Kernels of shading: attributes and texture of fragments, added up in their pixels; see `shading_reference`.

Large arrays are flat (1D): an index that is known not to be negative costs less than several that may be. Fragments at
pixel centres and those at borders are both in the order of their images: one image after the other is done, with all
that belongs to it, while it is in the cache. Loops over channels end at a -1 that they read: LLVM cannot tell how often
they turn and leaves them as they are, instead of preparing for vectors that three channels do not fill.
"""

from __future__ import annotations

import numpy as np

from ganfoundry.render.kernels import inlined, kernel


@kernel
def _numbers(count):
    """0, 1, ..., count - 1, and -1."""
    numbers = np.arange(count + 1)
    numbers[count] = -1
    return numbers


@inlined
def _texel(x, y, width, height, wrap, right, bottom, one):
    """Texel left above a point of a texture: index, step to the right, shares of the next column and row.

    right and bottom are the last column and row; they and one have the type of x and y.
    """
    zero = one - one
    x, y = (x if wrap else min(max(x, zero), right)), min(max(y, zero), bottom)
    left, top = np.floor(x), min(np.floor(y), max(bottom - one, zero))
    if not wrap:
        left = min(left, max(right - one, zero))
    column = np.int64(left)
    if column < 0 or column >= width:  # seldom, and a division takes longer than all the rest
        column %= width
    to_right = 1 if column + 1 < width else 1 - width
    return np.int64(top) * width + column, to_right, x - left, y - top


@kernel
def _add_attributes(n, first, end, pixel, face, barycentric, weight, attributes, faces, pixels, seen):
    """Add the attributes of fragments first..end - 1, all of image n, to flat seen (N, A, P)."""
    i, m = np.uintp(n if attributes.shape[0] > 1 else 0), np.uintp(n if faces.shape[0] > 1 else 0)
    more, next_map = _numbers(attributes.shape[2]), np.uintp(pixels)
    start = np.uintp(n * attributes.shape[2] * pixels)
    for k in range(np.uintp(first), np.uintp(end)):
        f, w = np.uintp(face[k]), weight[k]
        w0, w1, w2 = barycentric[k, 0], barycentric[k, 1], barycentric[k, 2]
        a, b, c = np.uintp(faces[m, f, 0]), np.uintp(faces[m, f, 1]), np.uintp(faces[m, f, 2])
        u, here = np.uintp(0), start + np.uintp(pixel[k])
        while more[u] >= 0:
            seen[here] += w * (w0 * attributes[i, a, u] + w1 * attributes[i, b, u] + w2 * attributes[i, c, u])
            u, here = u + np.uintp(1), here + next_map


@kernel
def _add_texture(n, first, end, pixel, face, barycentric, weight, uv, uv_faces, texture, shape, pixels, looked_up):
    """Add the texture at fragments first..end - 1, all of image n, to flat looked_up (N, C, P)."""
    num_textures, num_channels, height, width, wrap = shape
    # Constants of the arrays' type: a literal would turn float32 into float64.
    half = np.full(1, 0.5, weight.dtype)[0]
    one, wide, high = half + half, np.full(1, width, weight.dtype)[0], np.full(1, height, weight.dtype)[0]
    right, bottom = max(wide - one, half - half), max(high - one, half - half)
    i, m = np.uintp(n if uv.shape[0] > 1 else 0), np.uintp(n if uv_faces.shape[0] > 1 else 0)
    more, next_map, next_texture = _numbers(num_channels), np.uintp(pixels), np.uintp(height * width)
    start, own = np.uintp(n * num_channels * pixels), (n if num_textures > 1 else 0) * num_channels * height * width
    down = np.uintp(width if height > 1 else 0)
    for k in range(np.uintp(first), np.uintp(end)):
        f, w = np.uintp(face[k]), weight[k]
        w0, w1, w2 = barycentric[k, 0], barycentric[k, 1], barycentric[k, 2]
        a, b, c = np.uintp(uv_faces[m, f, 0]), np.uintp(uv_faces[m, f, 1]), np.uintp(uv_faces[m, f, 2])
        x = (w0 * uv[i, a, 0] + w1 * uv[i, b, 0] + w2 * uv[i, c, 0]) * wide - half
        y = (w0 * uv[i, a, 1] + w1 * uv[i, b, 1] + w2 * uv[i, c, 1]) * high - half
        texel, step, fx, fy = _texel(x, y, width, height, wrap, right, bottom, one)
        t, beside = np.uintp(own + texel), np.uintp(own + texel + step)
        w00, w01, w10, w11 = w * (one - fy) * (one - fx), w * (one - fy) * fx, w * fy * (one - fx), w * fy * fx
        u, here = np.uintp(0), start + np.uintp(pixel[k])
        while more[u] >= 0:
            looked_up[here] += (
                w00 * texture[t] + w01 * texture[beside] + w10 * texture[t + down] + w11 * texture[beside + down]
            )
            t, beside = t + next_texture, beside + next_texture
            u, here = u + np.uintp(1), here + next_map


@kernel
def shade(image, pixel, face, barycentric, weight, num_centres, attributes, faces, uv, uv_faces, texture, shape, mask,
          seen, looked_up):  # fmt: skip
    """Fill mask (N, P), flat seen (N, A, P) and flat looked_up (N, C, P) with the sums of K fragments.

    A or C is 0 where there is none. texture is flat; shape is (1 or N, C, H, W, whether it goes round).
    """
    centre, border = 0, num_centres
    of_seen, of_looked_up = len(seen) // len(mask), len(looked_up) // len(mask)
    for n in range(mask.shape[0]):
        mask[n] = 0.0
        seen[n * of_seen : (n + 1) * of_seen] = 0.0
        looked_up[n * of_looked_up : (n + 1) * of_looked_up] = 0.0
        centre_end = centre + np.searchsorted(image[centre:num_centres], n, "right")
        border_end = border + np.searchsorted(image[border:], n, "right")
        for first, end in ((centre, centre_end), (border, border_end)):
            for k in range(np.uintp(first), np.uintp(end)):
                mask[np.uintp(n), np.uintp(pixel[k])] += weight[k]
            if seen.size:
                _add_attributes(n, first, end, pixel, face, barycentric, weight, attributes, faces, mask.shape[1], seen)
            if looked_up.size:
                _add_texture(
                    n, first, end, pixel, face, barycentric, weight, uv, uv_faces, texture, shape, mask.shape[1],
                    looked_up,
                )  # fmt: skip
        centre, border = centre_end, border_end


@kernel
def _back_of_texture(n, first, end, pixel, face, barycentric, weight, uv, uv_faces, texture, shape, pixels,
                     grad_looked_up, grad_barycentric, grad_weight, of_uv, of_texture):  # fmt: skip
    """Add what the texture gives grad_barycentric, grad_weight, of_uv and of_texture; see `shade_backward`."""
    num_textures, num_channels, height, width, wrap = shape
    half = np.full(1, 0.5, weight.dtype)[0]
    one, wide, high = half + half, np.full(1, width, weight.dtype)[0], np.full(1, height, weight.dtype)[0]
    zero = half - half
    right, bottom = max(wide - one, zero), max(high - one, zero)
    i, m = np.uintp(n if uv.shape[0] > 1 else 0), np.uintp(n if uv_faces.shape[0] > 1 else 0)
    more, next_map, next_texture = _numbers(num_channels), np.uintp(pixels), np.uintp(height * width)
    start, own = np.uintp(n * num_channels * pixels), (n if num_textures > 1 else 0) * num_channels * height * width
    down, to_own = np.uintp(width if height > 1 else 0), np.uintp(n * num_channels * height * width - own)
    to_uv, to_texture = of_uv.size > 0, of_texture.size > 0
    for k in range(np.uintp(first), np.uintp(end)):
        f, w = np.uintp(face[k]), weight[k]
        w0, w1, w2 = barycentric[k, 0], barycentric[k, 1], barycentric[k, 2]
        a, b, c = np.uintp(uv_faces[m, f, 0]), np.uintp(uv_faces[m, f, 1]), np.uintp(uv_faces[m, f, 2])
        ua, ub, uc = uv[i, a, 0] * wide, uv[i, b, 0] * wide, uv[i, c, 0] * wide
        va, vb, vc = uv[i, a, 1] * high, uv[i, b, 1] * high, uv[i, c, 1] * high
        x, y = w0 * ua + w1 * ub + w2 * uc - half, w0 * va + w1 * vb + w2 * vc - half
        texel, step, fx, fy = _texel(x, y, width, height, wrap, right, bottom, one)
        t, beside = np.uintp(own + texel), np.uintp(own + texel + step)
        u, here, total, gx, gy = np.uintp(0), start + np.uintp(pixel[k]), zero, zero, zero
        while more[u] >= 0:
            grad = grad_looked_up[here]
            t00, t01, t10, t11 = texture[t], texture[beside], texture[t + down], texture[beside + down]
            across, below = t01 - t00, t11 - t10
            upper, lower = t00 + fx * across, t10 + fx * below
            total += grad * (upper + fy * (lower - upper))
            gx += grad * (across + fy * (below - across))
            gy += grad * (lower - upper)
            if to_texture:
                grad = grad * w
                under = grad * fy
                over = grad - under
                left, low = t + to_own, t + to_own + down
                side, corner = beside + to_own, beside + to_own + down
                of_texture[left] += over - over * fx
                of_texture[side] += over * fx
                of_texture[low] += under - under * fx
                of_texture[corner] += under * fx
            t, beside = t + next_texture, beside + next_texture
            u, here = u + np.uintp(1), here + next_map
        grad_weight[k] += total
        # The border is repeated outside: no derivative there.
        gx = w * gx if wrap or zero <= x <= right else zero
        gy = w * gy if zero <= y <= bottom else zero
        grad_barycentric[k, 0] += gx * ua + gy * va
        grad_barycentric[k, 1] += gx * ub + gy * vb
        grad_barycentric[k, 2] += gx * uc + gy * vc
        if to_uv:
            gx, gy = gx * wide, gy * high
            of_uv[n, a, 0] += w0 * gx
            of_uv[n, a, 1] += w0 * gy
            of_uv[n, b, 0] += w1 * gx
            of_uv[n, b, 1] += w1 * gy
            of_uv[n, c, 0] += w2 * gx
            of_uv[n, c, 1] += w2 * gy


@kernel
def _back_of_attributes(n, first, end, pixel, face, barycentric, weight, attributes, faces, pixels, grad_seen,
                        grad_barycentric, grad_weight, of_attributes):  # fmt: skip
    """Add what the attributes give grad_barycentric, grad_weight and of_attributes; see `shade_backward`."""
    i, m = np.uintp(n if attributes.shape[0] > 1 else 0), np.uintp(n if faces.shape[0] > 1 else 0)
    num_attributes, asked = attributes.shape[2], of_attributes.size > 0
    more, next_map = _numbers(num_attributes), np.uintp(pixels)
    for k in range(np.uintp(first), np.uintp(end)):
        f, w = np.uintp(face[k]), weight[k]
        w0, w1, w2 = barycentric[k, 0], barycentric[k, 1], barycentric[k, 2]
        a, b, c = np.uintp(faces[m, f, 0]), np.uintp(faces[m, f, 1]), np.uintp(faces[m, f, 2])
        g0, g1, g2 = grad_barycentric[k, 0], grad_barycentric[k, 1], grad_barycentric[k, 2]
        u, here = np.uintp(0), np.uintp(n * num_attributes * pixels) + np.uintp(pixel[k])
        while more[u] >= 0:
            grad = grad_seen[here]
            v0, v1, v2 = grad * attributes[i, a, u], grad * attributes[i, b, u], grad * attributes[i, c, u]
            grad_weight[k] += w0 * v0 + w1 * v1 + w2 * v2
            g0, g1, g2 = g0 + w * v0, g1 + w * v1, g2 + w * v2
            if asked:
                of_attributes[n, a, u] += grad * w * w0
                of_attributes[n, b, u] += grad * w * w1
                of_attributes[n, c, u] += grad * w * w2
            u, here = u + np.uintp(1), here + next_map
        grad_barycentric[k, 0], grad_barycentric[k, 1], grad_barycentric[k, 2] = g0, g1, g2


@kernel
def _back_of_centres(n, first, end, pixel, face, points, corners, size, grad_barycentric, grad_depth, into):
    """Add to into (V, 3) what the gradients of barycentrics and depths at pixel centres give the points."""
    over, asked = 1.0 / size, grad_depth.size > 0
    for k in range(np.uintp(first), np.uintp(end)):
        p, f = np.int64(pixel[k]), np.uintp(face[k])
        row = np.int64((p + 0.5) * over)  # faster than dividing whole numbers
        x, y = p - row * size + 0.5, row + 0.5
        a, b, c = np.uintp(corners[f, 0]), np.uintp(corners[f, 1]), np.uintp(corners[f, 2])
        ia, ib, ic = points[a, 2], points[b, 2], points[c, 2]
        xa, xb, xc = points[a, 0] - x, points[b, 0] - x, points[c, 0] - x
        ya, yb, yc = points[a, 1] - y, points[b, 1] - y, points[c, 1] - y
        # weight_j = q_j / sum q, q_j = e_j / z_j, e_j twice the area opposite to j; depth = sum e / sum q.
        ea, eb, ec = xb * yc - xc * yb, xc * ya - xa * yc, xa * yb - xb * ya
        qa, qb, qc = ea * ia, eb * ib, ec * ic
        scale = 1.0 / (qa + qb + qc)
        ga, gb, gc = grad_barycentric[k, 0], grad_barycentric[k, 1], grad_barycentric[k, 2]
        of_depth = grad_depth[np.uintp(n * size * size + p)] * scale if asked else 0.0
        mean = (ga * qa + gb * qb + gc * qc) * scale + of_depth * (ea + eb + ec)
        ha, hb, hc = (ga - mean) * scale * ia, (gb - mean) * scale * ib, (gc - mean) * scale * ic
        into[a, 2] -= ha * qa
        into[b, 2] -= hb * qb
        into[c, 2] -= hc * qc
        ha, hb, hc = ha + of_depth, hb + of_depth, hc + of_depth
        into[a, 0] += hc * yb - hb * yc
        into[a, 1] += hb * xc - hc * xb
        into[b, 0] += ha * yc - hc * ya
        into[b, 1] += hc * xa - ha * xc
        into[c, 0] += hb * ya - ha * yb
        into[c, 1] += ha * xb - hb * xa


@kernel
def shade_backward(image, pixel, face, barycentric, weight, num_centres, attributes, faces, uv, uv_faces, texture,
                   shape, screen, corners, size, grad_mask, grad_seen, grad_looked_up, grad_depth, fresh,
                   grad_barycentric, grad_weight, of_points, of_attributes, of_uv, of_texture):  # fmt: skip
    """Gradients of `shade`, and of the barycentrics and depths at pixel centres.

    grad_mask, grad_seen, grad_looked_up and grad_depth are flat, and empty if not given. What comes from the maps is
    added to grad_barycentric (K, 3) and grad_weight (K,), or put there if they are fresh; gradients of barycentrics at
    centres go on to of_points (N, V, 3). of_attributes (N, V, A) and of_uv (N, T, 2) are added to, flat of_texture
    (N, C, H, W) is filled; they are empty if nobody asks.
    """
    centre, border, volume, pixels = 0, num_centres, len(of_texture) // len(screen), size * size
    for n in range(screen.shape[0]):
        of_texture[n * volume : (n + 1) * volume] = 0.0
        centre_end = centre + np.searchsorted(image[centre:num_centres], n, "right")
        border_end = border + np.searchsorted(image[border:], n, "right")
        for first, end in ((centre, centre_end), (border, border_end)):
            if fresh:
                grad_barycentric[first:end] = 0.0
                grad_weight[first:end] = 0.0
            if grad_mask.size:
                for k in range(np.uintp(first), np.uintp(end)):
                    grad_weight[k] += grad_mask[np.uintp(n * pixels + pixel[k])]
            if grad_seen.size:
                _back_of_attributes(n, first, end, pixel, face, barycentric, weight, attributes, faces, pixels,
                                    grad_seen, grad_barycentric, grad_weight, of_attributes)  # fmt: skip
            if grad_looked_up.size:
                _back_of_texture(n, first, end, pixel, face, barycentric, weight, uv, uv_faces, texture, shape, pixels,
                                 grad_looked_up, grad_barycentric, grad_weight, of_uv, of_texture)  # fmt: skip
        triangles = corners[n if corners.shape[0] > 1 else 0]
        _back_of_centres(
            n, centre, centre_end, pixel, face, screen[n], triangles, size, grad_barycentric, grad_depth, of_points[n]
        )
        centre, border = centre_end, border_end
