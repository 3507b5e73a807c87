"""Proposing viewpoint codes: try many view latents, measure how far each shows all objects from one camera.

GANverse3D chooses codes by eye ("pay attention to choosing viewpoints in which the objects look most consistent"). Here
a network reads azimuth, kind of shape and colour of every candidate over several contents (`selection` picks the best);
a person then confirms the sheet.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.metrics import angle_difference, circular_mean, circular_std
from ganfoundry.views.bins import ALL_AROUND, AzimuthBins
from ganfoundry.views.codes import HOW, ViewCode


@dataclass(frozen=True)
class PoseEstimates:
    """What a pose estimator says about N images.

    Attributes
    ----------
    azimuth, elevation, distance : (N,) float
        Degrees, degrees, metres.
    confidence : (N,) float
        Trust in the azimuth, 0 to about 1.
    area : (N,) float
        Share of the image that the object covers.
    quality : (N,) float
        How well formed the object looks, 0 to 1 (confidence of the part map).
    shape : (N, K) float
        Probability of each kind of shape, the body type for instance.
    colour : (N, 3) float
        Colour of the object, RGB in [0, 1].
    """

    azimuth: NDArray[np.floating]
    elevation: NDArray[np.floating]
    distance: NDArray[np.floating]
    confidence: NDArray[np.floating]
    area: NDArray[np.floating]
    quality: NDArray[np.floating]
    shape: NDArray[np.floating]
    colour: NDArray[np.floating]

    def rows(self, rows: slice) -> Self:
        """Pick images."""
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


PoseEstimator = Callable[[NDArray[np.uint8]], PoseEstimates]
Renderer = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
CANDIDATES_AT_A_TIME = 16


@dataclass(frozen=True)
class Candidates:
    """Statistics of candidate view latents over contents, each (n,) float64 but for the last two.

    Attributes
    ----------
    azimuth, azimuth_std : degrees
        Circular mean and standard deviation, images weighted alike.
    elevation, distance : degrees, metres
        Medians.
    flip_share : 0 to 1
        Images more than 90 degrees from the mean.
    area_spread : >= 0
        Standard deviation of the covered area divided by its mean.
    confidence, quality : 0 to 1
        Means.
    colour_error : 0 to 1.7
        Mean distance of an object's colour to its median colour over all candidates.
    shape : (n, K)
        Mean probability of each kind of shape.
    bins : AzimuthBins
        Over the range of azimuths that the class is seen from.
    """

    azimuth: NDArray[np.float64]
    azimuth_std: NDArray[np.float64]
    elevation: NDArray[np.float64]
    distance: NDArray[np.float64]
    flip_share: NDArray[np.float64]
    area_spread: NDArray[np.float64]
    confidence: NDArray[np.float64]
    quality: NDArray[np.float64]
    colour_error: NDArray[np.float64]
    shape: NDArray[np.float64]
    bins: AzimuthBins = ALL_AROUND

    def __len__(self) -> int:
        return len(self.azimuth)

    @property
    def bin(self) -> NDArray[np.int64]:
        """Azimuth bin of each, (n,); -1 outside all."""
        return self.bins.of(self.azimuth)

    @classmethod
    def measure(cls, estimates: list[PoseEstimates], bins: AzimuthBins = ALL_AROUND) -> Self:
        """Summarise one list entry for each candidate, all over the same contents."""
        colour = np.array([e.colour for e in estimates], np.float64)
        azimuth = np.nan_to_num(np.array([circular_mean(e.azimuth) for e in estimates]))  # nan: no direction at all
        return cls(
            azimuth=azimuth,
            azimuth_std=np.array([min(circular_std(e.azimuth), 360.0) for e in estimates]),
            elevation=np.array([np.median(e.elevation) for e in estimates], np.float64),
            distance=np.array([np.median(e.distance) for e in estimates], np.float64),
            flip_share=np.array(
                [(np.abs(angle_difference(e.azimuth, a)) > 90).mean() for e, a in zip(estimates, azimuth, strict=True)]
            ),
            area_spread=np.array([np.std(e.area) / max(float(np.mean(e.area)), 1e-6) for e in estimates]),
            confidence=np.array([np.mean(e.confidence) for e in estimates], np.float64),
            quality=np.array([np.mean(e.quality) for e in estimates], np.float64),
            colour_error=np.linalg.norm(colour - np.median(colour, axis=0), axis=2).mean(1),
            shape=np.array([np.mean(e.shape, axis=0) for e in estimates], np.float64),
            bins=bins,
        )

    def cost(self, elevation: float | None = None) -> NDArray[np.float64]:
        """Inconsistency in degrees, (n,); lower is better.

        The azimuth's standard deviation, plus 90 degrees for a code that always flips, 20 for doubtful azimuths, 20 for
        badly formed objects, 20 for an area that varies by its own size, 60 for colours that differ by 1 from those
        that the objects have elsewhere, and a quarter of the distance to a preferred elevation.
        """
        cost = self.azimuth_std + 90 * self.flip_share + 20 * np.clip(1 - self.confidence, 0, 1)
        cost = cost + 20 * (1 - self.quality) + 20 * self.area_spread + 60 * self.colour_error
        return cost if elevation is None else cost + 0.25 * np.abs(self.elevation - elevation)


def measure_candidates(count: int, render: Renderer, estimate: PoseEstimator) -> Iterator[list[PoseEstimates]]:
    """Estimate the pose of every candidate's images, some candidates at a time, lazily.

    Parameters
    ----------
    count : int
        Candidates.
    render : callable(candidates (n,) int) -> (n, contents, R, R, 3) uint8
        Images of some candidates, the same contents for each.
    estimate : callable(images) -> PoseEstimates
    """
    for start in range(0, count, CANDIDATES_AT_A_TIME):
        images = render(np.arange(start, min(start + CANDIDATES_AT_A_TIME, count)))
        found = estimate(images.reshape(-1, *images.shape[2:]))
        contents = images.shape[1]
        yield [found.rows(slice(first, first + contents)) for first in range(0, len(found.azimuth), contents)]


def make_codes(
    candidates: Candidates,
    chosen: Mapping[str, Sequence[int]],
    bins: Mapping[int, int] | None,
    confirmed: bool,
) -> tuple[tuple[ViewCode, ...], list[int]]:
    """Describe chosen candidates as viewpoint codes, shape by shape, in a shape by bin.

    Parameters
    ----------
    chosen : {shape name: candidates}, as many for each shape
        A code's id counts through them in this order.
    bins : mapping code id -> bin, optional
        A person's bins. A code that is not listed keeps the proposed bin; -1 drops the code, and with it the code at
        the same place of every other shape, since all shapes have as many.
    confirmed : bool
        A person has looked at the sheet and agrees with all bins that `bins` does not change.

    Returns
    -------
    tuple of ViewCode, list of int
        The codes, and the candidate of each.

    Raises
    ------
    InputError
        If `bins` names a code that does not exist, a bin that there is not, or leaves a bin of a shape empty.
    """
    total, views = sum(len(rows) for rows in chosen.values()), len(next(iter(chosen.values())))
    given = dict(bins or {})
    count = candidates.bins.count
    _check_bins(given, total, count)
    dropped = {code % views for code, k in given.items() if k == -1}
    codes: list[ViewCode] = []
    kept: list[int] = []
    for number, (shape, rows) in enumerate(chosen.items()):
        proposed = candidates.bin[list(rows)]
        labelled = []
        for place in sorted(set(range(views)) - dropped):
            old = number * views + place
            k = given.get(old, int(proposed[place]))
            how = "hand" if k != proposed[place] else "proposed and confirmed" if confirmed or old in given else HOW[-1]
            labelled.append((k, rows[place], how))
        missing = sorted(set(range(count)) - {k for k, _, _ in labelled})
        if missing:
            of = f" of {shape}" if shape else ""
            raise InputError(
                f"the bins file leaves the azimuth bins {missing}{of} without a code; raise --num-candidates"
            )
        labelled.sort(key=lambda item: item[0])
        codes += [_describe(candidates, len(kept) + i, *item, shape) for i, item in enumerate(labelled)]
        kept += [candidate for _, candidate, _ in labelled]
    return tuple(codes), kept


def _check_bins(bins: Mapping[int, int], total: int, count: int) -> None:
    unknown = sorted(set(bins) - set(range(total)))
    if unknown:
        raise InputError(f"the bins file names the codes {unknown}; the codes are 0 to {total - 1}")
    wrong = {code: k for code, k in bins.items() if not -1 <= k < count}
    if wrong:
        raise InputError(f"the bins file gives {wrong}; a bin is 0 to {count - 1}, or -1 to drop the code")


def _describe(candidates: Candidates, new: int, k: int, candidate: int, how: str, shape: str) -> ViewCode:
    return ViewCode(
        id=new,
        bin=k,
        azimuth=float(candidates.azimuth[candidate]),
        azimuth_std=float(candidates.azimuth_std[candidate]),
        elevation=float(candidates.elevation[candidate]),
        distance=float(candidates.distance[candidate]),
        flip_share=float(candidates.flip_share[candidate]),
        how=how,
        shape=shape,
    )
