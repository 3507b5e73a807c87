"""train-interpreter on a small generator: what it writes, how good it is, and what it refuses."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from ganfoundry.errors import InputError, RunError
from ganfoundry.labels import direction
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.labelset import LabelSet
from pipeline.artifacts import Gan, Interpreter, Labels, Writer
from pipeline.errors import UserError
from pipeline.stage import Context
from tests.stages.labelhelp import shades_gan, shades_interpreter, shades_labels
from tests.stages.viewhelp import view_codes


@pytest.fixture(scope="module")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Gan:
    return shades_gan(tmp_path_factory.mktemp("gan"))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory, gan: Gan) -> Labels:
    return shades_labels(tmp_path_factory.mktemp("labels"), gan)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, gan: Gan, labels: Labels) -> Writer[Interpreter]:
    return shades_interpreter(tmp_path_factory.mktemp("interpreter"), gan, labels, folds=3)


def test_it_learns_and_generalises(trained: Writer[Interpreter]) -> None:
    figures = {k: float(v) for k, v in trained.figures.items()}
    assert figures["training_accuracy"] > 0.85
    assert figures["held_out_accuracy"] > 0.8  # chance is 0.25
    assert 0 < figures["held_out_miou"] <= figures["training_miou"] + 0.05


def test_the_description_says_what_the_weights_mean(trained: Writer[Interpreter], gan: Gan) -> None:
    table = json.loads((trained.path / "interpreter.json").read_text("utf-8"))
    assert table["classes"] == ["background", "dim", "mid", "bright"]
    assert len(table["palette"]) == 4
    assert table["generator_sha256"] == gan.generator_sha256
    assert table["layers"] == ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    assert table["provenance"] == {"labels": "by features"}
    assert table["labelled_images"] == 6
    config = StyleInterpreter.load(trained.path / "interpreter.safetensors").config
    assert (config.members, config.hidden, config.num_classes, config.resolution) == (3, (32, 16), 4, 16)
    with Image.open(trained.path / "examples.png") as picture:
        assert picture.size == (2 * 4 * 32 + 6, 3 * 32 + 12)


def test_training_again_gives_the_same_bytes(
    tmp_path: Path, gan: Gan, labels: Labels, trained: Writer[Interpreter]
) -> None:
    shades_interpreter(tmp_path, gan, labels, folds=0)
    weights = "interpreter.safetensors"
    assert (tmp_path / weights).read_bytes() == (trained.path / weights).read_bytes()


def test_options_reach_the_interpreter(tmp_path: Path, gan: Gan, labels: Labels) -> None:
    options = {"level": "two", "layers": ("b8.conv1", "b16.conv1"), "voting": "majority", "upsampling": "nearest"}
    out = shades_interpreter(tmp_path, gan, labels, steps=2, folds=0, **options)
    config = StyleInterpreter.load(tmp_path / "interpreter.safetensors").config
    assert config.layers == (("b8.conv1", 8), ("b16.conv1", 8))
    assert (config.num_classes, config.voting, config.mode) == (2, "majority", "nearest")
    assert "held_out_miou" not in out.figures


def test_another_generator_is_refused(tmp_path: Path, labels: Labels) -> None:
    other = shades_gan(tmp_path / "other", seed=1)
    with pytest.raises(InputError, match="belong to the generator"):
        shades_interpreter(tmp_path / "out", other, labels)


def test_latents_of_other_pictures_are_refused(tmp_path: Path, gan: Gan, labels: Labels) -> None:
    """The published code's off-by-one (mask i with latent i - 1) cannot happen here."""
    folder = tmp_path / "labels"
    shutil.copytree(labels.path, folder)
    path = folder / "latents.safetensors"
    w = safetensors.numpy.load_file(path)["w"]
    safetensors.numpy.save_file({"w": np.roll(w, 1, axis=0)}, path)
    with pytest.raises(UserError, match=r"sample-\d: its latent makes a picture that differs .* restore both") as error:
        shades_interpreter(tmp_path / "out", gan, Labels(folder))
    assert error.value.exit_code == 2
    assert not (tmp_path / "out" / "interpreter.safetensors").exists()


def test_a_pixel_retouched_in_a_picture_is_no_reason_to_refuse(tmp_path: Path, gan: Gan, labels: Labels) -> None:
    folder = tmp_path / "labels"
    shutil.copytree(labels.path, folder)
    path = folder / "images" / "sample-0.png"
    pixels = np.array(Image.open(path))
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(path)
    shades_interpreter(tmp_path / "out", gan, Labels(folder), steps=1, folds=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"layers": ("b8.conv7",)}, "no layer b8.conv7"), ({"level": "parts99"}, "no level 'parts99'")],
)
def test_unknown_names_are_refused(tmp_path: Path, gan: Gan, labels: Labels, options: dict, sentence: str) -> None:
    with pytest.raises((UserError, InputError), match=sentence):
        shades_interpreter(tmp_path, gan, labels, **options)


def test_the_level_follows_from_the_schema(tmp_path: Path, gan: Gan, labels: Labels) -> None:
    for level, expected in ((None, "two"), ("fine", "fine")):
        out = shades_interpreter(tmp_path / str(level), gan, labels, steps=2, folds=0, level=level)
        assert json.loads((out.path / "interpreter.json").read_text("utf-8"))["level"] == expected


@pytest.mark.parametrize(("parts", "sentence"), [([0], "nothing but background"), ([3], "nothing but bright")])
def test_labels_without_parts_are_refused(
    tmp_path: Path, gan: Gan, labels: Labels, parts: list[int], sentence: str
) -> None:
    given = LabelSet.load(labels.path)
    replace(given, masks=np.full_like(given.masks, parts[0])).save(tmp_path / "labels")
    with pytest.raises(UserError, match=sentence):
        shades_interpreter(tmp_path / "out", gan, Labels(tmp_path / "labels"))


def test_a_class_without_a_pixel_is_named(
    tmp_path: Path, gan: Gan, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(Context, "log", lambda self, message: said.append(message))
    given = LabelSet.load(labels.path)
    replace(given, masks=np.minimum(given.masks, 2)).save(tmp_path / "labels")
    out = shades_interpreter(tmp_path / "out", gan, Labels(tmp_path / "labels"), direction=False, steps=2, folds=0)
    assert said == ["no labelled image shows bright: the interpreter will never find it"]
    assert len(json.loads((out.path / "interpreter.json").read_text("utf-8"))["classes"]) == 4


def test_a_training_that_diverges_is_one_sentence(tmp_path: Path, gan: Gan, labels: Labels) -> None:
    with pytest.raises(RunError, match="diverged: lower the learning rate"):
        shades_interpreter(tmp_path, gan, labels, steps=8, folds=0, learning_rate=1e30)


@pytest.fixture
def with_keypoints(tmp_path: Path, labels: Labels) -> Labels:
    """The same labels with two keypoints: the brightest pixel, and one that is hidden in half of the images."""
    given = LabelSet.load(labels.path)
    brightest = [np.unravel_index(image.sum(2).argmax(), image.shape[:2]) for image in given.images]
    keypoints = np.array([[[x + 0.5, y + 0.5, 2], [4, 9, 1 + index % 2]] for index, (y, x) in enumerate(brightest)])
    schema = replace(given.schema, keypoints=("brightest", "blinking"))
    weights = np.array([1, 1, 1, 1, 0.5, 0.25], np.float32)
    replace(given, schema=schema, keypoints=keypoints.astype(np.float32), weights=weights).save(tmp_path / "points")
    return Labels(tmp_path / "points")


def test_keypoints_are_learnt_measured_and_drawn(tmp_path: Path, gan: Gan, with_keypoints: Labels) -> None:
    out = shades_interpreter(tmp_path / "out", gan, with_keypoints, steps=20, folds=2)
    assert {"training_pck_5", "training_pck_10", "held_out_pck_5", "held_out_visibility_auroc"} <= set(out.figures)
    table = json.loads((out.path / "interpreter.json").read_text("utf-8"))
    assert table["keypoints"] == ["brightest", "blinking"]
    config = StyleInterpreter.load(out.path / "interpreter.safetensors").config
    assert config.num_keypoints == 2
    assert config.visibility[0] > 0
    none = shades_interpreter(tmp_path / "none", gan, with_keypoints, steps=2, folds=0, keypoints=False)
    assert StyleInterpreter.load(none.path / "interpreter.safetensors").config.num_keypoints == 0
    assert json.loads((none.path / "interpreter.json").read_text("utf-8"))["keypoints"] == []


def test_figures_that_do_not_exist_are_left_out(tmp_path: Path, gan: Gan, with_keypoints: Labels) -> None:
    given = LabelSet.load(with_keypoints.path)
    assert given.keypoints is not None
    keypoints = given.keypoints.copy()
    keypoints[..., 2] = 1
    replace(given, keypoints=keypoints).save(tmp_path / "hidden")
    out = shades_interpreter(tmp_path / "out", gan, Labels(tmp_path / "hidden"), steps=2, folds=2)
    assert "training_miou" in out.figures
    assert not [name for name in out.figures if "pck" in name or "visibility" in name]


def test_weights_of_samples_reach_the_training(tmp_path: Path, gan: Gan, with_keypoints: Labels) -> None:
    given = LabelSet.load(with_keypoints.path)
    assert given.weights is not None
    replace(given, weights=None).save(tmp_path / "even")
    files = [
        shades_interpreter(tmp_path / name, gan, source, steps=3, folds=0).path / "interpreter.safetensors"
        for name, source in (("weighted", with_keypoints), ("not", Labels(tmp_path / "even")))
    ]
    assert files[0].read_bytes() != files[1].read_bytes()


def test_viewpoint_codes_teach_directions(
    tmp_path: Path, gan: Gan, labels: Labels, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = partial(direction.DirectionTraining, images=24, steps=4, batch=8)
    monkeypatch.setattr(direction, "DirectionTraining", quick)
    views = view_codes(tmp_path / "views", gan)
    made = shades_interpreter(tmp_path / "with", gan, labels, views, steps=3, folds=2)
    found = StyleInterpreter.load(made.path / "interpreter.safetensors")
    assert found.config.layers[-1] == ("direction", 2)
    table = json.loads((made.path / "interpreter.json").read_text("utf-8"))
    assert table["direction"] is True
    assert set(table["layers"]) == {"b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"}  # what is read
    for folder, options in (("declined", {"direction": False}), ("paper", {"preset": "paper"})):
        made = shades_interpreter(tmp_path / folder, gan, labels, views, steps=3, folds=0, **options)
        assert StyleInterpreter.load(made.path / "interpreter.safetensors").direction is None


def test_viewpoint_codes_of_another_generator_are_refused(tmp_path: Path, gan: Gan, labels: Labels) -> None:
    views = view_codes(tmp_path / "views", shades_gan(tmp_path / "other", seed=1))
    with pytest.raises(UserError, match="of another generator: give those of this one with --views, or --no-direction"):
        shades_interpreter(tmp_path / "out", gan, labels, views)
    assert not (tmp_path / "out" / "interpreter.safetensors").exists()


@pytest.mark.parametrize("preset", ["paper", "released-code"])
def test_presets(tmp_path: Path, gan: Gan, labels: Labels, preset: str) -> None:
    """Published presets train as they are, here in few steps, and say in the file what synthesize should do."""
    own = {key: None for key in ("members", "learning_rate", "dropout")}
    shades_interpreter(tmp_path, gan, labels, preset=preset, steps=4, folds=0, **{**own, "hidden": ()})
    config = StyleInterpreter.load(tmp_path / "interpreter.safetensors").config
    table = json.loads((tmp_path / "interpreter.json").read_text("utf-8"))
    released = preset == "released-code"
    assert config.preset == table["preset"] == preset
    assert config.filter_rule == table["filter_rule"] == ("released-code" if released else "most-uncertain")
    assert config.image_score == table["image_score"] == ("top-tenth" if released else "mean")
    assert (config.members, config.hidden, config.voting) == (10, (128, 32), "majority")
    assert table["layers"] == (
        [f"b{r}.conv1{raw}" for r in (4, 8, 16) for raw in ("", ":raw")]
        if released
        else ["b4.conv1", "b8.conv0", "b8.conv1", "b16.conv0", "b16.conv1"]
    )
