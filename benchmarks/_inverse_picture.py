"""Meshes to look at: unseen cars as they are, and as a network finds them in one image."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks import _inverse_data as data
from benchmarks._inverse_data import SIZE, Shots
from benchmarks._inverse_rows import Settings
from benchmarks._inverse_score import read_pictures, similarity_of
from ganfoundry.pictures import colourise, grid
from ganfoundry.render.camera import Camera
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.zbuffer import rasterise
from ganfoundry.shape.inverse_graphics import Mesh, Reading, draw
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.plausibility import detector_for

LOOKS = tuple(
    Camera(azimuth, elevation, 11.0, 26.0, resolution=96) for azimuth, elevation in ((40, 15), (90, 0), (0, 0))
)


def sheet(model: InverseModel, settings: Settings, *, count: int = 10) -> NDArray[np.uint8]:
    """A row a car: image; true and found shape from three sides; true and found parts and colours from another.

    Returns
    -------
    (H, W, 3) uint8
    """
    solids = data.solids_of(data.POOL_SEED, settings.cars)
    similarity = similarity_of(model, data.pool(settings.cars, settings.views), solids)
    unseen = data.unseen_renders(settings.test)
    rows = np.linspace(0, len(unseen.solids) - 1, min(count, len(unseen.solids))).astype(int)
    tiles, detector = [], detector_for(model)
    for row in rows:
        reading = read_pictures(model, unseen.shown.image[row : row + 1], detector)
        vertices = similarity(reading.shape.vertices[0].numpy())
        car, faces = data.car_of(data.TEST_SEED, int(row)), Mesh.of_level(model.network.config.level).faces.numpy()
        tiles.append(unseen.shown.image[row])
        for look in LOOKS:
            tiles += [shaded(car.mesh.vertices, car.mesh.faces, look), shaded(vertices, faces, look)]
        tiles += _pictures(model, reading, vertices, unseen.novel, int(row))
    return grid(np.stack([_sized(tile) for tile in tiles]), len(tiles) // len(rows))


def _pictures(
    model: InverseModel, reading: Reading, vertices: NDArray[np.float64], novel: Shots, row: int
) -> Sequence[NDArray[np.uint8]]:
    """True and found parts, true and found colours, as the novel camera sees them."""
    palette = data.SCHEMA.level_palette(data.LEVEL)
    texture = torch.cat([reading.surface.colours, reading.surface.parts], 1)
    cameras = Cameras.from_cameras([novel.cameras()[row]])
    drawn = draw(
        model.network, Mesh.of_level(model.network.config.level), torch.from_numpy(vertices)[None].float(), texture,
        cameras, SIZE,
    )  # fmt: skip
    assert drawn.image is not None
    mask = drawn.mask[0] > 0.5
    parts = torch.where(mask, 1 + drawn.image[0, 3:].argmax(0), 0).numpy()
    colours = ((drawn.image[0, :3] + (1 - drawn.mask[0])).clamp(-1, 1) + 1) * 127.5
    return [
        colourise(novel.parts[row][None], palette)[0],
        colourise(parts[None], palette)[0],
        novel.image[row],
        colours.round().byte().permute(1, 2, 0).numpy(),
    ]


def shaded(vertices: NDArray[np.floating], faces: NDArray[np.integer], camera: Camera) -> NDArray[np.uint8]:
    """A mesh in grey, lit from the camera's side, on white."""
    points, corners = np.asarray(vertices, np.float64), np.asarray(faces, np.int32)
    fragments = rasterise(points, corners, camera)
    a, b, c = (points[corners[:, k]] for k in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    light = np.array([0.4, 0.8, 0.3]) - camera.rotation[2]
    grey = 60 + 170 * np.abs(normals @ (light / np.linalg.norm(light)))
    picture = np.where(fragments.face >= 0, grey[fragments.face], 255)
    return np.repeat(picture[..., None], 3, 2).astype(np.uint8)


def _sized(tile: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = LOOKS[0].resolution
    return np.asarray(Image.fromarray(tile).resize((side, side), Image.Resampling.NEAREST))


def draw_sheet(path: Path, model: InverseModel, settings: Settings) -> None:
    """Write the sheet as a PNG."""
    Image.fromarray(sheet(model, settings)).save(path)
