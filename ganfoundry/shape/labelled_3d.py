"""Labels of an object from any camera, read off the mesh that the network made of one picture of it.

DatasetGAN's 3D variant paints parts on the surface and spreads each keypoint over the vertices. Drawn from a camera,
the mesh gives a mask, parts, depth, normals and texture coordinates; a keypoint is hidden where the z-buffer shows
something in front of it. All views of an object are labelled by one surface, so that their labels agree wherever they
show the same point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.images import stored_images
from ganfoundry.labels.filtering import Selection
from ganfoundry.render.cameras import Cameras
from ganfoundry.render.maps import centre_map, normal_map
from ganfoundry.render.renderer import render
from ganfoundry.shape.camera_table import cameras_of
from ganfoundry.shape.inverse_graphics import Mesh, Reading, draw
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.template import sphere_template

PART_TEXELS = 2  # part map's texels for each of the texture's, along both sides
SUPERSAMPLE = 2  # samples along a pixel's side that a drawn picture is averaged over
DEPTH_SLACK = 0.02  # of the camera's distance: what hides a surface point is at least that much nearer
_SLANT = 1.5
OUTSIDE, HIDDEN, VISIBLE = 0, 1, 2  # of keypoints, as in docs/conventions.md


@dataclass(frozen=True, eq=False)
class ObjectModel:
    """What was read off one picture, ready to be drawn.

    Attributes
    ----------
    vertices : Tensor, float32 (V, 3)
        Object frame, metres.
    texture : Tensor, float32 (3, H, W)
        In [-1, 1].
    part_texture : Tensor, uint8 (2 H, 2 W)
        Part ids 1..P - 1 in texture space: the label of the surface point (u, v) is that of the texel it lies in.
    keypoints : Tensor, float32 (K, 3)
        Metres; means of the vertices under each keypoint's distribution.
    """

    vertices: Tensor
    texture: Tensor
    part_texture: Tensor
    keypoints: Tensor


@dataclass(frozen=True, eq=False)
class LabelledViews:
    """Maps of one object from N cameras; all but the image hold what lies at the pixel centres.

    Attributes
    ----------
    image : ndarray, uint8 (N, S, S, 3)
        The drawn mesh on white.
    label : ndarray, uint8 (N, S, S)
        Part ids; 0 where the mesh is not.
    depth : ndarray, float32 (N, S, S)
        Metres along the viewing axis, 0 on the background.
    normals : ndarray, float32 (N, S, S, 3)
        Unit, object frame, 0 on the background.
    uv : ndarray, float32 (N, S, S, 2)
        Texture coordinates in 0..1, 0 on the background.
    keypoints : ndarray, float32 (N, K, 2)
        x, y in pixels.
    keypoint_state : ndarray, uint8 (N, K)
        0 outside the image, 1 hidden, 2 visible.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.uint8]
    depth: NDArray[np.float32]
    normals: NDArray[np.float32]
    uv: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    keypoint_state: NDArray[np.uint8]


def check_network(model: InverseModel, generator_sha256: str, resolution: int, num_codes: int) -> None:
    """Refuse a network that cannot label objects of a generator seen from some viewpoint codes.

    Raises
    ------
    InputError
        If it knows no parts, or was trained on another generator, another size or other codes.
    """
    if len(model.part_names) < 3:
        raise InputError(
            "the network knows no parts, since it was trained without part labels; run label-views, then "
            "train-inverse-graphics again"
        )
    trained = str(model.description.get("generator_sha256", ""))
    if trained != generator_sha256:
        raise InputError(
            f"the network was trained on views of the generator {trained[:12] or 'unknown'}, not of "
            f"{generator_sha256[:12]}; train one on this generator's views with train-inverse-graphics"
        )
    if model.size != resolution:
        raise InputError(f"the network reads images of {model.size} px, the generator makes {resolution} px")
    if len(model.description.get("cameras", ())) != num_codes:
        raise InputError(
            f"the network has cameras for {len(model.description.get('cameras', ()))} viewpoint codes, but there are "
            f"{num_codes}; give the codes that it was trained with"
        )


def camera_parameters(model: InverseModel, codes: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    """Azimuth and elevation (degrees), log relative distance, shift x and y (image sides) of codes, (n, 5)."""
    table = np.asarray(model.description["cameras"], np.float64)
    return table[np.asarray(codes, np.int64)]


def random_parameters(
    model: InverseModel, rng: np.random.Generator, count: int, azimuths: tuple[float, float]
) -> NDArray[np.float64]:
    """Cameras between those of the viewpoint codes, (count, 5) as `camera_parameters` gives them.

    Azimuths are uniform in a range (degrees), elevations and distances in the middle nine tenths of the codes'; the
    object's origin is in the middle of the image.
    """
    table = np.asarray(model.description["cameras"], np.float64)
    low, high = np.quantile(table[:, 1:3], [0.05, 0.95], axis=0)
    drawn = rng.uniform([azimuths[0], *low], [azimuths[1], *high], (count, 3))
    return np.concatenate([drawn, np.zeros((count, 2))], 1)


def cameras_from(model: InverseModel, parameters: NDArray[np.float64]) -> Cameras:
    """Cameras of parameters (n, 5)."""
    config = model.network.config
    return cameras_of(torch.from_numpy(parameters).float(), config.distance, config.fov)


def intrinsics_of(cameras: Cameras, size: int) -> NDArray[np.float32]:
    """Matrices (N, 3, 3) from the camera frame to homogeneous pixels; the top-left pixel's centre is (0.5, 0.5)."""
    matrices = np.zeros((len(cameras), 3, 3), np.float32)
    matrices[:, [0, 1], [0, 1]] = size * cameras.focal.numpy()[:, None]
    matrices[:, :2, 2] = size * cameras.centre.numpy()
    matrices[:, 2, 2] = 1
    return matrices


def extrinsics_of(cameras: Cameras) -> NDArray[np.float32]:
    """Matrices (N, 3, 4) [R | t] from the object frame to the camera frame (x right, y down, z forward), metres."""
    shift = -(cameras.rotation @ cameras.position[:, :, None])
    matrices: NDArray[np.float32] = torch.cat([cameras.rotation, shift], 2).numpy().astype(np.float32)
    return matrices


def part_texture(parts: Tensor) -> Tensor:
    """Likeliest part of every texel of a finer map, uint8 (N, 2 H, 2 W), from logits (N, P - 1, H, W).

    Logits are interpolated before the choice, around the seam too, so that borders between parts do not show the steps
    of the coarser texels.
    """
    wide = F.pad(F.pad(parts, (1, 1, 0, 0), mode="circular"), (0, 0, 1, 1), mode="replicate")
    fine = F.interpolate(wide, scale_factor=float(PART_TEXELS), mode="bilinear", align_corners=False)
    inner = fine[:, :, PART_TEXELS:-PART_TEXELS, PART_TEXELS:-PART_TEXELS]
    return (1 + inner.argmax(1)).byte()


def object_models(reading: Reading) -> list[ObjectModel]:
    """One model for each picture that was read."""
    maps = part_texture(reading.surface.parts)
    columns = (reading.shape.vertices, reading.surface.colours.clamp(-1, 1), maps, reading.shape.keypoints)
    return [ObjectModel(*values) for values in zip(*columns, strict=True)]


@torch.inference_mode()
def label_views(model: InverseModel, found: ObjectModel, cameras: Cameras) -> LabelledViews:
    """Draw one object from N cameras, with all its labels."""
    network, size = model.network, model.size
    mesh = Mesh.of_level(network.config.level)
    centres = render(found.vertices, network.topology, cameras, size, silhouette="centre")
    inside = centres.face >= 0
    uv = centre_map(centres, mesh.uv, mesh.face_uv).permute(0, 2, 3, 1)
    uv[..., 0] = uv[..., 0] % 1.0
    uv = uv * inside[..., None]
    normals = normal_map(centres, found.vertices, network.topology).permute(0, 2, 3, 1)
    label = torch.where(inside, parts_at(found.part_texture, uv), 0)
    places = cameras.project(found.keypoints, size)[..., :2]
    return LabelledViews(
        image=_pictures(model, mesh, found, cameras),
        label=label.byte().numpy(),
        depth=centres.depth.numpy(),
        normals=normals.numpy(),
        uv=uv.numpy(),
        keypoints=places.numpy(),
        keypoint_state=keypoint_states(found.vertices, found.keypoints, cameras, centres.depth).numpy(),
    )


def parts_at(parts: Tensor, uv: Tensor) -> Tensor:
    """Part ids of a part map (H, W) at texture coordinates (..., 2), which repeat in u."""
    height, width = parts.shape
    column = (uv[..., 0] * width).long() % width
    row = (uv[..., 1] * height).long().clamp(0, height - 1)
    return parts[row, column]


def parts_of_faces(model: InverseModel, found: ObjectModel) -> NDArray[np.uint8]:
    """Part of every face, (F,): that of its middle."""
    template = sphere_template(model.network.config.level)
    middle = torch.from_numpy(template.uv[template.face_uv].mean(1))
    return parts_at(found.part_texture, middle).numpy()


def _pictures(model: InverseModel, mesh: Mesh, found: ObjectModel, cameras: Cameras) -> NDArray[np.uint8]:
    """The mesh on white, averaged over the pixels, as stored images."""
    size = SUPERSAMPLE * model.size
    vertices = found.vertices.expand(len(cameras), -1, -1)
    drawn = draw(model.network, mesh, vertices, found.texture[None], cameras, size)
    assert drawn.image is not None
    return stored_images(F.avg_pool2d(drawn.image + (1 - drawn.mask)[:, None], SUPERSAMPLE))


def keypoint_states(vertices: Tensor, keypoints: Tensor, cameras: Cameras, depth: Tensor) -> Tensor:
    """Outside the image, hidden or visible: keypoints against the z-buffer of their mesh, uint8 (N, K).

    A keypoint is a mean of vertices and may lie below the surface: by as much as its distance to the nearest vertex,
    times `_SLANT` where the surface is not seen straight on, it may lie behind what the z-buffer holds.

    Parameters
    ----------
    vertices : Tensor, (V, 3)
    keypoints : Tensor, (K, 3)
    cameras : Cameras
        N cameras.
    depth : Tensor, (N, S, S)
        Of the mesh, 0 on the background.
    """
    size = depth.shape[-1]
    projected = cameras.project(keypoints, size)
    pixel = projected[..., :2].floor().long()
    inside = ((pixel >= 0) & (pixel < size)).all(-1) & (projected[..., 2] > 0)
    at = pixel.clamp(0, size - 1)
    # On a slope the centre of a pixel is nearer than a point at its edge: the farthest of the pixels around counts.
    far = F.max_pool2d(depth[:, None], 3, 1, 1)[:, 0]
    surface = far[torch.arange(len(cameras))[:, None], at[..., 1], at[..., 0]]
    below = torch.cdist(keypoints, vertices).amin(1)
    slack = DEPTH_SLACK * cameras.position.norm(dim=-1)[:, None] + _SLANT * below
    visible = (surface == 0) | (projected[..., 2] <= surface + slack)
    return torch.where(inside, torch.where(visible, VISIBLE, HIDDEN), OUTSIDE).byte()


def outline_iou(ours: NDArray[np.bool_], theirs: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Intersection over union of masks (N, S, S); 0 where either is empty."""
    both, either = (ours & theirs).sum((1, 2)), (ours | theirs).sum((1, 2))
    share: NDArray[np.float32] = (both / np.maximum(either, 1)).astype(np.float32)
    return share


def select_rows(
    iou: NDArray[np.float32], own: NDArray[np.float32], objects: NDArray[np.int32], min_own: float, min_view: float
) -> Selection:
    """Decide which rows are kept.

    Parameters
    ----------
    iou : (n,)
        Of every row's mesh outline with its picture's mask.
    own : (objects,)
        The same on the picture that each object was read from.
    objects : (n,)
        Object of every row.
    min_own, min_view : float
        An object whose own is lower is dropped whole; of the others the rows whose iou is lower.

    Raises
    ------
    InputError
        If nothing would be kept.
    """
    poor, off = own[objects] < min_own, iou < min_view
    dropped = np.flatnonzero(poor | off)
    if len(dropped) == len(iou):
        raise InputError(
            f"all {len(iou)} rows would be dropped: the meshes' outlines have an IoU of {float(own.max()):.2f} at most "
            "with the masks of the pictures that they were read from; lower --min-iou, or train the network longer"
        )
    texts = (f"object's IoU below {min_own:g}", f"view's IoU below {min_view:g}")
    return Selection(
        len(iou),
        tuple(dropped.tolist()),
        tuple((1 - iou[dropped]).astype(float).tolist()),
        tuple(texts[0] if poor[row] else texts[1] for row in dropped),
        {"rule": "outline", "min_iou": min_own, "min_view_iou": min_view},
    )
