"""A small generator with labelled samples of it, for the tests of train-interpreter and synthesize."""

from pathlib import Path

import numpy as np
import torch

from ganfoundry.gan.checkpoints import load_gan, save_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.gan.stylegan2 import Generator, GeneratorConfig
from ganfoundry.labels.labelset import LabelSet
from ganfoundry.labels.schema import PartSchema
from ganfoundry.labels.synthesis import images_and_features
from pipeline.artifacts import Gan, Interpreter, Labels, ViewCodes, Writer
from pipeline.stage import Context

SCHEMA = PartSchema(
    name="shades",
    parts=("background", "dim", "mid", "bright"),
    levels={"two": ("background", "light", "light", "light")},
)
QUICK = {
    "level": "fine",
    "members": 3,
    "hidden": (32, 16),
    "steps": 80,
    "learning_rate": 2e-2,
    "dropout": 0.0,
    "fold_members": 2,
}


def shades_gan(folder: Path, seed: int = 0) -> Gan:
    """A random generator of 16 px images."""
    torch.manual_seed(seed)
    config = GeneratorConfig(resolution=16, channels={4: 12, 8: 8, 16: 8}, z_dim=8, w_dim=8)
    save_gan(folder, Generator(config), None, {"name": "shades"})
    return Gan(folder)


def shades_labels(folder: Path, gan: Gan, count: int = 6) -> Labels:
    """Samples whose four parts are quarters of the range of the mean feature: learnable, and not from colours."""
    loaded = load_gan(gan.path)
    w = content_codes(loaded.generator, list(range(count)), 0.7)
    last = list(loaded.generator.synthesis.feature_dims)[-1]
    images, features = images_and_features(loaded.generator.synthesis, w, [last])
    shade = features[last].mean(1).numpy()
    masks = np.searchsorted(np.quantile(shade, [0.25, 0.5, 0.75]), shade).astype(np.uint8)
    names = tuple(f"sample-{i}" for i in range(count))
    LabelSet(names, images, masks, w.numpy(), loaded.sha256, SCHEMA, {"labels": "by features"}).save(folder)
    return Labels(folder)


def shades_interpreter(
    folder: Path, gan: Gan, labels: Labels, views: ViewCodes | None = None, **options: object
) -> Writer[Interpreter]:
    """Train on them."""
    from stages.train_interpreter import Config, run

    out: Writer[Interpreter] = Writer(folder)
    run(Config(**{**QUICK, **options}), gan, labels, views, out, Context())  # type: ignore[arg-type]
    return out
