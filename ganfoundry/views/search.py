"""The search for viewpoint codes: screen many view latents on few contents, judge the promising ones on more."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, VIEW, sample_integer
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.gan.generator import StyleGenerator
from ganfoundry.gan.latents import content_codes
from ganfoundry.labels.synthesis import single_thread
from ganfoundry.views.bins import AzimuthBins
from ganfoundry.views.proposal import Candidates, PoseEstimates, measure_candidates
from ganfoundry.views.selection import choose_codes, choose_shapes, shortlist
from ganfoundry.views.synthesis import render_grid
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator

SHORTLISTED = 3
"""Candidates judged for each code that is kept."""
TASK_CANDIDATES = 32
"""Candidates of one task."""


Map = Callable[[Callable[[Any], Any], Sequence[Any], str], Iterable[tuple[int, Any]]]
"""Calls a function with every task, here or on workers: (position, result) in any order. The last argument says what
is done."""


def serial(function: Callable[[Any], Any], tasks: Sequence[Any], label: str) -> Iterable[tuple[int, Any]]:
    """Call a function with every task, one after the other, in this process."""
    return enumerate(map(function, tasks))


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


@dataclass(frozen=True)
class Networks:
    """Generator and annotator as a worker finds them.

    Attributes
    ----------
    gan, annotator : Path
        What `load_gan` and `Annotator.load` read.
    digests : (str, str)
        sha256 of both: a worker that lives on does not confuse replaced files.
    """

    gan: Path
    annotator: Path
    digests: tuple[str, str]

    @classmethod
    def of(cls, loaded: LoadedGan, annotator: Path) -> Self:
        """Name a generator that was loaded and the folder of an annotator."""
        return cls(loaded.path, annotator, (loaded.sha256, str(weights.card_of(annotator).get("sha256"))))


@lru_cache(maxsize=1)
def load_networks(networks: Networks) -> tuple[StyleGenerator, Annotator]:
    """Read both once in each process."""
    return load_gan(networks.gan).generator, Annotator.load(networks.annotator)


@dataclass(frozen=True)
class JudgeTask:
    """Candidates `rows`, each to be judged on the first `contents` contents. Picklable."""

    networks: Networks
    layers: tuple[str, ...]
    config: SearchConfig
    rows: tuple[int, ...]
    contents: int


def judge_rows(task: JudgeTask) -> list[PoseEstimates]:
    """Estimate the pose of some candidates; one entry for each, a function of the task alone."""
    generator, annotator = load_networks(task.networks)
    w_content, w_view = _contents(generator, task.config)[: task.contents], _views(generator, task.config, task.rows)

    def render(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        return render_grid(generator.synthesis, w_content, w_view[rows], task.layers).swapaxes(0, 1)

    def estimate(images: NDArray[np.uint8]) -> PoseEstimates:
        return estimate_pose(annotator, images)

    with single_thread():
        return [found for part in measure_candidates(len(task.rows), render, estimate) for found in part]


def search_codes(networks: Networks, layers: tuple[str, ...], config: SearchConfig, mapped: Map = serial) -> Search:
    """Try view latents and choose the most consistent ones of every azimuth bin and shape.

    Parameters
    ----------
    networks : Networks
        The annotator names the shapes; bins are over the range of azimuths of its world.
    layers : names of the layers that take the view
    config : SearchConfig
    mapped : Map, optional
        Calls `judge_rows` with parts of the candidates; what is found does not depend on how many workers it has.

    Raises
    ------
    RunError
        If no candidates are consistent enough for all bins.
    """
    generator, annotator = load_networks(networks)
    bins = AzimuthBins.over(*get_world(annotator.config.world).azimuths)

    def judge(rows: Sequence[int], contents: int, label: str) -> Candidates:
        parts = [tuple(rows[first : first + TASK_CANDIDATES]) for first in range(0, len(rows), TASK_CANDIDATES)]
        tasks = [JudgeTask(networks, layers, config, part, contents) for part in parts]
        found: dict[int, list[PoseEstimates]] = dict(mapped(judge_rows, tasks, label))
        return Candidates.measure([estimate for part in range(len(tasks)) for estimate in found[part]], bins)

    screened = judge(
        range(config.num_candidates), min(config.screen_contents, config.num_contents), "Screening view latents"
    )
    best = shortlist(
        screened, SHORTLISTED * config.codes_per_bin, shapes=config.shapes > 0, largest_std=config.largest_std
    ).tolist()
    candidates = judge(best, config.num_contents, "Judging view latents")
    chosen = _choose(config, candidates, annotator.config.body_types)
    return Search(candidates, _views(generator, config, best), chosen, _contents(generator, config))


def _contents(generator: StyleGenerator, config: SearchConfig) -> Tensor:
    seeds = [sample_integer(config.seed, EVALUATION, index) for index in range(config.num_contents)]
    return content_codes(generator, seeds, config.truncation)


def _views(generator: StyleGenerator, config: SearchConfig, rows: Sequence[int]) -> Tensor:
    return content_codes(generator, [sample_integer(config.seed, VIEW, row) for row in rows], config.view_truncation)


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
