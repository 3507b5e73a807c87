"""Runs of training: resumed ones equal uninterrupted ones, two processes equal one, failures say what happened."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan import train_distributed
from ganfoundry.gan.checkpoints import load_gan, save_gan
from ganfoundry.gan.filters import upsample
from ganfoundry.gan.train_distributed import Group
from ganfoundry.gan.train_state import checkpoints, set_average_w
from ganfoundry.gan.train_step import (
    training_step,
)
from ganfoundry.gan.training import begin, train, write_gan
from tests.ganfoundry.gan.trainhelp import distance, state_on, tiny

FULL = {"path_weight": 2.0, "path_interval": 4, "r1_interval": 3, "augment": "colour,translation,cutout"}


def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, images: Path) -> None:
    config = tiny(**FULL)
    whole = train(config, images, tmp_path / "whole")
    train(replace(config, kimg=0.04), images, tmp_path / "parts")
    parts = train(config, images, tmp_path / "parts")
    assert (parts.step, parts.images) == (10, 80)
    assert distance(whole, parts) == 0.0
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("whole", "parts")]
    losses = [[(line["step"], line["generator_loss"]) for line in map(json.loads, log)] for log in logs]
    assert losses[1] != []
    assert set(losses[1]) & set(losses[0])


def test_run_writes_samples_snapshots_log_and_few_checkpoints(tmp_path: Path, images: Path) -> None:
    shown: list[int] = []
    train(tiny(checkpoint_minutes=1e-9, sample_kimg=0.04), images, tmp_path / "out", on_progress=shown.append)
    out = tmp_path / "out"
    assert shown == list(range(8, 81, 8))
    assert len(checkpoints(out / "checkpoints")) == 3
    assert sorted(path.name for path in (out / "samples").iterdir()) == [
        f"kimg-000000.0{images}-psi{psi}.png" for images in (40, 80) for psi in ("0.7", "1.0")
    ]
    with Image.open(out / "samples" / "kimg-000000.080-psi1.0.png") as picture:
        assert picture.size == (12 * 18 - 2, 8 * 18 - 2)
    snapshot = load_gan(out / "snapshots" / "kimg-000000.080")
    assert snapshot.discriminator is not None
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 10]
    assert {"images", "images_per_second", "real_score", "fake_score", "generator_loss", "r1"} <= lines[0].keys()


def test_log_lines_of_lost_steps_are_forgotten(tmp_path: Path, images: Path) -> None:
    out = tmp_path / "out"
    train(tiny(kimg=0.04), images, out)
    with (out / "log.jsonl").open("a") as stream:
        stream.write('{"step": 7}\n{"step": 8, "ima')
    train(tiny(), images, out)
    assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()] == [2, 4, 5, 6, 8, 10]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_writes_a_checkpoint(tmp_path: Path, images: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def interrupt(shown: int) -> None:
        if shown == 24:
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), images, tmp_path / "out", on_progress=interrupt)
    assert signal.getsignal(number) is before
    (written,) = checkpoints(tmp_path / "out" / "checkpoints")
    assert written.name == "step-00000004.safetensors"  # the step after the signal
    assert train(tiny(kimg=0.04), images, tmp_path / "out").step == 5


def test_minutes_end_a_run(tmp_path: Path, images: Path) -> None:
    state = train(tiny(kimg=1e6, minutes=1e-5), images, tmp_path / "out")
    assert 1 <= state.step < 100


def test_other_recipe_is_refused_and_free_options_are_not(tmp_path: Path, images: Path) -> None:
    train(tiny(kimg=0.016), images, tmp_path / "out")
    with pytest.raises(InputError, match=r"other options \(learning_rate 0.0025, now 0.001; seed 0, now 1\)"):
        train(tiny(learning_rate=0.001, seed=1), images, tmp_path / "out")
    assert train(tiny(kimg=0.024, log_steps=1), images, tmp_path / "out").step == 3


def test_new_run_from_an_old_checkpoint(tmp_path: Path, images: Path) -> None:
    train(tiny(kimg=0.016), images, tmp_path / "first")
    start = checkpoints(tmp_path / "first" / "checkpoints")[-1]
    second = train(tiny(kimg=0.024, learning_rate=0.001), images, tmp_path / "second", start=start)
    assert (second.step, second.images) == (3, 24)
    with pytest.raises(InputError, match="w_dim 8, now 12"):
        train(tiny(w_dim=12), images, tmp_path / "third", start=start)


def test_new_run_from_a_generator_counts_anew_and_remembers_it(tmp_path: Path, images: Path) -> None:
    write_gan(tmp_path / "gan", train(tiny(kimg=0.016), images, tmp_path / "first"), {}, "command")
    begun = state_on(tiny(seed=5))
    begin(begun, tmp_path / "gan")
    given = load_gan(tmp_path / "gan")
    torch.testing.assert_close(begun.generator.state_dict(), given.generator.state_dict())
    assert given.discriminator is not None
    torch.testing.assert_close(begun.discriminator.state_dict(), given.discriminator.state_dict())
    second = train(tiny(kimg=0.024), images, tmp_path / "second", start=tmp_path / "gan")
    assert (second.step, second.images) == (3, 24)
    write_gan(tmp_path / "gan2", second, {}, "command", tmp_path / "gan")
    assert load_gan(tmp_path / "gan2").card["start"] == {"name": "gan", "sha256": given.sha256, "images": 16}
    with pytest.raises(InputError, match="another architecture"):
        begin(state_on(tiny(w_dim=12)), tmp_path / "gan")
    (tmp_path / "gan" / "discriminator.safetensors").unlink()
    with pytest.raises(InputError, match="no discriminator"):
        begin(state_on(tiny()), tmp_path / "gan")


def test_grown_generator_begins_with_the_images_of_the_smaller_one(tmp_path: Path, images: Path) -> None:
    write_gan(tmp_path / "gan", train(tiny(kimg=0.016), images, tmp_path / "first"), {}, "command")
    wide = {"generator_channels": "8,8,8,6", "discriminator_channels": "8,8,8,6"}
    grown = state_on(tiny(resolution=32, **wide))
    begin(grown, tmp_path / "gan")
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    small = load_gan(tmp_path / "gan").generator
    enlarged = upsample(small(z), small.synthesis.b16.resample_filter)
    torch.testing.assert_close(grown.average(z), enlarged)
    reals = torch.zeros(8, 3, 32, 32)
    training_step(grown, reals, Group())
    assert float((grown.generator(z) - enlarged).detach().abs().max()) > 0
    with pytest.raises(InputError, match=r"synthesis.b16.conv0"):
        begin(state_on(tiny(resolution=32, **dict.fromkeys(wide, "8,6,8,6"))), tmp_path / "gan")
    with pytest.raises(InputError, match=r"32 px has 5 channels; .* give more discriminator_channels"):
        begin(state_on(tiny(resolution=32, **dict.fromkeys(wide, "8,8,8,5"))), tmp_path / "gan")
    save_gan(tmp_path / "large", grown.average, grown.discriminator, {})
    with pytest.raises(InputError, match=r"b32"):
        begin(state_on(tiny()), tmp_path / "large")


def test_recipe_without_noise_leaves_the_noise_of_its_start_behind(tmp_path: Path, images: Path) -> None:
    write_gan(tmp_path / "gan", train(tiny(kimg=0.016), images, tmp_path / "first"), {}, "command")
    state = state_on(tiny(noise=False))
    begin(state, tmp_path / "gan")
    assert not any("noise" in name for name in state.generator.state_dict())
    z = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    with_noise = load_gan(tmp_path / "gan").generator
    torch.testing.assert_close(state.average(z), with_noise(z, noise="none"))
    training_step(state, torch.zeros(8, 3, 16, 16), Group())
    write_gan(tmp_path / "without", state, {}, "command")
    again = load_gan(tmp_path / "without").generator
    torch.testing.assert_close(again(z, noise="const"), again(z, noise="none"), rtol=0, atol=0)
    with pytest.raises(InputError, match="noise_strength"):
        begin(state_on(tiny()), tmp_path / "without")


@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_damaged_checkpoint_is_named(tmp_path: Path, images: Path, damage: str) -> None:
    train(tiny(kimg=0.016), images, tmp_path / "out")
    (path,) = checkpoints(tmp_path / "out" / "checkpoints")
    generator = tmp_path / "out" / "generator.safetensors"
    write_gan(tmp_path / "out", train(tiny(kimg=0.016), images, tmp_path / "out"), {}, "")
    path.write_bytes(path.read_bytes()[:-100] if damage == "truncated" else generator.read_bytes())
    message = "cannot be read as a checkpoint" if damage == "truncated" else "is not a training checkpoint"
    with pytest.raises(InputError, match=f"step-00000002.safetensors {message}"):
        train(tiny(), images, tmp_path / "out")


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_gradient_that_is_not_finite_ends_the_run(tmp_path: Path, images: Path, network: str) -> None:
    out = tmp_path / "out"
    state = train(tiny(kimg=0.016), images, out)
    tensors = {key: value.clone() for key, value in state.tensors().items()}
    next(
        value
        for key, value in tensors.items()
        if key == f"{network}.{'synthesis.b4.const' if network == 'generator' else 'b4.out.weight'}"
    )[0] = float("nan")
    state.load_tensors(tensors)
    before = state.save(out / "checkpoints").read_bytes()
    with pytest.raises(RunError, match="training diverged: the gradient of the generator is not finite"):
        train(tiny(), images, out)
    assert checkpoints(out / "checkpoints")[-1].read_bytes() == before


def test_written_generator_is_the_average_with_its_card(tmp_path: Path, images: Path) -> None:
    state = train(tiny(), images, tmp_path / "out")
    write_gan(tmp_path / "gan", state, {"description": "squares"}, "python cli.py train-gan")
    loaded = load_gan(tmp_path / "gan")
    z = torch.randn(4, 8)
    with torch.no_grad():
        difference = (loaded.generator(z, truncation=0.7) - state.average(z, truncation=0.7)).abs().max()
    assert float(difference) < 5e-3  # float16
    assert loaded.card is not None
    assert (loaded.card["images"], loaded.card["steps"]) == (80, 10)
    assert loaded.card["data"] == {"description": "squares"}
    assert loaded.card["recipe"]["learning_rate"] == 0.0025
    assert loaded.card["sha256"] == loaded.sha256
    assert loaded.card["hours"] >= 0
    assert "process" in loaded.card["hardware"]


def test_centre_of_truncation_is_the_mean_w() -> None:
    generator = state_on(tiny()).generator
    set_average_w(generator)
    with torch.no_grad():
        mean = generator.mapping(torch.randn(50_000, 8)).mean(dim=0)
    torch.testing.assert_close(generator.w_avg, mean, atol=0.03, rtol=0)


# ------------------------------------------------------------------------------------------------ processes


def test_gradients_are_averaged_as_one_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((3,), (2, 2), (4,))]
    parameters[0].grad, parameters[1].grad = torch.arange(3.0), torch.ones(2, 2).T
    other = torch.tensor([1.0, 1.0, 1.0, 5.0, 6.0, 7.0, 8.0, 1.0])  # of a second process, whose flag is set
    monkeypatch.setattr(train_distributed.dist, "all_reduce", lambda vector: vector.add_(other))
    assert Group(0, 2).mean_gradients(parameters, "test")
    assert parameters[0].grad.tolist() == [0.5, 1.0, 1.5]
    assert parameters[1].grad.tolist() == [[3.0, 3.5], [4.0, 4.5]]
    assert parameters[2].grad is None
    assert not Group().mean_gradients(parameters, "test")
    assert Group().mean_gradients(parameters, "test", flag=True)


def test_two_processes_train_like_one(tmp_path: Path, images: Path) -> None:
    config = tiny(**FULL, kimg=0.04)
    alone = train(config, images, tmp_path / "alone")
    shown: list[int] = []
    both = train(replace(config, processes=2), images, tmp_path / "both", on_progress=shown.append)
    assert shown[-1] == 40
    assert min(shown) > 0  # nothing is said before the first step: a continued run would seem to go back
    assert distance(alone, both) < 1e-4


def test_killed_process_ends_the_run_with_its_checkpoint_kept(tmp_path: Path, images: Path) -> None:
    out, victims = tmp_path / "out", []

    def kill_one(shown: int) -> None:
        if shown > 8 and checkpoints(out / "checkpoints") and not victims:
            victims.extend(child.pid for child in train_distributed.multiprocessing.active_children())
            os.kill(max(victims), signal.SIGKILL)

    config = tiny(processes=2, kimg=1e6, checkpoint_minutes=1e-3)
    with pytest.raises(RunError, match=r"training process \d was killed by SIGKILL; run the same command again"):
        train(config, images, out, on_progress=kill_one)
    deadline = time.monotonic() + 5
    while train_distributed.multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not train_distributed.multiprocessing.active_children()
    last = checkpoints(out / "checkpoints")[-1]
    assert load_file(last)
    assert train(replace(config, processes=1, kimg=0.001), images, out).step > 0
