"""Do labels of several views of one object agree? Those drawn from a mesh, against the 2D interpreter's.

    python -m benchmarks.label_consistency [--runs DIR ...] [--model DIR] [--objects 12] [--views 8] [--renders 40]

Every pixel of a view is carried through a mesh (depth and cameras) into each other view of its object that shows the
same point, and its label compared with the one it meets; IoU of every part over all carried pixels, and their mean.
Pixels that either view calls background do not count.

Generated views (of objects that the network did not learn from), carried through the mesh that it read off one view:
    3D           labels drawn from that mesh, as synthesize-3d writes them
    2D           labels that the Style Interpreter gave to the same pictures, each by itself (label-views)
    3D to 2D     the first, against the second in the other view
    2D strict    as 2D, pixels that one view calls background count as errors
Renders of cars, whose meshes and labels are exact:
    exact        exact labels carried through the exact mesh: what pixels' size costs
    exact/mesh   exact labels carried through the read mesh: what its errors cost labels that are right
    annotator    labels of a 2D network that learnt from renders, carried through the exact mesh
    own, other   labels drawn from the read mesh against the exact ones, in the view that was read and in others; with
                 true azimuths, and elevation and distance as the network guesses them

What it means. 3D labels agree by construction; what is missing to 1 is lost at the borders of parts. They need not be
right: see own and other. 2D labels are charged with the mesh's errors: the loss from exact to exact/mesh is about what
that takes from labels that agree entirely. The last line is one JSON object.
"""

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks._inverse_data import LEVEL, SCHEMA, SIZE, WORLD_OF_CARS
from benchmarks._inverse_views import Sources
from ganfoundry import weights
from ganfoundry.data.seeds import EVALUATION, sample_integer, sample_rng
from ganfoundry.errors import InputError
from ganfoundry.metrics import class_iou, confusion_matrix
from ganfoundry.pictures import spread
from ganfoundry.render.camera import Camera
from ganfoundry.render.cameras import Cameras
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.label_consistency import mean_part_iou, view_confusion
from ganfoundry.shape.labelled_3d import camera_parameters, cameras_from, label_views, object_models
from ganfoundry.shape.multiview import MultiView
from ganfoundry.shape.multiview_loading import load_multiview
from ganfoundry.worlds.annotator import Annotator
from ganfoundry.worlds.base import Sample

Confusions = dict[str, NDArray[np.int64]]
ELEVATION, DISTANCE, FOV = 8.0, 11.1, 26.0  # of the renders: in the middle of what the generator learnt from
RENDER_STREAM = 5  # of root seeds: no other benchmark's renders


def held_out_views(model_folder: Path, sources: Sources) -> MultiView:
    """The labelled views of the objects that a network did not learn from, as its run.json says."""
    data = load_multiview(sources.views, sources.filtered, sources.codes(), sources.labels, size=SIZE)
    data = data.take(data.usable())
    try:
        config = json.loads((model_folder / "run.json").read_text("utf-8"))["config"]
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"{model_folder}/run.json does not say which objects were held out ({error}); give --model a folder of "
            "train-inverse-graphics"
        ) from None
    learnt, apart = data.split(config["held_out"], config["seed"])
    return apart if len(apart) else learnt


def _counts(classes: int) -> Confusions:
    """Confusions that begin with zeros."""

    def zeros() -> NDArray[np.int64]:
        return np.zeros((classes, classes), np.int64)

    return defaultdict(zeros)


def generated(model: InverseModel, data: MultiView, objects: int, views: int, seed: int) -> Confusions:
    """Confusions of carried labels on generated views; the view that is read is drawn for each object."""
    assert data.parts is not None
    classes, numbers = len(model.part_names), np.unique(data.objects)
    total = _counts(classes)
    for number in spread(numbers, objects):
        rows = spread(np.flatnonzero(data.objects == number), views)
        cameras = cameras_from(model, camera_parameters(model, data.codes[rows]))
        chosen = int(sample_rng(seed, EVALUATION, int(number)).integers(len(rows)))
        one = slice(chosen, chosen + 1)
        found = object_models(model.read(data.images[rows[one]], cameras[one], data.masks[rows[one]]))[0]
        drawn = label_views(model, found, cameras)
        flat = data.parts[rows]
        depth = torch.from_numpy(drawn.depth)
        total["3D"] += view_confusion(depth, cameras, drawn.label, classes=classes)
        total["2D"] += view_confusion(depth, cameras, flat, classes=classes)
        total["3D to 2D"] += view_confusion(depth, cameras, drawn.label, flat, classes=classes)
        total["2D strict"] += view_confusion(depth, cameras, flat, classes=classes, objects_only=False)
    return dict(total)


def rendered(model: InverseModel, annotator: Annotator, count: int, views: int, seed: int) -> Confusions:
    """Confusions of exact and of read labels on renders of cars from evenly spread cameras."""
    classes, table = len(model.part_names), SCHEMA.merge(LEVEL)
    total = _counts(classes)
    for index in range(count):
        car = sample_integer(sample_integer(seed, EVALUATION, RENDER_STREAM), EVALUATION, index)
        first = float(np.random.default_rng(car).uniform(0, 360))
        looks = [Camera((first + 360 * k / views) % 360, ELEVATION, DISTANCE, FOV) for k in range(views)]
        samples = [WORLD_OF_CARS.render(car, model.size, camera=look) for look in looks]
        images, exact = np.stack([s.image for s in samples]), table[np.stack([s.parts for s in samples])]
        true_cameras, true_depth = Cameras.from_cameras(looks), torch.from_numpy(np.stack([s.depth for s in samples]))
        cameras, label, depth = _read_at_true_azimuths(model, samples)
        flat = table[annotator.annotate(images).parts]
        total["exact"] += view_confusion(true_depth, true_cameras, exact, classes=classes)
        total["exact/mesh"] += view_confusion(depth, cameras, exact, classes=classes)
        total["annotator"] += view_confusion(true_depth, true_cameras, flat, classes=classes)
        total["own"] += confusion_matrix(exact[0], label[0], classes)
        total["other"] += confusion_matrix(exact[1:], label[1:], classes)
    return dict(total)


def _read_at_true_azimuths(
    model: InverseModel, samples: list[Sample]
) -> tuple[Cameras, NDArray[np.uint8], torch.Tensor]:
    """Read the first of some renders; cameras, labels and depth of all of them as the network sees it."""
    guess = model.read(samples[0].image[None]).guess
    own = torch.cat([torch.stack([guess.azimuth, guess.elevation, guess.log_distance], 1), guess.shift], 1)
    parameters = own.double().numpy().repeat(len(samples), 0)
    parameters[:, 0] = [s.camera.azimuth for s in samples]
    cameras = cameras_from(model, parameters)
    reading = model.read(samples[0].image[None], cameras[:1], (samples[0].parts > 0)[None])
    drawn = label_views(model, object_models(reading)[0], cameras)
    return cameras, drawn.label, torch.from_numpy(drawn.depth)


def print_table(confusions: Confusions, names: tuple[str, ...]) -> None:
    """A line for each kind of labels, a column for each part."""
    print(f"{'labels':>10s} {'pixels':>11s} {'mean':>6s} " + " ".join(f"{name[:11]:>11s}" for name in names[1:]))
    for kind, confusion in confusions.items():
        cells = " ".join(f"{value:11.3f}" for value in class_iou(confusion)[1:])
        print(f"{kind:>10s} {confusion.sum():11,d} {mean_part_iou(confusion):6.3f} {cells}")


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--runs", nargs="+", type=Path, default=[Path("outputs/demo")], metavar="FOLDER",
        help="run folders with generate-views, filter-views and label-views",
    )  # fmt: skip
    parser.add_argument("--model", type=Path, help="folder of train-inverse-graphics; default that of the first run")
    parser.add_argument("--objects", type=int, default=12, help="held-out objects")
    parser.add_argument("--views", type=int, default=8, help="of each object")
    parser.add_argument("--renders", type=int, default=40, help="rendered cars")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folder = options.model or options.runs[0] / "train-inverse-graphics"
    model = InverseModel.load(folder)
    data = held_out_views(folder, Sources.find(options.runs))
    print("carrying labels between generated views ...", file=sys.stderr, flush=True)
    found = generated(model, data, options.objects, options.views, options.seed)
    print("carrying labels between renders ...", file=sys.stderr, flush=True)
    annotator = Annotator.load(weights.path("cars-annotator"))
    found |= rendered(model, annotator, options.renders, options.views, options.seed)
    print_table(found, model.part_names)
    names = {
        "3D": "consistency_3d",
        "2D": "consistency_2d",
        "2D strict": "consistency_2d_strict",
        "3D to 2D": "carried_3d_against_2d",
        "exact": "exact_labels_exact_mesh",
        "exact/mesh": "exact_labels_read_mesh",
        "annotator": "annotator_exact_mesh",
        "own": "labels_3d_against_exact_own_view",
        "other": "labels_3d_against_exact_other_views",
    }
    figures = {name: round(mean_part_iou(found[kind]), 4) for kind, name in names.items()}
    counts = {"pixels_carried": int(found["3D"].sum()), "objects": min(options.objects, len(np.unique(data.objects)))}
    print(json.dumps({**figures, **counts, "renders": options.renders, "views": options.views}))


if __name__ == "__main__":
    main()
