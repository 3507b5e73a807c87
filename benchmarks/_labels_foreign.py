"""Cars made by other people, as a test set from outside the world: an installed package of furniture models.

Debian's `sweethome3d-furniture` (CC-BY-3.0 and CC0 by file) holds thirteen passenger cars and vans whose materials have
names. The names give five classes (level "parts5": background, body, glass, lamp, wheel), wheels are what lies within a
cylinder around the tyres; what a texture or a name leaves open (interiors, textured fronts) is 255 and does not count.
The keypoints are the outer faces of the four wheels and, where lamps have names of their own, the middles of the lamps,
as in the cars world, whose cameras, light and backgrounds these are.
"""

import itertools
import math
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganfoundry.data.seeds import EVALUATION, sample_integer
from ganfoundry.downstream import Examples
from ganfoundry.errors import InputError
from ganfoundry.labels.schema import PartSchema
from ganfoundry.render.mesh import LabelledMesh, MeshBuilder
from ganfoundry.render.zbuffer import rasterise
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.drawing import Placed, assemble, observe, to_image
from ganfoundry.worlds.look import sample_background, sample_camera, sample_light, stream
from ganfoundry.worlds.shading import MATERIAL_FIELDS, Footprint, draw_background, shade

FOLDER = Path("/usr/share/sweethome3d/furniture")
UNKNOWN = 255
LONGEST = 4.9  # metres: a longer car is made smaller, so that it stays inside the image
SUPERSAMPLE = 2
TOLERANCE = 0.15  # metres by which a surface before a keypoint does not hide it: a lamp's glass, a wheel's rim
_LIGHT, _CAMERA = 1, 2
_MODELS = {
    "BlendSwap-CC-BY.sh3f": ("blendswap-cc-by/fordFocus/fordFocus.obj",),
    "KatorLegaz.sh3f": (
        "katorlegaz/concept-sedan-01v1/concept-sedan-01v1.obj",
        "katorlegaz/concept-sedan-01v2/concept-sedan-01v2.obj",
        "katorlegaz/concept-sedan-02/concept-sedan-02.obj",
        "katorlegaz/concept-sedan-02-sport/concept-sedan-02-sport.obj",
        "katorlegaz/VW-new-beetle/VW-new-beetle.obj",
    ),
    "Scopia.sh3f": (
        "scopia/seat_leon/seat_leon.obj",
        "scopia/peugeot-308/peugeot-308.obj",
        "scopia/renault-scenic/renault-scenic.obj",
        "scopia/suv/suv.obj",
        "scopia/chevrolet/chevrolet.obj",
        "scopia/van/van.obj",
        "scopia/smart-car/smart-car.obj",
    ),
}
# The first that fits names the class; the order matters ("GLASS_headlights" is a lamp, "Headlights" too).
_TYRES = (re.compile(r"tire|neumatic|wheels-rubber", re.I), re.compile(r"rubber", re.I))  # the second if no first
_FRONT_LAMP = re.compile(r"headlight|front-light|faros_blan(cos|$)|grey-light|glassfocus", re.I)
_REAR_LAMP = re.compile(r"taillight|brake_?light|rear-light|back-light|redlight|faros_rojos|glass_red", re.I)
_LAMP = re.compile(r"turn_signal|lens|parking|yellow_chrome|yellow_refl|faros_blan_back", re.I)
_UNKNOWN = re.compile(
    r"interior|inside|seat|asiento|textured|floor|steering|esteering|shadeless|hole|column|whiteglass", re.I
)
_GLASS = re.compile(r"glass|cristal|defroster", re.I)
_MIRROR = re.compile(r"mirror", re.I)


@dataclass(frozen=True, eq=False)
class ForeignCar:
    """A car in its own frame: mesh with class ids, keypoints (K, 3), which of them are known (K,), material table."""

    name: str
    mesh: LabelledMesh
    keypoints: NDArray[np.float64]
    known: NDArray[np.bool_]
    materials: NDArray[np.float64]


def installed(folder: Path = FOLDER) -> bool:
    """Whether the package is there."""
    return all((folder / name).is_file() for name in _MODELS)


def class_of(material: str, names: Sequence[str]) -> int:
    """Class id of a material's name at level "parts5", 255 where it does not tell; tyres are found otherwise."""
    if any(kind.search(material) for kind in (_FRONT_LAMP, _REAR_LAMP, _LAMP)):
        return names.index("lamp")
    if _UNKNOWN.search(material):
        return UNKNOWN
    if _GLASS.search(material) and not _MIRROR.search(material):
        return names.index("glass")
    return names.index("body")


def load_cars(schema: PartSchema, folder: Path = FOLDER) -> list[ForeignCar]:
    """All cars of the package.

    Raises
    ------
    InputError
        If the package is not installed, or a file of it cannot be read.
    """
    if not installed(folder):
        raise InputError(
            f"{folder} holds no car models, so nothing is tested out of domain; install the Debian package "
            "sweethome3d-furniture to have it"
        )
    cars = []
    for archive, models in _MODELS.items():
        with zipfile.ZipFile(folder / archive) as files:
            lengths = _lengths(files.read("PluginFurnitureCatalog.properties").decode("latin-1"))
            cars += [load_car(files, model, lengths.get(f"/{model}", 4.4), schema) for model in models]
    return cars


def load_car(files: zipfile.ZipFile, model: str, length: float, schema: PartSchema) -> ForeignCar:
    """Read one OBJ file with its materials; `length` in metres."""
    vertices, faces, materials = _read_obj(files.read(model).decode("latin-1"))
    folder = model.rsplit("/", 1)[0]
    colours: dict[str, tuple[float, ...]] = {}
    for name in files.namelist():
        if name.startswith(folder) and name.endswith(".mtl"):
            colours |= _read_mtl(files.read(name).decode("latin-1"))
    used = sorted(set(materials))
    material = np.array([used.index(name) for name in materials])
    names = schema.names("parts5")
    classes = np.array([class_of(name, names) for name in used])[material]
    tyre = np.isin(material, [used.index(name) for name in _tyres(used)])
    classes[tyre] = names.index("wheel")

    wheels = _wheels(vertices, faces, tyre)
    middle = 0.5 * (vertices.min(0) + vertices.max(0))
    body = vertices[faces[classes == names.index("body")]].reshape(-1, 3)
    extent = np.quantile(body, 0.999, axis=0) - np.quantile(body, 0.001, axis=0)  # without an aerial
    scale = min(length, LONGEST) / extent[2]
    vertices, wheels = (vertices - middle) * scale, [((c - middle) * scale, r * scale) for c, r in wheels]
    if _faces_backwards(vertices, faces, material, used):
        turn = np.array([-1.0, 1.0, -1.0])
        vertices, wheels = vertices * turn, [(c * turn, r) for c, r in wheels]
    centres = vertices[faces].mean(1)
    for centre, radius in wheels:
        across = np.hypot(centres[:, 1] - centre[1], centres[:, 2] - centre[2])
        classes[(across < radius) & (np.abs(centres[:, 0] - centre[0]) < 0.16)] = names.index("wheel")
    low_glass = (classes == names.index("glass")) & (centres[:, 1] < 0)
    classes[low_glass] = UNKNOWN  # the glass of lamps that have no name of their own
    builder = MeshBuilder()
    builder.add(vertices, faces, classes, material)
    keypoints, known = _keypoints(schema, wheels, centres, material, used)
    name = model.rsplit("/", 1)[1].removesuffix(".obj")
    return ForeignCar(name, builder.build(), keypoints, known, _material_table(used, colours))


def render_car(car: ForeignCar, seed: int, resolution: int, schema: PartSchema) -> Sample:
    """Image and labels of a car under the random camera, light and background of a seed; parts are classes."""
    camera = sample_camera(stream(seed, _CAMERA), resolution)
    look = stream(seed, _LIGHT)
    light, background = sample_light(look), sample_background(look)
    placed = [Placed(car)]
    assembly = assemble(placed)
    mesh, ground = assembly.mesh, float(car.mesh.vertices[:, 1].min())
    half = np.abs(mesh.vertices).max(0)
    fine = camera.__class__(
        camera.azimuth, camera.elevation, camera.distance, camera.fov, camera.target, resolution * SUPERSAMPLE
    )
    shadow = Footprint(0.0, 0.0, 0.92 * float(half[0]), float(half[2]), 0.0, 2 * float(half[1]))
    canvas = draw_background(fine, background, light, ground, [shadow])
    rows = mesh.face_materials.astype(np.int64)
    fragments = rasterise(mesh.vertices, mesh.faces, fine)
    shade(canvas, fragments, mesh, fine, car.materials, light, rows, ground)
    return observe(
        to_image(canvas, SUPERSAMPLE), placed, assembly, camera,
        colours=np.repeat(car.materials[rows, None, :3], 3, axis=1), light=light, attributes=[{"name": car.name}],
        num_keypoints=len(schema.keypoints), tolerance=TOLERANCE,
    )  # fmt: skip


def foreign_examples(schema: PartSchema, count: int, resolution: int = 64, folder: Path = FOLDER) -> Examples:
    """`count` images, the cars in turn; labels of level "parts5", keypoints that are known and visible weigh 1."""
    cars = load_cars(schema, folder)
    images, labels, keypoints = [], [], []
    for index in range(count):
        car = cars[index % len(cars)]
        sample = render_car(car, sample_integer(1, EVALUATION, index), resolution, schema)
        points = sample.keypoints[0]
        points[:, 2] = (points[:, 2] > 1.5) & car.known
        images.append(sample.image)
        labels.append(sample.parts)
        keypoints.append(points)
    return Examples(np.stack(images), np.stack(labels), np.stack(keypoints))


def _read_obj(text: str) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Vertices (V, 3), triangles (F, 3) and the name of each triangle's material."""
    vertices, faces, materials, current = [], [], [], ""
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "v":
            vertices.append([float(value) for value in rest.split()[:3]])
        elif word == "usemtl":
            current = rest.strip()
        elif word == "f":
            corner = [int(item.split("/")[0]) for item in rest.split()]
            corner = [index - 1 if index > 0 else len(vertices) + index for index in corner]
            for second, third in itertools.pairwise(corner[1:]):
                faces.append([corner[0], second, third])
                materials.append(current)
    return np.array(vertices), np.array(faces), materials


def _read_mtl(text: str) -> dict[str, tuple[float, ...]]:
    """Diffuse colours by material name."""
    colours, current = {}, ""
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "newmtl":
            current = rest.strip()
        elif word == "Kd":
            colours[current] = tuple(float(value) for value in rest.split()[:3])
    return colours


def _lengths(catalogue: str) -> dict[str, float]:
    """Length in metres of every model in a catalogue."""
    entries: dict[str, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(model|depth)#(\d+)\s*=\s*(\S+)", catalogue, re.M):
        entries.setdefault(number, {})[key] = value
    return {e["model"]: float(e["depth"]) / 100 for e in entries.values() if {"model", "depth"} <= set(e)}


def _tyres(names: Sequence[str]) -> list[str]:
    """Materials of the tyres."""
    for kind in _TYRES:
        if found := [name for name in names if kind.search(name)]:
            return found
    return []


def _wheels(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], tyre: NDArray[np.bool_]
) -> list[tuple[NDArray[np.float64], float]]:
    """Middle and radius of the four wheels: the tyres by quarter of the car, those that touch the ground."""
    centres = vertices[faces[tyre]].mean(1)
    middle = 0.5 * (vertices.min(0) + vertices.max(0))
    low = centres[:, 1] < middle[1]
    found = []
    for right in (False, True):
        for back in (False, True):
            side = low & ((centres[:, 0] > middle[0]) == right) & ((centres[:, 2] > middle[2]) == back)
            points = vertices[faces[tyre][side]].reshape(-1, 3)
            if len(points) == 0:
                continue
            lowest, highest = np.quantile(points, 0.01, axis=0), np.quantile(points, 0.99, axis=0)
            found.append((0.5 * (lowest + highest), 0.5 * float(max(highest[1] - lowest[1], 1e-6))))
    return found


def _faces_backwards(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], material: NDArray[np.int64], names: Sequence[str]
) -> bool:
    """Whether the lamps say that the front is at -Z."""
    depth = vertices[faces].mean(1)[:, 2]

    def mean(kind: re.Pattern[str]) -> float:
        rows = np.isin(material, [i for i, name in enumerate(names) if kind.search(name)])
        return float(depth[rows].mean()) if rows.any() else math.nan

    front, rear = mean(_FRONT_LAMP), mean(_REAR_LAMP)
    if math.isfinite(rear):
        return rear > 0
    return math.isfinite(front) and front < 0


def _keypoints(
    schema: PartSchema,
    wheels: Sequence[tuple[NDArray[np.float64], float]],
    centres: NDArray[np.float64],
    material: NDArray[np.int64],
    names: Sequence[str],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Keypoints in the car's frame and which of them are known."""
    points, known = np.zeros((len(schema.keypoints), 3)), np.zeros(len(schema.keypoints), bool)

    def put(name: str, place: NDArray[np.float64]) -> None:
        index = schema.keypoints.index(f"{name}_{'left' if place[0] > 0 else 'right'}")
        points[index], known[index] = place, True

    for centre, radius in wheels:
        near = np.hypot(centres[:, 1] - centre[1], centres[:, 2] - centre[2]) < 0.5 * radius
        hub = near & (np.abs(centres[:, 0] - centre[0]) < 0.16)
        side = math.copysign(1.0, centre[0])
        outer = float((side * centres[hub, 0]).max()) if hub.any() else side * centre[0]
        put("front_wheel" if centre[2] > 0 else "rear_wheel", np.array([side * outer, centre[1], centre[2]]))
    for name, kind, forward in (("headlamp", _FRONT_LAMP, True), ("tail_lamp", _REAR_LAMP, False)):
        rows = np.isin(material, [i for i, label in enumerate(names) if kind.search(label)])
        for left in (True, False):
            here = rows & ((centres[:, 0] > 0) == left) & ((centres[:, 2] > 0) == forward)
            if here.any():
                middle = 0.5 * (centres[here].min(0) + centres[here].max(0))
                put(name, centres[here][np.linalg.norm(centres[here] - middle, axis=1).argmin()])
    return points, known


def _material_table(names: Sequence[str], colours: dict[str, tuple[float, ...]]) -> NDArray[np.float64]:
    """Shading of the materials: shiny paint and glass, dull everything else."""
    table = np.zeros((len(names), MATERIAL_FIELDS))
    for row, name in enumerate(names):
        gloss = (0.45, 90.0, 0.24) if _GLASS.search(name) else (0.3, 40.0, 0.07)
        dull = name in _tyres(names) or _UNKNOWN.search(name) or re.search(r"plastic|matte|low", name, re.I)
        table[row] = (*colours.get(name, (0.6, 0.6, 0.6)), *((0.05, 10.0, 0.0) if dull else gloss), 0.0)
    return table
