"""What keeps a deformed template a surface: penalties on vertices, each a mean over a batch.

They see vertices in units of the template, whose radius is about 1, so weights carry over from class to class.
"""

from __future__ import annotations

import torch
from torch import Tensor

_EPSILON = 1e-12  # of squared lengths: a face that has lost its area gives gradient 0, not NaN


def neighbour_mean(values: Tensor, edges: Tensor) -> Tensor:
    """Mean over the neighbours of every vertex.

    Parameters
    ----------
    values : Tensor, float (N, V, C)
    edges : Tensor, int64 (E, 2), each edge once

    Returns
    -------
    Tensor, (N, V, C); 0 at vertices without edges
    """
    start, end = edges.unbind(1)
    total = torch.zeros_like(values)
    total = total.index_add(1, start, values[:, end]).index_add(1, end, values[:, start])
    degree = torch.bincount(edges.flatten(), minlength=values.shape[1]).clamp(min=1)
    return total / degree.to(values.dtype)[:, None]


def laplacian(values: Tensor, edges: Tensor) -> Tensor:
    """Squared distance of every vertex (or displacement) to the mean of its neighbours.

    Given displacements instead of vertices, it leaves the template's own curvature free, as CMR and DIB-R do.

    Parameters
    ----------
    values : Tensor, float (N, V, 3)
    edges : Tensor, int64 (E, 2)

    Returns
    -------
    Tensor, scalar
    """
    return (values - neighbour_mean(values, edges)).square().sum(2).mean()


def face_normals(vertices: Tensor, faces: Tensor) -> Tensor:
    """Unit normals of the faces, outwards for counter-clockwise corners.

    Parameters
    ----------
    vertices : Tensor, float (N, V, 3)
    faces : Tensor, int64 (F, 3)

    Returns
    -------
    Tensor, (N, F, 3); shorter than 1 where a face has no area
    """
    a, b, c = (vertices[:, faces[:, corner]] for corner in range(3))
    cross: Tensor = torch.linalg.cross(b - a, c - a)
    return cross / (cross.square().sum(2, keepdim=True) + _EPSILON).sqrt()


def flatness(vertices: Tensor, faces: Tensor, edge_faces: Tensor) -> Tensor:
    """(1 - cos t)^2 of the angle t between the normals of neighbouring faces.

    This is SoftRas's and DIB-R's flattening loss, (cos d + 1)^2 with the dihedral angle d = 180 degrees - t.

    Parameters
    ----------
    vertices : Tensor, float (N, V, 3)
    faces : Tensor, int64 (F, 3)
    edge_faces : Tensor, int64 (E, 2), the two faces at each edge

    Returns
    -------
    Tensor, scalar; 0 for a plane, 4 for a sheet folded onto itself
    """
    normals = face_normals(vertices, faces)
    cosine = (normals[:, edge_faces[:, 0]] * normals[:, edge_faces[:, 1]]).sum(2)
    return (1 - cosine).square().mean()


def movement(displacement: Tensor) -> Tensor:
    """How far the vertices move, and how unevenly: mean square, plus the variance of the distances.

    GANverse3D (section 3.2) names a term that keeps the deformation "uniform and small" and gives no formula; this is
    our reading of it.

    Parameters
    ----------
    displacement : Tensor, float (N, V, 3)

    Returns
    -------
    Tensor, scalar
    """
    squared = displacement.square().sum(2)
    return squared.mean() + (squared + _EPSILON).sqrt().var(1, correction=0).mean()


def edge_length(vertices: Tensor, edges: Tensor) -> Tensor:
    """Variance of the edges' lengths relative to their mean square: 0 when all are equally long.

    Parameters
    ----------
    vertices : Tensor, float (N, V, 3)
    edges : Tensor, int64 (E, 2)

    Returns
    -------
    Tensor, scalar
    """
    squared = (vertices[:, edges[:, 0]] - vertices[:, edges[:, 1]]).square().sum(2) + _EPSILON
    length = squared.sqrt()
    return (length.var(1, correction=0) / squared.mean(1)).mean()


def asymmetry(vertices: Tensor, mirror: Tensor) -> Tensor:
    """Squared distance between the mesh and its mirror image in the plane x = 0.

    Parameters
    ----------
    vertices : Tensor, float (N, V, 3)
    mirror : Tensor, int64 (V,), see `ganfoundry.shape.template.Template`

    Returns
    -------
    Tensor, scalar
    """
    return (vertices - mirrored(vertices, mirror)).square().sum(2).mean()


def mirrored(vertices: Tensor, mirror: Tensor) -> Tensor:
    """The mirror image in the plane x = 0 with the vertices' numbers kept.

    Parameters
    ----------
    vertices : Tensor, float (N, V, 3)
    mirror : Tensor, int64 (V,)

    Returns
    -------
    Tensor, (N, V, 3)
    """
    return vertices[:, mirror] * vertices.new_tensor([-1.0, 1.0, 1.0])
