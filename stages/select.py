"""select: which generated samples to label next.

Of many samples it takes uncertain ones that differ from those labelled already and from each other (a core-set weighted
by the interpreter's uncertainty, the generator's failures left aside). Without an interpreter and labels it starts from
nothing: the samples differ. Look at sheet.png; then give the folder to annotate-parts with --candidates.

A sample that is not worth labelling is left out with --exclude NUMBER.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pipeline.artifacts import Candidates, Gan, Interpreter, Labels, Writer
from pipeline.config import param
from pipeline.errors import UserError
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ganfoundry.labels.active import Survey
    from ganfoundry.labels.labelset import LabelSet

SHEET_SCALE = 3


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of select."""

    num_samples: int = param(4, "Samples to choose.", min=1)
    num_candidates: int = param(400, "Samples to choose from, numbered as annotate-parts numbers them.", min=1)
    method: Literal["core-set", "medoids", "random"] = param(
        "core-set", "core-set: uncertain and different; medoids: they represent all candidates; random: any."
    )
    exclude: tuple[int, ...] = param((), "Numbers of candidates that are not worth labelling.", min=0)
    truncation: float = param(0.7, "Truncation psi of the samples.", min=0.0, max=1.0)
    seed: int = param(0, "Root seed of the candidates.", min=0)


def run(
    config: Config,
    gan: Gan,
    interpreter: Interpreter | None,
    labels: Labels | None,
    out: Writer[Candidates],
    ctx: Context,
) -> None:
    """Draw the candidates, score them, choose, and draw the sheet: image, labels, uncertainty of each."""
    import numpy as np
    import torch

    from ganfoundry.data.seeds import LABEL, sample_integer
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.labels import active
    from ganfoundry.labels.description import interpreter_description
    from ganfoundry.labels.interpreter import StyleInterpreter
    from ganfoundry.labels.labelset import LabelSet
    from ganfoundry.labels.synthesis import single_thread

    beyond = [number for number in config.exclude if number >= config.num_candidates]
    if beyond:
        raise UserError(f"--exclude {beyond[0]}: the candidates are numbered from 0 to {config.num_candidates - 1}")
    loaded = load_gan(gan.path)
    description = None if interpreter is None else interpreter_description(interpreter.path, loaded.sha256)
    reader = None if interpreter is None else StyleInterpreter.load(interpreter.path / "interpreter.safetensors")
    known = None if labels is None else LabelSet.load(labels.path, loaded.sha256)
    total = config.num_candidates
    seeds = [sample_integer(config.seed, LABEL, index) for index in range(total)]
    w = content_codes(loaded.generator, seeds, config.truncation)
    if known is not None:
        w = torch.cat([w, torch.from_numpy(known.w)])
    with single_thread(), ctx.progress("drawing samples", len(w)) as bar:
        survey = active.survey(loaded.generator.synthesis, reader, w, bar.advance)
    labelled = _labelled(known, seeds)
    numbers = active.choose(
        config.method,
        survey,
        config.num_samples,
        taken=[*labelled, *range(total, len(w))],
        allowed=np.setdiff1d(np.arange(total), config.exclude).tolist(),
        random=np.random.default_rng(config.seed),
    )
    scores = None if survey.score is None else survey.score[:total]
    active.Candidates(
        generator_sha256=loaded.sha256,
        root_seed=config.seed,
        truncation=config.truncation,
        num_candidates=total,
        numbers=tuple(numbers),
        seeds=tuple(seeds[number] for number in numbers),
        scores=None if scores is None else tuple(round(float(scores[number]), 6) for number in numbers),
        method=config.method,
        labelled=tuple(labelled),
    ).save(out.path / "candidates.json")
    _draw_sheet(survey, numbers, description, out)
    out.figure("samples", len(numbers))
    out.figure("labelled_before", 0 if known is None else len(known))
    if scores is not None:
        out.figure("mean_score_chosen", round(float(scores[numbers].mean()), 4))
        out.figure("mean_score_candidates", round(float(scores.mean()), 4))
    ctx.log(f"look at {out.path / 'sheet.png'}; label them with annotate-parts --candidates {out.path}")


def _labelled(known: "LabelSet | None", seeds: list[int]) -> list[int]:
    """Numbers of the candidates that have labels."""
    if known is None or known.seeds is None:
        return []
    done = {int(seed) for seed in known.seeds}
    return [number for number, seed in enumerate(seeds) if seed in done]


def _draw_sheet(
    survey: "Survey", numbers: list[int], description: dict[str, Any] | None, out: Writer[Candidates]
) -> None:
    """Draw what was chosen, in its order: the image; with an interpreter also its labels and uncertainty."""
    import numpy as np
    from PIL import Image

    from ganfoundry.pictures import captioned, heatmap, overlay

    pictures: list[NDArray[np.uint8]] = [survey.images[numbers]]
    captions = [[f"sample-{number:04d}" for number in numbers]]
    if survey.label is not None and survey.uncertainty is not None and survey.score is not None and description:
        palette = np.array(description["palette"], np.uint8)
        pictures.append(overlay(survey.images[numbers], survey.label[numbers], palette))
        pictures.append(heatmap(survey.uncertainty[numbers], float(np.quantile(survey.uncertainty, 0.995))))
        captions += [["labels now"] * len(numbers), [f"score {survey.score[number]:.3f}" for number in numbers]]
    tiles = np.stack(pictures, 1).reshape(-1, *survey.images.shape[1:])
    texts = [text for row in zip(*captions, strict=True) for text in row]
    columns = len(pictures) * max(1, min(4, len(numbers)))
    Image.fromarray(captioned(tiles, texts, columns, scale=SHEET_SCALE)).save(out.path / "sheet.png")


command = stage_command(
    "select",
    Config,
    run,
    example="python cli.py select --run demo --labels annotations/cars/labels --num-samples 8",
)
