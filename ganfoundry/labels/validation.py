"""What can be wrong with labels that come from elsewhere: findings, and the page that shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from ganfoundry.labels.formats.base import write_json
from ganfoundry.labels.schema import PartSchema
from ganfoundry.pictures import captioned, magnify, overlay
from ganfoundry.report import Bar, Figure, Section, render_page

Severity: TypeAlias = Literal["error", "warning"]

# code -> (severity, what it means)
CODES: Mapping[str, tuple[Severity, str]] = {
    "unreadable": ("error", "An annotation file or picture cannot be read."),
    "unknown-class": ("error", "A class or keypoint is not in the schema."),
    "size-mismatch": ("error", "A mask has another size than the picture."),
    "no-sample": ("error", "An annotation belongs to no sample whose latent is known."),
    "duplicate-name": ("error", "Several annotations belong to one sample."),
    "picture-differs": ("error", "The annotated picture is not the one that belongs to the latent."),
    "latent-differs": ("error", "The generator makes another picture of the latent than the stored one."),
    "other-generator": ("error", "The latents belong to another generator."),
    "nothing-imported": ("error", "No annotation is left that could be imported."),
    "photos-left-out": ("warning", "Inversions in the run cannot serve as samples."),
    "not-labelled": ("warning", "A sample has no annotation; it is left out."),
    "missing-picture": ("warning", "The picture of an annotation did not come along, but those of others did."),
    "left-out-shape": ("warning", "A shape was left out because it has no area or meaning here."),
    "empty-mask": ("warning", "Every pixel is background."),
    "tiny-region": ("warning", "A region is smaller than what is usually meant."),
    "keypoint-outside": ("warning", "A keypoint lies outside the picture."),
    "keypoint-on-background": ("warning", "A visible keypoint lies more than a pixel off the object."),
    "class-never-labelled": ("warning", "A class of the schema occurs in no annotation."),
}
POSITIONS = 6  # of regions and keypoints, named in a sentence
TILE = 192  # pixels, of a picture on the page
TILES = 48  # pictures in one figure
QUALITY = 92  # of the JPEGs that figures are
MAX_ROWS = 500  # findings on the page; the JSON file has all


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: a code of `CODES`, the sample or file it concerns ("" for all), and a sentence."""

    code: str
    sample: str
    message: str

    @property
    def severity(self) -> Severity:
        """Either "error", which stops an import, or "warning"."""
        return CODES[self.code][0]


@dataclass(frozen=True)
class Checked:
    """An annotated picture as the page shows it.

    Attributes
    ----------
    name : str
    shown : (R, R, 3) uint8
        The picture as the sample has it.
    label : (R, R) uint8, or None when it could not be made
    keypoints : (K, 3) float32
    brought : (R, R, 3) uint8, or None
        The annotator's picture, where it is not the sample's.
    caption : str
    inverted : (R, R, 3) uint8, or None
        Of a photo: what the generator makes of its latent, which the labels must fit too.
    """

    name: str
    shown: NDArray[np.uint8]
    label: NDArray[np.uint8] | None
    keypoints: NDArray[np.float32]
    brought: NDArray[np.uint8] | None = None
    caption: str = ""
    inverted: NDArray[np.uint8] | None = None


@dataclass
class Validation:
    """Result of a check."""

    schema: PartSchema
    findings: list[Finding] = field(default_factory=list)
    checked: list[Checked] = field(default_factory=list)
    annotations: int = 0
    compared: int = 0  # pictures that came along and were compared

    def add(self, code: str, sample: str, message: str) -> None:
        """Add a finding."""
        assert code in CODES
        self.findings.append(Finding(code, sample, message))

    def count(self, severity: Severity) -> int:
        """Number of errors, or of warnings."""
        return sum(finding.severity == severity for finding in self.findings)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Label maps of all pictures that have one, (n, R, R)."""
        found = [item.label for item in self.checked if item.label is not None]
        return np.stack(found) if found else np.zeros((0, 1, 1), np.uint8)


def check_label(result: Validation, name: str, label: NDArray[np.uint8], min_region: int) -> None:
    """Look for empty masks and tiny regions (4-connected, of one class)."""
    if not label.any():
        result.add("empty-mask", name, "every pixel is background")
    places = []
    for part in np.unique(label[label > 0]).tolist():
        regions, _ = ndimage.label(label == part)
        tiny = np.flatnonzero(np.bincount(regions.ravel())[1:] < min_region) + 1
        for region in tiny.tolist():
            row, column = np.argwhere(regions == region)[0]
            places.append(f"{result.schema.parts[part]} ({column}, {row})")
    if places:
        count = f"{len(places)} regions have" if len(places) > 1 else "1 region has"
        result.add("tiny-region", name, f"{count} fewer than {min_region} pixels: {_listed(places)}")


def check_keypoints(result: Validation, name: str, keypoints: NDArray[np.float32], label: NDArray[np.uint8]) -> None:
    """Look for keypoints outside the picture and visible ones on the background."""
    height, width = label.shape
    near = ndimage.binary_dilation(label > 0, np.ones((3, 3)))  # the corner of a roof may be one pixel off the roof
    outside, background = [], []
    for key, (x, y, visibility) in zip(result.schema.keypoints, keypoints.tolist(), strict=True):
        place = f"{key} ({x:.1f}, {y:.1f})"
        if visibility and not (0 <= x < width and 0 <= y < height):
            outside.append(place)
        elif visibility == 2 and not near[int(y), int(x)]:
            background.append(place)
    if outside:
        result.add("keypoint-outside", name, f"outside {width} x {height} pixels: {_listed(outside)}")
    if background:
        result.add("keypoint-on-background", name, f"visible, but off the object: {_listed(background)}")


def _listed(places: Sequence[str]) -> str:
    more = f" and {len(places) - POSITIONS} more" if len(places) > POSITIONS else ""
    return ", ".join(places[:POSITIONS]) + more


def check_classes(result: Validation) -> None:
    """Look for classes that no annotation has."""
    present = np.unique(result.labels)
    absent = [part for index, part in enumerate(result.schema.parts) if index and index not in present]
    if absent and len(present):
        count = f"{len(absent)} of {len(result.schema.parts) - 1} classes"
        result.add("class-never-labelled", "", f"{count}: {', '.join(absent)}")


def write_report(folder: Path, result: Validation, title: str) -> None:
    """Write validation.json and validation.html."""
    folder.mkdir(parents=True, exist_ok=True)
    shares = class_pixels(result)
    table = {
        "errors": result.count("error"),
        "warnings": result.count("warning"),
        "annotations": result.annotations,
        "pictures_compared": result.compared,
        "pixels": {name: pixels for name, pixels in shares},
        "findings": [{"severity": finding.severity, **asdict(finding)} for finding in result.findings],
    }
    write_json(folder / "validation.json", table)
    (folder / "validation.html").write_text(page(result, title), encoding="utf-8")


def class_pixels(result: Validation) -> list[tuple[str, int]]:
    """(class, labelled pixels) of all pictures together."""
    counts = np.bincount(result.labels.ravel(), minlength=len(result.schema.parts))
    return list(zip(result.schema.parts, counts.tolist(), strict=True))


def summary(result: Validation) -> str:
    """One line: what was found, by code."""
    codes = [finding.code for finding in result.findings]
    listed = ", ".join(f"{codes.count(code)} {code}" for code in CODES if code in codes)
    return f"{result.count('error')} errors, {result.count('warning')} warnings" + (f" ({listed})" if listed else "")


def page(result: Validation, title: str) -> str:
    """The report as one HTML page with an overlay of every picture."""
    lead = (
        f"{result.annotations} annotations read, {len(result.checked)} of them paired with a latent; "
        f"{result.compared} pictures came along and were compared. {summary(result)}."
    )
    sections = [_kinds(result), *_differences(result), *_overlays(result), _bars(result), *_every_finding(result)]
    return render_page(title, lead, sections)


def _kinds(result: Validation) -> Section:
    rows = []
    for code, (severity, meaning) in CODES.items():
        count = sum(finding.code == code for finding in result.findings)
        if count:
            rows.append([severity, code, str(count), meaning])
    if not rows:
        return Section("Findings", "None.")
    return Section("Findings", "Errors stop an import.", header=["", "finding", "count", "meaning"], rows=rows)


def _every_finding(result: Validation) -> list[Section]:
    ordered = sorted(result.findings, key=lambda finding: finding.severity)
    rows = [[item.severity, item.code, item.sample, item.message] for item in ordered[:MAX_ROWS]]
    cut = f"The first {MAX_ROWS}; validation.json has all." if len(ordered) > MAX_ROWS else ""
    return [Section("Each finding", cut, header=["", "finding", "sample", "what"], rows=rows)] if rows else []


def _differences(result: Validation) -> list[Section]:
    """Pictures that do not belong to their latents, side by side."""
    wrong = [item for item in result.checked if item.brought is not None]
    if not wrong:
        return []
    pairs = np.stack([_fitted(tile) for item in wrong for tile in (item.brought, item.shown) if tile is not None])
    captions = [text for item in wrong for text in (f"{item.name}: brought", "of the latent")]
    return [
        Section(
            "Pictures that differ",
            "Left what came with the annotation, right what belongs to the latent of that name.",
            figures=[
                Figure(captioned(pairs[i : i + TILES], captions[i : i + TILES], 6, scale=1), "", QUALITY)
                for i in range(0, len(pairs), TILES)
            ],
        )
    ]


def _overlays(result: Validation) -> list[Section]:
    if not result.checked:
        return []
    palette = result.schema.palette
    assert palette is not None
    tiles, captions = [], []
    for item in result.checked:
        tiles.append(drawn(item, palette))
        captions.append(item.caption or item.name)
        if item.inverted is not None:
            tiles.append(drawn(replace(item, shown=item.inverted), palette))
            captions.append("its inversion")
    pictures = np.stack(tiles)
    figures = [
        Figure(captioned(pictures[i : i + TILES], captions[i : i + TILES], 6, scale=1), "", QUALITY)
        for i in range(0, len(tiles), TILES)
    ]
    text = (
        "Labels over the pictures. Keypoints: a filled ring is visible, a hollow one hidden. Crossed out: no label. A "
        "photo is followed by its inversion, which its labels should fit too."
    )
    return [Section("Every annotation", text, figures=figures)]


def drawn(item: Checked, palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Overlay of one picture, enlarged, with its keypoints; (S, S, 3) uint8."""
    label = np.zeros(item.shown.shape[:2], np.uint8) if item.label is None else item.label
    tile = Image.fromarray(_fitted(overlay(item.shown, label, palette)))
    scale = tile.width / item.shown.shape[1]
    draw = ImageDraw.Draw(tile)
    for x, y, visibility in item.keypoints.tolist():
        if visibility:
            box = [scale * x - 3, scale * y - 3, scale * x + 3, scale * y + 3]
            draw.ellipse(box, fill=(255, 255, 255) if visibility == 2 else None, outline=(200, 0, 0), width=1)
    if item.label is None:
        draw.line([0, 0, tile.width, tile.height], fill=(200, 0, 0), width=2)
        draw.line([0, tile.height, tile.width, 0], fill=(200, 0, 0), width=2)
    return np.asarray(tile)


def _fitted(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture brought near the size of a tile: pixels repeated, or averaged."""
    side = image.shape[0]
    if side <= TILE:
        return magnify(image, max(1, TILE // side))
    return np.asarray(Image.fromarray(image).resize((TILE, TILE), Image.Resampling.BOX))


def _bars(result: Validation) -> Section:
    counted = class_pixels(result)
    total = max(1, sum(pixels for _, pixels in counted))
    palette: Sequence[Sequence[int]] = result.schema.palette.tolist() if result.schema.palette is not None else []
    bars = [
        Bar(name, pixels / total, f"{100 * pixels / total:.2f} %", tuple(colour))  # type: ignore[arg-type]
        for (name, pixels), colour in zip(counted, palette, strict=True)
    ]
    return Section("Classes", "Share of all pixels of the annotations.", bars=bars)
