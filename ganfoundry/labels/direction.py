"""Which way an object faces, read off the generator's feature maps: what 16 labelled images cannot teach.

Bonnet and boot, windscreen and rear window look alike from close by, and a per-pixel network that has seen 16 images
takes one for the other. Viewpoint codes know better: a person has named the direction of each by one key
(`annotate-views`), and with the styles of any content they make as many images of known direction as one likes. A small
convolutional network learns the direction from those images' feature maps, and the Style Interpreter reads what it
says as two more channels, the same for all pixels of an image (:data:`DIRECTION`).

The two channels are the cosine and sine of the azimuth times how sure the network is, times :data:`GAIN`: two numbers
among hundreds would not be heard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganfoundry.data.seeds import CONTENT, sample_integer
from ganfoundry.errors import InputError
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.latents import compose_styles, content_codes
from ganfoundry.views import ViewCodeSet

DIRECTION = "direction"  # name of the map that the head adds
GAIN = 64.0
SIDE = 16  # to which all maps are brought
_FINEST = 36  # pixels: what is finer shows paint and lamps, not the direction
_UNITS = 32
_PREFIX = "direction."


@dataclass(frozen=True)
class DirectionTraining:
    """How a direction head is trained.

    Attributes
    ----------
    images : of all viewpoint codes together
    steps, batch : of the optimiser
    learning_rate, weight_decay : of AdamW, with a cosine schedule
    truncation : psi of the contents
    seed : of the contents, the first weights and the batches
    """

    images: int = 2880
    steps: int = 400
    batch: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 2e-2
    truncation: float = 0.7
    seed: int = 0


class DirectionHead:
    """A network from feature maps to directions.

    Parameters
    ----------
    layers : names and channels of the maps that it reads, see `coarse_layers`
    network : nn.Module, from (n, C, SIDE, SIDE) to (n, 2)
    mean, deviation : (C,) by which the maps are standardised
    """

    def __init__(self, layers: Sequence[tuple[str, int]], network: nn.Module, mean: Tensor, deviation: Tensor) -> None:
        self.layers = tuple((name, int(channels)) for name, channels in layers)
        self.network, self.mean, self.deviation = network.eval(), mean, deviation

    @property
    def names(self) -> tuple[str, ...]:
        """Of the maps that it reads."""
        return tuple(name for name, _ in self.layers)

    @torch.inference_mode()
    def __call__(self, features: Mapping[str, Tensor]) -> Tensor:
        """The additional map (n, 2, 1, 1) of images with these feature maps {name: (n, C, r, r)}.

        Image by image, so that an image's numbers do not depend on its neighbours.

        Raises
        ------
        InputError
            If a map is missing or has another number of channels.
        """
        for name, channels in self.layers:
            if name not in features or features[name].shape[1] != channels:
                raise InputError(f"the interpreter reads feature map {name} of {channels} channels, which is missing")
        found = [self.network(self._standardised(one)) for one in stacked(features, self.names).split(1)]
        return GAIN * torch.cat(found)[:, :, None, None]

    def _standardised(self, maps: Tensor) -> Tensor:
        return (maps.float() - self.mean[:, None, None]) / self.deviation[:, None, None]

    def tensors(self) -> dict[str, Tensor]:
        """All numbers by name, for a file."""
        found = {"mean": self.mean, "deviation": self.deviation, **self.network.state_dict()}
        return {_PREFIX + name: value.contiguous() for name, value in found.items()}

    @classmethod
    def of_tensors(cls, layers: Sequence[tuple[str, int]], tensors: Mapping[str, Tensor]) -> Self:
        """Build what `tensors` gave."""
        own = {name.removeprefix(_PREFIX): value for name, value in tensors.items() if name.startswith(_PREFIX)}
        network = make_network(sum(channels for _, channels in layers))
        mean, deviation = own.pop("mean"), own.pop("deviation")
        network.load_state_dict(own)
        return cls(layers, network, mean, deviation)


def with_direction(
    features: Mapping[str, Tensor], names: Sequence[str], direction: DirectionHead | None
) -> dict[str, Tensor]:
    """Some of the feature maps and, last, that of the direction, if there is a head to make it."""
    kept = {name: features[name] for name in names}
    return kept if direction is None else {**kept, DIRECTION: direction(features)}


def make_network(channels: int) -> nn.Sequential:
    """An untrained network; whole channels are dropped in training, as no single one should decide."""
    return nn.Sequential(
        nn.Dropout2d(0.2),
        nn.Conv2d(channels, _UNITS, 3, 2, 1),
        nn.ReLU(),
        nn.Dropout2d(0.1),
        nn.Conv2d(_UNITS, 2 * _UNITS, 3, 2, 1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(2 * _UNITS * (SIDE // 4) ** 2, 2 * _UNITS),
        nn.ReLU(),
        nn.Linear(2 * _UNITS, 2),
    )


def coarse_layers(feature_dims: Mapping[str, tuple[int, int]]) -> tuple[tuple[str, int], ...]:
    """The last map of each side from 8 to 36 pixels, (name, channels); of the coarsest side where there is none."""
    last = {side: (name, channels) for name, (channels, side) in feature_dims.items()}
    sides = [side for side in last if 8 <= side <= _FINEST] or [min(last)]
    return tuple(last[side] for side in sorted(sides))


def stacked(features: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """Maps {name: (n, C, r, r)} brought to one side and laid side by side, (n, sum C, SIDE, SIDE)."""
    return torch.cat([F.adaptive_avg_pool2d(features[name].float(), SIDE) for name in names], 1)


def train_direction(
    generator: StyleGenerator,
    codes: ViewCodeSet,
    training: DirectionTraining | None = None,
    advance: Callable[[int], Any] | None = None,
) -> DirectionHead:
    """Train a head on images of viewpoint codes, whose azimuth is the middle of the code's bin.

    Parameters
    ----------
    generator : StyleGenerator
    codes : ViewCodeSet of this generator
    training : DirectionTraining
    advance : called with the number of images or steps that were made (a progress bar of `num_advances`)

    Returns
    -------
    DirectionHead
        In evaluation mode, float32.

    Raises
    ------
    InputError
        If all codes lie in one bin: they say nothing about directions.
    """
    training = training or DirectionTraining()
    if len({code.bin for code in codes.codes}) < 2:
        raise InputError("the viewpoint codes all lie in one azimuth bin; they cannot teach directions")
    advance = advance or (lambda _: None)
    layers = coarse_layers(generator.synthesis.feature_dims)
    maps, rows = _images(generator, codes, [name for name, _ in layers], training, advance)
    radians = torch.tensor([np.deg2rad(codes.bins.middle(code.bin)) for code in codes.codes])[rows]
    targets = torch.stack([radians.cos(), radians.sin()], 1).float()
    total = maps[::4].float()
    mean, deviation = total.mean((0, 2, 3)), total.std((0, 2, 3)).clamp(min=1e-4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.seed)
        head = DirectionHead(layers, make_network(maps.shape[1]), mean, deviation)
        _fit(head, maps, targets, training, advance)
    head.network.eval()
    return head


def num_advances(codes: ViewCodeSet, training: DirectionTraining | None = None) -> int:
    """Images and steps of a training."""
    training = training or DirectionTraining()
    return len(codes) * _contents(codes, training) + training.steps


def _contents(codes: ViewCodeSet, training: DirectionTraining) -> int:
    return max(4, training.images // len(codes))


@torch.inference_mode()
def _images(
    generator: StyleGenerator,
    codes: ViewCodeSet,
    names: Sequence[str],
    training: DirectionTraining,
    advance: Callable[[int], Any],
) -> tuple[Tensor, Tensor]:
    """Stacked maps (n, C, SIDE, SIDE) float16 of contents seen from every code, and the codes' rows (n,)."""
    synthesis, each = generator.synthesis, _contents(codes, training)
    maps = []
    for row in range(len(codes)):
        seeds = [sample_integer(training.seed, CONTENT, row * each + index) for index in range(each)]
        contents = content_codes(generator, seeds, training.truncation)
        styles = compose_styles(synthesis, contents, torch.from_numpy(codes.w[row : row + 1]), codes.layers)
        _, features = synthesis(styles=styles, noise="const", features=names)
        maps.append(stacked(features, names).half())
        advance(each)
    return torch.cat(maps), torch.arange(len(codes)).repeat_interleave(each)


def _fit(
    head: DirectionHead, maps: Tensor, targets: Tensor, training: DirectionTraining, advance: Callable[[int], Any]
) -> None:
    """Squared error; so an answer is the shorter the less certain it is."""
    network = head.network.train()
    optimiser = torch.optim.AdamW(
        network.parameters(), training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, training.steps)
    for _ in range(training.steps):
        chosen = torch.randint(len(maps), (training.batch,))
        loss = F.mse_loss(network(head._standardised(maps[chosen])), targets[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        advance(1)
