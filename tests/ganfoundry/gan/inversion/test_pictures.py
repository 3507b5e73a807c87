"""Pictures of every kind become squares of the generator's size; damaged ones are left out or refused."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.gan.inversion.pictures import open_pictures, read_pictures


def album(folder: Path) -> Path:
    folder.mkdir()
    Image.new("L", (20, 30), 80).save(folder / "grey.png")
    Image.new("RGBA", (16, 16), (0, 0, 0, 0)).save(folder / "clear.png")
    Image.new("RGB", (40, 40), (10, 20, 30)).save(folder / "plain.png")
    return folder


def test_grey_transparent_and_large_pictures_are_converted(tmp_path: Path) -> None:
    steps: list[int] = []
    found = read_pictures(
        open_pictures(album(tmp_path / "a")), 16, background="#ff0000", on_picture=lambda: steps.append(1)
    )
    assert found.names == ["clear.png", "grey.png", "plain.png"]
    assert found.images.shape == (3, 16, 16, 3)
    assert found.images[:, 3, 3].tolist() == [[255, 0, 0], [80, 80, 80], [10, 20, 30]]
    assert found.irregular == {"alpha": ["clear.png"], "grey": ["grey.png"], "not square": ["grey.png"]}
    assert len(steps) == 3


def test_one_picture_and_an_archive_are_sources_too(tmp_path: Path) -> None:
    folder = album(tmp_path / "a")
    one = read_pictures(open_pictures(folder / "plain.png"), 8)
    assert one.names == ["plain.png"]
    assert np.array_equal(one.images, np.full((1, 8, 8, 3), [10, 20, 30], np.uint8))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(folder / "plain.png", "deep/plain.png")
    assert read_pictures(open_pictures(tmp_path / "a.zip"), 8).names == ["deep/plain.png"]


def test_damaged_pictures_are_left_out_or_refused(tmp_path: Path) -> None:
    folder = album(tmp_path / "a")
    content = (folder / "plain.png").read_bytes()
    (folder / "bad.png").write_bytes(content[: len(content) // 2])
    found = read_pictures(open_pictures(folder), 16)
    assert len(found.images) == 3
    assert [name for name, _ in found.damaged] == ["bad.png"]
    with pytest.raises(InputError, match=r"bad\.png .* not a readable picture"):
        read_pictures(open_pictures(folder), 16, skip_damaged=False)
    with pytest.raises(InputError, match="no readable picture"):
        read_pictures(open_pictures(folder / "bad.png"), 16)


def test_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.md").write_text("no picture")
    for path in (tmp_path / "absent", tmp_path / "absent.png", tmp_path / "empty", tmp_path / "notes.md"):
        with pytest.raises(InputError, match=path.name):
            open_pictures(path)
