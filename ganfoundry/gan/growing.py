"""Growing a discriminator: new first blocks that begin by handing the image on at half its side.

A new block with random weights feeds noise to blocks that have long learnt, and the generator learns from their
judgement before they have recovered. Here a grown discriminator begins with the judgement of the smaller one, of the
image filtered and halved; no fade (Karras et al. 2018, arXiv:1710.10196, section 2) has to be timed. The idea is
Net2Net's (Chen et al. 2016, arXiv:1511.05641).
"""

from __future__ import annotations

import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.gan.discriminator import Discriminator, DiscriminatorBlock
from ganfoundry.gan.layers import SLOPE, SQRT2, Conv2dLayer


@torch.no_grad()
def grow(discriminator: Discriminator, fromrgb: Conv2dLayer, side: int) -> None:
    """Set the blocks above a side so that D(image) is the smaller discriminator's of the image filtered and halved.

    Parameters
    ----------
    discriminator : Discriminator
        Has the weights of the smaller one up to `side`; its blocks above are set.
    fromrgb : Conv2dLayer
        The smaller one's first layer.
    side : int
        The smaller one's resolution, pixels.

    Raises
    ------
    InputError
        If a new block is too narrow (two channels a colour are needed); nothing is changed then.
    """
    colours, widths = discriminator.config.img_channels, discriminator.config.channels
    sides = sorted(above for above in widths if above > side)
    for above in sides:
        if widths[above] < 2 * colours:
            raise InputError(
                f"the discriminator's new block at {above} px has {widths[above]} channels; it needs {2 * colours} to "
                "hand the image on to the blocks that have learnt; give more discriminator_channels"
            )
    blocks = [discriminator.get_submodule(f"b{above}") for above in sides]
    assert fromrgb.bias is not None
    weight, bias = fromrgb.weight[:, :, 0, 0] * (fromrgb.weight_gain * SQRT2), fromrgb.bias * SQRT2
    for block in blocks:
        assert isinstance(block, DiscriminatorBlock)
        _hand_on(block, weight, bias)
        weight, bias = _first_weights(len(block.conv0.weight), colours, like=weight)
    first = blocks[-1].fromrgb
    assert isinstance(first, Conv2dLayer)
    first.weight.copy_(weight[:, :, None, None] / (first.weight_gain * SQRT2))


def _first_weights(width: int, colours: int, *, like: Tensor) -> tuple[Tensor, Tensor]:
    """Effective weights (width, colours) and bias (width,) of a first layer: each colour, its negative, then others.

    The leaky ReLU of both together keeps the colour: c = (f(c) - f(-c)) / (1 + slope).
    """
    weight = torch.randn(width, colours, generator=torch.Generator().manual_seed(width)).to(like) / colours**0.5
    for colour in range(colours):
        weight[2 * colour : 2 * colour + 2] = 0
        weight[2 * colour, colour], weight[2 * colour + 1, colour] = 1, -1
    return weight, weight.new_zeros(width)


def _hand_on(block: DiscriminatorBlock, weight: Tensor, bias: Tensor) -> None:
    """Make a block compute leaky_relu(weight @ image at half the side + bias) from such a first layer's output.

    Its other channels keep their initial weights but are not yet listened to: their first gradients are not zero.
    """
    colours, middle = weight.shape[1], 1
    mix = torch.zeros(colours, 2 * colours).to(weight)  # pairs -> colours
    for colour in range(colours):
        mix[colour, 2 * colour : 2 * colour + 2] = torch.tensor([1.0, -1.0]) / (1 + SLOPE)
    pairs = torch.stack([mix, -mix], 1).flatten(0, 1)  # colours, each followed by its negative
    kept, first, second = slice(0, 2 * colours), block.conv0, block.conv1
    first.weight[kept] = 0
    first.weight[kept, kept, middle, middle] = pairs / (first.weight_gain * SQRT2)
    assert second.bias is not None
    second.weight.zero_()  # the block's gain, the square root of a half, cancels the activation's
    second.weight[:, kept, middle, middle] = weight @ mix / second.weight_gain
    second.bias.copy_(bias)
    block.skip.weight.zero_()
