import pytest
import torch

from ganfoundry.data.seeds import WORLD
from ganfoundry.detect.backends import TorchvisionDetector
from ganfoundry.detect.evaluation import evaluate_detector
from ganfoundry.detect.filtering import FilterRule
from ganfoundry.detect.mask_rcnn import DetectorConfig
from ganfoundry.detect.scenes import Scenes, render_scenes
from ganfoundry.detect.training import DetectorTrainer, DetectorTraining, train_detector
from ganfoundry.errors import InputError, RunError

TINY = DetectorConfig(
    stem_channels=4, channels=(4, 8, 8), blocks=(1, 1, 1), pyramid_channels=8, side=64, box_features=8
)
RECIPE = DetectorTraining(steps=5, batch_size=2, architecture=TINY, precision="fp32")


def same_state(a, b):
    one, two = a.net.state_dict(), b.net.state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)


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
