"""Parts of faces, and OBJ files that say what the GLB says."""

from pathlib import Path

import numpy as np
import torch

from ganfoundry.shape.assets import face_parts, write_obj
from ganfoundry.shape.glb import Asset
from ganfoundry.shape.template import sphere_template


def test_a_face_has_the_part_painted_at_its_middle() -> None:
    """Part 1 on the left half of the body, 2 on the right, 3 on top of both."""
    template = sphere_template(3)
    logits = torch.zeros(1, 3, 32, 64)
    logits[0, 0, :, 32:] = 1.0  # u > 0.5: the left side, +X
    logits[0, 1, :, :32] = 1.0
    logits[0, 2, :4] = 2.0  # v < 1/8
    parts = face_parts(logits, template)[0]
    middle = template.vertices[template.faces].mean(1)
    middle /= np.linalg.norm(middle, axis=1, keepdims=True)
    angle = np.arccos(middle[:, 1])
    clear = (np.abs(angle - np.pi / 8) > 0.1) & (np.abs(middle[:, 0]) > 0.05)
    expected = np.where(angle < np.pi / 8, 3, np.where(middle[:, 0] > 0, 1, 2))
    assert np.array_equal(parts[clear], expected[clear])
    assert set(parts) == {1, 2, 3}


def test_obj_holds_the_same_mesh(tmp_path: Path) -> None:
    template = sphere_template(1)
    asset = Asset(
        template.vertices,
        template.faces,
        template.uv,
        template.face_uv,
        np.zeros((8, 16, 3), np.uint8),
        np.arange(80) % 2,
        ("body", "window"),
        finishes={"window": "glass"},
    )
    write_obj(tmp_path / "car.obj", asset)
    rows: dict[str, list[list[str]]] = {}
    for line in (tmp_path / "car.obj").read_text().splitlines():
        kind, *values = line.split()
        rows.setdefault(kind, []).append(values)
    assert np.allclose(np.array(rows["v"], float), asset.vertices, atol=1e-6)
    uv = np.array(rows["vt"], float)
    assert np.allclose(np.stack([uv[:, 0], 1 - uv[:, 1]], 1), asset.uv, atol=1e-6)
    pairs = np.array([[corner.split("/") for corner in face] for face in rows["f"]], int) - 1
    order = np.concatenate([np.arange(0, 80, 2), np.arange(1, 80, 2)])  # part by part
    assert np.array_equal(pairs[..., 0], asset.faces[order])
    assert np.array_equal(pairs[..., 1], asset.face_uv[order])
    material = (tmp_path / "car.mtl").read_text()
    assert material.count("map_Kd car.png") == 2
    assert material.count("d 0.45") == 1
    assert (tmp_path / "car.png").exists()
