"""The labels folder: round trip, and one clear sentence for everything that can be wrong with it."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.labels.filtering import Selection
from ganfoundry.labels.labelset import LabelSet, kept_rows
from ganfoundry.labels.schema import PartSchema

SCHEMA = PartSchema(
    name="toy",
    parts=("background", "hull", "window", "wheel"),
    levels={"two": ("background", "object", "object", "object"), "three": ("background", "body", "body", "wheel")},
    keypoints=("nose", "tail"),
)
SHA = "a1" * 32


def label_set(count: int = 3, side: int = 8) -> LabelSet:
    random = np.random.default_rng(0)
    return LabelSet(
        names=tuple(f"{i:03d}" for i in range(count)),
        images=random.integers(0, 256, (count, side, side, 3), dtype=np.uint8),
        masks=random.integers(0, 4, (count, side, side), dtype=np.uint8),
        w=random.normal(size=(count, 5)).astype(np.float32),
        generator_sha256=SHA,
        schema=SCHEMA,
        provenance={"how": "drawn by hand", "date": "2026-11-21"},
        seeds=np.arange(count, dtype=np.int64),
        keypoints=random.uniform(0, side, (count, 2, 3)).round(2).astype(np.float32),
    )


def test_round_trip(tmp_path: Path) -> None:
    written = label_set()
    written.save(tmp_path)
    read = LabelSet.load(tmp_path, SHA)
    assert len(read) == 3
    assert read.names == written.names
    assert read.schema == SCHEMA
    assert read.provenance == written.provenance
    for name in ("images", "masks", "w", "seeds", "keypoints"):
        np.testing.assert_array_equal(getattr(read, name), getattr(written, name))
        assert getattr(read, name).dtype == getattr(written, name).dtype
    assert LabelSet.load(tmp_path).generator_sha256 == SHA


@pytest.mark.parametrize("wrong", [[1, 2], "many", [0, 0, 0], [1, -1, 1], [1, None, 1]])
def test_weights_of_samples(tmp_path: Path, wrong: object) -> None:
    weights = np.array([1, 0.5, 0.25], np.float32)
    replace(label_set(), weights=weights).save(tmp_path)
    read = LabelSet.load(tmp_path).weights
    assert read is not None
    np.testing.assert_array_equal(read, weights)
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"weights": wrong}))
    with pytest.raises(InputError, match='"weights" must be 3 numbers from 0 on'):
        LabelSet.load(tmp_path)


def test_optional_parts_may_be_absent(tmp_path: Path) -> None:
    full = label_set()
    LabelSet(full.names, full.images, full.masks, full.w, SHA, SCHEMA).save(tmp_path)
    read = LabelSet.load(tmp_path)
    assert read.seeds is None
    assert read.keypoints is None


def test_masks_open_in_colour_in_any_program(tmp_path: Path) -> None:
    written = label_set()
    written.save(tmp_path)
    with Image.open(tmp_path / "masks" / "001.png") as picture:
        colours = np.array(picture.convert("RGB"))
    assert SCHEMA.palette is not None
    np.testing.assert_array_equal(colours, SCHEMA.palette[written.masks[1]])


def test_coarser_levels() -> None:
    labels = label_set()
    np.testing.assert_array_equal(labels.at_level("fine"), labels.masks)
    np.testing.assert_array_equal(labels.at_level("three"), np.array([0, 1, 1, 2])[labels.masks])
    with pytest.raises(InputError, match="no level 'four'"):
        labels.at_level("four")


def rewrite(**changes: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / "labels.json"
        table = json.loads(path.read_text("utf-8")) | changes
        path.write_text(json.dumps({k: v for k, v in table.items() if v != "remove"}), encoding="utf-8")

    return change


def paint(name: str, array: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: Image.fromarray(array).save(folder / name)


def latents(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda folder: safetensors.numpy.save_file(arrays, folder / "latents.safetensors")


UNKNOWN = np.zeros((8, 8), np.uint8)
UNKNOWN[2, 3:6] = 9
DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (rewrite(generator_sha256="b2" * 32), "belong to the generator b2b2b2b2b2b2..., not to a1a1a1a1a1a1...: use that"),
    (lambda f: (f / "labels.json").unlink(), "cannot read .*labels.json"),
    (lambda f: (f / "labels.json").write_text("{"), "labels.json is not JSON"),
    (rewrite(format="other"), "is it a labels folder"),
    (rewrite(provenance="remove"), 'labels.json lacks "provenance"'),
    (rewrite(samples=[]), "at least one plain file name"),
    (rewrite(samples=["000", "../000", "002"]), "at least one plain file name"),
    (rewrite(schema={"name": "toy"}), "labels.json is not a part schema"),
    (rewrite(keypoints=[[1, 2, 3]]), r'"keypoints" must have shape \(3, 2, 3\)'),
    (lambda f: (f / "images" / "001.png").unlink(), r"001.png is missing, but labels.json lists it"),
    (lambda f: (f / "masks" / "001.png").unlink(), r"001.png is missing, but labels.json lists it"),
    (lambda f: (f / "masks" / "001.png").write_bytes(b"no picture"), "cannot read the picture .*001.png"),
    (paint("masks/001.png", np.zeros((8, 8, 3), np.uint8)), "has mode RGB, but it must be an index .palette. PNG"),
    (paint("images/001.png", np.zeros((8, 8), np.uint8)), "has mode L, but it must be an RGB picture"),
    (paint("masks/001.png", np.zeros((8, 9), np.uint8)), "is 9 x 8 pixels, but its image is 8 x 8 pixels"),
    (paint("images/001.png", np.zeros((9, 8, 3), np.uint8)), "is 8 x 9 pixels, the first image 8 x 8"),
    (paint("masks/001.png", UNKNOWN), "holds part id 9 in 3 pixels, but the schema ends at 3"),
    (lambda f: (f / "latents.safetensors").unlink(), "cannot read the latents"),
    (lambda f: (f / "latents.safetensors").write_bytes(b"x" * 40), "cannot read the latents"),
    (latents(z=np.zeros((3, 5), np.float32)), 'lacks "w"'),
    (latents(ws=np.zeros((3, 6, 5), np.float32)), r'latents of W, and holds "ws" \(3, 6, 5\)'),
    (latents(w=np.zeros((3, 6, 5), np.float32)), r'latents of W, and holds "w" \(3, 6, 5\)'),
    (latents(w=np.zeros((2, 5), np.float32)), '"w" has 2 rows for 3 samples'),
    (latents(w=np.full((3, 5), np.nan, np.float32)), "numbers that are not finite"),
]


@pytest.mark.parametrize(("damage", "sentence"), DAMAGE, ids=[re.sub(r"\W+", "-", s)[:40] for _, s in DAMAGE])
def test_damage_is_named_in_one_sentence(tmp_path: Path, damage: Callable[[Path], object], sentence: str) -> None:
    label_set().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=sentence) as raised:
        LabelSet.load(tmp_path, SHA)
    assert raised.value.exit_code == 2
    assert "\n" not in str(raised.value)


def test_kept_rows_are_those_that_a_selection_left(tmp_path: Path) -> None:
    Selection(6, (1, 4), (0.5, 0.25), ("among the most uncertain 30 %",) * 2).save(tmp_path / "selection.json")
    assert kept_rows(tmp_path).tolist() == [0, 2, 3, 5]


@pytest.mark.parametrize("content", [None, "{", "[]", '{"rows": 2}', '{"rows": 2, "dropped": [{"row": 5}]}'])
def test_a_damaged_selection_is_refused(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "selection.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="run synthesize again"):
        kept_rows(tmp_path)
