"""Candidates whose poses are known."""

import numpy as np

from ganfoundry.views import Candidates, PoseEstimates, measure_candidates

CONTENTS = 16


def pose(azimuth, shape=None, colour=None):
    """Estimates that are certain of everything; by default one shape and one colour."""
    ones = np.ones(len(azimuth))
    shape = ones[:, None] if shape is None else np.asarray(shape, float)
    colour = np.zeros((len(azimuth), 3)) if colour is None else np.asarray(colour, float)
    return PoseEstimates(np.asarray(azimuth, float), ones, ones, ones, ones, ones, shape, colour)


def fake_images(azimuth, spread, rng):
    """Images whose first pixels spell a pose: the estimator below reads it back."""
    image = np.zeros((CONTENTS, 2, 2, 3), np.uint8)
    angle = (azimuth + spread * rng.standard_normal(CONTENTS)) % 360
    hundredths = np.round(angle * 100).astype(int)
    image[:, 0, 0, 0], image[:, 0, 0, 1], image[:, 0, 0, 2] = hundredths // 256, hundredths % 256, 40
    return image


def read_pose(images):
    """Estimator of `fake_images`."""
    ones = np.ones(len(images))
    return PoseEstimates(
        azimuth=(images[:, 0, 0, 0] * 256.0 + images[:, 0, 0, 1]) / 100,
        elevation=10 * ones,
        distance=8 * ones,
        confidence=0.9 * ones,
        area=images[:, 0, 0, 2] / 100,
        quality=0.8 * ones,
        shape=ones[:, None],
        colour=np.zeros((len(images), 3)),
    )


def measured(azimuths, spreads):
    """Candidates with these mean azimuths and spreads, degrees."""
    rng = np.random.default_rng(0)

    def render(rows):
        return np.stack([fake_images(azimuths[i], spreads[i], rng) for i in rows])

    parts = measure_candidates(len(azimuths), render, read_pose)
    return Candidates.measure([estimate for part in parts for estimate in part])
