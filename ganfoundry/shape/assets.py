"""From what a network reads off images to files: GLB, OBJ, and pictures from all sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.gan.train_data import write_atomically
from ganfoundry.pictures import png_bytes
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.glb import CAR_FINISHES, Asset
from ganfoundry.shape.inverse_graphics import Reading
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.template import Template, sphere_template

TURNS = 8
_ELEVATION = 15.0


def face_parts(parts: Tensor, template: Template) -> NDArray[np.int64]:
    """Part of every face: the likeliest at its middle.

    Parameters
    ----------
    parts : Tensor, (N, P - 1, H, W)
        Logits of the parts 1..P - 1 in texture space.
    template : Template

    Returns
    -------
    ndarray, int64 (N, F)
        1..P - 1.
    """
    height, width = parts.shape[2:]
    middle = template.uv[template.face_uv].mean(1)
    column = (middle[:, 0] * width).astype(np.int64) % width
    row = np.clip((middle[:, 1] * height).astype(np.int64), 0, height - 1)
    chosen: NDArray[np.int64] = 1 + parts[:, :, row, column].argmax(1).numpy()
    return chosen


def assets_of(model: InverseModel, reading: Reading) -> list[Asset]:
    """One asset for each image that was read; keypoints and parts as the network knows them."""
    template = sphere_template(model.network.config.level)
    parts = face_parts(reading.surface.parts, template)
    textures = ((reading.surface.colours.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    points = reading.shape.keypoints.numpy()
    return [
        Asset(
            vertices=reading.shape.vertices[index].numpy(),
            faces=template.faces,
            uv=template.uv,
            face_uv=template.face_uv,
            texture=textures[index],
            face_parts=parts[index],
            part_names=model.part_names,
            keypoints={name: place.tolist() for name, place in zip(model.keypoint_names, points[index], strict=True)},
            finishes=CAR_FINISHES,
            extras={"generator_sha256": model.description.get("generator_sha256", "")},
        )
        for index in range(len(textures))
    ]


def write_obj(path: Path, asset: Asset) -> None:
    """Write NAME.obj, NAME.mtl and NAME.png: the same mesh, a group and a material a part.

    OBJ's texture coordinates start in the lower left corner, so v is turned over.

    Raises
    ------
    RunError
        If a file cannot be written.
    """
    lines = [f"mtllib {path.stem}.mtl", *(f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in asset.vertices)]
    lines += [f"vt {u:.6f} {1 - v:.6f}" for u, v in asset.uv]
    materials = []
    for part in np.unique(np.asarray(asset.face_parts)):
        name = asset.part_names[int(part)]
        lines += [f"g {name}", f"usemtl {name}"]
        chosen = np.asarray(asset.face_parts) == part
        for face, uv in zip(asset.faces[chosen] + 1, asset.face_uv[chosen] + 1, strict=True):
            lines.append("f " + " ".join(f"{v}/{t}" for v, t in zip(face, uv, strict=True)))
        opacity = ["d 0.45"] if asset.finishes.get(name) == "glass" else []
        materials += [f"newmtl {name}", "Kd 1 1 1", *opacity, f"map_Kd {path.stem}.png"]
    write_atomically(path.with_suffix(".png"), png_bytes(asset.texture))
    write_atomically(path.with_suffix(".mtl"), ("\n".join(materials) + "\n").encode())
    write_atomically(path, ("\n".join(lines) + "\n").encode())


@torch.inference_mode()
def turntable(model: InverseModel, reading: Reading, size: int = 128) -> NDArray[np.uint8]:
    """Pictures of every mesh from eight sides, front first, on white, (N, 8, size, size, 3) uint8."""
    config, count = model.network.config, len(reading.shape.vertices)
    columns = []
    for turn in range(TURNS):
        camera = Cameras.from_angles([360.0 / TURNS * turn] * count, _ELEVATION, config.distance, config.fov)
        drawn = model.draw(reading, camera, size)
        composed = (drawn[:, :3] + (1 - drawn[:, 3:])).clamp(-1, 1)
        columns.append(((composed + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    return np.stack(columns, 1)
