"""Penalties against loops over the mesh, closed forms and finite differences."""

import numpy as np
import pytest
import torch
from torch import Tensor

from ganfoundry.shape import regularisers
from ganfoundry.shape.template import Template, sphere_template

TEMPLATE = sphere_template(1)


@pytest.fixture
def mesh() -> Tensor:
    noise = torch.randn(2, len(TEMPLATE.vertices), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return torch.from_numpy(TEMPLATE.vertices).double() + 0.1 * noise


def tensors(template: Template) -> dict[str, Tensor]:
    names = ("faces", "edges", "edge_faces", "mirror")
    return {name: torch.from_numpy(getattr(template, name)) for name in names}


def neighbours(vertex: int) -> list[int]:
    return [int(b if a == vertex else a) for a, b in TEMPLATE.edges if vertex in (a, b)]


def test_laplacian_is_the_loop(mesh: Tensor) -> None:
    expected = [
        float((row[i] - row[neighbours(i)].mean(0)).square().sum()) for row in mesh for i in range(mesh.shape[1])
    ]
    assert float(regularisers.laplacian(mesh, tensors(TEMPLATE)["edges"])) == pytest.approx(np.mean(expected))


def test_neighbour_mean_of_a_lonely_vertex_is_zero() -> None:
    mean = regularisers.neighbour_mean(torch.ones(1, 3, 1), torch.tensor([[0, 1]]))
    assert mean.flatten().tolist() == [1, 1, 0]


def test_laplacian_of_a_moved_template_is_zero() -> None:
    shift = torch.ones(1, len(TEMPLATE.vertices), 3) * torch.tensor([1.0, -2.0, 3.0])
    assert float(regularisers.laplacian(shift, tensors(TEMPLATE)["edges"])) == pytest.approx(0, abs=1e-10)


def test_flatness_is_the_loop(mesh: Tensor) -> None:
    expected = []
    for row in mesh.numpy():
        for first, second in TEMPLATE.edge_faces:
            normals = []
            for face in (first, second):
                a, b, c = row[TEMPLATE.faces[face]]
                cross = np.cross(b - a, c - a)
                normals.append(cross / np.linalg.norm(cross))
            expected.append((1 - normals[0] @ normals[1]) ** 2)
    t = tensors(TEMPLATE)
    value = regularisers.flatness(mesh, t["faces"], t["edge_faces"])
    assert float(value) == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.parametrize(("angle", "expected"), [(0.0, 0.0), (90.0, 1.0), (180.0, 4.0)])
def test_flatness_of_two_hinged_triangles(angle: float, expected: float) -> None:
    t = np.radians(angle)
    vertices = torch.tensor([[[0, 0, 0], [0, 1, 0], [-1, 0, 0], [np.cos(t), 0, np.sin(t)]]], dtype=torch.float64)
    faces, edge_faces = torch.tensor([[0, 1, 2], [1, 0, 3]]), torch.tensor([[0, 1]])
    assert float(regularisers.flatness(vertices, faces, edge_faces)) == pytest.approx(expected, abs=1e-9)


def test_movement_and_edge_length_in_closed_form() -> None:
    alike = torch.full((1, 5, 3), 0.5)
    assert float(regularisers.movement(alike)) == pytest.approx(0.75)
    uneven = torch.zeros(1, 2, 3)
    uneven[0, 1, 0] = 2.0  # lengths 0 and 2: mean square 2, variance 1
    assert float(regularisers.movement(uneven)) == pytest.approx(3.0, rel=1e-5)
    line = torch.tensor([[[0.0, 0, 0], [1.0, 0, 0], [4.0, 0, 0]]])
    edges = torch.tensor([[0, 1], [1, 2]])  # lengths 1 and 3: variance 1, mean square 5
    assert float(regularisers.edge_length(line, edges)) == pytest.approx(0.2)


def test_asymmetry_is_zero_on_symmetric_meshes_only(mesh: Tensor) -> None:
    mirror = tensors(TEMPLATE)["mirror"]
    symmetric = (mesh + regularisers.mirrored(mesh, mirror)) / 2
    assert float(regularisers.asymmetry(symmetric, mirror)) == pytest.approx(0, abs=1e-20)
    shifted = symmetric + torch.tensor([0.5, 0, 0])
    assert float(regularisers.asymmetry(shifted, mirror)) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["laplacian", "flatness", "movement", "edge_length", "asymmetry"])
def test_gradients_by_finite_differences(name: str, mesh: Tensor) -> None:
    t = tensors(TEMPLATE)
    arguments = {
        "laplacian": ("edges",),
        "flatness": ("faces", "edge_faces"),
        "movement": (),
        "edge_length": ("edges",),
        "asymmetry": ("mirror",),
    }[name]
    function = getattr(regularisers, name)
    vertices = mesh[:1, :].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: function(v, *(t[a] for a in arguments)), vertices, atol=1e-6)


def test_a_collapsed_mesh_gives_finite_gradients() -> None:
    t = tensors(TEMPLATE)
    vertices = torch.zeros(1, len(TEMPLATE.vertices), 3, requires_grad=True)
    total = (
        regularisers.flatness(vertices, t["faces"], t["edge_faces"])
        + regularisers.edge_length(vertices, t["edges"])
        + regularisers.movement(vertices)
    )
    total.backward()  # type: ignore[no-untyped-call]
    assert vertices.grad is not None
    assert vertices.grad.isfinite().all()
