"""Kernels of shading: attributes and texture of fragments, added up in their pixels; see `shading_reference`.

Large arrays are flat (1D): an index that is known not to be negative costs less than several that may be.
"""

from __future__ import annotations

import numpy as np

from ganfoundry.render.kernels import kernel


@kernel
def shade(
    image, pixel, face, barycentric, weight, attributes, faces, uv, uv_faces, texture, shape, mask, seen, looked_up
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Add up K fragments in mask (N, P), flat seen (N, A, P) and flat looked_up (N, C, P).

    A or C is 0 where there is none. texture is flat; shape is (1 or N, C, H, W, whether it goes round).
    """
    num_attributes, pixels = attributes.shape[2], mask.shape[1]
    num_textures, num_channels, height, width, wrap = shape
    # Constants of the arrays' type: a literal would turn float32 into float64.
    zero, half = np.zeros(1, weight.dtype)[0], np.full(1, 0.5, weight.dtype)[0]
    one, wide, high = half + half, np.full(1, width, weight.dtype)[0], np.full(1, height, weight.dtype)[0]
    right, bottom = max(wide - one, zero), max(high - one, zero)
    for k in range(image.shape[0]):
        n, p, f, w = np.int64(image[k]), np.int64(pixel[k]), np.uintp(face[k]), weight[k]
        w0, w1, w2 = barycentric[k, 0], barycentric[k, 1], barycentric[k, 2]
        mask[np.uintp(n), np.uintp(p)] += w
        if num_attributes:
            i, m = np.uintp(n if attributes.shape[0] > 1 else 0), np.uintp(n if faces.shape[0] > 1 else 0)
            a, b, c = np.uintp(faces[m, f, 0]), np.uintp(faces[m, f, 1]), np.uintp(faces[m, f, 2])
            for j in range(num_attributes):
                u = np.uintp(j)
                here = np.uintp((n * num_attributes + j) * pixels + p)
                seen[here] += w * (w0 * attributes[i, a, u] + w1 * attributes[i, b, u] + w2 * attributes[i, c, u])
        if num_channels:
            v, m = np.uintp(n if uv.shape[0] > 1 else 0), np.uintp(n if uv_faces.shape[0] > 1 else 0)
            a, b, c = np.uintp(uv_faces[m, f, 0]), np.uintp(uv_faces[m, f, 1]), np.uintp(uv_faces[m, f, 2])
            x = (w0 * uv[v, a, 0] + w1 * uv[v, b, 0] + w2 * uv[v, c, 0]) * wide - half
            y = (w0 * uv[v, a, 1] + w1 * uv[v, b, 1] + w2 * uv[v, c, 1]) * high - half
            x, y = (x if wrap else min(max(x, zero), right)), min(max(y, zero), bottom)
            left, top = np.floor(x), min(np.floor(y), max(bottom - one, zero))
            if not wrap:
                left = min(left, max(right - one, zero))
            fx, fy = x - left, y - top
            column = np.int64(left) % width
            w00, w01 = w * (one - fy) * (one - fx), w * (one - fy) * fx
            w10, w11 = w * fy * (one - fx), w * fy * fx
            own = n if num_textures > 1 else 0
            texel = (own * num_channels * height + np.int64(top)) * width + column
            to_right = 1 if column + 1 < width else 1 - width
            down = width if height > 1 else 0
            for j in range(num_channels):
                looked_up[np.uintp((n * num_channels + j) * pixels + p)] += (
                    w00 * texture[np.uintp(texel)]
                    + w01 * texture[np.uintp(texel + to_right)]
                    + w10 * texture[np.uintp(texel + down)]
                    + w11 * texture[np.uintp(texel + down + to_right)]
                )
                texel += height * width


@kernel
def shade_backward(
    image, pixel, face, barycentric, weight, attributes, faces, uv, uv_faces, texture, shape, grad_mask, grad_seen,
    grad_looked_up, grad_barycentric, grad_weight, grad_attributes, grad_uv, grad_texture,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Fill grad_barycentric (K, 3) and grad_weight (K,); add to the others.

    grad_attributes (N, V, A), grad_uv (N, T, 2) and flat grad_texture (N, C, H, W) are empty where nobody asks.
    """
    num_attributes, pixels = attributes.shape[2], grad_mask.shape[1]
    num_textures, num_channels, height, width, wrap = shape
    zero, half = np.zeros(1, weight.dtype)[0], np.full(1, 0.5, weight.dtype)[0]
    one, wide, high = half + half, np.full(1, width, weight.dtype)[0], np.full(1, height, weight.dtype)[0]
    right, bottom = max(wide - one, zero), max(high - one, zero)
    of_attributes, of_uv, of_texture = grad_attributes.size > 0, grad_uv.size > 0, grad_texture.size > 0
    for k in range(image.shape[0]):
        n, p, f, w = np.int64(image[k]), np.int64(pixel[k]), np.uintp(face[k]), weight[k]
        w0, w1, w2 = barycentric[k, 0], barycentric[k, 1], barycentric[k, 2]
        of_weight = grad_mask[np.uintp(n), np.uintp(p)]
        g0 = g1 = g2 = zero
        if num_attributes:
            i, m = np.uintp(n if attributes.shape[0] > 1 else 0), np.uintp(n if faces.shape[0] > 1 else 0)
            a, b, c = np.uintp(faces[m, f, 0]), np.uintp(faces[m, f, 1]), np.uintp(faces[m, f, 2])
            for j in range(num_attributes):
                u = np.uintp(j)
                grad = grad_seen[np.uintp((n * num_attributes + j) * pixels + p)]
                v0, v1, v2 = grad * attributes[i, a, u], grad * attributes[i, b, u], grad * attributes[i, c, u]
                of_weight += w0 * v0 + w1 * v1 + w2 * v2
                g0, g1, g2 = g0 + w * v0, g1 + w * v1, g2 + w * v2
                if of_attributes:
                    grad_attributes[n, a, u] += grad * w * w0
                    grad_attributes[n, b, u] += grad * w * w1
                    grad_attributes[n, c, u] += grad * w * w2
        if num_channels:
            v, m = np.uintp(n if uv.shape[0] > 1 else 0), np.uintp(n if uv_faces.shape[0] > 1 else 0)
            a, b, c = np.uintp(uv_faces[m, f, 0]), np.uintp(uv_faces[m, f, 1]), np.uintp(uv_faces[m, f, 2])
            ua, ub, uc = uv[v, a, 0] * wide, uv[v, b, 0] * wide, uv[v, c, 0] * wide
            va, vb, vc = uv[v, a, 1] * high, uv[v, b, 1] * high, uv[v, c, 1] * high
            x, y = w0 * ua + w1 * ub + w2 * uc - half, w0 * va + w1 * vb + w2 * vc - half
            # The border is repeated outside: no derivative there.
            free_x, free_y = wrap or zero <= x <= right, zero <= y <= bottom
            x, y = (x if wrap else min(max(x, zero), right)), min(max(y, zero), bottom)
            left, top = np.floor(x), min(np.floor(y), max(bottom - one, zero))
            if not wrap:
                left = min(left, max(right - one, zero))
            fx, fy = x - left, y - top
            column = np.int64(left) % width
            w00, w01, w10, w11 = (one - fy) * (one - fx), (one - fy) * fx, fy * (one - fx), fy * fx
            own = n if num_textures > 1 else 0
            texel = (own * num_channels * height + np.int64(top)) * width + column
            into = texel + (n - own) * num_channels * height * width
            to_right = 1 if column + 1 < width else 1 - width
            down = width if height > 1 else 0
            gx = gy = zero
            for j in range(num_channels):
                grad = grad_looked_up[np.uintp((n * num_channels + j) * pixels + p)]
                t00, t01 = texture[np.uintp(texel)], texture[np.uintp(texel + to_right)]
                t10, t11 = texture[np.uintp(texel + down)], texture[np.uintp(texel + down + to_right)]
                of_weight += grad * (w00 * t00 + w01 * t01 + w10 * t10 + w11 * t11)
                gx += grad * ((one - fy) * (t01 - t00) + fy * (t11 - t10))
                gy += grad * ((one - fx) * (t10 - t00) + fx * (t11 - t01))
                if of_texture:
                    grad = grad * w
                    grad_texture[np.uintp(into)] += grad * w00
                    grad_texture[np.uintp(into + to_right)] += grad * w01
                    grad_texture[np.uintp(into + down)] += grad * w10
                    grad_texture[np.uintp(into + down + to_right)] += grad * w11
                texel += height * width
                into += height * width
            gx, gy = (w * gx if free_x else zero), (w * gy if free_y else zero)
            g0, g1, g2 = g0 + gx * ua + gy * va, g1 + gx * ub + gy * vb, g2 + gx * uc + gy * vc
            if of_uv:
                gx, gy = gx * wide, gy * high
                grad_uv[n, a, 0] += w0 * gx
                grad_uv[n, a, 1] += w0 * gy
                grad_uv[n, b, 0] += w1 * gx
                grad_uv[n, b, 1] += w1 * gy
                grad_uv[n, c, 0] += w2 * gx
                grad_uv[n, c, 1] += w2 * gy
        grad_barycentric[k, 0], grad_barycentric[k, 1], grad_barycentric[k, 2] = g0, g1, g2
        grad_weight[k] = of_weight
