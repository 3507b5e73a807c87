"""A StyleGAN3 checkpoint goes through the chain: NVIDIA's file, views, labels, a labelled set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganfoundry.data.shards import ShardReader
from ganfoundry.gan import stylegan3
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.images import stored_images
from pipeline.artifacts import Gan, Interpreter, LabelledSet, ViewSet, Writer
from pipeline.stage import Context
from stages import generate_views, import_gan, synthesize
from tests.ganfoundry.gan.picklehelp import dump, file_of, persistent
from tests.ganfoundry.gan.test_stylegan2_golden import Golden
from tests.ganfoundry.gan.test_stylegan3_golden import reference_kwargs, stylegan3_of
from tests.stages.labelhelp import shades_interpreter, shades_labels
from tests.stages.viewhelp import view_codes


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Gan:
    folder, golden = tmp_path_factory.mktemp("gan"), Golden("sg3t_32_clamp")
    network = persistent(stylegan3_of(golden), "Generator", reference_kwargs(golden), attributes=False)
    source = dump(folder / "stylegan3-t.pkl", file_of(network))
    out: Writer[Gan] = Writer(folder / "out")
    import_gan.run(import_gan.Config(source=str(source), num_samples=4), out, Context())
    assert out.figures["resolution"] == 32
    with Image.open(folder / "out" / "samples.png") as picture:
        assert picture.height == 128
    return Gan.open(folder / "out")


def test_import_keeps_the_images(gan: Gan) -> None:
    generator, golden = load_gan(gan.path).generator, Golden("sg3t_32_clamp")
    assert isinstance(generator, stylegan3.Generator)
    golden.check("out/img_psi1", generator(golden["in/z"]))


@pytest.mark.parametrize("noise", ["const", "seeded"])
def test_views(gan: Gan, tmp_path: Path, noise: str) -> None:
    views = view_codes(tmp_path / "codes", gan)
    out: Writer[ViewSet] = Writer(tmp_path / "out", "test")
    config = generate_views.Config(num_objects=2, noise=noise)  # type: ignore[arg-type]
    generate_views.run(config, gan, views, out, Context())
    images = ShardReader(tmp_path / "out" / "shards").read("image")
    assert images.shape == (24, 32, 32, 3)
    assert len(np.unique(images, axis=0)) == 24


def test_labels(gan: Gan, tmp_path: Path) -> None:
    labels = shades_labels(tmp_path / "labels", gan)
    shades_interpreter(tmp_path / "interpreter", gan, labels, folds=0)
    out: Writer[LabelledSet] = Writer(tmp_path / "out", "test")
    config = synthesize.Config(num_samples=6, rows_per_shard=3)
    synthesize.run(config, gan, Interpreter(tmp_path / "interpreter"), out, Context())
    reader = ShardReader(tmp_path / "out" / "shards")
    assert reader.read("label").shape == (6, 32, 32)
    assert len(np.unique(reader.read("label"))) == 4
    generator, w = load_gan(gan.path).generator, reader.read("w")
    made = stored_images(generator.synthesis(generator.w_avg.new_tensor(w)))
    assert np.abs(made.astype(int) - reader.read("image")).max() <= 1
