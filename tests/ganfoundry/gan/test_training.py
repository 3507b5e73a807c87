"""Recipes, draws and steps of training; golden losses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.gan.train_config import TrainingConfig, channel_map
from ganfoundry.gan.train_data import BatchOrder, open_images
from ganfoundry.gan.train_distributed import Group
from ganfoundry.gan.train_state import TrainingState
from ganfoundry.gan.train_step import (
    draw_fakes,
    map_fakes,
    phase_generator,
    process_rows,
    real_batch,
    training_step,
    update_average,
)
from ganfoundry.gan.training import choose_device
from tests.ganfoundry.gan.trainhelp import state_on, tiny

FULL = {"path_weight": 2.0, "path_interval": 4, "r1_interval": 3, "augment": "colour,translation,cutout"}


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
