"""Optimisation finds samples again; W+ is W at an infinite penalty; batches change nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan import stylegan3
from ganfoundry.gan.checkpoints import LoadedGan, load_gan, save_gan
from ganfoundry.gan.inversion import Objective, Optimisation, Tuning, WSpace, invert, tune_generator
from ganfoundry.gan.inversion.encoder_training import EncoderRecipe, train_encoder
from ganfoundry.gan.inversion.optimisation import latent, learning_rate
from ganfoundry.gan.latent_spaces import load_latents, save_latents
from ganfoundry.gan.stylegan3_config import StyleGAN3Config
from ganfoundry.images import network_images
from tests.ganfoundry.gan.inversion.invhelp import samples, tiny_gan


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> LoadedGan:
    return tiny_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def wspace(gan: LoadedGan) -> WSpace:
    return WSpace.of(gan.generator)


def strangers(count: int) -> np.ndarray:
    """Pictures that the generator does not make: smooth colours."""
    y, x = np.mgrid[:16, :16] / 15
    phases = np.random.default_rng(3).random((count, 3, 1, 1)) * 6
    waves = np.sin(4 * x + phases) * np.cos(3 * y + phases)
    return np.round((waves + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1).copy()


def test_own_samples_are_found_again(gan: LoadedGan, wspace: WSpace) -> None:
    w, images = samples(gan, 6)
    found = invert(gan, images, steps=100, wspace=wspace)
    assert (found.psnr - found.start_psnr).min() > 8
    assert found.psnr.mean() > 28
    assert torch.equal(found.start_w, wspace.mean.expand(6, -1))
    nearer = (found.w - w).norm(dim=1) / (found.start_w - w).norm(dim=1)
    assert nearer.median() < 0.7
    assert np.allclose(found.distance, wspace.distance(found.w).numpy())
    assert found.perceptual.max() < 0.1


@pytest.mark.parametrize("penalty", [0.0, 0.3, 50.0])
def test_what_is_optimised_is_the_penalty_as_written(gan: LoadedGan, wspace: WSpace, penalty: float) -> None:
    u, offset = torch.randn(2, 8), torch.randn(2, gan.generator.num_ws, 8)
    ws, value = latent(u, [offset], wspace, penalty)
    deltas = (ws - wspace.to_w(u)[:, None]).double()
    expected = [penalty * sum(float(d.norm()) ** 2 for d in rows) / len(rows) / wspace.spread**2 for rows in deltas]
    assert value.tolist() == pytest.approx(expected, rel=1e-3)


def test_a_penalty_without_end_is_w(gan: LoadedGan, wspace: WSpace) -> None:
    images = strangers(2)
    plain = invert(gan, images, options=Optimisation(steps=20), wspace=wspace)
    bound = invert(gan, images, options=Optimisation("W+", 20, layer_penalty=float("inf")), wspace=wspace)
    assert torch.equal(bound.w, plain.w[:, None].expand(-1, gan.generator.num_ws, -1))
    assert np.array_equal(bound.images, plain.images)


def test_less_penalty_gives_layers_that_differ_more_and_fit_better(gan: LoadedGan, wspace: WSpace) -> None:
    images, differences, errors = strangers(2), [], []
    for penalty in (100.0, 1.0, 0.0):
        found = invert(gan, images, options=Optimisation("W+", 30, layer_penalty=penalty), wspace=wspace)
        assert found.w.shape == (2, gan.generator.num_ws, 8)
        differences.append(float((found.w - found.w.mean(1, keepdim=True)).norm()))
        errors.append(-found.psnr.mean())
    assert differences == sorted(differences)
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("space", ["W", "W+"])
def test_batches_of_any_size_give_the_same(gan: LoadedGan, wspace: WSpace, space: str) -> None:
    _, images = samples(gan, 4)
    options = [Optimisation(space, 20, batch=batch) for batch in (1, 3, 4)]  # type: ignore[arg-type]
    found = [invert(gan, images, options=option, wspace=wspace) for option in options]
    for other in found[1:]:
        assert torch.allclose(other.w, found[0].w, atol=1e-3 * wspace.spread)
        assert np.abs(other.images.astype(int) - found[0].images).max() <= 1
        assert np.allclose(other.psnr, found[0].psnr, atol=0.05)


def test_the_same_input_gives_the_same_bytes(gan: LoadedGan, wspace: WSpace) -> None:
    _, images = samples(gan, 3)
    a, b = (invert(gan, images, "W+", 15, wspace=wspace) for _ in range(2))
    assert a.w.numpy().tobytes() == b.w.numpy().tobytes()


def test_no_steps_leave_the_start(gan: LoadedGan, wspace: WSpace) -> None:
    calls: list[int] = []
    found = invert(gan, strangers(3), steps=0, wspace=wspace, on_step=calls.append)
    assert torch.allclose(found.w, found.start_w, atol=1e-5)
    assert calls == []
    invert(gan, strangers(3), options=Optimisation(steps=4, batch=2), wspace=wspace, on_step=calls.append)
    assert calls == [2] * 4 + [1] * 4


def test_latents_go_to_a_file_and_back(gan: LoadedGan, wspace: WSpace, tmp_path: Path) -> None:
    found = invert(gan, strangers(2), "W+", 3, wspace=wspace)
    save_latents(tmp_path / "l.safetensors", found.latents, gan.sha256)
    again = load_latents(tmp_path / "l.safetensors", gan.generator, "W+", gan.sha256)
    assert torch.equal(again.tensors["ws"], found.w)


def test_learning_rate_ramps_up_and_down() -> None:
    rates = [learning_rate(step, 200) for step in range(200)]
    assert rates[0] < 0.06
    assert rates[10:150] == [1.0] * 140
    assert rates[150:] == sorted(rates[150:], reverse=True)
    assert 0 < rates[-1] < 1e-3


@pytest.mark.parametrize(
    "images",
    [np.zeros((2, 8, 8, 3), np.uint8), np.zeros((2, 16, 16, 3), np.float32), np.zeros((0, 16, 16, 3), np.uint8)],
)
def test_wrong_pictures_are_refused(gan: LoadedGan, wspace: WSpace, images: np.ndarray) -> None:
    with pytest.raises(InputError, match="16 px"):
        invert(gan, images, wspace=wspace)


def test_wrong_options_are_refused() -> None:
    with pytest.raises(InputError, match="not in 'S'"):
        Optimisation(space="S")
    for wrong in ({"steps": -1}, {"rate": 0.0}, {"batch": 0}, {"layer_penalty": -1.0}, {"layer_penalty": float("nan")}):
        with pytest.raises(InputError, match="an optimisation needs"):
            Optimisation(**wrong)  # type: ignore[arg-type]


def test_divergence_is_said(gan: LoadedGan, wspace: WSpace) -> None:
    with pytest.raises(RunError, match="diverged"):
        invert(gan, strangers(1), options=Optimisation(steps=3, rate=1e30), wspace=wspace)


def test_a_stylegan3_is_inverted_and_tuned_too(tmp_path: Path) -> None:
    config = StyleGAN3Config(
        resolution=16, z_dim=8, w_dim=8, num_layers=3, channel_base=256, channel_max=8, margin_size=2
    )
    save_gan(tmp_path, stylegan3.Generator(config), None, {"name": "tiny"})
    gan = load_gan(tmp_path)
    encoder = train_encoder(gan, EncoderRecipe(steps=2, batch=4))
    found = invert(gan, strangers(2), "W+", 6, encoder)
    assert found.perceptual.shape == (2,)
    tuned = tune_generator(gan.generator, Objective.of(gan), network_images(strangers(2)), found.w, Tuning(steps=4))
    assert isinstance(tuned, stylegan3.Generator)
    assert found.distance.min() > 0  # an untrained one is grey for every w, so no picture comes nearer
    assert not torch.equal(found.w[:, 0], found.start_w)
