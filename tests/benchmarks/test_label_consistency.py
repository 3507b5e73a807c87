"""benchmarks.label_consistency on toys: which labels agree, and what the last line says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import label_consistency
from benchmarks._inverse_data import LEVEL, SCHEMA
from benchmarks._inverse_views import Sources
from ganfoundry import weights
from ganfoundry.errors import InputError
from ganfoundry.metrics import class_iou
from ganfoundry.shape.inverse_model import InverseModel
from ganfoundry.shape.label_consistency import mean_part_iou
from ganfoundry.shape.multiview import MultiView
from ganfoundry.worlds.annotator import Annotator
from tests.ganfoundry.shape.labelledtoys import untrained
from tests.ganfoundry.shape.toys import PARTS, toy_views

NAMES = SCHEMA.names(LEVEL)


@pytest.fixture(scope="module")
def data() -> MultiView:
    return toy_views(objects=3, bins=tuple(range(0, 12, 2)))


def toy_model(folder: Path, classes: tuple[str, ...], **table: object) -> InverseModel:
    cameras = [[60.0 * code, 5.0, 0.0, 0.0, 0.0] for code in range(6)]
    return untrained(folder, classes=list(classes), cameras=cameras, codes=6, **table)


def test_drawn_labels_agree_and_scrambled_ones_do_not(tmp_path: Path, data: MultiView) -> None:
    model = toy_model(tmp_path, PARTS)
    found = label_consistency.generated(model, data, 2, 5, 0)
    assert found["3D"].shape == (3, 3)
    assert found["2D"][0].sum() == found["2D"][:, 0].sum() == 0
    assert found["2D strict"].sum() >= found["3D"].sum()
    scrambled = data.parts.copy()
    rng = np.random.default_rng(0)
    scrambled[scrambled > 0] = rng.integers(1, 3, (scrambled > 0).sum())
    noise = MultiView(data.images, data.masks, data.objects, data.codes, data.azimuths, scrambled, part_names=PARTS)
    worse = label_consistency.generated(model, noise, 2, 5, 0)
    assert mean_part_iou(worse["2D"]) < 0.45 < mean_part_iou(found["2D"])
    assert np.array_equal(worse["3D"], found["3D"])


def test_exact_labels_agree_through_exact_meshes_best(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    model = toy_model(tmp_path, NAMES, size=64, keypoints=[])
    annotator = Annotator.load(weights.path("cars-annotator"))
    found = label_consistency.rendered(model, annotator, 2, 4, 0)
    exact = mean_part_iou(found["exact"])
    assert exact > 0.6
    assert exact > mean_part_iou(found["annotator"]) > 0.4
    assert exact > mean_part_iou(found["exact/mesh"])  # an ellipsoid is no car
    assert found["own"].sum() == 2 * 64 * 64
    assert found["other"].sum() == 2 * 3 * 64 * 64
    assert class_iou(found["own"])[0] > 0.5  # but it stands in the right place


def test_the_last_line_is_json(
    tmp_path: Path, data: MultiView, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = np.minimum(data.parts, 2).astype(np.uint8)
    twelve = MultiView(data.images, data.masks, data.objects, data.codes, data.azimuths, parts, part_names=NAMES)
    toy_model(tmp_path, NAMES)
    monkeypatch.setattr(label_consistency, "held_out_views", lambda *_: twelve)
    monkeypatch.setattr(Sources, "find", classmethod(lambda cls, runs: None))
    label_consistency.main(["--model", str(tmp_path), "--objects", "2", "--views", "3", "--renders", "1"])
    lines = capsys.readouterr().out.strip().splitlines()
    figures = json.loads(lines[-1])
    assert {"consistency_3d", "consistency_2d", "pixels_carried", "objects"} <= figures.keys()
    assert (figures["objects"], figures["renders"]) == (2, 1)
    assert len(lines) == 11  # a head, nine kinds of labels, JSON


def test_a_folder_that_does_not_say_what_was_held_out_is_refused(
    tmp_path: Path, data: MultiView, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_consistency, "load_multiview", lambda *_, size: data)
    monkeypatch.setattr(Sources, "codes", lambda self: None)
    sources = Sources(tmp_path, tmp_path, tmp_path)
    with pytest.raises(InputError, match="does not say which objects were held out"):
        label_consistency.held_out_views(tmp_path, sources)
    (tmp_path / "run.json").write_text(json.dumps({"config": {"held_out": 0.34, "seed": 0}}))
    apart = label_consistency.held_out_views(tmp_path, sources)
    assert len(np.unique(apart.objects)) == 1
