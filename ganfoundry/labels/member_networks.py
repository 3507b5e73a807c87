"""The members of an ensemble as one batched network, in training.

Every tensor has a leading member axis, so that one matrix product serves all members. What training needs and
prediction does not (standardised features, batch normalisation, dropout) is folded into plain linear layers or left out
at the end: :meth:`MemberNetworks.folded` gives the weights and biases that a
:class:`ganfoundry.labels.interpreter.StyleInterpreter` holds.
"""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ganfoundry.labels.interpreter_config import Training

Parameters = tuple[list[Tensor], list[Tensor]]  # (members, out, in) weights and (members, out) biases, layer by layer
_EPS, _MOMENTUM = 1e-5, 0.1  # of torch.nn.BatchNorm1d


class MemberNetworks:
    """Per-pixel MLPs: linear, ReLU, (batch normalisation), (dropout), ..., linear.

    Parameters
    ----------
    widths : from the input channels to the outputs
    members : int
    training : Training
    random : torch.Generator, of the initial weights
    silent : slice, optional
        Inputs whose weights begin at 0: what training never sees vary changes nothing.
    """

    def __init__(
        self,
        widths: Sequence[int],
        members: int,
        training: Training,
        random: torch.Generator,
        silent: slice | None = None,
    ) -> None:
        self.dropout, self.batch_norm = training.dropout, training.batch_norm
        self.weights, self.biases = initial_parameters(widths, members, random, training.initialisation)
        if silent is not None:
            self.weights[0][..., silent] = 0
        inner = widths[1:-1] if self.batch_norm else ()
        self.scales = [torch.ones(members, width) for width in inner]
        self.shifts = [torch.zeros(members, width) for width in inner]
        self.running_mean = [torch.zeros(members, width) for width in inner]
        self.running_variance = [torch.ones(members, width) for width in inner]
        for parameter in self.parameters():
            parameter.requires_grad_()

    def parameters(self) -> list[Tensor]:
        """What the optimiser changes."""
        return [*self.weights, *self.biases, *self.scales, *self.shifts]

    def state(self) -> list[Tensor]:
        """All tensors, members first."""
        return [*self.parameters(), *self.running_mean, *self.running_variance]

    def __call__(self, rows: Tensor, random: torch.Generator) -> Tensor:
        """Outputs (members, B, out) of every member on its own rows (members, B, D)."""
        value = rows
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if index:
                value = value.relu()
                if self.batch_norm:
                    value = self._normalised(value, index - 1)
                if self.dropout > 0:
                    kept = torch.rand(value.shape, generator=random) >= self.dropout
                    value = value * kept / (1 - self.dropout)
            value = torch.baddbmm(bias[:, None], value, weight.transpose(1, 2))
        return value

    def _normalised(self, value: Tensor, index: int) -> Tensor:
        mean, variance = value.mean(1), value.var(1, correction=0)
        with torch.no_grad():
            count = value.shape[1]
            self.running_mean[index].lerp_(mean, _MOMENTUM)
            self.running_variance[index].lerp_(variance * count / max(1, count - 1), _MOMENTUM)
        normalised = (value - mean[:, None]) * (variance[:, None] + _EPS).rsqrt()
        return normalised * self.scales[index][:, None] + self.shifts[index][:, None]

    @torch.no_grad()
    def folded(self, mean: Tensor, deviation: Tensor) -> Parameters:
        """Plain layers that read raw features: standardisation and batch normalisation are folded into them.

        Parameters
        ----------
        mean, deviation : (D,) of the features
        """
        weights, biases = [w.detach() for w in self.weights], [b.detach() for b in self.biases]
        weights[0], biases[0] = fold_affine(weights[0], biases[0], 1 / deviation, -mean / deviation)
        for index, (running, variance) in enumerate(zip(self.running_mean, self.running_variance, strict=True)):
            scale = self.scales[index] * (variance + _EPS).rsqrt()
            layer = index + 1
            weights[layer], biases[layer] = fold_affine(
                weights[layer], biases[layer], scale, self.shifts[index] - scale * running
            )
        return weights, biases


def fold_affine(weight: Tensor, bias: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Move x * scale + shift into the linear layer after it: W' = W scale, b' = b + W shift.

    Parameters
    ----------
    weight : (members, out, D);  bias : (members, out);  scale, shift : (D,) or (members, D)
    """
    folded, moved = torch.empty_like(weight), torch.empty_like(bias)
    for member, wide in enumerate(weight):  # in double precision, which is large: one member at a time
        factor, offset = (x if x.ndim == 1 else x[member] for x in (scale.double(), shift.double()))
        folded[member] = wide.double() * factor
        moved[member] = bias[member].double() + wide.double() @ offset
    return folded, moved


def initial_parameters(
    widths: Sequence[int], members: int, random: torch.Generator, initialisation: str = "he"
) -> Parameters:
    """Weights per member and zero biases.

    "he": He-normal, the last layer small and so undecided; "normal": deviation 0.02 as in DatasetGAN's code.
    """
    weights: list[Tensor] = []
    for fan_in, fan_out in itertools.pairwise(widths):
        scale = (2 / fan_in) ** 0.5 * (0.1 if len(weights) == len(widths) - 2 else 1)
        if initialisation == "normal":
            scale = 0.02
        weights.append(torch.randn(members, fan_out, fan_in, generator=random) * scale)
    return weights, [torch.zeros(members, width) for width in widths[1:]]
