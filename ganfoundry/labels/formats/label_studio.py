"""Label Studio: the JSON export, a list of tasks (labelstud.io/guide/export, "JSON", not "JSON-MIN").

    [{"data": {"image": URL}, "annotations": [{"result": [region, ...], "was_cancelled"}], "predictions": [...]}]
    region: {"id", "type", "from_name", "to_name", "original_width", "original_height", "value": {...}}

Coordinates are percent of the picture's sides. Regions are drawn in the order of the list. Of a task's annotations the
last that was not cancelled counts; without one, the last prediction. Read are "brushlabels" (run lengths, see
`brush_rle`), "polygonlabels" and "keypointlabels"; a keypoint whose region has the choice "hidden" is hidden.

What is written are tasks with predictions, which Label Studio shows as labels to be corrected, and label_config.xml,
the labelling interface that belongs to them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from ganfoundry.errors import InputError
from ganfoundry.labels.formats import brush_rle
from ganfoundry.labels.formats.base import (
    AnnotatedImage,
    Areas,
    Canvas,
    OnBroken,
    Pictures,
    base_name,
    json_files,
    listing,
    mapping,
    number,
    ordered_regions,
    read_each,
    refuse,
    write_json,
)
from ganfoundry.labels.formats.polygons import as_points, fill, trace

HIDDEN = "hidden"
DATA_KEYS = ("image", "img")
KINDS = {"brushlabels": "brush", "polygonlabels": "polygon", "keypointlabels": "keypoint"}


def is_mine(content: object) -> bool:
    """Whether JSON content is a list of Label Studio's tasks, or one task."""
    tasks = content if isinstance(content, list) else [content]
    return bool(tasks) and all(
        isinstance(task, dict) and "data" in task and ("annotations" in task or "predictions" in task) for task in tasks
    )


def read(path: Path, on_broken: OnBroken = refuse) -> Iterator[AnnotatedImage]:
    """Read an export, or all below a folder; an error names the file, the task and the region."""
    pictures = Pictures(path if path.is_dir() else path.parent)
    tasks = (
        (task, f"{file}, task {task.get('id', index)!r}")
        for file, content in json_files(path, is_mine, on_broken)
        for index, task in enumerate(content if isinstance(content, list) else [content], 1)
    )
    yield from read_each(tasks, lambda found: _read_task(*found, pictures), on_broken)


def _read_task(task: Mapping[str, Any], where: str, pictures: Pictures) -> AnnotatedImage | None:
    """One task; None if nobody has labelled it."""
    data = mapping(task["data"], "data", where)
    keys = [key for key in DATA_KEYS if key in data] or [key for key in data if isinstance(data[key], str)]
    name = base_name(data[keys[0]] if keys else None, where)
    result = _result(task, where)
    if result is None:
        return None
    regions = [mapping(row, "a region", where) for row in result]
    hidden = {region.get("id") for region in regions if _choices(region) == [HIDDEN]}
    sizes = {(region.get("original_height"), region.get("original_width")) for region in regions}
    if len(sizes) != 1:
        raise InputError(f"{where}: its regions tell {len(sizes)} sizes of the picture, not one; export it again")
    canvas = Canvas(*sizes.pop(), where)
    for index, region in enumerate(regions, 1):
        canvas.where = f"{where}, region {index}"
        try:
            _draw(canvas, region, region.get("id") in hidden)
        except InputError as error:
            raise error if str(error).startswith(canvas.where) else InputError(f"{canvas.where}: {error}") from None
    canvas.where = where
    return canvas.finish(name, pictures.find(name))


def _result(task: Mapping[str, Any], where: str) -> list[Any] | None:
    for key in ("annotations", "predictions"):
        rows = listing(task.get(key) or [], key, where)
        for row in reversed([mapping(row, f"one of the {key}", where) for row in rows]):
            result = listing(row.get("result", []), "result", where)
            if not row.get("was_cancelled") and result:
                return result
    return None


def _choices(region: Mapping[str, Any]) -> object:
    value = region.get("value")
    return value.get("choices") if isinstance(value, dict) else None


def _draw(canvas: Canvas, region: Mapping[str, Any], hidden: bool) -> None:
    kind = region.get("type")
    if kind == "choices":
        return
    if kind not in KINDS:
        canvas.note(f"a region of type {str(kind)[:40]!r} is no brush, polygon or keypoint; left out")
        return
    if region.get("image_rotation"):
        raise InputError("the picture was rotated in Label Studio; label it upright")
    value = mapping(region.get("value"), "value", canvas.where)
    labels = listing(value.get(kind), kind, canvas.where)
    if len(labels) != 1:
        raise InputError(f"a region has {len(labels)} labels; it must have one")
    scale = np.array([canvas.width, canvas.height]) / 100
    if kind == "brushlabels":
        if value.get("format") != "rle":
            raise InputError(f"a brush mask has the format {str(value.get('format'))[:20]!r}; only rle is known")
        canvas.paint(labels[0], brush_rle.decode(value.get("rle"), canvas.height, canvas.width))
    elif kind == "polygonlabels":
        points = as_points(value.get("points"))
        if len(points) < 3:
            canvas.note(f"a polygon of {labels[0]} has {len(points)} points and no area; left out")
        else:
            canvas.paint(labels[0], fill([points * scale], canvas.height, canvas.width))
    else:
        x, y = number(value.get("x"), canvas.where), number(value.get("y"), canvas.where)
        canvas.point(labels[0], x * scale[0], y * scale[1], 1.0 if hidden else 2.0)


def write(
    folder: Path,
    images: Iterable[AnnotatedImage],
    classes: Sequence[str],
    keypoints: Sequence[str],
    palette: NDArray[np.uint8],
    *,
    areas: Areas = "polygons",
    tolerance: float = 0.0,
) -> None:
    """Write tasks.json and label_config.xml.

    Parameters
    ----------
    folder : Path
        Label Studio finds its folder images as local files under the folder's own name.
    images : iterable of AnnotatedImage
    classes, keypoints : sequence of str
        The first class is the background.
    palette : (classes, 3) uint8
    areas : "polygons" or "masks", brush masks
    tolerance : float, pixels
        How far simplified polygons may leave the outline; 0 is exact.
    """
    tasks = []
    for index, image in enumerate(images, 1):
        regions = _regions(image, areas, tolerance)
        for number_, region in enumerate(regions):
            region["id"] = region.get("id") or f"r{number_:05d}"
        url = f"/data/local-files/?d={folder.name}/images/{image.name}"
        predictions = [{"model_version": "ganfoundry", "result": regions}] if regions else []
        tasks.append({"id": index, "data": {"image": url}, "predictions": predictions})
    write_json(folder / "tasks.json", tasks)
    (folder / "label_config.xml").write_text(_interface(classes, keypoints, palette), encoding="utf-8")


def _regions(image: AnnotatedImage, areas: Areas, tolerance: float) -> list[dict[str, Any]]:
    height, width = image.label.shape
    scale = np.array([100 / width, 100 / height])
    regions = []
    for name, mask in ordered_regions(image):
        if areas == "masks":
            regions.append(_region("brushlabels", name, image, {"format": "rle", "rle": brush_rle.encode(mask)}))
        else:
            for polygon in trace(mask, tolerance):
                points = (polygon * scale).tolist()
                regions.append(_region("polygonlabels", name, image, {"points": points, "closed": True}))
    for index, (name, (x, y, visibility)) in enumerate(image.keypoints.items()):
        if visibility > 0:
            place = {"x": x * scale[0], "y": y * scale[1], "width": 0.5}
            regions.append({"id": f"k{index:05d}"} | _region("keypointlabels", name, image, place))
            if visibility == 1:
                choice = _region("choices", HIDDEN, image, place)
                regions.append({"id": f"k{index:05d}"} | choice | {"from_name": "visibility"})
    return regions


def _region(kind: str, label: str, image: AnnotatedImage, value: dict[str, Any]) -> dict[str, Any]:
    height, width = image.label.shape
    return {
        "type": kind,
        "from_name": KINDS.get(kind, kind),
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {**value, kind: [label]},
    }


def _interface(classes: Sequence[str], keypoints: Sequence[str], palette: NDArray[np.uint8]) -> str:
    colours = [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in palette.tolist()]
    labels = [
        f"<Label value={quoteattr(name)} background={quoteattr(colour)}/>"
        for name, colour in zip(classes[1:], colours[1:], strict=True)
    ]
    points = [f"<Label value={quoteattr(name)}/>" for name in keypoints]
    lines = ["<View>", '<Image name="image" value="$image" zoom="true"/>']
    for tag, name, values in (
        ("BrushLabels", "brush", labels),
        ("PolygonLabels", "polygon", labels),
        ("KeyPointLabels", "keypoint", points),
    ):
        if values:
            lines += [f'<{tag} name="{name}" toName="image">', *values, f"</{tag}>"]
    if points:
        lines += [
            '<Choices name="visibility" toName="image" perRegion="true" whenTagName="keypoint">',
            f'<Choice value="{HIDDEN}"/>',
            "</Choices>",
        ]
    return "\n".join([*lines, "</View>", ""])
