"""The faces world: heads with exact parts, keypoints, depth, normals, albedo, light, pose and mesh.

Made from CC0 head data (`face_data`). Images are cropped tightly and seen from the front half, as aligned photographs
of faces are; they follow the shading model of Unsup3d exactly (`shading.DirectionalLight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ganfoundry.errors import InputError
from ganfoundry.labels.schema import PartSchema
from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh
from ganfoundry.render.zbuffer import rasterise
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.drawing import Placed, assemble, interpolate, observe, to_image
from ganfoundry.worlds.face import Face, build_face, face_attributes
from ganfoundry.worlds.face_data import load_head
from ganfoundry.worlds.face_design import HAIR_STYLES, FaceDesign, sample_design
from ganfoundry.worlds.face_look import YAW, sample_background, sample_camera, sample_light, sample_scene
from ganfoundry.worlds.face_parts import FACE_SCHEMA, KEYPOINTS
from ganfoundry.worlds.look import stream
from ganfoundry.worlds.shading import Background, DirectionalLight, draw_background

_DESIGN, _LOOK, _CAMERA, _SCENE, _HAIR = 0, 1, 2, 3, 4
_TOLERANCE = 0.006
"""Metres by which something must be nearer than a keypoint to hide it."""


class FaceWorld:
    """Faces; the body types of the protocol are hair styles, and the paint is the skin's colour."""

    schema: PartSchema = FACE_SCHEMA
    body_types: tuple[str, ...] = tuple(HAIR_STYLES)
    body_type_name = "hair style"
    azimuths = (-YAW, YAW)

    def design(self, seed: int, body_type: str | None = None) -> FaceDesign:
        """The design of a seed, optionally with a given hair style on the same person."""
        if body_type is not None and body_type not in HAIR_STYLES:
            raise InputError(f"no hair style {body_type!r}; choose one of: {', '.join(HAIR_STYLES)}")
        return sample_design(stream(seed, _DESIGN), stream(seed, _HAIR), len(load_head().details), body_type)

    def mesh(self, seed: int) -> LabelledMesh:
        """The head of a seed in its own frame, metres; it ends at the shoulders."""
        return build_face(self.design(seed)).mesh

    def render(
        self,
        seed: int,
        resolution: int = 64,
        *,
        camera: Camera | None = None,
        supersample: int = 2,
        body_type: str | None = None,
    ) -> Sample:
        """Render the face of a seed.

        Face, light and background depend on the seed alone; another camera shows the same face in the same light.

        Parameters
        ----------
        seed : int
            From 0.
        resolution : int
            Image side in pixels.
        camera : Camera, optional
            By default a random one in front of the face; a given one is brought to `resolution`.
        supersample : int
            Samples a pixel side that the image is averaged over; the maps do not depend on it.
        body_type : str, optional
            One of `body_types`, a hair style, instead of the seed's own.

        Raises
        ------
        InputError
            If the seed is negative, a size is not positive, or there is no such hair style.
        """
        _check_sizes(resolution, supersample)
        face = build_face(self.design(seed, body_type))
        drawn = sample_camera(stream(seed, _CAMERA), resolution)
        view = drawn if camera is None else replace(camera, resolution=resolution)
        look = stream(seed, _LOOK)
        light, background = sample_light(look), sample_background(look)
        return draw_faces([Placed(face)], view, light, background, supersample)

    def render_scene(
        self, seed: int, resolution: int = 128, *, num_objects: int | None = None, supersample: int = 2
    ) -> Sample:
        """Render a scene with any number of faces at various sizes and places, see `face_look.sample_scene`.

        Parameters
        ----------
        seed : int
            From 0.
        resolution : int
            Image side in pixels.
        num_objects : int, optional
            Faces to place, from 0; drawn when left out.
        supersample : int
            As in `render`.

        Raises
        ------
        InputError
            If a number is out of range.
        """
        _check_sizes(resolution, supersample)
        rng = stream(seed, _SCENE)
        camera, places = sample_scene(rng, resolution, num_objects)
        details = len(load_head().details)
        placed = [Placed(build_face(sample_design(rng, rng, details)), position, yaw) for position, yaw in places]
        look = stream(seed, _LOOK)
        light, background = sample_light(look), sample_background(look)
        return draw_faces(placed, camera, light, background, supersample)


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


def _check_sizes(resolution: int, supersample: int) -> None:
    """Refuse images without pixels or samples."""
    if resolution < 1 or supersample < 1:
        raise InputError(f"cannot render {resolution} px with {supersample} samples a side; give positive numbers")
