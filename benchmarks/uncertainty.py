"""Is the interpreter's uncertainty true?  Scores against label errors, calibration, filtering.

    python -m benchmarks.uncertainty [--images 400] [--seeds 3]

An interpreter learns from the 16 labelled samples of the shipped generator and labels unseen samples. Generated images
have no exact labels. The truth here is the annotator network, which also labelled the 16: so the errors are true with
respect to the labeller, which is all that an interpreter can learn. Where the network contradicts itself on the
mirrored image, its label is not counted; how right the network is where it does not, is measured on renders, whose
labels are exact.

An image's error is the share of wrong pixels among the object's. AUROC: chance that one of the worst tenth by error has
a higher score than one of the others. "kept" is the mean error after the tenth with the highest scores is dropped,
"best" after the tenth with the largest errors is dropped. The last line is one JSON object; auroc, ... are of the
default score (object).
"""

import argparse
import json
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import _label_factory as factory
from ganfoundry.data.seeds import EVALUATION, sample_integer
from ganfoundry.gan.checkpoints import LoadedGan
from ganfoundry.labels.calibration import (
    Ranking,
    at_temperature,
    fit_temperature,
    image_errors,
    judge_score,
    negative_log_likelihood,
    reliability,
)
from ganfoundry.labels.distillation import Distillation, distil
from ganfoundry.labels.interpreter import Prediction, StyleInterpreter
from ganfoundry.labels.presets import PRESETS
from ganfoundry.labels.synthesis import images_and_features
from ganfoundry.labels.uncertainty import SCORE_KINDS, image_score
from ganfoundry.metrics import auroc, mean_iou
from ganfoundry.worlds import get_world

CALIBRATION_PIXELS = 200_000
DEFAULT = PRESETS["ours"].image_score


@dataclass(frozen=True)
class Trial:
    """Figures of one seed."""

    rankings: dict[str, Ranking]
    pixel_auroc: float
    ece: float
    ece_temperature: float
    nll: float
    nll_temperature: float
    temperature: float
    miou: float
    miou_kept: float
    keypoint_auroc: float


def judge_on_renders(judge: factory.Judge, count: int) -> dict[str, float]:
    """Share of right object pixels of the judge on renders that it never saw: all, and where it agrees with itself."""
    world = get_world("cars")
    samples = [world.render(sample_integer(0, EVALUATION, index), 64) for index in range(count)]
    images, truth = np.stack([s.image for s in samples]), judge.merge[np.stack([s.parts for s in samples])]
    found, trusted = judge.trusted(images)
    inside = truth > 0
    right = found == truth
    return {
        "right": float(right[inside].mean()),
        "right_trusted": float(right[inside & trusted].mean()),
        "trusted": float(trusted[inside].mean()),
    }


def predict(interpreter: StyleInterpreter, gan: LoadedGan, count: int) -> tuple[NDArray[np.uint8], Prediction]:
    """Images of unseen samples and what the interpreter says, with its mean probabilities."""
    layers = interpreter.reads
    soft = interpreter.with_config(voting="soft")
    images, parts = [], []
    for w in factory.unseen(gan, count).split(8):
        image, features = images_and_features(gan.generator.synthesis, w, layers)
        images.append(image)
        parts.append(soft.predict(features, probabilities=True))
    return np.concatenate(images), Prediction.joined(parts)


def keypoint_auroc(found: Prediction, truth: NDArray[np.float32]) -> float:
    """AUROC of the members' spread for keypoints that lie more than 3 px from where the labeller sees them."""
    if found.keypoints is None or found.keypoint_spread is None:
        return float("nan")
    visible = truth[..., 2] > 1.5
    far = np.linalg.norm(found.keypoints.numpy()[..., :2] - truth[..., :2], axis=-1) > 3
    return auroc(far[visible], found.keypoint_spread.numpy()[visible])


def trial(
    gan: LoadedGan,
    judge: factory.Judge,
    interpreter: StyleInterpreter,
    truth: tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float32]],
    found: Prediction,
) -> Trial:
    """Figures of one interpreter on unseen samples."""
    labels, trusted, points = truth
    predicted = found.label.numpy()
    errors = image_errors(labels, predicted, trusted)
    rankings: dict[str, Ranking] = {
        kind: judge_score(image_score(found.uncertainty, kind, found.label).numpy(), errors) for kind in SCORE_KINDS
    }
    order = np.argsort(image_score(found.uncertainty, DEFAULT, found.label).numpy(), kind="stable")
    kept = order[: len(order) - len(order) // 10]
    classes = interpreter.config.num_classes
    counted = np.where(trusted, labels, 255)
    assert found.probabilities is not None
    random = np.random.default_rng(0)
    flat = np.flatnonzero(trusted)
    pixels = random.choice(flat, min(len(flat), 2 * CALIBRATION_PIXELS), replace=False)
    p = found.probabilities.permute(0, 2, 3, 1).reshape(-1, classes)[torch.from_numpy(pixels)].numpy()
    true = labels.reshape(-1)[pixels]
    half = len(pixels) // 2  # the temperature is fitted on one half and judged on the other
    temperature = fit_temperature(p[:half], true[:half])
    q = at_temperature(p[half:], temperature)
    wrong = (predicted != labels) & trusted
    return Trial(
        rankings,
        auroc(wrong[trusted], found.uncertainty.numpy()[trusted]),
        reliability(p[half:], true[half:]).error,
        reliability(q, true[half:]).error,
        negative_log_likelihood(p[half:], true[half:]),
        negative_log_likelihood(q, true[half:]),
        temperature,
        mean_iou(counted, predicted, classes, ignore=255),
        mean_iou(counted[kept], predicted[kept], classes, ignore=255),
        keypoint_auroc(found, points),
    )


def distilled_ranking(
    gan: LoadedGan,
    interpreter: StyleInterpreter,
    errors_of: NDArray[np.uint8],
    trusted: NDArray[np.bool_],
    count: int,
) -> Ranking:
    """Judgement of the distilled head's own score by its own errors."""
    layers = interpreter.reads
    samples = (
        images_and_features(gan.generator.synthesis, w, layers)[1] for w in factory.unseen(gan, 256, root=1).split(8)
    )
    head = distil(interpreter.with_config(image_score=DEFAULT), samples, Distillation())
    parts = [
        head.predict(images_and_features(gan.generator.synthesis, w, layers)[1])
        for w in factory.unseen(gan, count).split(8)
    ]
    found = Prediction.joined(parts)
    return judge_score(found.score.numpy(), image_errors(errors_of, found.label.numpy(), trusted))


def main() -> None:
    """Print tables and one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--renders", type=int, default=200)
    parser.add_argument("--no-distilled", action="store_true", help="leave the distilled head out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    gan = factory.generator()
    label_set = factory.labels(gan)
    judge = factory.Judge.load(label_set)
    renders = judge_on_renders(judge, arguments.renders)
    print(f"the labeller on {arguments.renders} unseen renders: {renders['right']:.3f} of the object's pixels right;")
    print(
        f"{renders['right_trusted']:.3f} where it agrees with itself on the mirrored image ({renders['trusted']:.3f})\n"
    )
    trials: list[Trial] = []
    distilled: list[Ranking] = []
    truth = None
    for seed in range(arguments.seeds):
        interpreter = factory.fit(gan, label_set, members=arguments.members, steps=arguments.steps, seed=seed)
        images, found = predict(interpreter, gan, arguments.images)
        if truth is None:  # the images do not depend on the seed
            truth = (*judge.trusted(images), judge.network.annotate(images).keypoints)
        trials.append(trial(gan, judge, interpreter, truth, found))
        if not arguments.no_distilled:
            distilled.append(distilled_ranking(gan, interpreter, truth[0], truth[1], arguments.images))
        print(f"seed {seed} done", flush=True)
    report(trials, distilled, arguments.images)


def report(trials: list[Trial], distilled: list[Ranking], images: int) -> None:
    """Print the tables over seeds."""
    text = factory.seeds_text
    rows: dict[str, list[Ranking]] = {kind: [t.rankings[kind] for t in trials] for kind in SCORE_KINDS}
    if distilled:
        rows["distilled"] = distilled
    print(f"\n{images} unseen samples, {len(trials)} seeds")
    print(f"{'score':12} {'AUROC':>18} {'rank':>18} {'error':>8} {'kept':>8} {'best':>8}")
    for kind, found in rows.items():
        means = [
            float(np.mean([getattr(f, name) for f in found])) for name in ("error_all", "error_kept", "error_best")
        ]
        print(
            f"{kind:12} {text([f.auroc for f in found]):>18} {text([f.rank for f in found]):>18} "
            + " ".join(f"{value:8.4f}" for value in means)
        )
    better = sum(t.rankings[DEFAULT].error_kept <= t.rankings[DEFAULT].error_all for t in trials)
    print(f"\npixels: AUROC of the divergence for wrong labels {text([t.pixel_auroc for t in trials])}")
    print(f"keypoints: AUROC of the spread for places more than 3 px off {text([t.keypoint_auroc for t in trials])}")
    print(f"calibration error {text([t.ece for t in trials], 4)}, nll {text([t.nll for t in trials], 4)}")
    print(
        f"  at T = {text([t.temperature for t in trials], 2)}: {text([t.ece_temperature for t in trials], 4)}, nll ",
        end="",
    )
    print(text([t.nll_temperature for t in trials], 4))
    print(f"mIoU of all {text([t.miou for t in trials])}, of the kept 90 % {text([t.miou_kept for t in trials])}\n")
    best = rows[DEFAULT]
    figures = {f"auroc_{kind}": float(np.mean([f.auroc for f in found])) for kind, found in rows.items()}
    figures |= {"auroc": figures[f"auroc_{DEFAULT}"], "rank": float(np.mean([f.rank for f in best]))}
    columns = [asdict(t) for t in trials]
    names = [name for name in columns[0] if name != "rankings"]
    figures |= {name: float(np.mean([c[name] for c in columns])) for name in names}
    figures |= {"filter_helps": better, "seeds": len(trials)}
    print(json.dumps({name: value if isinstance(value, int) else round(value, 4) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
