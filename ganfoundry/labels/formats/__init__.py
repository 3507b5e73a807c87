"""Annotation formats in and out: labelme, COCO, Label Studio, CVAT (its COCO), index PNG and NPY folders.

    for image in read_annotations(path): ...          # the format is told by the content
    write_annotations(folder, "labelme", images, schema)

Conventions that all share: (0, 0) is the top-left corner of the top-left pixel; a pixel belongs to an area when its
centre does; docs/label-formats.md says what each format keeps.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ganfoundry.errors import InputError
from ganfoundry.labels.formats import coco, index_png, label_studio, labelme, npy
from ganfoundry.labels.formats.base import AnnotatedImage, Areas, OnBroken, json_files, refuse
from ganfoundry.labels.schema import PartSchema

__all__ = ["FORMATS", "AnnotatedImage", "Areas", "detect", "read_annotations", "write_annotations"]

FORMATS = ("labelme", "coco", "label-studio", "cvat", "png", "npy")
_JSON = {"labelme": labelme, "coco": coco, "label-studio": label_studio}
_MAPS = {"png": index_png, "npy": npy}


def detect(path: Path) -> str:
    """Format of a file or folder, told by its content.

    Parameters
    ----------
    path : Path

    Returns
    -------
    str
        One of `FORMATS`; CVAT's COCO files are "coco".

    Raises
    ------
    InputError
        If nothing of a known format is there, or JSON files of several are.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give the file or folder that the annotation tool wrote")
    if path.suffix.lower() == ".zip":
        raise InputError(f"{path} is an archive; unpack it and give its folder")
    found: dict[str, Path] = {}
    broken: list[InputError] = []
    if path.is_dir() or path.suffix.lower() == ".json":
        for file, content in json_files(path, lambda _: True, broken.append):
            for name, module in _JSON.items():
                if module.is_mine(content):
                    found.setdefault(name, file)
    if len(found) > 1:
        listed = ", ".join(f"{name} ({file.name})" for name, file in found.items())
        raise InputError(f"{path} holds several formats: {listed}; choose one with --format")
    if found:
        return next(iter(found))
    if broken:
        raise broken[0]
    for name, maps in _MAPS.items():
        if maps.is_mine(path):
            return name
    raise InputError(
        f"{path} holds no annotations that are known: labelme, COCO or Label Studio (JSON, not JSON-MIN) files, index "
        "PNGs or NPY files"
    )


def read_annotations(
    path: str | Path,
    format: str | None = None,
    classes: Sequence[str] | None = None,
    on_broken: OnBroken = refuse,
) -> Iterator[AnnotatedImage]:
    """Read a file or folder, one picture after another.

    Parameters
    ----------
    path : str or Path
    format : one of `FORMATS`; detected without it
    classes : sequence of str, optional
        Names of the ids of index maps that come without a file of names.
    on_broken : callable
        Takes the InputError of each file or picture that cannot be read, one sentence that names it. Without it the
        first is raised; if it returns, the others are read all the same.

    Raises
    ------
    InputError
        If nothing can be read at all.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise InputError(f"the format {format!r} is not known; choose one of {', '.join(FORMATS)}")
    if not path.exists():
        raise InputError(f"{path} does not exist; give the file or folder that the annotation tool wrote")
    kind = format or detect(path)
    kind = "coco" if kind == "cvat" else kind
    images: Iterator[AnnotatedImage]
    images = _MAPS[kind].read(path, classes, on_broken) if kind in _MAPS else _JSON[kind].read(path, on_broken)
    return images


def write_annotations(
    folder: Path,
    format: str,
    images: Iterable[AnnotatedImage],
    schema: PartSchema,
    *,
    areas: Areas = "polygons",
    tolerance: float = 0.0,
) -> None:
    """Write a folder that the annotation tool opens.

    Parameters
    ----------
    folder : Path
        Made if need be; labelme expects the pictures in it, the others in its folder images.
    format : one of `FORMATS`
    images : iterable of AnnotatedImage
        Their classes must be parts of the schema.
    schema : PartSchema
    areas : "polygons" or "masks"
        masks are exact and cannot be edited corner by corner; index PNG and NPY are always masks.
    tolerance : float, pixels
        How far simplified polygons may leave the outline; 0 is exact.
    """
    folder.mkdir(parents=True, exist_ok=True)
    assert schema.palette is not None
    parts, points = schema.parts, schema.keypoints
    if format == "labelme":
        labelme.write(folder, images, areas=areas, tolerance=tolerance)
    elif format in ("coco", "cvat"):
        coco.write(
            folder, images, parts, points, thing=schema.name, areas=areas, tolerance=tolerance, cvat=format == "cvat"
        )
    elif format == "label-studio":
        label_studio.write(folder, images, parts, points, schema.palette, areas=areas, tolerance=tolerance)
    elif format == "png":
        index_png.write(folder, images, parts, points, schema.palette)
    elif format == "npy":
        npy.write(folder, images, parts, points)
    else:
        raise InputError(f"the format {format!r} is not known; choose one of {', '.join(FORMATS)}")
