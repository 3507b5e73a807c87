"""train-gan from the command line: from images to a generator that loads, once."""

import json
import os
import shlex
import signal
import subprocess
import sys
import zipfile
from contextlib import suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from cli import cli
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.pictures import png_bytes
from pipeline.registry import run_command_line
from stages.train_gan import Config, _command

ROOT = Path(__file__).parents[2]
SMALL = [
    *("--resolution", "16", "--generator-channels", "8,8,8", "--discriminator-channels", "8,8,8"),
    *("--z-dim", "8", "--w-dim", "8", "--mapping-layers", "2", "--batch", "8", "--processes", "1"),
    *("--kimg", "0.04", "--device", "cpu", "--quiet"),
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def photographs(folder: Path, count: int = 20) -> Path:
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (count, 20, 24, 3), dtype=np.uint8)
    for index, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{index:03d}.png")
    return folder


def train_gan(*options: str) -> int:
    return run_command_line(cli, ["train-gan", *SMALL, *options], "python cli.py")


def test_folder_of_images_becomes_a_generator_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = photographs(tmp_path / "photos")
    assert train_gan("--images", str(folder)) == 0
    out = tmp_path / "outputs" / "default" / "train-gan"
    record = json.loads((out / "run.json").read_text())
    assert record["kind"] == "gan"
    assert record["figures"]["images_shown"] == 40
    loaded = load_gan(out)
    assert loaded.generator.config.resolution == 16
    assert loaded.discriminator is not None
    assert loaded.card is not None
    assert loaded.card["data"]["description"] == "images of the folder photos"
    assert loaded.card["command"].startswith("python cli.py train-gan --images photos --resolution 16 ")
    assert str(tmp_path) not in (out / "card.json").read_text()
    assert "20 of 20 images of the folder photos are used" in (out / "report.html").read_text()
    before = (out / "generator.safetensors").stat().st_mtime_ns
    assert train_gan("--images", str(folder)) == 0
    assert (out / "generator.safetensors").stat().st_mtime_ns == before


def test_command_on_the_card_is_one_that_the_command_line_takes() -> None:
    config = Config(images=Path("a") / "my photos", mirror=False, tensorboard=True, kimg=5.0)
    assert _command(config) == ("python cli.py train-gan --images 'my photos' --kimg 5.0 --no-mirror --tensorboard")
    assert run_command_line(cli, [*shlex.split(_command(config))[2:], "-n"], "python cli.py") == 0


def test_renders_are_kept_for_the_next_run(tmp_path: Path) -> None:
    assert train_gan("--num-images", "16", "--run", "first") == 0
    cache = tmp_path / "outputs" / "cache" / "cars-16-16-0" / "images.npy"
    made = cache.stat().st_mtime_ns
    start = tmp_path / "outputs" / "first" / "train-gan" / "checkpoints" / "step-00000005.safetensors"
    assert train_gan("--num-images", "16", "--run", "second", "--start", str(start), "--kimg", "0.048") == 0
    assert cache.stat().st_mtime_ns == made
    cards = [load_gan(tmp_path / "outputs" / run / "train-gan").card for run in ("first", "second")]
    assert [card["images"] for card in cards if card] == [40, 48]
    assert cards[0] is not None
    assert cards[0]["data"]["description"] == "16 renders of the cars world at 16 px"
    page = (tmp_path / "outputs" / "first" / "train-gan" / "report.html").read_text()
    assert "16 renders of the cars world at 16 px." in page
    stored = np.load(cache)
    stored[0, 0, 0] ^= 1
    np.save(cache, stored)
    assert train_gan("--num-images", "16", "--run", "third") == 2


def test_irregular_images_are_counted_named_and_treated_as_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photographs(tmp_path / "photos")
    (folder / "bad.png").write_bytes(b"not a picture")
    for index in range(10):
        Image.fromarray(np.full((16, 16, 3), index * 20, np.uint8)).save(folder / f"good{index}.png")
    assert train_gan("--images", str(folder), "--irregular", "refuse") == 2
    message = capsys.readouterr().err
    assert "20 not square: 000.png, 001.png, 002.png, ...; 1 damaged: bad.png" in message
    assert "Traceback" not in message
    out = tmp_path / "outputs" / "default" / "train-gan"
    assert len(json.loads((out / "images.json").read_text())["irregular"]["not square"]) == 20
    for policy, used in (("convert", 30), ("skip", 10)):
        assert train_gan("--images", str(folder), "--irregular", policy) == 0
        figures = json.loads((out / "run.json").read_text())["figures"]
        assert (figures["images_found"], figures["images_used"]) == (31, used)
        assert figures["irregular_images"] == "20 not square, 1 damaged"
        assert ["bad.png", "not a readable image"] in [
            [name, reason.split(" (")[0]] for name, reason in json.loads((out / "images.json").read_text())["left_out"]
        ]


def test_snapshot_of_the_lowest_frechet_distance_is_the_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = photographs(tmp_path / "photos")
    assert train_gan("--images", str(folder), "--fd-samples", "20") == 2  # of what world?
    assert "--fd-features imagenet" in capsys.readouterr().err
    assert train_gan("--num-images", "24", "--fd-samples", "20", "--sample-kimg", "0.016") == 0
    out = tmp_path / "outputs" / "default" / "train-gan"
    measured = [line for line in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "fd" in line]
    best = min(measured, key=lambda line: line["fd"])
    figures, card = json.loads((out / "run.json").read_text())["figures"], load_gan(out).card
    assert card is not None
    assert figures["fd"] == card["snapshot"]["fd"] == best["fd"]
    assert figures["best_snapshot"] == card["snapshot"]["name"] == best["snapshot"]
    assert card["images"] == best["images"]
    assert card["world"] == load_gan(out / "snapshots" / best["snapshot"]).world == "cars"


@pytest.mark.parametrize("kind", ["zip", "hdf5"])
def test_archive_or_hdf5_of_images_becomes_a_generator(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    path = tmp_path / f"images.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for index, image in enumerate(pixels):
                archive.writestr(f"00000/img{index:08d}.png", png_bytes(image))
            archive.writestr("dataset.json", '{"labels": null}')
    else:
        with h5py.File(path, "w") as file:
            file["photos"] = pixels
    options = ["--images-key", "photos"] if kind == "hdf5" else []
    assert train_gan("--images", str(path), *options) == 0
    out = tmp_path / "outputs" / "default" / "train-gan"
    assert np.array_equal(np.load(out / ".images" / "images.npy"), pixels)
    assert json.loads((out / "run.json").read_text())["figures"]["irregular_images"] == "none"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch", "10"], "not a multiple of 4"),
        (["--generator-channels", "8,8"], "give 3 numbers"),
        (["--augment", "sepia"], "unknown augmentation 'sepia'"),
        (["--images", "absent"], "absent"),
        (["--start", "absent.safetensors"], "absent.safetensors"),
        (["--patience-kimg", "5"], "patience_kimg needs fd_samples above 0"),
    ],
)
def test_wrong_option_is_a_sentence(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_gan("--num-images", "16", *options) == 2
    found = capsys.readouterr().err
    assert message in found
    assert "Traceback" not in found


def test_more_images_go_on_from_those_shown(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    assert train_gan("--images", str(folder)) == 0
    out = tmp_path / "outputs" / "default" / "train-gan"
    assert train_gan("--images", str(folder), "--kimg", "0.064") == 0
    steps = [json.loads(line)["images"] for line in (out / "log.jsonl").read_text().splitlines()]
    assert 40 in steps  # of the first run
    assert sorted(steps) == steps
    assert steps[-1] == 64
    assert {path.stem for path in (out / "checkpoints").iterdir()} == {"step-00000005", "step-00000008"}
    assert load_gan(out).card["images"] == 64


def test_ctrl_c_ends_with_130_and_the_same_command_continues(tmp_path: Path) -> None:
    folder = photographs(tmp_path / "photos")
    command = [sys.executable, str(ROOT / "cli.py"), "train-gan", *SMALL, "--images", str(folder)]
    command[command.index("--kimg") + 1] = "0.8"
    out = tmp_path / "outputs" / "default" / "train-gan"
    options = ["--sample-kimg", "1000", "--checkpoint-minutes", "0.01"]
    process = subprocess.Popen([*command, *options], env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=tmp_path)
    while process.poll() is None and not list(out.glob("checkpoints/*.safetensors")):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not (out / "run.json").exists()
    assert json.loads((out / "progress.json").read_text())["reached"] != "0 of 800 images"
    assert subprocess.run([*command, *options], cwd=tmp_path, check=False).returncode == 0
    assert json.loads((out / "run.json").read_text())["figures"]["images_shown"] == 800
