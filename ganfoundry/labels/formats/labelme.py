"""labelme: one JSON file a picture (github.com/wkentaro/labelme, versions 3 to 5).

    {"version", "flags", "shapes": [{"label", "points", "shape_type", "group_id", "flags", "mask"}], "imagePath",
     "imageData": base64 or null, "imageHeight", "imageWidth"}

Shapes are drawn in the order of the list, later ones over earlier ones, as labelme's own converters do. Polygons,
rectangles, circles and masks are areas; a mask is a PNG of the box between its two points, both included. A point is a
keypoint; labelme has no visibility, so a hidden one carries the flag "hidden".
"""

import base64
import binascii
import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganfoundry.errors import InputError
from ganfoundry.labels.formats.base import (
    AnnotatedImage,
    Areas,
    Canvas,
    OnBroken,
    Pictures,
    base_name,
    checked_size,
    json_files,
    listing,
    mapping,
    ordered_regions,
    read_each,
    refuse,
    write_json,
)
from ganfoundry.labels.formats.polygons import as_points, fill, trace

VERSION = "5.4.1"  # of the file layout that is written


def is_mine(content: object) -> bool:
    """Whether JSON content is a labelme file."""
    return isinstance(content, dict) and "shapes" in content and "imagePath" in content


def read(path: Path, on_broken: OnBroken = refuse) -> Iterator[AnnotatedImage]:
    """Read a labelme file, or all that lie below a folder; an error names the file and the shape."""
    pictures = Pictures(path if path.is_dir() else path.parent)
    files = json_files(path, is_mine, on_broken)
    yield from read_each(files, lambda found: _read_one(*found, pictures), on_broken)


def _read_one(file: Path, content: dict[str, Any], pictures: Pictures) -> AnnotatedImage:
    name = base_name(content["imagePath"], str(file))
    picture = _image_data(content.get("imageData"), str(file)) or pictures.find(name)
    height, width = content.get("imageHeight"), content.get("imageWidth")
    if height is None or width is None:
        height, width = _picture_size(picture, str(file))
    canvas = Canvas(height, width, str(file))
    for index, shape in enumerate(listing(content["shapes"], "shapes", str(file))):
        canvas.where = f"{file}, shape {index + 1}"
        try:
            _draw(canvas, mapping(shape, "a shape", canvas.where))
        except InputError as error:
            raise error if str(error).startswith(canvas.where) else InputError(f"{canvas.where}: {error}") from None
    canvas.where = str(file)
    return canvas.finish(name, picture)


def _draw(canvas: Canvas, shape: Any) -> None:
    kind = shape.get("shape_type") or "polygon"
    label = shape.get("label")
    points = as_points(shape.get("points"))
    if kind == "point" and len(points) == 1:
        flags = shape.get("flags")
        hidden = isinstance(flags, dict) and flags.get("hidden") is True
        x, y = points[0].tolist()
        canvas.point(label, x, y, 1.0 if hidden else 2.0)
    elif kind == "polygon":
        if len(points) < 3:
            canvas.note(f"a polygon of {label} has {len(points)} points and no area; left out")
            return
        canvas.paint(label, fill([points], canvas.height, canvas.width))
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points.tolist()
        canvas.paint(label, fill([[(x0, y0), (x1, y0), (x1, y1), (x0, y1)]], canvas.height, canvas.width))
    elif kind == "circle" and len(points) == 2:
        radius = float(np.linalg.norm(points[1] - points[0]))
        y, x = np.ogrid[: canvas.height, : canvas.width]
        canvas.paint(label, np.hypot(x + 0.5 - points[0, 0], y + 0.5 - points[0, 1]) <= radius)
    elif kind == "mask" and len(points) == 2:
        canvas.paint(label, _placed_mask(canvas, points, shape.get("mask")))
    else:
        canvas.note(f"a {kind} of {label} has no area that can be a label; left out")


def _placed_mask(canvas: Canvas, points: NDArray[np.float64], encoded: object) -> NDArray[np.bool_]:
    (x0, y0), (x1, y1) = points.astype(np.int64).tolist()
    crop: NDArray[np.bool_] = _picture(_decoded(encoded, "a mask")) > 0
    if crop.ndim == 3:
        crop = np.any(crop, axis=2)
    inside = 0 <= x0 <= x1 < canvas.width and 0 <= y0 <= y1 < canvas.height
    if not inside or crop.shape != (y1 - y0 + 1, x1 - x0 + 1):
        raise InputError(
            f"a mask of {crop.shape[1]} x {crop.shape[0]} pixels does not fill its box ({x0}, {y0}) to ({x1}, {y1}) in "
            f"an image of {canvas.width} x {canvas.height}"
        )
    mask = np.zeros((canvas.height, canvas.width), bool)
    mask[y0 : y1 + 1, x0 : x1 + 1] = crop
    return mask


def _image_data(encoded: object, where: str) -> bytes | None:
    return None if encoded is None or encoded == "" else _decoded(encoded, f"{where}: imageData")


def _decoded(encoded: object, what: str) -> bytes:
    try:
        return base64.b64decode(encoded if isinstance(encoded, str) else b"!", validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{what} is not base64; save the file again") from None


def _picture(content: bytes) -> NDArray[np.uint8]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, refused below
            with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
                checked_size(picture.height, picture.width, "a mask")
                return np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"a mask is no readable PNG ({error})") from None


def _picture_size(picture: bytes | Path | None, where: str) -> tuple[int, int]:
    """Height and width of the picture, for files that do not tell them."""
    try:
        if picture is not None:
            with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as image:
                return image.height, image.width
    except (OSError, Image.DecompressionBombError):
        pass
    raise InputError(f"{where} lacks imageHeight and imageWidth, and its picture cannot be read; save it again")


def write(folder: Path, images: Iterable[AnnotatedImage], *, areas: Areas = "polygons", tolerance: float = 0.0) -> None:
    """Write one JSON file a picture, beside which the picture is expected.

    Parameters
    ----------
    folder : Path
    images : iterable of AnnotatedImage
    areas : "polygons", or "masks": exact PNGs, for labelme 5.3 and later
    tolerance : float, pixels
        How far simplified polygons may leave the outline; 0 is exact.
    """
    for image in images:
        shapes = []
        for group, (name, mask) in enumerate(ordered_regions(image)):
            if areas == "masks":
                shapes.append(_mask_shape(name, mask))
            else:
                polygons = trace(mask, tolerance)
                whole = None if len(polygons) == 1 else group
                shapes += [_shape(name, polygon.tolist(), "polygon", whole) for polygon in polygons]
        for name, (x, y, visibility) in image.keypoints.items():
            if visibility > 0:
                shape = _shape(name, [[x, y]], "point", None)
                shapes.append(shape | {"flags": {"hidden": True}} if visibility == 1 else shape)
        table = {
            "version": VERSION,
            "flags": {},
            "shapes": shapes,
            "imagePath": image.name,
            "imageData": None,
            "imageHeight": image.label.shape[0],
            "imageWidth": image.label.shape[1],
        }
        write_json(folder / f"{Path(image.name).stem}.json", table)


def _shape(name: str, points: list[Any], kind: str, group: int | None) -> dict[str, Any]:
    return {
        "label": name, "points": points, "group_id": group, "description": "", "shape_type": kind, "flags": {},
        "mask": None,
    }  # fmt: skip


def _mask_shape(name: str, mask: NDArray[np.bool_]) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    (y0, y1), (x0, x1) = rows[[0, -1]].tolist(), columns[[0, -1]].tolist()
    stream = io.BytesIO()
    Image.fromarray(mask[y0 : y1 + 1, x0 : x1 + 1]).save(stream, format="PNG")
    shape = _shape(name, [[x0, y0], [x1, y1]], "mask", None)
    return shape | {"mask": base64.b64encode(stream.getvalue()).decode("ascii")}
