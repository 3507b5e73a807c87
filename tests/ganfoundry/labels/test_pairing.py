"""An annotation finds its sample by name, and only if one sample fits."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganfoundry.errors import InputError
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.pairing import (
    MANIFEST,
    Pool,
    Sample,
    manifest_conflicts,
    plain_names,
    read_manifest,
    samples_of,
    write_manifest,
)
from ganfoundry.labels.schema import PartSchema


def sample(name: str, seed: int | None = None, *, w: float = 0.0, **more) -> Sample:
    picture = np.full((4, 4, 3), int(w), np.uint8)
    return Sample(name, picture, picture, np.full(2, w, np.float32), "g" * 64, "exported samples", seed, **more)


POOL = Pool(
    [
        sample("sample-0001", 900, w=1),
        sample("sample-0002", 1, w=2),
        sample("row-000012", 44, w=3),
        sample("Photo of A", w=4, known_as=frozenset({"Photo of A.JPG", "trip/Photo of A.JPG"})),
        sample("b-jpg", w=5, known_as=frozenset({"b.jpg", "b"})),
        sample("b-png", w=6, known_as=frozenset({"b.png", "b"})),
    ]
)


@pytest.mark.parametrize(
    ("file", "row"),
    [
        ("sample-0001.png", 0),
        ("SAMPLE-0001.json", 0),
        ("1c2d3e4f-sample-0001.png", 0),
        ("900.npy", 0),
        ("12.png", 2),
        ("000044.png", 2),
        ("photo of a.jpg", 3),
        ("1c2d3e4f-Photo of A.JPG", 3),
        ("b.jpg", 4),
        ("b.png", 5),
        ("sample-1.png", None),
        ("image_mask1.npy", None),  # DatasetGAN's numbers count masks, not samples
        ("3.png", None),
        ("sample-0001-copy.png", None),
        ("99999999999999999999999.png", None),
    ],
)
def test_names_numbers_and_seeds(file: str, row: int | None) -> None:
    assert POOL.find(file) == row


@pytest.mark.parametrize("file", ["1.png", "b.json"])
def test_what_fits_two_samples_fits_none(file: str) -> None:
    """1 is the number of sample-0001 and the seed of sample-0002."""
    with pytest.raises(InputError, match=r"several samples: .*exported samples"):
        POOL.find(file)


def test_a_name_that_is_a_number_goes_before_numbers() -> None:
    pool = Pool([sample("row-7", w=1), sample("7", w=2), sample("seed-0", 7, w=3)])
    assert pool.find("7.png") == 1


def test_a_sample_from_two_sources_is_one() -> None:
    pool = Pool([sample("a", 3, w=1), sample("a", 3, w=1), sample("a", 3, w=2)])
    assert len(pool.samples) == 2
    with pytest.raises(InputError, match="several"):
        pool.find("a.png")


def labels(fill: int = 7, sha256: str = "1" * 64) -> LabelSet:
    images = np.full((2, 4, 4, 3), fill, np.uint8)
    schema = PartSchema("s", ("background", "x"), {})
    names = ("a", "b")
    return LabelSet(
        names, images, images[..., 0] % 2, np.zeros((2, 3), np.float32), sha256, schema, seeds=np.array([5, 6])
    )


def test_the_manifest_names_generator_seeds_and_pictures(tmp_path: Path) -> None:
    write_manifest(tmp_path, labels())
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert [row["seed"] for row in manifest["samples"]] == [5, 6]
    assert read_manifest(tmp_path / "tasks.json") == manifest, "of a file: the one beside it"
    assert manifest_conflicts(manifest, samples_of(labels(), "exported samples")) == []
    (one, two) = manifest_conflicts(manifest, samples_of(labels(fill=9), "exported samples"))
    assert one == ("a", "is not the picture that was exported under this name")
    (one, two) = manifest_conflicts(manifest, samples_of(labels(sha256="2" * 64), "exported samples"))
    assert two == ("b", "was exported from the generator 111111111111..., not 222222222222...")
    assert manifest_conflicts(manifest, [sample("other")]) == []


@pytest.mark.parametrize("change", [{"samples": 3}, {"samples": [{}]}, {"generator_sha256": None}])
def test_a_damaged_manifest_is_refused(tmp_path: Path, change: dict) -> None:
    write_manifest(tmp_path, labels())
    table = json.loads((tmp_path / MANIFEST).read_text()) | change
    (tmp_path / MANIFEST).write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        read_manifest(tmp_path)


def test_other_manifests_are_none_of_ours(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None
    (tmp_path / MANIFEST).write_text('{"name": "an extension"}')
    assert read_manifest(tmp_path) is None


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12), unique=True))
def test_names_made_of_paths_are_plain_and_distinct(names: list[str]) -> None:
    made = plain_names(names)
    assert len(made) == len(names)
    assert len(set(made)) == len(made)
    assert all(Path(name).name == name and name not in ("", ".", "..") for name in made)


def test_endings_stay_where_they_tell_pictures_apart() -> None:
    assert plain_names(["trip/a.jpg", "a.png", "a.jpg", "c.d.png"]) == ["trip-a", "a-png", "a-jpg", "c.d"]
