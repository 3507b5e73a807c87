"""Shading of fragments in plain PyTorch: interpolation of attributes and bilinear texture sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from ganfoundry.render.fragments import FragmentList
from ganfoundry.render.reference import fragment_values


def interpolate(fragments: FragmentList, values: Tensor, faces: Tensor) -> Tensor:
    """Values (K, C) on K fragments of values (1 or N, V, C) at the vertices that faces (1 or N, F, 3) name."""
    corners = fragment_values(values, faces, fragments.image, fragments.face)
    return (fragments.barycentric[..., None] * corners).sum(1)


def sample_texture(texture: Tensor, image: Tensor, uv: Tensor, wrap: bool = False) -> Tensor:
    """Bilinear samples (K, C) of textures (1 or N, C, H, W) at uv (K, 2).

    u goes right and v down from the upper left corner (0, 0) of the texture to the lower right one (1, 1), as in glTF;
    texel centres lie at (i + 0.5) / W; outside, the border is repeated, or u goes round if `wrap`.
    """
    height, width = texture.shape[-2:]
    x = uv[:, 0] * width - 0.5
    y = (uv[:, 1] * height - 0.5).clamp(0.0, height - 1.0)
    # The last texel is reached with a fraction of 1 from the one before it, so that its derivative is one-sided.
    left, x = x.detach().floor(), x if wrap else x.clamp(0.0, width - 1.0)
    if not wrap:
        left = left.clamp(0, max(width - 2, 0))
    top = y.detach().floor().clamp(max=max(height - 2, 0))
    fx, fy = (x - left)[:, None], (y - top)[:, None]
    x0, y0 = left.long() % width, top.long()
    x1, y1 = (x0 + 1) % width, (y0 + 1).clamp(max=height - 1)
    which = image.long() if len(texture) > 1 else torch.zeros_like(image, dtype=torch.int64)

    def texel(row: Tensor, column: Tensor) -> Tensor:
        return texture[which, :, row, column]

    upper = (1.0 - fx) * texel(y0, x0) + fx * texel(y0, x1)
    lower = (1.0 - fx) * texel(y1, x0) + fx * texel(y1, x1)
    return (1.0 - fy) * upper + fy * lower


def splat(fragments: FragmentList, values: Tensor, num_images: int, size: int) -> Tensor:
    """Weighted sums (N, C, size, size) of values (K, C) in the fragments' pixels."""
    position = fragments.image.long() * size * size + fragments.pixel.long()
    out = values.new_zeros(num_images * size * size, values.shape[1])
    out = out.index_add(0, position, fragments.weight[:, None] * values)
    return out.view(num_images, size, size, -1).permute(0, 3, 1, 2).contiguous()


def shade(
    fragments: FragmentList,
    num_images: int,
    size: int,
    *,
    attributes: tuple[Tensor, Tensor] | None,
    uv: tuple[Tensor, Tensor] | None,
    texture: Tensor | None,
    wrap: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Mask (N, size, size) and maps (N, C, size, size) of attributes and texture, see `renderer.render`.

    `attributes` and `uv` are values (1 or N, V, C) and the faces (1 or N, F, 3) that name them.
    """
    mask = splat(fragments, fragments.weight.new_ones(len(fragments.weight), 1), num_images, size)[:, 0]
    attribute_map = texture_map = None
    if attributes is not None:
        attribute_map = splat(fragments, interpolate(fragments, *attributes), num_images, size)
    if texture is not None and uv is not None:
        colours = sample_texture(texture, fragments.image, interpolate(fragments, *uv), wrap)
        texture_map = splat(fragments, colours, num_images, size)
    return mask, attribute_map, texture_map
