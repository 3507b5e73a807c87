"""annotate-views: finds the viewpoint codes of a generator, each one camera for all objects.

The styles of a generator's early layers are the view, the others the content (GANverse3D). Many view latents are tried;
a network reads azimuth, body type and paint of each over some contents, and the most consistent ones of every azimuth
bin are kept: twelve bins of 30 degrees all around, for faces nine of 15 degrees from -60 to 60. The early layers of a
small generator also hold the outline, so codes are chosen body type by body type (faces: hair style by hair style): an
object keeps to the codes of one (--shapes; 0 does not tell them apart).

--serve then opens a page in the browser that asks for one key a code (docs/annotating.md). Or look at the sheets: a row
is one code, the arrow says where the camera stands. If all rows are right, run again with --confirmed. To change some,
list them in a TOML file (--bins), one line a code: 7 = 3 puts code 7 into bin 3, 7 = -1 drops it (and its counterparts
of the other body types); codes that are not listed count as confirmed.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import Annotator, Gan, ViewCodes, Writer
from pipeline.config import param
from pipeline.page import Serving
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.views import Candidates, ViewCodeSet

SHEET_CONTENTS = 10
INSTEAD = "train one with train-annotator and give it with --annotator"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the search for viewpoint codes."""

    num_candidates: int = param(2000, "View latents tried.", min=12)
    screen_contents: int = param(2, "Contents over which each is screened.", min=1)
    num_contents: int = param(12, "Contents over which the promising ones are judged.", min=2)
    shapes: int = param(4, "Body types with codes of their own, at most; 0: body types are not told apart.", min=0)
    codes_per_bin: int = param(2, "Codes kept in each azimuth bin, of each body type.", min=1)
    truncation: float = param(0.7, "Truncation psi of the contents they are judged on.", min=0.0, max=1.0)
    view_truncation: float = param(1.0, "Truncation psi of the view latents; 1 keeps rare views.", min=0.0, max=1.0)
    view_layers: tuple[str, ...] = param((), "Layers or blocks (b4,b8) that take the view; empty: those up to 8 px.")
    elevation: float | None = param(None, "Preferred elevation in degrees.", min=-90, max=90)
    largest_std: float = param(40.0, "Largest circular standard deviation of a code's azimuth, degrees.", min=0)
    bins: Path | None = param(None, "TOML file with a person's bins: code = bin, -1 drops the code.")
    confirmed: bool = param(False, "A person has looked at the sheet and agrees.")
    seed: int = param(0, "Seed of view latents and contents.", min=0)


def run(config: Config, gan: Gan, annotator: Annotator | None, out: Writer[ViewCodes], ctx: Context) -> None:
    """Propose, name and draw viewpoint codes; without an annotator of the run, the shipped one of its world judges."""
    from ganfoundry import weights
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.views import ViewCodeSet, early_layers, make_codes
    from ganfoundry.views.search import Networks, SearchConfig, search_codes
    from ganfoundry.views.synthesis import render_grid
    from ganfoundry.worlds import get_world
    from ganfoundry.worlds.annotator import Annotator as Network

    bins = None if config.bins is None else read_bins(config.bins)
    loaded = load_gan(gan.path)
    folder = weights.network_of(loaded.world, "annotator", INSTEAD) if annotator is None else annotator.path
    network = Network.load(folder)
    layers = early_layers(loaded.generator.synthesis, config.view_layers)
    names = {field.name for field in fields(SearchConfig)}
    search = SearchConfig(**{name: value for name, value in asdict(config).items() if name in names})
    found = search_codes(Networks.of(loaded, folder), layers, search, ctx.executor.map)
    codes, kept = make_codes(found.candidates, found.chosen, bins, config.confirmed or bins is not None)
    code_set = ViewCodeSet(
        codes, found.w[kept].numpy(), layers, loaded.sha256, config.view_truncation, found.candidates.bins
    )
    code_set.save(out.path)
    contents = found.w_content[:SHEET_CONTENTS]
    _write_sheets(
        out.path, code_set, render_grid(loaded.generator.synthesis, contents, found.w[kept], layers).swapaxes(0, 1)
    )
    kinds = get_world(network.config.world).body_type_name
    for name, value in _figures(found.candidates, code_set, kept, kinds, network.card).items():
        out.figure(name, value)
    if not config.confirmed and bins is None:
        ctx.log(f"look at the sheets in {out.path}; if every row is right, run again with --confirmed")


def _write_sheets(folder: Path, codes: "ViewCodeSet", shown: "NDArray[np.uint8]") -> None:
    """Draw one sheet for each body type: sheet.png, or sheet-sedan.png, ..."""
    from PIL import Image

    from ganfoundry.views.sheet import code_sheet

    for number, shape in enumerate(codes.shapes):
        rows = slice(number * codes.views, (number + 1) * codes.views)
        name = f"sheet-{shape}.png" if shape else "sheet.png"
        Image.fromarray(code_sheet(shown[rows], codes.codes[rows], codes.bins)).save(folder / name)


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
        raise InputError(f"{path} is not a bins file: a bin is a whole number from 0, or -1 to drop the code")
    return bins


def _figures(
    candidates: "Candidates", codes: "ViewCodeSet", kept: list[int], kinds: str, card: "Mapping[str, object]"
) -> dict[str, float | int | str]:
    import numpy as np

    kind = kinds.replace(" ", "_")
    spread, errors = candidates.azimuth_std[kept], card.get("figures", {})
    figures: dict[str, float | int | str] = {
        "codes": len(kept),
        f"{kind}s": ", ".join(codes.shapes) or "not told apart",
        "codes_of_an_object": codes.views,
        "azimuth_bins": f"{codes.bins.count - len(codes.missing_bins)} of {codes.bins.count}",
        "azimuth_std_median": round(float(np.median(spread)), 2),
        "azimuth_std_max": round(float(spread.max()), 2),
        "flip_share": round(float(candidates.flip_share[kept].mean()), 4),
        "colour_error": round(float(candidates.colour_error[kept].mean()), 4),
    }
    if codes.shapes != ("",):
        figures[f"{kind}_share"] = round(float(candidates.shape[kept].max(1).mean()), 4)
    if isinstance(errors, dict) and "azimuth_median_error" in errors:
        figures["annotator_azimuth_median_error"] = float(errors["azimuth_median_error"])
    return figures


def page(codes: ViewCodes, serving: Serving, gan: Gan) -> None:
    """Serve the page on viewpoint codes; when it is closed, draw the sheets again."""
    import torch

    from ganfoundry.data.seeds import EVALUATION, sample_integer
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.views import ViewCodeSet
    from ganfoundry.views.synthesis import render_grid
    from pages.server import create_app, serve
    from pages.view_store import ViewStore
    from pages.views_api import views_api

    loaded = load_gan(gan.path)
    store = ViewStore(codes.path, loaded.sha256)
    synthesis = loaded.generator.synthesis
    seeds = [sample_integer(0, EVALUATION, index) for index in range(SHEET_CONTENTS)]
    contents = content_codes(loaded.generator, seeds, 0.7)

    def draw(code: int) -> "NDArray[np.uint8]":
        return render_grid(synthesis, contents, torch.from_numpy(store.codes.w[[code]]), store.codes.layers)[:, 0]

    serve(create_app("views.html", views_api(store, draw, str(codes.path)), 65536), serving.say, serving.port)
    if store.answers and not store.missing():
        answered = ViewCodeSet.load(codes.path)
        shown = render_grid(synthesis, contents, torch.from_numpy(answered.w), answered.layers).swapaxes(0, 1)
        _write_sheets(codes.path, answered, shown)


def shipped_annotators(config: Config) -> dict[str, str]:
    """Digests of the annotators of which the generator's world chooses one when the run has none of its own."""
    from ganfoundry import weights

    return weights.digests_of("annotator")


command = stage_command(
    "annotate-views",
    Config,
    run,
    depends=shipped_annotators,
    page=page,
    example="python cli.py annotate-views --gan outputs/cars-64/train-gan --num-candidates 400 --confirmed",
)
