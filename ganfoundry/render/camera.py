"""Pinhole camera looking at a target, in the conventions of docs/conventions.md."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from ganfoundry.errors import InputError

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """Camera that looks at a target from azimuth, elevation and distance.

    The camera frame is OpenCV's (x right, y down, z forward); the world frame is right-handed with +Y up. Azimuth 0
    stands on the +Z side of the target, azimuth 90 on its +X side. The principal point is the centre of a square image.

    Parameters
    ----------
    azimuth, elevation : float
        Degrees; elevation lies strictly between -90 and 90.
    distance : float
        Metres from the target to the camera, positive.
    fov : float
        Vertical (and horizontal) field of view in degrees.
    target : tuple of float
        World point in the middle of the image, metres.
    resolution : int
        Image height and width in pixels.

    Raises
    ------
    InputError
        If a parameter lies outside its range.
    """

    azimuth: float
    elevation: float
    distance: float
    fov: float = 30.0
    target: tuple[float, float, float] = (0.0, 0.0, 0.0)
    resolution: int = 64

    def __post_init__(self) -> None:
        if not -90.0 < self.elevation < 90.0:
            raise InputError(f"camera elevation {self.elevation} is not between -90 and 90 degrees; choose one inside")
        if not self.distance > 0.0:
            raise InputError(f"camera distance {self.distance} is not positive; give it in metres")
        if not 0.0 < self.fov < 180.0:
            raise InputError(f"camera field of view {self.fov} is not between 0 and 180 degrees; choose one inside")
        if self.resolution < 1:
            raise InputError(f"camera resolution {self.resolution} is not a positive number of pixels; choose another")

    @classmethod
    def from_position(
        cls,
        position: npt.ArrayLike,
        target: npt.ArrayLike = (0.0, 0.0, 0.0),
        *,
        fov: float = 30.0,
        resolution: int = 64,
    ) -> Self:
        """Camera at a world position, looking at a target.

        Parameters
        ----------
        position, target : array_like, (3,)
            World points in metres; they must differ.
        fov : float
            Vertical field of view in degrees.
        resolution : int
            Image side in pixels.
        """
        goal = np.asarray(target, dtype=np.float64)
        offset = np.asarray(position, dtype=np.float64) - goal
        distance = float(np.linalg.norm(offset))
        if distance == 0.0:
            raise InputError("the camera stands on its target; move one of them")
        azimuth = math.degrees(math.atan2(offset[0], offset[2])) % 360.0
        elevation = math.degrees(math.asin(offset[1] / distance))
        return cls(azimuth, elevation, distance, fov, (float(goal[0]), float(goal[1]), float(goal[2])), resolution)

    @property
    def focal(self) -> float:
        """Focal length in pixels."""
        return 0.5 * self.resolution / math.tan(math.radians(0.5 * self.fov))

    @property
    def position(self) -> FloatArray:
        """World position of the camera, (3,), metres."""
        return np.asarray(np.asarray(self.target, dtype=np.float64) - self.distance * self.rotation[2])

    @property
    def rotation(self) -> FloatArray:
        """World-to-camera rotation, (3, 3); its rows are the camera's right, down and forward directions."""
        a, e = math.radians(self.azimuth), math.radians(self.elevation)
        right = (math.cos(a), 0.0, -math.sin(a))
        down = (math.sin(e) * math.sin(a), -math.cos(e), math.sin(e) * math.cos(a))
        forward = (-math.cos(e) * math.sin(a), -math.sin(e), -math.cos(e) * math.cos(a))
        return np.array([right, down, forward], dtype=np.float64)

    def world_to_camera(self, points: npt.ArrayLike) -> FloatArray:
        """Transform world points (..., 3) into the camera frame (..., 3), metres."""
        return (np.asarray(points, dtype=np.float64) - self.position) @ self.rotation.T

    def camera_to_world(self, points: npt.ArrayLike) -> FloatArray:
        """Transform camera-frame points (..., 3) into the world frame (..., 3), metres."""
        return np.asarray(points, dtype=np.float64) @ self.rotation + self.position

    def project(self, points: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Project world points to pixels.

        Parameters
        ----------
        points : array_like, (..., 3)
            World points, metres.

        Returns
        -------
        pixels : ndarray, (..., 2)
            x right and y down; the centre of the top-left pixel is (0.5, 0.5). Not a number where the depth is not
            positive.
        depth : ndarray, (...)
            Metres along the viewing axis.
        """
        local = self.world_to_camera(points)
        depth = local[..., 2]
        safe = np.where(depth > 0.0, depth, np.nan)[..., None]
        return self.focal * local[..., :2] / safe + 0.5 * self.resolution, depth

    def unproject(self, pixels: npt.ArrayLike, depth: npt.ArrayLike) -> FloatArray:
        """World points (..., 3) of pixels (..., 2) with depths (...): the inverse of `project`."""
        xy = (np.asarray(pixels, dtype=np.float64) - 0.5 * self.resolution) / self.focal
        z = np.asarray(depth, dtype=np.float64)[..., None]
        return self.camera_to_world(np.concatenate([xy * z, z], axis=-1))

    def pixel_centres(self) -> FloatArray:
        """Coordinates of all pixel centres, (resolution, resolution, 2), x then y."""
        centres = np.arange(self.resolution, dtype=np.float64) + 0.5
        return np.stack(np.meshgrid(centres, centres), axis=-1)
