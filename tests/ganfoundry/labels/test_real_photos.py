"""Photos as samples: the weight from the inversion's error, and what is refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ganfoundry.data.shards import ShardFolder, write_shard
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.latent_spaces import WLatents, WPlusLatents, save_latents
from ganfoundry.labels.formats import AnnotatedImage
from ganfoundry.labels.importing import Importer
from ganfoundry.labels.pairing import Pool
from ganfoundry.labels.real_photos import certainty, load_photos
from tests.ganfoundry.gan.inversion.invhelp import samples, write_gan
from tests.stages.labelhelp import SCHEMA


@given(st.floats(0, 200), st.floats(0, 200), st.floats(0, 100))
def test_the_weight_rises_with_the_psnr(one: float, two: float, half: float) -> None:
    low, high = certainty([min(one, two), max(one, two)], half)
    assert 0 < low <= high <= 1


def test_the_weight_is_the_formula_in_the_docstring() -> None:
    """Half at the given PSNR; against mean squared errors of real arrays; exact counts whole."""
    assert certainty(20.0) == pytest.approx(0.5)
    assert certainty(30.0, 30.0) == pytest.approx(0.5)
    assert certainty(np.inf) == 1
    error = np.random.default_rng(0).normal(0, 0.05, (64, 64, 3))
    mse = float((error**2).mean())
    assert certainty(-10 * np.log10(mse)) == pytest.approx(1 / (1 + mse / 0.1**2), rel=1e-6)


@pytest.mark.parametrize("psnr", [np.nan, -1.0, [10.0, np.nan]])
def test_a_psnr_that_is_none_is_refused(psnr: object) -> None:
    with pytest.raises(InputError, match="no PSNR"):
        certainty(psnr)


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture
def folder(tmp_path: Path, gan: Path) -> Path:
    """What `invert` writes, with a perfect inversion and a poor one."""
    loaded = load_gan(gan)
    w, images = samples(loaded, 2)
    photos = images.copy()
    photos[1] = 255 - photos[1]
    arrays = {"image": photos, "inverted_image": images, "psnr": np.array([np.inf, 8.0], np.float32)}
    with ShardFolder(tmp_path / "shards", 2, 2, "key") as shards:
        for task in shards.pending():
            shards.acknowledge(write_shard(tmp_path / "shards", task.index, arrays, task.first))
        shards.finish()
    save_latents(tmp_path / "latents.safetensors", WLatents(w), loaded.sha256)
    rows = [{"name": "trip/one.jpg"}, {"name": "two.png"}]
    table = {"generator_sha256": loaded.sha256, "method": "w", "images": rows}
    (tmp_path / "inversions.json").write_text(json.dumps(table))
    return tmp_path


def test_photos_are_samples_whose_image_is_the_generators(folder: Path, gan: Path) -> None:
    loaded = load_gan(gan)
    one, two = load_photos(folder, loaded.generator)
    assert (one.name, two.name) == ("trip-one", "two")
    assert {"trip/one.jpg", "one.jpg", "one"} <= one.known_as
    assert one.weight == 1
    assert two.weight == pytest.approx(1 / (1 + 10**1.2))
    assert one.generator_sha256 == loaded.sha256
    np.testing.assert_array_equal(one.image, one.shown)
    np.testing.assert_array_equal(two.image, 255 - two.shown)
    np.testing.assert_array_equal(two.w, samples(loaded, 2)[0][1].numpy())


def test_w_plus_has_no_place_in_labels(folder: Path, gan: Path) -> None:
    loaded = load_gan(gan)
    ws = torch.zeros(2, loaded.generator.num_ws, 8)
    save_latents(folder / "latents.safetensors", WPlusLatents(ws), loaded.sha256)
    with pytest.raises(InputError, match=r"W\+"):
        load_photos(folder, loaded.generator)
    table = json.loads((folder / "inversions.json").read_text()) | {"method": "w+"}
    (folder / "inversions.json").write_text(json.dumps(table))
    with pytest.raises(InputError, match=r"one w a sample: run invert with --method w$"):
        load_photos(folder, loaded.generator)


@pytest.mark.parametrize("damage", ["table", "key", "latents", "shards", "count", "generator"])
def test_a_damaged_folder_is_named(folder: Path, gan: Path, damage: str) -> None:
    loaded = load_gan(gan)
    file = folder / "inversions.json"
    if damage == "table":
        file.write_text("{")
    elif damage == "key":
        file.write_text('{"images": [{}]}')
    elif damage == "latents":
        (folder / "latents.safetensors").write_bytes(b"x")
    elif damage == "shards":
        shutil.rmtree(folder / "shards")
    elif damage == "count":
        save_latents(folder / "latents.safetensors", WLatents(torch.zeros(3, 8)), loaded.sha256)
    else:
        save_latents(folder / "latents.safetensors", WLatents(torch.zeros(2, 9)), loaded.sha256)
    with pytest.raises(InputError, match=folder.name):
        load_photos(folder, loaded.generator)


def test_a_picture_of_the_album_is_what_the_annotator_saw(folder: Path, gan: Path, tmp_path: Path) -> None:
    """The photo, brought to the generator's size as invert does, is recognised; the generator's image is not."""
    photos = load_photos(folder, load_gan(gan).generator)
    for shown, code in ((photos[1].shown, []), (photos[1].image, ["picture-differs"])):
        file = tmp_path / "two.png"
        Image.fromarray(shown).save(file)
        importer = Importer(Pool(photos), SCHEMA)
        label = np.ones((16, 16), np.uint16)
        importer.take(AnnotatedImage("two.png", label, ("background", "mid"), picture=file))
        assert [finding.code for finding in importer.result.findings] == code
