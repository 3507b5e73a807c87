"""Figures of inverse graphics: what was found against what is true, on generated views and on renders."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from benchmarks import _inverse_data as data
from benchmarks._inverse_data import UNKNOWN, Shots, Solid, Unseen
from ganfoundry.data.seeds import WORLD, sample_integer
from ganfoundry.detect.backends import Detector
from ganfoundry.gan.inversion.objective import discriminator_features, feature_distance, psnr
from ganfoundry.images import network_images, stored_images
from ganfoundry.metrics import angle_difference, mean_iou
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.camera_table import CameraTable
from ganfoundry.shape.inverse_graphics import Mesh, Reading, draw
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.networks import InverseGraphicsNetwork, Shape
from ganfoundry.shape.plausibility import detector_for, look_for_objects, outlines
from ganfoundry.shape.surface_error import Similarity, SurfacePoints, align_surfaces, outer_surface, surface_error
from ganfoundry.shape.voxels import voxel_iou

BATCH = 16
ALIGN_POINTS = 500
THRESHOLD = 0.05  # of the image side: a keypoint that is nearer is found


@dataclass(frozen=True, eq=False)
class Found:
    """What a method makes of one image.

    Attributes
    ----------
    solid : Solid, in the world's frame
    azimuth : float
        Degrees, of the camera that sees the image.
    image : (S, S, 3) uint8
        The object from the novel camera, on white.
    mask, parts : (S, S) bool and uint8
        The same.
    """

    solid: Solid
    azimuth: float
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    parts: NDArray[np.uint8]


Method = Callable[[Unseen], Iterable[Found]]
"""Reads the shown images of a set, and draws each object as its novel camera sees it."""


def score(method: Method, unseen: Unseen, prefix: str = "") -> dict[str, float]:
    """Figures of a method on renders; all means over the images but `azimuth_error`, a median in degrees.

    iou3d: of 64^3 voxels. chamfer, keypoint_error_3d: shares of the true diagonal. f_score: at 2 % of it. part_miou:
    part of found surface points against that of the nearest true ones. pck5: visible keypoints within 5 % of the image
    side in the novel view. novel_iou, novel_psnr (dB), novel_features: the novel view, on white. turned_around: share
    of azimuths that are wrong by more than 90 degrees.
    """
    rows: dict[str, list[float]] = {}
    labels: list[NDArray[np.uint8]] = []
    images = []
    for index, found in enumerate(method(unseen)):
        true = unseen.solids[index]
        single, pair = compare_solids(found.solid, true)
        labels.append(pair)
        images.append(found.image)
        single["azimuth_error"] = abs(float(angle_difference(found.azimuth, unseen.shown.camera[index, 0])))
        single |= _novel_view(found, unseen.novel, index, true)
        for name, value in single.items():
            rows.setdefault(name, []).append(value)
    figures = {name: float(np.mean(values)) for name, values in rows.items()}
    figures["azimuth_error"] = float(np.median(rows["azimuth_error"]))
    figures["turned_around"] = float(np.mean(np.array(rows["azimuth_error"]) > 90))
    truth, said = np.concatenate(labels, 1)
    said = np.where(said == UNKNOWN, 0, said)  # what nothing is said of is not right
    classes = len(data.SCHEMA.names(unseen.level))
    figures["part_miou"] = mean_iou(truth, said, classes, ignore=UNKNOWN, skip_background=True)
    if unseen.level == data.LEVEL:  # the two views of cars made by others differ in light
        figures |= compare_pictures(np.stack(images), on_white(unseen.novel.image, unseen.novel.parts > 0))
    return {f"{prefix}{name}": value for name, value in figures.items() if np.isfinite(value)}


def compare_solids(found: Solid, true: Solid) -> tuple[dict[str, float], NDArray[np.uint8]]:
    """Errors of one solid, and the parts (2, N) of its surface points: those of the nearest true ones, and its own."""
    error = surface_error(found.surface, true.surface, true.diagonal)
    nearest = cKDTree(true.surface.points).query(found.surface.points)[1]
    pair = np.stack([true.parts[nearest], data.parts_at(true.level, found)])
    figures = {
        "iou3d": voxel_iou(found.voxels, true.voxels),
        "chamfer": error.chamfer,
        "f_score": error.f_score,
        "normal_consistency": error.normal_consistency,
    }
    if true.known.any():
        apart = np.linalg.norm(found.keypoints - true.keypoints, axis=1)[true.known]
        figures["keypoint_error_3d"] = float(apart.mean()) / true.diagonal
    return figures, pair


def _novel_view(found: Found, novel: Shots, index: int, true: Solid) -> dict[str, float]:
    mask = novel.parts[index] > 0
    both, either = (found.mask & mask).sum(), (found.mask | mask).sum()
    figures = {"novel_iou": float(both / max(either, 1))}
    visible = (novel.keypoints[index, :, 2] > 1.5) & true.known
    if visible.any():
        pixels, _ = novel.cameras()[index].project(found.solid.keypoints)
        apart = np.linalg.norm(pixels - novel.keypoints[index, :, :2], axis=1)[visible]
        figures["pck5"] = float((apart <= THRESHOLD * mask.shape[0]).mean())
    return figures


def on_white(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Images (N, S, S, 3) without what is outside their masks."""
    return np.where(mask[..., None], image, np.uint8(255))


@torch.inference_mode()
def compare_pictures(found: NDArray[np.uint8], true: NDArray[np.uint8]) -> dict[str, float]:
    """Mean PSNR, and mean distance of the discriminator's features (unit vectors, 0 to 4)."""
    discriminator = data.generator().discriminator
    assert discriminator is not None
    distances = []
    for start in range(0, len(found), BATCH):
        rows = slice(start, start + BATCH)
        features = [discriminator_features(discriminator, network_images(x[rows])) for x in (found, true)]
        distances.append(feature_distance(*features))
    ratio = np.minimum(psnr(found, true), 60.0)  # equal pictures have none
    return {"novel_psnr": float(ratio.mean()), "novel_features": float(torch.cat(distances).mean())}


# ---------------------------------------------------------------- networks


def table_of(model: InverseModel) -> CameraTable:
    """The camera table that a network was saved with."""
    rows = torch.tensor(model.description["cameras"])
    config = model.network.config
    table = CameraTable(rows[:, 0].tolist(), 0, config.distance, config.fov, fixed=True)
    assert isinstance(table.scale, torch.Tensor)
    table.codes.data[:, 1:] = rows[:, 1:] / table.scale[1:]
    return table


def table_error(table: CameraTable, codes: Sequence[int], azimuths: Sequence[float]) -> float:
    """Median difference of some codes' azimuths from others, degrees, after the one turn that is best for all."""
    found = table.parameters_of(torch.tensor(codes))[:, 0].detach().numpy().astype(float)
    difference = angle_difference(found, np.array(azimuths))
    turns = [float(np.median(np.abs(angle_difference(difference, turn)))) for turn in difference]
    return min(turns)


@torch.inference_mode()
def similarity_of(model: InverseModel, shots: Shots, solids: list[Solid]) -> Similarity:
    """The one map from a network's frame to the world's: its meshes of training renders laid on the true ones.

    Parameters
    ----------
    shots : Shots
        The pool: as many images of each solid.
    """
    each = len(shots.image) // len(solids)
    rows = np.arange(len(solids)) * each + np.arange(len(solids)) % each  # another camera for every car
    sources, faces = [], Mesh.of_level(model.network.config.level).faces.numpy()
    for start in range(0, len(rows), BATCH):
        reading = model.read(shots.image[rows[start : start + BATCH]])
        for vertices in reading.shape.vertices.numpy():
            sources.append(outer_surface(vertices, faces, ALIGN_POINTS, np.random.default_rng(0)).points)
    return align_surfaces(sources, [solid.surface.points[:ALIGN_POINTS] for solid in solids])


def read_pictures(model: InverseModel, images: NDArray[np.uint8], detector: Detector | None) -> Reading:
    """Read images as `reconstruct` does: colours are taken from where the detector sees the object."""
    return model.read(images, masks=outlines(look_for_objects(images, detector)) if detector else None)


def network_method(model: InverseModel, similarity: Similarity) -> Method:
    """Read images with a network, and carry what it finds into the world's frame."""
    detector = detector_for(model)

    @torch.inference_mode()
    def method(unseen: Unseen) -> Iterable[Found]:
        network = model.network
        mesh = Mesh.of_level(network.config.level)
        for start in range(0, len(unseen.shown.image), BATCH):
            rows = slice(start, start + BATCH)
            reading = read_pictures(model, unseen.shown.image[rows], detector)
            vertices = np.stack([similarity(v) for v in reading.shape.vertices.numpy()])
            texture = torch.cat([reading.surface.colours, reading.surface.parts], 1)
            cameras = Cameras.from_cameras(unseen.novel.cameras()[rows])
            drawn = draw(network, mesh, torch.from_numpy(vertices).float(), texture, cameras, data.SIZE)
            assert drawn.image is not None
            masks = (drawn.mask > 0.5).numpy()
            parts = np.where(masks, 1 + drawn.image[:, 3:].argmax(1).numpy(), 0).astype(np.uint8)
            pictures = stored_images(drawn.image[:, :3] + (1 - drawn.mask)[:, None])
            directions = _turned(reading.guess.direction.numpy(), similarity)
            for i, solid in enumerate(_solids(reading, vertices, similarity, network)):
                yield Found(solid, directions[i], pictures[i], masks[i], parts[i])

    return method


def _turned(direction: NDArray[np.float32], similarity: Similarity) -> list[float]:
    """Azimuths in the world's frame of directions (N, 2), sine and cosine of the azimuth in the network's."""
    places = np.stack([direction[:, 0], np.zeros(len(direction)), direction[:, 1]], 1) @ similarity.rotation.T
    return [float(a) for a in np.degrees(np.arctan2(places[:, 0], places[:, 2]))]


def _solids(
    reading: Reading, vertices: NDArray[np.float64], similarity: Similarity, network: InverseGraphicsNetwork
) -> Iterable[Solid]:
    mesh = Mesh.of_level(network.config.level)
    faces = mesh.faces.numpy()
    for i, corners in enumerate(vertices):
        label = 1 + reading.surface.parts[i].argmax(0).numpy()

        def parts_at(surface: SurfacePoints, label: NDArray[np.int64] = label) -> NDArray[np.uint8]:
            uv = (mesh.uv.numpy()[mesh.face_uv.numpy()[surface.faces]] * surface.weights[..., None]).sum(1)
            height, width = label.shape
            column = (uv[:, 0] % 1.0 * width).astype(int).clip(max=width - 1)
            row = (uv[:, 1] * height).astype(int).clip(0, height - 1)
            return np.asarray(label[row, column], np.uint8)

        yield Solid.of_mesh(corners, faces, parts_at, similarity(reading.shape.keypoints[i].numpy()))


# ---------------------------------------------------------------- without a network


def truth_method(root: int) -> Method:
    """The truth itself, its surface measured with other points: what the figures can reach."""

    def method(unseen: Unseen) -> Iterable[Found]:
        for i, parts in enumerate(unseen.novel.parts):
            car = data.car_of(root, i) if unseen.level == data.LEVEL else data.foreign_cars()[i % 13]
            solid = data.true_solid(car, seed=1000 + i)
            image = on_white(unseen.novel.image[i], parts > 0)
            yield Found(solid, float(unseen.shown.camera[i, 0]), image, parts > 0, parts)

    return method


@torch.inference_mode()
def appearance(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Vectors (N, D) by which images are compared: the discriminator's features at 8 px."""
    discriminator = data.generator().discriminator
    assert discriminator is not None
    found = []
    for start in range(0, len(images), 64):
        features = discriminator_features(discriminator, network_images(images[start : start + 64]))
        small = next(f for f in features if f.shape[-1] <= 8)
        found.append(F.normalize(small.flatten(1), dim=1))
    joined: NDArray[np.float32] = torch.cat(found).numpy()
    return joined


def neighbour_method(shots: Shots, solids: list[Solid]) -> Method:
    """The car of the pool whose picture looks most like the given one, from the camera that it was seen from."""
    known, each = appearance(shots.image), len(shots.image) // len(solids)

    def method(unseen: Unseen) -> Iterable[Found]:
        nearest = (appearance(unseen.shown.image) @ known.T).argmax(1)
        table = data.SCHEMA.merge(data.LEVEL)
        for camera, row in zip(unseen.novel.cameras(), nearest, strict=True):
            seed = sample_integer(data.POOL_SEED, WORLD, int(row) // each)
            sample = data.WORLD_OF_CARS.render(seed, data.SIZE, camera=camera)
            mask = sample.parts > 0
            image = on_white(sample.image[None], mask[None])[0]
            solid = solids[int(row) // each]
            yield Found(solid, float(shots.camera[row, 0]), image, mask, table[sample.parts])

    return method


def neighbour_views(learnt: MultiView, held_out: MultiView, *, objects: int = 100, seed: int = 0) -> dict[str, float]:
    """What `evaluate_views` says of the nearest neighbour: the learnt view that looks most like the input view.

    In place of the novel view stands the view of that object whose azimuth bin is nearest to the novel view's.
    """
    rows = held_out.draw(np.random.default_rng(seed), objects, 2)
    nearest = (appearance(held_out.images[rows[:, 0]]) @ appearance(learnt.images).T).argmax(1)
    azimuths = np.array(learnt.azimuths)
    other = np.empty_like(nearest)
    for i, row in enumerate(nearest):
        views = np.flatnonzero(learnt.objects == learnt.objects[row])
        away = np.abs(angle_difference(azimuths[learnt.codes[views]], azimuths[held_out.codes[rows[i, 1]]]))
        other[i] = views[away.argmin()]
    figures = {}
    for name, found, wanted in (("input", nearest, rows[:, 0]), ("novel", other, rows[:, 1])):
        ours, theirs = learnt.masks[found], held_out.masks[wanted]
        figures[f"iou2d_{name}"] = float(((ours & theirs).sum((1, 2)) / (ours | theirs).sum((1, 2))).mean())
    if learnt.parts is not None and held_out.parts is not None:
        truth, said = held_out.parts[rows[:, 1]], learnt.parts[other]
        figures["part_miou"] = mean_iou(truth, said, len(learnt.part_names))
    if learnt.keypoints is not None and held_out.keypoints is not None:
        truth_points, points = held_out.keypoints[rows[:, 1]], learnt.keypoints[other]
        near = np.linalg.norm(truth_points[..., :2] - points[..., :2], axis=2) <= THRESHOLD * learnt.size
        figures["pck5"] = float(near[truth_points[..., 2] > 0.5].mean())
    return figures


def mean_volume(pool: list[Solid], unseen: Unseen) -> float:
    """Mean 3D IoU of one volume for all: what the pool's cars have in common, at the threshold that fits them best."""
    share = np.mean([solid.voxels for solid in pool], 0)

    def fit(threshold: float, solids: list[Solid]) -> float:
        return float(np.mean([voxel_iou(share > threshold, solid.voxels) for solid in solids]))

    best = max((0.3, 0.4, 0.5, 0.6, 0.7), key=lambda threshold: fit(threshold, pool))
    return fit(best, unseen.solids)


@torch.inference_mode()
def keep_mean_shape(network: InverseGraphicsNetwork, images: NDArray[np.uint8]) -> None:
    """Make a network give the mean of its own shapes of some images, whatever it sees."""
    shapes = [
        network.shape(network.encode(network_images(images[start : start + 64]))) for start in range(0, len(images), 64)
    ]
    vertices, displacement, weights = (
        torch.cat([getattr(shape, name) for shape in shapes]).mean(0, keepdim=True)
        for name in ("vertices", "displacement", "keypoint_weights")
    )
    own = network.shape

    def constant(code: torch.Tensor) -> Shape:
        shape = own(code)
        count = len(code)
        return shape._replace(
            vertices=vertices.expand(count, -1, -1),
            displacement=displacement.expand(count, -1, -1),
            keypoint_weights=weights.expand(count, -1, -1),
        )

    network.shape = constant  # type: ignore[method-assign]


def named(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures of generated views under names that those of renders do not have."""
    own = {"part_miou": "views_part_miou", "pck5": "views_pck5"}
    return {own.get(name, name): value for name, value in figures.items()}
