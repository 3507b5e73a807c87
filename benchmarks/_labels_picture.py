"""What the networks of the label benchmark say of unseen images, side by side."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import _labels_data as data
from benchmarks._labels_jobs import Job
from benchmarks._labels_rows import ROWS
from ganfoundry.downstream import Examples, predict
from ganfoundry.downstream.model import load_net
from ganfoundry.errors import InputError
from ganfoundry.pictures import captioned, magnify, overlay

INNER, OUTER = 8, 5  # images of either test set
SCALE = 3


def draw(path: Path, jobs: Sequence[Job]) -> None:
    """One line an image set and row: the images, the truth, what every row's network of seed 0 says.

    Raises
    ------
    InputError
        If no network of these jobs has been trained.
    """
    settings = jobs[0].settings
    sets = [data.renders(data.TEST_SEED, settings.test).rows(slice(0, INNER))]
    if (others := data.outer(settings.outer)) is not None:
        sets.append(others.rows(slice(0, OUTER)))
    shown = [job for job in jobs if job.seed == 0 and job.network("parts").exists()]
    if not shown:
        raise InputError("there is no trained network to draw; run python -m benchmarks.labels first")
    palette = data.SCHEMA.level_palette(data.LEVEL)
    tiles = [magnify(truth.image, SCALE) for truth in sets]
    lines, names = [np.concatenate(tiles)], ["image"]
    exact = overlay(sets[0].image, sets[0].label, palette)
    lines.append(np.concatenate([_marked(exact, sets[0].keypoints), *tiles[1:]]))
    names.append("truth")
    for job in shown:
        lines.append(np.concatenate([_said(job, truth, palette) for truth in sets]))
        names.append(ROWS[job.row].title)
    captions = [
        name if index == 0 else "" for line, name in zip(lines, names, strict=True) for index in range(len(line))
    ]
    Image.fromarray(captioned(np.concatenate(lines), captions, len(lines[0]), scale=1)).save(path)


def _said(job: Job, truth: Examples, palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    label = predict(load_net(job.network("parts")), truth.image).label
    assert label is not None
    keypoints = None
    if job.network("keypoints").exists():
        keypoints = predict(load_net(job.network("keypoints")), truth.image).keypoints
    return _marked(overlay(truth.image, label, palette), keypoints)


def _marked(images: NDArray[np.uint8], keypoints: NDArray[np.float32] | None) -> NDArray[np.uint8]:
    """Magnified images with a small square at every visible keypoint."""
    result = magnify(images, SCALE)
    for image, points in zip(result, [] if keypoints is None else keypoints, strict=False):
        for x, y, visible in points:
            row, column = int(y * SCALE), int(x * SCALE)
            if visible > 0.5 and 0 < row < len(image) and 0 < column < len(image):
                image[row - 1 : row + 2, column - 1 : column + 2] = (255, 255, 255)
                image[row, column] = (0, 0, 0)
    return result
