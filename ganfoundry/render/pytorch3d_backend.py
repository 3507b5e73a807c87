"""pytorch3d's z-buffer instead of ours, where it is installed: faster than plain PyTorch on CUDA."""

from __future__ import annotations

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.render.reference import drawn, gather_faces
from ganfoundry.render.topology import Topology


@torch.no_grad()
def visible_faces(points: Tensor, topology: Topology, size: int) -> Tensor:
    """Index of the nearest face at every pixel centre, int32 (N, size, size); as `reference.visible_faces`.

    Raises
    ------
    InputError
        If pytorch3d is not installed.
    """
    try:
        from pytorch3d.renderer.mesh import rasterize_meshes
        from pytorch3d.structures import Meshes
    except ImportError:
        raise InputError("pytorch3d is not installed; build it from source or choose another backend") from None
    n, count = len(points), topology.faces.shape[1]
    # Its x goes left and its y up, from -1 to 1.
    xy = 1.0 - 2.0 * points[..., :2] / size
    faces = topology.faces.expand(n, -1, -1).long()
    faces = torch.where(drawn(gather_faces(points, topology.faces))[..., None], faces, 0)
    meshes = Meshes(torch.cat([xy, points[..., 2:]], -1).float(), faces)
    packed = rasterize_meshes(
        meshes, image_size=size, blur_radius=0.0, faces_per_pixel=1, perspective_correct=True, cull_backfaces=False
    )[0][..., 0]
    return torch.where(packed >= 0, packed % count, -1).int()
