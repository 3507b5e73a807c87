"""train-gan: train a StyleGAN2 on renders of a world or on images of your own.

Images come from a folder, a zip archive or an HDF5 file. Those that are not 8-bit RGB squares of at least the
resolution are irregular: counted, named in images.json, and converted, skipped or refused. Renders of a world are made
once and kept beside the runs, in outputs/cache. Training continues where it was interrupted, and shows what it can do
in samples/ and report.html as it goes; log.jsonl holds losses, scores and images per second. On a CPU, give it as many
processes as there are cores.

A second run may begin from a checkpoint of the first, with other options: --start FOLDER/checkpoints/step-N.safetensors
It may also begin from a finished generator with its discriminator, which is grown if its resolution is lower:
--start cars-64
"""

import json
import shlex
import time
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Gan, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    from ganfoundry.gan.train_config import TrainingConfig
    from ganfoundry.gan.train_state import TrainingState

SECONDS_BETWEEN_NOTES = 30.0  # of how far the last checkpoint is


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of train-gan."""

    world: str = param("cars", "World whose renders are learnt.", choices=("cars", "faces"))
    num_images: int = param(60000, "Renders to learn from.", min=16)
    images: Path | None = param(
        None, "Images to learn from, instead of a world: a folder, a .zip, an HDF5 file or a folder of shards."
    )
    images_key: str | None = param(None, "Name of the images in an HDF5 file; by default image or images.")
    irregular: str = param(
        "convert",
        "Irregular images (grey, transparent, not square, small, damaged, ...): convert uses all that can be read, "
        "skip leaves them out, refuse stops.",
        choices=("convert", "skip", "refuse"),
    )
    background: str = param("white", "Colour behind transparent images, a name or #rrggbb.")
    resolution: int = param(64, "Side of the images in pixels, a power of two.", min=8, max=1024)
    z_dim: int = param(64, "Numbers in z.", min=1)
    w_dim: int = param(128, "Numbers in w.", min=1)
    mapping_layers: int = param(4, "Layers from z to w.", min=1)
    generator_channels: str = param("128,128,96,64,32", "Feature maps at 4, 8, 16, ... px.")
    discriminator_channels: str = param("128,128,96,64,32", "Feature maps at 4, 8, 16, ... px.")
    kimg: float = param(600.0, "Thousands of images to show the discriminator; more: goes on.", min=0.001, resumes=True)
    minutes: float = param(0.0, "Stop after so many minutes even so; 0: do not.", min=0.0, resumes=True)
    batch: int = param(16, "Images a step, of all processes together.", min=4)
    learning_rate: float = param(0.0025, "Of Adam, for both networks.", min=0.0)
    r1_gamma: float = param(0.1, "Weight of the gradient penalty on real images.", min=0.0)
    r1_interval: int = param(16, "Steps from one gradient penalty to the next.", min=1)
    r1_precision: str = param(
        "fp32",
        "Of the gradient penalty; bf16 is faster, and makes it a few per cent smaller.",
        choices=("bf16", "fp32"),
    )
    path_weight: float = param(0.0, "Weight of the path length penalty; 0: none, 2: StyleGAN2's.", min=0.0)
    path_interval: int = param(8, "Steps from one path length penalty to the next.", min=1)
    style_mixing: float = param(0.9, "Share of images with two codes.", min=0.0, max=1.0)
    noise: bool = param(
        True, "Layers add noise, for what is random in a texture; without, all detail comes from the code."
    )
    mirror: bool = param(True, "Show half of the images mirrored.")
    augment: str = param("none", "Augmentations for few images: any of colour,translation,cutout.")
    augment_target: float = param(
        0.0, "Adapt how often they are applied: 0.6 is usual; 0: always apply them.", min=0.0, max=0.99
    )
    discriminator: str = param(
        "stylegan2",
        "StyleGAN2's, or heads on frozen ImageNet features (an experiment; optional packages, no R1).",
        choices=("stylegan2", "projected"),
    )
    update: str = param(
        "alternating",
        "Whether the networks take turns, or learn at once from the same generated images, which is faster.",
        choices=("alternating", "simultaneous"),
    )
    ema_kimg: float = param(5.0, "Half-life of the averaged generator, thousands of images.", min=0.001)
    precision: str = param("bf16", "Of feature maps.", choices=("bf16", "fp32"))
    seed: int = param(0, "Seed of renders, weights and everything drawn.", min=0)
    start: str | None = param(
        None, "Weights to begin from: another run's checkpoint, a generator's name, folder or file."
    )
    processes: int = param(
        2, "Processes that share the work on a CPU, of one thread each.", min=1, max=64, resumes=True
    )
    device: str = param("auto", "Where to train.", choices=("auto", "cpu", "cuda"), resumes=True)
    checkpoint_minutes: float = param(5.0, "Minutes from one checkpoint to the next.", min=0.01, resumes=True)
    sample_kimg: float = param(
        20.0, "Thousands of images from one grid of samples to the next.", min=0.001, resumes=True
    )
    fd_samples: int = param(
        0,
        "Samples of the Frechet distance taken at each grid; the best snapshot is the result. 0: none.",
        min=0,
    )
    fd_features: str = param(
        "annotator",
        "Features it is taken in: those of our network for the world, or of ImageNet's.",
        choices=("annotator", "imagenet"),
    )
    patience_kimg: float = param(
        0.0,
        "Stop after so many thousands of images without a lower Frechet distance; 0: do not.",
        min=0.0,
        resumes=True,
    )
    tensorboard: bool = param(False, "Write TensorBoard's event files, too, into track/.", resumes=True)


def run(config: Config, out: Writer[Gan], ctx: Context) -> None:
    """Render or read the images, train, and write generator, discriminator and card."""
    from ganfoundry.gan.train_board import require_tensorboard
    from ganfoundry.gan.train_config import TrainingConfig
    from ganfoundry.gan.train_log import out_of_patience, read_log
    from ganfoundry.gan.training import write_gan

    recipe = _recipe(config, TrainingConfig)
    if config.tensorboard:
        require_tensorboard()
    if config.images is None:
        images, data = _rendered(config, out, ctx)
    else:
        images, data = _collected(config, config.images, out, ctx)
    state = _trained(config, recipe, images, out, ctx)
    why = out_of_patience(read_log(out.path), config.patience_kimg)
    if why:
        ctx.log(f"stopped early: {why}")
    best = write_gan(out.path, state, data, _command(config), config.start)
    if best is not None:
        out.figure("best_snapshot", best.name)
        out.figure("fd", best.fd)
    out.figure("images_shown", state.images)
    out.figure("hours", round(state.seconds / 3600, 3))
    out.figure("images_per_second", round(state.images / max(state.seconds, 1e-9), 1))


def follow(config: Config) -> None:
    """Train along with the first process that torchrun started."""
    from ganfoundry.gan.train_config import TrainingConfig
    from ganfoundry.gan.training import follow as train_along

    train_along(_recipe(config, TrainingConfig))


def _recipe(config: Config, kind: type[Any]) -> Any:
    """The trainer's configuration: the options of the same names."""
    names = {field.name for field in fields(kind)}
    options = {name: value for name, value in asdict(config).items() if name in names}
    return kind(**options | {"world": _world(config)})


def _world(config: Config) -> str:
    """World of the images; that of a user's own is not known."""
    return config.world if config.images is None else ""


def _trained(config: Config, recipe: "TrainingConfig", images: Path, out: Writer[Gan], ctx: Context) -> "TrainingState":
    """Train, or go on training, and note from time to time how far the last checkpoint is."""
    from ganfoundry.gan.training import continues_at, train

    shown, noted = continues_at(out.path, config.start), 0.0

    def note() -> None:
        out.reached(f"{continues_at(out.path, config.start):,} of {config.kimg * 1000:,.0f} images")

    with ctx.progress("Training", max(0, round(config.kimg * 1000) - shown)) as bar:

        def advance(total: int) -> None:
            nonlocal shown, noted
            bar.advance(total - shown)
            shown = total
            if time.monotonic() - noted > SECONDS_BETWEEN_NOTES:
                noted = time.monotonic()
                note()

        try:
            return train(recipe, images, out.path, start=config.start, on_progress=advance)
        finally:
            note()


def _rendered(config: Config, out: Writer[Gan], ctx: Context) -> tuple[Path, dict[str, Any]]:
    """Renders of the world, made once for all runs with the same world, resolution, number and seed."""
    from ganfoundry.gan.train_data import assemble_parts, check_world, file_sha256, render_part, render_tasks

    name = f"{config.world}-{config.resolution}-{config.num_images}-{config.seed}"
    folder = out.path.parent.parent / "cache" / name
    tasks = render_tasks(folder, config.world, config.resolution, config.num_images, config.seed)
    for _ in ctx.executor.map(render_part, tasks, "Rendering"):
        pass
    images = assemble_parts(folder)
    check_world(folder)
    description = f"{config.num_images} renders of the {config.world} world at {config.resolution} px"
    (out.path / "images.json").write_text(json.dumps({"description": description}), "utf-8")
    return images, {"description": description, "seed": config.seed, "sha256": file_sha256(images)}


def _collected(config: Config, path: Path, out: Writer[Gan], ctx: Context) -> tuple[Path, dict[str, Any]]:
    """Images of the user's, made alike once for this run."""
    from ganfoundry.gan.train_data import file_sha256
    from ganfoundry.gan.train_images import collect_part, collect_tasks, join_parts
    from ganfoundry.gan.train_sources import open_source

    source, folder = open_source(path, config.images_key), out.path / ".images"
    tasks = collect_tasks(
        folder,
        source,
        config.resolution,
        key=config.images_key,
        irregular=config.irregular,
        background=config.background,
    )
    for _ in ctx.executor.map(collect_part, tasks, "Reading images"):
        pass
    images, report = join_parts(folder, source, config.irregular, out.path / "images.json")
    for line in report.lines():
        ctx.log(line)
    out.figure("images_found", report.found)
    out.figure("images_used", report.used)
    out.figure("irregular_images", report.counts() or "none")
    out.figure("duplicate_images", len(report.duplicates))
    return images, {"description": f"images of the {source.kind} {path.name}", "sha256": file_sha256(images)}


def _command(config: Config) -> str:
    """Command that makes it again: the options that differ from the defaults."""
    words = ["python", "cli.py", "train-gan"]
    for field in fields(config):
        value, name = getattr(config, field.name), field.name.replace("_", "-")
        if field.default is MISSING or value == field.default:
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}", value.name if isinstance(value, Path) else str(value)]
    return shlex.join(words)


command = stage_command(
    "train-gan",
    Config,
    run,
    follow=follow,
    example="python cli.py train-gan --run cars --world cars --kimg 600 --processes 2",
)
