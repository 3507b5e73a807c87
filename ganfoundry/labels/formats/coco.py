"""COCO instances and keypoints (cocodataset.org/#format-data), and CVAT's exports in that format.

    {"images": [{"id", "file_name", "height", "width"}], "categories": [{"id", "name", "keypoints"}],
     "annotations": [{"image_id", "category_id", "segmentation", "bbox", "area", "iscrowd", "keypoints"}]}

A segmentation is a list of polygons [x, y, x, y, ...] (their union), or run lengths {"size": [H, W], "counts"} down the
columns: a list of numbers, or a compressed text. COCO has no draw order. Where annotations overlap, the smaller area
is drawn over the larger (a wheel over the body), of equal ones the later.

CVAT writes one file of masks and polygons, annotations/instances_default.json, and one of skeletons,
annotations/person_keypoints_default.json; all files below a folder are read together, joined by the pictures' names.
Polygons have (0, 0) at the corner of the top-left pixel. Keypoints count pixels from 0 at the centre of the first one,
except in CVAT's files, known by the annotations' "attributes", where they are as the polygons.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganfoundry.data.coco import decode_rle, mask_annotation
from ganfoundry.errors import InputError
from ganfoundry.labels.formats.base import (
    AnnotatedImage,
    Areas,
    Canvas,
    Keypoints,
    OnBroken,
    Pictures,
    base_name,
    checked_size,
    json_files,
    listing,
    mapping,
    number,
    ordered_regions,
    read_each,
    refuse,
    text,
    write_json,
)
from ganfoundry.labels.formats.polygons import fill, trace

CVAT_FILES = ("annotations/instances_default.json", "annotations/person_keypoints_default.json")
CENTRE = 0.5  # of the first pixel, from the image's corner


def is_mine(content: object) -> bool:
    """Whether JSON content is a COCO file of instances or keypoints."""
    return isinstance(content, dict) and {"images", "annotations", "categories"} <= content.keys()


def read(path: Path, on_broken: OnBroken = refuse) -> Iterator[AnnotatedImage]:
    """Read a COCO file, or all below a folder as one; an error names the file and the annotation."""
    pictures = Pictures(path if path.is_dir() else path.parent)
    entries: dict[str, list[_Entry]] = {}
    for file, content in json_files(path, is_mine, on_broken):
        try:
            found = list(_entries(file, content))
        except InputError as error:
            on_broken(error)
            continue
        for entry in found:
            entries.setdefault(entry.name, []).append(entry)
    yield from read_each(entries.items(), lambda item: _read_one(*item, pictures), on_broken)


class _Entry:
    """A picture of one file with its annotations."""

    def __init__(self, file: Path, image: Mapping[str, Any], annotations: list[Any], categories: Mapping[Any, Any]):
        self.where = f"{file}, image {image.get('id')!r}"
        self.name = base_name(image.get("file_name"), self.where)
        self.size = checked_size(image.get("height"), image.get("width"), self.where)
        self.annotations, self.categories = annotations, categories


def _entries(file: Path, content: Mapping[str, Any]) -> Iterator[_Entry]:
    where = str(file)
    categories: dict[Any, Any] = {}
    for row in listing(content["categories"], "categories", where):
        category = mapping(row, "a category", where)
        categories[_key(category.get("id"), where)] = category
    images = [mapping(row, "an image", where) for row in listing(content["images"], "images", where)]
    of_image: dict[Any, list[Any]] = {_key(image.get("id"), where): [] for image in images}
    if len(of_image) < len(images):
        raise InputError(f"{where}: two images have the same id; correct the file")
    for row in listing(content["annotations"], "annotations", where):
        annotation = mapping(row, "an annotation", where)
        if "segments_info" in annotation:
            raise InputError(f"{where} holds panoptic annotations; export instances (or index PNGs) instead")
        found = of_image.get(_key(annotation.get("image_id"), where))
        if found is None:
            raise InputError(
                f"{where}: annotation {annotation.get('id')!r} belongs to no image of the file; correct it"
            )
        found.append(annotation)
    for image in images:
        yield _Entry(file, image, of_image[image["id"]], categories)


def _key(value: object, where: str) -> int | str:
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        return value
    raise InputError(f"{where}: an id is {str(value)[:60]!r}; it must be a whole number")


def _read_one(name: str, parts: Sequence[_Entry], pictures: Pictures) -> AnnotatedImage:
    sizes = {part.size for part in parts}
    if len(sizes) > 1:
        raise InputError(f"{parts[1].where}: {name} has another size there than in {parts[0].where}; correct one")
    canvas = Canvas(*parts[0].size, parts[0].where)
    areas: list[tuple[int, str, NDArray[np.bool_]]] = []
    for part in parts:
        for annotation in part.annotations:
            canvas.where = f"{part.where}, annotation {annotation.get('id')!r}"
            try:
                category = _category(annotation, part.categories)
                mask = _mask(annotation, canvas)
                if mask is not None:
                    areas.append((int(mask.sum()), category["name"], mask))
                _points(canvas, annotation, category)
            except InputError as error:
                raise error if str(error).startswith(canvas.where) else InputError(f"{canvas.where}: {error}") from None
    for _, label, mask in sorted(areas, key=lambda area: -area[0]):  # stable: of equal ones the later covers
        canvas.paint(label, mask)
    canvas.where = parts[0].where
    return canvas.finish(name, pictures.find(name))


def _category(annotation: Mapping[str, Any], categories: Mapping[Any, Any]) -> Mapping[str, Any]:
    key = annotation.get("category_id")
    if not isinstance(key, (int, str)) or key not in categories:
        raise InputError(f"the category {str(key)[:60]!r} is not in the list of categories; correct the file")
    category: Mapping[str, Any] = categories[key]
    text(category.get("name"), "category name", "the list of categories")
    return category


def _mask(annotation: Mapping[str, Any], canvas: Canvas) -> NDArray[np.bool_] | None:
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        return _run_lengths(segmentation, canvas)
    if segmentation:
        polygons = []
        for flat in listing(segmentation, "the segmentation", canvas.where):
            values = [number(value, canvas.where) for value in listing(flat, "a polygon", canvas.where)]
            if len(values) % 2:
                raise InputError("a polygon has an odd number of coordinates; correct it")
            if len(values) < 6:
                canvas.note("a polygon has fewer than three points and no area; left out")
            else:
                polygons.append(np.reshape(values, (-1, 2)))
        return fill(polygons, canvas.height, canvas.width)
    if not annotation.get("keypoints"):
        canvas.note("an annotation is a box without an outline; left out")
    return None


def _run_lengths(rle: Mapping[str, Any], canvas: Canvas) -> NDArray[np.bool_]:
    size, counts = rle.get("size"), rle.get("counts")
    if size != [canvas.height, canvas.width]:
        raise InputError(
            f"run lengths are of size {str(size)[:60]}, the image {[canvas.height, canvas.width]}; correct it"
        )
    if isinstance(counts, str):
        return decode_rle(rle)
    runs = listing(counts, "counts", canvas.where)
    whole = all(isinstance(run, int) and not isinstance(run, bool) and run >= 0 for run in runs)
    if not whole or sum(runs) != canvas.height * canvas.width:
        raise InputError(f"run lengths do not fill a mask of {canvas.height} x {canvas.width}")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape((canvas.height, canvas.width), order="F")


def _points(canvas: Canvas, annotation: Mapping[str, Any], category: Mapping[str, Any]) -> None:
    values = annotation.get("keypoints")
    if not values:
        return
    names = listing(category.get("keypoints"), "the category's keypoints", canvas.where)
    values = listing(values, "keypoints", canvas.where)
    if len(values) != 3 * len(names):
        raise InputError(
            f"{len(values)} numbers for {len(names)} keypoints of {category['name']}; three each are needed"
        )
    shift = 0.0 if "attributes" in annotation else CENTRE
    for index, name in enumerate(names):
        x, y, visibility = values[3 * index : 3 * index + 3]
        if visibility not in (0, 1, 2):
            raise InputError(f"keypoint {name} has the visibility {str(visibility)[:20]!r}; it must be 0, 1 or 2")
        if visibility:
            canvas.point(name, number(x, canvas.where) + shift, number(y, canvas.where) + shift, float(visibility))


def write(
    folder: Path,
    images: Iterable[AnnotatedImage],
    classes: Sequence[str],
    keypoints: Sequence[str] = (),
    *,
    thing: str = "object",
    areas: Areas = "polygons",
    tolerance: float = 0.0,
    cvat: bool = False,
) -> None:
    """Write annotations.json, or CVAT's two files.

    Parameters
    ----------
    folder : Path
        The pictures are expected in its folder images.
    images : iterable of AnnotatedImage
    classes : sequence of str
        Class names, the first the background; their numbers are the category ids.
    keypoints : sequence of str
        Names, in order.
    thing : str
        Category that has the keypoints.
    areas : "polygons" or "masks", compressed run lengths
    tolerance : float, pixels
        How far simplified polygons may leave the outline; 0 is exact.
    cvat : bool
        Areas and skeletons in separate files, as CVAT reads them.
    """
    ids = {name: index for index, name in enumerate(classes)}
    table: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    skeletons: list[dict[str, Any]] = []
    for number_, image in enumerate(images, 1):
        height, width = image.label.shape
        table.append({"id": number_, "file_name": image.name, "height": height, "width": width})
        for name, mask in ordered_regions(image):
            parts.append({"image_id": number_} | _area(mask, ids[name], areas, tolerance))
        if image.keypoints:
            shift = 0.0 if cvat else CENTRE
            skeletons.append({"image_id": number_} | _skeleton(image.keypoints, keypoints, len(classes), shift))
    categories = [{"id": ids[name], "name": name, "supercategory": "part"} for name in classes[1:]]
    skeleton = [{"id": len(classes), "name": thing, "supercategory": "", "keypoints": list(keypoints), "skeleton": []}]
    if cvat:
        for annotation in parts + skeletons:
            annotation["attributes"] = {"occluded": False}
        _write(folder / CVAT_FILES[0], table, categories, parts)
        if keypoints:
            _write(folder / CVAT_FILES[1], table, skeleton, skeletons)
    else:
        _write(folder / "annotations.json", table, categories + (skeleton if keypoints else []), parts + skeletons)


def _write(path: Path, images: list[Any], categories: list[Any], annotations: list[Any]) -> None:
    for index, annotation in enumerate(annotations, 1):
        annotation["id"] = index
    licenses = [{"id": 0, "name": "", "url": ""}]
    info = {"description": "", "version": "", "contributor": ""}
    write_json(
        path,
        {"licenses": licenses, "info": info, "categories": categories, "images": images, "annotations": annotations},
    )


def _area(mask: NDArray[np.bool_], category: int, areas: Areas, tolerance: float) -> dict[str, Any]:
    annotation = mask_annotation(mask, category)
    if areas == "polygons":
        annotation["segmentation"] = [polygon.ravel().tolist() for polygon in trace(mask, tolerance)]
    return annotation


def _skeleton(points: Keypoints, names: Sequence[str], category: int, shift: float) -> dict[str, Any]:
    found = [points.get(name, (0.0, 0.0, 0.0)) for name in names]
    rows = [(x - shift, y - shift, seen) if seen else (0.0, 0.0, 0.0) for x, y, seen in found]
    seen = np.array([row[:2] for row in rows if row[2]] or [(0.0, 0.0)])
    low, extent = seen.min(0).tolist(), np.ptp(seen, axis=0).tolist()
    return {
        "category_id": category,
        "segmentation": [],
        "area": extent[0] * extent[1],
        "bbox": [*low, *extent],
        "iscrowd": 0,
        "keypoints": [value if axis < 2 else int(value) for row in rows for axis, value in enumerate(row)],
        "num_keypoints": sum(row[2] > 0 for row in rows),
    }
