"""Proposing viewpoint codes: try many view latents, keep those that show all objects from one camera.

GANverse3D chooses codes by eye ("pay attention to choosing viewpoints in which the objects look most consistent"). Here
a pose network reads the azimuth of every candidate over several contents; a person then confirms the sheet.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError, RunError
from ganfoundry.metrics import angle_difference, circular_mean, circular_std
from ganfoundry.views.codes import BINS, ViewCode, azimuth_bin


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
    """

    azimuth: NDArray[np.floating]
    elevation: NDArray[np.floating]
    distance: NDArray[np.floating]
    confidence: NDArray[np.floating]
    area: NDArray[np.floating]
    quality: NDArray[np.floating]


PoseEstimator = Callable[[NDArray[np.uint8]], PoseEstimates]
Renderer = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Candidates:
    """Statistics of candidate view latents over contents, each (n,) float64.

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
    """

    azimuth: NDArray[np.float64]
    azimuth_std: NDArray[np.float64]
    elevation: NDArray[np.float64]
    distance: NDArray[np.float64]
    flip_share: NDArray[np.float64]
    area_spread: NDArray[np.float64]
    confidence: NDArray[np.float64]
    quality: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.azimuth)

    @classmethod
    def measure(cls, estimates: list[PoseEstimates]) -> Self:
        """Summarise one list entry for each candidate."""
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
        )

    def cost(self, elevation: float | None = None) -> NDArray[np.float64]:
        """Inconsistency in degrees, (n,); lower is better.

        The azimuth's standard deviation, plus 90 degrees for a code that always flips, 20 for doubtful azimuths, 20 for
        badly formed objects, 20 for an area that varies by its own size, and a quarter of the distance to a preferred
        elevation.
        """
        cost = self.azimuth_std + 90 * self.flip_share + 20 * np.clip(1 - self.confidence, 0, 1)
        cost = cost + 20 * (1 - self.quality) + 20 * self.area_spread
        return cost if elevation is None else cost + 0.25 * np.abs(self.elevation - elevation)


def measure_candidates(count: int, render: Renderer, estimate: PoseEstimator) -> Iterator[PoseEstimates]:
    """Estimate the pose of every candidate's images, lazily.

    Parameters
    ----------
    count : int
        Candidates.
    render : callable(candidate) -> (contents, R, R, 3) uint8
        Images of one candidate, the same contents for each.
    estimate : callable(images) -> PoseEstimates
    """
    for candidate in range(count):
        yield estimate(render(candidate))


def empty_bins(candidates: Candidates, largest_std: float = 180.0) -> list[int]:
    """Azimuth bins that no candidate with at most `largest_std` degrees of spread falls into."""
    good = candidates.azimuth_std <= largest_std
    return sorted(set(range(BINS)) - set(azimuth_bin(candidates.azimuth[good]).tolist()))


def choose_codes(
    candidates: Candidates,
    per_bin: int,
    *,
    elevation: float | None = None,
    largest_std: float = 60.0,
    margin: float = 4.0,
) -> list[int]:
    """Pick the most consistent candidates of every azimuth bin.

    Within a bin, a second code is chosen so that it is also not the same camera again: a candidate closer than 6
    degrees to a chosen one waits until no other is left.

    Parameters
    ----------
    per_bin : int
        Codes wanted in a bin; a bin with fewer candidates gives what it has.
    elevation : float, optional
        Preferred elevation in degrees.
    largest_std : float
        Candidates with a larger circular standard deviation do not count.
    margin : float
        Candidates whose mean is nearer than this to the border of their bin are taken last: their bin is a guess.

    Returns
    -------
    list of int
        Candidate indices, ordered by bin, in a bin by azimuth.

    Raises
    ------
    RunError
        If a bin stays empty.
    """
    empty = empty_bins(candidates, largest_std)
    if empty:
        names = ", ".join(f"{k} ({30 * k - 15} to {30 * k + 15} degrees)" for k in empty)
        raise RunError(
            f"no consistent viewpoint code among {len(candidates)} candidates for the azimuth bins {names}; "
            "raise --num-candidates or --largest-std, or train the generator longer"
        )
    bins = azimuth_bin(candidates.azimuth)
    off_centre = np.abs(angle_difference(candidates.azimuth, 30.0 * bins))
    cost = candidates.cost(elevation) + 15 * (off_centre > 15 - margin)
    chosen: list[int] = []
    for k in range(BINS):
        pool = np.flatnonzero((bins == k) & (candidates.azimuth_std <= largest_std))
        picks = _pick(pool[np.argsort(cost[pool], kind="stable")], candidates.azimuth, per_bin)
        chosen += sorted(picks, key=lambda i: angle_difference(candidates.azimuth[i], 30 * k))
    return chosen


def _pick(ranked: NDArray[np.int64], azimuth: NDArray[np.float64], count: int, apart: float = 6.0) -> list[int]:
    picks: list[int] = []
    waiting: list[int] = []
    for candidate in ranked.tolist():
        near = any(abs(angle_difference(azimuth[candidate], azimuth[other])) < apart for other in picks)
        (waiting if near else picks).append(candidate)
    return (picks + waiting)[:count]


def make_codes(
    candidates: Candidates, chosen: list[int], bins: Mapping[int, int] | None, confirmed: bool
) -> tuple[tuple[ViewCode, ...], list[int]]:
    """Describe chosen candidates as viewpoint codes, ordered by bin.

    Parameters
    ----------
    bins : mapping code id -> bin, optional
        A person's bins. A code that is not listed keeps the proposed bin; -1 drops the code.
    confirmed : bool
        A person has looked at the sheet and agrees with all bins that `bins` does not change.

    Returns
    -------
    tuple of ViewCode, list of int
        The codes, and the candidate of each.

    Raises
    ------
    InputError
        If `bins` names a code that does not exist, a bin outside 0 .. 11, or leaves a bin empty.
    """
    proposed = azimuth_bin(candidates.azimuth[chosen])
    bins = dict(bins or {})
    unknown = sorted(set(bins) - set(range(len(chosen))))
    if unknown:
        raise InputError(f"the bins file names the codes {unknown}; the codes are 0 to {len(chosen) - 1}")
    wrong = {code: k for code, k in bins.items() if not -1 <= k < BINS}
    if wrong:
        raise InputError(f"the bins file gives {wrong}; a bin is 0 to 11, or -1 to drop the code")
    codes = []
    for old, candidate in enumerate(chosen):
        k = bins.get(old, int(proposed[old]))
        if k >= 0:
            how = "hand" if k != proposed[old] else "proposed and confirmed" if confirmed or old in bins else "proposed"
            codes.append((k, candidate, how))
    missing = sorted(set(range(BINS)) - {k for k, _, _ in codes})
    if missing:
        raise InputError(f"the bins file leaves the azimuth bins {missing} without a code; raise --num-candidates")
    codes.sort(key=lambda item: item[0])
    described = tuple(_describe(candidates, new, *item) for new, item in enumerate(codes))
    return described, [candidate for _, candidate, _ in codes]


def _describe(candidates: Candidates, new: int, k: int, candidate: int, how: str) -> ViewCode:
    return ViewCode(
        id=new,
        bin=k,
        azimuth=float(candidates.azimuth[candidate]),
        azimuth_std=float(candidates.azimuth_std[candidate]),
        elevation=float(candidates.elevation[candidate]),
        distance=float(candidates.distance[candidate]),
        flip_share=float(candidates.flip_share[candidate]),
        how=how,
    )
