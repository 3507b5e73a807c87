"""The search for viewpoint codes: screen many view latents on few contents, judge the promising ones on more."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry.data.seeds import EVALUATION, VIEW, sample_integer
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.latents import content_codes
from ganfoundry.views.proposal import Candidates, PoseEstimates, PoseEstimator, measure_candidates
from ganfoundry.views.selection import choose_codes, choose_shapes, shortlist
from ganfoundry.views.synthesis import render_grid
from ganfoundry.worlds.annotator import Annotator

SHORTLISTED = 3
"""Candidates judged for each code that is kept."""


class Bar(Protocol):
    """Something that counts what is done."""

    def advance(self, count: int = 1) -> None:
        """Count some more."""
        ...


Progress = Callable[[str, int], AbstractContextManager[Bar]]


class _Silent:
    def advance(self, count: int = 1) -> None:
        """Count nothing."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Options of a search.

    Attributes
    ----------
    num_candidates : int
        View latents tried.
    screen_contents, num_contents : int
        Contents over which each candidate is screened, and over which those of the short list are judged.
    shapes : int
        Kinds of shape with codes of their own, at most; 0: shapes are not told apart.
    codes_per_bin : int
        Codes kept in each azimuth bin, of each shape.
    truncation, view_truncation : float
        psi of contents and of view latents.
    elevation : float, optional
        Preferred elevation in degrees.
    largest_std : float
        Largest circular standard deviation of a code's azimuth, degrees.
    seed : int
        Of view latents and contents.
    """

    num_candidates: int = 2000
    screen_contents: int = 2
    num_contents: int = 12
    shapes: int = 4
    codes_per_bin: int = 2
    truncation: float = 0.7
    view_truncation: float = 1.0
    elevation: float | None = None
    largest_std: float = 40.0
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Search:
    """What a search found.

    Attributes
    ----------
    candidates : Candidates
        Those of the short list.
    w : (n, w_dim) float32
        Their latents.
    chosen : {shape name: rows}
        Which of them become codes; a single empty name where shapes were not told apart.
    w_content : (num_contents, w_dim) Tensor
        What they were judged on.
    """

    candidates: Candidates
    w: Tensor
    chosen: dict[str, list[int]]
    w_content: Tensor


def search_codes(
    generator: StyleGenerator,
    layers: tuple[str, ...],
    estimate: PoseEstimator,
    shape_names: tuple[str, ...],
    config: SearchConfig,
    progress: Progress = lambda label, total: nullcontext(_Silent()),
) -> Search:
    """Try view latents and choose the most consistent ones of every azimuth bin and shape.

    Parameters
    ----------
    generator : StyleGenerator
    layers : names of the layers that take the view
    estimate : callable(images) -> PoseEstimates
    shape_names : names of the kinds of shape that the estimator tells apart
    progress : callable(label, total) -> context manager of a bar, optional

    Raises
    ------
    RunError
        If no candidates are consistent enough for all bins.
    """
    synthesis = generator.synthesis
    seeds = [sample_integer(config.seed, EVALUATION, index) for index in range(config.num_contents)]
    w_content = content_codes(generator, seeds, config.truncation)
    seeds = [sample_integer(config.seed, VIEW, index) for index in range(config.num_candidates)]
    w_view = content_codes(generator, seeds, config.view_truncation)

    def judge(w_view: Tensor, contents: int, label: str) -> Candidates:
        def render(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
            return render_grid(synthesis, w_content[:contents], w_view[rows], layers).swapaxes(0, 1)

        estimates: list[PoseEstimates] = []
        with progress(label, len(w_view)) as bar:
            for found in measure_candidates(len(w_view), render, estimate):
                estimates += found
                bar.advance(len(found))
        return Candidates.measure(estimates)

    screened = judge(w_view, min(config.screen_contents, config.num_contents), "Screening view latents")
    best = shortlist(
        screened, SHORTLISTED * config.codes_per_bin, shapes=config.shapes > 0, largest_std=config.largest_std
    )
    candidates = judge(w_view[best], config.num_contents, "Judging view latents")
    return Search(candidates, w_view[best], _choose(config, candidates, shape_names), w_content)


def estimate_pose(network: Annotator, images: NDArray[np.uint8]) -> PoseEstimates:
    """Pose, body type and paint of images by the annotator network."""
    found = network.annotate(images)
    return PoseEstimates(
        azimuth=found.azimuth,
        elevation=found.elevation,
        distance=found.distance,
        confidence=found.azimuth_confidence,
        area=found.area,
        quality=found.part_confidence,
        shape=found.body_probabilities,
        colour=found.paint,
    )


def _choose(config: SearchConfig, candidates: Candidates, names: tuple[str, ...]) -> dict[str, list[int]]:
    per_bin, elevation, largest = config.codes_per_bin, config.elevation, config.largest_std
    if config.shapes == 0:
        return {"": choose_codes(candidates, per_bin, elevation=elevation, largest_std=largest)}
    found = choose_shapes(candidates, names, config.shapes, per_bin, elevation=elevation, largest_std=largest)
    return {names[shape]: rows for shape, rows in found.items()}
