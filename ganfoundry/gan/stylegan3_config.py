"""Configuration of StyleGAN3 and the geometry of its layers (arXiv:2106.12423, section 3.2, figure 4c).

Every layer is a band-limited signal: a cutoff frequency it may hold, a stopband from which its filters suppress
everything, a sampling rate that is a power of two, and a size that exceeds the image by a margin on every side. Cutoff
and stopband grow geometrically from the first layer to the last ``num_critical`` + 1 ones. Frequencies are in cycles
per image side, sampling rates in samples per image side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ganfoundry.gan.config import MAX_LAYERS, MAX_RESOLUTION, not_finite


@dataclass(frozen=True, kw_only=True)
class StyleGAN3Config:
    """Shape of a StyleGAN3 generator. The defaults are those of StyleGAN3-T.

    Parameters
    ----------
    resolution : int
        Side of the image in pixels.
    img_channels : int
        Channels of the image.
    z_dim, w_dim, c_dim : int
        Sizes of the latents and of the condition vector (0: unconditional).
    num_mapping_layers : int
        Depth of the mapping network.
    mapping_lr_multiplier : float
        Runtime scale of the mapping network's weights.
    channel_base, channel_max : int
        A layer of cutoff f has min(channel_base / (2 f), channel_max) channels.
    num_layers : int
        Convolutions, without the last one to RGB.
    num_critical : int
        Convolutions at the end that use their whole band, without room for the filter's transition.
    first_cutoff, first_stopband : float
        Of the Fourier features and the first convolution.
    last_stopband_rel : float
        Stopband of the last layer relative to its cutoff, which is half the resolution.
    margin_size : int
        Samples beyond the image on every side.
    output_scale : float
        Factor of the image.
    conv_kernel : int
        Side of the convolutions: 3 (T) or 1 (R).
    filter_size : int
        Taps of a filter per factor of its up- or downsampling.
    lrelu_upsampling : int
        Factor by which the signal is oversampled around the leaky ReLU.
    use_radial_filters : bool
        Whether downsampling is by two-dimensional, radially symmetric filters (R), except in critical layers.
    conv_clamp : float or None
        Activations are clamped to +-this.
    """

    resolution: int
    img_channels: int = 3
    z_dim: int = 512
    w_dim: int = 512
    c_dim: int = 0
    num_mapping_layers: int = 2
    mapping_lr_multiplier: float = 0.01
    channel_base: int = 32768
    channel_max: int = 512
    num_layers: int = 14
    num_critical: int = 2
    first_cutoff: float = 2.0
    first_stopband: float = 2.0**2.1
    last_stopband_rel: float = 2.0**0.3
    margin_size: int = 10
    output_scale: float = 0.25
    conv_kernel: int = 3
    filter_size: int = 6
    lrelu_upsampling: int = 2
    use_radial_filters: bool = False
    conv_clamp: float | None = 256.0

    def __post_init__(self) -> None:
        positive = ["resolution", "img_channels", "z_dim", "w_dim", "num_mapping_layers", "mapping_lr_multiplier"]
        positive += ["channel_base", "channel_max", "num_layers", "first_cutoff", "first_stopband", "last_stopband_rel"]
        positive += ["conv_kernel", "filter_size", "lrelu_upsampling"]
        wrong = [f"{name} = {getattr(self, name)}" for name in positive if not getattr(self, name) > 0]
        wrong += [f"{name} = {getattr(self, name)}" for name in ("c_dim", "margin_size") if getattr(self, name) < 0]
        wrong += not_finite(self)
        if wrong:
            raise ValueError(f"out of range: {', '.join(wrong)}")
        if self.resolution > MAX_RESOLUTION or max(self.num_layers, self.num_mapping_layers) > MAX_LAYERS:
            raise ValueError(f"at most {MAX_RESOLUTION} px and {MAX_LAYERS} layers, got {self.resolution} px")
        if max(self.margin_size, self.filter_size, self.conv_kernel, self.lrelu_upsampling) > 64:
            raise ValueError("margin_size, filter_size, conv_kernel and lrelu_upsampling are at most 64")
        if not 0 <= self.num_critical < self.num_layers:
            raise ValueError(f"num_critical must be 0 to num_layers - 1, got {self.num_critical} of {self.num_layers}")
        if not self.first_cutoff < self.resolution / 2:
            raise ValueError(f"first_cutoff must be below half the resolution, got {self.first_cutoff}")

    mapping_features = None  # hidden layers and the embedded condition are as wide as w
    embed_features = None

    @property
    def num_ws(self) -> int:
        """Number of w vectors of one image: the input's, one per convolution, and the RGB layer's."""
        return self.num_layers + 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values that JSON can hold."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StyleGAN3Config:
        """Inverse of :meth:`to_dict`; unknown keys raise TypeError."""
        return cls(**values)


@dataclass(frozen=True)
class Signal:
    """The band-limited signal that a layer gives out.

    Attributes
    ----------
    cutoff, half_width : float
        End of the passband and half the width of the transition band, cycles per image side.
    sampling_rate : int
        Samples per image side.
    size : int
        Samples in all, margins included.
    channels : int
    """

    cutoff: float
    half_width: float
    sampling_rate: int
    size: int
    channels: int


@dataclass(frozen=True)
class LayerGeometry:
    """Geometry of a convolution and of the resampling around its leaky ReLU.

    Attributes
    ----------
    name : str
        ``L{index}_{size}_{channels}``.
    source, target : Signal
        What it takes and gives.
    kernel : int
        Side of the convolution; its padding is ``kernel - 1``.
    up, down : int
        Factors before and after the leaky ReLU.
    up_taps, down_taps : int
        Taps of the filters, 1: none.
    radial : bool
        Whether the second filter is two-dimensional.
    critical : bool
        Whether it is one of the last layers, which leave no room for the filter's transition band.
    to_rgb : bool
        Whether it is the last layer.
    padding : (int, int)
        Samples before and after the upsampled map, negative ones are cropped.
    """

    name: str
    source: Signal
    target: Signal
    kernel: int
    up: int
    down: int
    up_taps: int
    down_taps: int
    radial: bool
    critical: bool
    to_rgb: bool
    padding: tuple[int, int]


def signals(config: StyleGAN3Config) -> list[Signal]:
    """Signals of the layers 0 .. num_layers; the Fourier features have the first one's band, size and channels."""
    last_cutoff = config.resolution / 2
    last_stopband = last_cutoff * config.last_stopband_rel
    progress = np.minimum(np.arange(config.num_layers + 1) / (config.num_layers - config.num_critical), 1)
    cutoffs = config.first_cutoff * (last_cutoff / config.first_cutoff) ** progress
    stopbands = config.first_stopband * (last_stopband / config.first_stopband) ** progress
    rates = np.exp2(np.ceil(np.log2(np.minimum(stopbands * 2, config.resolution))))
    half_widths = np.maximum(stopbands, rates / 2) - cutoffs
    sizes = rates + 2 * config.margin_size
    sizes[-2:] = config.resolution
    channels = np.rint(np.minimum(config.channel_base / 2 / cutoffs, config.channel_max))
    channels[-1] = config.img_channels
    rows = zip(cutoffs, half_widths, rates, sizes, channels, strict=True)
    return [Signal(float(f), float(h), int(s), int(n), int(c)) for f, h, s, n, c in rows]


def layer_geometry(config: StyleGAN3Config) -> list[LayerGeometry]:
    """Geometry of all convolutions, the one to RGB last."""
    levels = signals(config)
    layers = []
    for index, target in enumerate(levels):
        source = levels[max(index - 1, 0)]
        to_rgb = index == config.num_layers
        critical = index >= config.num_layers - config.num_critical
        kernel = 1 if to_rgb else config.conv_kernel
        inner = max(source.sampling_rate, target.sampling_rate) * (1 if to_rgb else config.lrelu_upsampling)
        up, down = round(inner / source.sampling_rate), round(inner / target.sampling_rate)
        up_taps = config.filter_size * up if up > 1 and not to_rgb else 1
        down_taps = config.filter_size * down if down > 1 and not to_rgb else 1
        # The filters eat taps - 1 samples each; what is left must be ``down`` apart and as many as the target has.
        wanted = (target.size - 1) * down + 1 + (up_taps - 1) + (down_taps - 1)
        total = wanted - (source.size + kernel - 1) * up
        before = (total + up) // 2  # keeps the samples centred on the image at every factor
        name = f"L{index}_{target.size}_{target.channels}"
        radial = config.use_radial_filters and not critical
        layers.append(
            LayerGeometry(
                name,
                source,
                target,
                kernel,
                up,
                down,
                up_taps,
                down_taps,
                radial,
                critical,
                to_rgb,
                (before, total - before),
            )
        )
    return layers
