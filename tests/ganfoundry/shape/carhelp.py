"""Toy cars: boxy meshes of the template's topology with painted parts, and a network that always paints them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

from ganfoundry.shape.glb import Asset
from ganfoundry.shape.networks import InverseGraphicsNetwork, NetworkConfig
from ganfoundry.shape.rigging import KEYPOINTS
from ganfoundry.shape.template import sphere_template
from ganfoundry.shape.uv import texel_map

PARTS = ("background", "side", "windscreen", "headlamp", "wheel")
SIDE, WINDSCREEN, HEADLAMP, WHEEL = 1, 2, 3, 4
AXLES, HUB, RADIUS = (0.55, -0.5), -0.14, 0.16
HEIGHT, WIDTH = 64, 128


def boxy(level: int = 3) -> NDArray[np.float32]:
    """The template's vertices (V, 3), 2 long, .8 wide, .6 high, its sides rather flat."""
    body = sphere_template(level).vertices
    return (np.sign(body) * np.abs(body) ** 0.6 * [0.4, 0.3, 1.0]).astype(np.float32)


def surface(vertices: NDArray[np.floating]) -> NDArray[np.float64]:
    """The surface point of every texel, (H, W, 3)."""
    texels, template = texel_map(3, HEIGHT, WIDTH), sphere_template(3)
    corners = vertices[template.faces[texels.face.numpy()]].astype(np.float64)
    return (corners * texels.barycentric.numpy()[..., None]).sum(2)


def painted(vertices: NDArray[np.floating], axles: tuple[float, ...] = AXLES) -> NDArray[np.int64]:
    """Part of every texel: discs for wheels, glass on top, lamps in front."""
    places = surface(vertices)
    result = np.full(places.shape[:2], SIDE)
    result[places[..., 1] > 0.2] = WINDSCREEN
    result[(places[..., 2] > 0.85) & (places[..., 1] > 0)] = HEADLAMP
    for axle in axles:
        disc = np.hypot(places[..., 1] - HUB, places[..., 2] - axle) < RADIUS
        result[disc & (np.abs(places[..., 0]) > 0.2)] = WHEEL
    return result


def texture(parts: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Colours of the parts, with noise, (H, W, 3)."""
    colours = np.array([[0, 0, 0], [200, 40, 30], [60, 70, 90], [250, 240, 200], [40, 38, 36]])
    noise = np.random.default_rng(0).integers(0, 6, (*parts.shape, 3))
    return (colours[parts] + noise).clip(0, 255).astype(np.uint8)


def toy_asset(**changes: object) -> Asset:
    """An asset that is not rigged."""
    template, vertices = sphere_template(3), boxy()
    parts = painted(vertices)
    middle = template.uv[template.face_uv].mean(1)
    face_parts = parts[(middle[:, 1] * HEIGHT).astype(int), (middle[:, 0] * WIDTH).astype(int) % WIDTH]
    values = {
        "vertices": vertices,
        "faces": template.faces,
        "uv": template.uv,
        "face_uv": template.face_uv,
        "texture": texture(parts),
        "face_parts": face_parts,
        "part_names": PARTS,
        "keypoints": {"front_plate": (0.0, 0.0, 1.0)},
        "finishes": {"windscreen": "glass", "headlamp": "lamp", "wheel": "rubber"},
    }
    return Asset(**{**values, **changes})  # type: ignore[arg-type]


def toy_network(folder: Path, *, wheels: bool = True, sha256: str = "0" * 64) -> Path:
    """A folder of train-inverse-graphics whose network makes much the same car of every picture."""
    torch.manual_seed(0)
    config = NetworkConfig(
        num_parts=len(PARTS), num_keypoints=len(KEYPOINTS), width=8, code=16, basis=2, texture=(HEIGHT, WIDTH),
        radii=(0.42, 0.35, 1.0),
    )  # fmt: skip
    network = InverseGraphicsNetwork(config)
    network.painter.paint.weight.data.zero_()
    network.painter.paint.bias.data.zero_()
    network.basis.data *= 0.1
    body = network.start.numpy()
    parts = painted(body, AXLES if wheels else ())
    network.part_logits.data[0] = torch.from_numpy(20.0 * (parts == np.arange(1, len(PARTS))[:, None, None]))
    folder.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, str(folder / "network.safetensors"))
    table = {
        "format": "ganfoundry-inverse-graphics-1", "network": asdict(config), "size": 64, "classes": PARTS,
        "palette": [[0, 0, 0]] * len(PARTS), "keypoints": KEYPOINTS, "generator_sha256": sha256,
    }  # fmt: skip
    (folder / "network.json").write_text(json.dumps(table))
    return folder
