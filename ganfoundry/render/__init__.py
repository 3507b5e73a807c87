"""Cameras, meshes and the rasteriser that worlds draw with; `ganfoundry.render.renderer` draws with gradients."""

from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh, MeshBuilder, corner_normals
from ganfoundry.render.zbuffer import Fragments, occluder_depth, rasterise

__all__ = ["Camera", "Fragments", "LabelledMesh", "MeshBuilder", "corner_normals", "occluder_depth", "rasterise"]
