"""The log of a training run: one JSON line now and then, and what can be read from it.

A line holds `step`, `images` (shown so far), `seconds` and numbers by name: losses and scores, averaged since the line
before, or `fd` with the `snapshot` that it belongs to.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ganfoundry.gan.train_data import write_atomically

Line = dict[str, Any]
NAME = "log.jsonl"

WATCHED_IMAGES = 50_000  # the scores must be hopeless for so long before a run is given up
SAME_SCORE = 0.01  # the discriminator sees no difference between real and generated images
LOST_SCORE = -50.0  # no generated image comes near; a healthy score is between -5 and 5


@dataclass(frozen=True)
class Snapshot:
    """A snapshot and its Frechet distance."""

    name: str
    step: int
    images: int
    fd: float


def read_log(folder: Path) -> list[Line]:
    """Lines of a run's log, oldest first; a torn last line is left out."""
    path = folder / NAME
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def append_line(folder: Path, line: Mapping[str, Any]) -> None:
    """Add one line."""
    with (folder / NAME).open("a") as stream:
        stream.write(json.dumps(line) + "\n")


def forget_lines_after(folder: Path, step: int) -> None:
    """Cut the lines that an interrupted run wrote after its last checkpoint."""
    if (folder / NAME).exists():
        kept = [json.dumps(line) + "\n" for line in read_log(folder) if line["step"] <= step]
        write_atomically(folder / NAME, "".join(kept).encode())


def best_snapshot(lines: Sequence[Line]) -> Snapshot | None:
    """Snapshot with the lowest Frechet distance, the earliest of equals; None when none was measured."""
    measured = {  # a snapshot written again is what it was measured as last
        line["snapshot"]: Snapshot(line["snapshot"], line["step"], line["images"], line["fd"])
        for line in lines
        if "fd" in line
    }
    return min(measured.values(), key=lambda snapshot: (snapshot.fd, snapshot.images), default=None)


def out_of_patience(lines: Sequence[Line], patience_kimg: float) -> str:
    """Why a run should end for want of progress; empty when it should not, or when patience is 0."""
    best = best_snapshot(lines)
    if not patience_kimg or best is None:
        return ""
    waited = next(line["images"] for line in reversed(lines) if "fd" in line) - best.images
    if waited < patience_kimg * 1000:
        return ""
    return f"no lower Frechet distance than {best.fd:.4g}, of {best.name}, in {waited:,} images"


def hopeless(lines: Sequence[Line]) -> str:
    """What is wrong with the discriminator for the last 50,000 images; empty when nothing is.

    Either it has collapsed (it gives real and generated images the same score), or it has won beyond recall. Both
    happen for a while in a healthy run.
    """
    scored = [line for line in lines if "real_score" in line and "fake_score" in line]
    if not scored or scored[-1]["images"] - scored[0]["images"] < WATCHED_IMAGES:
        return ""
    watched = [line for line in scored if line["images"] >= scored[-1]["images"] - WATCHED_IMAGES]
    if all(abs(line["real_score"] - line["fake_score"]) < SAME_SCORE for line in watched):
        return "the discriminator has collapsed: it gives real and generated images the same score"
    if all(line["fake_score"] < LOST_SCORE for line in watched):
        return "the discriminator has won: the generator comes nowhere near the real images any more"
    return ""
