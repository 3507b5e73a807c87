"""What rasterisers hand to shading: pieces of surface, the pixels they go to, and how much of each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class FragmentList(NamedTuple):
    """K pieces of surface in the pixels of N images; an image is the weighted sum of what is on them.

    First come the fragments at pixel centres, at most one a pixel, then those that a silhouette mode adds.

    Attributes
    ----------
    image, pixel, face : Tensor, int32 (K,)
        Index of the image, of the pixel in it (y * size + x) and of the triangle.
    barycentric : Tensor, (K, 3)
        Perspective-correct weights of the triangle's corners; takes gradients.
    weight : Tensor, (K,)
        Share of the pixel, negative for what a border takes away; takes gradients.
    num_centres : int
        How many of them lie at pixel centres.
    """

    image: Tensor
    pixel: Tensor
    face: Tensor
    barycentric: Tensor
    weight: Tensor
    num_centres: int

    @property
    def centres(self) -> FragmentList:
        """The fragments at pixel centres, each with weight 1."""
        k = self.num_centres
        whole = self.weight.new_ones(k)
        return FragmentList(self.image[:k], self.pixel[:k], self.face[:k], self.barycentric[:k], whole, k)


def join(centres: FragmentList, borders: FragmentList) -> FragmentList:
    """Fragments at pixel centres, then those at borders."""
    pairs = zip(centres[:5], borders[:5], strict=True)
    image, pixel, face, barycentric, weight = (torch.cat(pair) for pair in pairs)
    return FragmentList(image, pixel, face, barycentric, weight, centres.num_centres)
