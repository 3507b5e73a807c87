"""The batched ensemble against independent networks; training on separable features; files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from ganfoundry.errors import InputError
from ganfoundry.labels.factorised import Mode, concatenated
from ganfoundry.labels.interpreter import InterpreterConfig, StyleInterpreter, Training
from ganfoundry.labels.member_networks import initial_parameters
from ganfoundry.labels.uncertainty import image_score, jensen_shannon

torch.set_num_threads(1)
FAST = Training(steps=60, batch_pixels=64, learning_rate=1e-2)


def world(images: int = 3, classes: int = 4, side: int = 16, seed: int = 0) -> tuple[dict[str, Tensor], np.ndarray]:
    """Rectangles as labels, and features of which a noisy mixture of few channels tells the class."""
    random = np.random.default_rng(seed)
    labels = np.zeros((images, side, side), np.uint8)
    for label in labels:
        for part in range(1, classes):
            y, x = random.integers(1, side - 5, 2)
            label[y : y + 4, x : x + 5] = part
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(labels).long(), classes).permute(0, 3, 1, 2).float()
    noise = torch.Generator().manual_seed(seed)
    features = {
        "b4": 5 + torch.randn(images, 6, 4, 4, generator=noise),
        "b8": 30 * torch.randn(images, 5, 8, 8, generator=noise),
        "b16": 0.2 * torch.randn(images, classes + 2, side, side, generator=noise) - 1,
    }
    features["b16"][:, :classes] += one_hot
    return features, labels


def random_interpreter(
    features: dict[str, Tensor], *, members: int = 5, mode: Mode = "bilinear", **settings: Any
) -> StyleInterpreter:
    layers = tuple((name, feature.shape[1]) for name, feature in features.items())
    config = InterpreterConfig(4, layers, 16, members, (12, 7), mode, **settings)
    random = torch.Generator().manual_seed(1)
    weights, biases = initial_parameters(config.widths, members, random)
    biases = [0.3 * torch.randn(b.shape, generator=random) for b in biases]
    return StyleInterpreter(config, [w * 1.5 for w in weights], biases)


def independent_networks(interpreter: StyleInterpreter) -> list[nn.Sequential]:
    """The same weights as ordinary torch networks."""
    networks = []
    for member in range(interpreter.config.members):
        modules: list[nn.Module] = []
        for weight, bias in zip(interpreter.weights, interpreter.biases, strict=True):
            linear = nn.Linear(weight.shape[2], weight.shape[1])
            linear.load_state_dict({"weight": weight[member], "bias": bias[member]})
            modules += [linear, nn.ReLU()]
        networks.append(nn.Sequential(*modules[:-1]))
    return networks


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
@pytest.mark.parametrize("voting", ["soft", "majority"])
def test_prediction_is_that_of_independent_networks(mode: Mode, voting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ganfoundry.labels.interpreter._GROUP_UNITS", 24)  # members in groups of 2, 2 and 1
    features, _ = world()
    interpreter = random_interpreter(features, mode=mode, voting=voting)
    ours = interpreter.predict(features, probabilities=True)
    with torch.inference_mode():
        for n in range(3):
            tall = concatenated([f[n] for f in features.values()], 16, mode).flatten(1).T
            p = torch.stack([net(tall).softmax(1) for net in independent_networks(interpreter)])
            shares = p.mean(0) if voting == "soft" else nn.functional.one_hot(p.argmax(2), 4).float().mean(0)
            expected = jensen_shannon(p.transpose(1, 2).reshape(5, 1, 4, 16, 16))[0]
            assert (ours.uncertainty[n] - expected).abs().max() < 1e-5
            assert ours.probabilities is not None
            assert (ours.probabilities[n].flatten(1).T - shares).abs().max() < 1e-5
            margin = shares.topk(2, 1).values.diff(dim=1).abs()[:, 0] > 1e-4
            assert torch.equal(ours.label[n].flatten()[margin].long(), shares.argmax(1)[margin])
    assert torch.equal(ours.score, image_score(ours.uncertainty))


def test_a_tied_vote_goes_to_the_smallest_class() -> None:
    features = {"map": torch.zeros(1, 1, 4, 4)}
    config = InterpreterConfig(4, (("map", 1),), 4, 4, (2,), voting="majority")
    last = torch.tensor([[0, 0, 9, 0], [0, 9, 0, 0], [0, 0, 9, 0], [0, 9, 0, 0]], dtype=torch.float32)
    interpreter = StyleInterpreter(config, [torch.zeros(4, 2, 1), torch.zeros(4, 4, 2)], [torch.zeros(4, 2), last])
    assert interpreter.predict(features).label.eq(1).all()
    interpreter.biases[1] = torch.zeros(4, 4)
    assert interpreter.predict(features).label.eq(0).all()


def test_training_learns_separable_classes_and_generalises() -> None:
    features, labels = world()
    steps = []
    interpreter = StyleInterpreter.fit(features, labels, 4, members=3, training=FAST, advance=lambda: steps.append(1))
    assert len(steps) == FAST.steps
    assert (interpreter.predict(features).label.numpy() == labels).mean() > 0.99
    unseen, truth = world(seed=5)
    prediction = interpreter.predict(unseen)
    assert (prediction.label.numpy() == truth).mean() > 0.97
    low = interpreter.predict(unseen, dtype=torch.bfloat16)
    assert (low.label == prediction.label).float().mean() > 0.98


def test_uncertainty_is_higher_where_the_label_is_wrong() -> None:
    features, labels = world()
    interpreter = StyleInterpreter.fit(features, labels, 4, members=5, training=FAST)
    unseen, truth = world(images=6, seed=7)
    unseen["b16"] = unseen["b16"] + 0.5 * torch.randn(unseen["b16"].shape, generator=torch.Generator().manual_seed(0))
    prediction = interpreter.predict(unseen)
    wrong = prediction.label.numpy() != truth
    assert wrong.any()
    assert prediction.uncertainty.numpy()[wrong].mean() > 2 * prediction.uncertainty.numpy()[~wrong].mean()


def test_training_is_deterministic_and_the_seed_matters() -> None:
    features, labels = world()
    short = Training(steps=5, batch_pixels=32)
    a, b = (StyleInterpreter.fit(features, labels, 4, members=2, training=short) for _ in range(2))
    other = StyleInterpreter.fit(features, labels, 4, members=2, training=Training(steps=5, batch_pixels=32, seed=1))
    for x, y in zip(a.weights + a.biases, b.weights + b.biases, strict=True):
        assert torch.equal(x, y)
    assert not torch.equal(a.weights[0], other.weights[0])
    assert not torch.equal(a.weights[0][0], a.weights[0][1])  # members start differently


def test_widths_depend_on_the_number_of_classes() -> None:
    features, labels = world()
    one = Training(steps=1, batch_pixels=8)
    assert StyleInterpreter.fit(features, labels, 4, members=1, training=one).config.hidden == (128, 64)
    assert StyleInterpreter.fit(features, labels, 32, members=1, training=one).config.hidden == (256, 128)


def test_the_prior_only_moves_the_last_bias() -> None:
    features, labels = world()
    fits = [
        StyleInterpreter.fit(features, labels, 4, members=2, training=Training(steps=3, batch_pixels=64, prior=prior))
        for prior in (0.0, 0.5, 1.0)
    ]
    none, half, full = (fit.biases[-1] for fit in fits)
    assert all(torch.equal(fits[0].weights[i], fits[2].weights[i]) for i in range(3))
    assert torch.allclose(half - none, (full - none) / 2, atol=1e-6)
    assert (full - none)[:, 0].min() > 0  # balancing drew the background too seldom
    assert (full - none)[:, 1:].max() < 0


def test_bad_labels_are_refused() -> None:
    features, labels = world()
    with pytest.raises(InputError, match="holds class id 3, but there are only 3 classes"):
        StyleInterpreter.fit(features, labels, 3, members=1, training=FAST)
    with pytest.raises(InputError, match="2 label maps, but feature map b4 holds 3 images"):
        StyleInterpreter.fit(features, labels[:2], 4, members=1, training=FAST)
    with pytest.raises(InputError, match="labelled pixels in an image"):
        StyleInterpreter.fit(features, np.full_like(labels, 255), 4, members=1, training=FAST)


def test_bad_features_are_refused() -> None:
    features, _ = world()
    interpreter = random_interpreter(features)
    with pytest.raises(InputError, match="b8, which is missing"):
        interpreter.predict({k: v for k, v in features.items() if k != "b8"})
    with pytest.raises(InputError, match="b8 has 2 channels, the interpreter was trained on 5"):
        interpreter.predict(features | {"b8": features["b8"][:, :2]})


def test_file_round_trip_and_damage(tmp_path: Path) -> None:
    features, _ = world()
    interpreter = random_interpreter(features)
    path = tmp_path / "interpreter.safetensors"
    interpreter.save(path, {"generator_sha256": "0" * 64})
    loaded = StyleInterpreter.load(path)
    assert loaded.config == interpreter.config
    a, b = interpreter.predict(features), loaded.predict(features)
    assert torch.equal(a.label, b.label)
    assert torch.equal(a.uncertainty, b.uncertainty)
    interpreter.save(tmp_path / "again", {"generator_sha256": "0" * 64})
    assert path.read_bytes() == (tmp_path / "again").read_bytes()
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="cannot read the interpreter"):
        StyleInterpreter.load(path)
    with pytest.raises(InputError, match="cannot read the interpreter"):
        StyleInterpreter.load(tmp_path / "none")
    safetensors.torch.save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is not an interpreter file"):
        StyleInterpreter.load(path)
