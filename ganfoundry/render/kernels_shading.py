"""Kernels of shading: attributes and texture of fragments, added up in their pixels; see `shading_reference`."""

from __future__ import annotations

from ganfoundry.render.kernels import kernel


@kernel
def shade(image, pixel, face, barycentric, weight, attributes, faces, uv, uv_faces, texture, mask, seen, looked_up):  # type: ignore[no-untyped-def]
    """Add up K fragments in mask (N, P), seen (N, A, P) and looked_up (N, C, P); A or C is 0 where there is none."""
    num_attributes, num_channels = attributes.shape[2], texture.shape[1]
    height, width = texture.shape[2], texture.shape[3]
    for k in range(image.shape[0]):
        n, p, f, w = image[k], pixel[k], face[k], weight[k]
        w0, w1, w2 = barycentric[k, 0], barycentric[k, 1], barycentric[k, 2]
        mask[n, p] += w
        if num_attributes:
            i, m = n if attributes.shape[0] > 1 else 0, n if faces.shape[0] > 1 else 0
            a, b, c = faces[m, f, 0], faces[m, f, 1], faces[m, f, 2]
            for j in range(num_attributes):
                seen[n, j, p] += w * (w0 * attributes[i, a, j] + w1 * attributes[i, b, j] + w2 * attributes[i, c, j])
        if num_channels:
            i, m = n if uv.shape[0] > 1 else 0, n if uv_faces.shape[0] > 1 else 0
            a, b, c = uv_faces[m, f, 0], uv_faces[m, f, 1], uv_faces[m, f, 2]
            x = (w0 * uv[i, a, 0] + w1 * uv[i, b, 0] + w2 * uv[i, c, 0]) * width - 0.5
            y = (w0 * uv[i, a, 1] + w1 * uv[i, b, 1] + w2 * uv[i, c, 1]) * height - 0.5
            x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
            x0, y0 = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
            x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
            fx, fy = x - x0, y - y0
            w00, w01 = w * (1.0 - fy) * (1.0 - fx), w * (1.0 - fy) * fx
            w10, w11 = w * fy * (1.0 - fx), w * fy * fx
            i = n if texture.shape[0] > 1 else 0
            for j in range(num_channels):
                looked_up[n, j, p] += (
                    w00 * texture[i, j, y0, x0]
                    + w01 * texture[i, j, y0, x1]
                    + w10 * texture[i, j, y1, x0]
                    + w11 * texture[i, j, y1, x1]
                )


@kernel
def shade_backward(
    image, pixel, face, barycentric, weight, attributes, faces, uv, uv_faces, texture, grad_mask, grad_seen,
    grad_looked_up, grad_barycentric, grad_weight, grad_attributes, grad_uv, grad_texture,
):  # type: ignore[no-untyped-def]  # fmt: skip
    """Fill grad_barycentric (K, 3) and grad_weight (K,); add to the others.

    grad_attributes (N, V, A), grad_uv (N, T, 2) and grad_texture (N, C, H, W) have no images where nobody asks.
    """
    num_attributes, num_channels = attributes.shape[2], texture.shape[1]
    height, width = texture.shape[2], texture.shape[3]
    for k in range(image.shape[0]):
        n, p, f, w = image[k], pixel[k], face[k], weight[k]
        w0, w1, w2 = barycentric[k, 0], barycentric[k, 1], barycentric[k, 2]
        of_weight = grad_mask[n, p]
        g0 = g1 = g2 = 0.0
        if num_attributes:
            i, m = n if attributes.shape[0] > 1 else 0, n if faces.shape[0] > 1 else 0
            a, b, c = faces[m, f, 0], faces[m, f, 1], faces[m, f, 2]
            wanted = grad_attributes.shape[0] > 0
            for j in range(num_attributes):
                grad = grad_seen[n, j, p]
                v0, v1, v2 = grad * attributes[i, a, j], grad * attributes[i, b, j], grad * attributes[i, c, j]
                of_weight += w0 * v0 + w1 * v1 + w2 * v2
                g0, g1, g2 = g0 + w * v0, g1 + w * v1, g2 + w * v2
                if wanted:
                    grad_attributes[n, a, j] += grad * w * w0
                    grad_attributes[n, b, j] += grad * w * w1
                    grad_attributes[n, c, j] += grad * w * w2
        if num_channels:
            i, m = n if uv.shape[0] > 1 else 0, n if uv_faces.shape[0] > 1 else 0
            a, b, c = uv_faces[m, f, 0], uv_faces[m, f, 1], uv_faces[m, f, 2]
            ua, ub, uc = uv[i, a, 0] * width, uv[i, b, 0] * width, uv[i, c, 0] * width
            va, vb, vc = uv[i, a, 1] * height, uv[i, b, 1] * height, uv[i, c, 1] * height
            x, y = w0 * ua + w1 * ub + w2 * uc - 0.5, w0 * va + w1 * vb + w2 * vc - 0.5
            free_x, free_y = 0.0 <= x <= width - 1.0, 0.0 <= y <= height - 1.0
            x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
            x0, y0 = min(int(x), max(width - 2, 0)), min(int(y), max(height - 2, 0))
            x1, y1 = min(x0 + 1, width - 1), min(y0 + 1, height - 1)
            fx, fy = x - x0, y - y0
            w00, w01, w10, w11 = (1.0 - fy) * (1.0 - fx), (1.0 - fy) * fx, fy * (1.0 - fx), fy * fx
            i = n if texture.shape[0] > 1 else 0
            wanted = grad_texture.shape[0] > 0
            gx = gy = 0.0
            for j in range(num_channels):
                grad = grad_looked_up[n, j, p]
                t00, t01 = texture[i, j, y0, x0], texture[i, j, y0, x1]
                t10, t11 = texture[i, j, y1, x0], texture[i, j, y1, x1]
                of_weight += grad * (w00 * t00 + w01 * t01 + w10 * t10 + w11 * t11)
                gx += grad * ((1.0 - fy) * (t01 - t00) + fy * (t11 - t10))
                gy += grad * ((1.0 - fx) * (t10 - t00) + fx * (t11 - t01))
                if wanted:
                    grad_texture[n, j, y0, x0] += grad * w * w00
                    grad_texture[n, j, y0, x1] += grad * w * w01
                    grad_texture[n, j, y1, x0] += grad * w * w10
                    grad_texture[n, j, y1, x1] += grad * w * w11
            gx, gy = (w * gx if free_x else 0.0), (w * gy if free_y else 0.0)
            g0, g1, g2 = g0 + gx * ua + gy * va, g1 + gx * ub + gy * vb, g2 + gx * uc + gy * vc
            if grad_uv.shape[0] > 0:
                gx, gy = gx * width, gy * height
                grad_uv[n, a, 0] += w0 * gx
                grad_uv[n, a, 1] += w0 * gy
                grad_uv[n, b, 0] += w1 * gx
                grad_uv[n, b, 1] += w1 * gy
                grad_uv[n, c, 0] += w2 * gx
                grad_uv[n, c, 1] += w2 * gy
        grad_barycentric[k, 0], grad_barycentric[k, 1], grad_barycentric[k, 2] = g0, g1, g2
        grad_weight[k] = of_weight
