"""A network that has learnt nothing, on disk, and a ball as an object with known maps."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ganfoundry.shape.inverse_model import FORMAT, TABLE, WEIGHTS, InverseModel
from ganfoundry.shape.labelled_3d import ObjectModel
from ganfoundry.shape.networks import InverseGraphicsNetwork, NetworkConfig
from ganfoundry.shape.template import sphere_template

PARTS = ("background", "north", "south", "middle")
KEYPOINTS = ("top", "front")
RADIUS = 0.5
COLOURS = np.array([[0, 0, 0], [200, 60, 60], [60, 200, 60], [60, 60, 200]], np.float32)  # of the ball's parts


def untrained(
    folder: Path, generator_sha256: str = "g" * 64, *, size: int = 32, codes: int = 12, level: int = 2, **table: Any
) -> InverseModel:
    """Write a network of random parts; `table` replaces entries of network.json."""
    torch.manual_seed(0)
    names = tuple(table.get("classes", PARTS))
    points = tuple(table.get("keypoints", KEYPOINTS))
    config = NetworkConfig(num_parts=len(names), num_keypoints=len(points), level=level, width=8, texture=(16, 32))
    network = InverseGraphicsNetwork(config)
    with torch.no_grad():
        network.part_logits.normal_()
    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / WEIGHTS)
    written = {
        "format": FORMAT,
        "network": dataclasses.asdict(config),
        "size": size,
        "classes": list(names),
        "keypoints": list(points),
        "palette": [[20 * index, 90, 255 - 20 * index] for index in range(len(names))],
        "generator_sha256": generator_sha256,
        "cameras": [[30.0 * (code % 12), 2.0 * (code % 5), 0.02 * (code % 3), 0.0, 0.0] for code in range(codes)],
        **table,
    }
    (folder / TABLE).write_text(json.dumps(written))
    return InverseModel.load(folder)


def ball(level: int) -> ObjectModel:
    """A ball of radius 0.5: part 1 above, 2 below, 3 in front, each of one colour; keypoints on top and in front."""
    template = sphere_template(level)
    rows, columns = np.mgrid[:32, :64]
    parts = np.where(rows < 16, 1, 2)
    parts[np.abs(columns - 31.5) < 8] = 3
    return ObjectModel(
        RADIUS * torch.from_numpy(template.vertices),
        torch.from_numpy(COLOURS[parts[::2, ::2]]).permute(2, 0, 1) / 127.5 - 1,
        torch.from_numpy(parts.astype(np.uint8)),
        RADIUS * torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]),
    )
