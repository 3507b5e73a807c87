"""Inverse graphics from the views of a GAN: GANverse3D's training objective, and ours.

Zhang et al. 2021 (arXiv:2010.09125, sections 3.2 and 4.1): a network reads shape and texture off one view of an
object, a differentiable renderer draws them from the cameras of two views, and the pictures have to be those views.
DatasetGAN's 3D variant adds parts, painted on the surface like a texture, and keypoints, each a distribution over the
vertices.

`ObjectiveConfig.paper()` has the published weights. The default (`ObjectiveConfig()`) differs: every view of a batch is
drawn from the codes of every other view of its object, novel views count before the input view does, features are those
of the generator's own discriminator instead of VGG's, and silhouettes pull from afar at the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.inversion.objective import discriminator_features, feature_distance
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.maps import vertex_normals
from ganfoundry.render.renderer import Rendering, render
from ganfoundry.shape import losses, regularisers
from ganfoundry.shape.camera_table import CameraTable
from ganfoundry.shape.networks import CameraGuess, InverseGraphicsNetwork, Shape, Surface
from ganfoundry.shape.template import sphere_template


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """Weights of the losses, and which pictures they compare.

    Attributes
    ----------
    iou, colour, laplacian, flatness, movement, perceptual
        GANverse3D's L_IOU, L_col, L_lap, L_flatten, L_mov and L_percept. Ours are as published but for movement and
        colour: what the input shows is copied onto the mesh where the mesh is now, so colours hold it there, and with
        the published 20 their gradient on the vertices is larger than the silhouette's.
    parts, keypoints
        Cross-entropy of part labels and squared distance of keypoints (image sides); no weight was published.
    keypoint_outlier : float
        Image sides from which a keypoint's label is taken for a mistake; 0: never.
    camera
        Of the camera head against the camera table.
    deviation
        Of single images' cameras from their code's.
    pull
        Distance between mesh and mask, during the first `pull_steps` steps.
    cross : "all" or "pairs"
        "all": each view of a batch is drawn from each view's code; "pairs": every code draws its own view and the next.
    input_from : int
        Step from which a view is also drawn from its own code; before, novel views alone count.
    perceptual_from : int
        Step from which the perceptual loss counts.
    perceptual_share : float
        Share of the drawn pictures that the perceptual loss looks at, every second, fourth, ...
    """

    iou: float = 3.0
    colour: float = 2.0
    laplacian: float = 5.0
    flatness: float = 5.0
    movement: float = 0.25
    perceptual: float = 0.5
    parts: float = 1.0
    keypoints: float = 10.0
    keypoint_outlier: float = 0.07
    camera: float = 1.0
    deviation: float = 0.1
    pull: float = 10.0
    pull_steps: int = 500
    cross: str = "all"
    input_from: int = 250
    perceptual_from: int = 1000
    perceptual_share: float = 0.25

    @classmethod
    def paper(cls, **changes: Any) -> Self:
        """Published: IoU 3, colour 20, Laplacian 5, flatten 5, movement 2.5, perceptual 0.5 after 3,000 steps."""
        published: dict[str, Any] = {
            "colour": 20.0,
            "movement": 2.5,
            "keypoint_outlier": 0.0,
            "pull": 0.0,
            "pull_steps": 0,
            "cross": "pairs",
            "input_from": 0,
            "perceptual_from": 3000,
            "perceptual_share": 1.0,
        }
        return cls(**published | changes)


@dataclass(frozen=True, eq=False)
class Batch:
    """Views of some objects, `views` of each, object by object.

    Attributes
    ----------
    images : Tensor, (N, 3, S, S) in [-1, 1]
    masks : Tensor, (N, S, S)
    distances : Tensor, (N, S, S)
        See `ganfoundry.shape.multiview.distances_outside`.
    codes, rows : Tensor, int64 (N,)
        Viewpoint code, and row in the camera table's images.
    parts, certainty : Tensor, (N, S, S), or None
    keypoints : Tensor, (N, K, 3), or None
    views : int
    """

    images: Tensor
    masks: Tensor
    distances: Tensor
    codes: Tensor
    rows: Tensor
    parts: Tensor | None
    certainty: Tensor | None
    keypoints: Tensor | None
    views: int


class Reading(NamedTuple):
    """What the network makes of N images."""

    shape: Shape
    surface: Surface
    guess: CameraGuess


class Mesh(NamedTuple):
    """The template's constant parts, as tensors."""

    faces: Tensor
    edges: Tensor
    edge_faces: Tensor
    uv: Tensor
    face_uv: Tensor

    @classmethod
    def of_level(cls, level: int) -> Self:
        """Those of the icosphere of a level."""
        template = sphere_template(level)
        return cls(*(torch.from_numpy(getattr(template, name)) for name in cls._fields))


def read(
    network: InverseGraphicsNetwork,
    images: Tensor,
    cameras: Cameras | None,
    masks: Tensor | None = None,
    *,
    bf16: bool = False,
) -> Reading:
    """Shapes, surfaces and cameras of images.

    Parameters
    ----------
    network : InverseGraphicsNetwork
    images : Tensor, (N, 3, S, S) in [-1, 1]
    cameras : Cameras or None
        From which the images see the objects; None: what the camera head guesses.
    masks : Tensor, (N, S, S) 0..1, optional
        Where the images show the objects: colours are taken from there alone.
    bf16 : bool
        Convolutions in bfloat16.
    """
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        code = network.encode(images)
    code = code.float()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        guess, shape = network.camera(code), network.shape(code)
    cameras = guessed_cameras(network, guess) if cameras is None else cameras
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        return Reading(shape, network.surface(images, shape, cameras, masks), guess)


def infer(network: InverseGraphicsNetwork, images: Tensor, masks: Tensor | None = None) -> Reading:
    """Read images of which nothing is known, of other objects than the network has learnt; parameters as for `read`.

    Where shapes are symmetric, an image and its mirror image show the same shape from mirrored cameras: the means of
    both codes and of both guesses are better than one on such images. On views that its own generator made, whose
    cameras are known, one is better.
    """
    code = network.encode(images).float()
    mirrored = network.encode(images.flip(3)).float() if network.config.symmetric_shape else code
    guess = network.camera(code, mirrored if network.config.symmetric_shape else None)
    shape = network.shape((code + mirrored) / 2)
    return Reading(shape, network.surface(images, shape, guessed_cameras(network, guess), masks), guess)


def guessed_cameras(network: InverseGraphicsNetwork, guess: CameraGuess) -> Cameras:
    """Cameras as the camera head reads them off the images."""
    config = network.config
    distance = config.distance * guess.log_distance.exp()
    return Cameras.from_angles(guess.azimuth, guess.elevation, distance, config.fov, shift=guess.shift)


def draw(
    network: InverseGraphicsNetwork, mesh: Mesh, vertices: Tensor, texture: Tensor, cameras: Cameras, size: int
) -> Rendering:
    """Draw meshes (N, V, 3) with textures (N, C, H, W) of the template's layout."""
    return render(
        vertices, network.topology, cameras, size, texture=texture, uv=mesh.uv, uv_faces=mesh.face_uv, wrap_u=True
    )


def cross_pairs(images: int, views: int, mode: str, own: bool) -> tuple[Tensor, Tensor]:
    """Which image's code draws which image: source and target rows.

    Parameters
    ----------
    images, views : int
        Rows of a batch, `views` in a row of one object.
    mode : "all" or "pairs"
    own : bool
        Whether images are drawn from their own code too.
    """
    first = torch.arange(images) // views * views
    place = torch.arange(images) % views
    offsets = range(0 if own or views == 1 else 1, views if mode == "all" else min(2, views))
    sources = [torch.arange(images) for _ in offsets]
    targets = [first + (place + offset) % views for offset in offsets]
    return torch.cat(sources), torch.cat(targets)


class Objective:
    """The training objective on one mesh layout.

    Parameters
    ----------
    config : ObjectiveConfig
    level : int
        Of the icosphere.
    discriminator : Discriminator or None
        Whose features the perceptual loss compares; None: no such loss.
    """

    def __init__(self, config: ObjectiveConfig, level: int, discriminator: Discriminator | None) -> None:
        self.config, self.mesh, self.discriminator = config, Mesh.of_level(level), discriminator

    def __call__(
        self, network: InverseGraphicsNetwork, table: CameraTable, batch: Batch, step: int, *, bf16: bool = False
    ) -> dict[str, Tensor]:
        """Unweighted losses of a batch by name, means over its pictures; see `total`."""
        cameras = table(batch.codes, batch.rows)
        reading = read(network, batch.images, detached(cameras), bf16=bf16)
        own = step >= self.config.input_from
        sources, targets = cross_pairs(len(batch.images), batch.views, self.config.cross, own)
        result = self._pictures(network, batch, reading, _rows(cameras, targets), sources, targets, step, bf16)
        shape = reading.shape
        result["laplacian"] = regularisers.laplacian(shape.displacement, self.mesh.edges)
        result["flatness"] = regularisers.flatness(shape.vertices, self.mesh.faces, self.mesh.edge_faces)
        result["movement"] = regularisers.movement(shape.displacement)
        result["camera"] = camera_head_loss(reading.guess, table.parameters_of(batch.codes, batch.rows).detach())
        result["deviation"] = table.deviation(batch.rows)
        return result

    def _pictures(
        self,
        network: InverseGraphicsNetwork,
        batch: Batch,
        reading: Reading,
        cameras: Cameras,
        sources: Tensor,
        targets: Tensor,
        step: int,
        bf16: bool,
    ) -> dict[str, Tensor]:
        """Losses of the drawn pictures."""
        config, size = self.config, batch.images.shape[-1]
        vertices = reading.shape.vertices[sources]
        texture = torch.cat([reading.surface.colours, reading.surface.parts], 1)[sources]
        drawn = draw(network, self.mesh, vertices, texture, cameras, size)
        assert drawn.image is not None
        image, mask = drawn.image[:, :3], drawn.mask
        target, target_mask = batch.images[targets], batch.masks[targets]
        result = {
            "iou": losses.silhouette_loss(mask, target_mask).mean(),
            "colour": losses.colour_loss(image, mask, target, target_mask).mean(),
        }
        if batch.parts is not None and config.parts:
            certainty = None if batch.certainty is None else batch.certainty[targets]
            result["parts"] = losses.part_loss(drawn.image[:, 3:], mask, batch.parts[targets], certainty).mean()
        if batch.keypoints is not None and config.keypoints:
            result["keypoints"] = self._keypoints(
                network, batch.keypoints[targets], reading.shape, cameras, sources, size
            )
        if config.pull and step < config.pull_steps:
            places = cameras.project(vertices, size)[..., :2] / size
            distances = batch.distances[targets]
            result["pull"] = losses.pull_loss(places, mask, target_mask, distances).mean()
        if self.discriminator is not None and config.perceptual and step >= config.perceptual_from:
            some = slice(None, None, max(1, round(1 / config.perceptual_share)))
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                found = discriminator_features(self.discriminator, image[some])
                with torch.no_grad():
                    wanted = discriminator_features(self.discriminator, (target * target_mask[:, None])[some])
            distance = feature_distance([f.float() for f in found], [f.float() for f in wanted])
            result["perceptual"] = distance.mean()
        return result

    def _keypoints(
        self,
        network: InverseGraphicsNetwork,
        labels: Tensor,
        shape: Shape,
        cameras: Cameras,
        sources: Tensor,
        size: int,
    ) -> Tensor:
        """Loss of the distributions over the vertices alone: keypoints are found on the surface, they do not move it.

        An interpreter that has seen 16 images confuses left and right, and hidden with visible. What the mesh's own
        far side would show counts little, and so does what is far from where the other views put it.
        """
        vertices, weights, seen_from = shape.vertices.detach(), shape.keypoint_weights, detached(cameras)
        facing = losses.facing_share(
            weights[sources], vertices[sources], vertex_normals(vertices, network.topology)[sources], seen_from
        )
        points, outlier = (weights @ vertices)[sources], self.config.keypoint_outlier
        return losses.keypoint_loss(points, seen_from, labels, size, facing=facing, outlier=outlier).mean()

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Weighted sum of the losses."""
        return torch.stack([getattr(self.config, name) * value for name, value in terms.items()]).sum()

    @torch.no_grad()
    def doubt(self, network: InverseGraphicsNetwork, table: CameraTable, batch: Batch) -> tuple[Tensor, Tensor]:
        """Losses (N,) of each image, drawn from another view of its object, under its camera and the one behind it."""
        cameras = table(batch.codes, batch.rows)
        reading = read(network, batch.images, cameras)
        sources, targets = cross_pairs(len(batch.images), batch.views, "pairs", own=batch.views == 1)
        size, values = batch.images.shape[-1], []
        for turn in (0.0, 180.0):
            seen_from = _rows(table(batch.codes, batch.rows, turn=turn), targets)
            texture = reading.surface.colours[sources]
            drawn = draw(network, self.mesh, reading.shape.vertices[sources], texture, seen_from, size)
            assert drawn.image is not None
            target, target_mask = batch.images[targets], batch.masks[targets]
            colour = losses.colour_loss(drawn.image, drawn.mask, target, target_mask)
            found = self.config.iou * losses.silhouette_loss(drawn.mask, target_mask) + self.config.colour * colour
            values.append(torch.empty_like(found).index_copy_(0, targets, found))
        return values[0], values[1]


def camera_head_loss(guess: CameraGuess, parameters: Tensor) -> Tensor:
    """Squared error of the camera head against a camera table's parameters (N, 5), each in its own unit; scalar."""
    azimuth = torch.deg2rad(parameters[:, 0])
    direction = torch.stack([azimuth.sin(), azimuth.cos()], 1)
    return (
        (guess.direction - direction).square().sum(1)
        + ((guess.elevation - parameters[:, 1]) / 10).square()
        + ((guess.log_distance - parameters[:, 2]) / 0.1).square()
        + ((guess.shift - parameters[:, 3:]) / 0.1).square().sum(1)
    ).mean()


def detached(cameras: Cameras) -> Cameras:
    """The same cameras without gradients."""
    return Cameras(*(getattr(cameras, name).detach() for name in ("rotation", "position", "focal", "centre")))


def _rows(cameras: Cameras, rows: Tensor) -> Cameras:
    return Cameras(*(getattr(cameras, name)[rows] for name in ("rotation", "position", "focal", "centre")))
