"""Whose outlines a multi-view set has: the labels', unless the filter's masks contradict them."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ganfoundry.data.shards import ShardFolder, write_shard
from ganfoundry.shape.multiview_loading import load_multiview

SIZE, ROWS = 16, 4


def discs(radii: list[float], x: float = 8.0) -> Any:
    rows, columns = np.mgrid[:SIZE, :SIZE] + 0.5
    return np.stack([np.hypot(columns - x, rows - 8) < radius for radius in radii])


def write(folder: Path, **arrays: Any) -> Path:
    with ShardFolder(folder / "shards", ROWS, ROWS, "toy") as shards:
        shards.acknowledge(write_shard(folder / "shards", 0, arrays, 0))
        shards.finish()
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Any, Path]:
    """Row 0: alike; row 1: the label has a hole and a speck; row 2: elsewhere; row 3: dropped by the filter."""
    labels = discs([5, 5, 5, 5]).astype(np.uint8)
    labels[1, 8, 8], labels[1, 0, 0] = 0, 2
    labels[2] = discs([5], x=2.0)[0]
    views = write(
        tmp_path / "views",
        image=np.zeros((ROWS, SIZE, SIZE, 3), np.uint8),
        object=np.zeros(ROWS, np.int64),
        view=np.arange(ROWS) % 2,
    )
    filtered = write(
        tmp_path / "filtered", mask=discs([4.5] * 4).astype(np.uint8), keep=np.array([1, 1, 1, 0], np.uint8)
    )
    made = write(tmp_path / "labels", label=labels, certainty=np.ones((ROWS, SIZE, SIZE), np.float16))
    (made / "labels.json").write_text(json.dumps({"classes": ["background", "a", "b"], "keypoints": []}))
    codes = SimpleNamespace(
        bins=SimpleNamespace(first=0.0, width=30.0), codes=[SimpleNamespace(bin=0), SimpleNamespace(bin=3)]
    )
    return views, filtered, codes, made


def test_outlines_are_the_labels_where_the_filter_agrees(folders: tuple[Path, Path, Any, Path]) -> None:
    data = load_multiview(*folders)
    wanted, other = discs([5.0])[0], discs([4.5])[0]
    assert len(data) == 3
    assert np.array_equal(data.masks[0], wanted)
    assert np.array_equal(data.masks[1], wanted)  # without the hole and the speck
    assert np.array_equal(data.masks[2], other)
    assert data.azimuths == (0.0, 90.0)


def test_large_images_are_halved(folders: tuple[Path, Path, Any, Path]) -> None:
    assert [load_multiview(*folders, size=size).size for size in (4, 5, 8, 9, 16, 64)] == [4, 8, 8, 16, 16, 16]


def test_the_filters_outlines_can_be_asked_for(folders: tuple[Path, Path, Any, Path]) -> None:
    views, filtered, codes, labels = folders
    for data in (
        load_multiview(views, filtered, codes, labels, masks="filter"),
        load_multiview(views, filtered, codes),
    ):
        assert all(np.array_equal(mask, discs([4.5])[0]) for mask in data.masks)
    assert len(load_multiview(views, filtered, codes, labels, everything=True)) == 4
