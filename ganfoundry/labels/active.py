"""Which generated samples to label next.

A good choice is uncertain (the interpreter has something to learn there), differs from what is labelled and from the
rest of the choice, and is no freak of the generator. The core-set of Sener and Savarese (ICLR 2018) takes, one after
the other, the candidate farthest from everything chosen; here the distance is multiplied by the candidate's uncertainty
and by how typical it is, since the farthest of a generator's samples are its failures.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels.feature_source import FeatureSource
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.synthesis import BATCH, images_and_features
from ganfoundry.records import record_of_json
from ganfoundry.worlds.annotator_choice import k_medoids

FORMAT = "ganfoundry-candidates-1"
Method = Literal["core-set", "medoids", "random"]
_NEIGHBOURS = 20
_DIMENSIONS = 32
Floats = NDArray[np.float64]


def feature_space(pooled: ArrayLike) -> Floats:
    """Coordinates in which distances tell samples apart.

    Parameters
    ----------
    pooled : (n, D) float, mean of every feature channel over the image

    Returns
    -------
    (n, d) float64: every channel at deviation 1, then the first d <= 32 principal components
    """
    values = np.asarray(pooled, np.float64)
    values = (values - values.mean(0)) / np.maximum(values.std(0), 1e-6)
    left, size, _ = np.linalg.svd(values, full_matrices=False)
    kept = min(_DIMENSIONS, len(size))
    components: Floats = left[:, :kept] * size[:kept]
    return components


def typicality(space: ArrayLike) -> Floats:
    """How ordinary each sample is, (n,) in (0, 1]: the median distance to its nearest neighbours, inverted.

    1 for the more ordinary half; a sample whose neighbours are twice as far as the median's has 1/2.
    """
    rows = np.asarray(space, np.float64)
    distance = np.sort(_distances(rows, rows), 1)
    near = distance[:, 1 : _NEIGHBOURS + 1].mean(1) if len(rows) > 1 else np.ones(1)
    return np.minimum(1.0, np.median(near) / np.maximum(near, 1e-12))


def core_set(
    space: ArrayLike, weights: ArrayLike, count: int, taken: Sequence[int] = (), allowed: Sequence[int] | None = None
) -> list[int]:
    """Greedy k-centre choice, weighted.

    Parameters
    ----------
    space : (n, d) float
    weights : (n,) float >= 0, by which a candidate's distance to what is chosen is multiplied
    count : int
    taken : rows that are labelled already
    allowed : rows that may be chosen; by default all that are not taken

    Returns
    -------
    `count` rows in the order in which they were chosen. When nothing is taken, the first is the heaviest of the rows
    nearest to the middle.

    Raises
    ------
    InputError
        If there are too few rows.
    """
    rows, weight = np.asarray(space, np.float64), np.asarray(weights, np.float64)
    free = np.zeros(len(rows), bool)
    free[np.arange(len(rows)) if allowed is None else np.asarray(allowed, np.int64)] = True
    free[list(taken)] = False
    if not 1 <= count <= free.sum():
        raise InputError(f"cannot choose {count} of {free.sum()} samples; raise --num-candidates")
    chosen: list[int] = []
    nearest = np.full(len(rows), np.inf)
    for row in taken:
        nearest = np.minimum(nearest, _distances(rows, rows[row : row + 1])[:, 0])
    while len(chosen) < count:
        if np.isinf(nearest).all():
            middle = _distances(rows, rows.mean(0, keepdims=True))[:, 0]
            middle[~free] = np.inf
            near = np.argsort(middle, kind="stable")[: max(1, int(free.sum()) // 10)]
            best = int(near[np.argmax(weight[near])])
        else:
            best = int(np.argmax(np.where(free, nearest * weight, -1.0)))
        chosen.append(best)
        free[best] = False
        nearest = np.minimum(nearest, _distances(rows, rows[best : best + 1])[:, 0])
    return chosen


def uncertainty_weights(scores: ArrayLike) -> Floats:
    """Weights in [0.5, 1] by the rank of the uncertainty scores (n,): only their order is used."""
    values = np.asarray(scores, np.float64)
    rank = np.argsort(np.argsort(values, kind="stable"), kind="stable")
    return 0.5 + 0.5 * rank / max(1, len(values) - 1)


def _distances(a: Floats, b: Floats) -> Floats:
    squares = (a**2).sum(1)[:, None] + (b**2).sum(1)[None] - 2 * a @ b.T
    distances: Floats = np.sqrt(np.maximum(squares, 0))
    return distances


@dataclass(frozen=True)
class Survey:
    """What is known of samples before they are chosen from.

    Attributes
    ----------
    images : (n, R, R, 3) uint8
    pooled : (n, D) float32, mean of every feature channel over the image
    score : (n,) float32, the interpreter's uncertainty; None without an interpreter, like the next two
    label, uncertainty : (n, R, R), as the interpreter predicts them
    """

    images: NDArray[np.uint8]
    pooled: NDArray[np.float32]
    score: NDArray[np.float32] | None = None
    label: NDArray[np.uint8] | None = None
    uncertainty: NDArray[np.float32] | None = None


def survey(
    synthesis: FeatureSource,
    interpreter: StyleInterpreter | None,
    w: Tensor,
    advance: Callable[[int], Any] | None = None,
) -> Survey:
    """Make samples of style codes w (n, w_dim) and look at them; `advance` is called with the number done."""
    layers = list(synthesis.feature_dims)
    columns: list[tuple[NDArray[Any], ...]] = []
    for rows in w.split(BATCH):
        images, maps = images_and_features(synthesis, rows, layers)
        found: tuple[NDArray[Any], ...] = (images, torch.cat([maps[name].mean((2, 3)) for name in layers], 1).numpy())
        if interpreter is not None:
            seen = interpreter.predict(maps)
            found = (*found, seen.score.numpy(), seen.label.numpy(), seen.uncertainty.numpy())
        columns.append(found)
        if advance is not None:
            advance(len(rows))
    return Survey(*(np.concatenate(column) for column in zip(*columns, strict=True)))


def choose(
    method: Method,
    found: Survey,
    count: int,
    *,
    taken: Sequence[int] = (),
    allowed: Sequence[int] | None = None,
    random: np.random.Generator | None = None,
) -> list[int]:
    """Rows of a survey to label next.

    Parameters
    ----------
    method : "core-set", "medoids" of the rows that may be chosen, or "random"
    found : Survey
    count : int
    taken : rows that are labelled already, which are part of the survey
    allowed : rows that may be chosen; by default all
    random : for "random"

    Raises
    ------
    InputError
        If there are too few rows.
    """
    rows = np.setdiff1d(np.arange(len(found.images)) if allowed is None else np.asarray(allowed, np.int64), taken)
    if not 1 <= count <= len(rows):
        raise InputError(f"cannot choose {count} of {len(rows)} samples; raise --num-candidates")
    if method == "random":
        random = random or np.random.default_rng(0)
        return [int(row) for row in random.choice(rows, count, replace=False)]
    space = feature_space(found.pooled)
    if method == "medoids":
        return [int(row) for row in rows[k_medoids(space[rows], count)]]
    weights = typicality(space)
    if found.score is not None:
        weights = weights * uncertainty_weights(found.score)
    return core_set(space, weights, count, taken, rows.tolist())


@dataclass(frozen=True)
class Candidates:
    """Samples that are worth labelling.

    Attributes
    ----------
    generator_sha256 : of the generator that makes them
    root_seed, truncation, num_candidates : of the samples they were chosen from, as annotate-parts numbers them
    numbers : which of these, the most wanted first
    seeds : their seeds
    scores : uncertainty of each, or None without an interpreter
    method : how they were chosen
    labelled : numbers that had been labelled before
    """

    generator_sha256: str
    root_seed: int
    truncation: float
    num_candidates: int
    numbers: tuple[int, ...]
    seeds: tuple[int, ...]
    scores: tuple[float, ...] | None
    method: str
    labelled: tuple[int, ...] = ()

    def save(self, path: str | Path) -> None:
        """Write candidates.json."""
        Path(path).write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path, generator_sha256: str | None = None) -> "Candidates":
        """Read candidates.json, or the folder that holds it.

        Raises
        ------
        InputError
            If it is missing, damaged, or names samples of another generator than the one given.
        """
        path = Path(path)
        path = path / "candidates.json" if path.is_dir() else path
        try:
            found = record_of_json(cls, path.read_text("utf-8"), FORMAT)
            if not all(0 <= number < found.num_candidates for number in found.numbers):
                raise ValueError("a number beyond the candidates")
        except (OSError, ValueError, TypeError) as error:
            raise InputError(f"cannot read the candidates {path}: {error}; run select again") from None
        if generator_sha256 is not None and found.generator_sha256 != generator_sha256:
            raise InputError(
                f"the candidates in {path} belong to the generator {found.generator_sha256[:12]}..., not to "
                f"{generator_sha256[:12]}...: run select for this generator"
            )
        return found
