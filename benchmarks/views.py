"""Do viewpoint codes hold the camera, and does the object stay itself? By the annotator network, over many contents.

    python -m benchmarks.views [--gan cars-64] [--codes FOLDER] [--contents 48]

Every content is shown from the codes of its shape, as generate-views does. A table with one line for each code; as a
control, as many codes drawn at random; how much of the object's identity (body type, paint) its views keep; the
network's own error on renders it never saw; then one line of JSON.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, VIEW, sample_integer
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import LoadedGan, load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.views import ViewCodeSet
from ganfoundry.views.consistency import (
    ViewConsistency,
    agreement,
    hue_kept,
    variance_shares,
    view_consistency,
)
from ganfoundry.views.synthesis import render_objects
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotation, Annotator
from ganfoundry.worlds.annotator_data import render_samples
from ganfoundry.worlds.annotator_training import evaluate

CONTROL_CONTENTS = 100  # objects at most that codes drawn at random are measured on


def codes_of(loaded: LoadedGan) -> Path:
    """Folder of the committed viewpoint codes that belong to a generator: annotations/*/views names its sha256.

    Raises
    ------
    InputError
        If there is none.
    """
    for file in sorted(Path("annotations").glob("*/views/codes.json")):
        if json.loads(file.read_text("utf-8")).get("generator_sha256") == loaded.sha256:
            return file.parent
    raise InputError(
        f"there are no viewpoint codes of {loaded.path} in annotations/*/views; make some with annotate-views and "
        "name them with --codes"
    )


def seeds(root: int, stream: int, count: int) -> list[int]:
    """Seeds of the first samples of a stream."""
    return [sample_integer(root, stream, index) for index in range(count)]


def annotate(
    annotator: Annotator, loaded: LoadedGan, w_content: Tensor, w_view: Tensor, layers: tuple[str, ...]
) -> Annotation:
    """Annotate contents (n, w_dim), each from views of its own (n, views, w_dim), one by one to save memory."""
    synthesis = loaded.generator.synthesis
    pieces = [
        annotator.annotate(render_objects(synthesis, content[None], views[None], layers)[0])
        for content, views in zip(w_content, w_view, strict=True)
    ]
    return Annotation.concatenate(pieces)


def own_error(annotator: Annotator, images: int, seed: int) -> dict[str, float]:
    """Errors of the annotator on unseen renders."""
    world = get_world(annotator.config.world)
    renders = render_samples(world, seeds(seed, EVALUATION, images), annotator.config.resolution)
    return evaluate(annotator.annotate(renders.image), renders, world.schema)


def identity(found: Annotation, contents: int) -> dict[str, float]:
    """How much of the objects, `contents` of them with equally many views, stays the same over their views."""
    body = agreement(found.body_type.reshape(contents, -1))
    paint = found.paint.reshape(contents, -1, 3)
    hue, coloured = hue_kept(paint, 20.0)
    return {
        "body_type_kept": body[0],
        "hue_kept": hue,
        "hue_coloured_share": coloured,
        "paint_by_content": variance_shares(paint)[0],
        "area_by_content": variance_shares(found.area.reshape(contents, -1))[0],
        "part_confidence": float(found.part_confidence.mean()),
    }


def view_control(
    loaded: LoadedGan, codes: ViewCodeSet, annotator: Annotator, contents: int, truncation: float, seed: int
) -> tuple[dict[str, float], ViewConsistency]:
    """Camera of every code and identity of every object, with random codes as the control.

    Parameters
    ----------
    contents : int
        Objects, in turn of every shape; a multiple of the number of shapes is taken.

    Returns
    -------
    figures, consistency of the codes
    """
    codes.check_generator(loaded.sha256, loaded.generator.synthesis.layer_names, loaded.generator.config.w_dim)
    shapes, views = len(codes.shapes), codes.views
    contents = -(-contents // shapes) * shapes
    w_content = content_codes(loaded.generator, seeds(seed, EVALUATION, contents), truncation)
    w_random = content_codes(loaded.generator, seeds(seed, VIEW, views), codes.truncation)
    w_view = torch.from_numpy(codes.w[codes.of_objects(range(contents))])
    found = annotate(annotator, loaded, w_content, w_view, codes.layers)
    few = min(contents, CONTROL_CONTENTS)
    control = annotate(annotator, loaded, w_content[:few], w_random.expand(few, -1, -1), codes.layers)
    # (contents of a shape, codes of all shapes): objects take the shapes in turn
    azimuth = found.azimuth.reshape(-1, shapes * views)
    chosen = view_consistency(azimuth, codes.bins)
    random = view_consistency(control.azimuth.reshape(few, views), codes.bins)
    bins = chosen.bin.reshape(shapes, views)
    figures = {
        "azimuth_std_median": float(np.median(chosen.azimuth_std)),
        "azimuth_std_max": float(chosen.azimuth_std.max()),
        "azimuth_bins": min(len(set(row.tolist()) - {-1}) for row in bins),
        "azimuth_bins_of": codes.bins.count,
        "codes": len(codes),
        "codes_of_an_object": views,
        "shapes": shapes,
        "contents": contents,
        "flip_share": float(chosen.flip_share.mean()),
        "bins_confirmed": float(np.mean([chosen.bin[code.id] == code.bin for code in codes.codes])),
        "random_azimuth_std_median": float(np.median(random.azimuth_std)),
        "random_flip_share": float(random.flip_share.mean()),
        **identity(found, contents),
        **{f"random_{name}": value for name, value in identity(control, few).items()},
    }
    return figures, chosen


def print_codes(codes: ViewCodeSet, measured: ViewConsistency) -> None:
    """One line for each code."""
    print(f"{'code':>4s} {'shape':>10s} {'bin':>4s} {'found':>5s} {'azimuth':>8s} {'std':>6s} {'flips':>6s}")
    for code in codes.codes:
        k, azimuth = code.id, codes.bins.signed(measured.azimuth[code.id])
        print(
            f"{k:4d} {code.shape:>10s} {code.bin:4d} {measured.bin[k]:5d} {azimuth:8.1f} "
            f"{measured.azimuth_std[k]:6.1f} {measured.flip_share[k]:6.1%}"
        )


def rounded(figures: dict[str, float]) -> dict[str, float]:
    """Figures with four decimals."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gan", default="cars-64", help="shipped name, folder or file")
    parser.add_argument("--codes", type=Path, help="folder of viewpoint codes; default: the committed ones")
    parser.add_argument("--annotator", type=Path, help="folder; default: the shipped one of the generator's world")
    parser.add_argument("--contents", type=int, default=48)
    parser.add_argument("--renders", type=int, default=300, help="unseen renders for the network's own error")
    parser.add_argument("--truncation", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1000, help="other than the one the codes were chosen with")
    options = parser.parse_args()
    loaded = load_gan(options.gan)
    annotator = Annotator.load(
        options.annotator or weights.network_of(loaded.world, "annotator", "give one with --annotator")
    )
    codes = ViewCodeSet.load(options.codes or codes_of(loaded))
    figures, measured = view_control(loaded, codes, annotator, options.contents, options.truncation, options.seed)
    print_codes(codes, measured)
    error = own_error(annotator, options.renders, options.seed)
    figures["annotator_azimuth_median_error"] = error["azimuth_median_error"]
    figures["annotator_body_type_accuracy"] = error["body_type_accuracy"]
    print()
    for name, value in rounded(figures).items():
        print(f"{name:32s} {value:>10}")
    print(json.dumps(rounded(figures)))


if __name__ == "__main__":
    main()
