"""The benchmark of generators, whole, on a tiny untrained one."""

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import generator_quality
from benchmarks.views import codes_of
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan, save_gan
from ganfoundry.gan.config import GeneratorConfig
from ganfoundry.gan.stylegan2 import Generator


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A generator of 16 px noise, and sizes of seconds; results go into a folder of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"QUICK_SAMPLES": 15, "DETECTED": 6, "CHUNK": 8}.items():
        monkeypatch.setattr(generator_quality, name, value)
    config = GeneratorConfig(resolution=16, channels={4: 8, 8: 8, 16: 8}, z_dim=8, w_dim=8, num_mapping_layers=2)
    save_gan(tmp_path / "tiny", Generator(config), None, {"data": {"description": "9 renders of the cars world at 16"}})
    return tmp_path / "tiny"


def options(gan: Path, **others: object) -> argparse.Namespace:
    table: dict[str, object] = {"gan": str(gan), "world": None, "codes": None, "grid": None, "quick": True}
    return argparse.Namespace(**{**table, **others})


def without_imagenet() -> None:
    raise InputError("not installed")


def test_every_figure_is_there_and_noise_is_worse_than_renders(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator_quality, "ImageNetFeatures", without_imagenet)
    figures = generator_quality.evaluate(options(tiny, grid=Path("grid.png")))
    printed = capsys.readouterr().out
    json.dumps(figures, allow_nan=False)
    for suffix in generator_quality.NAMES:
        for name in ("fd", "precision", "recall", "single_object"):
            assert {f"{name}{suffix}{end}" for end in ("", "_group_mean", "_group_std")} <= set(figures)
    assert figures["fd_floor"] < figures["fd"]
    assert figures["fd_floor"] < figures["fd_blurred"]
    assert figures["precision"] == 0
    assert 0 <= figures["single_object"] <= 1
    assert (figures["samples"], figures["group_size"], figures["world"]) == (15, 5, "cars")
    assert figures["azimuth_std_median"] is None
    assert "note: not installed" in printed
    assert "view control skipped" in printed
    with Image.open("grid.png") as picture:
        assert picture.size == (178, 34)  # two rows of at most ten, 16 px and gaps of 2


def test_cached_renders_are_reused_and_those_of_another_world_refused(tiny: Path) -> None:
    first = np.array(generator_quality.renders("cars", 16, 4))
    file = Path("outputs/cache/quality-cars-16-4/images.npy")
    before = file.stat().st_mtime_ns
    np.testing.assert_array_equal(generator_quality.renders("cars", 16, 4), first)
    assert file.stat().st_mtime_ns == before
    np.save(file, 255 - first)
    with pytest.raises(InputError, match="another version of the world"):
        generator_quality.renders("cars", 16, 4)


def test_samples_follow_their_seeds_not_the_chunks(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_gan(tiny)
    together = generator_quality.samples(loaded, 15, 0.7)
    monkeypatch.setattr(generator_quality, "CHUNK", 4)
    assert np.abs(generator_quality.samples(loaded, 6, 0.7).astype(int) - together[:6]).max() <= 1
    assert len(np.unique(together.reshape(15, -1), axis=0)) == 15


def test_codes_of_another_generator_are_skipped_with_a_note(tiny: Path) -> None:
    notes: list[str] = []
    codes = Path(__file__).parents[3] / "annotations" / "cars" / "views"
    figures = generator_quality.view_figures(options(tiny, codes=codes), load_gan(tiny), "cars", notes.append)
    assert figures == {"azimuth_std_median": None, "azimuth_bins": None, "azimuth_bins_of": 12}
    assert "view control skipped" in notes[0]


def test_codes_are_found_by_the_generator_that_they_belong_to(tiny: Path) -> None:
    loaded = load_gan(tiny)
    for folder, sha256 in (("cars", "0" * 64), ("cars-128", loaded.sha256)):
        (tiny.parent / "annotations" / folder / "views").mkdir(parents=True)
        (tiny.parent / "annotations" / folder / "views" / "codes.json").write_text(
            f'{{"generator_sha256": "{sha256}"}}'
        )
    assert codes_of(loaded) == Path("annotations/cars-128/views")
    (tiny.parent / "annotations" / "cars-128" / "views" / "codes.json").unlink()
    with pytest.raises(InputError, match=r"no viewpoint codes of .*tiny"):
        codes_of(loaded)


def test_a_world_without_networks_gets_what_can_be_measured_without_them(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generator_quality, "ImageNetFeatures", without_imagenet)
    monkeypatch.setattr(generator_quality.weights, "ROOT", tiny.parent)
    figures = generator_quality.evaluate(options(tiny, world="faces", grid=Path("grid.png")))
    printed = capsys.readouterr().out
    assert Path("grid.png").is_file()
    for missing in ("faces-annotator", "faces-detector", "viewpoint codes of"):
        assert f"no {missing}" in printed
    assert (figures["world"], figures["fd"], figures["single_object"]) == ("faces", None, None)
    assert (figures["azimuth_bins"], figures["azimuth_bins_of"]) == (None, 9)


def test_a_card_without_a_world_asks_for_one(tiny: Path) -> None:
    (tiny / "card.json").write_text(json.dumps({"data": "photographs"}))
    with pytest.raises(InputError, match="--world cars"):
        generator_quality.evaluate(options(tiny))
