"""Configurations of the StyleGAN2 networks, and how they are read off a state dict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SMALL_CHANNELS: Mapping[int, int] = {4: 128, 8: 128, 16: 96, 32: 64, 64: 32, 128: 16, 256: 8}
ARCHITECTURES = ("skip", "resnet", "orig")
MAX_RESOLUTION = 8192
MAX_LAYERS = 64


def resolutions(resolution: int) -> list[int]:
    """Block resolutions 4, 8, ..., ``resolution``.

    Raises
    ------
    ValueError
        If the resolution is not a power of two from 4 to 8192.
    """
    if not 4 <= resolution <= MAX_RESOLUTION or resolution & (resolution - 1):
        raise ValueError(f"the resolution must be a power of two from 4 to {MAX_RESOLUTION}, got {resolution}")
    return [1 << exponent for exponent in range(2, resolution.bit_length())]


def small_channels(resolution: int) -> dict[int, int]:
    """Channel plan for training on a CPU: 128 at 4 and 8 px, thinning to 32 at 64 px and 8 at 256 px."""
    return {r: SMALL_CHANNELS.get(r, 8) for r in resolutions(resolution)}


def published_channels(resolution: int, base: int = 32768, maximum: int = 512) -> dict[int, int]:
    """Channel plan of the published networks: min(base / r, maximum) at r px (stylegan2-ada-pytorch's parameters)."""
    return {r: min(base // r, maximum) for r in resolutions(resolution)}


def not_finite(config: DataclassInstance) -> list[str]:
    """Fields that are, or hold, a number that is not finite, as "name = value"; comparisons let those pass."""
    values = ((item.name, getattr(config, item.name)) for item in fields(config))
    held = ((name, value if isinstance(value, tuple) else (value,)) for name, value in values)
    return [
        f"{name} = {number}"
        for name, numbers in held
        for number in numbers
        if isinstance(number, float) and not math.isfinite(number)
    ]


@dataclass(frozen=True, kw_only=True)
class GeneratorConfig:
    """Shape of a generator. The defaults are those trained on a CPU at 64 px.

    Parameters
    ----------
    resolution : int
        Side of the image in pixels, a power of two.
    channels : mapping of int to int
        Feature channels at each block resolution; empty: :func:`small_channels`.
    z_dim, w_dim, c_dim : int
        Sizes of the latents and of the condition vector (0: unconditional).
    num_mapping_layers : int
        Depth of the mapping network.
    mapping_lr_multiplier : float
        Runtime scale of the mapping network's weights (stored weights are 1 / this times larger).
    mapping_features, embed_features : int or None
        Width of the hidden mapping layers and of the condition's embedding; None: ``w_dim``.
    architecture : str
        "skip" (an RGB image per block, summed), "resnet" or "orig" (RGB in the last block only).
    conv_clamp : float or None
        Activations are clamped to +-this.
    resample_filter : tuple of float
        Taps of the separable filter used to upsample.
    use_noise : bool
        Whether layers add noise.
    img_channels : int
        Channels of the image.
    """

    resolution: int = 64
    channels: Mapping[int, int] = field(default_factory=dict)
    z_dim: int = 64
    w_dim: int = 128
    c_dim: int = 0
    num_mapping_layers: int = 4
    mapping_lr_multiplier: float = 0.01
    mapping_features: int | None = None
    embed_features: int | None = None
    architecture: str = "skip"
    conv_clamp: float | None = None
    resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    use_noise: bool = True
    img_channels: int = 3

    def __post_init__(self) -> None:
        channels = self.channels or small_channels(self.resolution)
        object.__setattr__(self, "channels", _complete(channels, self.resolution))
        object.__setattr__(self, "resample_filter", tuple(float(tap) for tap in self.resample_filter))
        if self.architecture not in ARCHITECTURES:
            raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {self.architecture!r}")
        _positive(self, "z_dim", "w_dim", "num_mapping_layers", "mapping_lr_multiplier", "img_channels")

    @property
    def num_ws(self) -> int:
        """Number of w vectors of one image: one per convolution and one for the last RGB layer."""
        return 2 * len(self.channels)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> GeneratorConfig:
        """Inverse of :meth:`to_dict`; unknown keys raise TypeError."""
        return cls(**_with_integer_channels(values))


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """Shape of a discriminator (residual blocks).

    Parameters
    ----------
    resolution, channels, c_dim, img_channels, resample_filter, conv_clamp
        As in :class:`GeneratorConfig`.
    cmap_dim : int or None
        Size of the mapped condition; None: the channels at 4 px.
    num_mapping_layers : int
        Depth of the condition's mapping network.
    mapping_lr_multiplier : float
        Runtime scale of the condition mapping's weights.
    mbstd_group_size, mbstd_channels : int
        Minibatch standard deviation: images per group, and maps it adds.
    """

    resolution: int = 64
    channels: Mapping[int, int] = field(default_factory=dict)
    c_dim: int = 0
    cmap_dim: int | None = None
    num_mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    conv_clamp: float | None = None
    resample_filter: tuple[float, ...] = (1.0, 3.0, 3.0, 1.0)
    img_channels: int = 3
    mbstd_group_size: int = 4
    mbstd_channels: int = 1

    def __post_init__(self) -> None:
        if self.resolution < 8:
            raise ValueError(f"a discriminator works on images of at least 8 px, got {self.resolution}")
        channels = self.channels or small_channels(self.resolution)
        object.__setattr__(self, "channels", _complete(channels, self.resolution))
        object.__setattr__(self, "resample_filter", tuple(float(tap) for tap in self.resample_filter))
        _positive(self, "num_mapping_layers", "mapping_lr_multiplier", "img_channels", "mbstd_group_size")

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> DiscriminatorConfig:
        """Inverse of :meth:`to_dict`; unknown keys raise TypeError."""
        return cls(**_with_integer_channels(values))


def _complete(channels: Mapping[int, int], resolution: int) -> dict[int, int]:
    plan = {r: int(channels.get(r, 0)) for r in resolutions(resolution)}
    missing = [r for r, width in plan.items() if width < 1]
    if missing:
        raise ValueError(f"channels must be at least 1 for every block up to {resolution} px, wrong: {missing}")
    return plan


def _positive(config: GeneratorConfig | DiscriminatorConfig, *names: str) -> None:
    wrong = [f"{name} = {getattr(config, name)}" for name in names if not getattr(config, name) > 0]
    if wrong:
        raise ValueError(f"must be positive: {', '.join(wrong)}")
    if not_finite(config):
        raise ValueError(f"must be finite: {', '.join(not_finite(config))}")
    if config.num_mapping_layers > MAX_LAYERS:
        raise ValueError(f"num_mapping_layers is at most {MAX_LAYERS}, got {config.num_mapping_layers}")


def _plain(config: GeneratorConfig | DiscriminatorConfig) -> dict[str, Any]:
    values = asdict(config)
    values["channels"] = {str(r): width for r, width in config.channels.items()}
    values["resample_filter"] = list(config.resample_filter)
    return values


def _with_integer_channels(values: Mapping[str, Any]) -> dict[str, Any]:
    channels = {int(r): int(width) for r, width in values.get("channels", {}).items()}
    return {**values, "channels": channels}
