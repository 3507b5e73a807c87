"""Training images made alike: every image of a source becomes a square of the resolution, RGB, uint8.

An image that is not an 8-bit RGB square of at least the resolution is irregular. What happens to such images is the
user's choice ("convert", "skip", "refuse"), and each is counted and named, whatever the choice. Parts of the source are
converted independently, so that an interrupted run continues and several workers share the work.
"""

import functools
import hashlib
import io
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ganfoundry.errors import InputError, RunError
from ganfoundry.gan.train_convert import parse_colour, square
from ganfoundry.gan.train_data import Images, write_array, write_atomically
from ganfoundry.gan.train_sources import Source, open_source

POLICIES = ("convert", "skip", "refuse")
PART_BYTES = 1 << 26  # of converted images
PART_ROWS = 500
SHOWN_NAMES = 3  # of each kind in a message


@dataclass(frozen=True)
class CollectTask:
    """One part of a source: images [first, stop) are converted into `path`. Picklable."""

    source: Path
    key: str | None
    digest: str
    resolution: int
    irregular: str
    background: tuple[int, int, int]
    first: int
    stop: int
    path: Path


@dataclass
class ImageReport:
    """What was found in a source.

    Attributes
    ----------
    source, kind : str
        Name of the folder or file, and "folder", "zip" or "hdf5".
    irregular_images : str
        What was done: "convert", "skip" or "refuse".
    found, used : int
        Images in the source, and of those the ones to learn from.
    irregular : dict
        Kind -> names of the images. Kinds are those of `ganfoundry.gan.train_convert`, and "damaged".
    left_out : list
        (name, reason) of each image that is not used.
    duplicates : list
        (name, name of the first) of each image that is used although its pixels are those of an earlier one.
    other_files : dict
        Suffix -> number of files that were not taken for images.
    """

    source: str
    kind: str
    irregular_images: str
    found: int
    used: int = 0
    irregular: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[tuple[str, str]] = field(default_factory=list)
    duplicates: list[tuple[str, str]] = field(default_factory=list)
    other_files: dict[str, int] = field(default_factory=dict)

    def counts(self) -> str:
        """Irregular images in words, "12 grey, 3 not square"; empty when there are none."""
        return ", ".join(f"{len(names)} {kind}" for kind, names in self.irregular.items())

    def lines(self) -> list[str]:
        """Sentences for a user, one for each thing that is not as it should be."""
        done = "left out" if self.irregular_images == "skip" else "converted"
        lines = [
            f"{len(names)} of {self.found} images {kind}, {'left out' if kind == 'damaged' else done}: {_some(names)}"
            for kind, names in self.irregular.items()
        ]
        if self.duplicates:
            lines.append(f"{len(self.duplicates)} images are duplicates: {_some([one for one, _ in self.duplicates])}")
        if self.other_files:
            others = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in self.other_files.items())
            lines.append(f"other files, not looked at: {others}")
        return lines


def collect_tasks(
    folder: Path,
    source: Source,
    resolution: int,
    *,
    key: str | None = None,
    irregular: str = "convert",
    background: str = "white",
) -> list[CollectTask]:
    """Parts of a source still to be converted; empty when `images.npy` or all parts are there.

    Parameters
    ----------
    folder : Path
        Where parts, `images.npy` and its report go; made if it does not exist. Belongs to these values and this list
        of images: others make it anew.
    source : Source
    resolution : int
        Side in pixels.
    key : str, optional
        What the source was opened with.
    irregular : str
        "convert" uses whatever can be read, "skip" and "refuse" only what is regular.
    background : str
        Colour behind transparent images: a CSS name or #rrggbb.

    Raises
    ------
    InputError
        If the policy or the colour is unknown.
    """
    if irregular not in POLICIES:
        raise InputError(f"irregular images: {irregular!r} is unknown, use {', '.join(POLICIES)}")
    colour = parse_colour(background)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = json.dumps([source.digest, resolution, irregular, colour])
    description = folder / "source.json"
    if not description.exists() or description.read_text() != wanted:
        for path in folder.iterdir():
            path.unlink()
        write_atomically(description, wanted.encode())
    if (folder / "images.npy").exists():
        return []
    rows = max(1, min(PART_ROWS, PART_BYTES // (resolution * resolution * 3)))
    shared = (source.path, key, source.digest, resolution, irregular, colour)
    firsts = range(0, len(source.names), rows)
    tasks = [
        CollectTask(*shared, first, min(first + rows, len(source.names)), folder / f"part-{first:09d}.npy")
        for first in firsts
    ]
    return [task for task in tasks if not task.path.exists()]


def collect_part(task: CollectTask) -> int:
    """Convert one part; returns its number of images.

    Raises
    ------
    InputError
        If the source is no longer what was listed.
    """
    source = _opened(task.source, task.key, task.digest)
    images, names, irregular, left_out = [], [], [], []
    for index in range(task.first, task.stop):
        name = source.names[index]
        pixels, kinds, reason = _convert(source, index, task)
        irregular += [(kind, name) for kind in kinds]
        if pixels is None:
            left_out.append((name, reason))
        else:
            images.append(pixels)
            names.append(name)
    found = {"names": names, "irregular": irregular, "left_out": left_out}
    write_atomically(task.path.with_suffix(".json"), json.dumps(found).encode())
    side = task.resolution
    write_array(task.path, np.stack(images) if images else np.zeros((0, side, side, 3), np.uint8))
    return task.stop - task.first


def _convert(source: Source, index: int, task: CollectTask) -> tuple[Images | None, list[str], str]:
    """One image: its pixels, its irregularities, and why it is left out if it is."""
    try:
        pixels, kinds = square(source.read(index), task.resolution, task.background)
    except InputError:
        raise
    except Exception as error:  # readers of broken files raise errors of all kinds
        return None, ["damaged"], f"not a readable image ({error})"
    if kinds and task.irregular != "convert":
        return None, kinds, ", ".join(kinds)
    return pixels, kinds, ""


@functools.lru_cache(maxsize=1)
def _opened(path: Path, key: str | None, digest: str) -> Source:
    """Open the source once in each process."""
    source = open_source(path, key)
    if source.digest != digest:
        raise InputError(f"{path} has changed while it was read; run again")
    return source


def join_parts(folder: Path, source: Source, irregular: str, summary: Path) -> tuple[Path, ImageReport]:
    """Join all parts into `images.npy`, remove them, and return its path and what was found.

    Parameters
    ----------
    folder, source, irregular
        As for `collect_tasks`.
    summary : Path
        The JSON file that tells what was found.

    Raises
    ------
    RunError
        If a part is missing or damaged.
    InputError
        If irregular images are refused and there are some, or no image is left; the summary is written first.
    """
    target = folder / "images.npy"
    if not target.exists():
        report = ImageReport(source.path.name, source.kind, irregular, len(source.names))
        report.other_files = source.other_files
        temporary = folder / "images.npy.tmp"
        with temporary.open("wb") as stream:
            _append_parts(stream, sorted(folder.glob("part-*.npy")), report)
        write_atomically(summary, json.dumps(asdict(report), indent=1).encode())
        _check(source, report)
        os.replace(temporary, target)
        for part in folder.glob("part-*"):
            part.unlink()
    return target, ImageReport(**json.loads(summary.read_text()))


def _append_parts(stream: io.BufferedWriter, parts: list[Path], report: ImageReport) -> None:
    """Write one .npy file, part by part, and complete the report."""
    seen: dict[bytes, str] = {}
    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False}
    for part in parts:
        try:
            images, found = np.load(part), json.loads(part.with_suffix(".json").read_text())
        except (OSError, ValueError) as error:
            part.unlink(missing_ok=True)
            raise RunError(f"{part} is missing or damaged ({error}); run again to convert it") from error
        if part is parts[0]:  # with the largest number of rows; the space it takes is enough for any other
            np.lib.format.write_array_header_1_0(stream, header | {"shape": (report.found, *images.shape[1:])})
        for name, image in zip(found["names"], images, strict=True):
            key = hashlib.blake2b(image.tobytes(), digest_size=16).digest()
            if seen.setdefault(key, name) is not name:
                report.duplicates.append((name, seen[key]))
        for kind, name in found["irregular"]:
            report.irregular.setdefault(kind, []).append(name)
        report.left_out += [(name, reason) for name, reason in found["left_out"]]
        report.used += len(images)
        stream.write(images.data)
        shape = (report.used, *images.shape[1:])
    stream.seek(0)
    np.lib.format.write_array_header_1_0(stream, header | {"shape": shape})  # numpy leaves room for it to change
    stream.flush()
    os.fsync(stream.fileno())


def _check(source: Source, report: ImageReport) -> None:
    named = "; ".join(f"{len(names)} {kind}: {_some(names)}" for kind, names in report.irregular.items())
    if report.irregular_images == "refuse" and named:
        raise InputError(
            f"{source.path} holds irregular images ({named}); remove them, or use --irregular convert or skip"
        )
    if not report.used:
        raise InputError(f"{source.path} holds no image to learn from ({named}); with --irregular convert all are used")


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN_NAMES]) + (", ..." if len(names) > SHOWN_NAMES else "")
