"""Which generated samples to label: well formed ones that differ."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganfoundry.errors import InputError
from ganfoundry.worlds.annotator import Annotation

Floats = NDArray[np.float64]


def form_quality(found: Annotation) -> Floats:
    """How well formed objects look, (N,) in [0, 1]: confidence of the parts, of the azimuth and of the body type."""
    azimuth = np.clip(found.azimuth_confidence.astype(float), 0, 1)
    body = found.body_probabilities.max(1).astype(float)
    quality: Floats = (found.part_confidence.astype(float) ** 2 * azimuth * body) ** 0.25
    return quality


def annotation_features(found: Annotation) -> Floats:
    """What tells samples apart, (N, D): direction, elevation, body type and paint, each with a weight of its own."""
    radians = np.deg2rad(found.azimuth.astype(float))
    columns = [
        1.5 * np.sin(radians)[:, None],
        1.5 * np.cos(radians)[:, None],
        found.elevation.astype(float)[:, None] / 30,
        found.body_probabilities.astype(float),
        0.7 * found.paint.astype(float),
    ]
    return np.concatenate(columns, 1)


def k_medoids(features: ArrayLike, count: int, *, rounds: int = 20) -> NDArray[np.int64]:
    """Rows that represent all rows best, sorted: the sum of distances of every row to its nearest medoid is small.

    The greedy start of PAM (Kaufman and Rousseeuw 1990), then alternating assignment and update until nothing changes.
    Deterministic.

    Parameters
    ----------
    features : (n, D)
    count : int, 1 to n

    Raises
    ------
    InputError
        If there are fewer rows than medoids asked for.
    """
    rows = np.asarray(features, np.float64)
    if not 1 <= count <= len(rows):
        raise InputError(f"cannot choose {count} of {len(rows)} samples; raise --num-candidates")
    squares = (rows**2).sum(1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * rows @ rows.T, 0))
    medoids = [int(distance.sum(0).argmin())]
    nearest = distance[medoids[0]]
    while len(medoids) < count:
        gain = np.maximum(nearest[None] - distance, 0).sum(1)
        gain[medoids] = -1
        medoids.append(int(gain.argmax()))
        nearest = np.minimum(nearest, distance[medoids[-1]])
    for _ in range(rounds):
        member = distance[medoids].argmin(0)
        member[medoids] = np.arange(count)  # equal rows must not leave a medoid without members
        groups = [np.flatnonzero(member == k) for k in range(count)]
        updated = [int(group[distance[np.ix_(group, group)].sum(1).argmin()]) for group in groups]
        if updated == medoids:
            break
        medoids = updated
    return np.sort(np.array(medoids, np.int64))


def choose_medoids(features: ArrayLike, count: int) -> NDArray[np.int64]:
    """Samples that stand for all in the space of the generator's features, sorted rows.

    Parameters
    ----------
    features : (n, D)
        The mean of every feature map over the image; each is brought to standard deviation 1.
    count : int
    """
    rows = np.asarray(features, np.float64)
    return k_medoids(rows / np.maximum(rows.std(0), 1e-6), count)


def choose_balanced(
    found: Annotation, count: int, *, azimuths: tuple[float, float] = (0.0, 360.0), keep: float = 0.4
) -> NDArray[np.int64]:
    """Well formed samples from all sides, sorted rows.

    Samples are taken sector by sector of azimuth, as many sectors as samples up to twelve, equal parts of the range
    that the class is seen from. In a sector the best formed share `keep` stays, and of these the one that differs most,
    in viewpoint, body type and paint, from those taken before.

    Parameters
    ----------
    found : Annotation of all candidates
    count : int
    azimuths : (float, float)
        The world's range of azimuths (`World.azimuths`), degrees.
    keep : float in (0, 1]

    Raises
    ------
    InputError
        If there are fewer candidates than samples asked for.
    """
    total = len(found.azimuth)
    if not 1 <= count <= total:
        raise InputError(f"cannot choose {count} of {total} samples; raise --num-candidates")
    quality, features = form_quality(found), annotation_features(found)
    sectors = min(count, 12)
    sector = _sectors(found.azimuth.astype(float), azimuths, sectors)
    pools = []
    for k in range(sectors):
        rows = np.flatnonzero(sector == k)
        ranked = rows[np.argsort(-quality[rows], kind="stable")]
        pools.append(ranked[: max(int(np.ceil(keep * len(ranked))), -(-count // sectors))].tolist())
    chosen: list[int] = []
    while len(chosen) < count:
        before = len(chosen)
        for pool in pools:
            if pool and len(chosen) < count:
                chosen.append(_most_different(pool, chosen, features, quality))
                pool.remove(chosen[-1])
        if len(chosen) == before:  # some sectors have too few: take the best of the rest
            rest = np.setdiff1d(np.argsort(-quality, kind="stable"), chosen, assume_unique=True)
            chosen += rest[: count - len(chosen)].tolist()
    return np.sort(np.array(chosen, np.int64))


def _sectors(azimuth: Floats, azimuths: tuple[float, float], count: int) -> NDArray[np.int64]:
    """Which of `count` equal parts of a range azimuths lie in; one outside the range belongs to its nearer end."""
    low, high = azimuths
    span, middle = high - low, (low + high) / 2
    from_low = (azimuth - middle + 180) % 360 - 180 + span / 2
    return np.clip(np.floor(from_low / span * count), 0, count - 1).astype(np.int64)


def _most_different(pool: list[int], chosen: list[int], features: Floats, quality: Floats) -> int:
    if not chosen:
        return max(pool, key=lambda row: quality[row])
    gaps = np.linalg.norm(features[pool][:, None] - features[chosen][None], axis=2).min(1)
    return pool[int(np.argmax(gaps + 2 * quality[pool]))]
