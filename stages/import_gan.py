"""import-gan: brings a generator into the run: one that ships, or your own checkpoint.

The source is a name of ganfoundry/weights ("cars-64"), a folder that holds generator.safetensors (as train-gan writes
it), a .safetensors file, NVIDIA's .pkl (stylegan2-ada-pytorch, stylegan3, TensorFlow), or a .pt file
of rosinality/stylegan2-pytorch. Files of this project are copied byte for byte; others are converted, and what they do
not say is listed. Nothing inside a file is imported or executed: a .pkl that refers to classes that are not known is
refused with their names, which --allow-inert lets pass as empty holders. If your own generator shows a class that
networks ship for, say so (--world cars): they will propose its viewpoints and part labels and filter its views.

Look at samples.png before you go on: a generator that was read wrongly shows noise or flat colours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.artifacts import Gan, Writer
from pipeline.config import param
from pipeline.stage import Context, stage_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganfoundry.gan.generator import StyleGenerator

BATCH = 8


@dataclass(frozen=True, kw_only=True)
class Config:
    """Options of the import."""

    source: str = param("cars-64", "Shipped name, folder or file of the generator.", content=True)
    world: str | None = param(
        None, "World whose class it shows; by default what its card says.", choices=("cars", "faces")
    )
    allow_inert: tuple[str, ...] = param((), "Unknown names (package.Class) in a .pkl to ignore; they are never run.")
    num_samples: int = param(32, "Images on samples.png.", min=1, max=1000)
    truncation: float = param(0.7, "Truncation psi of these images.", min=0.0, max=1.0)
    seed: int = param(0, "Root seed of these images.", min=0)


def run(config: Config, out: Writer[Gan], ctx: Context) -> None:
    """Write generator.safetensors, perhaps discriminator.safetensors, card.json and samples.png."""
    from ganfoundry.gan.checkpoints import copy_gan
    from ganfoundry.pictures import grid, png_bytes

    loaded = copy_gan(config.source, out.path, world=config.world, allow_inert=config.allow_inert)
    discriminator = "with" if loaded.discriminator is not None else "without"
    size, digest = loaded.card["source_bytes"], loaded.card["source_sha256"]
    ctx.log(f"{config.source}: {size:,} bytes, sha256 {digest}")
    ctx.log(f"{loaded.description}; {discriminator} discriminator; sha256 of the weights {loaded.sha256}")
    for note in loaded.notes:
        ctx.log(f"Note: {note}")
    images = sample_images(config, loaded.generator, ctx)
    columns = min(8, config.num_samples)
    scale = max(1, 128 // loaded.generator.config.resolution)
    (out.path / "samples.png").write_bytes(png_bytes(grid(images, columns, scale=scale)))
    out.figure("resolution", loaded.generator.config.resolution)
    out.figure("parameters", sum(value.numel() for value in loaded.generator.parameters()))
    out.figure("world", loaded.world or "not known")
    out.figure("discriminator", "yes" if loaded.discriminator is not None else "no")
    out.figure("generator_sha256", loaded.sha256)


def sample_images(config: Config, generator: "StyleGenerator", ctx: Context) -> "NDArray[np.uint8]":
    """Unselected samples (n, R, R, 3) with stored noise; a conditional generator shows its classes in turn."""
    import numpy as np
    import torch

    from ganfoundry.data.seeds import EVALUATION, sample_integer
    from ganfoundry.gan.latents import content_codes
    from ganfoundry.images import stored_images

    seeds = [sample_integer(config.seed, EVALUATION, index) for index in range(config.num_samples)]
    classes = generator.config.c_dim
    c = torch.eye(classes)[torch.arange(len(seeds)) % classes] if classes else None
    w = content_codes(generator, seeds, config.truncation, c)
    parts = []
    with ctx.progress("Sampling", len(seeds)) as bar, torch.inference_mode():
        for start in range(0, len(w), BATCH):
            rows = w[start : start + BATCH]
            parts.append(stored_images(generator.synthesis(rows)))
            bar.advance(len(rows))
    images = np.concatenate(parts)
    return images if images.shape[-1] == 3 else np.repeat(images[..., :1], 3, axis=-1)


def _shipped_digest(config: Config) -> Mapping[str, str]:
    """Sha256, from the card, of a generator that is given by its shipped name."""
    from ganfoundry import weights

    if Path(config.source).exists() or config.source not in weights.names():
        return {}
    return {"source": str(weights.read_card(config.source).get("sha256"))}


command = stage_command(
    "import-gan",
    Config,
    run,
    depends=_shipped_digest,
    example="python cli.py import-gan --source cars-64 --run demo",
)
