"""A student against its teacher: what it is asked to say, that it learns it, and that it can be stored."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ganfoundry.errors import InputError
from ganfoundry.labels.distillation import Distillation, DistilledHead, _choose, _pixels, agreement, distil
from ganfoundry.labels.interpreter import StyleInterpreter, Training
from ganfoundry.labels.interpreter_config import InterpreterConfig

torch.set_num_threads(1)
SIDE, CLASSES = 16, 3
QUICK = Distillation(images=12, pixels=200, steps=800, batch_pixels=512, hidden=(32, 16))


def maps(count: int, seed: int) -> dict[str, Tensor]:
    """Smooth random feature maps."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 6, 4, 4, generator=random)
    fine = torch.nn.functional.interpolate(torch.randn(count, 3, 8, 8, generator=random), size=SIDE, mode="bilinear")
    return {"coarse": coarse, "fine": fine}


@pytest.fixture(scope="module")
def teacher() -> StyleInterpreter:
    features = maps(6, 0)
    shade = features["fine"][:, 0].numpy()
    labels = np.searchsorted(np.quantile(shade, [0.4, 0.8]), shade).astype(np.uint8)
    peak = shade.reshape(6, -1).argmax(1)
    points = np.stack([peak % SIDE + 0.5, peak // SIDE + 0.5, np.ones(6)], 1).astype(np.float32)[:, None]
    training = Training(steps=80, dropout=0.1, seed=1)
    return StyleInterpreter.fit(
        features, labels, CLASSES, members=4, hidden=(24, 12), keypoints=points, training=training
    )


@pytest.fixture(scope="module")
def head(teacher: StyleInterpreter) -> DistilledHead:
    return distil(teacher, (maps(4, seed) for seed in (10, 11, 12)), QUICK)


def test_the_student_learns_from_what_the_ensemble_says(teacher: StyleInterpreter) -> None:
    """Rows and targets against the concatenated features and the members' plain softmax, pixel by pixel."""
    features = maps(2, 20)
    settings = Distillation(images=2, pixels=40)
    rows, targets = _pixels(teacher, [features], settings, torch.Generator().manual_seed(3), lambda _: None)
    assert rows.shape == (80, 9)
    assert targets.shape == (80, CLASSES + 1 + 1)
    tall = torch.cat([torch.nn.functional.interpolate(f, size=SIDE, mode="bilinear") for f in features.values()], 1)
    flat = tall.permute(0, 2, 3, 1).reshape(-1, 9)
    position = torch.cdist(rows.float(), flat).argmin(1)
    assert (rows.float() - flat[position]).abs().max() < 5e-3
    value = flat[position].expand(4, -1, -1)
    for index, (weight, bias) in enumerate(zip(teacher.weights, teacher.biases, strict=True)):
        value = torch.baddbmm(bias[:, None], value.relu() if index else value, weight.transpose(1, 2))
    probability = value[..., :CLASSES].softmax(2)
    assert (targets[:, :CLASSES] - probability.mean(0)).abs().max() < 1e-4
    assert (targets[:, CLASSES] - value[..., CLASSES].sigmoid().mean(0)).abs().max() < 1e-3
    prediction = teacher.predict(features)
    assert (targets[:, -1] - prediction.uncertainty.flatten()[position]).abs().max() < 1e-4


def test_half_of_the_pixels_are_where_the_ensemble_is_uncertain() -> None:
    uncertainty = torch.zeros(1000)
    uncertainty[:50] = 1.0
    chosen = _choose(uncertainty, 400, torch.Generator().manual_seed(0))
    assert chosen.shape == (400,)
    assert 180 <= int((chosen[200:] < 50).sum()) <= 200
    assert int((chosen[:200] < 50).sum()) < 30


def test_it_agrees_with_its_teacher_on_unseen_samples(teacher: StyleInterpreter, head: DistilledHead) -> None:
    found = agreement(head, teacher, maps(40, 99))
    assert found.miou > 0.85
    assert found.pixel_rank > 0.45
    assert found.image_rank > 0.15
    untrained = distil(teacher, [maps(12, 10)], Distillation(images=12, steps=1))
    assert agreement(untrained, teacher, maps(40, 99)).miou < found.miou - 0.2


def test_a_prediction_has_the_shapes_and_ranges_of_an_ensemble(teacher: StyleInterpreter, head: DistilledHead) -> None:
    ours, theirs = (one.predict(maps(3, 5), probabilities=True) for one in (head, teacher))
    for name in ("label", "uncertainty", "score", "probabilities", "keypoints"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape, name
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype, name
    assert ours.keypoint_spread is None
    assert float(ours.uncertainty.min()) >= 0
    assert float(ours.uncertainty.max()) <= np.log(CLASSES)
    assert (ours.probabilities.sum(1) - 1).abs().max() < 1e-5
    assert torch.equal(ours.label.long(), ours.probabilities.argmax(1))


def test_steps_are_counted(teacher: StyleInterpreter) -> None:
    steps: list[int] = []
    distil(teacher, [maps(8, 1)], Distillation(images=8, steps=7), steps.append)
    assert sum(steps) == 15


def test_save_load_and_the_same_bytes(tmp_path: Path, teacher: StyleInterpreter, head: DistilledHead) -> None:
    head.save(tmp_path / "a")
    again = distil(teacher, (maps(4, seed) for seed in (10, 11, 12)), QUICK)
    again.save(tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = DistilledHead.load(tmp_path / "a")
    assert loaded.config == head.config
    assert isinstance(loaded.config, InterpreterConfig)
    assert torch.equal(loaded.predict(maps(2, 3)).uncertainty, head.predict(maps(2, 3)).uncertainty)


def test_an_ensemble_is_no_distilled_head(tmp_path: Path, teacher: StyleInterpreter) -> None:
    teacher.save(tmp_path / "ensemble")
    with pytest.raises(InputError, match="is an ensemble, not a distilled head"):
        DistilledHead.load(tmp_path / "ensemble")
    (tmp_path / "torn").write_bytes((tmp_path / "ensemble").read_bytes()[:50])
    with pytest.raises(InputError, match="cannot read the interpreter"):
        DistilledHead.load(tmp_path / "torn")
