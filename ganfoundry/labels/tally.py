"""Sums over the members of an ensemble for one image, and what follows from them: labels, uncertainty, keypoints.

Members and rows of the image come in any order, so no more than one tile's outputs ever exist. The entropy of a member
is taken from its logits z, H = ln sum_c exp z_c - sum_c p_c z_c: one logarithm a pixel instead of one a class.
"""

import math

import torch
from torch import Tensor

from ganfoundry.labels.interpreter_config import InterpreterConfig
from ganfoundry.labels.keypoints import peak_places
from ganfoundry.labels.uncertainty import divergence

_LEAST_HEIGHT = 0.05  # of a peak: lower ones are no more uncertain
_SPREAD_RADIUS = 3.0  # of the window in which heat maps are compared, in standard deviations of the Gaussian


class Tally:
    """Running sums of one image.

    Parameters
    ----------
    config : InterpreterConfig
    """

    def __init__(self, config: InterpreterConfig) -> None:
        side = config.resolution
        self.config = config
        self.probability, self.votes = (torch.zeros(config.num_classes, side, side) for _ in range(2))
        self.entropy = torch.zeros(side, side)
        self.heat, self.heat_square = (torch.zeros(config.num_keypoints, side, side) for _ in range(2))
        self._ids = torch.arange(config.num_classes)[:, None]

    def add(self, rows: slice, outputs: Tensor) -> None:
        """Count outputs (rows, members, classes, R), or with the heat values of a shared head behind the logits."""
        logits = outputs[:, :, : self.config.num_classes].float()
        highest, chosen = logits.max(2, keepdim=True)
        logits = logits - highest
        weight = logits.exp()
        total = weight.sum(2, keepdim=True)
        probability = weight.div_(total)
        self.probability[:, rows] += probability.sum(1).transpose(0, 1)
        self.entropy[rows] += (total.log_().squeeze(2) - probability.mul_(logits).sum(2)).sum(1)
        if self.config.voting == "majority":
            self.votes[:, rows] += (chosen == self._ids).sum(1).transpose(0, 1)
        if outputs.shape[2] > self.config.num_classes:
            self.add_heat(rows, outputs[:, :, self.config.num_classes :])

    def add_heat(self, rows: slice, heat: Tensor) -> None:
        """Count heat outputs (rows, members, K, R): heat values, or their logits as the configuration says."""
        heat = heat.float().sigmoid() if self.config.heat == "sigmoid" else heat.float()
        self.heat[:, rows] += heat.sum(1).transpose(0, 1)
        self.heat_square[:, rows] += heat.square().sum(1).transpose(0, 1)

    def shares(self) -> Tensor:
        """Mean probabilities, or shares of the vote, (classes, R, R)."""
        sums = self.votes if self.config.voting == "majority" else self.probability
        return sums / self.config.members

    def uncertainty(self) -> Tensor:
        """Jensen-Shannon divergence of the members, (R, R), nats."""
        return divergence(self.probability / self.config.members, self.entropy / self.config.members, dim=0)

    def keypoints(self) -> tuple[Tensor, Tensor]:
        """Places with the chance of being visible, (K, 3), and their uncertainty in pixels, (K,)."""
        mean, square = self.heat / self.config.members, self.heat_square / self.config.members
        places = peak_places(mean, self.config.keypoint_sigma)
        spread = heat_spread(mean, square, places, self.config.keypoint_sigma)
        slope, middle = self.config.visibility
        places[:, 2] = torch.sigmoid(slope * (places[:, 2] - middle))
        return places, spread


def heat_spread(mean: Tensor, mean_square: Tensor, places: Tensor, sigma: float) -> Tensor:
    """How far apart the members' heat maps lie, as a distance.

    Gaussians of height a that are shifted by a small d differ from their mean by (pi / 2) a^2 E|d|^2, summed over the
    pixels, whatever their width. So sqrt(2 / pi sum of the variance) / a is the root mean square of the shift; a
    keypoint that some members do not see at all counts as far away.

    Parameters
    ----------
    mean, mean_square : (K, R, R) float, over the members, of the heat and of its square
    places : (K, 2 or more) float, x and y in pixels: only pixels within 3 sigma of them are compared
    sigma : float, pixels

    Returns
    -------
    (K,) float, pixels
    """
    centre = torch.arange(mean.shape[-1]) + 0.5
    near_x, near_y = ((centre - places[:, axis, None]).abs() <= _SPREAD_RADIUS * sigma for axis in (0, 1))
    variance = (mean_square - mean.square()).clamp(min=0)
    height = mean.flatten(1).amax(1).clamp(min=_LEAST_HEIGHT)
    return (variance * near_y[:, :, None] * near_x[:, None, :]).sum((1, 2)).mul(2 / math.pi).sqrt() / height
