import json

import pytest
import torch

from ganfoundry.detect.mask_rcnn import load_detector
from pipeline.artifacts import Detector, Writer
from pipeline.stage import Context
from stages import train_detector
from stages.train_detector import Config, run

CONFIG = Config(scenes=6, steps=3, batch_size=2, test_scenes=4, precision="fp32")


@pytest.fixture(scope="module", autouse=True)
def _small():
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train_detector, "SCENES_PER_SHARD", 3)
        patch.setattr(train_detector, "LOG_STEPS", 1)
        yield


@pytest.fixture(scope="module")
def whole(_small, tmp_path_factory):
    """A run that nothing disturbed."""
    out = Writer[Detector](tmp_path_factory.mktemp("whole"))
    run(CONFIG, out, Context())
    return out


class Counter:
    """An executor that counts its tasks and may die on one."""

    def __init__(self, dies_at=99):
        self.done, self.dies_at = [], dies_at

    def map(self, function, tasks, label):
        for position, task in enumerate(tasks):
            if task.index == self.dies_at:
                raise KeyboardInterrupt
            self.done.append(task.index)
            yield position, function(task)

    def close(self):
        pass


def test_interrupted_run_continues_and_ends_alike(whole, tmp_path):
    parts = Writer[Detector](tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        run(CONFIG, parts, Context(executor=Counter(dies_at=1)))
    second = Counter()
    run(CONFIG, parts, Context(executor=second))
    assert second.done == [1]  # the first shard of scenes was kept
    one, two = load_detector(whole.path), load_detector(parts.path)
    assert one.sha256 == two.sha256


def test_what_is_left(whole):
    folder = whole.path
    assert sorted(path.name for path in folder.iterdir()) == ["card.json", "detector.safetensors"]
    card = json.loads((folder / "card.json").read_text())
    assert card["sha256"] == load_detector(folder).sha256
    assert load_detector(folder).config.classes == ("background", "car")
    assert card["steps"] == 3
    assert card["figures"]["scenes"] == 4
    assert {"mask_ap", "ms_per_image"} <= card["figures"].keys()
    assert whole.figures["mask_ap"] == card["figures"]["mask_ap"]
    assert "--scenes 6" in card["command"]
    assert Detector.open(folder).path == folder
