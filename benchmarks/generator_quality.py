"""How good is a generator? Its samples against renders of its world.

    python -m benchmarks.generator_quality --gan cars-64 [--quick] [--grid PATH] [--world NAME] [--codes FOLDER]

Samples at truncation psi 1 and 0.7 (seeds 0, 1, 2, ...), as many renders that no training saw, and the same renders
blurred are compared with as many other renders: Frechet distance (FD), precision and recall, in features of the network
that was trained on the world's attributes and, where the optional extra `imagenet` is installed, in ImageNet features
of the first 2,000, which notice faint pixel noise that the others overlook. The row "unseen renders" is what a perfect
generator would reach, "blurred renders" a bad one. Every figure is followed by its mean and standard deviation over
three disjoint groups of a third of the images: FD falls with the number of images, so compare equal numbers only. Then
the share of images in which the Mask R-CNN finds exactly one object, and what benchmarks.views says of the generator's
viewpoint codes. What there is no network or no codes for is left out with a note. Last, one line of JSON, whose keys
are the same for all worlds: body types of faces are hair styles, and the hue of the paint is that of the skin.

Renders are kept in outputs/cache. `--quick`: 1,000 samples.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.views import codes_of, rounded, view_control
from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, sample_integer
from ganfoundry.detect.backends import Detector, open_detector
from ganfoundry.detect.filtering import FilterRule, decide
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.gan.quality import frechet_distance, precision_recall
from ganfoundry.gan.quality_features import AnnotatorFeatures, FeatureExtractor, ImageNetFeatures
from ganfoundry.gan.train_data import RenderTask, assemble_parts, check_world, render_part, render_tasks
from ganfoundry.labels.synthesis import images_and_features, single_thread
from ganfoundry.pictures import grid, png_bytes
from ganfoundry.views import AzimuthBins, ViewCodeSet
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator

Images = NDArray[np.uint8]
Figures = dict[str, float | int | str | None]
SAMPLES, QUICK_SAMPLES = 5000, 1000
IMAGENET_SAMPLES = 2000  # of each set: the network is large
DETECTED = 500  # images of each set that the detector looks at
VIEW_CONTENTS = 100  # objects that every viewpoint code is measured on: so many of every shape
GROUPS = 3
CHUNK = 256
SEED = sample_integer(0, EVALUATION, 0)
"""Root seed of the renders: 63 bits that no one gives to a training by hand."""
NAMES = {"": "psi 1", "_psi07": "psi 0.7", "_floor": "unseen renders", "_blurred": "blurred renders"}
"""Sets of images: suffix of their figures, and words."""
COLUMNS = (("fd", 2), ("precision", 3), ("recall", 3))  # figures of a set, and their decimals


class Progress:
    """A line on stderr every two seconds."""

    def __init__(self, label: str, total: int) -> None:
        self.label, self.total, self.done, self.last = label, total, 0, time.monotonic()

    def advance(self, count: int) -> None:
        """Report `count` more."""
        self.done += count
        if time.monotonic() - self.last > 2:
            self.last = time.monotonic()
            print(f"{self.label}: {self.done:,} of {self.total:,}", file=sys.stderr, flush=True)


def chunked(label: str, total: int, make: Callable[[slice], NDArray[Any]]) -> NDArray[Any]:
    """Join what `make` gives for consecutive rows, with progress."""
    progress, pieces = Progress(label, total), []
    for first in range(0, total, CHUNK):
        pieces.append(make(slice(first, min(first + CHUNK, total))))
        progress.advance(len(pieces[-1]))
    return np.concatenate(pieces)


def renders(world: str, resolution: int, count: int) -> Images:
    """Renders of the evaluation seed (count, R, R, 3), a memory map of the cached file."""
    folder = Path("outputs") / "cache" / f"quality-{world}-{resolution}-{count}"
    tasks = render_tasks(folder, world, resolution, count, SEED)
    progress = Progress(f"rendering into {folder}", sum(task.stop - task.first for task in tasks))
    for made in in_processes(tasks):
        progress.advance(made)
    path = assemble_parts(folder)
    check_world(folder)
    images: Images = np.load(path, mmap_mode="c")  # writable in memory, as torch wants; the file stays as it is
    return images


def in_processes(tasks: Sequence[RenderTask]) -> Iterator[int]:
    """Render parts, on all cores where there are several; yields how many images each has."""
    if len(tasks) < 2:
        yield from map(render_part, tasks)
        return
    with ProcessPoolExecutor(min(len(tasks), os.cpu_count() or 1), multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(render_part, tasks)


def samples(loaded: LoadedGan, count: int, truncation: float) -> Images:
    """Samples of seeds 0 to count - 1 with stored noise, (count, R, R, 3)."""

    def make(rows: slice) -> Images:
        w = content_codes(loaded.generator, range(rows.start, rows.stop), truncation)
        return images_and_features(loaded.generator.synthesis, w, (), batch=32)[0]

    return chunked(f"sampling at psi {truncation:g}", count, make)


def blurred(images: Images) -> Images:
    """Images under a Gaussian blur whose standard deviation is a 32nd of their side."""
    sigma = images.shape[1] / 32
    return chunked("blurring", len(images), lambda rows: gaussian_filter(images[rows], (0, sigma, sigma, 0)))


def compare(extractor: FeatureExtractor, sets: Mapping[str, Images], reference: Images) -> Figures:
    """FD, precision and recall of every set against the reference; keys such as "fd_floor" and "recall_group_std"."""

    def features(name: str, images: Images) -> NDArray[np.float32]:
        return chunked(f"{extractor.name} features of {name}", len(images), lambda rows: extractor(images[rows]))

    real, figures = features("the reference", reference), Figures()
    for suffix, images in sets.items():
        fake = features(NAMES[suffix], images)
        groups = [measure(real[group::GROUPS], fake[group::GROUPS]) for group in range(GROUPS)]
        for name, value in measure(real, fake).items():
            figures[name + suffix] = value
            figures[f"{name}{suffix}_group_mean"] = float(np.mean([group[name] for group in groups]))
            figures[f"{name}{suffix}_group_std"] = float(np.std([group[name] for group in groups], ddof=1))
    return figures


def measure(real: NDArray[np.float32], fake: NDArray[np.float32]) -> dict[str, float]:
    """FD, precision and recall of features."""
    return {"fd": frechet_distance(real, fake)} | precision_recall(real, fake)._asdict()


def single_objects(detector: Detector, sets: Mapping[str, Images]) -> Figures:
    """Share of each set's first images in which the filter of generated views counts exactly one object."""
    figures = Figures()
    for suffix, images in sets.items():

        def count(rows: slice, images: Images = images) -> NDArray[np.int64]:
            with single_thread():
                found = detector.detect(images[rows])
            return np.array([decide(one, FilterRule()).instances for one in found])

        single = chunked(f"detecting in {NAMES[suffix]}", min(DETECTED, len(images)), count) == 1
        shares = [single[group::GROUPS].mean() for group in range(GROUPS)]
        figures[f"single_object{suffix}"] = float(single.mean())
        figures[f"single_object{suffix}_group_mean"] = float(np.mean(shares))
        figures[f"single_object{suffix}_group_std"] = float(np.std(shares, ddof=1))
    return figures


def view_figures(options: argparse.Namespace, loaded: LoadedGan, world: str, note: Callable[[str], None]) -> Figures:
    """What benchmarks.views measures, or nothing if there are no viewpoint codes of this generator."""
    bins = AzimuthBins.over(*get_world(world).azimuths)
    contents = VIEW_CONTENTS // 5 if options.quick else VIEW_CONTENTS
    print("measuring view control", file=sys.stderr, flush=True)
    try:
        folder = options.codes or codes_of(loaded)
        annotator = Annotator.load(weights.network_of(world, "annotator", "train one with train-annotator"))
        codes = ViewCodeSet.load(folder)
        contents *= len(codes.shapes)  # objects take the shapes in turn
        figures, _ = view_control(loaded, codes, annotator, contents, truncation=0.7, seed=1000)
    except InputError as error:
        note(f"view control skipped: {error}")
        return {"azimuth_std_median": None, "azimuth_bins": None, "azimuth_bins_of": bins.count}
    print(f"\nview control, codes of {folder}")
    kind = get_world(world).body_type_name.replace(" ", "_")
    for name, value in rounded(figures).items():
        print(f"{name.replace('body_type', kind):<32}{value:>10}")
    return {**figures}


def evaluate(options: argparse.Namespace) -> Figures:
    """Measure everything, print the tables and return the figures."""
    loaded = load_gan(options.gan)
    world, count = options.world or loaded.world, QUICK_SAMPLES if options.quick else SAMPLES
    if not world:
        raise InputError(f"the card of {options.gan} names no world; say which renders to compare with: --world cars")
    resolution = loaded.generator.config.resolution
    print(f"{options.gan}: {loaded.description}, sha256 {loaded.sha256[:16]}; {count:,} images of each set")
    both = renders(world, resolution, 2 * count)
    reference, unseen = both[:count], both[count:]
    sets = {"": samples(loaded, count, 1.0), "_psi07": samples(loaded, count, 0.7)}
    if options.grid:
        options.grid.write_bytes(png_bytes(grid(sets["_psi07"][:100], 10)))
        print(f"seeds 0 to 99 at psi 0.7: {options.grid}")
    sets |= {"_floor": unseen, "_blurred": blurred(unseen)}

    figures: Figures = {"gan": str(options.gan), "sha256": loaded.sha256, "world": world, "resolution": resolution}
    figures |= {"samples": count, "group_size": count // GROUPS}

    def note(text: str) -> None:
        print(f"note: {text}")

    try:
        extractor = AnnotatorFeatures(reference, weights.network_of(world, "annotator", "train one (train-annotator)"))
    except InputError as error:
        note(f"no features of the world's attributes: {error}")
        figures |= dict.fromkeys(("fd", "fd_floor", "fd_blurred", "precision", "recall"))
    else:
        figures |= show(extractor, compare(extractor, sets, reference), count)
    try:
        second = ImageNetFeatures()
    except InputError as error:
        note(str(error))
    else:
        few = min(count, IMAGENET_SAMPLES)
        found = compare(second, {suffix: images[:few] for suffix, images in sets.items()}, reference[:few])
        figures |= {f"imagenet_{name}": value for name, value in show(second, found, few).items()}
        figures["imagenet_samples"] = few
    try:
        detector = open_detector(weights.network_of(world, "detector", "train one (train-detector)"))
    except InputError as error:
        note(f"objects are not counted: {error}")
        figures["single_object"] = None
    else:
        found = single_objects(detector, sets)
        print(f"\nexactly one object, share of the first {min(DETECTED, count)}")
        for suffix, words in NAMES.items():
            print(f"{words:<16}{cell(found, f'single_object{suffix}', 3)}")
        figures |= found
    figures |= view_figures(options, loaded, world, note)
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def show(extractor: FeatureExtractor, figures: Figures, count: int) -> Figures:
    """Print the table of one kind of features and return the figures."""
    print(f"\n{extractor.name} features ({extractor.dim}), {count:,} against {count:,} (groups of {count // GROUPS:,})")
    print(f"{'':<16}{'FD':<28}{'precision':<26}{'recall'}")
    for suffix, words in NAMES.items():
        fd, precision, recall = (cell(figures, name + suffix, digits) for name, digits in COLUMNS)
        print(f"{words:<16}{fd:<28}{precision:<26}{recall}")
    return figures


def cell(figures: Figures, name: str, digits: int) -> str:
    """One figure, and mean ± standard deviation of its groups."""
    mean, spread = figures[f"{name}_group_mean"], figures[f"{name}_group_std"]
    return f"{figures[name]:.{digits}f} ({mean:.{digits}f} ± {spread:.{digits}f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cars-64", help="shipped name, folder or file")
    parser.add_argument("--world", help="default: the one on the generator's card")
    parser.add_argument("--codes", type=Path, help="viewpoint codes; default: the committed ones of the generator")
    parser.add_argument("--grid", type=Path, help="write seeds 0 to 99 at psi 0.7 as one PNG")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_SAMPLES:,} samples rather than {SAMPLES:,}")
    print(json.dumps(evaluate(parser.parse_args())))


if __name__ == "__main__":
    main()
