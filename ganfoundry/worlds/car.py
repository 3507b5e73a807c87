"""A car: the mesh, keypoints and materials that a design becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ganfoundry.render.mesh import LabelledMesh, MeshBuilder
from ganfoundry.worlds.car_body import add_lower_body
from ganfoundry.worlds.car_cabin import add_cabin
from ganfoundry.worlds.car_design import CarDesign
from ganfoundry.worlds.car_details import (
    add_handles,
    add_mirrors,
    add_plates,
    add_roof_rails,
    add_underbody,
    add_wheels,
)
from ganfoundry.worlds.car_parts import KEYPOINTS, Material
from ganfoundry.worlds.shading import MATERIAL_FIELDS

Array = npt.NDArray[np.float64]


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
    red, green, blue = design.paint
    seam = (0.42 * red, 0.42 * green, 0.42 * blue)
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
