"""One camera for each viewpoint code, learnt together with the shapes.

GANverse3D (section 3.1): a person sorts each viewpoint code into one of twelve azimuth bins, elevation is taken as 0
and the distance as one number; from there the cameras are optimised with the network. Every image made from a code has
its camera. Generators are not perfect cameras: each image may deviate a little, against a penalty.

Codes that never show the same object, such as those of two body types, have nothing in common that fixes their scale:
a van twice as far and twice as large gives the same pictures. Each group's mean distance and shift are therefore held
at what all cameras share; learnt freely, vans came nearer and out too small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganfoundry.errors import InputError
from ganfoundry.render.cameras import Cameras

_SCALES = (10.0, 10.0, 0.1, 0.1)  # what 1 means: degrees, degrees, log distance, image sides


class CameraTable(nn.Module):
    """Cameras of codes, with small deviations of single images.

    Parameters
    ----------
    azimuths : sequence of float
        Degrees, where each code's camera starts: the middle of its azimuth bin.
    num_images : int
        Images that may deviate; 0: none.
    distance, fov : float
        Metres and degrees, for all codes; the distances are then optimised.
    fixed : bool
        Keep all cameras as they are.
    groups : sequence of int, optional
        Which group each code is in, see `MultiView.code_groups`; by default all are in one, whose mean is free.
    """

    start: Tensor
    doubt: Tensor
    scale: Tensor
    members: Tensor | None

    def __init__(
        self,
        azimuths: Sequence[float],
        num_images: int,
        distance: float,
        fov: float,
        *,
        fixed: bool = False,
        groups: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        if not len(azimuths) or not all(math.isfinite(a) for a in azimuths):
            raise InputError(f"a camera table needs one azimuth a viewpoint code, not {list(azimuths)}")
        self.distance, self.fov = distance, fov
        # azimuth, elevation, log distance, shift x and y; of all codes together, of each, and of images. A code is in
        # few batches; what is wrong with all cameras alike, such as the elevation of 0, is found faster together.
        self.common = nn.Parameter(torch.zeros(5), requires_grad=not fixed)
        self.codes = nn.Parameter(torch.zeros(len(azimuths), 5), requires_grad=not fixed)
        self.images = nn.Parameter(torch.zeros(num_images, 5), requires_grad=not fixed and num_images > 0)
        self.register_buffer("start", torch.tensor([float(a) for a in azimuths]))
        self.register_buffer("doubt", torch.zeros(len(azimuths), 2))  # mean losses of the camera and of the one behind
        self.register_buffer("scale", torch.tensor([*_SCALES, _SCALES[-1]]), persistent=False)
        several = groups is not None and len(set(groups)) > 1
        self.register_buffer("members", _members(torch.tensor(groups)) if several else None, persistent=False)

    def parameters_of(self, codes: Tensor, images: Tensor | None = None) -> Tensor:
        """Azimuth and elevation (degrees), log distance relative to the start, shift x and y (image sides), (N, 5)."""
        values = self.common + self._of_codes()[codes]
        if images is not None and len(self.images):
            values = values + self.images[images]
        values = values * self.scale
        return torch.cat([(self.start[codes] + values[:, 0])[:, None], values[:, 1:]], 1)

    def _of_codes(self) -> Tensor:
        """The codes' own parameters (n, 5), without the mean log distance and shift of their group."""
        if self.members is None:
            return self.codes
        return torch.cat([self.codes[:, :2], self.codes[:, 2:] - self.members @ self.codes[:, 2:]], 1)

    def forward(self, codes: Tensor, images: Tensor | None = None, *, turn: float = 0.0) -> Cameras:
        """Cameras of rows.

        Parameters
        ----------
        codes, images : Tensor, int64 (N,)
        turn : float
            Degrees added to the azimuth: 180 asks for the camera behind.
        """
        parameters = self.parameters_of(codes, images)
        return cameras_of(parameters + parameters.new_tensor([turn, 0, 0, 0, 0]), self.distance, self.fov)

    def deviation(self, images: Tensor) -> Tensor:
        """Mean square of the images' deviations, in units of 10 degrees, 10 % and a tenth of the image; scalar."""
        if not len(self.images):
            return self.images.new_zeros(())
        return self.images[images].square().mean()

    # ------------------------------------------------------------ front or back

    @torch.no_grad()
    def observe(self, codes: Tensor, ahead: Tensor, behind: Tensor, rate: float = 0.2) -> None:
        """Remember the losses (N,) of images under their code's camera and under the one behind it."""
        pair = torch.stack([ahead, behind], 1)
        for code in codes.unique():
            mean = pair[codes == code].mean(0)
            known = bool(self.doubt[code].sum() > 0)
            self.doubt[code] = self.doubt[code].lerp(mean, rate) if known else mean

    @torch.no_grad()
    def turn_doubtful(self, margin: float = 0.05) -> list[int]:
        """Turn by 180 degrees the codes whose camera behind has a loss smaller by a share `margin`; their numbers."""
        worse = (self.doubt[:, 1] < (1 - margin) * self.doubt[:, 0]).nonzero().flatten()
        self.start[worse] = (self.start[worse] + 180) % 360
        self.doubt[worse] = 0
        return [int(code) for code in worse]


def _members(groups: Tensor) -> Tensor:
    """Matrix (n, n) that takes each row's group mean."""
    same = (groups[:, None] == groups[None]).float()
    return same / same.sum(1, keepdim=True)


def cameras_of(parameters: Tensor, distance: float, fov: float) -> Cameras:
    """Cameras of azimuth, elevation (degrees), log relative distance, shift x and y (N, 5)."""
    azimuth, elevation, log_distance = parameters[:, 0], parameters[:, 1], parameters[:, 2]
    return Cameras.from_angles(azimuth, elevation, distance * log_distance.exp(), fov, shift=parameters[:, 3:])
