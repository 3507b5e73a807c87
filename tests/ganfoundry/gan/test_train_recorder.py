"""What a run writes: Frechet distances, the best snapshot as the result, early stops, the report, TensorBoard."""

import io
import json
import re
import sys
import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan import train_board, train_log, train_recorder
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.quality import frechet_distance
from ganfoundry.gan.train_log import read_log
from ganfoundry.gan.train_recorder import FD_SEED, FrechetCurve, Recorder, latents, sample_images
from ganfoundry.gan.train_report import write_report
from ganfoundry.gan.training import continues_at, train, write_gan
from tests.ganfoundry.gan.trainhelp import distance, state_on, tiny

MEASURED: dict[str, Any] = {"sample_kimg": 0.016, "fd_samples": 8, "world": "cars", "log_steps": 1}


class MeanColour:
    """Features that cost nothing: the mean of each channel."""

    name, dim = "mean", 3

    def __init__(self, renders: object = None, folder: Path | None = None) -> None:
        pass

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return images.mean(axis=(1, 2), dtype=np.float32)


@pytest.fixture
def cheap_features(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_recorder, "AnnotatorFeatures", MeanColour)


def scripted(monkeypatch: pytest.MonkeyPatch, distances: list[float]) -> None:
    """Let the Frechet distance be what is written here."""
    values = iter(distances)
    monkeypatch.setattr(train_recorder.FrechetCurve, "__call__", lambda *_: next(values))


def test_distance_is_that_of_fixed_samples_at_psi_1_from_training_images(images: Path) -> None:
    generator, pixels = state_on(tiny()).average, np.load(images)
    curve = FrechetCurve(pixels, tiny(fd_samples=20, world="cars"))
    fake = sample_images(generator, latents(generator, 20, FD_SEED), 1.0)
    assert fake.shape == (20, 16, 16, 3)
    real = pixels[np.linspace(0, 39, 20).astype(int)]
    assert curve(generator) == pytest.approx(frechet_distance(curve.extractor(real), curve.extractor(fake)), rel=1e-6)
    assert curve(generator) == curve(generator) > 0
    assert curve.extractor.name == "annotator"


@pytest.mark.usefixtures("cheap_features")
def test_distances_are_logged_and_training_is_the_same_without_them(tmp_path: Path, images: Path) -> None:
    plain = train(tiny(kimg=0.048), images, tmp_path / "plain")
    measured = train(tiny(kimg=0.048, **MEASURED), images, tmp_path / "out")
    assert distance(plain, measured) == 0.0
    lines = [line for line in read_log(tmp_path / "out") if "fd" in line]
    assert [(line["step"], line["snapshot"]) for line in lines] == [
        (2, "kimg-000000.016"),
        (4, "kimg-000000.032"),
        (6, "kimg-000000.048"),
    ]
    for line in lines:
        assert load_gan(tmp_path / "out" / "snapshots" / line["snapshot"]).card["images"] == line["images"]
    curve = FrechetCurve(np.load(images), tiny(fd_samples=8, world="cars"))
    assert lines[-1]["fd"] == pytest.approx(curve(measured.average), abs=1e-4)


@pytest.mark.usefixtures("cheap_features")
def test_time_of_samples_is_not_in_the_images_per_second(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(train_recorder.time, "monotonic", lambda: now[0])
    state = state_on(tiny(sample_kimg=0.008, log_steps=1))
    recorder = Recorder(state, tmp_path, np.load(images))
    monkeypatch.setattr(recorder, "_report", lambda: now.__setitem__(0, now[0] + 100.0))
    for _ in range(2):
        now[0] += 2.0
        state.step, state.images = state.step + 1, state.images + 8
        recorder.after_step({"generator_loss": torch.tensor(1.0)})
    lines = read_log(tmp_path)
    assert [line["images_per_second"] for line in lines] == [4.0, 4.0]
    assert [line["seconds"] for line in lines] == [2.0, 104.0]


def test_patience_ends_the_run_and_the_best_snapshot_is_the_result(
    tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_recorder, "AnnotatorFeatures", MeanColour)
    scripted(monkeypatch, [9.0, 3.0, 5.0, 4.0, 3.5])
    out, config = tmp_path / "out", tiny(kimg=1.0, patience_kimg=0.03, **MEASURED)
    state = train(config, images, out)
    assert state.images == 72  # the fourth tick at 64, and the step on which all processes agree to end
    best = write_gan(out, state, {}, "command")
    assert best is not None
    assert (best.name, best.fd) == ("kimg-000000.032", 3.0)
    result, snapshot = load_gan(out), load_gan(out / "snapshots" / best.name)
    torch.testing.assert_close(result.generator.state_dict(), snapshot.generator.state_dict(), rtol=0, atol=0)
    assert result.card is not None
    assert (result.card["images"], result.card["steps"]) == (32, 4)
    assert result.card["snapshot"] == {"name": "kimg-000000.032", "step": 4, "images": 32, "fd": 3.0}
    page = (out / "report.html").read_text()
    assert "Ended: no lower Frechet distance than 3, of kimg-000000.032" in page


def test_samples_at_the_end_but_not_when_interrupted(tmp_path: Path, images: Path) -> None:
    for interrupted in (True, False):
        recorder = Recorder(state_on(tiny()), tmp_path / str(interrupted), np.load(images))
        recorder.out.mkdir()
        recorder.state.step, recorder.state.images = 1, 8
        recorder.after_step({"generator_loss": torch.tensor(1.0)})
        recorder.finish(interrupted=interrupted)
        assert (recorder.out / "samples").exists() is not interrupted
        assert (recorder.out / "report.html").exists()
        assert continues_at(recorder.out) == 8


def test_hopeless_run_ends_with_a_sentence(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_log, "WATCHED_IMAGES", 100)
    monkeypatch.setattr(train_log, "SAME_SCORE", 1e9)
    with pytest.raises(RunError, match=r"has collapsed.* earlier snapshot in .*out/snapshots \(--start\)"):
        train(tiny(kimg=10.0, log_steps=1, checkpoint_minutes=1e-9), images, tmp_path / "out")
    assert continues_at(tmp_path / "out") > 0
    assert "has collapsed" in (tmp_path / "out" / "report.html").read_text()


# ------------------------------------------------------------------------------------------------ report


@pytest.mark.usefixtures("cheap_features")
def test_report_shows_samples_curves_images_and_recipe(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    found = {
        "source": "<b>photos</b>",
        "kind": "folder",
        "irregular_images": "convert",
        "found": 50,
        "used": 40,
        "irregular": {"grey": ["a.png"], "damaged": [f"{index}.png" for index in range(25)]},
        "left_out": [[f"<i>{index}.png", "not a readable image"] for index in range(25)],
        "duplicates": [["b.png", "a.png"]],
        "other_files": {},
    }
    (out / "images.json").write_text(json.dumps(found))
    train(tiny(**MEASURED), images, out)
    page = (out / "report.html").read_text()
    for text in (
        "Losses",
        "Scores of the discriminator",
        "Frechet distance",
        "Gradient penalty R1",
        "Images per second",
    ):
        assert f"<h3>{text}</h3>" in page
    assert page.count("<svg") == 5
    assert "80 of 80 images shown" in page
    assert "40 of 50 images of the folder &lt;b&gt;photos&lt;/b&gt; are used; 1 of them are duplicates" in page
    assert "&lt;i&gt;0.png" in page
    assert "and 5 more, in images.json" in page
    assert "24 of the 40 training images" in page
    assert "<td>learning_rate</td><td>0.0025</td>" in page
    assert "1 process of one thread" in page
    links = set(re.findall(r'href="(samples/[^"]+)"', page))
    assert len(links) == 10  # 5 moments, psi 0.7 and 1
    assert all((out / link).is_file() for link in links)
    assert "<script" not in page
    assert not re.search(r'src="(?!data:)', page)


def test_report_of_a_long_run_stays_small(tmp_path: Path, images: Path) -> None:
    state, rng = state_on(tiny()), np.random.default_rng(0)
    for index in range(3000):
        values = {"generator_loss": rng.random(), "r1": rng.random(), "augment_p": 0.1, "other_thing": 1.0}
        train_log.append_line(tmp_path, {"step": index, "images": index * 800, "seconds": 1.0, **values})
    path = write_report(tmp_path, state, np.load(images))
    assert path.stat().st_size < 100_000
    assert "<h3>Probability of augmentation</h3>" in path.read_text()
    assert "<h3>other thing</h3>" in path.read_text()


# ------------------------------------------------------------------------------------------------ TensorBoard


class FakeWriter:
    """Takes note of the calls that `torch.utils.tensorboard.SummaryWriter` would get."""

    made: list["FakeWriter"] = []  # noqa: RUF012

    def __init__(self, folder: str, purge_step: int, flush_secs: int) -> None:
        self.folder, self.purge_step, self.closed = folder, purge_step, False
        self.scalars: list[tuple[str, int]] = []
        self.pictures: list[tuple[str, tuple[int, ...], int, str]] = []
        FakeWriter.made.append(self)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.scalars.append((name, step))

    def add_image(self, name: str, pixels: np.ndarray, step: int, dataformats: str) -> None:
        self.pictures.append((name, pixels.shape, step, dataformats))

    def close(self) -> None:
        self.closed = True


def test_tensorboard_gets_the_log_and_the_grids(tmp_path: Path, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_board, "_summary_writer", lambda: FakeWriter)
    FakeWriter.made.clear()
    config = tiny(kimg=0.032, sample_kimg=0.016, tensorboard=True)
    train(config, images, tmp_path / "out")
    train(replace(config, kimg=0.048), images, tmp_path / "out")
    first, second = FakeWriter.made
    assert (first.folder, first.purge_step, first.closed) == (str(tmp_path / "out" / "track"), 1, True)
    assert second.purge_step == 33  # TensorBoard hides this step and what follows
    assert {("generator_loss", 16), ("images_per_second", 32)} <= set(first.scalars)
    shape = (8 * 18 - 2, 12 * 18 - 2, 3)
    assert first.pictures[:2] == [("samples/psi1.0", shape, 16, "HWC"), ("samples/psi0.7", shape, 16, "HWC")]


def test_missing_tensorboard_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r'not installed; pip install "ganfoundry\[tensorboard\]"'):
        train_board.require_tensorboard()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=FakeWriter))
    train_board.require_tensorboard()


def test_tensorboard_reads_what_was_written(tmp_path: Path, images: Path) -> None:
    """A real run that was interrupted, read back by TensorBoard's own reader."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = tiny(kimg=0.032, sample_kimg=0.016, log_steps=1, tensorboard=True)
    train(config, images, tmp_path)
    train(replace(config, kimg=0.048), images, tmp_path)
    events = reader.EventAccumulator(str(tmp_path / "track"))
    events.Reload()
    log = [line for line in read_log(tmp_path) if "generator_loss" in line]
    assert [(event.step, event.value) for event in events.Scalars("generator_loss")] == [
        (line["images"], pytest.approx(line["generator_loss"])) for line in log
    ]
    assert [line["images"] for line in log] == list(range(8, 49, 8))
    pictures = events.Images("samples/psi0.7")
    assert [picture.step for picture in pictures] == [16, 32, 48]
    with Image.open(io.BytesIO(pictures[-1].encoded_image_string)) as picture:
        shown = np.asarray(picture)
    with Image.open(sorted((tmp_path / "samples").glob("*-psi0.7.png"))[-1]) as picture:
        np.testing.assert_array_equal(shown, np.asarray(picture))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r1_gamma": float("nan")}, "not finite: r1_gamma = nan"),
        ({"kimg": float("inf")}, "not finite: kimg = inf"),
        ({"fd_samples": 1}, "fd_samples is 1, use 0 or 2 and more"),
        ({"fd_features": "inception"}, "fd_features is 'inception'"),
        ({"patience_kimg": 5.0}, "patience_kimg needs fd_samples"),
        ({"fd_samples": 8}, "belong to no world .* --fd-features imagenet"),
        ({"fd_samples": 8, "world": "boats"}, "no boats-annotator ships .* --fd-features imagenet"),
        ({"patience_kimg": -1.0, "fd_samples": 8, "world": "cars"}, "must not be negative"),
    ],
)
def test_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny(**options)
