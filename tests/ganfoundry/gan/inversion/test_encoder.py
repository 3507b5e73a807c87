"""The encoder: better than the mean, the same bytes after an interruption, and only for its generator."""

from pathlib import Path

import pytest
import torch

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.gan.inversion import Encoder, WSpace, invert
from ganfoundry.gan.inversion.encoder import WEIGHTS_FILE, EncoderConfig, EncoderNet
from ganfoundry.gan.inversion.encoder_training import CHECKPOINT, EncoderRecipe, cache_name, draw, train_encoder
from ganfoundry.images import network_images
from tests.ganfoundry.gan.inversion.invhelp import samples, tiny_gan

QUICK = EncoderRecipe(steps=60, batch=16, pixel_rows=4)
SHORT = EncoderRecipe(steps=7, batch=4, pixel_rows=2, checkpoint_every=3)


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> LoadedGan:
    return tiny_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def trained(gan: LoadedGan, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    train_encoder(gan, QUICK, folder=folder)
    return folder


def test_its_guess_is_nearer_than_the_mean(gan: LoadedGan, trained: Path) -> None:
    encoder = Encoder.load(trained)
    w, images = samples(gan, 40)
    guess = encoder.predict(network_images(images))
    error = (guess - w).square().sum(1).mean() / encoder.wspace.spread**2
    assert error < 0.8  # the mean w has 1
    mean, found = (invert(gan, images, steps=0, encoder=start) for start in (None, encoder))
    assert found.start_psnr.mean() > mean.start_psnr.mean() + 2


def test_an_interrupted_training_continues_with_the_same_bytes(gan: LoadedGan, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(step: int, loss: float) -> None:
        if step == 5:
            raise Stop

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train_encoder(gan, SHORT, folder=whole)
    with pytest.raises(Stop):
        train_encoder(gan, SHORT, folder=broken, on_step=stop)
    assert (broken / CHECKPOINT).exists()
    assert not (broken / WEIGHTS_FILE).exists()
    steps: list[int] = []
    train_encoder(gan, SHORT, folder=broken, on_step=lambda step, loss: steps.append(step))
    assert steps[0] == 4
    assert (broken / WEIGHTS_FILE).read_bytes() == (whole / WEIGHTS_FILE).read_bytes()
    assert not (broken / CHECKPOINT).exists()


def test_a_foreign_or_damaged_checkpoint_is_refused(gan: LoadedGan, tmp_path: Path) -> None:
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="remove it to train from the start"):
        train_encoder(gan, QUICK, folder=tmp_path)
    (tmp_path / CHECKPOINT).unlink()
    with pytest.raises(KeyboardInterrupt):
        train_encoder(gan, SHORT, folder=tmp_path, on_step=_interrupt)
    with pytest.raises(InputError, match="another generator or recipe"):
        train_encoder(gan, QUICK, folder=tmp_path)


def _interrupt(step: int, loss: float) -> None:
    if step == 4:
        raise KeyboardInterrupt


def test_another_generator_and_a_damaged_file_are_refused(gan: LoadedGan, trained: Path, tmp_path: Path) -> None:
    other = tiny_gan(tmp_path / "other", seed=1)
    _, images = samples(other, 1)
    with pytest.raises(InputError, match="belongs to generator"):
        invert(other, images, encoder=Encoder.load(trained))
    content = (trained / WEIGHTS_FILE).read_bytes()
    for data in (content[:200], content[:-9], b""):
        (tmp_path / WEIGHTS_FILE).write_bytes(data)
        with pytest.raises(InputError, match="not a readable encoder"):
            Encoder.load(tmp_path)


def test_samples_of_a_step_follow_from_its_seed(gan: LoadedGan) -> None:
    draws = [draw(gan.generator, 6, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)]
    assert all(torch.equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    assert not torch.equal(draws[0][1], draws[2][1])
    assert draws[0][1].abs().max() <= 1


def test_a_conditional_generator_can_be_learnt(tmp_path: Path) -> None:
    gan = tiny_gan(tmp_path, c_dim=3)
    encoder = train_encoder(gan, EncoderRecipe(steps=2, batch=4), wspace=WSpace.of(gan.generator))
    assert encoder.predict(torch.zeros(1, 3, 16, 16)).shape == (1, 8)


def test_names_in_the_cache_differ_with_generator_and_recipe(gan: LoadedGan, tmp_path: Path) -> None:
    other = tiny_gan(tmp_path, seed=1)
    names = {cache_name(gan, QUICK), cache_name(other, QUICK), cache_name(gan, EncoderRecipe(steps=7))}
    assert len(names) == 3
    assert cache_name(gan, QUICK) in names


def test_a_loss_that_is_no_number_ends_the_training(gan: LoadedGan) -> None:
    with pytest.raises(RunError, match="not a number"):
        train_encoder(gan, EncoderRecipe(steps=5, batch=4, pixel_weight=float("inf")))


@pytest.mark.parametrize("resolution", [8, 16, 64, 256])
def test_every_resolution_has_a_shape(resolution: int) -> None:
    net = EncoderNet(EncoderConfig.of(resolution, 5)).eval()
    assert net(torch.zeros(2, 3, resolution, resolution)).shape == (2, 5)
    assert 4 * 2 ** len(net.config.channels) == min(resolution, 64)
