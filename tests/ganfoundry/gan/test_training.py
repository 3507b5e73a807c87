"""Training: resumed runs equal uninterrupted ones, two processes equal one, and failures say what happened."""

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan import train_distributed
from ganfoundry.gan.checkpoints import load_gan, save_gan
from ganfoundry.gan.filters import upsample
from ganfoundry.gan.train_config import TrainingConfig, channel_map
from ganfoundry.gan.train_data import BatchOrder, open_images
from ganfoundry.gan.train_distributed import Group
from ganfoundry.gan.train_state import TrainingState, checkpoints, set_average_w
from ganfoundry.gan.train_step import (
    draw_fakes,
    map_fakes,
    phase_generator,
    process_rows,
    real_batch,
    training_step,
    update_average,
)
from ganfoundry.gan.training import begin, choose_device, train, write_gan
from tests.ganfoundry.gan.trainhelp import distance, state_on, tiny, tiny_images

FULL = {"path_weight": 2.0, "path_interval": 4, "r1_interval": 3, "augment": "colour,translation,cutout"}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return tiny_images(tmp_path / "images.npy")


def steps(state: TrainingState, images: Path, count: int) -> list[dict[str, float]]:
    """Take some steps in this process; their losses."""
    config, pixels = state.config, open_images(images, 16, state.config.batch)
    order, rows = BatchOrder(len(pixels), config.batch, config.seed), process_rows(config.batch, 0, 1)
    found = []
    for _ in range(count):
        stats, _ = training_step(state, real_batch(config, pixels, order, rows, state.step), Group())
        found.append({name: float(value) for name, value in stats.items()})
    return found


# ------------------------------------------------------------------------------------------------ recipe


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("resolution", 48, "not a power of two"),
        ("resolution", 4, "not a power of two"),
        ("generator_channels", "8,8", "generator_channels is '8,8'; give 3 numbers"),
        ("discriminator_channels", "8,x,8", "discriminator_channels"),
        ("generator_channels", "8,0,8", "give 3 numbers"),
        ("kimg", 0.0, "kimg is 0.0, it must be above 0"),
        ("r1_gamma", -1.0, "must not be negative"),
        ("processes", 0, "at least 1"),
        ("style_mixing", 1.5, r"lie in \[0, 1\]"),
        ("precision", "fp16", "use bf16 or fp32"),
        ("batch", 10, "not a multiple of 4"),
        ("augment", "sepia", "unknown augmentation 'sepia'"),
    ],
)
def test_wrong_option_is_named(option: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny(**{option: value})


def test_batch_must_give_every_process_whole_groups() -> None:
    assert tiny(batch=16, processes=4).batch == 16
    with pytest.raises(InputError, match=r"not a multiple of 16 .*4 processes"):
        tiny(batch=24, processes=4)


def test_channels_are_listed_from_4_px_up() -> None:
    assert channel_map("128, 96,64", 16, "channels") == {4: 128, 8: 96, 16: 64}
    config = TrainingConfig()
    state = state_on(config)
    assert dict(state.generator.config.channels) == {4: 128, 8: 128, 16: 96, 32: 64, 64: 32}
    assert dict(state.discriminator.config.channels) == {4: 128, 8: 128, 16: 96, 32: 64, 64: 32}


def test_unknown_device() -> None:
    with pytest.raises(InputError, match="use auto, cpu or cuda"):
        choose_device("tpu")
    assert choose_device("cpu").type == "cpu"


# ------------------------------------------------------------------------------------------------ one step


def test_processes_take_whole_groups_and_all_rows() -> None:
    batch, size = 24, 3
    rows = [process_rows(batch, rank, size) for rank in range(size)]
    assert sorted(torch.cat(rows).tolist()) == list(range(batch))

    def groups(indices: torch.Tensor) -> set[frozenset[int]]:
        """Sets of images that minibatch_stddev compares among these."""
        return {frozenset(column) for column in indices.reshape(4, -1).T.tolist()}

    assert set.union(*[groups(part) for part in rows]) == groups(torch.arange(batch))


def test_draws_depend_on_seed_step_and_phase_alone() -> None:
    first = torch.rand(4, generator=phase_generator(1, 2, 3, torch.device("cpu")))
    torch.rand(100)
    assert torch.equal(first, torch.rand(4, generator=phase_generator(1, 2, 3, torch.device("cpu"))))
    for other in ((0, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert not torch.equal(first, torch.rand(4, generator=phase_generator(*other, torch.device("cpu"))))


def test_style_mixing_share_and_crossover() -> None:
    config = tiny(batch=4000, style_mixing=0.9)
    network = state_on(tiny()).generator
    fakes = draw_fakes(config, network, torch.arange(4000), torch.Generator().manual_seed(0))
    mixed = fakes.crossover < network.num_ws
    assert float(mixed.float().mean()) == pytest.approx(0.9, abs=0.02)
    assert set(fakes.crossover.tolist()) == set(range(1, network.num_ws + 1))
    ws = map_fakes(network, fakes)
    w, w_mix = network.mapping(fakes.z), network.mapping(fakes.z_mix)
    for row in range(8):
        cut = int(fakes.crossover[row])
        assert torch.equal(ws[row, :cut], w[row].expand(cut, -1))
        assert torch.equal(ws[row, cut:], w_mix[row].expand(network.num_ws - cut, -1))


def test_reals_are_scaled_and_half_of_them_mirrored(images: Path) -> None:
    gradient = np.zeros((64, 16, 16, 3), np.uint8) + np.arange(16, dtype=np.uint8)[None, None, :, None] * 17
    config = tiny(batch=64)
    reals = real_batch(config, gradient, BatchOrder(64, 64, 0), torch.arange(64), 0)
    assert reals.shape == (64, 3, 16, 16)
    assert (float(reals.min()), float(reals.max())) == (-1.0, 1.0)
    mirrored = reals[:, 0, 0, 0] > 0
    assert 16 < int(mirrored.sum()) < 48
    plain = real_batch(replace(config, mirror=False), gradient, BatchOrder(64, 64, 0), torch.arange(64), 0)
    assert not (plain[:, 0, 0, 0] > 0).any()


def test_regularisers_take_a_step_of_their_own_when_due(images: Path) -> None:
    found = steps(state_on(tiny(**FULL)), images, 7)
    assert [index for index, stats in enumerate(found) if "r1" in stats] == [0, 3, 6]
    assert [index for index, stats in enumerate(found) if "path_length" in stats] == [0, 4]
    state = state_on(tiny(**FULL))
    steps(state, images, 7)
    counts = {int(moments["step"]) for moments in state.discriminator_adam.state.values()}
    assert counts == {7, 10}  # what R1 does not reach (the last bias) has no gradient in its steps


def test_discriminator_gets_no_gradient_in_the_generator_phase(images: Path) -> None:
    state = state_on(tiny())
    before = [parameter.clone() for parameter in state.discriminator.parameters()]
    state.discriminator_adam.param_groups[0]["lr"] = 0.0
    steps(state, images, 2)
    assert all(torch.equal(*pair) for pair in zip(before, state.discriminator.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in state.discriminator.parameters())


def test_average_follows_the_generator(images: Path) -> None:
    state = state_on(tiny(ema_kimg=0.008, ema_rampup=1e9))  # half-life: one batch
    start = state.average.synthesis.b4.const.clone()
    state.images = 8
    with torch.no_grad():
        state.generator.synthesis.b4.const += 1.0
    update_average(state)
    torch.testing.assert_close(state.average.synthesis.b4.const, start + 0.5)


GOLDEN_GENERATOR = [0.57366, 0.52992, 0.55917, 0.65416, 0.55354]
GOLDEN_DISCRIMINATOR = [1.45396, 1.54421, 1.45717, 1.41203, 1.44084]


def test_five_seeded_steps_have_the_losses_they_always_had(images: Path) -> None:
    found = steps(state_on(tiny(**FULL, seed=3)), images, 5)
    columns = {name: [stats[name] for stats in found] for name in ("generator_loss", "discriminator_loss")}
    assert columns["generator_loss"] == pytest.approx(GOLDEN_GENERATOR, rel=2e-3)
    assert columns["discriminator_loss"] == pytest.approx(GOLDEN_DISCRIMINATOR, rel=2e-3)


def test_discriminator_learns_and_the_generator_follows(tmp_path: Path) -> None:
    pixels = np.zeros((32, 16, 16, 3), np.uint8) + np.array([230, 40, 40], np.uint8)
    np.save(tmp_path / "red.npy", pixels)
    state = state_on(tiny(seed=1, learning_rate=0.005, ema_kimg=0.2, ema_rampup=1.0))
    first = steps(state, tmp_path / "red.npy", 20)
    assert first[-1]["discriminator_loss"] < first[0]["discriminator_loss"]
    assert first[-1]["real_score"] > first[-1]["fake_score"]
    steps(state, tmp_path / "red.npy", 50)
    with torch.no_grad():
        colour = state.average(torch.randn(64, 8), noise="const").mean(dim=(0, 2, 3))
    wanted = torch.tensor([230.0, 40.0, 40.0]) / 127.5 - 1
    assert float((colour - wanted).abs().max()) < 0.3


def test_bf16_is_close_to_fp32(images: Path) -> None:
    exact, rounded = (steps(state_on(tiny(precision=precision)), images, 1)[0] for precision in ("fp32", "bf16"))
    assert rounded["generator_loss"] == pytest.approx(exact["generator_loss"], rel=0.05)
    assert rounded != exact


# ------------------------------------------------------------------------------------------------ whole runs


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
