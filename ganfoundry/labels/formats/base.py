"""What all annotation formats have in common: the record that crosses them, and the care taken with files of others.

A reader yields one `AnnotatedImage` a picture; a writer takes them. Class names are the tool's own; `validation` maps
them to a schema. Files come from strangers: sizes are bounded before anything is allocated, and of a path in a file
only its last component is ever used.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeAlias, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError

Areas: TypeAlias = Literal["polygons", "masks"]
Keypoints: TypeAlias = Mapping[str, tuple[float, float, float]]
OnBroken: TypeAlias = Callable[[InputError], None]
"""Told of each file or picture that cannot be read; if it returns, reading goes on with the next."""
Item = TypeVar("Item")

BACKGROUND = "background"
BACKGROUND_NAMES = frozenset({"background", "_background_", "__background__"})
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
MAX_PIXELS = 1 << 26  # of one label map
MAX_JSON_BYTES = 1 << 30
MAX_FILES = 200_000  # looked at in a folder


@dataclass(frozen=True)
class AnnotatedImage:
    """Annotation of one picture, overlaps resolved.

    Attributes
    ----------
    name : str
        File name of the picture as the tool wrote it, without folders.
    label : (H, W) uint16
        Index into `classes`.
    classes : tuple of str
        Names of the classes, as the tool wrote them; the first is the background.
    keypoints : {name: (x, y, visibility)}
        Pixels, the top-left corner of the image at (0, 0); visibility 0 not labelled, 1 hidden, 2 visible.
    picture : bytes, Path or None
        The picture, where the format or the folder has it.
    notes : tuple of str
        What was left out while reading, in sentences.
    source : str
        File it was read from, for messages.
    """

    name: str
    label: NDArray[np.uint16]
    classes: tuple[str, ...]
    keypoints: Keypoints = field(default_factory=dict)
    picture: bytes | Path | None = None
    notes: tuple[str, ...] = ()
    source: str = ""


class Canvas:
    """A label map in the making: later areas cover earlier ones.

    Parameters
    ----------
    height, width : object
        As the file has them; checked.
    where : str
        Names the picture in messages.
    """

    def __init__(self, height: object, width: object, where: str) -> None:
        self.where = where
        self.height, self.width = checked_size(height, width, where)
        self.label = np.zeros((self.height, self.width), np.uint16)
        self.classes: dict[str, int] = {BACKGROUND: 0}
        self.keypoints: dict[str, tuple[float, float, float]] = {}
        self.notes: list[str] = []

    def paint(self, name: object, mask: NDArray[np.bool_]) -> None:
        """Give the pixels of a mask a class."""
        self.label[mask] = self.class_id(text(name, "class name", self.where))

    def class_id(self, name: str) -> int:
        """Number of a class of this picture, a new one if need be."""
        if name.strip().casefold() in BACKGROUND_NAMES:
            return 0
        if len(self.classes) > np.iinfo(np.uint16).max:
            raise InputError(f"{self.where} has more than 65,535 classes; correct the file")
        return self.classes.setdefault(name, len(self.classes))

    def point(self, name: object, x: object, y: object, visibility: float) -> None:
        """Set a keypoint; of two with one name the later counts, and a note is taken."""
        known = text(name, "keypoint name", self.where)
        if known in self.keypoints:
            self.note(f"keypoint {known} is there twice; the later one counts")
        self.keypoints[known] = (number(x, self.where), number(y, self.where), visibility)

    def note(self, sentence: str) -> None:
        """Remember what was left out."""
        self.notes.append(sentence)

    def finish(self, name: str, picture: bytes | Path | None = None) -> AnnotatedImage:
        """The record, with the classes that are still seen."""
        seen = np.unique(self.label)
        names = list(self.classes)
        classes = (BACKGROUND, *(names[index] for index in seen if index))
        table = np.zeros(len(names), np.uint16)
        table[seen[seen > 0]] = np.arange(1, len(classes))
        return AnnotatedImage(
            name, table[self.label], classes, self.keypoints, picture, tuple(self.notes), self.where
        )  # fmt: skip


def refuse(error: InputError) -> NoReturn:
    """Stop at the first thing that cannot be read: what readers do unless they are told otherwise."""
    raise error


def read_each(
    items: Iterable[Item], read: Callable[[Item], AnnotatedImage | None], on_broken: OnBroken
) -> Iterator[AnnotatedImage]:
    """What a reader of one item finds in each; None is passed over, and errors are told to `on_broken`."""
    for item in items:
        try:
            image = read(item)
        except InputError as error:
            on_broken(error)
            continue
        if image is not None:
            yield image


def checked_size(height: object, width: object, where: str) -> tuple[int, int]:
    """Height and width as whole numbers from 1 on, together not more than `MAX_PIXELS`.

    Raises
    ------
    InputError
        If they are anything else.
    """
    sides = []
    for value in (height, width):
        whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1
        if not whole or not 1 <= value <= MAX_PIXELS:  # type: ignore[operator]
            raise InputError(f"{where}: the size {width!r} x {height!r} is not one of an image; correct the file")
        sides.append(int(value))  # type: ignore[call-overload]
    if sides[0] * sides[1] > MAX_PIXELS:
        raise InputError(f"{where}: {sides[1]} x {sides[0]} pixels are more than {MAX_PIXELS:,}; correct the file")
    return sides[0], sides[1]


def text(value: object, what: str, where: str) -> str:
    """A text that is not empty, of at most 200 characters.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > 200:
        raise InputError(f"{where}: a {what} is {str(value)[:60]!r}; it must be a text of 1 to 200 characters")
    return value


def number(value: object, where: str) -> float:
    """A finite number of sensible size.

    Raises
    ------
    InputError
        If it is anything else.
    """
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= 1e6
    if not fine:
        raise InputError(f"{where}: a coordinate is {str(value)[:60]!r}; it must be a number below a million")
    return float(value)  # type: ignore[arg-type]


def mapping(value: object, what: str, where: str) -> Mapping[str, Any]:
    """A JSON object.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not isinstance(value, dict):
        raise InputError(f"{where}: {what} is not an object {{...}}; is the file whole?")
    return value


def listing(value: object, what: str, where: str) -> list[Any]:
    """A JSON list.

    Raises
    ------
    InputError
        If it is anything else.
    """
    if not isinstance(value, list):
        raise InputError(f"{where}: {what} is not a list [...]; is the file whole?")
    return value


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises
    ------
    InputError
        If it is missing, too large or not JSON.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise InputError(f"{path} has more than {MAX_JSON_BYTES >> 20} MiB; export fewer pictures at once")
        return json.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}; check the path") from None
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError is a ValueError
        raise InputError(f"{path} is not whole JSON ({str(error)[:80]}); export it again") from None


def json_files(
    path: Path, is_mine: Callable[[object], bool], on_broken: OnBroken = refuse
) -> Iterator[tuple[Path, Any]]:
    """Path and content of a JSON file, or of all below a folder, that are of a format."""
    for file in [path] if path.is_file() else files_below(path, (".json",)):
        try:
            content = read_json(file)
        except InputError as error:
            on_broken(error)
            continue
        if is_mine(content):
            yield file, content


def write_json(path: Path, table: object) -> None:
    """Write JSON, one space a level; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def base_name(path: object, where: str) -> str:
    """Last component of a path or URL of any system: a name that stays inside whatever folder it is put in.

    Raises
    ------
    InputError
        If nothing is left.
    """
    whole = text(path, "picture's path", where) if not isinstance(path, str) or len(path) < 200 else path[-200:]
    parts = urlsplit(whole) if "://" in whole or "?" in whole else None
    if parts is not None:
        whole = (parse_qs(parts.query).get("d") or [parts.path])[0]  # Label Studio's local files: ?d=folder/name.png
    name = re.split(r"[/\\]", unquote(whole))[-1].replace("\x00", "").strip()
    if name in ("", ".", ".."):
        raise InputError(f"{where}: the picture's path {str(path)[:60]!r} names no file; correct it")
    return name


def files_below(folder: Path, endings: Sequence[str]) -> Iterator[Path]:
    """Plain files with one of the endings, sorted by path; hidden ones and links are passed over.

    Raises
    ------
    InputError
        If there are more than `MAX_FILES`.
    """
    found = []
    for count, path in enumerate(folder.rglob("*")):
        if count > MAX_FILES:
            raise InputError(f"{folder} holds more than {MAX_FILES:,} files; name the folder of the annotations")
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in endings and not hidden and path.is_file() and not path.is_symlink():
            found.append(path)
    yield from sorted(found)


class Pictures:
    """Pictures that lie with the annotations, by file name or by its stem; a name that occurs twice finds none."""

    def __init__(self, root: Path, without: Sequence[Path] = ()) -> None:
        self._paths: dict[str, Path | None] = {}
        masks = set(without)
        for path in files_below(root, PICTURE_ENDINGS) if root.is_dir() else ():
            if path not in masks:
                for key in {path.name, path.stem}:
                    self._paths[key] = None if key in self._paths else path

    def find(self, name: str) -> Path | None:
        """Path of a picture."""
        return self._paths.get(name) or self._paths.get(Path(name).stem)


def ordered_regions(image: AnnotatedImage) -> list[tuple[str, NDArray[np.bool_]]]:
    """(class, mask) of the classes seen, the largest first: drawn in this order, nothing is covered."""
    counts = np.bincount(image.label.ravel(), minlength=len(image.classes))
    order = sorted((index for index in range(1, len(counts)) if counts[index]), key=lambda index: -counts[index])
    return [(image.classes[index], image.label == index) for index in order]
