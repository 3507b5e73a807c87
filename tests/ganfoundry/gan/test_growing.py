"""A grown discriminator judges as the smaller one does, and learns in all of its channels."""

import pytest
import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.config import DiscriminatorConfig
from ganfoundry.gan.discriminator import Discriminator
from ganfoundry.gan.filters import downsample
from ganfoundry.gan.growing import grow
from ganfoundry.gan.layers import Conv2dLayer

WIDTHS = {4: 12, 8: 10, 16: 8, 32: 7, 64: 6}


def pair(side: int) -> tuple[Discriminator, Discriminator]:
    """A discriminator of 16 px with random biases, and one of another side that has its weights."""
    torch.manual_seed(0)
    small = Discriminator(DiscriminatorConfig(resolution=16, channels={r: WIDTHS[r] for r in (4, 8, 16)}))
    for name, value in small.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value)
    config = DiscriminatorConfig(resolution=side, channels={r: w for r, w in WIDTHS.items() if r <= side})
    large = Discriminator(config)
    large.load_state_dict({k: v for k, v in small.state_dict().items() if ".fromrgb." not in k}, strict=False)
    return small, large


def grow_from(small: Discriminator, large: Discriminator) -> None:
    first = small.get_submodule("b16.fromrgb")
    assert isinstance(first, Conv2dLayer)
    grow(large, first, 16)


def halved(small: Discriminator, image: Tensor) -> Tensor:
    while image.shape[-1] > 16:
        image = downsample(image, small.b16.resample_filter)
    return image


@pytest.mark.parametrize("side", [32, 64])
def test_begins_with_the_judgement_of_the_smaller_one(side: int) -> None:
    small, large = pair(side)
    grow_from(small, large)
    image = torch.randn(4, 3, side, side)
    torch.testing.assert_close(large(image), small(halved(small, image)), rtol=1e-4, atol=1e-5)


def test_channels_that_are_not_listened_to_yet_are_learnt() -> None:
    small, large = pair(32)
    grow_from(small, large)
    adam = torch.optim.Adam(large.parameters(), 1e-3)
    image = torch.randn(4, 3, 32, 32)
    for _ in range(2):  # the first step reaches the weights that listen, the second what they listen to
        adam.zero_grad()
        large(image).square().sum().backward()
        adam.step()
    for layer in (large.b32.fromrgb, large.b32.conv0, large.b32.conv1, large.b32.skip):
        assert float(layer.weight.grad.flatten(1).abs().amax(1).min()) > 0


def test_too_narrow_blocks_are_refused_and_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(WIDTHS, 32, 5)
    small, large = pair(64)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    with pytest.raises(InputError, match="block at 32 px has 5 channels; it needs 6"):
        grow_from(small, large)
    assert all(torch.equal(value, before[name]) for name, value in large.state_dict().items())
