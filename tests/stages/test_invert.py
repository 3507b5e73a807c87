"""invert from the command line: pictures to latents, resumable, and a sentence for whatever is wrong."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import stages.invert as stage
from cli import cli
from ganfoundry.data.shards import ShardReader
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.inversion import psnr
from ganfoundry.gan.latent_spaces import load_latents
from ganfoundry.images import stored_images
from pipeline.registry import run_command_line
from tests.ganfoundry.gan.inversion.invhelp import samples, write_gan

QUICK = ("--steps", "8", "--batch", "2", "--encoder-steps", "3", "--tuning-steps", "3")
MADE = ("latents.safetensors", "inversions.json", "inversions.png")


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def gan(tmp_path: Path) -> Path:
    return write_gan(tmp_path / "gan")


@pytest.fixture
def album(tmp_path: Path, gan: Path) -> Path:
    """Three samples of the generator, a large grey picture and a damaged file."""
    folder = tmp_path / "album"
    folder.mkdir()
    for index, image in enumerate(samples(load_gan(gan), 3)[1]):
        Image.fromarray(image).save(folder / f"s{index}.png")
    Image.new("L", (40, 30), 90).save(folder / "grey.png")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    return folder


def invert(gan: Path, images: Path, *options: str) -> int:
    arguments = ["invert", "--gan", str(gan), "--images", str(images), *QUICK, *options, "--quiet"]
    return run_command_line(cli, arguments, "python cli.py")


def out(run: str = "default") -> Path:
    return Path("outputs") / run / "invert"


def digests(folder: Path) -> dict[str, str]:
    files = [*MADE, *(str(path.relative_to(folder)) for path in sorted(folder.glob("shards/shard-*.h5")))]
    files += [str(path.relative_to(folder)) for path in sorted(folder.glob("tuned/*/*"))]
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in files}


def test_a_folder_becomes_latents_a_table_and_a_picture(gan: Path, album: Path) -> None:
    assert invert(gan, album) == 0
    loaded, table = load_gan(gan), json.loads((out() / "inversions.json").read_text())
    latents = load_latents(out() / "latents.safetensors", loaded.generator, "W", loaded.sha256)
    reader = ShardReader(out() / "shards")
    with torch.no_grad():
        images = stored_images(loaded.generator.synthesis(latents.tensors["w"]))
    assert np.array_equal(images, reader.read("inverted_image"))
    assert [row["name"] for row in table["images"]] == ["grey.png", "s0.png", "s1.png", "s2.png"]
    assert [row["psnr"] for row in table["images"]] == pytest.approx(psnr(images, reader.read("image")), abs=1e-3)
    assert all(row["steps"] == 8 and row["distance"] >= 0 and row["perceptual"] > 0 for row in table["images"])
    assert table["irregular"] == {"grey": ["grey.png"], "not square": ["grey.png"]}
    assert [entry["name"] for entry in table["damaged"]] == ["bad.png"]
    assert table["discriminator_features"] is True
    record = json.loads((out() / "run.json").read_text())
    assert record["kind"] == "inversions"
    assert record["figures"]["damaged_images"] == 1
    assert not (out() / ".images.npy").exists()
    with Image.open(out() / "inversions.png") as picture:
        assert picture.size == (8 * 130 - 2, 2 * (128 + 13 + 2) - 2)  # two pictures of four tiles in a row
    assert len(list(Path("outputs/cache").glob("encoder-*"))) == 1


def test_an_interrupted_run_continues_with_the_same_bytes(
    gan: Path, album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = ("--method", "pivotal")
    assert invert(gan, album, *method, "--run", "whole") == 0
    done: list[int] = []

    def interrupted(task: stage.InvertTask) -> dict[str, object]:
        if done:
            raise KeyboardInterrupt
        done.append(task.shard.index)
        return invert_rows(task)

    def tuned_once(task: stage.TuneTask) -> None:
        if task.row == 2:
            raise KeyboardInterrupt
        tune_picture(task)

    invert_rows, tune_picture = stage.invert_rows, stage.tune_picture
    with monkeypatch.context() as patch:
        patch.setattr(stage, "invert_rows", interrupted)
        assert invert(gan, album, *method) == 130
    assert len(list(out().glob("shards/shard-*.h5"))) == 1
    before = next(out().glob("shards/shard-*.h5")).stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(stage, "tune_picture", tuned_once)
        assert invert(gan, album, *method) == 130
    assert not (out() / "run.json").exists()
    assert invert(gan, album, *method) == 0
    assert next(iter(sorted(out().glob("shards/shard-*.h5")))).stat().st_mtime_ns == before
    assert digests(out()) == digests(out("whole"))


def test_pivotal_tuning_writes_a_generator_for_each_picture(gan: Path, album: Path) -> None:
    assert invert(gan, album / "s1.png", "--method", "pivotal", "--tuning-steps", "30", "--tuning-rate", "0.01") == 0
    (row,) = json.loads((out() / "inversions.json").read_text())["images"]
    tuned, original = load_gan(out() / row["tuned"]["folder"]), load_gan(gan)
    w = load_latents(out() / "latents.safetensors", original.generator, "W", original.sha256).tensors["w"]
    with torch.no_grad():
        made = stored_images(tuned.generator.synthesis(w))
    assert row["tuned"]["psnr"] == pytest.approx(
        psnr(made, np.asarray(Image.open(album / "s1.png"))[None])[0], abs=1e-3
    )
    assert row["tuned"]["psnr"] > row["psnr"] + 1
    assert tuned.sha256 != original.sha256
    assert tuned.discriminator is not None
    assert tuned.card["source_sha256"] == original.sha256
    assert invert(out() / row["tuned"]["folder"], album / "s1.png", "--run", "again") == 0


def test_w_plus_from_the_mean_without_a_discriminator(tmp_path: Path, album: Path) -> None:
    plain = write_gan(tmp_path / "plain", discriminator=False)
    assert invert(plain, album, "--method", "w+", "--encoder-steps", "0") == 0
    table = json.loads((out() / "inversions.json").read_text())
    assert table["discriminator_features"] is False
    assert table["start"] == "mean"
    assert all(row["perceptual"] is None for row in table["images"])
    assert load_latents(out() / "latents.safetensors", load_gan(plain).generator, "W+").tensors["ws"].shape == (4, 6, 8)
    assert not Path("outputs/cache").exists()


def test_a_second_run_finds_everything_done_and_the_encoder_is_kept(gan: Path, album: Path) -> None:
    assert invert(gan, album / "s0.png") == 0
    (encoder,) = Path("outputs/cache").glob("encoder-*/*.safetensors")
    times = [path.stat().st_mtime_ns for path in (encoder, out() / "latents.safetensors")]
    assert invert(gan, album / "s0.png") == 0
    assert invert(gan, album / "s1.png", "--run", "other") == 0
    assert [path.stat().st_mtime_ns for path in (encoder, out() / "latents.safetensors")] == times


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--images", "absent"), "absent"),
        (("--images", "empty"), "empty"),
        (("--images", "album/bad.png"), "no readable picture"),
        (("--damaged", "refuse"), "bad.png"),
        (("--background", "no-colour"), "no-colour"),
        (("--pixel-weight", "0", "--perceptual-weight", "0"), "weight above 0"),
        (("--method", "z"), "w+"),
    ],
)
def test_bad_input_is_one_sentence(
    gan: Path, album: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], words: str
) -> None:
    Path("empty").mkdir()
    assert invert(gan, album, *options) == 2
    text = capsys.readouterr().err
    assert words in text
    assert text.count("Error: ") == 1
    assert "Traceback" not in text
    assert not (out() / "run.json").exists()


def test_a_damaged_encoder_is_named(gan: Path, album: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert invert(gan, album / "s0.png") == 0
    (encoder,) = Path("outputs/cache").glob("encoder-*/*.safetensors")
    encoder.write_bytes(encoder.read_bytes()[:99])
    assert invert(gan, album / "s1.png") == 2
    assert "encoder.safetensors is not a readable encoder" in capsys.readouterr().err
