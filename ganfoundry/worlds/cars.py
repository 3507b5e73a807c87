"""The cars world: parametric cars with exact parts, keypoints, depth, normals, pose and mesh."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError
from ganfoundry.labels.schema import PartSchema
from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh, MeshBuilder
from ganfoundry.render.zbuffer import occluder_depth, rasterise
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.car_body import add_lower_body
from ganfoundry.worlds.car_cabin import add_cabin
from ganfoundry.worlds.car_design import BODY_TYPES, CarDesign, sample_design
from ganfoundry.worlds.car_details import (
    add_handles,
    add_mirrors,
    add_plates,
    add_roof_rails,
    add_underbody,
    add_wheels,
)
from ganfoundry.worlds.car_parts import CAR_SCHEMA, KEYPOINTS, Material
from ganfoundry.worlds.shading import MATERIAL_FIELDS, Background, Footprint, Light, draw_background, shade

Array = npt.NDArray[np.float64]

FOV = 26.0
"""Field of view of every random camera, degrees."""
DISTANCE = (11.0, 11.25)
"""Range of the random cameras' distances, metres: narrow, so that one view code is one camera."""
ELEVATION = (0.0, 30.0)
"""Range of the random cameras' elevations, degrees."""

_DESIGN, _LOOK, _CAMERA = 0, 1, 2


def stream(seed: int, key: int) -> np.random.Generator:
    """Random numbers of one purpose (`key`) of one sample."""
    if seed < 0:
        raise InputError(f"seed {seed} is negative; seeds count from 0")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(key,)))


@dataclass(frozen=True, eq=False)
class Car:
    """A built car in its own frame: mesh, named keypoints (K, 3) in metres, design and material table."""

    design: CarDesign
    mesh: LabelledMesh
    keypoints: Array
    materials: Array

    @property
    def ground(self) -> float:
        """Height of the ground below the car in its own frame, metres (negative)."""
        return float(self.mesh.vertices[:, 1].min())


def build_car(design: CarDesign) -> Car:
    """Build the mesh, the keypoints and the materials of a design."""
    builder = MeshBuilder()
    left: dict[str, Array] = {}
    left |= add_lower_body(builder, design)
    left |= add_cabin(builder, design)
    add_underbody(builder, design)
    left |= add_wheels(builder, design)
    left |= add_mirrors(builder, design)
    middle = add_plates(builder, design)
    add_handles(builder, design)
    if design.roof_rails:
        add_roof_rails(builder, design)
    raw = builder.build()
    offset = -raw.bounds.mean(0)
    mesh = replace(raw, vertices=raw.vertices + offset)
    rows = []
    for name in KEYPOINTS:
        if name in middle:
            rows.append(middle[name])
            continue
        stem, side = name.rsplit("_", 1)
        rows.append(left[stem] * np.array([1.0 if side == "left" else -1.0, 1.0, 1.0]))
    return Car(design, mesh, np.stack(rows) + offset, material_table(design))


def material_table(design: CarDesign) -> Array:
    """Colours and reflection of the materials, (len(Material), MATERIAL_FIELDS)."""
    table = np.zeros((len(Material), MATERIAL_FIELDS))
    seam = tuple(0.42 * c for c in design.paint)
    # A red lamp would vanish on red paint.
    tail_lamp = (0.42, 0.0, 0.04) if design.paint_name in ("red", "orange") else (0.86, 0.04, 0.05)
    rows: Mapping[Material, tuple[tuple[float, float, float], float, float, float, float]] = {
        Material.PAINT: (design.paint, 0.30, 40.0, 0.07, 0.0),
        Material.ROOF_PAINT: (design.roof_paint, 0.30, 40.0, 0.07, 0.0),
        Material.GLASS: (design.glass, 0.45, 90.0, 0.24, 0.0),
        Material.PLASTIC: ((0.15, 0.15, 0.16), 0.08, 12.0, 0.02, 0.0),
        Material.SEAM: (seam, 0.0, 8.0, 0.0, 0.0),
        Material.CHROME: ((0.62, 0.63, 0.65), 0.5, 40.0, 0.30, 0.0),
        Material.TYRE: ((0.10, 0.10, 0.105), 0.05, 8.0, 0.0, 0.0),
        Material.RIM: (design.rim, 0.35, 25.0, 0.10, 0.12),
        Material.DARK: ((0.05, 0.05, 0.055), 0.02, 8.0, 0.0, 0.0),
        Material.HEADLAMP: ((0.98, 0.98, 0.90), 0.5, 60.0, 0.08, 0.65),
        Material.TAIL_LAMP: (tail_lamp, 0.4, 60.0, 0.05, 0.55),
        Material.INDICATOR: ((1.0, 0.55, 0.08), 0.3, 60.0, 0.05, 0.5),
        Material.PLATE: (design.plate, 0.05, 10.0, 0.0, 0.35),
        Material.PLATE_TEXT: ((0.18, 0.18, 0.2), 0.05, 10.0, 0.0, 0.0),
        Material.BUMPER: (design.bumper, 0.22, 30.0, 0.05, 0.0),
        Material.REFLECTOR: ((0.9, 0.2, 0.1), 0.2, 30.0, 0.0, 0.3),
    }
    for material, (colour, specular, shininess, mirror, own_light) in rows.items():
        table[material] = (*colour, specular, shininess, mirror, own_light)
    return table


def sample_camera(rng: np.random.Generator, resolution: int) -> Camera:
    """Random camera: azimuth all around, elevation and distance in their ranges, the object in the middle."""
    azimuth, elevation, distance = rng.uniform(0.0, 360.0), rng.uniform(*ELEVATION), rng.uniform(*DISTANCE)
    return Camera(float(azimuth), float(elevation), float(distance), FOV, resolution=resolution)


def sample_light(rng: np.random.Generator) -> Light:
    """Random sun direction and sky; never so weak that parts of the car sink into black."""
    turn, rise = rng.uniform(0.0, 2.0 * np.pi), np.radians(rng.uniform(28.0, 75.0))
    sun = (float(np.cos(rise) * np.sin(turn)), float(np.sin(rise)), float(np.cos(rise) * np.cos(turn)))
    ambient = float(rng.uniform(0.62, 0.76))
    sky = np.array([0.62, 0.78, 0.98]) * rng.uniform(0.85, 1.0)
    horizon = np.array([0.92, 0.94, 0.97]) * rng.uniform(0.85, 1.0)
    ground = np.array([0.30, 0.29, 0.28]) * rng.uniform(0.7, 1.2)
    triples = [tuple(float(c) for c in colour) for colour in (sky, horizon, ground)]
    return Light(sun, float(rng.uniform(0.38, 0.56)), ambient, triples[0], triples[1], triples[2])  # type: ignore[arg-type]


def sample_background(rng: np.random.Generator) -> Background:
    """Random background: mostly plain or a gradient, sometimes ground and sky, sometimes soft noise."""
    kind = ("plain", "gradient", "horizon", "noise")[int(rng.choice(4, p=[0.45, 0.33, 0.14, 0.08]))]
    level = rng.uniform(0.55, 0.92, 2)
    tint = 1.0 + rng.uniform(-0.06, 0.06, (2, 3))
    top, bottom = np.clip(level[:, None] * tint, 0.0, 1.0)
    if kind == "horizon":
        top = np.array([0.70, 0.82, 0.95]) * rng.uniform(0.85, 1.03)
        bottom = np.clip(rng.uniform(0.45, 0.68) * (1.0 + rng.uniform(-0.06, 0.06, 3)), 0.0, 1.0)
    noise = rng.normal(0.0, 0.045 if kind == "noise" else 0.0, (9, 9))
    as_tuple = [tuple(float(c) for c in colour) for colour in (top, bottom)]
    return Background(kind, as_tuple[0], as_tuple[1], noise)  # type: ignore[arg-type]


def keypoint_rows(
    points: Array, mesh: LabelledMesh, camera: Camera, tolerance: float = 0.07
) -> npt.NDArray[np.float32]:
    """Project keypoints (K, 3) and test them against the mesh: x, y, visibility, float32 (K, 3).

    A keypoint is hidden when a surface over exactly its image point is nearer than it by more than `tolerance` metres.
    """
    pixels, depth = camera.project(points)
    nearest = occluder_depth(pixels, mesh.vertices, mesh.faces, camera)
    inside = np.all((pixels >= 0.0) & (pixels < camera.resolution), axis=1) & (depth > 0.0)
    visibility = np.where(inside, np.where(nearest < depth - tolerance, 1.0, 2.0), 0.0)
    return np.concatenate([np.nan_to_num(pixels), visibility[:, None]], axis=1).astype(np.float32)


def to_image(fine: Array, supersample: int) -> npt.NDArray[np.uint8]:
    """Average blocks of supersample x supersample samples and store as uint8."""
    size = fine.shape[0] // supersample
    mean = fine.reshape(size, supersample, size, supersample, 3).mean((1, 3))
    return np.asarray(np.clip(mean, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def car_attributes(car: Car) -> dict[str, Any]:
    """What is known about a car besides its pixels."""
    design = car.design
    return {
        "body_type": design.body_type,
        "paint_name": design.paint_name,
        "paint_rgb": design.paint,
        "paint_hue": design.paint_hsv[0],
        "doors": design.doors,
        "length": design.length,
        "width": design.width,
        "height": design.height,
    }


class CarWorld:
    """Cars of seven body types on plain backgrounds; see the functions of this module for the distributions."""

    schema: PartSchema = CAR_SCHEMA
    body_types: tuple[str, ...] = tuple(BODY_TYPES)

    def design(self, seed: int, body_type: str | None = None) -> CarDesign:
        """The design of a seed, optionally of a given body type (then another car than `render` shows)."""
        if body_type is not None and body_type not in BODY_TYPES:
            raise InputError(f"no body type {body_type!r}; choose one of: {', '.join(BODY_TYPES)}")
        return sample_design(stream(seed, _DESIGN), body_type)

    def mesh(self, seed: int) -> LabelledMesh:
        """The car of a seed in its own frame, metres."""
        return build_car(self.design(seed)).mesh

    def render(
        self,
        seed: int,
        resolution: int = 64,
        *,
        camera: Camera | None = None,
        supersample: int = 2,
        body_type: str | None = None,
    ) -> Sample:
        """Render the car of a seed.

        Car, paint, light and background depend on the seed alone; another camera shows the same car.

        Parameters
        ----------
        seed : int
            From 0.
        resolution : int
            Image side in pixels.
        camera : Camera, optional
            By default a random one around the car; a given one is brought to `resolution`.
        supersample : int
            Samples a pixel side that the image is averaged over; the maps do not depend on it.
        body_type : str, optional
            One of `body_types` instead of the seed's own.
        """
        if resolution < 1 or supersample < 1:
            raise InputError(f"cannot render {resolution} px with {supersample} samples a side; give positive numbers")
        car = build_car(self.design(seed, body_type))
        drawn = sample_camera(stream(seed, _CAMERA), resolution)
        view = drawn if camera is None else replace(camera, resolution=resolution)
        look = stream(seed, _LOOK)
        light, background = sample_light(look), sample_background(look)
        mesh = car.mesh

        fine = replace(view, resolution=resolution * supersample)
        half = np.abs(mesh.vertices).max(0)
        foot = Footprint(0.0, 0.0, 0.5 * car.design.width, float(half[2]), 0.0, 2.0 * float(half[1]))
        canvas = draw_background(fine, background, light, car.ground, [foot])
        shade(canvas, rasterise(mesh.vertices, mesh.faces, fine), mesh, fine, car.materials, light, ground=car.ground)

        centre = rasterise(mesh.vertices, mesh.faces, view)
        hit = centre.face >= 0
        face = np.where(hit, centre.face, 0)
        normals = np.einsum("hwc,hwcd->hwd", centre.barycentric, mesh.corner_normals[face])
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
        attributes = car_attributes(car) | {
            "azimuth": view.azimuth % 360.0,
            "elevation": view.elevation,
            "distance": view.distance,
            "background": background.kind,
        }
        return Sample(
            image=to_image(canvas, supersample),
            parts=np.where(hit, mesh.face_parts[face], 0).astype(np.uint8),
            instances=hit.astype(np.uint8),
            keypoints=keypoint_rows(car.keypoints, mesh, view)[None],
            depth=centre.depth.astype(np.float32),
            normals=np.where(hit[..., None], normals, 0.0).astype(np.float32),
            camera=view,
            attributes=[attributes],
            mesh=mesh,
        )
