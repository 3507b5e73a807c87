"""Inversion of pictures that the generator never saw: how near the results come, and whether parts stay where they are.

    python -m benchmarks.inversion [--gan cars-64] [--groups 3] [--group-size 8] [--steps 100] [--picture FILE]

The pictures are renders of the generator's world from seeds that no training draws, so their part maps are exact; the
shipped annotator reads the parts of the reconstructions. Its own agreement on the renders is what can be reached.
Mean and standard error are over groups of pictures. A second table inverts the generator's own samples, whose w is
known. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, sample_integer
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.gan.inversion import (
    Encoder,
    Inversions,
    Objective,
    Optimisation,
    Tuning,
    WSpace,
    invert,
    psnr,
    tune_generator,
)
from ganfoundry.gan.inversion.encoder_training import EncoderRecipe, train_encoder
from ganfoundry.gan.latent_spaces import Space
from ganfoundry.gan.latents import content_codes
from ganfoundry.images import network_images, stored_images
from ganfoundry.metrics import mean_iou, pixel_accuracy
from ganfoundry.pictures import grid, png_bytes
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator
from ganfoundry.worlds.annotator_data import render_samples

Images = NDArray[np.uint8]
METHODS = ("encoder alone", "W from the mean", "W from the encoder", "W+ from the encoder", "pivotal tuning")


def seeds(root: int, count: int) -> list[int]:
    """Seeds of pictures that no training draws."""
    return [sample_integer(root, EVALUATION, index) for index in range(count)]


class Methods:
    """Ways to invert pictures, by name; what pivotal tuning starts from is computed once."""

    def __init__(self, gan: LoadedGan, encoder: Encoder, steps: int, tuning_steps: int) -> None:
        self.gan, self.encoder, self.steps, self.tuning_steps = gan, encoder, steps, tuning_steps
        self.objective = Objective.of(gan)
        self.pivots: list[Inversions] = []

    def optimise(self, images: Images, space: Space, steps: int, encoder: Encoder | None) -> Inversions:
        """Optimise in W or W+ from an encoder's guess or the mean."""
        options = Optimisation(space, steps)
        wspace = self.encoder.wspace
        return invert(self.gan, images, encoder=encoder, options=options, objective=self.objective, wspace=wspace)

    def invert(self, name: str, images: Images, group: int) -> tuple[Images, Inversions]:
        """Reconstructions of a group of pictures, and what was found."""
        if name == "pivotal tuning":
            return self.tune(images, self.pivots[group]), self.pivots[group]
        ways: dict[str, tuple[Space, int, Encoder | None]] = {
            "encoder alone": ("W", 0, self.encoder),
            "W from the mean": ("W", self.steps, None),
            "W from the encoder": ("W", self.steps, self.encoder),
            "W+ from the encoder": ("W+", self.steps, self.encoder),
        }
        found = self.optimise(images, *ways[name])
        if name == "W from the encoder":
            self.pivots.append(found)
        return found.images, found

    def tune(self, images: Images, pivots: Inversions) -> Images:
        """Reconstructions by a generator tuned to each picture."""
        made, tuning = [], Tuning(steps=self.tuning_steps)
        for picture, w in zip(images, pivots.w, strict=True):
            target, wspace = network_images(picture[None]), self.encoder.wspace
            tuned = tune_generator(self.gan.generator, self.objective, target, w[None], tuning, wspace=wspace)
            with torch.no_grad():
                made.append(stored_images(tuned.synthesis(w[None]))[0])
        return np.stack(made)


def summary(values: list[float]) -> tuple[float, float]:
    """Mean and standard error over groups."""
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def measure_renders(
    gan: LoadedGan, encoder: Encoder, options: argparse.Namespace
) -> tuple[dict[str, dict[str, float]], Images]:
    """Print the table of renders; returns figures by method, and all pictures side by side."""
    annotator = Annotator.load(weights.network_of(gan.world, "annotator", "measure a generator of a world"))
    world = get_world(annotator.config.world)
    count = options.groups * options.group_size
    renders = render_samples(world, seeds(options.seed, count), gan.generator.config.resolution)
    level = world.schema.default_level
    table, classes = world.schema.merge(level), len(world.schema.names(level))
    truth = table[renders.parts]

    def kept(images: Images, rows: slice) -> tuple[float, float]:
        parts = table[annotator.annotate(images).parts]
        return pixel_accuracy(truth[rows], parts), mean_iou(truth[rows], parts, classes)

    groups = [slice(first, first + options.group_size) for first in range(0, count, options.group_size)]
    print(f"{count} unseen renders, {options.steps} steps, {options.tuning_steps} of tuning; level {level}")
    print(f"{'':22s} {'PSNR dB':>14s} {'labels kept':>16s} {'mIoU':>16s} {'distance':>9s} {'s/image':>8s}")
    figures: dict[str, dict[str, float]] = {}
    own = [kept(renders.image[rows], rows) for rows in groups]
    _line(figures, "the render itself", {"labels": [a for a, _ in own], "miou": [b for _, b in own]})
    shown = [renders.image]
    ways = Methods(gan, encoder, options.steps, options.tuning_steps)
    for name in METHODS:
        start = time.process_time()
        values: dict[str, list[float]] = {"psnr": [], "labels": [], "miou": [], "distance": []}
        made = []
        for group, rows in enumerate(groups):
            images, found = ways.invert(name, renders.image[rows], group)
            labels, miou = kept(images, rows)
            values["psnr"].append(float(psnr(images, renders.image[rows]).mean()))
            values["labels"].append(labels)
            values["miou"].append(miou)
            values["distance"].append(float(found.distance.mean()))
            made.append(images)
        _line(figures, name, values, (time.process_time() - start) / count)
        shown.append(np.concatenate(made))
    return figures, np.stack(shown, axis=1)


def measure_samples(gan: LoadedGan, encoder: Encoder, options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Print the table of the generator's own samples, whose w is known."""
    w = content_codes(gan.generator, seeds(options.seed, options.samples), 0.7)
    with torch.no_grad():
        images = stored_images(gan.generator.synthesis(w))
    print(f"\n{len(w)} samples of the generator at psi 0.7; w error in units of the spread of w")
    figures, ways = {}, Methods(gan, encoder, options.steps, options.tuning_steps)
    for name in METHODS[:3]:
        _, found = ways.invert(name, images, 0)
        error = float((found.w - w).norm(dim=1).mean()) / encoder.wspace.spread
        figures[name] = {"psnr": round(float(found.psnr.mean()), 3), "w_error": round(error, 4)}
        print(f"{name:22s} {figures[name]['psnr']:8.2f} dB   w error {error:6.3f}")
    return figures


def _line(
    figures: dict[str, dict[str, float]], name: str, values: dict[str, list[float]], seconds: float | None = None
) -> None:
    entry: dict[str, float] = {}
    cells = []
    for key, width in (("psnr", 14), ("labels", 16), ("miou", 16), ("distance", 9)):
        if key not in values:
            cells.append(" " * width)
            continue
        mean, error = summary(values[key])
        entry |= {key: round(mean, 4), f"{key}_error": round(error, 4)}
        digits = 2 if key in ("psnr", "distance") else 4
        cells.append(f"{mean:.{digits}f}{'' if key == 'distance' else f' ±{error:.{digits}f}'}".rjust(width))
    if seconds is not None:
        entry["seconds"] = round(seconds, 3)
        cells.append(f"{seconds:8.2f}")
    figures[name] = entry
    print(f"{name:22s} {' '.join(cells)}", flush=True)


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Train the encoder unless one is given, print both tables, return the figures."""
    gan = load_gan(options.gan)
    if options.encoder is None:
        recipe = EncoderRecipe(steps=options.encoder_steps)
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            encoder = train_encoder(gan, recipe, folder=Path(folder), wspace=WSpace.of(gan.generator))
        print(f"encoder: {recipe.steps} steps, {time.process_time() - start:.0f} s of one core\n")
    else:
        encoder = Encoder.load(options.encoder)
        encoder.check_generator(gan.sha256)
    renders, shown = measure_renders(gan, encoder, options)
    if options.picture is not None:
        columns = shown.shape[1]
        options.picture.write_bytes(png_bytes(grid(shown.reshape(-1, *shown.shape[2:]), 2 * columns, scale=2)))
    return {
        "gan": gan.sha256[:12],
        "images": len(shown),
        "steps": options.steps,
        "renders": renders,
        "samples": measure_samples(gan, encoder, options),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cars-64", help="shipped name, folder or file")
    parser.add_argument("--groups", type=int, default=3)
    parser.add_argument("--group-size", type=int, default=8)
    parser.add_argument("--samples", type=int, default=8, help="of the generator's own")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--tuning-steps", type=int, default=Tuning.steps)
    parser.add_argument("--encoder", type=Path, default=None, help="folder of a trained encoder, of outputs/cache")
    parser.add_argument("--encoder-steps", type=int, default=EncoderRecipe.steps)
    parser.add_argument("--picture", type=Path, default=None, help="PNG to write all reconstructions to")
    parser.add_argument("--seed", type=int, default=4000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(json.dumps(measure(options)))


if __name__ == "__main__":
    main()
