"""Azimuth bins: the range of azimuths that a class is seen from, cut into equal pieces."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganfoundry.errors import InputError
from ganfoundry.metrics import angle_difference

_NARROW = 15.0  # degrees, of the bins of a range that is less than all around


@dataclass(frozen=True)
class AzimuthBins:
    """Bins of equal width, numbered from 0; those of cars by default, twelve all around.

    Bin k holds [first + (k - 1/2) width, first + (k + 1/2) width).

    Attributes
    ----------
    first : float
        Middle of bin 0, degrees.
    width : float
        Degrees; goes into 360 without a rest.
    count : int

    Raises
    ------
    InputError
        If the bins would overlap.
    """

    first: float = 0.0
    width: float = 30.0
    count: int = 12

    def __post_init__(self) -> None:
        fits = np.isfinite([self.first, self.width]).all() and self.width > 0 and not 360 % self.width
        if not fits or not 1 <= self.count <= 360 / self.width:
            raise InputError(f"{self.count} azimuth bins of {self.width} degrees are not part of a circle")

    @classmethod
    def over(cls, low: float, high: float) -> Self:
        """Bins for azimuths from low to high: twelve all around, else one every 15 degrees, the first around `low`."""
        if high - low >= 360:
            return cls()
        return cls(low, _NARROW, round((high - low) / _NARROW) + 1)

    def of(self, azimuth: ArrayLike) -> NDArray[np.int64]:
        """Bin of azimuths in degrees (any shape); -1 outside all bins."""
        steps = np.floor((np.asarray(azimuth, np.float64) - self.first + self.width / 2) / self.width)
        number = (steps % round(360 / self.width)).astype(np.int64)
        return np.where(number < self.count, number, -1)

    def middle(self, number: int) -> float:
        """Azimuth in the middle of a bin, degrees from 0 on."""
        return (self.first + self.width * number) % 360

    def off_centre(self, azimuth: ArrayLike) -> NDArray[np.float64]:
        """Degrees between azimuths and the middle of their bins."""
        middle = self.first + self.width * self.of(azimuth)
        distance: NDArray[np.float64] = np.abs(np.asarray(angle_difference(np.asarray(azimuth, np.float64), middle)))
        return distance

    def signed(self, azimuth: float) -> float:
        """An azimuth as it is read in this range: 340 is -20 where the bins begin below 0."""
        low = self.first - self.width / 2
        return (azimuth - low) % 360 + low if self.first < 0 else azimuth % 360

    def name(self, number: int) -> str:
        """Number and borders of a bin, in words."""
        low = self.first + self.width * (number - 0.5)
        return f"{number} ({low:g} to {low + self.width:g} degrees)"


ALL_AROUND = AzimuthBins()
"""Twelve bins of 30 degrees; bin k holds [30 k - 15, 30 k + 15)."""
