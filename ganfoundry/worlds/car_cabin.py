"""The greenhouse of a car: pillars, glass and roof over the belt line."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganfoundry.render.mesh import MeshBuilder
from ganfoundry.worlds.car_body import Ids, add_shell, belt_line, door_edges, half_width, outline_normals
from ganfoundry.worlds.car_design import CarDesign
from ganfoundry.worlds.car_parts import Material, Part

Array = npt.NDArray[np.float64]

# Heights of the rings between belt and roof edge: base, sill of the glass (front and rear, sides), glass, header, edge.
_LEVELS = np.array([-0.06, 0.035, 0.10, 0.36, 0.62, 0.84, 0.90, 1.0])
_ROOF_EDGE = 0.06
_ROOF_RADIUS = 0.12


def _plan(width: float, front: float, rear: float, bulge: float, back_bulge: float, shares: Array) -> Array:
    """Half outline of the cabin at one height, (n, 2) as x, z: `shares` are the positions of the side columns."""
    radius = min(0.16, 0.4 * width)
    inner = width - radius
    xs = np.array([0.0, 0.3, 0.6, 0.84, 1.0]) * inner
    theta = np.radians([22.5, 45.0, 67.5, 90.0])
    z_front = front - bulge * (xs / width) ** 2
    z_corner = z_front[-1] - radius
    z_rear = rear + back_bulge * (xs / width) ** 2
    r_corner = z_rear[-1] + radius
    side_z = z_corner + (r_corner - z_corner) * shares
    arc = np.stack([inner + radius * np.sin(theta), z_corner + radius * np.cos(theta)], axis=1)
    rear_arc = np.stack([inner + radius * np.cos(theta - theta[0]), r_corner - radius * np.sin(theta - theta[0])], 1)
    sides = np.stack([np.full(len(shares), width), side_z], axis=1)
    return np.concatenate([np.stack([xs, z_front], 1), arc, sides, rear_arc, np.stack([xs, z_rear], axis=1)[::-1]])


def _side_columns(design: CarDesign, low: tuple[float, float], high: tuple[float, float]) -> tuple[Array, list[str]]:
    """Shares of the side columns between the corners, and what stands between them.

    `low` and `high` are the (front, rear) ends of the straight side at the belt and at the roof.
    """
    front, rear = 0.5 * (low[0] + high[0]), 0.5 * (low[1] + high[1])

    def share(z: float) -> float:
        return (z - front) / (rear - front)

    _, middle, last = door_edges(design)
    marks: list[tuple[float, str]] = [
        (0.02, "pillar"),
        (share(middle + 0.045), "front"),
        (share(middle - 0.045), "pillar"),
    ]
    end = 0.97
    third = share(last)
    if design.body_type == "pickup" and design.doors == 2:
        marks = [(0.02, "pillar"), (0.96, "front")]
    elif design.doors == 4 and design.tailgate and third < 0.88:
        marks += [(share(last + 0.05), "rear"), (share(last - 0.03), "pillar"), (end, "rear")]
    else:
        marks += [(end, "rear")]
    positions = np.clip(np.array([mark[0] for mark in marks]), 0.0, 0.99)
    kinds = [mark[1] for mark in marks] + ["pillar"]
    return np.maximum.accumulate(positions), kinds


def _outlines(design: CarDesign) -> tuple[Array, Array, list[str]]:
    """Half outlines of the cabin at the belt and at the roof, (J + 1, 2) each, and what the side columns hold."""
    low_width = float(half_width(design, np.array([0.0]))[0]) - design.edge_radius - 0.035
    high_width = low_width * design.tumblehome
    rear = design.rear_base
    if design.tailgate:
        rear = max(rear, -0.5 * design.length + (0.08 if design.body_type == "van" else 0.15))

    def low(shares: Array) -> Array:
        return _plan(low_width, design.cowl + 0.06, rear, 0.16, 0.06, shares)

    def high(shares: Array) -> Array:
        return _plan(high_width, design.header, design.rear_header, 0.12, 0.05, shares)

    # Where the straight sides begin and end decides the shares of the pillars.
    ends = [tuple(float(z) for z in plan(np.array([0.0, 1.0]))[9:11, 1]) for plan in (low, high)]
    shares, kinds = _side_columns(design, (ends[0][0], ends[0][1]), (ends[1][0], ends[1][1]))
    return low(shares), high(shares), kinds


def _rings(design: CarDesign, low: Array, high: Array) -> Array:
    """Half rings of the cabin, (R, J + 1, 3), from below the belt over the rounded edge to the roof."""
    front, rear = float(low[0, 1]), float(low[-1, 1])
    base = np.minimum(belt_line(design, low[:, 1]), belt_line(design, np.array([front, rear])).max())
    roof = design.height - 0.035
    t = _LEVELS[:, None]
    bow = 0.05 * np.sin(np.pi * np.clip(t, 0.0, 1.0)) * (1.0 if design.body_type != "van" else 0.6)
    normal = outline_normals(low)
    plan = low + t[..., None] * (high - low) + bow[..., None] * normal
    heights = base + t * (roof - _ROOF_EDGE - base)
    # A quadratic Bezier curve from the wall over the point where wall and roof would meet.
    step = plan[-1] - plan[-2]
    rise = np.maximum(heights[-1] - heights[-2], 1e-3)
    meet = plan[-1] + step * (_ROOF_EDGE / rise)[:, None]
    end = meet - min(_ROOF_RADIUS, 0.1 * (design.header - design.rear_header)) * normal
    s = np.array([1.0, 2.0, 3.0])[:, None] / 3.0
    rounded = ((1.0 - s) ** 2)[..., None] * plan[-1] + (2.0 * s * (1.0 - s))[..., None] * meet + (s**2)[..., None] * end
    half = np.empty((len(heights) + 3, len(base), 3))
    half[..., [0, 2]] = np.concatenate([plan, rounded])
    half[..., 1] = np.concatenate([heights, np.broadcast_to(roof - _ROOF_EDGE * (1.0 - s) ** 2, (3, len(base)))])
    half[..., 0] = np.maximum(half[..., 0], 0.0)
    half[:, [0, -1], 0] = 0.0
    # Insetting can make columns pass each other; the rows of the roof must run from front to rear.
    half[-1, :, 2] = np.minimum.accumulate(half[-1, :, 2])
    return half


def add_cabin(builder: MeshBuilder, design: CarDesign) -> dict[str, Array]:
    """Add the cabin; returns keypoints of the left side by name, (3,) each."""
    low, high, kinds = _outlines(design)
    half = _rings(design, low, high)
    across = np.array([-1.0, -0.75, -0.4, 0.0, 0.4, 0.75, 1.0])
    columns = half.shape[1] - 1
    z = half[-1, :, 2]
    v = np.clip((2.0 * z - z[0] - z[-1]) / max(z[0] - z[-1], 0.1), -1.0, 1.0)
    cap = (np.full((columns, 6), int(Part.ROOF)), np.full((columns, 6), int(Material.ROOF_PAINT)))
    add_shell(builder, half, _cabin_ids(design, kinds, len(half) - 1), across, 0.035 * (1.0 - v**2), cap)
    return {
        "front_roof_corner": half[-2, 6],
        "rear_roof_corner": half[-2, columns - 6],
        "windscreen_base": half[1, 4],
        "rear_window_base": half[2 if design.tailgate else 1, columns - 4],
    }


def _cabin_ids(design: CarDesign, kinds: list[str], rows: int) -> tuple[Ids, Ids]:
    """Part and material ids of the cabin's walls, (rows, J)."""
    columns = 8 + len(kinds) + 8
    parts = np.full((rows, columns), int(Part.PILLAR))
    materials = np.full((rows, columns), int(Material.PAINT))
    parts[-3:] = Part.ROOF
    materials[-4:] = Material.ROOF_PAINT

    def glass(row: slice, column: slice, part: Part) -> None:
        parts[row, column] = part
        materials[row, column] = Material.GLASS

    glass(slice(1, 6), slice(0, 5), Part.WINDSCREEN)
    materials[0, 0:5] = Material.PLASTIC
    rear = slice(columns - 5, columns)
    if design.panel_van:
        parts[1:6, rear] = Part.BOOT
        glass(slice(3, 5), slice(columns - 5, columns - 1), Part.REAR_WINDOW)
    elif design.tailgate:
        glass(slice(2, 5), rear, Part.REAR_WINDOW)
    else:
        glass(slice(2 if design.body_type == "pickup" else 1, 6), rear, Part.REAR_WINDOW)
    if design.tailgate:
        low_rows = parts[:3, rear]
        low_rows[low_rows == Part.PILLAR] = Part.BOOT
    for index, kind in enumerate(kinds):
        column = 8 + index
        if kind == "front":
            glass(slice(2, 6), slice(column, column + 1), Part.FRONT_SIDE_WINDOW)
        elif kind == "rear" and not design.panel_van:
            glass(slice(2, 6), slice(column, column + 1), Part.REAR_SIDE_WINDOW)
        elif kind == "rear":
            parts[:6, column] = Part.REAR_WING
        if kind == "front":
            parts[:2, column] = Part.FRONT_DOOR
    return parts, materials
