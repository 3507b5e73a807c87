"""What every StyleGAN generator of this library is from outside: a mapping network and a synthesis network.

The rest of the library (views, labels, inversion) talks to these two classes, so that it works with StyleGAN2 and
StyleGAN3 alike; what differs is in ``layer_names`` and the sizes by layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganfoundry.gan.layers import MappingNetwork, compute_dtype

if TYPE_CHECKING:
    from ganfoundry.gan.config import GeneratorConfig
    from ganfoundry.gan.stylegan3_config import StyleGAN3Config

Noise = str | Mapping[str, Tensor]
NOISE_MODES = ("const", "none", "random")


class StyleSynthesis(nn.Module):
    """w or style vectors to an image; the base of the synthesis networks.

    Attributes
    ----------
    num_ws : int
        How many w vectors drive one image.
    layer_names : list of str
        Layers that take a style vector, in the order of evaluation: keys of ``styles``.
    style_dims : dict of str to int
        Length of each layer's style vector.
    feature_dims : dict of str to (int, int)
        Channels and side of each convolution's output.
    bandwidths : dict of str to float
        Highest frequency that each of these outputs holds, in cycles per image side.
    noise_names : list of str
        Layers that add noise; their side is that of their output.
    w_index : dict of str to int
        Which of the num_ws vectors drives each layer.
    """

    config: GeneratorConfig | StyleGAN3Config
    num_ws: int
    layer_names: list[str]
    style_dims: dict[str, int]
    feature_dims: dict[str, tuple[int, int]]
    bandwidths: dict[str, float]
    noise_names: list[str]
    w_index: dict[str, int]

    def styles(self, ws: Tensor) -> dict[str, Tensor]:
        """Style vectors: the output (N, C_in) of every layer's affine map of its w.

        Parameters
        ----------
        ws : torch.Tensor
            (N, num_ws, w_dim), or (N, w_dim) for the same w in every layer.

        Raises
        ------
        ValueError
            If ``ws`` has another shape.
        """
        if ws.ndim == 2:
            ws = ws.unsqueeze(1).expand(-1, self.num_ws, -1)
        if ws.ndim != 3 or tuple(ws.shape[1:]) != (self.num_ws, self.config.w_dim):
            raise ValueError(f"ws must have shape (N, {self.num_ws}, {self.config.w_dim}), got {tuple(ws.shape)}")
        with torch.autocast(ws.device.type, enabled=False):
            weights_dtype = next(self.parameters()).dtype
            columns = ws.to(weights_dtype).unbind(dim=1)
            return {name: self.get_submodule(f"{name}.affine")(columns[i]) for name, i in self.w_index.items()}

    def forward(
        self,
        ws: Tensor | None = None,
        *,
        styles: Mapping[str, Tensor] | None = None,
        noise: Noise = "const",
        features: Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Image from w vectors or from style vectors.

        Parameters
        ----------
        ws : torch.Tensor, optional
            (N, num_ws, w_dim) or (N, w_dim). Exactly one of ``ws`` and ``styles`` is given.
        styles : mapping of str to torch.Tensor, optional
            A style vector (N, C_in) for every layer of ``layer_names``.
        noise : "const", "none", "random" or mapping of str to torch.Tensor
            Stored maps, none, fresh ones from torch's global generator (training only), or maps (r, r), (1, 1, r, r)
            or (N, 1, r, r) of unit scale by layer name; layers that a mapping does not name use their stored map.
            Networks without ``noise_names`` ignore the three words.
        features : sequence of str, optional
            Convolutions whose output (after the activation) is returned too.
        dtype : torch.dtype, optional
            Type of the feature maps; None: autocast's where it is on, else that of the weights.

        Returns
        -------
        torch.Tensor or (torch.Tensor, dict of str to torch.Tensor)
            Image (N, img_channels, R, R) in the precision of the weights, about [-1, 1], not clamped; with ``features``
            also {name: (N, C, r, r)} in the type of the feature maps, aligned with the image.

        Raises
        ------
        ValueError
            For unknown layer names, missing styles, wrong shapes or an unknown noise mode.
        """
        if ws is not None and styles is None:
            styles = self.styles(ws)
        elif ws is not None or styles is None:
            raise ValueError("give either ws or styles")
        self._check(styles, noise, features or ())
        first = next(iter(styles.values()))
        dtype = compute_dtype(self, first.device, dtype)
        kept: dict[str, Tensor] = {}
        with torch.autocast(first.device.type, enabled=False):
            image = self._synthesise(styles, noise, dtype, kept if features else None)
        return image if features is None else (image, {name: kept[name] for name in features})

    def _synthesise(
        self, styles: Mapping[str, Tensor], noise: Noise, dtype: torch.dtype, kept: dict[str, Tensor] | None
    ) -> Tensor:
        """Image of checked styles; ``kept`` collects the features."""
        raise NotImplementedError

    def _check(self, styles: Mapping[str, Tensor], noise: Noise, features: Sequence[str]) -> None:
        wrong = [
            f"{name} {tuple(styles[name].shape) if name in styles else 'missing'}"
            for name, size in self.style_dims.items()
            if name not in styles or styles[name].ndim != 2 or styles[name].shape[1] != size
        ]
        wrong += [f"{name} unknown" for name in styles if name not in self.style_dims]
        if wrong:
            raise ValueError(f"styles must be one (N, C) per layer of style_dims; wrong: {', '.join(wrong)}")
        if isinstance(noise, str) and noise not in NOISE_MODES:
            raise ValueError(f"noise must be one of {', '.join(NOISE_MODES)} or a mapping, got {noise!r}")
        unknown = [] if isinstance(noise, str) else [name for name in noise if name not in self.noise_names]
        unknown += [name for name in features if name not in self.feature_dims]
        if unknown:
            raise ValueError(f"no such layer: {', '.join(unknown)}; there are {', '.join(self.feature_dims)}")


class StyleGenerator(nn.Module):
    """Mapping and synthesis networks; the base of the generators, which add ``synthesis``.

    Parameters
    ----------
    config : GeneratorConfig or StyleGAN3Config
        Shape.
    """

    synthesis: StyleSynthesis

    def __init__(self, config: GeneratorConfig | StyleGAN3Config) -> None:
        super().__init__()
        self.config = config
        self.num_ws = config.num_ws
        self.mapping = MappingNetwork(
            config.z_dim,
            config.c_dim,
            config.w_dim,
            num_layers=config.num_mapping_layers,
            lr_multiplier=config.mapping_lr_multiplier,
            features=config.mapping_features,
            embed_features=config.embed_features,
            keep_average=True,
        )

    @property
    def w_avg(self) -> Tensor:
        """Mean w (w_dim,), the centre of truncation."""
        return self.mapping.w_avg

    def ws(
        self,
        z: Tensor,
        c: Tensor | None = None,
        *,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """One w for every layer, (N, num_ws, w_dim), from z (N, z_dim) and, for conditional networks, c (N, c_dim).

        The first ``truncation_cutoff`` (None: all) of them are w_avg + truncation * (w - w_avg), the others w.
        """
        w = self.mapping(z, c)
        cut = self.num_ws if truncation_cutoff is None else truncation_cutoff
        near = w if truncation == 1.0 else torch.lerp(self.w_avg.expand_as(w), w, truncation)
        first = torch.arange(self.num_ws, device=w.device)[:, None] < cut
        return torch.where(first, near[:, None], w[:, None])

    def forward(
        self,
        z: Tensor,
        c: Tensor | None = None,
        *,
        truncation: float = 1.0,
        truncation_cutoff: int | None = None,
        noise: Noise = "const",
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Image (N, img_channels, R, R), about [-1, 1]; parameters as in :meth:`ws` and ``StyleSynthesis``."""
        ws = self.ws(z, c, truncation=truncation, truncation_cutoff=truncation_cutoff)
        image: Tensor = self.synthesis(ws, noise=noise, dtype=dtype)
        return image
