"""report.html of a training run: samples over time, curves, the training images and the recipe, on one page.

Everything comes from the files of the run (`log.jsonl`, `samples/`, `images.json`), so the page can be written again at
any time.
"""

import dataclasses
import json
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ganfoundry.gan.train_data import Images, write_atomically
from ganfoundry.gan.train_log import Line, Snapshot, best_snapshot, hopeless, out_of_patience, read_log
from ganfoundry.gan.train_state import TrainingState
from ganfoundry.pictures import Pixels, grid, spread
from ganfoundry.report import Bar, Chart, Figure, Section, Series, render_page

PSIS = ("0.7", "1.0")
EXAMPLES = 24
STRIPS = 12  # moments shown one below the other
QUALITY = 90  # of the JPEGs
MAX_WIDTH = 1040  # pixels of a picture in the page
SHOWN_FILES = 20
CHARTS = {  # title -> values of the log; each other value has a chart of its own
    "Losses": ("generator_loss", "discriminator_loss"),
    "Scores of the discriminator": ("real_score", "fake_score"),
    "Frechet distance": ("fd",),
    "Gradient penalty R1": ("r1",),
    "Probability of augmentation": ("augment_p",),
    "Images per second": ("images_per_second",),
}


def write_report(out: Path, state: TrainingState, pixels: Images) -> Path:
    """Write `report.html` of a run, whole or not at all, and return its path.

    Parameters
    ----------
    out : Path
        Folder of the run.
    state : TrainingState
        For the recipe, the hardware and how far it is.
    pixels : (N, R, R, 3) uint8
        Training images.
    """
    config, lines = state.config, read_log(out)
    best = best_snapshot(lines)
    lead = (
        f"{state.images:,} of {config.kimg * 1000:,.0f} images shown in {state.seconds / 3600:.2f} hours, "
        f"{config.resolution} px."
    )
    sections = [
        _latest_section(out),
        *(_history_section(out, psi) for psi in PSIS),
        _curves_section(lines, best, config.patience_kimg),
        _images_section(out, pixels),
        Section("Recipe", "Every option of the run.", header=["option", "value"], rows=_recipe(state)),
    ]
    footer = f"torch {torch.__version__}; {hardware(state.device, config.processes)}"
    page = render_page("How this generator was trained", lead, [one for one in sections if one is not None], footer)
    path = out / "report.html"
    write_atomically(path, page.encode())
    return path


def _samples(out: Path, psi: str) -> list[tuple[str, Path]]:
    """Images shown, in words, and grid of samples, oldest first."""
    found = sorted((out / "samples").glob(f"kimg-*-psi{psi}.png"))
    return [(f"{float(path.name.split('-')[1]):g}k images", path) for path in found]


def _picture(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _fitting(picture: Pixels) -> Pixels:
    """The picture, made smaller if it is wider than the page."""
    height, width = picture.shape[:2]
    if width <= MAX_WIDTH:
        return picture
    size = (MAX_WIDTH, round(height * MAX_WIDTH / width))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def _latest_section(out: Path) -> Section | None:
    figures = []
    for psi in PSIS:
        for label, path in _samples(out, psi)[-1:]:
            caption = f"Unselected samples after {label}, truncation psi {psi}."
            link = f"samples/{path.name}"
            figures.append(Figure(_fitting(_picture(path)), caption, quality=QUALITY, link=link))
    return Section("Samples", "By the averaged generator.", figures=figures) if figures else None


def _history_section(out: Path, psi: str) -> Section | None:
    """First row of each grid, one moment below the other: a column is one latent."""
    found = _samples(out, psi)
    strips = []
    for index in spread(np.arange(len(found)), STRIPS):
        label, path = found[index]
        strips.append(Figure(_fitting(_first_row(path)), label, QUALITY, f"samples/{path.name}"))
    text = "A column is one latent. The first row of each grid; the words to its left lead to the whole of it."
    return Section(f"Over time, psi {psi}", text, strips=strips) if len(strips) > 1 else None


def _first_row(path: Path) -> Pixels:
    """First row of a grid of samples, which is 12 images wide and 8 high with gaps of 2 pixels."""
    picture = _picture(path)
    return picture[: (picture.shape[0] + 2) // 8 - 2]


def _curves_section(lines: Sequence[Line], best: Snapshot | None, patience_kimg: float) -> Section | None:
    words = {"step", "images", "seconds", "snapshot"}
    names = list(dict.fromkeys(name for line in lines for name in line if name not in words))
    groups = {title: [name for name in group if name in names] for title, group in CHARTS.items()}
    shown = {name for group in groups.values() for name in group}
    groups |= {name.replace("_", " "): [name] for name in names if name not in shown}
    mark, shown_images = best.images if best else None, (0, max((line["images"] for line in lines), default=0))
    charts = [
        Chart(title, [_series(lines, name) for name in group], "images shown", mark, shown_images)
        for title, group in groups.items()
        if group
    ]
    if not charts:
        return None
    texts = ["Over images shown."]
    if best:
        texts.append(f"The lowest Frechet distance, {best.fd:.4g}, is that of {best.name} (dashed line).")
    texts += [f"Ended: {why}." for why in (out_of_patience(lines, patience_kimg), hopeless(lines)) if why]
    return Section("Curves", " ".join(texts), charts=charts)


def _series(lines: Sequence[Line], name: str) -> Series:
    points = [(line["images"], line[name]) for line in lines if name in line]
    return Series(name.replace("_", " "), *zip(*points, strict=True))


def _images_section(out: Path, pixels: Images) -> Section:
    shown = np.asarray(pixels[spread(np.arange(len(pixels)), EXAMPLES)])
    examples = Figure(_fitting(grid(shown, 12)), f"{len(shown)} of the {len(pixels):,} training images.", QUALITY)
    path = out / "images.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if "irregular" not in found:
        what = found.get("description", f"{len(pixels):,} images")
        return Section("Training images", f"{what}.", figures=[examples])
    text = f"{found['used']:,} of {found['found']:,} images of the {found['kind']} {found['source']} are used"
    text += f"; {len(found['duplicates']):,} of them are duplicates of another." if found["duplicates"] else "."
    if found["irregular"]:
        text += f" Irregular images (an image may be of several kinds), treatment: {found['irregular_images']}."
    bars = [Bar(kind, len(names) / found["found"], f"{len(names):,}") for kind, names in found["irregular"].items()]
    rows = [[name, reason] for name, reason in found["left_out"][:SHOWN_FILES]]
    more = len(found["left_out"]) - len(rows)
    rows += [["...", f"and {more:,} more, in images.json"]] if more else []
    header = ["left out", "why"] if rows else ()
    return Section("Training images", text, figures=[examples], bars=bars, header=header, rows=rows)


def _recipe(state: TrainingState) -> list[list[str]]:
    return [[name, str(value)] for name, value in dataclasses.asdict(state.config).items()]


def hardware(device: torch.device, processes: int) -> str:
    """One line on what a run was computed with."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    description = Path("/proc/cpuinfo")
    if description.exists():
        names = [line.split(":", 1)[1].strip() for line in description.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{model}, {processes} process{'es' if processes > 1 else ''} of one thread"
