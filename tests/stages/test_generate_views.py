import hashlib

import numpy as np
import pytest
import torch

from ganfoundry.data.seeds import CONTENT, sample_integer
from ganfoundry.data.shards import ShardReader
from ganfoundry.errors import InputError
from ganfoundry.gan.checkpoints import load_gan
from ganfoundry.gan.latents import content_codes
from ganfoundry.views import ViewCodeSet
from ganfoundry.views.synthesis import render_pairs
from pipeline.artifacts import Writer
from pipeline.executor import make_executor
from pipeline.stage import Context
from stages.generate_views import Config, run
from tests.stages.viewhelp import tiny_gan, view_codes


@pytest.fixture(scope="module")
def gan(tmp_path_factory):
    return tiny_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def views(tmp_path_factory, gan):
    return view_codes(tmp_path_factory.mktemp("views"), gan)


def digests(folder):
    files = sorted(path for path in (folder / "shards").glob("*.h5") if path.name != "index.h5")
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]


def generate(folder, gan, views, context=None, **options):
    out = Writer(folder, "test")
    run(Config(**options), gan, views, out, context or Context())
    return out


def test_one_row_for_every_object_and_code(tmp_path, gan, views):
    out = generate(tmp_path, gan, views, num_objects=3)
    reader = ShardReader(tmp_path / "shards")
    assert len(reader) == 36
    assert (out.figures["objects"], out.figures["views"], out.figures["images"]) == (3, 12, 36)
    assert reader.read("object").tolist() == np.repeat([0, 1, 2], 12).tolist()
    assert reader.read("view").tolist() == list(range(12)) * 3
    assert reader.read("seed").dtype == np.uint64
    assert reader.read("w_content").shape == (36, 8)
    assert reader.read("image").shape == (36, 32, 32, 3)
    assert (tmp_path / "sheet.png").is_file()


def test_objects_take_the_shapes_in_turn(tmp_path, gan):
    codes = view_codes(tmp_path / "codes", gan, shapes=("van", "coupe"))
    out = generate(tmp_path / "out", gan, codes, num_objects=3)
    reader = ShardReader(tmp_path / "out" / "shards")
    assert (out.figures["views"], out.figures["shapes"], out.figures["images"]) == (12, 2, 36)
    assert reader.read("view").tolist() == [*range(24), *range(12)]
    row, loaded, stored = reader.row(13), load_gan(gan.path), ViewCodeSet.load(codes.path)
    content = torch.from_numpy(row["w_content"][None])
    image = render_pairs(loaded.generator.synthesis, content, torch.from_numpy(stored.w[[13]]), stored.layers)[0]
    assert np.abs(image.astype(int) - row["image"]).max() <= 1
    assert np.abs(reader.row(1)["image"].astype(int) - row["image"]).max() > 1


def test_a_row_can_be_made_again_from_what_it_says(tmp_path, gan, views):
    generate(tmp_path, gan, views, num_objects=2, seed=7)
    row = ShardReader(tmp_path / "shards").row(17)
    assert int(row["seed"]) == sample_integer(7, CONTENT, 1)
    generator, codes = load_gan(gan.path).generator, ViewCodeSet.load(views.path)
    content = content_codes(generator, [int(row["seed"])], 0.7)
    np.testing.assert_allclose(row["w_content"], content[0], atol=1e-6)
    view = torch.from_numpy(codes.w[[int(row["view"])]])
    image = render_pairs(generator.synthesis, content, view, codes.layers)[0]
    assert np.abs(image.astype(int) - row["image"]).max() <= 1


def test_objects_do_not_depend_on_how_many_there_are(tmp_path, gan, views):
    generate(tmp_path / "few", gan, views, num_objects=2)
    generate(tmp_path / "more", gan, views, num_objects=11)
    few, more = (ShardReader(tmp_path / name / "shards") for name in ("few", "more"))
    for field in ("w_content", "seed", "object"):
        np.testing.assert_array_equal(few.read(field), more.read(field, 0, 24))
    assert np.abs(few.read("image").astype(int) - more.read("image", 0, 24)).max() <= 1


def test_same_bytes_again_and_after_an_interruption(tmp_path, gan, views):
    generate(tmp_path / "whole", gan, views, num_objects=25)

    class Killed(Exception):
        pass

    class OneShard:
        def map(self, function, tasks, label):
            yield 0, function(tasks[0])
            raise Killed

        def close(self):
            pass

    with pytest.raises(Killed):
        generate(tmp_path / "part", gan, views, Context(executor=OneShard()), num_objects=25)
    assert len(digests(tmp_path / "part")) == 1
    generate(tmp_path / "part", gan, views, num_objects=25)
    assert len(digests(tmp_path / "whole")) == 3
    assert digests(tmp_path / "part") == digests(tmp_path / "whole")


@pytest.mark.slow
def test_same_bytes_with_two_workers(tmp_path, gan, views):
    generate(tmp_path / "serial", gan, views, num_objects=25)
    executor = make_executor(2)
    try:
        generate(tmp_path / "workers", gan, views, Context(executor=executor), num_objects=25)
    finally:
        executor.close()
    assert digests(tmp_path / "serial") == digests(tmp_path / "workers")


def test_seeded_noise_is_the_objects_own(tmp_path, gan, views):
    generate(tmp_path / "a", gan, views, num_objects=1, noise="seeded")
    generate(tmp_path / "b", gan, views, num_objects=2, noise="seeded")
    one, two = (ShardReader(tmp_path / name / "shards").read("image", 0, 12).astype(int) for name in "ab")
    assert np.abs(one - two).max() <= 1


def test_codes_of_another_generator_are_refused(tmp_path, views):
    other = tiny_gan(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="annotate-views"):
        generate(tmp_path / "out", other, views, num_objects=1)
    assert not (tmp_path / "out" / "shards").exists()


def test_a_missing_code_file_is_one_sentence(tmp_path, gan, views):
    broken = type(views)(tmp_path / "nothing")
    with pytest.raises(InputError, match="annotate-views"):
        generate(tmp_path / "out", gan, broken, num_objects=1)
