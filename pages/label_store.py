"""Labels that a page edits: revisions, and saves that survive whatever happens.

The folder is that of `ganfoundry.labels.labelset`; a save changes masks/<name>.png and labels.json (keypoints and
provenance) and nothing else, each file whole or not at all. A save first goes, whole, to .page/pending.json; a server
that is killed between its files finishes it when it is opened again.

Every sample has a revision, raised by each save and by each change that another program makes to its files. A save
names the revision it started from; when that is not the newest, it is refused and nothing is lost.
"""

import base64
import hashlib
import io
import json
import secrets
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganfoundry.data.integrity import write_whole
from ganfoundry.errors import InputError
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.schema import PartSchema

HIDDEN = ".page"
"""Folder for what is the page's own; hidden, so no part of the artifact."""

Mask = NDArray[np.uint8]
Points = NDArray[np.float32]


class ConflictError(Exception):
    """A save that started from an older revision than the newest; `newest` is that one."""

    def __init__(self, newest: "Sample") -> None:
        super().__init__(f"revision {newest.revision} is newer")
        self.newest = newest


@dataclass(frozen=True)
class Sample:
    """Labels of one image.

    Attributes
    ----------
    name : str
    revision : int
    mask : (R, R) uint8 fine part ids
    keypoints : (K, 3) float32, x, y in pixels and visibility 0, 1, 2
    done : bool
        A person has looked at it and is content.
    """

    name: str
    revision: int
    mask: Mask
    keypoints: Points
    done: bool

    @property
    def digest(self) -> str:
        """Identity of mask and keypoints."""
        points = np.round(self.keypoints.astype(float), 2)
        return hashlib.sha256(self.mask.tobytes() + (points + 0.0).tobytes()).hexdigest()


class LabelStore:
    """The labels of one folder; one store at a time may be open on it, and its methods may be called from any thread.

    Parameters
    ----------
    folder : path
        A labels folder.
    generator_sha256 : str, optional
        Refuse labels of another generator.

    Raises
    ------
    InputError
        If the folder is not a sound labels folder.
    """

    def __init__(self, folder: str | Path, generator_sha256: str | None = None) -> None:
        self.folder = Path(folder)
        self._lock = threading.RLock()
        self._own = self.folder / HIDDEN
        self._labels = LabelSet.load(self.folder, generator_sha256)
        self._own.mkdir(exist_ok=True)
        for torn in (*self.folder.glob(".tmp-*"), *self.folder.glob("masks/.tmp-*"), *self._own.glob(".tmp-*")):
            torn.unlink(missing_ok=True)
        self._state = self._read_state()
        self._samples: dict[str, Sample] = {}
        self._finish_pending()
        self._read_samples()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the samples."""
        return self._labels.names

    @property
    def schema(self) -> PartSchema:
        """What the labels mean."""
        return self._labels.schema

    @property
    def resolution(self) -> int:
        """Side of images and masks in pixels."""
        return int(self._labels.masks.shape[1])

    @property
    def identity(self) -> str:
        """Random name of this folder, under which a browser keeps unsaved work."""
        return str(self._state["id"])

    @property
    def own_folder(self) -> Path:
        """Hidden folder for files that are no part of the artifact."""
        return self._own

    @property
    def latents(self) -> NDArray[np.float32]:
        """Style codes of the samples, (n, w_dim)."""
        return self._labels.w

    def image(self, name: str) -> Mask:
        """Image of a sample, (R, R, 3) uint8."""
        picture: Mask = self._labels.images[self._index(name)]
        return picture

    def get(self, name: str) -> Sample:
        """Newest labels of a sample.

        Raises
        ------
        InputError
            If there is no such sample, or another program left files that are no labels.
        """
        with self._lock:
            self._index(name)
            self._notice_other_programs()
            return self._samples[name]

    def samples(self) -> list[Sample]:
        """Newest labels of every sample, in order."""
        with self._lock:
            self._notice_other_programs()
            return [self._samples[name] for name in self.names]

    def corrected(self, name: str) -> bool:
        """Whether a person changed the labels of a sample."""
        return name in self._labels.provenance.get("corrected", [])

    def save(self, name: str, base: int, mask: Mask, keypoints: Points, done: bool) -> Sample:
        """Write the labels of a sample.

        Parameters
        ----------
        base : int
            Revision that they were made from.

        Raises
        ------
        ConflictError
            If there is a newer revision; nothing was written.
        InputError
            If mask or keypoints do not fit the image or the schema.
        RunError
            If the disk is full or cannot be written; the old labels stay.
        """
        with self._lock:
            newest = self.get(name)
            mask, keypoints = self._checked_mask(mask), self._checked_points(keypoints)
            sample = Sample(name, newest.revision + 1, mask, keypoints, bool(done))
            if sample.digest == newest.digest and sample.done == newest.done:
                return newest  # nothing new, or sent again because the answer was lost
            if base != newest.revision:
                raise ConflictError(newest)
            write_whole(self._own / "pending.json", _dump(_to_table(sample)))
            self._apply(sample)
            return sample

    def _apply(self, sample: Sample) -> None:
        """Write the files of a pending save; repeating it changes nothing."""
        entry, index = self._state["samples"][sample.name], self._index(sample.name)
        if not np.array_equal(self._labels.masks[index], sample.mask):
            write_whole(self._mask_path(sample.name), mask_png(sample.mask, self.schema))
        provenance = dict(self._labels.provenance)
        for key, belongs in (("corrected", sample.digest != entry["proposed"]), ("checked", sample.done)):
            listed = set(provenance.get(key, [])) - {sample.name} | ({sample.name} if belongs else set())
            if listed or key in provenance:
                provenance[key] = [name for name in self.names if name in listed]
        points = self._write_table(sample, provenance)
        entry.update(revision=sample.revision, digest=sample.digest)
        write_whole(self._own / "state.json", _dump(self._state))
        (self._own / "pending.json").unlink(missing_ok=True)
        masks = self._labels.masks.copy()
        masks[index] = sample.mask
        self._labels = replace(self._labels, masks=masks, keypoints=points, provenance=provenance)
        self._samples[sample.name] = sample
        self._stamps = self._current_stamps()

    def _write_table(self, sample: Sample, provenance: dict[str, Any]) -> Points | None:
        """Change keypoints and provenance in labels.json, leave all else as it stands there; returns all keypoints."""
        path, points = self.folder / "labels.json", self._labels.keypoints
        if points is None and sample.keypoints[:, 2].any():
            points = np.zeros((len(self.names), *sample.keypoints.shape), np.float32)
        table = json.loads(path.read_text("utf-8")) | {"provenance": provenance}
        if points is not None:
            points = points.copy()
            points[self._index(sample.name)] = sample.keypoints
            table["keypoints"] = np.round(points.astype(float), 2).tolist()
        data = (json.dumps(table, indent=1) + "\n").encode("utf-8")
        if path.read_bytes() != data:
            write_whole(path, data)
        return points

    def _finish_pending(self) -> None:
        """Finish a save that a killed server had begun to write."""
        path = self._own / "pending.json"
        if not path.exists():
            return
        sample = _from_table(_read_json(path), self.resolution)
        entry = self._state["samples"].get(sample.name)
        if entry is not None and sample.revision > entry["revision"]:
            self._apply(sample)
        path.unlink(missing_ok=True)

    def _read_samples(self) -> None:
        """Take the samples as loaded, and raise the revision of those that another program changed."""
        shape = (len(self.schema.keypoints), 3)
        for index, name in enumerate(self.names):
            points = np.zeros(shape, np.float32) if self._labels.keypoints is None else self._labels.keypoints[index]
            done = name in self._labels.provenance.get("checked", [])
            sample = Sample(name, 1, self._labels.masks[index], points, done)
            proposed = "" if self.corrected(name) else sample.digest
            entry = self._state["samples"].setdefault(
                name, {"revision": 1, "digest": sample.digest, "proposed": proposed}
            )
            if entry["digest"] != sample.digest:
                entry.update(revision=entry["revision"] + 1, digest=sample.digest)
            self._samples[name] = replace(sample, revision=entry["revision"])
        write_whole(self._own / "state.json", _dump(self._state))
        self._stamps = self._current_stamps()

    def _notice_other_programs(self) -> None:
        """Read again what a paint program or a stage wrote meanwhile."""
        if self._current_stamps() != self._stamps:
            self._labels = LabelSet.load(self.folder, self._labels.generator_sha256)
            self._read_samples()

    def _current_stamps(self) -> dict[str, tuple[int, ...]]:
        files = [self.folder / "labels.json", *map(self._mask_path, self.names)]
        stamps: dict[str, tuple[int, ...]] = {}
        for file in files:
            try:
                stat = file.stat()
            except OSError:
                raise InputError(f"{file} is gone; restore it") from None
            stamps[file.name] = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        return stamps

    def _mask_path(self, name: str) -> Path:
        return self.folder / "masks" / f"{name}.png"

    def _index(self, name: str) -> int:
        if name not in self.names:
            raise InputError(f"there is no sample {name!r}; reload the page")
        return self.names.index(name)

    def _read_state(self) -> dict[str, Any]:
        path = self._own / "state.json"
        new: dict[str, Any] = {"id": secrets.token_hex(8), "samples": {}}
        state = _read_json(path) if path.exists() else new
        state["samples"] = {name: entry for name, entry in state["samples"].items() if name in self.names}
        return state

    def _checked_mask(self, mask: Mask) -> Mask:
        side = self.resolution
        if mask.dtype != np.uint8 or mask.shape != (side, side):
            raise InputError(f"the mask is {mask.dtype} {mask.shape}, not uint8 {(side, side)}; reload the page")
        if mask.max() >= len(self.schema.parts):
            raise InputError(f"the mask holds part {mask.max()}, the last is {len(self.schema.parts) - 1}; repaint it")
        return np.ascontiguousarray(mask)

    def _checked_points(self, points: Points) -> Points:
        shape = (len(self.schema.keypoints), 3)
        if points.shape != shape or not np.isfinite(points).all():
            raise InputError(f"the keypoints must be {shape} finite numbers, not {points.shape}; reload the page")
        placed = points[:, 2] > 0
        if not np.isin(points[:, 2], (0, 1, 2)).all() or ((points < 0) | (points > self.resolution)).any():
            raise InputError("a keypoint lies outside the image or has a visibility other than 0, 1, 2; place it again")
        return np.where(placed[:, None], np.round(points, 2), 0).astype(np.float32)


def mask_png(mask: Mask, schema: PartSchema) -> bytes:
    """Index PNG of a mask (R, R) with the schema's palette, byte for byte as `LabelSet.save` writes it."""
    picture = Image.fromarray(mask).convert("P")
    assert schema.palette is not None
    picture.putpalette(schema.palette.tobytes())
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def _to_table(sample: Sample) -> dict[str, Any]:
    return {
        "name": sample.name,
        "revision": sample.revision,
        "mask": base64.b64encode(sample.mask.tobytes()).decode("ascii"),
        "keypoints": np.round(sample.keypoints.astype(float), 2).tolist(),
        "done": sample.done,
    }


def _from_table(table: dict[str, Any], side: int) -> Sample:
    mask = np.frombuffer(base64.b64decode(table["mask"]), np.uint8).reshape(side, side)
    points = np.array(table["keypoints"], np.float32).reshape(-1, 3)
    return Sample(table["name"], table["revision"], mask, points, table["done"])


def _dump(table: dict[str, Any]) -> bytes:
    return (json.dumps(table) + "\n").encode("utf-8")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        table = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); remove it, the labels themselves are beside it") from None
    if not isinstance(table, dict):
        raise InputError(f"{path} is no JSON object; remove it, the labels themselves are beside it")
    return table
