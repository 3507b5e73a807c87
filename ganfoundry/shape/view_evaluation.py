"""How well meshes read off one view explain it and the other views, on objects that were held out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.images import network_images, stored_images
from ganfoundry.metrics import angle_difference, mean_iou
from ganfoundry.pictures import colourise, grid
from ganfoundry.shape.camera_table import CameraTable
from ganfoundry.shape.inverse_graphics import Mesh, Reading, draw, guessed_cameras, read
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.networks import InverseGraphicsNetwork
from ganfoundry.shape.regularisers import face_normals

BATCH = 16
_SHOWN_VIEWS = 3


@torch.inference_mode()
def evaluate_views(
    network: InverseGraphicsNetwork, table: CameraTable, data: MultiView, *, objects: int = 100, seed: int = 0
) -> dict[str, float]:
    """Errors on input views and on one other view of the same object.

    Parameters
    ----------
    network : InverseGraphicsNetwork
    table : CameraTable
        Cameras of the codes; single images' deviations are not used.
    data : MultiView
        Objects that were not learnt from.
    objects : int
        Draws of an object and two of its views.
    seed : int

    Returns
    -------
    dict
        iou2d_input, iou2d_novel: mean IoU of masks, seen from the code's camera. iou2d_guessed: on the input view from
        the camera that the network guesses. colour_input, colour_novel: mean absolute difference inside the overlap, a
        share of the range. part_miou: of part labels on novel views. pck5: share of certain keypoints within 5 % of
        the image side of their labels on novel views: of labels that an interpreter guessed, mistakes included.
        camera_error: median difference of guessed and table azimuth, degrees.
    """
    rows = data.draw(np.random.default_rng(seed), objects, 2)
    mesh = Mesh.of_level(network.config.level)
    parts: dict[str, list[NDArray[np.float64]]] = {}
    truth, found = [], []
    for start in range(0, len(rows), BATCH):
        first, second = rows[start : start + BATCH].T
        cameras = [table(torch.from_numpy(data.codes[r])) for r in (first, second)]
        outlines = torch.from_numpy(data.masks[first])
        reading = read(network, network_images(data.images[first]), cameras[0], outlines)
        texture = torch.cat([reading.surface.colours, reading.surface.parts], 1)
        for name, seen, view in (("input", first, cameras[0]), ("novel", second, cameras[1])):
            drawn = draw(network, mesh, reading.shape.vertices, texture, view, data.size)
            assert drawn.image is not None
            mask = torch.from_numpy(data.masks[seen]).float()
            _add(parts, f"iou2d_{name}", _hard_iou(drawn.mask, mask))
            _add(parts, f"colour_{name}", _colour_error(drawn.image[:, :3], drawn.mask, data.images[seen], mask))
            if name == "novel" and data.parts is not None:
                label = 1 + drawn.image[:, 3:].argmax(1)
                found.append(torch.where(drawn.mask > 0.5, label, 0).numpy())
                truth.append(np.where(data.masks[seen], data.parts[seen], 0))
            if name == "novel" and data.keypoints is not None:
                places = view.project(reading.shape.keypoints, data.size)[..., :2].numpy()
                certain = data.keypoints[seen][..., 2] > 0.5
                distance = np.linalg.norm(places - data.keypoints[seen][..., :2], axis=2)
                _add(parts, "pck5", (distance <= 0.05 * data.size)[certain].astype(np.float64))
        guessed = draw(
            network, mesh, reading.shape.vertices, texture, guessed_cameras(network, reading.guess), data.size
        )
        _add(parts, "iou2d_guessed", _hard_iou(guessed.mask, outlines.float()))
        azimuth = table.parameters_of(torch.from_numpy(data.codes[first]))[:, 0]
        _add(parts, "camera_error", np.abs(angle_difference(reading.guess.azimuth.numpy(), azimuth.numpy())))
    joined = {name: np.concatenate(values) for name, values in parts.items()}
    figures = {
        name: float(np.median(v) if name == "camera_error" else v.mean()) for name, v in joined.items() if len(v)
    }
    if truth:
        present = np.concatenate(truth)
        figures["part_miou"] = float(mean_iou(present, np.concatenate(found), len(data.part_names)))
    return figures


def _add(parts: dict[str, list[NDArray[np.float64]]], name: str, values: Any) -> None:
    parts.setdefault(name, []).append(np.asarray(values, np.float64))


def _hard_iou(mask: Tensor, target: Tensor) -> Tensor:
    ours = (mask > 0.5).float()
    overlap = (ours * target).sum((1, 2))
    return overlap / (ours + target - ours * target).sum((1, 2)).clamp(min=1)


def _colour_error(image: Tensor, mask: Tensor, stored: NDArray[np.uint8], target_mask: Tensor) -> Tensor:
    both = ((mask > 0.5) & (target_mask > 0.5)).float()
    difference = (image / mask.clamp(min=0.5)[:, None] - network_images(stored)).abs().mean(1) / 2
    return (difference * both).sum((1, 2)) / both.sum((1, 2)).clamp(min=1)


@torch.inference_mode()
def view_sheet(
    network: InverseGraphicsNetwork,
    table: CameraTable,
    data: MultiView,
    palette: NDArray[np.uint8],
    *,
    objects: int = 8,
    seed: int = 0,
) -> NDArray[np.uint8]:
    """A row an object: input; drawn from its camera: colours, normals, parts; then other views, true and drawn.

    Returns
    -------
    (H, W, 3) uint8
    """
    rows = data.draw(np.random.default_rng(seed), objects, 1 + _SHOWN_VIEWS)
    mesh = Mesh.of_level(network.config.level)
    cameras = [table(torch.from_numpy(data.codes[column])) for column in rows.T]
    outlines = torch.from_numpy(data.masks[rows[:, 0]])
    reading = read(network, network_images(data.images[rows[:, 0]]), cameras[0], outlines)
    texture = torch.cat([reading.surface.colours, reading.surface.parts], 1)
    columns = [data.images[rows[:, 0]]]
    own = draw(network, mesh, reading.shape.vertices, texture, cameras[0], data.size)
    assert own.image is not None
    columns += [_picture(own.image[:, :3], own.mask), normal_picture(reading, own.face, network.faces)]
    label = torch.where(own.mask > 0.5, 1 + own.image[:, 3:].argmax(1), 0)
    columns.append(colourise(label.numpy(), palette))
    for column, camera in zip(rows.T[1:], cameras[1:], strict=True):
        drawn = draw(network, mesh, reading.shape.vertices, reading.surface.colours, camera, data.size)
        assert drawn.image is not None
        columns += [data.images[column], _picture(drawn.image, drawn.mask)]
    return grid(np.stack(columns, 1).reshape(-1, *columns[0].shape[1:]), len(columns), scale=2)


def _picture(image: Tensor, mask: Tensor) -> NDArray[np.uint8]:
    """Premultiplied colours (N, 3, S, S) on white, as stored images."""
    return stored_images(image + (1 - mask)[:, None])


def normal_picture(reading: Reading, face: Tensor, faces: Tensor) -> NDArray[np.uint8]:
    """Normals of the drawn faces (N, S, S) as colours: x, y, z from -1..1 to 0..255; white where there is no face."""
    normals = face_normals(reading.shape.vertices, faces)
    index = face.clamp(min=0).long().flatten(1)[..., None].expand(-1, -1, 3)
    shown = (normals.gather(1, index) + 1).unflatten(1, face.shape[1:]) * 127.5
    picture: NDArray[np.uint8] = torch.where((face >= 0)[..., None], shown, 255.0).round().byte().numpy()
    return picture
