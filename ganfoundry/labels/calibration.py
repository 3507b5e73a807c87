"""Is the uncertainty true? Reliability of the probabilities, a temperature for them, scores against label errors.

The expected calibration error and the temperature are those of Guo et al. (ICML 2017): pixels are sorted into bins by
their confidence (the highest class probability), and in a calibrated model the share of right labels in a bin is its
mean confidence.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

from ganfoundry.metrics import auroc, spearman

Floats = NDArray[np.float64]
BINS = 15
WORST = 0.1
"""Share of the images that count as badly labelled when a score is judged: as many as the filter drops by default."""


@dataclass(frozen=True)
class Reliability:
    """A reliability curve.

    Attributes
    ----------
    confidence, accuracy : (bins,) float, means of the pixels of each bin; nan where it has none
    count : (bins,) int
    """

    confidence: Floats
    accuracy: Floats
    count: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Expected calibration error: mean gap of confidence and accuracy, bins weighted by their pixels."""
        gap = np.nan_to_num(np.abs(self.confidence - self.accuracy))
        return float((gap * self.count).sum() / max(1, self.count.sum()))


def reliability(probabilities: ArrayLike, truth: ArrayLike, bins: int = BINS) -> Reliability:
    """Compare confidence with the share of right labels.

    Parameters
    ----------
    probabilities : (n, C) float
    truth : (n,) int, classes
    bins : int, of equal width between 0 and 1
    """
    values, true = np.asarray(probabilities, np.float64), np.asarray(truth)
    confidence, right = values.max(1), values.argmax(1) == true
    index = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    count = np.bincount(index, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(index, confidence, bins) / count
        accuracy = np.bincount(index, right, bins) / count
    return Reliability(mean, accuracy, count)


def at_temperature(probabilities: ArrayLike, temperature: float) -> Floats:
    """Probabilities p ** (1 / T), normalised: softer for T > 1, sharper for T < 1, same labels.

    Parameters
    ----------
    probabilities : (n, C) float
    temperature : float > 0
    """
    logits = np.log(np.clip(np.asarray(probabilities, np.float64), 1e-12, None)) / temperature
    weights = np.exp(logits - logits.max(1, keepdims=True))
    softened: Floats = weights / weights.sum(1, keepdims=True)
    return softened


def negative_log_likelihood(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Mean of -ln p of the true class, in nats."""
    values = np.asarray(probabilities, np.float64)
    chosen = np.take_along_axis(values, np.asarray(truth, np.int64)[:, None], 1)
    return float(-np.log(np.clip(chosen, 1e-12, None)).mean())


def fit_temperature(probabilities: ArrayLike, truth: ArrayLike) -> float:
    """Temperature between 0.1 and 10 of the highest likelihood; parameters as in :func:`reliability`."""
    found = minimize_scalar(
        lambda log: negative_log_likelihood(at_temperature(probabilities, float(np.exp(log))), truth),
        bounds=(np.log(0.1), np.log(10)),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Ranking:
    """How well a score of images finds the badly labelled ones.

    Attributes
    ----------
    auroc : chance that one of the worst images scores above one of the others
    rank : Spearman's correlation of score and error
    error_all, error_kept : mean error of all images, and of those left when the highest scores are dropped
    error_best : the same when the largest errors are dropped, the most that a filter can do
    """

    auroc: float
    rank: float
    error_all: float
    error_kept: float
    error_best: float


def judge_score(scores: ArrayLike, errors: ArrayLike, worst: float = WORST) -> Ranking:
    """Judge a score by the true label errors.

    Parameters
    ----------
    scores : (n,) float, higher = less certain
    errors : (n,) float, such as the share of wrong pixels
    worst : float in (0, 1), share of the images that are badly labelled, and that a filter drops
    """
    score, error = np.asarray(scores, np.float64), np.asarray(errors, np.float64)
    count = max(1, round(len(error) * worst))
    bad = np.zeros(len(error), bool)
    bad[np.argsort(-error, kind="stable")[:count]] = True
    kept = np.argsort(score, kind="stable")[: len(score) - count]
    return Ranking(
        auroc(bad, score),
        spearman(score, error),
        float(error.mean()),
        float(error[kept].mean()),
        float(error[~bad].mean()),
    )


def image_errors(truth: ArrayLike, labels: ArrayLike, counted: ArrayLike | None = None) -> Floats:
    """Share of wrong pixels among those that are part of the object in the truth or in the labels.

    Parameters
    ----------
    truth, labels : (n, R, R) int, class 0 is the background
    counted : (n, R, R) bool, pixels whose truth is known; by default all

    Returns
    -------
    (n,) float; 0 for an image without such a pixel
    """
    true, found = np.asarray(truth), np.asarray(labels)
    object_pixels = (true > 0) | (found > 0)
    if counted is not None:
        object_pixels &= np.asarray(counted, bool)
    wrong = ((true != found) & object_pixels).sum((1, 2))
    share: Floats = wrong / np.maximum(1, object_pixels.sum((1, 2)))
    return share
