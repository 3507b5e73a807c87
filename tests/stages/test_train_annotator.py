import json

import numpy as np
import pytest

from ganfoundry.errors import InputError
from ganfoundry.worlds.annotator import Annotator
from pipeline.artifacts import Writer
from pipeline.stage import Context
from pipeline.tracking import Tracker
from stages.train_annotator import Config, run

SMALL = {"num_samples": 24, "num_unseen": 8, "steps": 4, "batch_size": 4, "resolution": 32}


def test_trains_measures_and_cleans_up(tmp_path):
    out = Writer(tmp_path / "out", "key")
    run(Config(**SMALL), out, Context(tracker=Tracker(tmp_path / "track")))
    assert sorted(path.name for path in out.path.iterdir()) == ["annotator.safetensors", "card.json"]
    annotator = Annotator.load(out.path)
    assert annotator.config.resolution == 32
    assert annotator.card["figures"] == out.figures
    assert annotator.card["recipe"]["steps"] == 4
    assert 0 <= out.figures["miou_fine"] <= 1
    line = json.loads((tmp_path / "track" / "log.jsonl").read_text().splitlines()[-1])
    assert line["step"] == 4
    assert np.isfinite(line["total"])
    assert annotator.annotate(np.zeros((1, 32, 32, 3), np.uint8)).parts.shape == (1, 32, 32)


def test_an_interrupted_rendering_continues_to_the_same_weights(tmp_path):
    class Killed(Exception):
        pass

    class Never:
        def map(self, function, tasks, label):
            raise Killed
            yield

        def close(self):
            pass

    run(Config(**SMALL), Writer(tmp_path / "whole", "key"), Context())
    with pytest.raises(Killed):
        run(Config(**SMALL), Writer(tmp_path / "part", "key"), Context(executor=Never()))
    run(Config(**SMALL), Writer(tmp_path / "part", "key"), Context())
    whole, part = (Annotator.load(tmp_path / name).card["sha256"] for name in ("whole", "part"))
    assert whole == part


def test_a_resolution_that_cannot_be_halved(tmp_path):
    with pytest.raises(InputError, match="multiple of 16"):
        run(Config(**(SMALL | {"resolution": 40})), Writer(tmp_path), Context())
