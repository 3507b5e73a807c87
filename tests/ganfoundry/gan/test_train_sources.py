"""Sources of training images: what is listed, what is refused, and that hostile archives do no harm."""

import io
import struct
import tempfile
import time
import tracemalloc
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.data.shards import ShardFolder, write_shard
from ganfoundry.errors import InputError
from ganfoundry.gan import train_sources
from ganfoundry.gan.train_sources import open_source, printable


def pictures(count: int = 3, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def test_folder_lists_its_images_in_order_and_counts_the_rest(tmp_path: Path) -> None:
    for name in ("b/2.PNG", "a.jpeg", "b/1.webp", "c.txt", "b/d.txt", "e", ".hidden/f.png", "__MACOSX/g.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    source = open_source(tmp_path)
    assert source.kind == "folder"
    assert list(source.names) == ["a.jpeg", "b/1.webp", "b/2.PNG"]
    assert source.read(2) == b"b/2.PNG"
    assert source.other_files == {"": 1, ".png": 2, ".txt": 2}
    digest = source.digest
    (tmp_path / "a.jpeg").write_bytes(b"longer than before")
    assert open_source(tmp_path).digest != digest


def test_zip_is_read_in_place_whatever_its_names_say(tmp_path: Path) -> None:
    names = ["00001/img00000002.png", "00000/img00000001.png", "../../evil.png", "/etc/evil.png", "C:\\evil.png"]
    folder = tmp_path / "in"
    folder.mkdir()
    with zipfile.ZipFile(folder / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in [*names, "dataset.json", "00000/", "__MACOSX/00000/._img.png"]:
            archive.writestr(name, name.encode())
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(names[0], b"again")
    source = open_source(folder / "set.zip")
    assert source.kind == "zip"
    assert list(source.names) == sorted([*names, names[0]])
    found = [(name, source.read(index)) for index, name in enumerate(source.names)]
    assert sorted(found) == sorted([*((name, name.encode()) for name in names), (names[0], b"again")])
    assert source.other_files == {".json": 1, ".png": 1}
    assert [path.name for path in tmp_path.rglob("*")] == ["in", "set.zip"]


def bomb(path: Path, megabytes: int, claimed: int | None = None) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bomb.png", "w") as entry:
        for _ in range(megabytes):
            entry.write(bytes(1 << 20))
    if claimed is not None:
        data = bytearray(path.read_bytes())
        central = data.rindex(b"PK\x01\x02")
        struct.pack_into("<I", data, central + 24, claimed)  # the size that the directory tells
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("claimed", [None, 100])
def test_zip_bomb_is_inflated_up_to_the_limit_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claimed: int | None
) -> None:
    monkeypatch.setattr(train_sources, "MAX_FILE_BYTES", 1 << 20)
    source = open_source(bomb(tmp_path / "bomb.zip", 64, claimed))
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises((ValueError, zipfile.BadZipFile, EOFError), match=r"larger than|CRC|end of"):
        source.read(0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20
    assert time.monotonic() - began < 2


def test_encrypted_entry_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", b"secret")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="encrypted"):
        open_source(path).read(0)


@given(st.integers(0, 400), st.integers(0, 255), st.booleans())
def test_broken_zip_is_an_error_and_nothing_worse(position: int, value: int, cut: bool) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for index in range(3):
            archive.writestr(f"{index}.png", bytes(index * 50))
    data = bytearray(stream.getvalue())
    position %= len(data)
    if cut:
        del data[position:]
    else:
        data[position] = value
    broken = (OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError)
    with tempfile.NamedTemporaryFile(suffix=".zip") as file, suppress(InputError):
        Path(file.name).write_bytes(data)
        source = open_source(Path(file.name))
        for index in range(len(source.names)):
            with suppress(*broken):
                assert source.read(index) == bytes(index * 50) or cut is False


@pytest.mark.parametrize(("name", "key"), [("image", None), ("images", None), ("photos", "photos")])
@pytest.mark.parametrize("storage", ["contiguous", "chunked"])
def test_hdf5_dataset_is_found_by_name(tmp_path: Path, name: str, key: str | None, storage: str) -> None:
    pixels = pictures(7)
    with h5py.File(tmp_path / "set.h5", "w") as file:
        chunks = {"chunks": (3, 16, 8, 3), "compression": 1} if storage == "chunked" else {}
        file.create_dataset(name, data=pixels, **chunks)
        file["label"] = np.arange(7)
    source = open_source(tmp_path / "set.h5", key)
    assert source.kind == "hdf5"
    assert list(source.names[:2]) == ["row 0", "row 1"]
    for index in (6, 0, 3, 4):
        np.testing.assert_array_equal(source.read(index), pixels[index])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"pictures": np.zeros((2, 8, 8, 3), np.uint8)}, "no dataset 'image' or 'images', only 'pictures'"),
        ({"image": np.zeros((2, 3, 8, 8), np.uint8)}, r"uint8 \(2, 3, 8, 8\), expected uint8 \(N, H, W, C\)"),
        ({"image": np.zeros((2, 8, 8, 3), np.float32)}, "is float32"),
        ({"image": np.zeros((0, 8, 8, 3), np.uint8)}, "holds no PNG"),
        ({}, "only nothing"),
    ],
)
def test_other_hdf5_is_refused_with_what_it_holds(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        for name, value in content.items():
            file[name] = value
    with pytest.raises(InputError, match=message):
        open_source(tmp_path / "set.h5")


def test_hdf5_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["image"] = pictures()
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file["image"] = h5py.ExternalLink("secret.h5", "image")
    with pytest.raises(InputError, match="link to somewhere else"):
        open_source(tmp_path / "set.h5")


def test_large_hdf5_is_read_and_an_absurd_one_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "set.h5", "w") as file:
        file.create_dataset("image", shape=(50_000, 512, 512, 3), dtype=np.uint8)  # 39 GB, none of them written
    assert len(open_source(tmp_path / "set.h5").names) == 50_000
    monkeypatch.setattr(train_sources, "MAX_HDF5_BYTES", 1 << 33)
    with pytest.raises(InputError, match="more than the limit of 8,589,934,592"):
        open_source(tmp_path / "set.h5")


def test_shards_are_read_from_their_folder_their_index_or_their_artifact(tmp_path: Path) -> None:
    pixels = pictures(5)
    folder = tmp_path / "synthesize" / "shards"
    with ShardFolder(folder, 5, 2, "key") as shards:
        for task in shards.pending():
            shards.acknowledge(write_shard(folder, task.index, {"image": pixels[task.first : task.stop]}, task.first))
        shards.finish()
    for path in (folder, folder / "index.h5", folder.parent):
        source = open_source(path)
        assert len(source.names) == 5
        np.testing.assert_array_equal(np.stack([np.asarray(source.read(index)) for index in range(5)]), pixels)
    with pytest.raises(InputError, match="no field 'photo', only image"):
        open_source(folder, "photo")


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    for name, message in (("absent", "does not exist"), ("a.txt", "is no folder"), ("empty", "holds no PNG")):
        with pytest.raises(InputError, match=message):
            open_source(tmp_path / name)


def test_names_are_shown_on_one_line_without_control_characters() -> None:
    assert printable("a\n\x1b[31mb\udcff.png") == "a??[31mb?.png"
    assert printable("Äpfel 1.png") == "Äpfel 1.png"
