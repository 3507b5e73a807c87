"""Small generators and annotators on disk for the tests of the view stages."""

import numpy as np
import torch

from ganfoundry.gan.checkpoints import load_gan, save_gan
from ganfoundry.gan.stylegan2 import Generator, GeneratorConfig
from ganfoundry.views import ALL_AROUND, ViewCode, ViewCodeSet, early_layers
from ganfoundry.worlds import get_world
from ganfoundry.worlds.annotator import Annotator
from ganfoundry.worlds.annotator_data import annotator_config
from ganfoundry.worlds.annotator_net import AnnotatorNet
from pipeline.artifacts import Annotator as AnnotatorFolder
from pipeline.artifacts import Gan, ViewCodes

BINS = ALL_AROUND.count


def tiny_gan(folder, seed=0):
    """A random generator of 32 px images."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    config = GeneratorConfig(resolution=32, channels={4: 8, 8: 8, 16: 8, 32: 8}, z_dim=8, w_dim=8)
    save_gan(folder, Generator(config), None, {"name": "tiny", "world": "cars"})
    return Gan(folder)


def tiny_annotator(folder, seed=0, world="cars"):
    """An annotator that has learnt nothing."""
    torch.manual_seed(seed)
    net = AnnotatorNet(annotator_config(get_world(world), world, 64, 11.0))
    Annotator(net, {"name": "tiny-annotator", "figures": {"miou_fine": 0.01}}).save(folder)
    return AnnotatorFolder(folder)


def view_codes(folder, gan, shapes=("",)):
    """Random latents that claim to be viewpoint codes, twelve of each shape."""
    loaded = load_gan(gan.path)
    count = BINS * len(shapes)
    w = np.random.default_rng(0).standard_normal((count, loaded.generator.config.w_dim)).astype(np.float32)
    codes = tuple(
        ViewCode(i, i % BINS, 30.0 * (i % BINS), 1.0, 10.0, 11.0, 0.0, "hand", shapes[i // BINS]) for i in range(count)
    )
    ViewCodeSet(codes, w, early_layers(loaded.generator.synthesis), loaded.sha256, 1.0).save(folder)
    return ViewCodes(folder)
