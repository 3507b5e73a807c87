"""Renders with true meshes for the inverse-graphics benchmark; what is made is cached.

Three sets of renders. The pool (training): some cars, each from the same cameras; the upper bound learns from it, the
nearest neighbour is looked up in it, and the similarity between a network's frame and the world's is found on it. The
test: unseen cars, each from a camera of its own and from a second one. The outer test: cars made by others.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from benchmarks._jobs import cached
from benchmarks._labels_foreign import ForeignCar, installed, load_cars, render_car
from ganfoundry.data.seeds import EVALUATION, WORLD, sample_integer, sample_rng
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.render.camera import Camera
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.surface_error import SurfacePoints, diagonal_of, outer_surface
from ganfoundry.shape.voxels import solid_voxels
from ganfoundry.worlds.base import Sample
from ganfoundry.worlds.car import Car, build_car
from ganfoundry.worlds.cars import CarWorld
from ganfoundry.worlds.look import sample_camera

GAN, LEVEL, OUTER_LEVEL = "cars-64", "parts12", "parts5"
CACHE = Path("outputs/cache/inverse")
POOL_SEED, TEST_SEED = sample_integer(0, EVALUATION, 3), sample_integer(0, EVALUATION, 4)
SIZE = 64
CUBE = np.array([[-2.75] * 3, [2.75] * 3])  # metres; the longest car is 4.9 m long
RESOLUTION = 64
POINTS = 16_000
ROWS_PER_PART = 20
WORLD_OF_CARS = CarWorld()
SCHEMA = WORLD_OF_CARS.schema
UNKNOWN = 255

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, eq=False)
class Solid:
    """A car in the world's frame, true or found, as it is compared.

    Attributes
    ----------
    voxels : (64, 64, 64) bool, of `CUBE`
    surface : SurfacePoints
        Of what can be seen from outside.
    parts : (POINTS,) uint8
        Part ids of the points, 255 where unknown.
    keypoints : (K, 3) metres
    known : (K,) bool
    diagonal : float, metres
    level : str, of the part ids
    """

    voxels: NDArray[np.bool_]
    surface: SurfacePoints
    parts: NDArray[np.uint8]
    keypoints: NDArray[np.float64]
    known: NDArray[np.bool_]
    diagonal: float
    level: str = LEVEL

    @classmethod
    def of_mesh(
        cls,
        vertices: NDArray[np.floating],
        faces: NDArray[np.integer],
        face_parts: NDArray[np.uint8] | Callable[[SurfacePoints], NDArray[np.uint8]],
        keypoints: NDArray[np.floating],
        known: NDArray[np.bool_] | None = None,
        *,
        level: str = LEVEL,
        seed: int = 0,
    ) -> Self:
        """Measure a mesh; `face_parts` are ids of the faces, or what tells the ids of points."""
        surface = outer_surface(vertices, faces, POINTS, np.random.default_rng(seed))
        parts = face_parts(surface) if callable(face_parts) else face_parts[surface.faces]
        every = np.ones(len(keypoints), bool)
        return cls(
            solid_voxels(vertices, faces, CUBE, RESOLUTION),
            surface,
            parts.astype(np.uint8),
            np.asarray(keypoints, np.float64),
            every if known is None else known,
            diagonal_of(vertices, faces),
            level,
        )


@dataclass(frozen=True, eq=False)
class Shots:
    """N images and what is known about them.

    Attributes
    ----------
    image : (N, S, S, 3) uint8
    parts : (N, S, S) uint8
        Of `LEVEL`, or of `OUTER_LEVEL` with 255 for unknown.
    keypoints : (N, K, 3) float32
        x, y, visibility 0 to 2.
    camera : (N, 4) float64
        Azimuth, elevation, distance, field of view.
    """

    image: NDArray[np.uint8]
    parts: NDArray[np.uint8]
    keypoints: NDArray[np.float32]
    camera: NDArray[np.float64]

    @classmethod
    def of_samples(cls, samples: Sequence[Sample], table: NDArray[np.uint8] | None) -> Self:
        """Arrays of renders; the table gives their parts' ids."""
        parts = np.stack([sample.parts for sample in samples])
        return cls(
            np.stack([sample.image for sample in samples]),
            parts if table is None else table[parts],
            np.stack([sample.keypoints[0] for sample in samples]),
            np.array([[c.azimuth, c.elevation, c.distance, c.fov] for c in (sample.camera for sample in samples)]),
        )

    def cameras(self) -> list[Camera]:
        """The cameras, looking at the world's origin."""
        rows = self.camera.tolist()
        return [Camera(a, e, distance, fov, resolution=self.image.shape[1]) for a, e, distance, fov in rows]

    def arrays(self, prefix: str = "") -> Arrays:
        """Fields by name."""
        return {f"{prefix}{field.name}": getattr(self, field.name) for field in fields(self)}

    @classmethod
    def joined(cls, pieces: Iterable[Mapping[str, NDArray[np.generic]]], prefix: str = "") -> Self:
        """One after the other, from what `arrays` gave."""
        found = list(pieces)
        return cls(*(np.concatenate([piece[f"{prefix}{field.name}"] for piece in found]) for field in fields(cls)))


@dataclass(frozen=True, eq=False)
class Unseen:
    """Images to read (`shown`), the same objects from other cameras (`novel`), and their true solids."""

    shown: Shots
    novel: Shots
    solids: list[Solid]

    @property
    def level(self) -> str:
        """Of the part ids."""
        return self.solids[0].level


def blocks(count: int, size: int) -> list[range]:
    """Rows of parts of some size."""
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


@lru_cache(maxsize=1)
def generator() -> LoadedGan:
    """The shipped generator; its discriminator's features compare pictures."""
    return load_gan(GAN)


# ---------------------------------------------------------------- renders


def car_of(root: int, row: int) -> Car:
    """The car of a row."""
    return build_car(WORLD_OF_CARS.design(sample_integer(root, WORLD, row)))


def true_solid(car: Car | ForeignCar, *, seed: int = 0) -> Solid:
    """What is true of a car."""
    if isinstance(car, ForeignCar):
        return Solid.of_mesh(
            car.mesh.vertices,
            car.mesh.faces,
            car.mesh.face_parts,
            car.keypoints,
            car.known,
            level=OUTER_LEVEL,
            seed=seed,
        )
    parts = SCHEMA.merge(LEVEL)[car.mesh.face_parts]
    return Solid.of_mesh(car.mesh.vertices, car.mesh.faces, parts, car.keypoints, seed=seed)


def solids_part(root: int, rows: range) -> list[Solid]:
    """True solids of some rows."""
    path = CACHE / f"solids-{root}" / f"{rows.start:04d}-{rows.stop:04d}.npz"
    return _unpacked(cached(path, lambda: _packed([true_solid(car_of(root, row), seed=row) for row in rows])))


def solids_of(root: int, count: int) -> list[Solid]:
    """True solids of the first rows of a root."""
    return [solid for rows in blocks(count, ROWS_PER_PART) for solid in solids_part(root, rows)]


def _packed(solids: Sequence[Solid]) -> Arrays:
    stacked: Arrays = {
        "voxels": np.stack([np.packbits(solid.voxels) for solid in solids]),
        "points": np.stack([solid.surface.points for solid in solids]).astype(np.float16),
        "normals": np.stack([solid.surface.normals for solid in solids]).astype(np.float16),
    }
    rest = {name: np.stack([getattr(s, name) for s in solids]) for name in ("parts", "keypoints", "known", "diagonal")}
    return stacked | rest


def _unpacked(table: Arrays, level: str = LEVEL) -> list[Solid]:
    nothing = np.zeros(0, np.int64), np.zeros((0, 3))  # faces and weights are not kept
    return [
        Solid(
            np.unpackbits(table["voxels"][i].astype(np.uint8)).astype(bool).reshape((RESOLUTION,) * 3),
            SurfacePoints(table["points"][i].astype(float), table["normals"][i].astype(float), *nothing),
            table["parts"][i].astype(np.uint8),
            table["keypoints"][i].astype(float),
            table["known"][i].astype(bool),
            float(table["diagonal"][i]),
            level,
        )
        for i in range(len(table["parts"]))
    ]


def pool_cameras(count: int) -> list[Camera]:
    """Cameras all around, elevations and distances as the world draws them."""
    drawn = [sample_camera(sample_rng(POOL_SEED, EVALUATION, i), SIZE) for i in range(count)]
    return [replace(camera, azimuth=360.0 * i / count) for i, camera in enumerate(drawn)]


def pool_part(rows: range, views: int) -> Arrays:
    """Renders of some cars of the pool from all its cameras, car by car."""

    def make() -> Arrays:
        seeds = [sample_integer(POOL_SEED, WORLD, row) for row in rows]
        samples = [WORLD_OF_CARS.render(seed, SIZE, camera=camera) for seed in seeds for camera in pool_cameras(views)]
        return Shots.of_samples(samples, SCHEMA.merge(LEVEL)).arrays()

    return cached(CACHE / f"pool-{views}" / f"{rows.start:04d}-{rows.stop:04d}.npz", make)


def pool(cars: int, views: int) -> Shots:
    """The pool's images, car by car."""
    return Shots.joined(pool_part(rows, views) for rows in blocks(cars, ROWS_PER_PART))


def pool_views(cars: int, views: int) -> MultiView:
    """The pool as a multi-view set with exact labels; hidden keypoints are known, too."""
    shots = pool(cars, views)
    keypoints = shots.keypoints.copy()
    keypoints[..., 2] = keypoints[..., 2] > 0
    return MultiView(
        images=shots.image,
        masks=shots.parts > 0,
        objects=np.arange(cars).repeat(views),
        codes=np.tile(np.arange(views), cars),
        azimuths=tuple(camera.azimuth for camera in pool_cameras(views)),
        parts=shots.parts,
        keypoints=keypoints,
        part_names=SCHEMA.names(LEVEL),
        keypoint_names=SCHEMA.keypoints,
    )


def unseen_part(rows: range) -> Arrays:
    """Renders of some cars of the test, each from its own camera and from another."""

    def make() -> Arrays:
        shown, novel = [], []
        for row in rows:
            seed = sample_integer(TEST_SEED, WORLD, row)
            other = sample_camera(sample_rng(TEST_SEED, EVALUATION, row), SIZE)
            shown.append(WORLD_OF_CARS.render(seed, SIZE))
            novel.append(WORLD_OF_CARS.render(seed, SIZE, camera=other))
        table = SCHEMA.merge(LEVEL)
        return Shots.of_samples(shown, table).arrays("shown_") | Shots.of_samples(novel, table).arrays("novel_")

    return cached(CACHE / "test" / f"{rows.start:04d}-{rows.stop:04d}.npz", make)


def unseen_renders(count: int) -> Unseen:
    """Unseen renders."""
    pieces = [unseen_part(rows) for rows in blocks(count, ROWS_PER_PART)]
    shown, novel = (Shots.joined(pieces, prefix) for prefix in ("shown_", "novel_"))
    return Unseen(shown, novel, solids_of(TEST_SEED, count))


@lru_cache(maxsize=1)
def foreign_cars() -> list[ForeignCar]:
    """The cars made by others."""
    return load_cars(SCHEMA)


def unseen_foreign(count: int) -> Unseen | None:
    """Images of cars made by others, in turn; light and background differ between the two views of a car.

    None where the package is not installed.
    """
    if not installed() or not count:
        return None

    def make() -> Arrays:
        cars = foreign_cars()
        views = [
            [
                render_car(cars[i % len(cars)], sample_integer(k, EVALUATION, i + 5000), SIZE, SCHEMA)
                for i in range(count)
            ]
            for k in (0, 1)
        ]
        shots = [Shots.of_samples(samples, None) for samples in views]
        solids = _packed([true_solid(car) for car in cars])
        return shots[0].arrays("shown_") | shots[1].arrays("novel_") | {f"solid_{k}": v for k, v in solids.items()}

    table = cached(CACHE / f"outer-{count}.npz", make)
    measured = {name.removeprefix("solid_"): v for name, v in table.items() if name.startswith("solid_")}
    solids = _unpacked(measured, OUTER_LEVEL)
    shown, novel = (Shots.joined([table], prefix) for prefix in ("shown_", "novel_"))
    return Unseen(shown, novel, [solids[i % len(solids)] for i in range(count)])


def parts_at(level: str, solid: Solid) -> NDArray[np.uint8]:
    """Part ids of a solid's points in a level that merges its own."""
    if level == solid.level:
        return solid.parts
    fine, coarse = SCHEMA.merge(solid.level), SCHEMA.merge(level)
    table = np.array([coarse[fine == index][0] for index in range(fine.max() + 1)], np.uint8)
    found: NDArray[np.uint8] = table[solid.parts]
    return found
