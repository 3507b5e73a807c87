"""A small convolutional network that guesses the w of a picture.

It is trained on the generator's own samples, whose w is known (`encoder_training`), and starts the optimisation near
the answer; without it a search from the mean w often ends in a car that faces the other way.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ganfoundry.errors import InputError
from ganfoundry.gan.inversion.wspace import WSpace
from ganfoundry.gan.train_data import write_atomically

FORMAT = "ganfoundry-encoder-1"
LARGEST_SIDE = 64
WEIGHTS_FILE = "encoder.safetensors"


@dataclass(frozen=True)
class EncoderConfig:
    """Shape of an encoder.

    Attributes
    ----------
    resolution : int
        Side at which it looks at pictures, a power of two, at least 8; larger ones are shrunk to it.
    w_dim : int
    channels : tuple of int
        Feature maps at half the side, a quarter, ...; one for every halving down to 4 px.
    hidden : int
        Width of the layer between the 4 px features and w.
    """

    resolution: int
    w_dim: int
    channels: tuple[int, ...]
    hidden: int = 256

    @classmethod
    def of(cls, resolution: int, w_dim: int) -> EncoderConfig:
        """Configuration for a generator."""
        side = min(resolution, LARGEST_SIDE)
        halvings = side.bit_length() - 3
        return cls(side, w_dim, tuple(min(128, 32 * (index + 1)) for index in range(halvings)))


def _convolution(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class EncoderNet(nn.Module):
    """Picture to even coordinates of W (see `wspace`): a halving and a plain convolution per size, then two layers."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        layers = [
            nn.Sequential(_convolution(a, b, 2), _convolution(b, b, 1)) for a, b in pairwise((3, *config.channels))
        ]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(config.channels[-1] * 16, config.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(config.hidden, config.w_dim),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, 3, R, R) in [-1, 1] to u (N, w_dim) float32."""
        side = self.config.resolution
        if image.shape[-1] != side:
            image = F.interpolate(image, size=(side, side), mode="bilinear", antialias=True, align_corners=False)
        u: Tensor = self.head(self.body(image.contiguous(memory_format=torch.channels_last))).float()
        return u


class Encoder:
    """A trained encoder of one generator.

    Parameters
    ----------
    net : EncoderNet
        Put into evaluation mode.
    wspace : WSpace
        The coordinates it predicts.
    generator_sha256 : str
        Identity of the generator whose pictures it knows.
    card : mapping
        Recipe and figures of its training.
    """

    def __init__(self, net: EncoderNet, wspace: WSpace, generator_sha256: str, card: Mapping[str, Any]) -> None:
        self.net = net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.wspace = wspace
        self.generator_sha256 = generator_sha256
        self.card = dict(card)

    @torch.no_grad()
    def predict(self, image: Tensor) -> Tensor:
        """W (N, w_dim) float32 of images (N, 3, R, R) in [-1, 1]."""
        return self.wspace.to_w(self.net(image))

    def check_generator(self, sha256: str) -> None:
        """Refuse another generator.

        Raises
        ------
        InputError
            If the encoder was trained for another one.
        """
        if sha256 != self.generator_sha256:
            raise InputError(
                f"the encoder belongs to generator {self.generator_sha256[:12]}, this one is {sha256[:12]}; train one "
                "for it or leave the encoder out"
            )

    def save(self, folder: Path) -> None:
        """Write encoder.safetensors: weights, coordinates, configuration, card."""
        tensors = {f"net.{name}": value.contiguous() for name, value in self.net.state_dict().items()}
        tensors |= {"mean": self.wspace.mean, "root": self.wspace.root}
        header = {
            "config": asdict(self.net.config),
            "spread": self.wspace.spread,
            "generator_sha256": self.generator_sha256,
            "card": self.card,
        }
        folder.mkdir(parents=True, exist_ok=True)
        # One entry: safetensors writes several in no fixed order, and equal encoders are to make equal files.
        write_atomically(folder / WEIGHTS_FILE, save(tensors, {FORMAT: json.dumps(header)}))

    @classmethod
    def load(cls, folder: Path) -> Encoder:
        """Read an encoder.

        Raises
        ------
        InputError
            If there is none, or it is damaged.
        """
        path = folder / WEIGHTS_FILE
        try:
            with safe_open(path, framework="pt") as stream:
                header = json.loads((stream.metadata() or {})[FORMAT])
                tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
            config = header["config"]
            net = EncoderNet(EncoderConfig(**{**config, "channels": tuple(config["channels"])}))
            net.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("net.")})
            wspace = WSpace(tensors["mean"], float(header["spread"]), tensors["root"])
            return cls(net, wspace, header["generator_sha256"], header["card"])
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(f"{path} is not a readable encoder; remove it and it is trained again") from error
