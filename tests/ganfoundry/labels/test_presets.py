"""Every row in which DatasetGAN's paper and its released code differ, and what they share (facts of 2021)."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ganfoundry.downstream.networks import NetConfig, build_net
from ganfoundry.errors import InputError
from ganfoundry.labels.active import Survey, choose
from ganfoundry.labels.feature_table import FeatureTable
from ganfoundry.labels.interpreter import StyleInterpreter
from ganfoundry.labels.interpreter_config import InterpreterConfig, Training
from ganfoundry.labels.interpreter_training import Targets, _batches, _sampler, _Stopping
from ganfoundry.labels.member_networks import MemberNetworks
from ganfoundry.labels.presets import PRESETS, Preset, get_preset
from ganfoundry.labels.uncertainty import divergence, entropy

torch.set_num_threads(1)
PAPER, CODE, OURS = PRESETS["paper"], PRESETS["released-code"], PRESETS["ours"]
PUBLISHED = pytest.mark.parametrize("preset", [PAPER, CODE], ids=lambda p: p.name)


def world(images: int = 2, side: int = 8) -> tuple[FeatureTable, np.ndarray, np.ndarray]:
    """Halves of an image as classes, told by one channel; one keypoint."""
    labels = np.zeros((images, side, side), np.uint8)
    labels[:, :, side // 2 :] = 1
    noise = torch.Generator().manual_seed(0)
    features = {
        "coarse": torch.randn(images, 3, side // 2, side // 2, generator=noise),
        "fine": torch.randn(images, 3, side, side, generator=noise),
    }
    features["fine"][:, 0] += 3 * torch.from_numpy(labels).float()
    keypoints = np.tile(np.array([side / 2, side / 2, 1], np.float32), (images, 1, 1))
    return FeatureTable.build([features], images, side, standardise=False), labels, keypoints


def fitted(preset: Preset, classes: int = 2, **training: Any) -> StyleInterpreter:
    """Train a preset for a few steps."""
    table, labels, keypoints = world()
    table = replace(table, mode=preset.mode)
    short = replace(preset, members=2, training=replace(preset.training, **{"steps": 3, **training}))
    return short.fit(table, labels, classes, keypoints=keypoints)


def test_features() -> None:
    assert (PAPER.features, CODE.features) == ("all", "second-and-raw")  # names: test_feature_source.py


def test_resizing() -> None:
    assert (PAPER.mode, CODE.mode) == ("nearest", "bilinear")
    assert fitted(PAPER).config.mode == "nearest"


def test_pixel_sampling() -> None:
    """The code sees every pixel once an epoch, each member in an order of its own; the paper draws, every region."""
    _, labels, _ = world()
    config = InterpreterConfig(2, (("fine", 3),), 8, 3)
    targets = Targets.checked(labels, None, None)
    random = torch.Generator().manual_seed(0)
    sampler = _sampler(targets, config, CODE.training)
    epochs = list(_batches(sampler, 3, CODE.training, 4, random))
    assert [tuple(b.shape) for b in epochs] == [(3, 64)] * 4
    for epoch in (torch.cat(epochs[:2], 1), torch.cat(epochs[2:], 1)):
        assert torch.equal(epoch.sort(1).values, torch.arange(128).expand(3, -1))
    assert not torch.equal(epochs[0][0], epochs[0][1])
    labels[:, 3, 1:3] = 1  # a small region
    sampler = _sampler(Targets.checked(labels, None, None), config, replace(PAPER.training, min_pixels=1))
    drawn = torch.cat([b.flatten() for b in _batches(sampler, 3, PAPER.training, 2, random)]).numpy()
    assert all(np.isin(region, drawn).any() for region in sampler.regions)
    assert len(np.unique(drawn)) < 128


def test_image_score() -> None:
    assert (PAPER.image_score, CODE.image_score) == ("mean", "top-tenth")
    paper, code = fitted(PAPER), fitted(CODE)
    table, _, _ = world()
    for interpreter, share in ((paper, 1.0), (code, 0.1)):
        found = interpreter.predict(table.features(0))
        pixels = np.sort(found.uncertainty.numpy().ravel())
        assert float(found.score[0]) == pytest.approx(pixels[-int(64 * share) :].mean(), rel=1e-5)


@PUBLISHED
def test_divergence_is_of_mean_probabilities_not_of_mean_logits(preset: Preset) -> None:
    """Until September 2021 the code took the entropy of the mean logits; no preset does."""
    interpreter = fitted(preset)
    table, _, _ = world()
    tall = (
        table.gather(torch.arange(64))
        if preset.mode == "bilinear"
        else replace(table, mode="nearest").gather(torch.arange(64))
    )
    members = []
    for m in range(2):
        value: Tensor = tall
        for index, (w, b) in enumerate(zip(interpreter.weights, interpreter.biases, strict=True)):
            value = (value.relu() if index else value) @ w[m].T + b[m]
        members.append(value[:, :2])
    p = torch.stack(members).softmax(2)
    expected = divergence(p.mean(0), entropy(p, 2).mean(0), 1)
    found = interpreter.predict(table.features(0)).uncertainty.flatten()
    assert torch.allclose(found, expected, atol=2e-3)


def test_filter() -> None:
    assert (PAPER.filter_rule, PAPER.filter_fraction) == ("most-uncertain", 0.1)
    assert (CODE.filter_rule, CODE.filter_fraction) == ("released-code", 0.0)  # off; the slice: test_filtering.py
    assert (OURS.filter_rule, OURS.filter_fraction) == ("most-uncertain", 0.1)
    config = fitted(CODE).config
    assert (config.preset, config.filter_rule, config.filter_fraction) == ("released-code", "released-code", 0.0)


def test_keypoints() -> None:
    """Only the paper has them: beside the parts in the same networks, by the squared error of the heat."""
    assert fitted(CODE).config.num_keypoints == 0
    config = fitted(PAPER).config
    assert (config.num_keypoints, config.keypoint_head, config.heat) == (1, "shared", "linear")
    assert fitted(OURS).config.heat == "sigmoid"


@PUBLISHED
def test_vote(preset: Preset) -> None:
    assert preset.voting == "majority"
    assert OURS.voting == "soft"


@PUBLISHED
def test_networks(preset: Preset) -> None:
    """Linear, ReLU, batch normalisation; 128 and 32 units, or 256 and 128 from 32 classes on; normal(0, 0.02)."""
    assert preset.members == 10
    assert fitted(preset, 31).config.hidden == (128, 32)
    assert fitted(preset, 32).config.hidden == (256, 128)
    assert preset.training.batch_norm
    assert preset.training.dropout == 0
    assert not preset.training.standardise
    weights = MemberNetworks((400, 128, 32, 5), 2, preset.training, torch.Generator().manual_seed(0)).weights
    assert [float(w.detach().std()) for w in weights] == pytest.approx([0.02] * 3, rel=0.15)


@PUBLISHED
def test_optimiser(preset: Preset) -> None:
    training = preset.training
    assert (training.optimiser, training.learning_rate, training.batch_pixels) == ("adam", 1e-3, 64)
    assert training.prior == 0


@PUBLISHED
def test_small_regions_become_background(preset: Preset) -> None:
    assert (preset.training.min_pixels, preset.training.specks) == (30, "background")
    labels = np.zeros((1, 8, 8), np.uint8)
    labels[0, :4, :7] = 1
    labels[0, 4:, :] = 2
    sampler = _sampler(Targets.checked(labels, None, None), InterpreterConfig(3, (), 8), preset.training)
    assert sampler.counts.tolist() == [32, 0, 32]  # 28 pixels are too few


def stopped_at(losses: list[float], warm: int, patience: int) -> int:
    """Step of the released loop: from the fifth epoch on, more than `patience` steps without a lower loss."""
    best, waited = float("inf"), 0
    for step, loss in enumerate(losses, 1):
        if step > warm:
            best, waited = (loss, 0) if loss < best else (best, waited + 1)
            if waited > patience:
                return step
    return len(losses)


@PUBLISHED
def test_early_stop(preset: Preset) -> None:
    training = preset.training
    assert (training.patience, training.epochs, training.steps) == (50, 100, 0)
    assert training.num_steps(640) == 1000  # a hundred epochs of ten batches
    assert replace(training, steps=7).num_steps(640) == 7
    networks = [MemberNetworks((2, 3, 2), 3, training, torch.Generator().manual_seed(0))]
    stopping = _Stopping(networks, 3, training, 256)  # an epoch has four steps
    losses = np.random.default_rng(0).uniform(size=(300, 3)).astype(np.float32)
    losses[:, 2] = np.linspace(1, 0, 300)  # this one always falls until the end
    steps = [stopped_at(losses[:, m].tolist(), 16, 50) for m in range(3)]
    for step, loss in enumerate(losses, 1):
        with torch.no_grad():
            for tensor in networks[0].state():
                tensor.fill_(step)
        assert not stopping.done(torch.from_numpy(loss))
    stopping.restore()
    assert steps[2] == 300
    for member, step in enumerate(steps):
        assert all(float(t[member].detach().mean()) == step for t in networks[0].state())


def test_training_ends_by_itself() -> None:
    """An epoch has two steps: not before the fifth one, and long before the hundredth."""
    table, labels, _ = world()
    steps: list[int] = []
    small = replace(CODE, members=2, hidden=(4,), training=replace(CODE.training, patience=5, learning_rate=0.05))
    small.fit(table, labels, 2, advance=lambda: steps.append(1))
    assert 4 * 2 + 5 < len(steps) < 200


@PUBLISHED
def test_published_presets_learn(preset: Preset) -> None:
    table, labels, keypoints = world(4)
    table = replace(table, mode=preset.mode)
    small = replace(preset, members=2, training=replace(preset.training, steps=150))
    found = small.fit(table, labels, 2, keypoints=keypoints).predict(table.features(0))
    assert (found.label.numpy() == labels[:1]).mean() > 0.9


def test_backbone() -> None:
    """The code's DeepLab stands on ResNet-101: a hundred convolutions besides the shortcuts', and no classifier."""
    with torch.device("meta"):
        net = build_net(NetConfig("parts", ("background", "a"), "resnet101", resolution=256))
    names = [name for name, module in net.backbone.named_modules() if isinstance(module, torch.nn.Conv2d)]
    assert sum("downsample" not in name for name in names) == 100


def test_label_selection() -> None:
    """The paper's choice follows uncertainty and distance, the code's neither."""
    random = np.random.default_rng(0)
    pooled, score = random.standard_normal((40, 6)).astype(np.float32), random.random(40).astype(np.float32)
    one, other = (Survey(np.zeros((40, 4, 4, 3), np.uint8), pooled, s) for s in (score, 1 - score))

    def chosen(method: str, survey: Survey) -> list[int]:
        return list(choose(method, survey, 8, random=np.random.default_rng(1111)))

    assert chosen("core-set", one) != chosen("core-set", other)
    assert chosen("random", one) == chosen("random", other)


def test_unknown_preset() -> None:
    with pytest.raises(InputError, match="no preset 'mine'; there are ours, paper, released-code"):
        get_preset("mine")


def test_ours_is_the_default_of_everything() -> None:
    assert OURS.training == Training()
    config = fitted(OURS).config
    assert replace(config, preset="ours") == config
