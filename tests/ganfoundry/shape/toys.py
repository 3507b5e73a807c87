"""A toy multi-view set: boxy bodies with a red front, a blue left side and white elsewhere, from the twelve bins."""

from __future__ import annotations

import numpy as np
import torch

from ganfoundry.render.cameras import Cameras
from ganfoundry.render.renderer import render
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.template import sphere_template

PARTS = ("background", "body", "nose")
KEYPOINTS = ("front", "top")


def toy_views(objects: int = 4, bins: tuple[int, ...] = (0, 2, 5, 8, 10), size: int = 32, seed: int = 0) -> MultiView:
    """Exact images, masks, parts and keypoints of bodies that differ in length and brightness."""
    template = sphere_template(2)
    rng = np.random.default_rng(seed)
    images, masks, parts, keypoints = [], [], [], []
    for _ in range(objects):
        radii = torch.tensor([0.4, 0.35, 0.7 + 0.3 * rng.random()], dtype=torch.float32)
        body = torch.from_numpy(template.vertices)
        vertices = body.sign() * body.abs() ** 0.7 * radii
        nose, left = (body[:, 2] > 0.6).float(), (body[:, 0] > 0.3).float() * (body[:, 2] <= 0.6)
        bright = 0.6 + 0.4 * float(rng.random())
        colours = torch.stack([bright * (1 - left), bright * (1 - nose) * (1 - left), bright * (1 - nose)], 1)
        cameras = Cameras.from_angles([30.0 * b for b in bins], 5.0, 4.0)
        faces = torch.from_numpy(template.faces)
        attributes = torch.cat([colours, nose[:, None]], 1)
        drawn = render(vertices, faces, cameras, size, attributes=attributes)
        assert drawn.attributes is not None
        image = drawn.attributes[:, :3] + 0.5 * (1 - drawn.mask[:, None])
        images.append((image * 255).round().byte().permute(0, 2, 3, 1).numpy())
        inside = drawn.mask > 0.5
        masks.append(inside.numpy())
        parts.append(((1 + (drawn.attributes[:, 3] > 0.5).byte()) * inside).numpy())
        points = torch.tensor([[0, 0, 1.0], [0, 1.0, 0]]) * radii
        places = cameras.project(points, size)
        places[..., 2] = 1.0
        keypoints.append(places.numpy())
    number = len(bins)
    return MultiView(
        np.concatenate(images),
        np.concatenate(masks),
        np.repeat(np.arange(objects), number),
        np.tile(np.arange(number), objects),
        tuple(30.0 * b for b in bins),
        np.concatenate(parts).astype(np.uint8),
        np.concatenate(masks).astype(np.float32),
        np.concatenate(keypoints).astype(np.float32),
        PARTS,
        KEYPOINTS,
    )
