"""Azimuths of viewpoint codes to start from: found in the pictures alone, or told by a pose network.

GANverse3D has a person sort the codes into bins. Without, codes are compared by what they show on average over many
objects, a small map each. Similar maps are neighbours, and the neighbours make a ring. Spectral embedding (Belkin and
Niyogi 2003) of maps and their mirror images finds it: an object looks much the same from opposite sides, so the first
two eigenvectors are the cosine and sine of twice the azimuth. Which of the two sides each code is on follows from a
second comparison, of codes whose doubled azimuths agree (synchronisation over +1 and -1, Singer 2011). A mirror image
has the negative azimuth, which gives the plane of symmetry, and what is visible moves to the left when the camera goes
round counter-clockwise, which gives the direction. Which end is the front remains open: nothing says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.metrics import angle_difference
from ganfoundry.shape.multiview import MultiView

Floats = NDArray[np.float64]

_SIDE, _FINE = 8, 32  # of the maps that tell the ends apart, and of those that show which way things move
_NEIGHBOURS = 10
_SAME = 30.0  # degrees between codes that are asked whether they are on the same side
_STEP = (4.0, 25.0)  # degrees between codes whose pictures are compared for movement
_CLOSE = 10.0  # degrees from an end or a side of the object
_FEWEST = 8  # codes of a ring


@dataclass(frozen=True, eq=False)
class Ring:
    """Codes in order.

    Attributes
    ----------
    azimuths : (C,) degrees in [0, 360)
        The plane of symmetry is at 0 and 180; which of them is the front is arbitrary. NaN: a code without pictures.
    certainty : (C,) 0..1
        How clearly each code is on its side and not on the opposite one.
    """

    azimuths: Floats
    certainty: Floats


def order_codes(data: MultiView) -> Ring:
    """Azimuths of the codes from what they show; the set's own azimuths are not looked at.

    Maps of mask, brightness and redness make the ring. With part labels, maps of the parts tell the ends apart;
    without, the same maps have to, and often fail.

    Raises
    ------
    InputError
        If fewer than eight codes have pictures.
    """
    present = np.unique(data.codes)
    if len(present) < _FEWEST:
        raise InputError(
            f"{len(present)} viewpoint codes make no ring; give --cameras bins, or {_FEWEST} codes or more"
        )
    seen = mean_maps(replace(data, parts=None, certainty=None), present, 2 * _SIDE)
    maps = seen if data.parts is None else mean_maps(data, present, _SIDE)
    double, mirrored = _doubled_azimuths(seen)
    middle = _circular_mean(double + mirrored) / 2  # mirroring turns x into 2 middle - x
    half = ((double - middle) / 2) % 180
    asymmetry = np.square(maps - maps[:, :, ::-1]).mean((1, 2, 3))
    ends, sides = (np.average(asymmetry, weights=_near(half, place)) for place in (0.0, 90.0))
    if ends > sides:  # the ends are their own mirror images, the sides are not
        half = (half + 90) % 180
    side, certainty = _sides(maps, half)
    azimuths = (half + 180 * side) % 360
    azimuths = (azimuths * direction_of(mean_maps(data, present, _FINE), azimuths)) % 360
    whole = Ring(np.full(len(data.azimuths), np.nan), np.zeros(len(data.azimuths)))
    whole.azimuths[present], whole.certainty[present] = azimuths, certainty
    return whole


def mean_maps(data: MultiView, codes: NDArray[np.integer], side: int) -> Floats:
    """What each code shows on average, (codes, S, S, channels), S at most `side`: shares of parts, or mask and colours.

    The parts are scaled to the same largest sum over a map.
    """
    block = -(-data.size // side)
    side = data.size // block
    result = []
    for code in codes:
        rows = data.codes == code
        if data.parts is None:
            mean = _appearance(data.images[rows], data.masks[rows]).mean(0)
        else:
            labels = data.parts[rows]
            mean = np.stack([(labels == part).mean(0) for part in range(1, len(data.part_names))], 2)
        cut = mean[: block * side, : block * side]
        result.append(cut.reshape(side, block, side, block, -1).mean((1, 3)))
    maps: Floats = np.stack(result)
    if data.parts is not None:
        maps = maps / np.maximum(maps.sum((1, 2)).max(0), 1e-9)  # a lamp counts as much as a side
    return maps


def _appearance(images: NDArray[np.uint8], masks: NDArray[np.bool_]) -> Floats:
    colours, inside = images / 127.5 - 1, masks[..., None].astype(np.float64)
    bright = colours.mean(3, keepdims=True)
    middle = (bright * inside).sum((1, 2), keepdims=True) / np.maximum(inside.sum((1, 2), keepdims=True), 1)
    red = colours[..., :1] - colours[..., 1:].mean(3, keepdims=True)
    return np.concatenate([inside, 2 * (bright - middle) * inside, red * inside], 3)


def _distances(maps: Floats) -> Floats:
    flat = maps.reshape(len(maps), -1)
    squares = np.square(flat).sum(1)
    distances: Floats = np.sqrt(np.maximum(squares[:, None] + squares - 2 * flat @ flat.T, 0))
    return distances


def _doubled_azimuths(maps: Floats) -> tuple[Floats, Floats]:
    """Twice the azimuths of codes and of their mirror images up to direction and a turn, degrees (C,) each."""
    distance = np.square(_distances(np.concatenate([maps, maps[:, :, ::-1]])))
    count = len(distance)
    near = min(_NEIGHBOURS, count - 1)
    scale = np.sort(distance, 1)[:, near]
    nearest = np.argsort(distance, 1)[:, 1 : near + 1]
    linked = np.zeros((count, count), bool)
    linked[np.arange(count)[:, None], nearest] = True
    weights = np.exp(-distance / np.maximum(np.sqrt(scale[:, None] * scale), 1e-12)) * (linked | linked.T)
    degree = weights.sum(1)
    _, vectors = np.linalg.eigh(weights / np.sqrt(degree[:, None] * degree))
    angle: Floats = np.degrees(np.arctan2(vectors[:, -3], vectors[:, -2]))
    return angle[: len(maps)], angle[len(maps) :]


def _sides(maps: Floats, half: Floats) -> tuple[NDArray[np.int64], Floats]:
    """Which side each code is on (0 or 1), and how clearly: codes near each other modulo 180 are alike or opposite."""
    distance = _distances(maps)
    apart = np.abs(half[:, None] - half)
    relation = np.where(apart < _SAME, 1.0, np.where(apart > 180 - _SAME, -1.0, 0.0))
    np.fill_diagonal(relation, 0.0)
    known = [row[mask] for row, mask in zip(distance, relation != 0, strict=True)]
    usual = np.array([np.median(row) if len(row) else 0.0 for row in known])
    usual = np.maximum((usual[:, None] + usual) / 2, 1e-12)
    closeness = np.exp(-np.square(np.minimum(apart, 180 - apart) / _SAME))
    _, vectors = np.linalg.eigh(relation * closeness * (usual - distance) / usual)
    first = vectors[:, -1]
    return (first > 0).astype(np.int64), np.abs(first) / np.abs(first).max()


def direction_of(maps: Floats, azimuths: Floats) -> int:
    """1 if azimuths grow counter-clockwise, seen from above, -1 if clockwise.

    Every visible point is on the near side. When the camera moves to its right, they move to the left.
    """
    reach = maps.shape[2] // 8
    votes = 0.0
    for index, start in enumerate(azimuths):
        ahead = angle_difference(azimuths, start)
        for other in np.flatnonzero((ahead >= _STEP[0]) & (ahead <= _STEP[1])):
            errors = [
                np.square(np.roll(maps[index], shift, 1) - maps[other]).sum() for shift in range(-reach, reach + 1)
            ]
            votes += reach - int(np.argmin(errors))
    return 1 if votes >= 0 else -1


# ---------------------------------------------------------------- against a pose network


def code_azimuths(codes: NDArray[np.integer], azimuths: NDArray[np.floating], count: int) -> Floats:
    """Circular means (count,) of images' azimuths over each code, degrees in [0, 360); NaN without images."""
    directions = np.exp(1j * np.radians(azimuths.astype(np.float64)))
    sums = np.zeros(count, complex)
    np.add.at(sums, codes, directions)
    return np.where(np.abs(sums) > 0, np.degrees(np.angle(sums)) % 360, np.nan)


def azimuth_errors(azimuths: Sequence[float] | Floats, reference: Floats) -> Floats:
    """Differences (C,) of azimuths from reference ones after the one turn that makes their median smallest, degrees.

    Codes whose azimuth or reference is NaN are left out.
    """
    raw = np.asarray(azimuths, np.float64) - reference
    raw = raw[np.isfinite(raw)]
    if not len(raw):
        return raw
    turned = np.abs((raw[None] - raw[:, None] + 180) % 360 - 180)
    best: Floats = turned[np.median(turned, 1).argmin()]
    return best


def _near(half: Floats, place: float) -> Floats:
    """Weights of codes around a place of the half circle."""
    away = np.abs((half - place + 90) % 180 - 90)
    weights: Floats = np.exp(-np.square(away / _CLOSE)) + 1e-12
    return weights


def _circular_mean(degrees: Floats) -> float:
    return float(np.degrees(np.angle(np.exp(1j * np.radians(degrees)).mean())))
