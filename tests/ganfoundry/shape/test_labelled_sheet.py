"""The contact sheet of a labelled 3D set: every map is there and can be read."""

import numpy as np
import pytest

from ganfoundry.shape import labelled_sheet
from ganfoundry.shape.labelled_3d import HIDDEN, OUTSIDE, VISIBLE

PALETTE = np.array([[0, 0, 0], [250, 20, 30]], np.uint8)


@pytest.fixture
def rows() -> dict[str, np.ndarray]:
    """Two views of 64 px: a square in the middle, nearer on its left side."""
    mask = np.zeros((2, 64, 64), np.uint8)
    mask[:, 16:48, 16:48] = 1
    depth = np.where(mask > 0, np.linspace(3, 4, 64)[None, None], 0).astype(np.float32)
    normals = np.repeat(mask[..., None] * np.array([0.0, 0.0, 1.0]), 1, -1).astype(np.float16)
    uv = np.stack(np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64)), -1)[None] * mask[..., None]
    return {
        "image": np.full((2, 64, 64, 3), 128, np.uint8),
        "mask": mask,
        "label": mask,
        "depth": depth,
        "normals": normals,
        "uv": uv.astype(np.float32),
        "keypoints": np.tile(np.array([[20.0, 20, 1], [40, 40, 0], [90, 20, 0]], np.float32), (2, 1, 1)),
        "keypoint_state": np.tile(np.array([VISIBLE, HIDDEN, OUTSIDE], np.uint8), (2, 1)),
    }


def test_a_line_a_view_and_a_column_a_map(rows: dict[str, np.ndarray]) -> None:
    sheet = labelled_sheet.label_sheet(rows, PALETTE)
    assert sheet.shape == (2 * (128 + 13 + 2) - 2, 8 * (128 + 2) - 2, 3)
    parts = sheet[:128, 2 * 130 : 2 * 130 + 128]
    assert parts[64, 64].tolist() == PALETTE[1].tolist()
    assert parts[4, 4].tolist() == [0, 0, 0]
    without = {name: values for name, values in rows.items() if not name.startswith("keypoint")}
    assert labelled_sheet.label_sheet(without, PALETTE).shape[1] == 7 * 130 - 2


def test_near_is_brighter_than_far(rows: dict[str, np.ndarray]) -> None:
    picture = labelled_sheet.depth_picture(rows["depth"])[0].astype(int).sum(-1)
    assert picture[32, 16] > picture[32, 30] > picture[32, 47] > picture[4, 4] == 0
    assert not labelled_sheet.depth_picture(np.zeros((1, 8, 8), np.float32)).any()


def test_normals_are_colours(rows: dict[str, np.ndarray]) -> None:
    picture = labelled_sheet.normal_picture(rows["normals"].astype(np.float32), rows["mask"])
    assert picture[0, 32, 32].tolist() == [128, 128, 255]
    assert picture[0, 0, 0].tolist() == [0, 0, 0]


def test_texture_coordinates_grow_in_red_and_green(rows: dict[str, np.ndarray]) -> None:
    picture = labelled_sheet.uv_picture(rows["uv"], rows["mask"])[0].astype(int)
    assert (np.diff(picture[20, 16:48, 0]) >= 0).all()
    assert (np.diff(picture[16:48, 20, 1]) >= 0).all()
    assert len(np.unique(picture[20, 16:48, 2])) == 2


def test_visible_keypoints_are_discs_and_hidden_ones_rings(rows: dict[str, np.ndarray]) -> None:
    picture = labelled_sheet.keypoint_picture(rows["image"], rows["keypoints"], rows["keypoint_state"], 2)[0]
    changed = (picture != 128).any(-1)
    assert changed[40, 40]  # the middle of the visible one
    assert not changed[80, 80]  # that of the hidden one
    assert changed[74:86, 74:86].any()
    assert not changed[:, 100:].any()  # nothing of the one outside
