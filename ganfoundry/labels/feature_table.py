"""Feature maps of the labelled images at their own resolutions, from which training gathers pixels.

A pixel's D numbers are a weighted sum of at most four positions of every map (bilinear) or of one (nearest): the same
numbers as in the tensor of resized maps, which never exists. Maps of one side lie side by side, channels last, so that
one weighted embedding lookup gathers all their channels.

Numbers are kept in half precision, standardised per channel first: half the memory of the maps themselves, 1.0 GB
instead of 95 GB for DatasetGAN's 16 cars (the published code's array and its copy).
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels.factorised import Mode, resize_matrix

Layers = tuple[tuple[str, int], ...]
MIN_DEVIATION = 1e-4
_LARGEST = 60_000.0  # below the largest half-precision number


@dataclass(frozen=True)
class FeatureTable:
    """Standardised feature maps of n images.

    Attributes
    ----------
    layers : (name, channels) of every feature map, in the order of the D columns
    runs : neighbouring maps of one side, stacked: (total, r, r, sum C) tensors
    mean, deviation : (D,) float32 of every channel over images and positions, by which the runs are standardised
    resolution, mode : of the pixels that are gathered
    images : (n,) int64, which of the total images this table shows
    """

    layers: Layers
    runs: tuple[Tensor, ...]
    mean: Tensor
    deviation: Tensor
    resolution: int
    mode: Mode
    images: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def build(
        cls,
        batches: Iterable[Mapping[str, Tensor]],
        count: int,
        resolution: int,
        mode: Mode = "bilinear",
        *,
        dtype: torch.dtype = torch.float16,
        standardise: bool = True,
        unscaled: Collection[str] = (),
    ) -> "FeatureTable":
        """Collect feature maps batch by batch; no more than one batch is held beside the table.

        Parameters
        ----------
        batches : mappings {name: (b, C, r, r)}, together `count` images, all with the same maps in the same order
        count : int
        resolution : int, side R of the pixels that will be gathered
        mode : how maps are resized
        dtype : torch.float16 or torch.float32, of what is kept
        standardise : bool
            False keeps the raw numbers; mean and deviation are then 0 and 1.
        unscaled : names of maps whose raw numbers are kept in any case

        Raises
        ------
        InputError
            If the batches hold another number of images, or numbers that are not finite.
        """
        filling: _Filling | None = None
        for features in batches:
            if filling is None:
                filling = _Filling(features, count, dtype, standardise, unscaled)
            filling.add(features)
        if filling is None or filling.filled != count:
            held = 0 if filling is None else filling.filled
            raise InputError(f"{count} label maps, but feature maps of {held} images")
        mean, deviation = filling.finish()
        return cls(filling.layers, tuple(filling.runs), mean, deviation, resolution, mode, torch.arange(count))

    def subset(self, images: Sequence[int] | Tensor) -> "FeatureTable":
        """Return a table of some of the images, without copying them; standardised as before."""
        chosen = self.images[torch.as_tensor(images)]
        return FeatureTable(self.layers, self.runs, self.mean, self.deviation, self.resolution, self.mode, chosen)

    def gather(self, pixels: Tensor) -> Tensor:
        """Standardised feature vectors of pixels.

        Parameters
        ----------
        pixels : (...) int64, flat index (image * R + row) * R + column

        Returns
        -------
        (..., D) float32, maps in order: what the concatenated tensor holds at these pixels, standardised
        """
        side = self.resolution
        flat = pixels.flatten()
        image, row, column = self.images[flat // side**2], flat // side % side, flat % side
        rows = torch.empty(len(flat), len(self.mean))
        first = 0
        for run in self.runs:
            index, weight = self._taps(run.shape[1], image, row, column)
            found = F.embedding_bag(
                index, run.view(-1, run.shape[-1]), per_sample_weights=weight.to(run.dtype), mode="sum"
            )
            rows[:, first : first + run.shape[-1]] = found
            first += run.shape[-1]
        return rows.view(*pixels.shape, -1)

    def _taps(self, source: int, image: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Positions of a run that each pixel is made of, (pixels, taps) int64, and their weights."""
        index, weight = _axis_taps(source, self.resolution, self.mode)
        rows, columns = index[row], index[column]
        position = (image[:, None, None] * source + rows[:, :, None]) * source + columns[:, None, :]
        return position.flatten(1), (weight[row][:, :, None] * weight[column][:, None, :]).flatten(1)

    def features(self, image: int) -> dict[str, Tensor]:
        """Raw feature maps {name: (1, C, r, r) float32} of one image."""
        layers, result = iter(self.layers), {}
        for run, mean, deviation in zip(self.runs, *self._by_run(), strict=True):
            values = (run[self.images[image]].float() * deviation + mean).permute(2, 0, 1)[None]
            while values.shape[1]:
                name, channels = next(layers)
                result[name], values = values[:, :channels], values[:, channels:]
        return result

    def _by_run(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        sizes = [run.shape[-1] for run in self.runs]
        return self.mean.split(sizes), self.deviation.split(sizes)


class _Filling:
    """A table being filled; numbers are scaled by the first batch until all are there."""

    def __init__(
        self,
        features: Mapping[str, Tensor],
        count: int,
        dtype: torch.dtype,
        standardise: bool,
        unscaled: Collection[str] = (),
    ) -> None:
        self.layers: Layers = tuple((name, feature.shape[1]) for name, feature in features.items())
        self.groups = _runs(features, unscaled)
        self.standardised = [standardise and not set(names) & set(unscaled) for names in self.groups]
        self.filled = 0
        self.runs, self.centre, self.scale, self.sums = [], [], [], []
        for names, scaled in zip(self.groups, self.standardised, strict=True):
            first = [features[name].float() for name in names]
            channels, side = sum(f.shape[1] for f in first), first[0].shape[-1]
            self.runs.append(torch.empty(count, side, side, channels, dtype=dtype))
            self.centre.append(torch.cat([f.mean((0, 2, 3)) for f in first]) * scaled)
            # Channels that rest in the first batch may be busy later: no scale far below that of their layer.
            floor = [torch.full((f.shape[1],), max(0.01 * float(f.std(correction=0)), MIN_DEVIATION)) for f in first]
            spread = torch.cat([f.std((0, 2, 3), correction=0) for f in first]).maximum(torch.cat(floor))
            self.scale.append(spread if scaled else torch.ones(channels))
            self.sums.append(torch.zeros(2, channels, dtype=torch.float64))

    def add(self, features: Mapping[str, Tensor]) -> None:
        """Store a batch after the others."""
        size = len(next(iter(features.values())))
        for name, feature in features.items():
            if len(feature) != size:
                raise InputError(f"feature map {name} holds {len(feature)} images, another one {size}")
        stop = self.filled + size
        if stop > len(self.runs[0]):
            name = self.layers[0][0]
            raise InputError(f"{len(self.runs[0])} label maps, but feature map {name} holds {stop} images")
        for names, run, *numbers in zip(self.groups, self.runs, self.centre, self.scale, self.sums, strict=True):
            first = 0
            for name in names:
                part = slice(first, first + features[name].shape[1])
                centre, scale, sums = (number[..., part] for number in numbers)
                for offset in range(size):  # a map of an image at a time: the temporaries stay small
                    values = (features[name][offset].permute(1, 2, 0) - centre).div_(scale).clamp_(-_LARGEST, _LARGEST)
                    sums[0] += values.sum((0, 1))
                    sums[1] += values.square().sum((0, 1))
                    run[self.filled + offset, ..., part] = values
                first = part.stop
        self.filled = stop

    def finish(self) -> tuple[Tensor, Tensor]:
        """Standardise in place; return mean and deviation of the raw channels, (D,) each."""
        means, deviations = [], []
        columns = zip(self.runs, self.centre, self.scale, self.sums, self.standardised, strict=True)
        for run, centre, scale, sums, scaled in columns:
            total, squares = sums / (self.filled * run.shape[1] * run.shape[2])
            if not torch.isfinite(squares).all():
                raise InputError("feature maps hold numbers that are not finite; is the generator damaged?")
            if not scaled:
                means.append(torch.zeros(run.shape[-1]))
                deviations.append(torch.ones(run.shape[-1]))
                continue
            spread = (squares - total.square()).clamp(min=0).sqrt()
            spread = spread.maximum(MIN_DEVIATION / scale)
            for rows in run.flatten(0, 1).split(32):
                rows.copy_((rows.float() - total.float()).div_(spread.float()))
            means.append((centre + scale * total).float())
            deviations.append((scale * spread).float())
        return torch.cat(means), torch.cat(deviations)


def _runs(features: Mapping[str, Tensor], unscaled: Collection[str]) -> list[list[str]]:
    """Names of neighbouring maps of one side, those to be scaled and those not apart."""
    groups: list[list[str]] = []
    last: tuple[int, bool] | None = None
    for name, feature in features.items():
        kind = feature.shape[-1], name in unscaled
        if kind != last:
            groups.append([])
            last = kind
        groups[-1].append(name)
    return groups


def _axis_taps(source: int, target: int, mode: Mode) -> tuple[Tensor, Tensor]:
    """Return the one or two source positions of each output position, (target, taps) int64, and their weights."""
    single = mode == "nearest" or source in (1, target)
    weight, index = resize_matrix(source, target, mode).topk(1 if single else 2, dim=1)
    return index, weight
