"""Do viewpoint codes hold the camera? The azimuth of every code over many contents, by the annotator network.

    python -m benchmarks.views [--gan cars-64] [--codes annotations/cars/views] [--contents 50]

A table with one line for each code; as a control, as many codes drawn at random; what of body type, paint and area
follows the content and what the view; the network's own error on renders it never saw; then one line of JSON.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganfoundry.data.seeds import EVALUATION, VIEW, sample_integer
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.views import ViewCodeSet
from ganfoundry.views.consistency import agreement, variance_shares, view_consistency
from ganfoundry.views.synthesis import render_grid
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotation, Annotator
from ganfoundry.worlds.annotator_data import render_samples
from ganfoundry.worlds.annotator_training import evaluate


def seeds(root: int, stream: int, count: int) -> list[int]:
    """Seeds of the first samples of a stream."""
    return [sample_integer(root, stream, index) for index in range(count)]


def annotate(
    annotator: Annotator, loaded: LoadedGan, w_content: Tensor, w_view: Tensor, layers: tuple[str, ...]
) -> Annotation:
    """Annotate all contents from all views, content by content to save memory."""
    synthesis = loaded.generator.synthesis
    pieces = [annotator.annotate(render_grid(synthesis, row[None], w_view, layers)[0]) for row in w_content]
    return Annotation.concatenate(pieces)


def own_error(annotator: Annotator, images: int, seed: int) -> dict[str, float]:
    """Errors of the annotator on unseen renders."""
    world = get_world(annotator.config.world)
    renders = render_samples(world, seeds(seed, EVALUATION, images), annotator.config.resolution)
    return evaluate(annotator.annotate(renders.image), renders, world.schema)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Print the tables and return the figures."""
    annotator, loaded = Annotator.load(options.annotator), load_gan(options.gan)
    codes = ViewCodeSet.load(options.codes)
    codes.check_generator(loaded.sha256, loaded.generator.synthesis.layer_names, loaded.generator.config.w_dim)
    views, contents = len(codes), options.contents
    w_content = content_codes(loaded.generator, seeds(options.seed, EVALUATION, contents), options.truncation)
    w_random = content_codes(loaded.generator, seeds(options.seed, VIEW, views), codes.truncation)
    found = annotate(annotator, loaded, w_content, torch.from_numpy(codes.w), codes.layers)
    control = annotate(annotator, loaded, w_content, w_random, codes.layers)

    azimuth = found.azimuth.reshape(contents, views)
    chosen, random = view_consistency(azimuth), view_consistency(control.azimuth.reshape(contents, views))
    sure = np.where(found.azimuth_confidence.reshape(contents, views) > 0.7, 1.0, np.nan)
    heads = ("code", "bin", "found", "azimuth", "std", "flips", "elevation", "sure")
    print(" ".join(f"{head:>{width}s}" for head, width in zip(heads, (4, 4, 5, 8, 6, 6, 10, 6), strict=True)))
    elevation = found.elevation.reshape(contents, views)
    for code in codes.codes:
        k = code.id
        print(
            f"{k:4d} {code.bin:4d} {chosen.bin[k]:5d} {chosen.azimuth[k]:8.1f} {chosen.azimuth_std[k]:6.1f} "
            f"{chosen.flip_share[k]:6.1%} {elevation[:, k].mean():5.1f} ±{elevation[:, k].std():3.1f} "
            f"{np.nansum(sure[:, k]) / contents:6.0%}"
        )
    error = own_error(annotator, options.renders, options.seed)
    body = agreement(found.body_type.reshape(contents, views))
    paint = variance_shares(found.paint.reshape(contents, views, 3))
    area = variance_shares(found.area.reshape(contents, views))
    figures = {
        "azimuth_std_median": float(np.median(chosen.azimuth_std)),
        "azimuth_std_max": float(chosen.azimuth_std.max()),
        "azimuth_bins": len({code.bin for code in codes.codes}),
        "codes": views,
        "contents": contents,
        "flip_share": float(chosen.flip_share.mean()),
        "bins_confirmed": float(np.mean([chosen.bin[code.id] == code.bin for code in codes.codes])),
        "random_azimuth_std_median": float(np.median(random.azimuth_std)),
        "random_azimuth_std_max": float(random.azimuth_std.max()),
        "random_flip_share": float(random.flip_share.mean()),
        "body_type_by_content": body[0],
        "body_type_by_view": body[1],
        "paint_by_content": paint[0],
        "paint_by_view": paint[1],
        "area_by_content": area[0],
        "area_by_view": area[1],
        "part_confidence": float(found.part_confidence.mean()),
        "annotator_azimuth_median_error": error["azimuth_median_error"],
        "annotator_flip_share": error["azimuth_flip_share"],
    }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cars-64", help="shipped name, folder or file")
    parser.add_argument("--codes", type=Path, default=Path("annotations/cars/views"))
    parser.add_argument("--annotator", type=Path, default=None, help="folder of another annotator than the shipped one")
    parser.add_argument("--contents", type=int, default=50)
    parser.add_argument("--renders", type=int, default=300, help="unseen renders for the network's own error")
    parser.add_argument("--truncation", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1000, help="other than the one the codes were chosen with")
    figures = measure(parser.parse_args())
    print()
    for name, value in figures.items():
        print(f"{name:32s} {value:>10}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
