"""annotate-views: finds the viewpoint codes of a generator, each one camera for all objects.

The styles of a generator's early layers are the view, the others the content (GANverse3D). Many view latents are tried;
a pose network reads the azimuth of each over several contents, and the most consistent ones of every 30-degree bin are
kept. Look at sheet.png: a row is one code, the arrow says where the camera stands. If all rows are right, run again
with --confirmed. To change some, list them in a TOML file (--bins), one line a code: 7 = 3 puts code 7 into
bin 3, 7 = -1 drops it; codes that are not listed count as confirmed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import Annotator, Gan, ViewCodes, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.views import Candidates, PoseEstimates
    from ganfoundry.worlds.annotator import Annotator as Network

SHEET_CONTENTS = 10


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the search for viewpoint codes."""

    num_candidates: int = param(400, "View latents tried.", min=12)
    num_contents: int = param(16, "Contents over which each is judged.", min=2)
    codes_per_bin: int = param(2, "Codes kept in each 30-degree bin.", min=1)
    truncation: float = param(0.7, "Truncation psi of the contents they are judged on.", min=0.0, max=1.0)
    view_truncation: float = param(1.0, "Truncation psi of the view latents; 1 keeps rare views.", min=0.0, max=1.0)
    view_layers: tuple[str, ...] = param((), "Layers or blocks (b4,b8) that take the view; empty: those up to 8 px.")
    elevation: float | None = param(None, "Preferred elevation in degrees.", min=-90, max=90)
    largest_std: float = param(40.0, "Largest circular standard deviation of a code's azimuth, degrees.", min=0)
    bins: Path | None = param(None, "TOML file with a person's bins: code = bin, -1 drops the code.")
    confirmed: bool = param(False, "A person has looked at the sheet and agrees.")
    seed: int = param(0, "Seed of view latents and contents.", min=0)


def run(config: Config, gan: Gan, annotator: Annotator | None, out: Writer[ViewCodes], ctx: Context) -> None:
    """Propose, name and draw viewpoint codes; without an annotator of the run, the shipped one judges."""
    from PIL import Image

    from ganfoundry.data.seeds import EVALUATION, VIEW, sample_integer
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.views import Candidates, ViewCodeSet, choose_codes, early_layers, make_codes, measure_candidates
    from ganfoundry.views.sheet import code_sheet
    from ganfoundry.views.synthesis import render_grid
    from ganfoundry.worlds.annotator import Annotator as Network

    bins = None if config.bins is None else read_bins(config.bins)
    loaded = load_gan(gan.path)
    network = Network.load(None if annotator is None else annotator.path)
    generator, synthesis = loaded.generator, loaded.generator.synthesis
    layers = early_layers(synthesis, config.view_layers)
    seeds = [sample_integer(config.seed, EVALUATION, index) for index in range(config.num_contents)]
    w_content = content_codes(generator, seeds, config.truncation)
    seeds = [sample_integer(config.seed, VIEW, index) for index in range(config.num_candidates)]
    w_view = content_codes(generator, seeds, config.view_truncation)

    def render(candidate: int) -> "NDArray[np.uint8]":
        return render_grid(synthesis, w_content, w_view[candidate : candidate + 1], layers)[:, 0]

    estimates = []
    with ctx.progress("Judging view latents", config.num_candidates) as bar:
        for estimate in measure_candidates(
            config.num_candidates, render, lambda images: estimate_pose(network, images)
        ):
            estimates.append(estimate)
            bar.advance()
    candidates = Candidates.measure(estimates)
    chosen = choose_codes(candidates, config.codes_per_bin, elevation=config.elevation, largest_std=config.largest_std)
    codes, kept = make_codes(candidates, chosen, bins, config.confirmed or bins is not None)
    ViewCodeSet(codes, w_view[kept].numpy(), layers, loaded.sha256, config.view_truncation).save(out.path)

    shown = render_grid(synthesis, w_content[:SHEET_CONTENTS], w_view[kept], layers).swapaxes(0, 1)
    Image.fromarray(code_sheet(shown, codes)).save(out.path / "sheet.png")
    for name, value in _figures(candidates, kept, network.card).items():
        out.figure(name, value)
    if not config.confirmed and bins is None:
        ctx.log(f"look at {out.path / 'sheet.png'}; if every row is right, run again with --confirmed")


def estimate_pose(network: "Network", images: "NDArray[np.uint8]") -> "PoseEstimates":
    """Pose of images by the annotator network."""
    from ganfoundry.views import PoseEstimates

    found = network.annotate(images)
    return PoseEstimates(
        azimuth=found.azimuth,
        elevation=found.elevation,
        distance=found.distance,
        confidence=found.azimuth_confidence,
        area=found.area,
        quality=found.part_confidence,
    )


def read_bins(path: Path) -> dict[int, int]:
    """Read a person's bins: a TOML file of lines `code = bin`.

    Raises
    ------
    InputError
        If the file is missing, no TOML, or holds anything else than whole numbers.
    """
    import tomllib

    from ganfoundry.errors import InputError

    try:
        table = tomllib.loads(path.read_text("utf-8"))
        bins = {int(code): value for code, value in table.items()}
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise InputError(f"{path} is not a bins file ({error}); write one line a code, such as 7 = 3") from None
    if not all(isinstance(value, int) and not isinstance(value, bool) for value in bins.values()):
        raise InputError(f"{path} is not a bins file: a bin is a whole number from 0 to 11, or -1 to drop the code")
    return bins


def _figures(candidates: "Candidates", kept: list[int], card: "Mapping[str, object]") -> dict[str, float | int]:
    import numpy as np

    from ganfoundry.views import azimuth_bin

    spread = candidates.azimuth_std[kept]
    errors = card.get("figures", {})
    figures: dict[str, float | int] = {
        "codes": len(kept),
        "azimuth_bins": len(set(azimuth_bin(candidates.azimuth[kept]).tolist())),
        "azimuth_std_median": round(float(np.median(spread)), 2),
        "azimuth_std_max": round(float(spread.max()), 2),
        "flip_share": round(float(candidates.flip_share[kept].mean()), 4),
    }
    if isinstance(errors, dict) and "azimuth_median_error" in errors:
        figures["annotator_azimuth_median_error"] = float(errors["azimuth_median_error"])
    return figures


def shipped_annotator(config: Config) -> dict[str, str]:
    """Digest of the annotator that judges when the run has none of its own."""
    from ganfoundry import weights

    name = "cars-annotator"
    return {name: str(weights.read_card(name)["sha256"])} if name in weights.names() else {}


command = stage_command(
    "annotate-views",
    Config,
    run,
    depends=shipped_annotator,
    example="python cli.py annotate-views --gan outputs/cars-64/train-gan --num-candidates 400 --confirmed",
)
