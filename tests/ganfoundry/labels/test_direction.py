"""The direction head: what it learns from viewpoint codes, and how the interpreter reads it."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ganfoundry.data.seeds import LABEL, sample_integer
from ganfoundry.errors import InputError
from ganfoundry.gan.latents import compose_styles, content_codes
from ganfoundry.gan.stylegan2 import Generator, GeneratorConfig
from ganfoundry.labels.direction import (
    DIRECTION,
    GAIN,
    DirectionHead,
    DirectionTraining,
    coarse_layers,
    num_advances,
    stacked,
    train_direction,
    with_direction,
)
from ganfoundry.labels.distillation import Distillation, DistilledHead, distil
from ganfoundry.labels.feature_table import FeatureTable
from ganfoundry.labels.interpreter import StyleInterpreter, Training
from ganfoundry.labels.synthesis import images_and_features, images_and_table, label_samples
from ganfoundry.views import ViewCode, ViewCodeSet, early_layers

torch.set_num_threads(1)
QUICK = DirectionTraining(images=96, steps=80, batch=32)
BINS = (0, 3, 6, 9)


@pytest.fixture(scope="module")
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(GeneratorConfig(resolution=32, channels={4: 8, 8: 8, 16: 8, 32: 8}, z_dim=8, w_dim=8)).eval()


def codes_of(generator: Generator, bins: tuple[int, ...] = BINS) -> ViewCodeSet:
    """Codes far apart, so that even an untrained generator shows which one it was."""
    w = 4 * np.random.default_rng(0).standard_normal((len(bins), 8)).astype(np.float32)
    made = tuple(ViewCode(i, b, 30.0 * b, 0.0, 0.0, 1.0, 0.0, "hand") for i, b in enumerate(bins))
    return ViewCodeSet(made, w, early_layers(generator.synthesis), "0" * 64, 1.0)


def seen_from(generator: Generator, codes: ViewCodeSet, code: int, count: int) -> dict[str, torch.Tensor]:
    """Feature maps of unseen contents from one code."""
    contents = content_codes(generator, [sample_integer(1, LABEL, i) for i in range(count)], 0.7)
    styles = compose_styles(generator.synthesis, contents, torch.from_numpy(codes.w[code : code + 1]), codes.layers)
    with torch.inference_mode():
        _, features = generator.synthesis(styles=styles, noise="const", features=list(generator.synthesis.feature_dims))
    return features  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def head(generator: Generator) -> DirectionHead:
    return train_direction(generator, codes_of(generator), QUICK)


def test_directions_of_unseen_contents_are_found(generator: Generator, head: DirectionHead) -> None:
    codes = codes_of(generator)
    for row, number in enumerate(BINS):
        found = head(seen_from(generator, codes, row, 5))[:, :, 0, 0] / GAIN
        angle = np.deg2rad(30.0 * number)
        expected = torch.tensor([np.cos(angle), np.sin(angle)], dtype=torch.float32)
        assert F.cosine_similarity(found, expected[None]).min() > 0.8  # chance: as often below 0 as above


def test_an_image_does_not_depend_on_its_neighbours(generator: Generator, head: DirectionHead) -> None:
    features = seen_from(generator, codes_of(generator), 1, 4)
    together = head(features)
    alone = torch.cat([head({name: value[i : i + 1] for name, value in features.items()}) for i in range(4)])
    assert torch.equal(together, alone)


def test_the_same_seed_gives_the_same_head_and_leaves_torch_s_own_alone(
    generator: Generator, head: DirectionHead
) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = train_direction(generator, codes_of(generator), QUICK)
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, again.tensors()[name]) for name, value in head.tensors().items())
    other = train_direction(generator, codes_of(generator), DirectionTraining(images=96, steps=80, batch=32, seed=1))
    assert not torch.equal(other.mean, head.mean)


def test_progress_is_told_as_announced(generator: Generator) -> None:
    told: list[int] = []
    short = DirectionTraining(images=16, steps=3, batch=4)
    train_direction(generator, codes_of(generator), short, told.append)
    assert sum(told) == num_advances(codes_of(generator), short) == 16 + 3


def test_codes_of_one_bin_teach_nothing(generator: Generator) -> None:
    with pytest.raises(InputError, match="one azimuth bin"):
        train_direction(generator, codes_of(generator, (4, 4)), QUICK)


def test_maps_of_the_coarse_sides_are_read() -> None:
    dims = {"b4": (1, 4), "b8.conv0": (2, 8), "b8.conv1": (3, 8), "b16": (4, 16), "b64": (5, 64)}
    assert coarse_layers(dims) == (("b8.conv1", 3), ("b16", 4))
    assert coarse_layers({"L0": (7, 148), "L1": (8, 276)}) == (("L0", 7),)


def test_maps_of_all_sides_are_brought_to_one() -> None:
    maps = {"a": torch.arange(64.0).view(1, 1, 8, 8), "b": torch.arange(32.0**2).view(1, 1, 32, 32)}
    found = stacked(maps, ["b", "a"])
    assert found.shape == (1, 2, 16, 16)
    assert found[0, 0, 0, 0] == maps["b"][0, 0, :2, :2].mean()
    assert torch.equal(found[0, 1, ::2, ::2], maps["a"][0, 0])


def test_a_missing_map_is_named(generator: Generator, head: DirectionHead) -> None:
    features = seen_from(generator, codes_of(generator), 0, 1)
    del features["b16.conv1"]
    with pytest.raises(InputError, match=r"b16\.conv1"):
        head(features)


# ---------------------------------------------------------------- in the interpreter


def taught(generator: Generator, head: DirectionHead | None, layers: list[str], steps: int = 150) -> StyleInterpreter:
    """An interpreter of images, two from each code, that are all of one class: front or back."""
    codes = codes_of(generator)
    features = [seen_from(generator, codes, row, 2) for row in range(4)]
    joined = {name: torch.cat([one[name] for one in features]) for name in features[0]}
    labels = np.repeat([0, 0, 1, 1], 2)[:, None, None] * np.ones((1, 32, 32), np.uint8)
    table = FeatureTable.build([with_direction(joined, layers, head)], 8, 32, unscaled=(DIRECTION,))
    training = Training(steps=steps, batch_pixels=64)
    return StyleInterpreter.fit(
        table, labels.astype(np.uint8), 2, members=3, hidden=(8, 8), training=training, direction=head
    )


@pytest.fixture(scope="module")
def interpreter(generator: Generator, head: DirectionHead) -> StyleInterpreter:
    return taught(generator, head, ["b32.conv1"])


def test_the_interpreter_hears_the_direction(
    generator: Generator, head: DirectionHead, interpreter: StyleInterpreter
) -> None:
    codes = codes_of(generator)
    assert interpreter.config.layers == (("b32.conv1", 8), (DIRECTION, 2))
    assert interpreter.reads == ["b32.conv1", *(name for name in head.names if name != "b32.conv1")]
    for row, expected in enumerate((0, 0, 1, 1)):
        label = interpreter.predict(seen_from(generator, codes, row, 3)).label
        assert (label == expected).float().mean() > 0.95


def test_the_file_holds_the_head(interpreter: StyleInterpreter, generator: Generator, tmp_path: Path) -> None:
    path = tmp_path / "interpreter.safetensors"
    interpreter.save(path, {"generator_sha256": "1"})
    loaded = StyleInterpreter.load(path)
    features = seen_from(generator, codes_of(generator), 2, 2)
    ours, theirs = interpreter.predict(features), loaded.with_config(voting="soft").predict(features)
    assert torch.equal(ours.label, theirs.label)
    assert torch.equal(ours.uncertainty, theirs.uncertainty)
    before = path.read_bytes()
    loaded.save(path, {"generator_sha256": "1"})
    assert path.read_bytes() == before


def test_samples_are_labelled_through_the_maps_it_reads(generator: Generator, interpreter: StyleInterpreter) -> None:
    w = content_codes(generator, [1, 2, 3], 0.7)
    made = label_samples(generator.synthesis, interpreter, w, batch=2)
    _, features = images_and_features(generator.synthesis, w, list(generator.synthesis.feature_dims))
    np.testing.assert_array_equal(made.label, interpreter.predict(features).label.numpy())


def test_a_table_made_of_latents_holds_the_direction_as_it_is(generator: Generator, head: DirectionHead) -> None:
    w = content_codes(generator, [1, 2], 0.7)
    _, table = images_and_table(generator.synthesis, w, ["b8.conv1"], direction=head)
    _, features = images_and_features(generator.synthesis, w, list(generator.synthesis.feature_dims))
    assert table.layers == (("b8.conv1", 8), (DIRECTION, 2))
    found = torch.cat([table.features(i)[DIRECTION] for i in range(2)])
    torch.testing.assert_close(found, head(features), rtol=2e-3, atol=0.05)  # kept in half precision
    assert table.mean[-2:].tolist() == [0, 0]
    assert table.deviation[-2:].tolist() == [1, 1]


def test_untrained_weights_of_the_direction_are_silent(generator: Generator, head: DirectionHead) -> None:
    """One labelled direction teaches nothing of the others: what it never saw vary must not change labels."""
    layers = ["b32.conv1"]
    one = seen_from(generator, codes_of(generator), 0, 1)
    label = (np.arange(32 * 32).reshape(1, 32, 32) % 2).astype(np.uint8)
    still = {name: value.clone() for name, value in with_direction(one, layers, head).items()}
    still[DIRECTION] = torch.zeros(1, 2, 1, 1)
    table = FeatureTable.build([still], 1, 32, unscaled=(DIRECTION,))
    training = Training(steps=5, batch_pixels=32)
    found = StyleInterpreter.fit(table, label, 2, members=2, hidden=(8, 8), training=training, direction=head)
    assert not found.weights[0][..., -2:].any()


def test_a_student_keeps_the_head(generator: Generator, interpreter: StyleInterpreter, tmp_path: Path) -> None:
    codes = codes_of(generator)
    samples = [seen_from(generator, codes, row, 2) for row in range(4)]
    student = distil(
        interpreter, samples, Distillation(images=8, pixels=64, steps=120, batch_pixels=128, hidden=(8, 8))
    )
    student.save(tmp_path / "student.safetensors")
    loaded = DistilledHead.load(tmp_path / "student.safetensors")
    assert loaded.reads == interpreter.reads
    label = torch.cat([loaded.predict(one).label for one in samples]).float().mean((1, 2)).round()
    assert label.tolist() == [0] * 4 + [1] * 4
