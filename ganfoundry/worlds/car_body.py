"""The painted shell of a car: a lower body and a greenhouse, both lofted from rings of columns.

A shell is a stack of closed rings. Columns run around the car from the middle of the front over the left side to the
middle of the rear and are mirrored to the right; they stand wherever a part begins (door seams, wheel arches, lamps,
pillars), so every part boundary is an edge of the mesh and labels are exact.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ganfoundry.render.mesh import MeshBuilder
from ganfoundry.worlds.car_design import CarDesign
from ganfoundry.worlds.car_parts import Material, Part

Array = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

SEAM = 0.014
"""Half width of the gaps between panels, metres: several times a real one, so that it survives small images."""
_TUB_INSET = 0.30
_LIP = 0.055
_OPENING = 0.86


def half_width(design: CarDesign, z: Array) -> Array:
    """Half width of the lower body in plan, (n,), metres: it narrows a little towards both ends."""
    u = z / (0.5 * design.length)
    return 0.5 * design.width * (1.0 - 0.055 * np.clip(u, 0.0, 1.0) ** 4 - 0.045 * np.clip(-u, 0.0, 1.0) ** 4)


def belt_line(design: CarDesign, z: Array) -> Array:
    """Height of the shoulder line over the ground, (n,), metres: bonnet, belt and boot."""
    front, rear = 0.5 * design.length, -0.5 * design.length
    bonnet = np.clip((front - z) / (front - design.cowl), 0.0, 1.0) ** design.bonnet_power
    side = np.clip((design.cowl - z) / (design.cowl - design.rear_base), 0.0, 1.0)
    boot = np.clip((design.rear_base - z) / max(design.rear_base - rear, 1e-6), 0.0, 1.0)
    height = design.nose_height + (design.cowl_height - design.nose_height) * bonnet
    height = height + (design.belt_height - design.cowl_height) * side
    return np.asarray(height + (design.tail_height - design.belt_height) * boot)


def arch_height(design: CarDesign, z: Array, radius: float) -> Array:
    """Height of a circle of the given radius around the nearer wheel centre, (n,); -inf beside both circles."""
    lift = [radius**2 - (z - axle) ** 2 for axle in (design.front_axle, design.rear_axle)]
    highest = np.maximum(lift[0], lift[1])
    return np.where(highest >= 0.0, design.wheel_radius + np.sqrt(np.maximum(highest, 0.0)), -np.inf)


def door_edges(design: CarDesign) -> tuple[float, float, float]:
    """Positions z of the front edge, the middle pillar and the rear edge of the doors (equal for two doors)."""
    first = min(design.cowl - 0.02, design.front_axle - design.arch_radius - 0.05)
    last = max(design.rear_axle + 0.30 * design.arch_radius, -0.46 * design.length)
    if design.doors == 2:
        share = {"van": 0.36, "pickup": 0.97, "hatchback": 0.62}.get(design.body_type, 0.68)
        if design.body_type == "pickup":
            last = design.rear_base + 0.02
        middle = first + share * (last - first)
        return first, middle, middle
    if design.body_type == "pickup":
        last = max(last, design.rear_base + 0.02)
    return first, first + 0.52 * (last - first), last


def underbody_top(design: CarDesign) -> float:
    """Height over the ground of the dark box between the wheels, metres; a load bed lies over it."""
    return min(design.nose_height, design.tail_height, design.cowl_height) - design.edge_radius - 0.1


def outline_normals(points: Array) -> Array:
    """Outward unit normals (n, 2) of a half outline (n, 2) in plan, straight ahead and back at its ends."""
    tangent = np.gradient(points, axis=0)
    normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    normal[0], normal[-1] = (0.0, 1.0), (0.0, -1.0)
    return np.asarray(normal)


def mirror_rings(half: Array) -> Array:
    """Close half rings (R, J + 1, 3) over the right side: (R, 2 J, 3)."""
    right = half[:, -2:0:-1] * np.array([-1.0, 1.0, 1.0])
    return np.concatenate([half, right], axis=1)


def add_shell(
    builder: MeshBuilder,
    half: Array,
    wall_ids: tuple[Ids, Ids],
    across: Array,
    crown: Array,
    cap_ids: tuple[Ids, Ids],
) -> None:
    """Add a shell of mirrored rings, closed at the top by rows across the car.

    Parameters
    ----------
    builder : MeshBuilder
        Receives the shell.
    half : ndarray, (R, J + 1, 3)
        Half rings from the bottom up, from the front middle to the rear middle; the first and last column have x = 0.
    wall_ids : (parts, materials), each (R - 1, J)
        Ids of the quads between rings.
    across : ndarray, (S,)
        Positions over the top from -1 (right edge) to 1 (left edge), both included.
    crown : ndarray, (J + 1,)
        Height of the top's middle over its edges, metres.
    cap_ids : (parts, materials), each (J, S - 1)
        Ids of the quads of the top.
    """
    rings, columns = half.shape[0], half.shape[1] - 1
    full = mirror_rings(half)
    count = full.shape[1]
    edge = half[-1]
    inner = across[1:-1]
    top = np.empty((columns + 1, len(inner), 3))
    top[..., 0] = edge[:, None, 0] * inner
    top[..., 1] = edge[:, None, 1] + crown[:, None] * (1.0 - inner**2)
    top[..., 2] = edge[:, None, 2]
    vertices = np.concatenate([full.reshape(-1, 3), top.reshape(-1, 3)])

    index = np.arange(rings * count).reshape(rings, count)
    after = np.roll(index, -1, axis=1)
    wall = np.stack([index[:-1], after[:-1], after[1:], index[1:]], axis=-1).reshape(-1, 4)
    wall_labels = [np.concatenate([ids, ids[:, ::-1]], axis=1).ravel() for ids in wall_ids]

    row = np.arange(columns + 1)
    grid = np.concatenate(
        [
            index[-1, (count - row) % count][:, None],
            rings * count + np.arange(top.shape[0] * top.shape[1]).reshape(top.shape[:2]),
            index[-1, row][:, None],
        ],
        axis=1,
    )
    # Rows run from front to rear, columns from right to left: this order looks up.
    cap = np.stack([grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]], axis=-1).reshape(-1, 4)
    cap_labels = [ids.ravel() for ids in cap_ids]
    keep = cap_labels[0] > 0
    quads = np.concatenate([wall, cap[keep]])
    labels = [np.concatenate([w, c[keep]]) for w, c in zip(wall_labels, cap_labels, strict=True)]
    builder.add_quads(vertices, quads, labels[0], labels[1])


def _outline(design: CarDesign) -> tuple[Array, Array]:
    """Half outline of the lower body in plan: points (J + 1, 2) as x, z, and outward unit normals (J + 1, 2)."""
    front, rear = 0.5 * design.length, -0.5 * design.length
    radius = design.corner_radius
    arch = design.arch_radius + _LIP - 0.003
    inner_front = float(half_width(design, np.array([front]))[0]) - radius
    inner_rear = float(half_width(design, np.array([rear]))[0]) - radius
    full = inner_front + radius
    marks = np.array([0.0, 0.16, 0.30, 1.0 - design.lamp_width - 0.06, 1.0 - design.lamp_width]) * full
    grille = design.grille_width * full
    xs = np.unique(np.round([*marks, grille, inner_front], 3))
    xs = xs[xs <= inner_front + 1e-9]
    front_edge = np.stack([xs, front - design.nose_bulge * (xs / full) ** 2], axis=1)
    z_corner = float(front_edge[-1, 1]) - radius
    theta = np.radians([15.0, 30.0, 45.0, 60.0, 75.0, 90.0])
    front_arc = np.stack([inner_front + radius * np.sin(theta), z_corner + radius * np.cos(theta)], axis=1)

    tails = np.array([0.0, 0.16, 0.30, 1.0 - design.tail_lamp_width]) * full
    xr = np.unique(np.round([*tails, inner_rear], 3))
    xr = xr[xr <= inner_rear + 1e-9][::-1]
    rear_edge = np.stack([xr, rear + 0.05 * (xr / full) ** 2], axis=1)
    z_rear = float(rear_edge[0, 1]) + radius
    rear_arc = np.stack([inner_rear + radius * np.cos(theta - theta[0]), z_rear - radius * np.sin(theta - theta[0])], 1)

    turn = np.concatenate([arch * np.cos(np.linspace(0.0, np.pi, 15)), [-arch - 0.02, arch + 0.02]])
    wheels = np.concatenate([axle + turn for axle in (design.front_axle, design.rear_axle)])
    edges = np.concatenate([[edge - SEAM, edge + SEAM] for edge in door_edges(design)])
    others = [z_corner - design.lamp_wrap, z_rear + 0.10, design.cowl, design.rear_base, design.rear_base - 0.05, 0.0]
    z = np.concatenate([wheels, edges, others, [rear + 0.09]])
    z = np.unique(np.round(z[(z < z_corner - 0.005) & (z > z_rear + 0.005)], 2))[::-1]
    side = np.stack([half_width(design, z), z], axis=1)

    points = np.concatenate([front_edge, front_arc, side, rear_arc, rear_edge])
    # The corner arcs end on the widths at the car's ends; the taper is eased in so that the side has no step.
    points[:, 0] = np.minimum(points[:, 0], half_width(design, points[:, 1]))
    return points, outline_normals(points)


def _wall_inset(design: CarDesign, height: Array, shoulder: Array, facing: Array, z: Array) -> Array:
    """How far the wall lies inside the plan outline, (R, J + 1), metres, by height, direction and position."""
    t = (height - design.clearance) / (shoulder - design.clearance)
    side = 0.07 * np.clip(1.0 - t / 0.38, 0.0, 1.0) ** 2 + 0.05 * np.clip((t - 0.5) / 0.5, 0.0, 1.0) ** 2
    crease = 0.018 * np.exp(-(((t - 0.66) / 0.07) ** 2))
    nearest = np.minimum(np.abs(z - design.front_axle), np.abs(z - design.rear_axle))
    side = side - crease - design.flare * np.exp(-((nearest / (1.15 * design.arch_radius)) ** 2))
    bumper_step = 0.035 / (1.0 + np.exp(-(t - 0.50) / 0.02))
    front = 0.09 * np.clip(1.0 - t / 0.3, 0.0, 1.0) ** 2 + bumper_step
    front = front + design.nose_rake * np.clip((t - 0.45) / 0.55, 0.0, 1.0) ** 1.5
    rear = 0.09 * np.clip(1.0 - t / 0.3, 0.0, 1.0) ** 2 + bumper_step
    rear = rear + 0.05 * np.clip((t - 0.5) / 0.5, 0.0, 1.0) ** 2
    to_front, to_rear = np.clip(facing, 0.0, 1.0) ** 2, np.clip(-facing, 0.0, 1.0) ** 2
    return np.asarray(to_front * front + to_rear * rear + (1.0 - to_front - to_rear) * side)


def _levels(design: CarDesign, z: Array) -> Array:
    """Heights of the wall's rows as fractions between its lower trim and its top, (K, J + 1)."""
    lamp_top = 0.93
    front = [0.0, 0.22, 0.46, lamp_top - design.lamp_height, lamp_top - 0.5 * design.lamp_height, lamp_top, 1.0]
    tail_top = 0.97
    low = tail_top - design.tail_lamp_height
    rear = [0.0, min(0.2, 0.5 * low), min(0.44, low - 0.03), low, tail_top - 0.5 * design.tail_lamp_height, tail_top, 1]
    mix = np.clip((z - 0.25 * design.length) / (-0.5 * design.length), 0.0, 1.0)
    return np.asarray(np.array(front)[:, None] * (1.0 - mix) + np.array(rear)[:, None] * mix)


def add_lower_body(builder: MeshBuilder, design: CarDesign) -> dict[str, Array]:
    """Add everything below the windows; returns keypoints of the left side by name, (3,) each."""
    plan, normal = _outline(design)
    x, z = plan[:, 0], plan[:, 1]
    shoulder = belt_line(design, z)
    top = shoulder - design.edge_radius
    trim = np.maximum(design.clearance + 0.09, arch_height(design, z, design.arch_radius + _LIP))
    trim = np.minimum(trim, top - 0.04)
    bottom = np.minimum(np.maximum(design.clearance, arch_height(design, z, design.arch_radius)), trim - 0.02)
    heights = np.concatenate([bottom[None], trim + _levels(design, z) * (top - trim)])
    inset = _wall_inset(design, heights, shoulder, normal[:, 1], z)

    bend = np.radians([30.0, 60.0, 90.0])[:, None]
    edge_inset = inset[-1] + design.edge_radius * (1.0 - np.cos(bend))
    heights = np.concatenate([bottom[None], heights, top + design.edge_radius * np.sin(bend)])
    inset = np.concatenate([inset[:1] + _TUB_INSET, inset, edge_inset])
    half = np.empty((*heights.shape, 3))
    half[..., 0] = np.maximum(x - normal[:, 0] * inset, 0.0)
    half[..., 1] = heights
    half[..., 2] = z - normal[:, 1] * inset
    half[:, [0, -1], 0] = 0.0

    across = np.array([-1.0, -_OPENING, -0.83, -0.45, 0.0, 0.45, 0.83, _OPENING, 1.0])
    u = np.clip(half[-1, :, 2] / (0.5 * design.length), -1.0, 1.0)
    crown = 0.05 * (1.0 - np.abs(u) ** 6)
    deck = _deck_ids(design, half[-1, :, 2], len(across) - 1)
    add_shell(builder, half, _wall_ids(design, plan), across, crown, deck)
    opening = np.flatnonzero(deck[0][:, len(across) // 2] == 0)
    if len(opening):
        rows = slice(opening[0], opening[-1] + 2)
        wells = design.wheel_radius + design.arch_radius
        _add_load_bed(builder, half[-1, rows], crown[rows], max(underbody_top(design), wells + 0.01) + 0.002)
    lamp = int(np.argmin(np.abs(normal[:, 1] - 0.7) + (z < 0)))
    tail = int(np.argmin(np.abs(normal[:, 1] + 0.7) + (z > 0)))
    return {
        "headlamp": half[6, lamp],
        "tail_lamp": half[6, tail],
        "front_bumper_corner": half[3, lamp],
        "rear_bumper_corner": half[3, tail],
    }


def _side_ids(design: CarDesign, z: Array) -> Ids:
    """Wing or door at positions along the car, (n,)."""
    first, middle, last = door_edges(design)
    kinds = [Part.FRONT_WING, Part.FRONT_DOOR, Part.REAR_DOOR]
    return np.select([z > first, z > middle, z > last], kinds, Part.REAR_WING).astype(np.int64)


def _wall_ids(design: CarDesign, plan: Array) -> tuple[Ids, Ids]:
    """Part and material ids of the wall, (11, J): tub, trim, two of bumper, gap, two of lamp, rim, three of edge."""
    mid = 0.5 * (plan[:-1] + plan[1:])
    z = mid[:, 1]
    parts = np.tile(_side_ids(design, z), (11, 1))
    materials = np.full(parts.shape, int(Material.PAINT))
    seams = np.min(np.abs(z[:, None] - np.array(door_edges(design))), axis=1) < SEAM * 0.9
    materials[2:8, seams] = Material.SEAM

    in_arch = np.isfinite(arch_height(design, z, design.arch_radius + _LIP))
    parts[:2] = np.where(in_arch, Part.WHEEL_ARCH, Part.SILL)
    materials[0] = Material.DARK
    materials[1] = Material.PLASTIC
    for end, bumper in ((z > design.front_axle, Part.FRONT_BUMPER), (z < design.rear_axle, Part.REAR_BUMPER)):
        parts[:4, end & ~in_arch] = bumper
        materials[2:4, end & ~in_arch] = Material.BUMPER
        materials[1, end & ~in_arch] = Material.PLASTIC
    _label_face(design, mid, parts, materials)
    _label_tail(design, mid, parts, materials)
    return parts, materials


def _label_face(design: CarDesign, mid: Array, parts: Ids, materials: Ids) -> None:
    """Headlamps, grille, air intake and the edge of the bonnet, in place; `mid` (J, 2) as x, z."""
    x, z = mid[:, 0], mid[:, 1]
    full = 0.5 * design.width * 0.945
    corner = 0.5 * design.length - design.nose_bulge - design.corner_radius
    ahead = z > corner - design.lamp_wrap - 0.002
    clear = ahead & (z > design.front_axle + design.arch_radius + _LIP)
    lamp = clear & (x > (1.0 - design.lamp_width) * full - 0.002)
    nose = clear & ~lamp
    grille = nose & (x < design.grille_width * full)
    parts[4:8, nose] = Part.FRONT_WING
    parts[4:7, grille] = Part.GRILLE
    materials[4:7, grille] = Material.DARK if design.grille_open else Material.PLASTIC
    parts[7, nose] = Part.BONNET
    parts[5:7, lamp] = Part.HEADLAMP
    materials[5:7, lamp] = Material.HEADLAMP
    parts[8:, ahead & (z > corner + 0.5 * design.corner_radius)] = Part.BONNET
    intake = ahead & (x < 0.62 * full)
    parts[2, intake] = Part.GRILLE
    materials[2, intake] = Material.DARK


def _label_tail(design: CarDesign, mid: Array, parts: Ids, materials: Ids) -> None:
    """Tail lamps and the boot lid, in place; `mid` (J, 2) as x, z."""
    x, z = mid[:, 0], mid[:, 1]
    full = 0.5 * design.width * 0.945
    behind = z < -0.5 * design.length + design.corner_radius + 0.05 + 0.10
    lamp = behind & (z < design.rear_axle - design.arch_radius - _LIP)
    lamp &= x > (1.0 - design.tail_lamp_width) * full - 0.002
    parts[4:, behind & ~lamp & (x < full - 0.5 * design.corner_radius)] = Part.BOOT
    parts[5:7, lamp] = Part.TAIL_LAMP
    materials[5:7, lamp] = Material.TAIL_LAMP


def _deck_ids(design: CarDesign, z: Array, cells: int) -> tuple[Ids, Ids]:
    """Part and material ids of the deck, (J, cells); 0 where the load bed is open or the cabin stands."""
    mid = 0.5 * (z[:-1] + z[1:])
    parts = np.repeat(_side_ids(design, mid)[:, None], cells, axis=1)
    materials = np.full(parts.shape, int(Material.PAINT))
    for rows, lid in (
        (mid > design.cowl - 0.05, Part.BONNET),
        (mid < max(design.rear_base, -0.5 * design.length + 0.15) + 0.05, Part.BOOT),
    ):
        lid_rows = np.ix_(rows, np.arange(2, cells - 2))
        parts[lid_rows] = lid
        for seam in (1, cells - 2):
            parts[rows, seam] = lid
            straight = np.abs(mid) < 0.5 * design.length - 0.9 * design.corner_radius
            materials[rows & straight, seam] = Material.SEAM
    if design.body_type == "pickup":
        bed = (mid < design.rear_base - 0.045) & (mid > -0.5 * design.length + 0.20)
        parts[np.ix_(mid < design.rear_base + 0.05, np.arange(cells))] = Part.REAR_WING
        materials[np.ix_(mid < design.rear_base + 0.05, np.arange(cells))] = Material.PAINT
        parts[np.ix_(bed, np.arange(1, cells - 1))] = 0
        parts[mid <= -0.5 * design.length + 0.20] = Part.BOOT
    return parts, materials


def _add_load_bed(builder: MeshBuilder, edge: Array, crown: Array, floor_height: float) -> None:
    """Hang the walls and floor of a load bed into the opening of the deck whose left edge is `edge`, (n, 3)."""
    rim = edge * np.array([_OPENING, 1.0, 1.0])
    rim[:, 1] += crown * (1.0 - _OPENING**2)
    floor = rim.copy()
    floor[:, 1] = floor_height
    mirrored = np.array([-1.0, 1.0, 1.0])
    n = len(edge)
    rings = np.stack([rim, floor, floor * mirrored, rim * mirrored])
    index = np.arange(4 * n).reshape(4, n)
    # Rings run from the left rim over the floor to the right rim, columns from front to rear: this order looks inside.
    quads = np.stack([index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1]], axis=-1).reshape(-1, 4)
    ends = np.array([index[:, 0], index[::-1, -1]])
    materials = np.repeat([Material.PLASTIC, Material.DARK, Material.PLASTIC], n - 1)
    materials = np.concatenate([materials, [Material.PLASTIC] * 2])
    builder.add_quads(rings.reshape(-1, 3), np.concatenate([quads, ends]), Part.LOAD_BED, materials)
