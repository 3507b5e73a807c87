"""Networks of inverse graphics: image -> code -> shape, texture, parts, keypoints and camera.

The code is 256 numbers. The shape is a learned mean, plus a linear basis, plus a displacement painted in texture space;
the texture is painted in texture space too, with what the image itself shows laid over what the network imagines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganfoundry.render.cameras import Cameras
from ganfoundry.render.renderer import render
from ganfoundry.render.topology import Topology
from ganfoundry.shape.hidden import own_numbers, paint_hidden, painted_from
from ganfoundry.shape.regularisers import mirrored
from ganfoundry.shape.smoothing import smoothing_matrix
from ganfoundry.shape.template import sphere_template
from ganfoundry.shape.uv import TexelMap, mirrored_texture, spread_colours, texel_map, unproject

_KEYPOINT_RANK = 16
_SEEN_CHANNELS = 8  # colours and visibility, and the same mirrored
_BLEND_CHANNELS = 24
_HALFWAY = 2  # stages of the painter that the displacement needs too
_MIRRORED = (-1.0, 1.0, 1.0, 1.0, -1.0, 1.0)  # what a mirror does to the camera head's numbers
_FULL = 0.95  # colours beyond are out of tanh's reach


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What an inverse-graphics network is; everything needed to rebuild it besides its weights.

    Attributes
    ----------
    num_parts : int
        Part classes with the background, which is class 0.
    num_keypoints : int
    level : int
        Of the icosphere: 3 has 642 vertices.
    width : int
        Channels of the encoder's first stage; the last has eight times as many.
    code, basis : int
        Numbers of the code, and of the linear shape basis.
    texture : (height, width)
        Texels; height is 8 times a power of two, width twice the height.
    radii : (3,)
        Half axes x, y, z of the ellipsoid that training starts from, metres.
    distance, fov : float
        Camera distance in metres at the start, field of view in degrees (fixed).
    symmetric_shape, symmetric_texture : bool
        Whether the left half of the mesh is the mirror image of the right, and whether what is hidden is painted as
        the mirror image of what is seen.
    smoothing : float
        Of everything that moves vertices; see `ganfoundry.shape.smoothing`. 0: none.
    keypoint_gain, part_gain : float
        Factors of the logits of keypoints and parts that are parameters themselves: Adam moves a parameter by its rate
        at most, and a distribution over hundreds of vertices needs logits of 10.
    keypoint_mirror : tuple of int
        Number of each keypoint's mirror image (its own in the middle), which takes the mirrored distribution; empty:
        each is free.
    spread : bool
        Whether hidden places are painted as a change of the colours seen nearest to them, or from nothing.
    hidden_part : int or None
        Class of what no view of the training shows, such as an underside; None: that of the nearest place shown.
    """

    num_parts: int
    num_keypoints: int
    level: int = 3
    width: int = 32
    code: int = 256
    basis: int = 64
    texture: tuple[int, int] = (64, 128)
    radii: tuple[float, float, float] = (0.45, 0.4, 0.9)
    distance: float = 4.0
    fov: float = 30.0
    symmetric_shape: bool = True
    symmetric_texture: bool = True
    smoothing: float = 0.5
    keypoint_gain: float = 150.0
    part_gain: float = 20.0
    keypoint_mirror: tuple[int, ...] = ()
    spread: bool = True
    hidden_part: int | None = None


class CameraGuess(NamedTuple):
    """What the camera head reads off an image."""

    direction: Tensor  # (N, 2) sine and cosine of the azimuth, unit
    elevation: Tensor  # (N,) degrees
    log_distance: Tensor  # (N,) log of the distance relative to the configured one
    shift: Tensor  # (N, 2) image sides

    @property
    def azimuth(self) -> Tensor:
        """Degrees, (N,)."""
        return torch.rad2deg(torch.atan2(self.direction[:, 0], self.direction[:, 1]))


class Shape(NamedTuple):
    """Meshes of N images, all with the template's topology."""

    vertices: Tensor  # (N, V, 3) metres
    displacement: Tensor  # (N, V, 3) from the starting ellipsoid, metres
    code: Tensor  # (N, code)
    keypoint_weights: Tensor  # (N, K, V), each row sums to 1
    halfway: Tensor  # (N, C, h, 2 h), the painter's features that the displacement was read off

    @property
    def keypoints(self) -> Tensor:
        """(N, K, 3) metres: means of the vertices' places under each keypoint's distribution (DatasetGAN, 3D)."""
        return self.keypoint_weights @ self.vertices


class Surface(NamedTuple):
    """What is painted on N meshes, in texture space."""

    colours: Tensor  # (N, 3, H, W) in [-1, 1]
    parts: Tensor  # (N, parts - 1, H, W) logits of the classes other than background
    seen: Tensor  # (N, 1, H, W) 0..1, how far the colours are the image's own


class Residual(nn.Module):
    """Two 3 x 3 convolutions with group normalisation beside a 1 x 1 one."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.norms = nn.ModuleList(nn.GroupNorm(8, outputs) for _ in range(2))
        self.skip = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H / stride, W / stride)."""
        y = F.silu(self.norms[0](self.first(x)))
        result: Tensor = F.silu(self.norms[1](self.second(y)) + self.skip(x))
        return result


class InverseGraphicsNetwork(nn.Module):
    """Image -> mesh with texture, parts, keypoints, and the camera it was seen from.

    Parameters
    ----------
    config : NetworkConfig
    """

    start: Tensor
    mirror: Tensor
    smooth: Tensor
    faces: Tensor
    vertex_uv: Tensor
    paint_source: Tensor

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        template = sphere_template(config.level)
        vertices = torch.from_numpy(template.vertices) * torch.tensor(config.radii)
        self.register_buffer("start", vertices, persistent=False)
        self.register_buffer("mirror", torch.from_numpy(template.mirror), persistent=False)
        self.register_buffer("smooth", smoothing_matrix(config.level, config.smoothing), persistent=False)
        self.register_buffer("faces", torch.from_numpy(template.faces), persistent=False)
        self.register_buffer("vertex_uv", torch.from_numpy(template.uv)[: len(vertices)], persistent=False)
        self.topology = Topology.of(torch.from_numpy(template.faces), len(vertices))
        self.texels: TexelMap = texel_map(config.level, *config.texture)
        # The texel whose paint each takes; its own until training has ended, see `hide`.
        self.register_buffer("paint_source", own_numbers(torch.empty(config.texture)))
        w = config.width
        self.encoder = nn.Sequential(
            nn.Conv2d(3, w, 5, 2, 2),
            Residual(w, w),
            Residual(w, 2 * w, 2),
            Residual(2 * w, 4 * w, 2),
            Residual(4 * w, 8 * w, 2),
        )
        self.to_code = nn.Linear(8 * w, config.code)
        self.camera_head = nn.Linear(config.code, 6)
        self.mean = nn.Parameter(torch.zeros(len(vertices), 3))
        self.coefficients = nn.Sequential(
            nn.Linear(config.code, config.code), nn.SiLU(), nn.Linear(config.code, config.basis)
        )
        self.basis = nn.Parameter(torch.randn(config.basis, len(vertices), 3) * 0.01)
        self.keypoint_logits = nn.Parameter(torch.zeros(config.num_keypoints, len(vertices)))
        self.keypoint_coefficients: nn.Linear | None = None
        if config.num_keypoints:
            self.keypoint_coefficients = nn.Linear(config.code, config.num_keypoints * _KEYPOINT_RANK)
            nn.init.zeros_(self.keypoint_coefficients.weight)
            nn.init.zeros_(self.keypoint_coefficients.bias)
        self.keypoint_basis = nn.Parameter(torch.randn(_KEYPOINT_RANK, len(vertices)) * 0.1)
        self.part_logits = nn.Parameter(torch.zeros(1, config.num_parts - 1, *config.texture))
        self.painter = Painter(config)

    def encode(self, image: Tensor) -> Tensor:
        """Code (N, code) of images (N, 3, S, S) in [-1, 1]."""
        features = self.encoder(image.contiguous(memory_format=torch.channels_last))
        code: Tensor = F.silu(self.to_code(features.mean((2, 3))))
        return code

    def camera(self, code: Tensor, mirrored: Tensor | None = None) -> CameraGuess:
        """Read the camera off the code, or off it and the code of the mirror image, whose camera is mirrored too."""
        raw = self.camera_head(code).float()
        if mirrored is not None:
            raw = (raw + raw.new_tensor(_MIRRORED) * self.camera_head(mirrored).float()) / 2
        return CameraGuess(F.normalize(raw[:, :2], dim=1), 30 * raw[:, 2], raw[:, 3], 0.1 * raw[:, 4:])

    def shape(self, code: Tensor) -> Shape:
        """Meshes and keypoints of codes (N, code)."""
        halfway = self.painter.halfway(code)
        offset = torch.einsum("nb,bvc->nvc", self.coefficients(code).float(), self.basis)
        offset = self.smooth @ (offset + self._painted_displacement(halfway) + self.mean)
        if self.config.symmetric_shape:
            offset = (offset + mirrored(offset, self.mirror)) / 2
        return Shape(self.start + offset, offset, code, self._keypoint_weights(code), halfway)

    def _keypoint_weights(self, code: Tensor) -> Tensor:
        """Distributions over the vertices: one for all objects, moved a little by each code."""
        if self.keypoint_coefficients is None:
            return self.keypoint_logits.expand(len(code), -1, -1)
        coefficients = self.keypoint_coefficients(code).float().unflatten(1, (-1, _KEYPOINT_RANK))
        logits: Tensor = self.config.keypoint_gain * self.keypoint_logits + coefficients @ self.keypoint_basis
        if self.config.keypoint_mirror:
            logits = (logits + logits[:, list(self.config.keypoint_mirror)][:, :, self.mirror]) / 2
        return logits.softmax(2)

    def _painted_displacement(self, halfway: Tensor) -> Tensor:
        """The displacement map read at the vertices, (N, V, 3)."""
        painted = self.painter.relief(halfway).float()
        wide = F.pad(painted, (1, 1, 0, 0), mode="circular")
        width = painted.shape[3]
        u = (self.vertex_uv[:, 0] % 1.0 * width + 1) / (width + 2)
        grid = torch.stack([u, self.vertex_uv[:, 1]], 1) * 2 - 1
        sampled = F.grid_sample(wide, grid.expand(len(halfway), 1, -1, 2), align_corners=False, padding_mode="border")
        return sampled[:, :, 0].transpose(1, 2)

    def surface(self, image: Tensor, shape: Shape, cameras: Cameras, masks: Tensor | None = None) -> Surface:
        """Paint meshes: where the image shows them with its colours, elsewhere with imagined ones.

        Parameters
        ----------
        image : Tensor, (N, 3, S, S) in [-1, 1]
        shape : Shape
        cameras : Cameras
            From which the image sees the meshes.
        masks : Tensor, (N, S, S) 0..1, optional
            Where the image shows the object; see `ganfoundry.shape.uv.unproject`.
        """
        with torch.no_grad():
            depth = render(shape.vertices, self.topology, cameras, image.shape[-1], silhouette="soft").depth
            colours, seen = unproject(image, shape.vertices, self.faces, cameras, depth, self.texels, masks)
            known, sure = colours, seen
            if self.config.symmetric_texture:  # the other side, where it is seen better
                other, other_seen = mirrored_texture(colours), mirrored_texture(seen)
                better = other_seen > seen
                known, sure = torch.where(better, other, colours), torch.where(better, other_seen, seen)
            base = torch.atanh(_FULL * spread_colours(known, sure)) if self.config.spread else 0.0
            shown = torch.cat([colours * seen, seen, known * sure, sure], 1)
        maps = self.painter(shape.halfway, shown).float()
        imagined, parts = (maps[:, :3] + base).tanh(), maps[:, 3:]
        parts = self.config.part_gain * self.part_logits + parts
        painted = sure * known + (1 - sure) * imagined
        if self.hidden.any():
            part = self.config.hidden_part
            painted, parts = paint_hidden(painted, parts, self.paint_source, None if part is None else part - 1)
        return Surface(painted, parts, seen)

    @property
    def hidden(self) -> Tensor:
        """Which texels no view of the training shows, bool (H, W)."""
        return self.paint_source != own_numbers(self.paint_source)

    def hide(self, shown: Tensor) -> None:
        """Say which texels are shown, bool (H, W); from now on the others are painted as `hidden_part` says."""
        points = self.texels.points(self.start[None], self.faces)[0]
        self.paint_source.copy_(painted_from(shown, points))


class Painter(nn.Module):
    """From a code to maps in texture space, coarse to fine; only two thin layers work at the texture's own size.

    Nearly all of a training step's time would otherwise be spent there.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        doublings = (config.texture[0] // 8).bit_length() - 1  # from 4 rows to half of the texture's
        widths = [128, 96, 64, 48, 32, 24, 24][: doublings + 1]
        self.seed = nn.Linear(config.code, widths[0] * 4 * 8)
        self.stages = nn.ModuleList(Residual(widths[i], widths[i + 1]) for i in range(doublings))
        self.relief = nn.Conv2d(widths[min(_HALFWAY, doublings)], 3, 3, padding=1)
        self.blend = nn.Conv2d(widths[-1] + _SEEN_CHANNELS, _BLEND_CHANNELS, 3, padding=1)
        self.paint = nn.Conv2d(_BLEND_CHANNELS, 3 + config.num_parts - 1, 3, padding=1)
        self.first = widths[0]
        assert self.relief.bias is not None
        nn.init.zeros_(self.relief.weight)
        nn.init.zeros_(self.relief.bias)

    def halfway(self, code: Tensor) -> Tensor:
        """Features (N, C, h, 2 h), h 16 or less, that displacement and colours are both read off."""
        return self._stages(self.seed(code).view(-1, self.first, 4, 8), self.stages[:_HALFWAY])

    def _stages(self, x: Tensor, stages: Iterable[nn.Module]) -> Tensor:
        for stage in stages:
            x = stage(F.interpolate(x.contiguous(memory_format=torch.channels_last), scale_factor=2.0))
        return x

    def forward(self, halfway: Tensor, shown: Tensor) -> Tensor:
        """Colours before tanh and part logits (N, 3 + P - 1, H, W) of features and of what is seen (N, 8, H, W)."""
        x = self._stages(halfway, self.stages[_HALFWAY:])
        # one layer on both, but the features' share of it at their own size, which has a quarter of the texels
        inputs = x.shape[1]
        imagined = F.conv2d(x, self.blend.weight[:, :inputs], self.blend.bias, padding=1)
        visible = F.conv2d(shown, self.blend.weight[:, inputs:], padding=1)
        painted: Tensor = self.paint(F.silu(F.interpolate(imagined, scale_factor=2.0) + visible))
        return painted
