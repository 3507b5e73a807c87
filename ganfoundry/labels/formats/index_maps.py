"""Folders of index maps: what index PNGs and NPY files share. The file beside them tells the classes.

    masks/NAME.png or .npy    class ids (H, W)
    images/NAME.png           the pictures, if they are there
    classes.txt               one class name a line, the first line id 0, the background
    keypoints.json            {"names": [...], "keypoints": {NAME: [[x, y, visibility], ...]}}

The maps may also lie in the folder itself, or in one that other tools make (SegmentationClassPNG, SegmentationClass).
Without classes.txt (or labelme's class_names.txt) the ids are those of the schema.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.labels.formats.base import (
    BACKGROUND,
    AnnotatedImage,
    Canvas,
    Keypoints,
    OnBroken,
    Pictures,
    files_below,
    listing,
    mapping,
    read_each,
    read_json,
    write_json,
)

FOLDERS = ("masks", "SegmentationClassPNG", "SegmentationClassNpy", "SegmentationClass")
CLASS_FILES = ("classes.txt", "class_names.txt")
KEYPOINT_FILE = "keypoints.json"
MAX_CLASSES = 1 << 16
IdMap = NDArray[np.integer]


def maps_of(path: Path, ending: str) -> list[Path]:
    """Files of index maps: the file itself, or those in the folder of maps or in the folder itself."""
    if path.is_file():
        return [path]
    folders = [path / name for name in FOLDERS if (path / name).is_dir() and not (path / name).is_symlink()]
    for folder in [*folders, path]:
        found = list(files_below(folder, (ending,))) if folder in folders else _directly_in(folder, ending)
        if found:
            return found
    return []


def _directly_in(folder: Path, ending: str) -> list[Path]:
    return [file for file in files_below(folder, (ending,)) if file.parent == folder]


def read_maps(
    path: Path, ending: str, load: Callable[[Path], IdMap], classes: Sequence[str] | None, on_broken: OnBroken
) -> Iterator[AnnotatedImage]:
    """Read the maps of a folder, or one.

    Parameters
    ----------
    path : Path
    ending : ".png" or ".npy"
    load : function
        Path to whole numbers (H, W).
    classes : names by id that hold where no file tells them
    on_broken : told of maps that cannot be read

    Raises
    ------
    InputError
        If the files of names or keypoints beside the maps cannot be read.
    """
    root = path if path.is_dir() else path.parent
    names = _class_names(root) or list(classes or [])
    points = _read_keypoints(root / KEYPOINT_FILE)
    files = maps_of(path, ending)
    pictures = Pictures(root, files)

    def read_one(file: Path) -> AnnotatedImage:
        ids = load(file)
        height, width = ids.shape
        canvas = Canvas(height, width, str(file))
        present = np.unique(ids)
        if present[0] < 0 or present[-1] >= MAX_CLASSES:
            raise InputError(
                f"{file} holds the class {present[0] if present[0] < 0 else present[-1]}; ids are 0 to 65,535"
            )
        table = {int(index): names[index] if index < len(names) else f"id {index}" for index in present}
        if 0 in table and not names:
            table[0] = BACKGROUND
        for index, name in table.items():
            canvas.paint(name, ids == index)
        for name, (x, y, visibility) in points.get(file.stem, {}).items():
            canvas.point(name, x, y, visibility)
        return canvas.finish(file.name, pictures.find(file.name))

    yield from read_each(files, read_one, on_broken)


def _class_names(root: Path) -> list[str]:
    for name in CLASS_FILES:
        if (root / name).is_file():
            try:
                lines = (root / name).read_text("utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"cannot read {root / name}: {error}; write one class name a line") from None
            lines = [line.strip() for line in lines]
            return lines[1:] if lines[:1] == ["__ignore__"] else lines  # labelme: id -1
    return []


def _read_keypoints(path: Path) -> dict[str, Keypoints]:
    if not path.is_file():
        return {}
    where = str(path)
    table = mapping(read_json(path), "the file", where)
    names = listing(table.get("names"), "names", where)
    result: dict[str, Keypoints] = {}
    for stem, rows in mapping(table.get("keypoints"), "keypoints", where).items():
        rows = listing(rows, "keypoints", where)
        if len(rows) != len(names) or not all(_is_point(row) for row in rows):
            raise InputError(f"{path}: {stem} must have {len(names)} rows [x, y, visibility of 0, 1 or 2]")
        result[stem] = {name: (row[0], row[1], float(row[2])) for name, row in zip(names, rows, strict=True) if row[2]}
    return result


def _is_point(row: object) -> bool:
    return isinstance(row, list) and len(row) == 3 and row[2] in (0, 1, 2)


def write_maps(
    folder: Path,
    images: Iterable[AnnotatedImage],
    classes: Sequence[str],
    keypoints: Sequence[str],
    save: Callable[[Path, NDArray[np.uint8]], None],
    ending: str,
) -> None:
    """Write masks/, classes.txt and, where there are keypoints, keypoints.json.

    Parameters
    ----------
    folder : Path
    images : iterable of AnnotatedImage
    classes, keypoints : names in order
    save : function (path, uint8 (H, W)) that writes one map
    ending : ".png" or ".npy"
    """
    (folder / "masks").mkdir(parents=True, exist_ok=True)
    points = {}
    for image in images:
        ids = np.array([list(classes).index(name) for name in image.classes], np.uint8)
        save(folder / "masks" / f"{Path(image.name).stem}{ending}", ids[image.label])
        if image.keypoints:
            points[Path(image.name).stem] = [list(image.keypoints.get(name, (0.0, 0.0, 0.0))) for name in keypoints]
    (folder / CLASS_FILES[0]).write_text("\n".join(classes) + "\n", encoding="utf-8")
    if points:
        write_json(folder / KEYPOINT_FILE, {"names": list(keypoints), "keypoints": points})
