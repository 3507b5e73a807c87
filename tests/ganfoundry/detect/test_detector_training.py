import numpy as np
import pytest
import torch

from ganfoundry.data.seeds import EVALUATION, WORLD
from ganfoundry.detect.backends import TorchvisionDetector
from ganfoundry.detect.evaluation import evaluate_detector
from ganfoundry.detect.filtering import FilterRule
from ganfoundry.detect.mask_rcnn import DetectorConfig
from ganfoundry.detect.training import (
    DetectorTrainer,
    DetectorTraining,
    Scenes,
    augment,
    blur,
    draw_batch,
    render_scenes,
    targets_of,
    train_detector,
)
from ganfoundry.errors import InputError, RunError

TINY = DetectorConfig(
    stem_channels=4, channels=(4, 8, 8), blocks=(1, 1, 1), pyramid_channels=8, side=64, box_features=8
)
RECIPE = DetectorTraining(steps=5, batch_size=2, architecture=TINY, precision="fp32")


@pytest.fixture
def scenes(disc_world):
    return render_scenes(disc_world, 0, WORLD, 0, 8, 64)


def same_state(a, b):
    one, two = a.net.state_dict(), b.net.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_scene_i_does_not_depend_on_the_range(disc_world, scenes):
    again = render_scenes(disc_world, 0, WORLD, 3, 5, 64)
    assert np.array_equal(again.image, scenes.image[3:5])
    assert np.array_equal(again.instances, scenes.instances[3:5])
    assert not np.array_equal(render_scenes(disc_world, 0, EVALUATION, 0, 8, 64).image, scenes.image)


def test_targets_of_a_map():
    ids = torch.zeros(20, 30, dtype=torch.uint8)
    ids[2:6, 3:13] = 2
    ids[0, 0] = 1  # one pixel of 600 counts, if the least share is below 1 / 600
    targets = targets_of(ids, min_share=1 / 600)
    assert targets["boxes"].tolist() == [[0, 0, 1, 1], [3, 2, 13, 6]]
    assert targets["masks"].sum((1, 2)).tolist() == [1, 40]
    assert targets["labels"].tolist() == [1, 1]
    assert targets_of(ids, min_share=0.01)["boxes"].tolist() == [[3, 2, 13, 6]]
    assert targets_of(torch.zeros_like(ids))["boxes"].shape == (0, 4)


def test_augmentation_keeps_image_and_ids_together():
    # The object is the bright half: after any crop, flip and blur, brightness still tells the ids.
    image = np.full((64, 64, 3), 30, np.uint8)
    image[:, 40:] = 225
    ids = np.zeros((64, 64), np.uint8)
    ids[:, 40:] = 1
    for seed in range(40):
        x, labels = augment(image, ids, np.random.default_rng(seed), 48)
        assert x.shape == (3, 48, 48)
        assert labels.shape == (48, 48)
        assert 0 <= x.min() <= x.max() <= 1
        inside, grey = labels == 1, x.mean(0)
        if inside.any() and not inside.all():
            middle = (grey[inside].mean() + grey[~inside].mean()) / 2
            assert ((grey > middle) == inside).float().mean() > 0.95, seed


def test_blur_keeps_constants_and_the_sum():
    assert torch.allclose(blur(torch.full((3, 9, 9), 0.3), 1.1), torch.tensor(0.3))
    impulse = torch.zeros(3, 15, 15)
    impulse[:, 7, 7] = 1
    spread = blur(impulse, 1.0)
    assert torch.allclose(spread.sum((1, 2)), torch.ones(3))
    assert spread[0, 7, 7].item() == pytest.approx(1 / (2 * np.pi), rel=0.02)


def test_batches_are_functions_of_seed_and_step(scenes):
    (a, ta), (b, tb) = (draw_batch(scenes, 3, 7, 2, 64) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert all(torch.equal(x["masks"], y["masks"]) for x, y in zip(ta, tb, strict=True))
    assert not torch.equal(draw_batch(scenes, 3, 8, 2, 64)[0][0], a[0])


def test_interrupted_training_ends_alike(scenes, tmp_path):
    whole = train_detector(RECIPE, scenes, tmp_path / "whole")

    def stop(step, losses):
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_detector(RECIPE, scenes, tmp_path / "parts", on_step=stop, checkpoint_seconds=0.0)
    torch.rand(3)  # the global random state is nobody's business
    seen = []
    parts = train_detector(RECIPE, scenes, tmp_path / "parts", on_step=lambda step, losses: seen.append(step))
    assert seen == [3, 4, 5]  # the checkpoint of step 2 was the last one written
    assert parts.step == 5
    same_state(whole, parts)
    same_state(whole, train_detector(RECIPE, scenes, tmp_path / "whole"))


def test_checkpoints_of_other_runs_and_damaged_ones_are_refused(scenes, tmp_path):
    path = tmp_path / "checkpoint"
    DetectorTrainer(RECIPE).save_checkpoint(path)
    other = DetectorTraining(steps=6, batch_size=2, architecture=TINY, precision="fp32")
    with pytest.raises(InputError, match="another recipe"):
        train_detector(other, scenes, path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="damaged"):
        train_detector(RECIPE, scenes, path)
    assert list(tmp_path.glob(".*")) == []


def test_learning_rate_and_time_budget():
    trainer = DetectorTrainer(DetectorTraining(steps=1000, minutes=2.0, architecture=TINY))
    assert trainer.learning_rate() == pytest.approx(1e-5)
    trainer.step = 500
    assert trainer.learning_rate() == pytest.approx(5e-4)
    trainer.seconds = 90.0
    assert trainer.progress() == 0.75
    trainer.seconds = 200.0
    assert trainer.progress() == 1.0
    assert trainer.learning_rate() == 0.0


def test_no_scenes_and_a_loss_that_explodes(scenes, tmp_path):
    with pytest.raises(InputError, match="no scenes"):
        train_detector(RECIPE, Scenes(scenes.image[:0], scenes.instances[:0]), tmp_path / "c")
    trainer = DetectorTrainer(RECIPE)
    with torch.no_grad():
        trainer.net.roi_heads.box_predictor.cls_score.bias.fill_(torch.nan)
    with pytest.raises(RunError, match="not finite at step 0"):
        trainer.train_step(scenes)


@pytest.mark.slow
def test_learns_discs_in_150_steps(disc_world, tmp_path):
    scenes = render_scenes(disc_world, 0, WORLD, 0, 300, 128)
    trainer = train_detector(DetectorTraining(steps=150), scenes, tmp_path / "checkpoint")
    figures = evaluate_detector(TorchvisionDetector(trainer.net), disc_world, FilterRule(), 60)
    assert figures["mask_ap50"] > 0.75
    assert figures["filter_precision"] > 0.8
    assert figures["filter_recall"] > 0.8
