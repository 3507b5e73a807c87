"""Training images: rendering that resumes, the order of batches."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan import train_data
from ganfoundry.gan.train_data import BatchOrder, open_images


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_data, "ROWS_PER_PART", 3)


@pytest.mark.usefixtures("few_rows")
def test_interrupted_rendering_continues_and_gives_the_same_bytes(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for task in train_data.render_tasks(whole, "cars", 16, 8, 5):
        train_data.render_part(task)
    tasks = train_data.render_tasks(broken, "cars", 16, 8, 5)
    assert [(task.first, task.stop) for task in tasks] == [(0, 3), (3, 6), (6, 8)]
    assert train_data.render_part(tasks[1]) == 3
    (broken / "part-0000000.npy.tmp-1").write_bytes(b"torn")
    again = train_data.render_tasks(broken, "cars", 16, 8, 5)
    assert [task.first for task in again] == [0, 6]
    for task in reversed(again):
        train_data.render_part(task)
    first, second = (train_data.assemble_parts(folder) for folder in (whole, broken))
    assert first.read_bytes() == second.read_bytes()
    images = open_images(first, 16, 8)
    assert images.shape == (8, 16, 16, 3)
    assert len(np.unique(images.reshape(8, -1), axis=0)) == 8
    assert train_data.render_tasks(whole, "cars", 16, 8, 5) == []
    for folder in (whole, broken):
        assert sorted(path.name for path in folder.iterdir()) == ["images.json", "images.npy"]


@pytest.mark.usefixtures("few_rows")
def test_renders_of_another_world_or_of_other_values_are_refused(tmp_path: Path) -> None:
    task = train_data.render_tasks(tmp_path, "cars", 16, 8, 5)[1]
    train_data.render_part(task)
    with pytest.raises(InputError, match="other training images"):
        train_data.render_tasks(tmp_path, "cars", 16, 8, 6)
    assert len(train_data.render_tasks(tmp_path, "cars", 16, 8, 5)) == 2
    stored = np.load(task.path)
    stored[0, 0, 0, 0] ^= 1
    train_data.write_array(task.path, stored)
    with pytest.raises(InputError, match="another version of the world"):
        train_data.render_tasks(tmp_path, "cars", 16, 8, 5)


@pytest.mark.parametrize("row", [0, 4, 8, 12, 17])
def test_a_world_that_renders_any_of_some_spread_images_otherwise_is_noticed(tmp_path: Path, row: int) -> None:
    (task,) = train_data.render_tasks(tmp_path, "cars", 8, 18, 5)
    train_data.render_part(task)
    path = train_data.assemble_parts(tmp_path)
    train_data.check_world(tmp_path)
    images = np.load(path)
    images[row, 0, 0, 0] ^= 1
    np.save(path, images)
    with pytest.raises(InputError, match="another version of the world"):
        train_data.check_world(tmp_path)


@pytest.mark.usefixtures("few_rows")
def test_missing_or_torn_part_is_named_and_rendered_again(tmp_path: Path) -> None:
    for task in train_data.render_tasks(tmp_path, "cars", 16, 6, 5):
        train_data.render_part(task)
    part = tmp_path / "part-0000003.npy"
    part.write_bytes(part.read_bytes()[:-7])
    with pytest.raises(RunError, match=r"part-0000003\.npy is missing or damaged"):
        train_data.assemble_parts(tmp_path)
    (task,) = train_data.render_tasks(tmp_path, "cars", 16, 6, 5)
    train_data.render_part(task)
    assert train_data.assemble_parts(tmp_path).exists()


def test_training_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    with pytest.raises(InputError, match="is not a file of training images"):
        open_images(path, 16, 8)
    np.save(path, np.zeros((9, 16, 16, 3), np.uint8))
    assert isinstance(open_images(path, 16, 8), np.memmap)
    with pytest.raises(InputError, match="fewer than one batch of 12"):
        open_images(path, 16, 12)
    with pytest.raises(InputError, match=r"expected uint8 \(N, 32, 32, 3\)"):
        open_images(path, 32, 8)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match="is not a file of training images"):
        open_images(path, 16, 8)


@given(st.integers(1, 50), st.integers(1, 9), st.integers(0, 2**31))
def test_every_epoch_shows_every_image_once(count: int, batch: int, seed: int) -> None:
    order = BatchOrder(count, batch, seed)
    shown = np.concatenate([order.rows(step) for step in range(2 * count)])
    for epoch in range(batch):
        assert sorted(shown[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_order_depends_on_seed_and_step_alone() -> None:
    order = BatchOrder(40, 16, 3)
    forwards = [order.rows(step).tolist() for step in range(6)]
    assert [BatchOrder(40, 16, 3).rows(step).tolist() for step in reversed(range(6))] == forwards[::-1]
    assert BatchOrder(40, 16, 4).rows(0).tolist() != forwards[0]
    assert forwards[0] != sorted(forwards[0])


def test_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    train_data.write_atomically(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(train_data.os, "fsync", full)
    with pytest.raises(RunError, match="No space left on device"):
        train_data.write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_description_of_the_renders_is_json(tmp_path: Path) -> None:
    train_data.render_tasks(tmp_path, "cars", 16, 6, 5)
    assert json.loads((tmp_path / "images.json").read_text()) == {
        "world": "cars",
        "resolution": 16,
        "count": 6,
        "seed": 5,
    }
