"""How tightly faces are framed, how fast they render, and whether albedo and light give the image back.

    python -m benchmarks.faces_world [--samples 200] [--picture docs/faces-world.png]

A table, then one line of JSON: share of the frame that the head fills (all parts but the background) and that the bare
face fills (without hair, ears and neck), images a CPU second, largest and mean difference in grey levels between the
image and albedo times shading, and the distribution of the styles. `--picture` writes a picture of first samples:
images, then images, parts, depth, normals and albedo of one row of faces.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganfoundry.data.seeds import EVALUATION, sample_integer
from ganfoundry.pictures import grid
from ganfoundry.worlds import Sample, get_world
from ganfoundry.worlds.shading import DirectionalLight


def shares(samples: list[Sample]) -> dict[str, float]:
    """Shares of the frame, over the samples."""
    schema = get_world("faces").schema
    outside = [schema.part_id(name) for name in ("background", "hair", "ear", "neck")]
    head = np.array([np.mean(sample.parts > 0) for sample in samples])
    face = np.array([np.isin(sample.parts, outside, invert=True).mean() for sample in samples])
    return {
        "head_share": float(head.mean()),
        "head_share_least": float(head.min()),
        "head_share_over_0.7": float(np.mean(head > 0.7)),
        "bare_face_share": float(face.mean()),
    }


def shading_error(seeds: list[int], resolution: int) -> dict[str, float]:
    """Difference between image and albedo times shading on the face, in grey levels, one sample a pixel."""
    errors = []
    for seed in seeds:
        sample = get_world("faces").render(seed, resolution, supersample=1)
        covered = sample.parts > 0
        assert isinstance(sample.light, DirectionalLight)
        lit = sample.albedo[covered] * sample.light.shading(sample.normals[covered])[:, None]
        errors.append(np.abs(sample.image[covered] - 255.0 * lit))
    return {
        "shading_error_largest": float(max(e.max() for e in errors)),
        "shading_error_mean": float(np.mean([e.mean() for e in errors])),
    }


def picture(seeds: list[int], columns: int, side: int) -> NDArray[np.uint8]:
    """Three rows of images, then parts, depth, normals and albedo of the last row."""
    world = get_world("faces")
    samples = [world.render(seed, side) for seed in seeds[: 3 * columns]]
    last = samples[-columns:]
    rows = [sample.image for sample in samples]
    palette = world.schema.level_palette("fine")
    rows += [palette[sample.parts] for sample in last]
    for sample in last:
        covered = sample.depth > 0
        near = np.clip((1.16 - sample.depth) / 0.17, 0.0, 1.0) * covered
        rows.append(np.repeat((255 * near[..., None]).astype(np.uint8), 3, axis=2))
    rows += [(127.5 * (sample.normals + 1) * (sample.parts > 0)[..., None]).astype(np.uint8) for sample in last]
    rows += [(255 * sample.albedo).astype(np.uint8) for sample in last]
    return grid(np.stack(rows), columns)


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    seeds = [sample_integer(options.seed, EVALUATION, index) for index in range(options.samples)]
    if options.picture is not None:
        Image.fromarray(picture(seeds, 8, 72)).save(options.picture, optimize=True)
    world = get_world("faces")
    world.render(seeds[0], options.resolution)  # compiles
    start = time.process_time()
    samples = [world.render(seed, options.resolution) for seed in seeds]
    figures = shares(samples) | {"images_per_cpu_second": len(seeds) / (time.process_time() - start)}
    figures |= shading_error(seeds[:40], options.resolution)
    styles = [sample.attributes[0]["body_type"] for sample in samples]
    figures |= {f"share_{style}": styles.count(style) / len(styles) for style in world.body_types}
    for name, value in figures.items():
        print(f"{name:24} {value:8.3f}")
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
