"""Per-pixel shading of labelled meshes: sun, sky, reflections and a soft shadow on the ground."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from ganfoundry.render.camera import Camera
from ganfoundry.render.mesh import LabelledMesh
from ganfoundry.render.zbuffer import Fragments

Array = npt.NDArray[np.float64]

MATERIAL_FIELDS = 7
"""Columns of a material table: red, green, blue, specular strength, shininess, mirror reflectivity, own light."""


@dataclass(frozen=True)
class Light:
    """Sun and sky; directions are unit vectors towards the light, colours RGB in 0..1."""

    sun: tuple[float, float, float]
    sun_strength: float
    ambient: float
    sky: tuple[float, float, float]
    horizon: tuple[float, float, float]
    ground: tuple[float, float, float]


@dataclass(frozen=True)
class DirectionalLight:
    """Light of one direction over an even ambient light: image = albedo (ambient + diffuse max(0, n . direction)).

    This is the shading of Unsup3d (Wu, Rupprecht and Vedaldi 2020, eq. 2). `direction` is a unit vector towards the
    light in world coordinates.
    """

    direction: tuple[float, float, float]
    diffuse: float
    ambient: float

    def shading(self, normals: npt.NDArray[np.floating]) -> Array:
        """Factor of the albedo for unit world normals (..., 3): (...), from `ambient` to `ambient + diffuse`."""
        cosine = np.asarray(normals, dtype=np.float64) @ np.array(self.direction)
        return np.asarray(self.ambient + self.diffuse * np.maximum(cosine, 0.0))


@dataclass(frozen=True)
class Background:
    """What is behind the objects: a colour at the top and one at the bottom, optionally a ground with a horizon.

    `noise` (9, 9) is added as a smooth field over the image; `kind` is "plain", "gradient", "horizon" or "noise".
    """

    kind: str
    top: tuple[float, float, float]
    bottom: tuple[float, float, float]
    noise: Array


@dataclass(frozen=True)
class Footprint:
    """Rectangle on the ground that an object shades: centre x, z; half sizes; yaw in radians; height of the object."""

    x: float
    z: float
    half_width: float
    half_length: float
    yaw: float
    height: float


@numba.njit(cache=True)
def _shade(face, bary, depth, faces, normals, points, colours, tables, light, heights, out, eye):  # type: ignore[no-untyped-def]
    # light: sun (3), strength, ambient, sky (3), horizon (3), ground (3); heights: the ground below each face
    height, width = face.shape
    for y in range(height):
        for x in range(width):
            f = face[y, x]
            if f < 0:
                continue
            w0, w1, w2 = bary[y, x, 0], bary[y, x, 1], bary[y, x, 2]
            n0 = n1 = n2 = p0 = p1 = p2 = 0.0
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            n0 = w0 * normals[f, 0, 0] + w1 * normals[f, 1, 0] + w2 * normals[f, 2, 0]
            n1 = w0 * normals[f, 0, 1] + w1 * normals[f, 1, 1] + w2 * normals[f, 2, 1]
            n2 = w0 * normals[f, 0, 2] + w1 * normals[f, 1, 2] + w2 * normals[f, 2, 2]
            p0 = w0 * points[a, 0] + w1 * points[b, 0] + w2 * points[c, 0]
            p1 = w0 * points[a, 1] + w1 * points[b, 1] + w2 * points[c, 1]
            p2 = w0 * points[a, 2] + w1 * points[b, 2] + w2 * points[c, 2]
            length = math.sqrt(n0 * n0 + n1 * n1 + n2 * n2) + 1e-12
            n0, n1, n2 = n0 / length, n1 / length, n2 / length
            v0, v1, v2 = eye[0] - p0, eye[1] - p1, eye[2] - p2
            length = math.sqrt(v0 * v0 + v1 * v1 + v2 * v2) + 1e-12
            v0, v1, v2 = v0 / length, v1 / length, v2 / length
            facing = n0 * v0 + n1 * v1 + n2 * v2
            if facing < 0.0:
                facing = 0.0
            m = colours[f]
            sun = n0 * light[0] + n1 * light[1] + n2 * light[2]
            above = p1 - heights[f]
            # The ground hides part of the sky from what lies near it.
            open_sky = min(1.0, 0.50 + 0.55 * above)
            ambient = light[4] * open_sky * (0.76 + 0.24 * n1)
            diffuse = light[3] * max(sun, 0.0)
            h0, h1, h2 = light[0] + v0, light[1] + v1, light[2] + v2
            length = math.sqrt(h0 * h0 + h1 * h1 + h2 * h2) + 1e-12
            half = max((n0 * h0 + n1 * h1 + n2 * h2) / length, 0.0)
            specular = tables[m, 3] * half ** tables[m, 4] * light[3] if sun > 0.0 else 0.0
            r1 = 2.0 * facing * n1 - v1
            base = tables[m, 5]
            mirror = base + (0.65 * base) * (1.0 - facing) ** 4 if base > 0.0 else 0.0
            up = min(max(r1, 0.0), 1.0)
            blend = min(max((r1 + 0.10) / 0.22, 0.0), 1.0)
            for k in range(3):
                sky = light[8 + k] + (light[5 + k] - light[8 + k]) * up
                seen = light[11 + k] + (sky - light[11 + k]) * blend
                own = tables[m, k]
                lit = own * (ambient + diffuse)
                glow = tables[m, 6]
                value = lit * (1.0 - mirror) + seen * mirror + specular
                out[y, x, k] = min(max(value * (1.0 - glow) + own * glow, 0.0), 1.0)


@numba.njit(cache=True)
def _background(out, corner, step_x, step_y, eye, ground, kind, top, bottom, noise, feet, light, strength):  # type: ignore[no-untyped-def]
    size = out.shape[0]
    cells = noise.shape[0] - 1
    for y in range(size):
        for x in range(size):
            u, v = (x + 0.5) / size, (y + 0.5) / size
            d0 = corner[0] + step_x[0] * u + step_y[0] * v
            d1 = corner[1] + step_x[1] * u + step_y[1] * v
            d2 = corner[2] + step_x[2] * u + step_y[2] * v
            length = math.sqrt(d0 * d0 + d1 * d1 + d2 * d2)
            rise = d1 / length
            if kind == 2:
                mix = min(max(0.5 - rise / 0.012, 0.0), 1.0)
                shade_v = 1.0 - 0.5 * min(abs(rise), 0.5)
            else:
                mix = v if kind == 1 else 0.0
                shade_v = 1.0
            gx, gy = u * cells, v * cells
            ix, iy = min(int(gx), cells - 1), min(int(gy), cells - 1)
            fx, fy = gx - ix, gy - iy
            fx, fy = fx * fx * (3.0 - 2.0 * fx), fy * fy * (3.0 - 2.0 * fy)
            upper = noise[iy, ix] * (1.0 - fx) + noise[iy, ix + 1] * fx
            lower = noise[iy + 1, ix] * (1.0 - fx) + noise[iy + 1, ix + 1] * fx
            field = upper * (1.0 - fy) + lower * fy
            clear = 1.0
            if d1 < -1e-9:
                t = (ground - eye[1]) / d1
                px, pz = eye[0] + t * d0, eye[2] + t * d2
                for i in range(feet.shape[0]):
                    # Contact shadow under the car, and a weaker one thrown away from the sun.
                    for layer in range(2):
                        reach = 0.0 if layer == 0 else 0.30 * feet[i, 5]
                        qx = px - feet[i, 0] + light[0] * reach
                        qz = pz - feet[i, 1] + light[2] * reach
                        ca, sa = math.cos(feet[i, 4]), math.sin(feet[i, 4])
                        lx, lz = ca * qx - sa * qz, sa * qx + ca * qz
                        soft = 0.16 if layer == 0 else 0.42
                        grow = -0.10 if layer == 0 else -0.05
                        ex = max(abs(lx) - feet[i, 2] - grow + 0.35, 0.0)
                        ez = max(abs(lz) - feet[i, 3] - grow + 0.35, 0.0)
                        distance = math.sqrt(ex * ex + ez * ez) - 0.35
                        amount = min(max(0.5 - 0.5 * distance / soft, 0.0), 1.0)
                        amount = amount * amount * (3.0 - 2.0 * amount)
                        clear *= 1.0 - amount * (0.62 if layer == 0 else strength)
            for k in range(3):
                value = (top[k] + (bottom[k] - top[k]) * mix) * shade_v + field
                out[y, x, k] = min(max(value * clear, 0.0), 1.0)


_KINDS = ("plain", "gradient", "horizon", "noise")


def draw_background(
    camera: Camera,
    background: Background,
    light: Light | DirectionalLight,
    ground: float = 0.0,
    footprints: Sequence[Footprint] = (),
) -> Array:
    """Image of the background with the objects' shadows, float64 (R, R, 3) in 0..1.

    Parameters
    ----------
    camera : Camera
        Its resolution is that of the image.
    background, light
        What to draw.
    ground : float
        Height of the ground plane, metres.
    footprints : sequence of Footprint
        One an object that throws a shadow on the ground.
    """
    sun, strength = (light.sun, light.sun_strength) if isinstance(light, Light) else (light.direction, light.diffuse)
    size = camera.resolution
    out = np.empty((size, size, 3))
    right, down, forward = camera.rotation
    reach = math.tan(math.radians(0.5 * camera.fov))
    corner = forward - reach * (right + down)
    feet = np.array([[f.x, f.z, f.half_width, f.half_length, f.yaw, f.height] for f in footprints]).reshape(-1, 6)
    _background(
        out, corner, 2.0 * reach * right, 2.0 * reach * down, camera.position, ground, _KINDS.index(background.kind),
        np.array(background.top), np.array(background.bottom), background.noise, feet, np.array(sun),
        0.30 * min(strength, 1.0),
    )  # fmt: skip
    return out


def shade(
    image: Array,
    fragments: Fragments,
    mesh: LabelledMesh,
    camera: Camera,
    materials: Array,
    light: Light,
    material_rows: npt.NDArray[np.int64] | None = None,
    ground: float | Array = 0.0,
) -> None:
    """Shade the pixels that the mesh covers, in place.

    Lambert reflection of sun and sky, a Blinn-Phong highlight (Blinn 1977), and a mirrored sky over a ground whose
    weight grows towards grazing angles (after Schlick 1994).

    Parameters
    ----------
    image : ndarray, float64 (R, R, 3)
        Background, RGB in 0..1; covered pixels are overwritten.
    fragments : Fragments
        What the rasteriser found, (R, R).
    mesh : LabelledMesh
        In world coordinates.
    camera, light
        View and light.
    materials : ndarray, float64 (M, MATERIAL_FIELDS)
        Material table.
    material_rows : ndarray of int, (F,), optional
        Row of every face in the table; by default its material id.
    ground : float or ndarray (F,)
        Height of the ground below every face.
    """
    rows = mesh.face_materials.astype(np.int64) if material_rows is None else material_rows
    table = np.array([*light.sun, light.sun_strength, light.ambient, *light.sky, *light.horizon, *light.ground])
    heights = np.ascontiguousarray(np.broadcast_to(np.asarray(ground, dtype=np.float64), len(mesh.faces)))
    _shade(
        fragments.face, fragments.barycentric, fragments.depth, mesh.faces, mesh.corner_normals, mesh.vertices, rows,
        materials, table, heights, image, camera.position,
    )  # fmt: skip
