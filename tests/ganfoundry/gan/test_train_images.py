"""Irregular images: each kind is named and converted as it should be, counted, and treated as asked."""

import io
import itertools
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan import train_convert, train_images
from ganfoundry.gan.train_convert import square
from ganfoundry.gan.train_images import ImageReport, collect_part, collect_tasks, join_parts
from ganfoundry.gan.train_sources import open_source

WHITE = (255, 255, 255)
GREEN = (0, 128, 0)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def flat(mode: str, colour: Any, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.new(mode, size, colour)


def upside_down() -> bytes:
    image = flat("RGB", (0, 0, 0))
    image.paste((250, 0, 0), (0, 0, 16, 8))
    exif = Image.Exif()
    exif[train_convert.ORIENTATION] = 3
    return encoded(image.rotate(180), exif=exif)


def wide_grey() -> bytes:
    return encoded(Image.fromarray(np.full((16, 16), 0x8080, np.uint16)))


def transparent_palette() -> bytes:
    image = flat("P", 1)
    image.putpalette([0, 0, 0, 9, 9, 9])
    return encoded(image, transparency=1)


CASES: dict[str, tuple[bytes, list[str], tuple[int, int, int]]] = {
    "regular": (encoded(flat("RGB", (10, 20, 30))), [], (10, 20, 30)),
    "regular, larger": (encoded(flat("RGB", (10, 20, 30), (40, 40))), [], (10, 20, 30)),
    "webp": (encoded(flat("RGB", (10, 20, 30)), "WEBP", lossless=True), [], (10, 20, 30)),
    "grey": (encoded(flat("L", 77)), ["grey"], (77, 77, 77)),
    "one bit": (encoded(flat("1", 1)), ["grey"], WHITE),
    "grey and alpha": (encoded(flat("LA", (77, 0))), ["grey", "alpha"], GREEN),
    "palette": (encoded(flat("RGB", (9, 9, 9)).quantize(2)), ["palette"], (9, 9, 9)),
    "transparent palette": (transparent_palette(), ["alpha", "palette"], GREEN),
    "16-bit": (wide_grey(), ["grey", "16-bit"], (128, 128, 128)),
    "CMYK": (encoded(flat("CMYK", (0, 255, 255, 0)), "JPEG", quality=100), ["CMYK"], (254, 0, 0)),
    "half transparent": (encoded(flat("RGBA", (255, 255, 255, 128))), ["alpha"], (128, 192, 128)),
    "small": (encoded(flat("RGB", (10, 20, 30), (15, 15))), ["small"], (10, 20, 30)),
    "flat and small": (encoded(flat("RGB", (10, 20, 30), (40, 9))), ["not square", "small"], (10, 20, 30)),
}


@pytest.mark.parametrize("case", CASES)
def test_every_kind_is_named_and_becomes_8_bit_rgb(case: str) -> None:
    content, kinds, colour = CASES[case]
    pixels, found = square(content, 16, GREEN)
    assert (pixels.shape, pixels.dtype, found) == ((16, 16, 3), np.uint8, kinds)
    assert np.abs(pixels.astype(int) - colour).max() <= 1


def test_photograph_that_says_it_is_upside_down_is_set_upright() -> None:
    pixels, found = square(upside_down(), 16, WHITE)
    assert found == ["rotated"]
    assert pixels[2, 8].tolist() == [250, 0, 0]
    assert pixels[13, 8].tolist() == [0, 0, 0]


def deep_png(channels: int, colour_type: int) -> bytes:
    """A 16 px PNG, every value 0x8080, which Pillow cannot write; grey and alpha it reads as RGBA."""
    rows = b"".join(b"\0" + b"\x80" * (16 * channels * 2) for _ in range(16))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, colour_type, 0, 0, 0)), (b"IDAT", zlib.compress(rows))]
    body = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in [*chunks, (b"IEND", b"")]
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


@pytest.mark.parametrize(("channels", "colour_type"), [(1, 0), (2, 4), (3, 2), (4, 6)])
def test_16_bits_are_seen_although_pillow_hides_them(channels: int, colour_type: int) -> None:
    pixels, found = square(deep_png(channels, colour_type), 16, (128, 128, 128))
    assert found == [*["grey"] * (channels == 1), *["alpha"] * (channels % 2 == 0), "16-bit"]
    assert (pixels == 128).all()


def test_centred_square_is_cropped_and_averaged_down() -> None:
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = (np.indices((64, 64)).sum(0) % 2 * 200)[:, :, None]  # a checkerboard only a poor filter shows
    pixels, found = square(wide, 16, WHITE)
    assert found == ["not square"]
    assert np.abs(pixels[1:-1, 1:-1].astype(int) - 100).max() <= 2


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_array_of_any_number_of_channels_is_converted(channels: int) -> None:
    array = np.full((16, 16, channels), 255, np.uint8)
    array[..., 0] = 90
    pixels, found = square(array, 16, WHITE)
    assert found == {1: ["grey"], 2: ["grey", "alpha"], 3: [], 4: ["alpha"]}[channels]
    assert (pixels == ((90, 255, 255) if channels > 2 else 90)).all()


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(CASES)), st.integers(0, 10_000), st.integers(0, 255), st.booleans())
def test_broken_image_is_an_exception_or_a_square(case: str, position: int, value: int, cut: bool) -> None:
    data = bytearray(CASES[case][0])
    position %= len(data)
    data = data[:position] if cut else data[:position] + bytes([value]) + data[position + 1 :]
    try:
        pixels, _ = square(bytes(data), 16, WHITE)
    except Exception:
        return
    assert pixels.shape == (16, 16, 3)


def test_image_that_claims_too_many_pixels_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_convert, "MAX_PIXELS", 255)
    with pytest.raises(ValueError, match="16 x 16 pixels are more than 255"):
        square(CASES["regular"][0], 16, WHITE)


# ------------------------------------------------------------------------------------------------ whole sources


def make_folder(folder: Path) -> Path:
    (folder / "deep").mkdir(parents=True)
    for name, colour in (("a", 1), ("b", 2), ("deep/c", 3), ("z", 1)):
        (folder / f"{name}.png").write_bytes(encoded(flat("RGB", (colour,) * 3)))
    (folder / "grey.png").write_bytes(CASES["grey"][0])
    (folder / "odd.png").write_bytes(CASES["flat and small"][0])
    (folder / "torn.png").write_bytes(CASES["regular"][0][:60])
    (folder / "notes.txt").write_text("not an image")
    return folder


def collect(path: Path, folder: Path, **options: Any) -> tuple[np.ndarray, ImageReport]:
    source = open_source(path)
    for task in collect_tasks(folder, source, 16, **options):
        collect_part(task)
    target, report = join_parts(folder, source, options.get("irregular", "convert"), folder.parent / "images.json")
    return np.load(target), report


@pytest.fixture(autouse=True)
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_images, "PART_ROWS", 3)


def test_convert_uses_all_that_can_be_read(tmp_path: Path) -> None:
    images, report = collect(make_folder(tmp_path / "photos"), tmp_path / "work")
    assert [int(image[0, 0, 0]) for image in images] == [1, 2, 3, 77, 10, 1]
    assert (report.source, report.kind, report.found, report.used) == ("photos", "folder", 7, 6)
    assert report.irregular == {
        "grey": ["grey.png"],
        "not square": ["odd.png"],
        "small": ["odd.png"],
        "damaged": ["torn.png"],
    }
    assert [name for name, _ in report.left_out] == ["torn.png"]
    assert [list(pair) for pair in report.duplicates] == [["z.png", "a.png"]]
    assert report.counts() == "1 grey, 1 not square, 1 small, 1 damaged"
    assert report.lines()[0] == "1 of 7 images grey, converted: grey.png"
    assert report.lines()[-1] == "other files, not looked at: 1 .txt"
    assert json.loads((tmp_path / "images.json").read_text())["irregular"]["grey"] == ["grey.png"]
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["images.npy", "source.json"]


def test_skip_and_refuse(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos")
    images, report = collect(folder, tmp_path / "work", irregular="skip")
    assert len(images) == report.used == 4
    assert dict(report.left_out)["odd.png"] == "not square, small"
    assert report.lines()[0] == "1 of 7 images grey, left out: grey.png"
    with pytest.raises(InputError, match=r"irregular images \(1 grey: grey.png; .* 1 damaged: torn.png\)"):
        collect(folder, tmp_path / "work", irregular="refuse")
    assert json.loads((tmp_path / "images.json").read_text())["irregular"]["damaged"] == ["torn.png"]
    for name in ("grey", "odd", "torn"):
        (folder / f"{name}.png").unlink()
    assert len(collect(folder, tmp_path / "work", irregular="refuse")[0]) == 4


def test_source_without_a_usable_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "grey.png").write_bytes(CASES["grey"][0])
    with pytest.raises(InputError, match="no image to learn from"):
        collect(tmp_path / "photos", tmp_path / "work", irregular="skip")


def test_zip_gives_what_the_folder_gives(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder))
    one, two = collect(folder, tmp_path / "one"), collect(tmp_path / "photos.zip", tmp_path / "two")
    np.testing.assert_array_equal(one[0], two[0])
    assert one[1].irregular == two[1].irregular


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_interrupted_collection_continues_with_the_same_bytes(tmp_path: Path, order: tuple[int, ...]) -> None:
    source = open_source(make_folder(tmp_path / "photos"))
    whole, _ = collect(source.path, tmp_path / "whole")
    tasks = collect_tasks(tmp_path / "work", source, 16)
    for index in order[:2]:
        collect_part(tasks[index])
    (again,) = collect_tasks(tmp_path / "work", source, 16)
    assert again == tasks[order[2]]
    collect_part(again)
    target, _ = join_parts(tmp_path / "work", source, "convert", tmp_path / "images.json")
    np.testing.assert_array_equal(np.load(target), whole)
    assert collect_tasks(tmp_path / "work", source, 16) == []


def test_other_options_or_other_images_begin_anew(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "photos")
    work = tmp_path / "work"
    for task in collect_tasks(work, open_source(folder), 16):
        collect_part(task)
    for options in ({"background": "#102030"}, {"irregular": "skip"}):
        tasks = collect_tasks(work, open_source(folder), 16, **options)
        assert len(tasks) == 3
        collect_part(tasks[0])
    (folder / "a.png").write_bytes(CASES["grey"][0])
    assert len(collect_tasks(work, open_source(folder), 16, **options)) == 3
    train_images._opened.cache_clear()  # as in another process
    with pytest.raises(InputError, match="changed while it was read"):
        collect_part(tasks[1])


def test_torn_part_is_named_and_made_again(tmp_path: Path) -> None:
    source = open_source(make_folder(tmp_path / "photos"))
    work = tmp_path / "work"
    tasks = collect_tasks(work, source, 16)
    for task in tasks:
        collect_part(task)
    tasks[1].path.write_bytes(tasks[1].path.read_bytes()[:-5])
    with pytest.raises(RunError, match=r"part-000000003\.npy is missing or damaged"):
        join_parts(work, source, "convert", tmp_path / "images.json")
    assert collect_tasks(work, source, 16) == [tasks[1]]


def test_unknown_policy_and_colour_are_sentences(tmp_path: Path) -> None:
    source = open_source(make_folder(tmp_path / "photos"))
    with pytest.raises(InputError, match="'ignore' is unknown, use convert, skip, refuse"):
        collect_tasks(tmp_path / "work", source, 16, irregular="ignore")
    with pytest.raises(InputError, match="'beautiful' is not a colour"):
        collect_tasks(tmp_path / "work", source, 16, background="beautiful")


def test_header_is_rewritten_in_place_for_any_number_of_images(tmp_path: Path) -> None:
    for found, kept in itertools.product((10, 99_999), (1, 10)):
        stream = io.BytesIO()
        for count in (found, kept):
            stream.seek(0)
            shape = {"descr": "|u1", "fortran_order": False, "shape": (count, 16, 16, 3)}
            np.lib.format.write_array_header_1_0(stream, shape)
            length = stream.tell()
        assert length == 128
