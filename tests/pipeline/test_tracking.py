import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.tracking import Tracker


def test_lines_and_pictures(tmp_path: Path) -> None:
    tracker = Tracker(tmp_path / "track")
    picture = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    tracker.log(1, {"loss": np.float32(0.5), "bad": float("inf")})
    tracker.log(2, {"loss": 0.25}, {"samples": picture})
    lines = [json.loads(line) for line in (tmp_path / "track/log.jsonl").read_text("utf-8").splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [(1, 0.5), (2, 0.25)]
    assert lines[0]["bad"] == "inf"
    assert lines[1]["samples"] == "00000002-samples.png"
    with Image.open(tmp_path / "track" / "00000002-samples.png") as image:
        assert np.array_equal(np.asarray(image), picture)


def test_a_torn_last_line_is_cut_off_when_training_goes_on(tmp_path: Path) -> None:
    Tracker(tmp_path).log(1, {"loss": 1.0})
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 2, "lo')
    Tracker(tmp_path).log(2, {"loss": 0.5})
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    assert steps == [1, 2]


def test_without_a_folder_nothing_happens() -> None:
    Tracker().log(1, {"loss": 1.0})
