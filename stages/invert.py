"""invert: finds the latents of your pictures, so that the generator makes them again.

Give a folder of pictures or one picture; each is cropped to a square and brought to the generator's size. A small
network trained on the generator's own samples (minutes, once a generator, kept in outputs/cache) guesses w; an
optimisation of pixels and of features of the generator's discriminator goes on from there.

--method w stays among the pictures that the generator makes, and its latents can be edited like samples. w+ gives every
layer its own w: nearer to the picture, further from samples. pivotal keeps the w and bends a copy of the generator,
written to tuned/, one for each picture.

Look at inversions.png: picture, encoder's guess, result, difference.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.artifacts import Gan, Inversions, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.data.shards import ShardReader, ShardTask
    from ganfoundry.gan.checkpoints import LoadedGan
    from ganfoundry.gan.inversion import Encoder, WSpace
    from ganfoundry.gan.inversion.pictures import Pictures

SHOWN = 32  # pictures on inversions.png
SHOWN_NAMES = 3  # in a line about irregular pictures


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the inversion."""

    images: Path = param(..., "A picture, a folder or zip archive of pictures, or HDF5.")
    damaged: str = param("skip", "Leave damaged pictures out, or refuse them.", choices=("skip", "refuse"))
    background: str = param("white", "Colour behind transparent pictures: a name or #rrggbb.")
    method: str = param("w", "What is found: see above.", choices=("w", "w+", "pivotal"))
    steps: int = param(200, "Steps of the optimisation; 0: the encoder alone.", min=0)
    rate: float = param(0.2, "Its highest learning rate, in standard deviations of w.", min=1e-6)
    layer_penalty: float = param(0.5, "w+: weight of the layers' distance to their common w.", min=0.0)
    pixel_weight: float = param(4.0, "Weight of the difference of pixels.", min=0.0)
    perceptual_weight: float = param(1.0, "Weight of the difference of discriminator features.", min=0.0)
    tuning_steps: int = param(60, "pivotal: steps for each picture.", min=1)
    tuning_rate: float = param(0.002, "pivotal: learning rate.", min=1e-8)
    locality_weight: float = param(1.0, "pivotal: weight of what other samples change.", min=0.0)
    encoder_steps: int = param(800, "Training steps of the encoder; 0: start from the mean w.", min=0)
    batch: int = param(8, "Pictures at once.", min=1, max=256)
    seed: int = param(0, "Seed of the encoder's training and of the samples that stay unchanged.", min=0)


@dataclass(frozen=True)
class Source:
    """Where a worker finds generator, encoder and pictures; picklable."""

    gan: Path
    generator_sha256: str  # a worker does not confuse replaced files
    encoder: Path | None
    images: Path


@dataclass(frozen=True)
class InvertTask:
    """Pictures that are inverted together."""

    source: Source
    config: Config
    folder: Path
    shard: "ShardTask"


@dataclass(frozen=True)
class TuneTask:
    """A picture for which a generator is tuned."""

    source: Source
    config: Config
    shards: Path
    row: int
    folder: Path


def invert_rows(task: InvertTask) -> dict[str, Any]:
    """Invert a shard's pictures and write it."""
    import numpy as np

    from ganfoundry.data.shards import write_shard
    from ganfoundry.gan.inversion import Objective, Optimisation, invert
    from ganfoundry.labels.synthesis import single_thread

    config = task.config
    gan, encoder, wspace = _models(task.source)
    images = np.array(np.load(task.source.images, mmap_mode="r")[task.shard.first : task.shard.stop])
    options = Optimisation(
        "W+" if config.method == "w+" else "W", config.steps, config.rate, config.layer_penalty, config.batch
    )
    objective = Objective.of(gan, config.pixel_weight, config.perceptual_weight)
    with single_thread():
        found = invert(gan, images, encoder=encoder, options=options, objective=objective, wspace=wspace)
    arrays: dict[str, NDArray[Any]] = {
        "image": images,
        "start_image": found.start_images,
        "inverted_image": found.images,
        "start_w": found.start_w.numpy(),
        "w": found.w.numpy(),
        **{name: getattr(found, name) for name in ("start_psnr", "psnr", "perceptual", "distance")},
    }
    return write_shard(task.folder, task.shard.index, arrays, task.shard.first)


def tune_picture(task: TuneTask) -> None:
    """Tune a generator to a picture and write it as a folder; its card, written last, has the figures."""
    import torch

    from ganfoundry.data.shards import ShardReader
    from ganfoundry.gan.checkpoints import save_gan
    from ganfoundry.gan.inversion import Objective, Tuning, psnr, tune_generator
    from ganfoundry.images import network_images, stored_images
    from ganfoundry.labels.synthesis import single_thread

    config = task.config
    gan, _, wspace = _models(task.source)
    row = ShardReader(task.shards).row(task.row)
    objective = Objective.of(gan, config.pixel_weight, config.perceptual_weight)
    tuning = Tuning(config.tuning_steps, config.tuning_rate, config.locality_weight, seed=config.seed)
    picture, w = network_images(row["image"][None]), torch.from_numpy(row["w"][None])
    with single_thread():
        tuned = tune_generator(gan.generator, objective, picture, w, tuning, wspace=wspace)
        with torch.no_grad():
            made = tuned.synthesis(w)
            perceptual = float(objective.perceptual(made, objective.target(picture)))
    card = {
        "name": task.folder.name,
        "what": "a generator tuned until it makes one picture at its w",
        "source_sha256": gan.sha256,
        "tuning": {name: getattr(tuning, name) for name in Tuning.__annotations__},
        "w": row["w"].tolist(),
        "figures": _finite({"psnr": psnr(stored_images(made), row["image"][None])[0], "perceptual": perceptual}),
    }
    save_gan(task.folder, tuned, gan.discriminator, card)


@lru_cache(maxsize=1)
def _models(source: Source) -> "tuple[LoadedGan, Encoder | None, WSpace]":
    """Load generator, encoder and measures of W once a process."""
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.gan.inversion import Encoder, WSpace

    gan = load_gan(source.gan)
    if source.encoder is None:
        return gan, None, WSpace.of(gan.generator)
    encoder = Encoder.load(source.encoder)
    return gan, encoder, encoder.wspace


def run(config: Config, gan: Gan, out: Writer[Inversions], ctx: Context) -> None:
    """Write latents.safetensors, inversions.json, inversions.png, shards and, for pivotal, tuned generators.

    An interrupted run continues with the pictures that are missing. The encoder is trained at the first run.
    """
    from ganfoundry.data.shards import ShardFolder, ShardReader
    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.gan.inversion import Objective

    loaded = load_gan(gan.path)
    objective = Objective.of(loaded, config.pixel_weight, config.perceptual_weight)
    if objective.discriminator is None:
        ctx.log("Note: the generator comes without a discriminator, so pixels alone are compared")
    pictures = _collect(config, loaded.generator.config.resolution, out, ctx)
    source = Source(gan.path, loaded.sha256, _encoder(config, loaded, out, ctx), out.path / ".images.npy")
    folder, count = out.path / "shards", len(pictures.names)
    with ShardFolder(folder, count, config.batch, out.fingerprint) as shards:
        tasks = [InvertTask(source, config, folder, shard) for shard in shards.pending(ctx.verify)]
        for _, receipt in ctx.executor.map(invert_rows, tasks, "Inverting"):
            shards.acknowledge(receipt)
        shards.finish()
    tuned = [out.path / "tuned" / f"{row:05d}" for row in range(count)] if config.method == "pivotal" else []
    todo = [TuneTask(source, config, folder, row, path) for row, path in enumerate(tuned) if not _finished(path)]
    for _ in ctx.executor.map(tune_picture, todo, "Tuning generators") if todo else ():
        pass
    _write(config, out, loaded, ShardReader(folder), pictures, tuned)
    source.images.unlink()


def _collect(config: Config, resolution: int, out: Writer[Inversions], ctx: Context) -> "Pictures":
    """Read the pictures, write them to .images.npy, and say what was irregular."""
    from ganfoundry.gan.inversion.pictures import open_pictures, read_pictures
    from ganfoundry.gan.train_data import write_array

    source = open_pictures(config.images)
    with ctx.progress("Reading pictures", len(source.names)) as bar:
        pictures = read_pictures(
            source,
            resolution,
            background=config.background,
            skip_damaged=config.damaged == "skip",
            on_picture=bar.advance,
        )
    write_array(out.path / ".images.npy", pictures.images)
    for kind, names in pictures.irregular.items():
        ctx.log(f"{len(names)} of {len(source.names)} pictures {kind}, converted: {', '.join(names[:SHOWN_NAMES])}")
    for name, reason in pictures.damaged:
        ctx.log(f"left out {name}: {reason}")
    return pictures


def _encoder(config: Config, loaded: "LoadedGan", out: Writer[Inversions], ctx: Context) -> Path | None:
    """Folder of the generator's encoder, trained if it is not there yet and kept for all runs."""
    from ganfoundry.gan.inversion import Encoder
    from ganfoundry.gan.inversion.encoder import WEIGHTS_FILE
    from ganfoundry.gan.inversion.encoder_training import EncoderRecipe, cache_name, train_encoder
    from ganfoundry.labels.synthesis import single_thread

    if config.encoder_steps == 0:
        return None
    recipe = EncoderRecipe(steps=config.encoder_steps, seed=config.seed)
    folder = out.path.parent.parent / "cache" / cache_name(loaded, recipe)
    if (folder / WEIGHTS_FILE).exists():
        Encoder.load(folder).check_generator(loaded.sha256)
        return folder
    done = 0
    with ctx.progress("Training the encoder", recipe.steps) as bar, single_thread():

        def report(step: int, loss: float) -> None:
            nonlocal done
            bar.advance(step - done)  # more than one at the first step of a continued training
            done = step
            if step % 50 == 0:
                ctx.tracker.log(step, {"encoder_loss": loss})

        train_encoder(loaded, recipe, folder=folder, on_step=report)
    return folder


def _write(
    config: Config,
    out: Writer[Inversions],
    loaded: "LoadedGan",
    reader: "ShardReader",
    pictures: "Pictures",
    tuned: list[Path],
) -> None:
    """Write latents, table and picture, and record the figures."""
    import torch

    from ganfoundry.gan.latent_spaces import WLatents, WPlusLatents, save_latents

    w = torch.from_numpy(reader.read("w"))
    save_latents(out.path / "latents.safetensors", WLatents(w) if w.ndim == 2 else WPlusLatents(w), loaded.sha256)
    columns = {name: reader.read(name) for name in ("start_psnr", "psnr", "perceptual", "distance")}
    cards = [json.loads((path / "card.json").read_text("utf-8")) for path in tuned]
    rows: list[dict[str, Any]] = []
    for row, name in enumerate(pictures.names):
        entry: dict[str, Any] = {"name": name, "row": row, "steps": config.steps}
        entry |= _finite({key: values[row] for key, values in columns.items()})
        if tuned:
            entry["tuned"] = {"folder": f"tuned/{tuned[row].name}", **cards[row]["figures"]}
        rows.append(entry)
    table = {
        "generator_sha256": loaded.sha256,
        "method": config.method,
        "start": "encoder" if config.encoder_steps else "mean",
        "discriminator_features": loaded.discriminator is not None and config.perceptual_weight > 0,
        "images": rows,
        "irregular": pictures.irregular,
        "damaged": [{"name": name, "reason": reason} for name, reason in pictures.damaged],
    }
    (out.path / "inversions.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    _draw(config, out, loaded, reader, pictures.names, tuned)
    out.figure("images", len(pictures.names))
    out.figure("damaged_images", len(pictures.damaged))
    for key, values in columns.items():
        out.figure(key, round(float(values.mean()), 3))
    if tuned:
        out.figure("tuned_psnr", round(sum(card["figures"]["psnr"] for card in cards) / len(cards), 3))


def _draw(
    config: Config, out: Writer[Inversions], loaded: "LoadedGan", reader: "ShardReader", names: list[str],
    tuned: list[Path],
) -> None:  # fmt: skip
    """Write inversions.png: picture, start, result, (tuned,) difference, for at most 32 pictures."""
    import numpy as np

    from ganfoundry.gan.inversion import psnr
    from ganfoundry.pictures import captioned, heatmap, png_bytes, spread

    rows = spread(np.arange(len(names)), SHOWN)
    fields = reader.rows(rows, ["image", "start_image", "inverted_image", "start_psnr", "psnr", "w"])
    start, space = "encoder" if config.encoder_steps else "mean w", "W+" if config.method == "w+" else "W"
    tiles, captions = [], []
    for k, row in enumerate(rows):
        shown = [fields["image"][k], fields["start_image"][k], fields["inverted_image"][k]]
        text = [names[row], f"{start} {fields['start_psnr'][k]:.1f} dB", f"{space} {fields['psnr'][k]:.1f} dB"]
        if tuned:
            shown.append(_tuned_picture(tuned[row], fields["w"][k]))
            text.append(f"tuned {psnr(shown[-1][None], shown[0][None])[0]:.1f} dB")
        difference = np.abs(shown[-1].astype(float) - shown[0]).mean(axis=2)
        tiles += [*shown, heatmap(difference, 64.0)]
        captions += [*text, "difference"]
    scale = max(1, 128 // loaded.generator.config.resolution)
    columns = len(tiles) // len(rows) * (2 if len(rows) > 1 else 1)
    (out.path / "inversions.png").write_bytes(png_bytes(captioned(np.stack(tiles), captions, columns, scale=scale)))


def _tuned_picture(folder: Path, w: "NDArray[np.float32]") -> "NDArray[np.uint8]":
    """What a tuned generator makes of its w, (R, R, 3)."""
    import torch

    from ganfoundry.gan.checkpoints import load_gan
    from ganfoundry.images import stored_images

    with torch.inference_mode():
        picture: NDArray[np.uint8] = stored_images(load_gan(folder).generator.synthesis(torch.from_numpy(w[None])))[0]
    return picture


def _finished(folder: Path) -> bool:
    return (folder / "card.json").is_file()


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Figures for JSON, which has no infinity and no nan: they become null."""
    import math

    return {name: round(float(value), 4) if math.isfinite(value) else None for name, value in values.items()}


command = stage_command("invert", Config, run, example="python cli.py invert --run demo --images photographs")
