"""The faces world: heads with exact parts, keypoints, depth, normals, albedo, light, pose and mesh.

Made from CC0 head data (`face_data`). Images are cropped tightly and seen from the front half, as aligned photographs
of faces are; they follow the shading model of Unsup3d exactly (`shading.DirectionalLight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ganfoundry.render.camera import Camera
from ganfoundry.render.zbuffer import rasterise
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.designed import DESIGN, HAIR, DesignedWorld
from ganfoundry.worlds.drawing import Placed, assemble, interpolate, observe, to_image
from ganfoundry.worlds.face import Face, build_face, face_attributes
from ganfoundry.worlds.face_data import load_head
from ganfoundry.worlds.face_design import HAIR_STYLES, FaceDesign, sample_design
from ganfoundry.worlds.face_look import YAW, sample_background, sample_camera, sample_light, sample_scene
from ganfoundry.worlds.face_parts import FACE_SCHEMA, KEYPOINTS
from ganfoundry.worlds.look import stream
from ganfoundry.worlds.shading import Background, DirectionalLight, draw_background

_TOLERANCE = 0.006
"""Metres by which something must be nearer than a keypoint to hide it."""


class FaceWorld(DesignedWorld[FaceDesign, Face]):
    """Faces; the body types of the protocol are hair styles, and the paint is the skin's colour.

    With `body_type`, `design` and `render` give the same person with another hair style.
    """

    schema = FACE_SCHEMA
    body_types = tuple(HAIR_STYLES)
    body_type_name = "hair style"
    azimuths = (-YAW, YAW)

    def _design(self, seed: int, body_type: str | None) -> FaceDesign:
        return sample_design(stream(seed, DESIGN), stream(seed, HAIR), len(load_head().details), body_type)

    def _build(self, design: FaceDesign) -> Face:
        return build_face(design)

    def _camera(self, rng: np.random.Generator, resolution: int) -> Camera:
        return sample_camera(rng, resolution)

    def _scene(
        self, rng: np.random.Generator, resolution: int, num_objects: int | None
    ) -> tuple[list[Placed[Face]], Camera]:
        camera, places = sample_scene(rng, resolution, num_objects)
        details = len(load_head().details)
        faces = [Placed(build_face(sample_design(rng, rng, details)), position, yaw) for position, yaw in places]
        return faces, camera

    def _draw(self, placed: list[Placed[Face]], camera: Camera, look: np.random.Generator, supersample: int) -> Sample:
        return draw_faces(placed, camera, sample_light(look), sample_background(look), supersample)


def draw_faces(
    placed: Sequence[Placed[Face]], camera: Camera, light: DirectionalLight, background: Background, supersample: int
) -> Sample:
    """Render placed faces and everything that is known about them, see `drawing.observe`."""
    assembly = assemble(placed)
    colours = np.concatenate([p.thing.colours for p in placed]) if placed else np.zeros((0, 3, 3))
    fine = replace(camera, resolution=camera.resolution * supersample)
    canvas = draw_background(fine, background, light)
    found = rasterise(assembly.mesh.vertices, assembly.mesh.faces, fine)
    normals = interpolate(found, assembly.mesh.corner_normals)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    canvas[found.face >= 0] = interpolate(found, colours) * light.shading(normals)[:, None]
    about = [face_attributes(p.thing) | {"background": background.kind} for p in placed]
    return observe(
        to_image(canvas, supersample), placed, assembly, camera,
        colours=colours, light=light, attributes=about, num_keypoints=len(KEYPOINTS), tolerance=_TOLERANCE,
    )  # fmt: skip
