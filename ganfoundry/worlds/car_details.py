"""Wheels, mirrors, plates, handles, load bed and the other things fixed to a car's shell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganfoundry.render.mesh import MeshBuilder
from ganfoundry.worlds.car_body import belt_line, door_edges, half_width, underbody_top
from ganfoundry.worlds.car_design import CarDesign
from ganfoundry.worlds.car_parts import Material, Part

Array = npt.NDArray[np.float64]

_BOX_QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def add_box(builder: MeshBuilder, centre: npt.ArrayLike, half: npt.ArrayLike, part: Part, material: Material) -> None:
    """Add an axis-aligned box of half sizes `half` (3,) around `centre` (3,)."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
    builder.add_quads(np.asarray(centre) + signs * np.asarray(half), _BOX_QUADS, part, material)


def add_ellipsoid(
    builder: MeshBuilder, centre: Array, radii: tuple[float, float, float], part: Part, material: Material
) -> None:
    """Add an ellipsoid flattened towards a box (superellipsoid), with 8 x 12 faces."""
    polar = np.linspace(-0.5 * np.pi, 0.5 * np.pi, 9)[:, None]
    turn = np.linspace(0.0, 2.0 * np.pi, 12, endpoint=False)[None]

    def soft(value: Array) -> Array:
        return np.asarray(np.sign(value) * np.abs(value) ** 0.7)

    x = soft(np.cos(polar)) * soft(np.sin(turn))
    z = soft(np.cos(polar)) * soft(np.cos(turn))
    y = np.broadcast_to(soft(np.sin(polar)), x.shape)
    points = np.stack([x, y, z], axis=-1) * np.array(radii) + centre
    _add_tube(builder, points, np.full(8, int(part)), np.full((8, 1), int(material)))


def _add_tube(
    builder: MeshBuilder, points: Array, parts: npt.NDArray[np.int64], materials: npt.NDArray[np.int64]
) -> None:
    """Add a surface of rings (R, S, 3), closed around; parts (R - 1,), materials (R - 1, S) or (R - 1, 1)."""
    rings, count = points.shape[:2]
    index = np.arange(rings * count).reshape(rings, count)
    after = np.roll(index, -1, axis=1)
    quads = np.stack([index[:-1], after[:-1], after[1:], index[1:]], axis=-1).reshape(-1, 4)
    ids = np.broadcast_to(materials, (rings - 1, count)).ravel()
    builder.add_quads(points.reshape(-1, 3), quads, np.repeat(parts, count), ids)


def add_wheels(builder: MeshBuilder, design: CarDesign) -> dict[str, Array]:
    """Add four wheels; returns the hubs of the left ones, (3,) each."""
    radius, spokes = design.wheel_radius, design.spokes
    rim = 0.70 * radius
    width = 0.24 if design.body_type in ("suv", "pickup") else 0.21
    outer = 0.5 * design.width - 0.005 + design.flare
    # Profile from the inner wall over the tread to the hub: distance from the car's middle, radius.
    profile = np.array(
        [
            (outer - width, 0.0),
            (outer - width, 0.9 * radius),
            (outer - width + 0.03, radius),
            (outer - 0.035, radius),
            (outer - 0.008, 0.955 * radius),
            (outer, 0.85 * radius),
            (outer - 0.004, rim),
            (outer - 0.012, 0.9 * rim),
            (outer - 0.03, 0.86 * rim),
            (outer - 0.018, 0.3 * rim),
            (outer - 0.006, 0.22 * rim),
            (outer - 0.004, 0.0),
        ]
    )
    parts = np.array([Part.TYRE] * 6 + [Part.RIM] * 5)
    segments = 4 * spokes
    materials = np.full((11, segments), int(Material.TYRE))
    materials[6:] = Material.RIM
    gaps = np.isin(np.arange(segments) % 4, (1, 2))
    materials[8, gaps] = Material.DARK
    turn = 2.0 * np.pi * np.arange(segments) / segments
    for side in (1.0, -1.0):
        for axle in (design.front_axle, design.rear_axle):
            points = np.empty((len(profile), segments, 3))
            points[..., 0] = side * profile[:, :1]
            points[..., 1] = radius + profile[:, 1:] * np.cos(turn)
            points[..., 2] = axle + side * profile[:, 1:] * np.sin(turn)
            _add_tube(builder, points, parts, materials)
    return {
        "front_wheel": np.array([outer, radius, design.front_axle]),
        "rear_wheel": np.array([outer, radius, design.rear_axle]),
    }


def add_underbody(builder: MeshBuilder, design: CarDesign) -> None:
    """Close the car between its wheel wells with a dark box."""
    low = design.clearance + 0.02
    high = underbody_top(design)
    half = (0.5 * design.width - 0.27, 0.5 * (high - low), 0.5 * design.length - design.corner_radius)
    add_box(builder, (0.0, 0.5 * (high + low), 0.0), half, Part.WHEEL_ARCH, Material.DARK)


def add_mirrors(builder: MeshBuilder, design: CarDesign) -> dict[str, Array]:
    """Add both mirrors; returns the left one's centre."""
    z = design.cowl - (0.26 if design.body_type != "van" else 0.16)
    y = float(belt_line(design, np.array([z]))[0]) + 0.075
    x = 0.5 * design.width + 0.055
    for side in (1.0, -1.0):
        centre = np.array([side * x, y, z])
        add_ellipsoid(builder, centre, (0.105, 0.078, 0.062), Part.MIRROR, Material.PAINT)
        add_box(
            builder, centre + np.array([-side * 0.12, -0.045, 0.0]), (0.07, 0.022, 0.03), Part.MIRROR, Material.PLASTIC
        )
    return {"mirror": np.array([x + 0.1, y, z])}


def add_plates(builder: MeshBuilder, design: CarDesign) -> dict[str, Array]:
    """Add both number plates, a little large; returns their centres."""
    front = 0.5 * design.length
    low = design.clearance + 0.09
    front_y = low + 0.36 * (design.nose_height - design.edge_radius - low)
    share = 0.60 if design.body_type not in ("pickup", "estate") else 0.34
    rear_y = low + share * (design.tail_height - design.edge_radius - low)
    centres = {
        "front_plate": np.array([0.0, front_y, front + 0.006]),
        "rear_plate": np.array([0.0, rear_y, -front - 0.006]),
    }
    half_width_, half_height = 0.29, 0.072
    columns = np.linspace(-1.0, 1.0, 10)
    rows = np.array([-1.0, -0.55, 0.55, 1.0])
    for name, centre in centres.items():
        facing = 1.0 if name == "front_plate" else -1.0
        grid = np.empty((4, 10, 3))
        grid[..., 0] = facing * columns * half_width_
        grid[..., 1] = centre[1] + rows[:, None] * half_height
        grid[..., 2] = centre[2]
        index = np.arange(40).reshape(4, 10)
        quads = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], axis=-1).reshape(-1, 4)
        materials = np.full((3, 9), int(Material.PLATE))
        materials[1, [1, 3, 5, 7]] = Material.PLATE_TEXT
        builder.add_quads(grid.reshape(-1, 3), quads, Part.NUMBER_PLATE, materials.ravel())
        back = (0.0, float(centre[1]), float(centre[2]) - facing * 0.062)
        add_box(builder, back, (half_width_, half_height, 0.06), Part.NUMBER_PLATE, Material.PLASTIC)
    return centres


def add_handles(builder: MeshBuilder, design: CarDesign) -> None:
    """Add door handles."""
    _, middle, last = door_edges(design)
    doors = [(middle, Part.FRONT_DOOR)] + ([(last, Part.REAR_DOOR)] if last < middle - 0.1 else [])
    for rear_edge, part in doors:
        z = np.array([max(rear_edge + 0.14, design.rear_axle + 0.2 if part == Part.REAR_DOOR else -9.0)])
        y = float(belt_line(design, z)[0]) - design.edge_radius - 0.07
        x = float(half_width(design, z)[0]) - 0.012
        for side in (1.0, -1.0):
            add_box(builder, (side * x, y, float(z[0])), (0.022, 0.018, 0.085), part, Material.PLASTIC)


def add_roof_rails(builder: MeshBuilder, design: CarDesign) -> None:
    """Add a rail on each side of the roof."""
    x = 0.5 * design.width * design.tumblehome * 0.78
    length = 0.5 * (design.header - design.rear_header) - 0.2
    middle = 0.5 * (design.header + design.rear_header)
    for side in (1.0, -1.0):
        add_box(builder, (side * x, design.height - 0.03, middle), (0.022, 0.028, length), Part.ROOF, Material.CHROME)
