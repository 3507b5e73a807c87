"""annotate-parts: chooses generated samples to label and proposes their part labels.

Of many samples it takes well formed ones that differ in viewpoint, type and paint, and lets the annotator network label
their parts and keypoints. Look at sheet.png. A sample that is not worth labelling is left out with --exclude NUMBER.

--serve then opens a page in the browser to correct parts and keypoints (docs/annotating.md); --open FOLDER opens it on
other labels. Or paint masks/NAME.png in a program that keeps palettes, and give the folder of corrected masks with
--corrections. What was corrected is recorded.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pipeline.artifacts import Annotator, Gan, Interpreter, Labels, Writer
from pipeline.config import param
from pipeline.page import Serving
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ganfoundry.gan.generator import StyleGenerator
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.worlds.annotator import Annotation
    from ganfoundry.worlds.annotator import Annotator as Network
    from pages.assistant import Networks

BATCH = 50
SHEET_SIDE = 384  # pixels of a sample on the sheet
INSTEAD = "train one with train-annotator and give it with --annotator"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the labels' proposal."""

    num_samples: int = param(16, "Samples to label.", min=1)
    num_candidates: int = param(400, "Samples to choose from.", min=1)
    choose: Literal["balanced", "medoids", "first"] = param(
        "balanced",
        "balanced: well formed, from all sides; medoids: k-medoids of the generator's features; first: the first.",
    )
    candidates: Path | None = param(
        None, "What select wrote: label these samples and those labelled before, instead of choosing here."
    )
    exclude: tuple[int, ...] = param((), "Numbers of candidates that are not worth labelling.", min=0)
    truncation: float = param(0.7, "Truncation psi of the samples.", min=0.0, max=1.0)
    corrections: Path | None = param(None, "Folder of corrected masks, index PNGs NAME.png.")
    seed: int = param(0, "Root seed of the candidates.", min=0)


def run(config: Config, gan: Gan, annotator: Annotator | None, out: Writer[Labels], ctx: Context) -> None:
    """Choose, label, replace what a person corrected, and draw the sheet.

    Without an annotator of the run, the shipped one of the generator's world labels.
    """
    import numpy as np

    from ganfoundry import weights
    from ganfoundry.data.seeds import LABEL, sample_integer
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.worlds import get_world
    from ganfoundry.worlds.annotator import Annotator as Network

    loaded = load_gan(gan.path)
    folder = weights.network_of(loaded.world, "annotator", INSTEAD) if annotator is None else annotator.path
    network = Network.load(folder)
    config, wanted = _wanted(config, loaded.sha256)
    seeds = [sample_integer(config.seed, LABEL, index) for index in range(config.num_candidates)]
    w = content_codes(loaded.generator, seeds, config.truncation)
    images, features = _draw(loaded.generator, w, ctx)
    found = network.annotate(images, two_grids=True)
    world = get_world(network.config.world)
    chosen = _choose(config, found, features, world.azimuths) if wanted is None else np.array(wanted, np.int64)
    labels = LabelSet(
        names=tuple(f"sample-{index:04d}" for index in chosen),
        images=images[chosen],
        masks=found.parts[chosen],
        w=w.numpy()[chosen],
        generator_sha256=loaded.sha256,
        schema=world.schema,
        provenance=_provenance(config, network),
        seeds=np.array(seeds, np.int64)[chosen],
        keypoints=found.keypoints[chosen],
    )
    if config.corrections is not None:
        labels = with_corrections(labels, config.corrections)
    labels.save(out.path)
    LabelSet.load(out.path, loaded.sha256)  # what was written is what train-interpreter will accept
    _draw_sheet(labels, out.path / "sheet.png")
    out.figure("samples", len(labels))
    out.figure("corrected", len(labels.provenance.get("corrected", [])))
    out.figure("parts", len(np.unique(labels.masks)))
    ctx.log(f"look at {out.path / 'sheet.png'}; correct masks and give their folder with --corrections")


def _wanted(config: Config, generator_sha256: str) -> tuple[Config, list[int] | None]:
    """Settings of the samples that select chose from, and the numbers it wants labelled or knows labels of."""
    from ganfoundry.labels.active import Candidates

    if config.candidates is None:
        return config, None
    found = Candidates.load(config.candidates, generator_sha256)
    same = replace(config, seed=found.root_seed, truncation=found.truncation, num_candidates=found.num_candidates)
    return same, sorted({*found.numbers, *found.labelled})


def _draw(generator: "StyleGenerator", w: "Tensor", ctx: Context) -> "tuple[NDArray[np.uint8], NDArray[np.float32]]":
    """Images of the candidates, and the mean of every feature channel over the image."""
    import numpy as np
    import torch

    from ganfoundry.labels.synthesis import images_and_features

    layers = list(generator.synthesis.feature_dims)
    images, pooled = [], []
    with ctx.progress("Drawing samples", len(w)) as bar:
        for rows in torch.split(w, BATCH):
            image, maps = images_and_features(generator.synthesis, rows, layers)
            images.append(image)
            pooled.append(torch.cat([maps[name].mean((2, 3)) for name in layers], 1).numpy())
            bar.advance(len(rows))
    return np.concatenate(images), np.concatenate(pooled)


def _choose(
    config: Config, found: "Annotation", features: "NDArray[np.float32]", azimuths: tuple[float, float]
) -> "NDArray[np.int64]":
    """Numbers of the candidates to label, ascending."""
    import numpy as np

    from ganfoundry.errors import InputError
    from ganfoundry.worlds.annotator_choice import choose_balanced, choose_medoids

    allowed = np.setdiff1d(np.arange(config.num_candidates), config.exclude)
    if len(allowed) < config.num_samples:
        raise InputError(
            f"{len(allowed)} candidates are too few for {config.num_samples} samples; raise --num-candidates"
        )
    if config.choose == "first":
        return allowed[: config.num_samples]
    if config.choose == "medoids":
        return allowed[choose_medoids(features[allowed], config.num_samples)]
    return allowed[choose_balanced(found.rows(allowed), config.num_samples, azimuths=azimuths)]


def _provenance(config: Config, network: "Network") -> dict[str, Any]:
    """How the labels came about."""
    card = network.card
    figures = card.get("figures")
    miou = figures.get("miou_fine", "unknown") if isinstance(figures, dict) else "unknown"
    name = card.get("name", "an annotator")
    return {
        "labels": f"proposed by {name} (part mIoU on unseen renders {miou})",
        "annotator_sha256": card.get("sha256", ""),
        "chosen": f"{'select' if config.candidates else config.choose}, of {config.num_candidates} samples",
        "excluded": list(config.exclude),
        "truncation": config.truncation,
        "root_seed": config.seed,
        "corrected": [],
    }


def with_corrections(labels: "LabelSet", folder: Path) -> "LabelSet":
    """Labels with the masks of a folder in place of the proposed ones.

    Raises
    ------
    InputError
        If the folder is missing or empty, or holds a mask of no sample, of another size, or with unknown parts.
    """
    import numpy as np
    from PIL import Image

    from ganfoundry.errors import InputError

    files = sorted(folder.glob("*.png"))
    if not files:
        raise InputError(f"{folder} holds no corrected mask; put index PNGs named like the samples into it")
    masks = labels.masks.copy()
    for file in files:
        if file.stem not in labels.names:
            raise InputError(f"{file} belongs to no sample; the samples are {', '.join(labels.names)}")
        try:
            with Image.open(file) as picture:
                mask = np.array(picture, np.uint8) if picture.mode in ("P", "L") else None
        except OSError as error:
            raise InputError(f"{file} cannot be read as a picture; save it again as an index PNG") from error
        if mask is None or mask.shape != masks.shape[1:] or mask.max() >= len(labels.schema.parts):
            side = masks.shape[1]
            raise InputError(f"{file} is no mask: it must be a {side} x {side} index PNG of part ids; save it so")
        masks[labels.names.index(file.stem)] = mask
    provenance = dict(labels.provenance) | {"corrected": [file.stem for file in files]}
    return replace(labels, masks=masks, provenance=provenance)


def _draw_sheet(labels: "LabelSet", path: Path) -> None:
    """Pairs of image and overlay, four pairs a row, and the colours' names below."""
    import numpy as np
    from PIL import Image

    from ganfoundry.pictures import captioned, overlay
    from ganfoundry.views.sheet import legend

    palette = labels.schema.palette
    assert palette is not None
    pairs = np.stack([labels.images, overlay(labels.images, labels.masks, palette)], 1)
    captions = [text for name in labels.names for text in (name, "parts")]
    picture = captioned(
        pairs.reshape(-1, *pairs.shape[2:]), captions, 8, scale=max(1, SHEET_SIDE // labels.images.shape[1])
    )
    names = legend(labels.schema.parts[1:], palette[1:], picture.shape[1])
    Image.fromarray(np.concatenate([picture, names])).save(path)


def page(
    labels: Labels, serving: Serving, gan: Gan, annotator: Annotator | None, interpreter: Interpreter | None
) -> None:
    """Serve the page on a labels folder."""
    from pages.assistant import Assistant
    from pages.label_store import LabelStore
    from pages.parts_api import largest_body, parts_api
    from pages.server import create_app, serve

    store = LabelStore(labels.path, gan.generator_sha256)
    sources = ("annotator",) if interpreter is None else ("interpreter", "annotator")
    assistant = Assistant(store, lambda: _networks(gan, annotator, interpreter), sources)
    app = create_app("parts.html", parts_api(store, assistant, str(labels.path)), largest_body(store))
    serve(app, serving.say, serving.port)


def _networks(gan: Gan, annotator: Annotator | None, interpreter: Interpreter | None) -> "Networks":
    """What can propose labels; without an annotator that knows the generator's class, the interpreters alone."""
    from contextlib import suppress

    from ganfoundry import weights
    from ganfoundry.errors import InputError
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.labels.interpreter import StyleInterpreter
    from ganfoundry.worlds.annotator import Annotator as Network
    from pages.assistant import Networks

    loaded = load_gan(gan.path)
    network = None if annotator is None else Network.load(annotator.path)
    if annotator is None:
        with suppress(InputError):
            network = Network.load(weights.network_of(loaded.world, "annotator", INSTEAD))
    if interpreter is None:
        return Networks(loaded.generator.synthesis, network)
    card = json.loads((interpreter.path / "interpreter.json").read_text("utf-8"))
    if card["generator_sha256"] != loaded.sha256:
        raise InputError(f"the interpreter in {interpreter.path} belongs to another generator; name one of this one")
    known = StyleInterpreter.load(interpreter.path / "interpreter.safetensors")
    return Networks(loaded.generator.synthesis, network, known, card["level"])


def shipped_annotators(config: Config) -> dict[str, str]:
    """Digests of the annotators of which the generator's world chooses one when the run has none of its own."""
    from ganfoundry import weights

    return weights.digests_of("annotator")


command = stage_command(
    "annotate-parts",
    Config,
    run,
    version=2,  # two grids of parts for images larger than the annotator's
    depends=shipped_annotators,
    page=page,
    example="python cli.py annotate-parts --gan outputs/cars-64/train-gan --num-samples 16 --corrections corrected",
)
