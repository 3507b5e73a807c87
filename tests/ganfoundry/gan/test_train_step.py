"""Options of a step: simultaneous updates, adaptive augmentation; and they survive interruptions and processes."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.gan import losses
from ganfoundry.gan.augment import STEER_IMAGES
from ganfoundry.gan.train_data import BatchOrder, open_images
from ganfoundry.gan.train_distributed import Group
from ganfoundry.gan.train_state import TrainingState, checkpoints
from ganfoundry.gan.train_step import (
    GENERATOR,
    STEER_STEPS,
    Step,
    draw_fakes,
    map_fakes,
    process_rows,
    r1_phase,
    real_batch,
    simultaneous_phase,
    training_step,
)
from ganfoundry.gan.training import train
from tests.ganfoundry.gan.trainhelp import distance, state_on, tiny

OPTIONS = {
    "simultaneous": {"update": "simultaneous", "path_weight": 2.0, "path_interval": 4, "r1_interval": 3},
    "adaptive": {"augment": "colour,translation,cutout", "augment_target": 0.6},
    "both": {"update": "simultaneous", "augment": "colour,cutout", "augment_target": 0.1},
}


def reals_of(state: TrainingState, images: Path) -> torch.Tensor:
    config = state.config
    pixels = open_images(images, config.resolution, config.batch)
    order = BatchOrder(len(pixels), config.batch, config.seed)
    return real_batch(config, pixels, order, process_rows(config.batch, 0, 1), state.step)


# ------------------------------------------------------------------------------------------------ simultaneous


def test_simultaneous_gradients_are_those_of_two_separate_passes(images: Path) -> None:
    state = state_on(tiny(update="simultaneous"))
    reals = reals_of(state, images)
    step = Step(state, Group(), process_rows(8, 0, 1))
    fakes = draw_fakes(state.config, state.generator, step.rows, step.random(GENERATOR))

    def made() -> torch.Tensor:
        return state.generator.synthesis(map_fakes(state.generator, fakes), noise=fakes.noise)

    generator_loss = losses.generator_loss(state.discriminator(made()))
    discriminator_loss = losses.discriminator_loss(state.discriminator(reals), state.discriminator(made().detach()))
    expected = {}
    for network, loss in ((state.generator, generator_loss), (state.discriminator, discriminator_loss)):
        parameters = dict(network.named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        expected |= {id(p): g for p, g in zip(parameters.values(), gradients, strict=True) if g is not None}
    stats, _ = simultaneous_phase(step, reals, stop=False)
    assert float(stats["generator_loss"]) == pytest.approx(float(generator_loss.detach()), rel=1e-5)
    assert float(stats["discriminator_loss"]) == pytest.approx(float(discriminator_loss.detach()), rel=1e-5)
    found = {id(p): p.grad for n in (state.generator, state.discriminator) for p in n.parameters()}
    assert {key for key, value in found.items() if value is not None} == set(expected)
    for key, gradient in expected.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6)


def test_r1_in_bf16_has_nearly_the_gradient_of_fp32(images: Path) -> None:
    gradients = []
    for precision in ("fp32", "bf16"):
        state = state_on(tiny(precision="bf16", r1_precision=precision))
        r1_phase(Step(state, Group(), process_rows(8, 0, 1)), reals_of(state, images))
        found = [p.grad.flatten() for p in state.discriminator.parameters() if p.grad is not None]
        gradients.append(torch.cat(found))
    exact, rounded = gradients
    assert float((exact - rounded).norm() / exact.norm()) < 0.05
    assert not torch.equal(exact, rounded)


# ------------------------------------------------------------------------------------------------ adaptive augmentation


def scripted(state: TrainingState, values: list[float], monkeypatch: pytest.MonkeyPatch, images: Path) -> list[float]:
    """Probabilities after steps whose real logits all have the given values."""
    found = []
    for value in values:
        monkeypatch.setattr(
            type(state.discriminator), "forward", lambda self, x, v=value, **_: self.b4.out.bias * 0 + v + 0 * x.sum()
        )
        stats, _ = training_step(state, reals_of(state, images), Group())
        found.append(float(stats["augment_p"]))
    return found


def test_probability_follows_the_sign_of_real_logits(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = state_on(tiny(**OPTIONS["adaptive"], r1_gamma=0.0))
    pace = STEER_STEPS * 8 / STEER_IMAGES
    sure, unsure = [2.0] * STEER_STEPS, [2.0, -1.0, 2.0, 2.0]  # r_t = 1 and 0.5, around the target 0.6
    found = scripted(state, sure + sure + unsure, monkeypatch, images)
    expected = [0.0] * 3 + [pace] * 4 + [2 * pace] * 4 + [pace]
    assert found == pytest.approx(expected)
    assert scripted(state, [-2.0] * 8, monkeypatch, images)[-1] == 0.0  # and never below


def test_images_are_augmented_with_the_probability(images: Path) -> None:
    state = state_on(tiny(batch=400, augment="cutout", augment_target=0.6))
    step = Step(state, Group(), process_rows(400, 0, 1))
    for probability in (0.0, 0.3, 1.0):
        state.augment_p.fill_(probability)
        seen = step.augment(torch.ones(400, 3, 16, 16), step.random(GENERATOR))
        share = (seen == 0).any(dim=3).any(dim=2).any(dim=1).float().mean()
        assert float(share) == pytest.approx(probability, abs=0.08)


def test_fixed_augmentation_draws_what_it_always_drew(images: Path) -> None:
    step = Step(state_on(tiny(augment="cutout")), Group(), process_rows(8, 0, 1))
    draws = step.random(GENERATOR)
    step.augment(torch.ones(8, 3, 16, 16), draws)
    after = torch.rand(8, 7, generator=(again := step.random(GENERATOR)))
    assert after.shape == (8, 7)
    assert torch.equal(torch.rand(3, generator=draws), torch.rand(3, generator=again))


def test_target_without_augmentations_is_refused() -> None:
    with pytest.raises(InputError, match="name augmentations"):
        tiny(augment_target=0.6)
    with pytest.raises(InputError, match="use alternating or simultaneous"):
        tiny(update="both")
    with pytest.raises(InputError, match="r1_precision is 'fp8', use bf16 or fp32"):
        tiny(r1_precision="fp8")


# ------------------------------------------------------------------------------------------------ runs


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_resumed_run_equals_the_uninterrupted_one(tmp_path: Path, images: Path, options: dict[str, object]) -> None:
    config = tiny(**options)
    whole = train(config, images, tmp_path / "whole")
    train(replace(config, kimg=0.048), images, tmp_path / "parts")  # in the middle of an average of signs
    parts = train(config, images, tmp_path / "parts")
    assert parts.step == 10
    assert distance(whole, parts) == 0.0
    assert float(whole.augment_p) > 0


def test_two_processes_train_like_one(tmp_path: Path, images: Path) -> None:
    config = tiny(**OPTIONS["both"], kimg=0.064)
    alone = train(config, images, tmp_path / "alone")
    both = train(replace(config, processes=2), images, tmp_path / "both")
    assert distance(alone, both) < 1e-4
    assert float(alone.augment_p) == float(both.augment_p) > 0


def test_new_run_that_adapts_begins_without_augmentations(tmp_path: Path, images: Path) -> None:
    train(tiny(kimg=0.016), images, tmp_path / "out")
    state = state_on(tiny(**OPTIONS["adaptive"]))
    state.load(checkpoints(tmp_path / "out" / "checkpoints")[-1], same_run=False)
    assert (state.step, float(state.augment_p)) == (2, 0.0)


def test_checkpoint_from_before_these_options_continues(tmp_path: Path, images: Path) -> None:
    state = train(tiny(kimg=0.016), images, tmp_path / "out")
    old = checkpoints(tmp_path / "out" / "checkpoints")[-1]
    tensors = {key: value for key, value in state.tensors().items() if key not in ("augment_p", "real_sign")}
    recipe = {key: value for key, value in vars(state.config).items() if key not in ("augment_target", "update")}
    from safetensors.torch import save_file

    counters = {"step": "2", "images": "16", "seconds": "1.0"}
    save_file(tensors, old, {"format": "ganfoundry-training-1", "config": json.dumps(recipe), **counters})
    assert train(tiny(kimg=0.024), images, tmp_path / "out").step == 3
    with pytest.raises(InputError, match="update 'alternating', now 'simultaneous'"):
        train(tiny(update="simultaneous"), images, tmp_path / "out")
